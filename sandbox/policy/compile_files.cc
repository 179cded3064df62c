#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "hostcalls/errors/message.h"
#include "runtime/text_file.h"
#include "sandbox/policy/compile_parts.h"

namespace dunebox::policy {
namespace {

using confinement::IsIn;
using confinement::Mount;
using confinement::MountKind;
using hostcalls::policy::FileRights;
using hostcalls::policy::kCreateFile;
using hostcalls::policy::kExecuteFile;
using hostcalls::policy::kReadFile;
using hostcalls::policy::kReadOnly;
using hostcalls::policy::kWriteFile;
using hostcalls::policy::PathRule;
using hostcalls::policy::Rules;
using runtime::DirectoryFor;

constexpr FileRights kReadAndWrite = kReadFile | kWriteFile;
constexpr FileRights kDirectoryRights = kReadFile | kWriteFile | kCreateFile;

constexpr std::string_view kSharedMemory = "/dev/shm";
constexpr std::string_view kTerminalMaker = "/dev/ptmx";
constexpr std::string_view kTerminalMakerInPts = "/dev/pts/ptmx";  // where the other may lead to

struct DeviceRow {
  std::string_view path;
  FileRights rights;
};

// What every program may use of /dev, and of /proc what the runtime lets through. Nothing says that
// /dev may be read as a whole: without a view of its own that would be the host's.
constexpr std::array<DeviceRow, 10> kDeviceRows = {{
    {"/dev/full", kReadAndWrite},
    {"/dev/null", kReadAndWrite},
    {kTerminalMaker, kReadAndWrite},
    {"/dev/pts", kReadAndWrite},
    {"/dev/random", kReadAndWrite},
    {kSharedMemory, kDirectoryRights},
    {"/dev/tty", kReadAndWrite},
    {"/dev/urandom", kReadAndWrite},
    {"/dev/zero", kReadAndWrite},
    {"/proc", kReadFile},
}};

std::string Normal(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
  }
  std::string normal;
  for (const std::string_view part : parts) absl::StrAppend(&normal, "/", std::string(part));
  return normal.empty() ? "/" : normal;
}

// Every link followed; empty, with errno, when there is no such file.
std::string Resolved(const std::string& path) {
  std::array<char, PATH_MAX> buffer;
  return realpath(path.c_str(), buffer.data()) == nullptr ? "" : buffer.data();
}

// The text of the link at `path` when it is one and no other leads there; else `resolved`.
std::string LinkText(const std::string& path, const std::string& resolved) {
  const std::string directory = DirectoryFor(path);
  std::array<char, PATH_MAX> buffer;
  const ssize_t length = readlink(path.c_str(), buffer.data(), buffer.size());
  if (length <= 0 || Resolved(directory) != directory) return resolved;
  const std::string text(buffer.data(), static_cast<std::size_t>(length));
  const std::string leads_to = text.front() == '/' ? text : absl::StrCat(directory, "/", text);
  return Normal(leads_to) == resolved ? text : resolved;
}

// Collects mounts and rules; of two for one target the later stays.
class Trees {
 public:
  Trees(Rules& rules, confinement::Plan& plan) : rules_(rules), plan_(plan) {}

  void Add(Mount mount, FileRights rights, const OriginText& origin) {
    AddRule(mount.target, rights, origin);
    mount.writable = (rights & (kWriteFile | kCreateFile)) != 0;
    mount.executable = (rights & kExecuteFile) != 0;
    AddMount(std::move(mount));
  }

  void AddRule(const std::string& path, FileRights rights, const OriginText& origin) {
    std::erase_if(rules_.paths, [&](const auto& rule) { return rule.path == path; });
    rules_.paths.push_back({path, rights, OriginOf(rules_, origin)});
  }

  void AddMount(Mount mount) {
    std::erase_if(plan_.mounts, [&](const Mount& other) { return other.target == mount.target; });
    plan_.mounts.push_back(std::move(mount));
  }

  // Is the caller's file `path` there under its own name, to be executed?
  bool ShowsProgram(const std::string& path) const {
    const PathRule* rule = nullptr;
    const Mount* mount = nullptr;
    for (const PathRule& other : rules_.paths) {
      if (!IsIn(path, other.path)) continue;
      if (rule == nullptr || other.path.size() > rule->path.size()) rule = &other;
    }
    for (const Mount& other : plan_.mounts) {
      if (!IsIn(path, other.target)) continue;
      if (mount == nullptr || other.target.size() > mount->target.size()) mount = &other;
    }
    return rule != nullptr && (rule->rights & kExecuteFile) != 0 && mount != nullptr &&
           IsInPlace(*mount);
  }

  // A name that is hidden and that leads elsewhere on the host.
  void NoteHidden(std::string path) { hidden_names_.push_back(std::move(path)); }

  // In a tree of the caller's that is shown at another place, where a name leads on the host says nothing.
  void HideInView() {
    for (const std::string& path : hidden_names_) {
      const Mount* const shown = TreeAround(path);
      if (shown == nullptr || shown->kind != MountKind::kBind || IsInPlace(*shown)) continue;
      if (MountAt(path) == nullptr) AddMount({.kind = MountKind::kHidden, .target = path});
    }
  }

  // What no tree of the caller's shows cannot be missed; in one, a name without a file is a mistake
  // that would show what was to be hidden.
  absl::Status CheckHidden() const {
    for (const Mount& mount : plan_.mounts) {
      if (mount.kind != MountKind::kHidden) continue;
      const Mount* const shown = TreeAround(mount.target);
      if (shown == nullptr || shown->kind != MountKind::kBind) continue;
      const std::string rest = mount.target.substr(shown->target == "/" ? 0 : shown->target.size());
      const std::string path = absl::StrCat(shown->source == "/" ? "" : shown->source, rest);
      if (!Resolved(path).empty() || errno == EACCES) continue;
      const std::string error = absl::StrCat(path, ": ", strerror(errno));
      return At(OriginOfRuleAt(mount.target), errors::Named(errors::Id::kRuleWithoutObject, absl::NotFoundError(error)));
    }
    return absl::OkStatus();
  }

  // The view's own directories hold nothing but what leads to its trees: they can be listed.
  void ListWays() {
    std::vector<std::string> ways;
    for (const Mount& mount : plan_.mounts) {
      if (mount.kind == MountKind::kDevices) ways.push_back(mount.target);
      for (std::string way = mount.target; way != "/";) {
        way = DirectoryFor(way);
        ways.push_back(way);
      }
    }
    std::ranges::sort(ways);
    ways.erase(std::unique(ways.begin(), ways.end()), ways.end());
    std::erase_if(ways, [&](const std::string& way) { return HasRule(way); });
    for (std::string& way : ways) {
      rules_.paths.push_back({.path = std::move(way), .rights = kReadFile, .itself_alone = true});
    }
  }

  void DropWhatIsThere() {
    DropRepetitions();
    // A link in a tree that is there anyway is there, too.
    std::vector<std::string> trees;
    for (const Mount& mount : plan_.mounts) {
      if (mount.kind == MountKind::kBind) trees.push_back(mount.target);
    }
    std::erase_if(plan_.mounts, [&](const Mount& mount) {
      return mount.kind == MountKind::kSymlink &&
             std::ranges::any_of(trees,
                                 [&](const std::string& tree) { return IsIn(mount.target, tree); });
    });
  }

  void Sort() {
    // What leads to a mount comes before it: "/a" < "/a/b", and "/a-b" wherever it may be.
    std::ranges::stable_sort(plan_.mounts, {}, &Mount::target);
    std::ranges::sort(rules_.paths, {}, &PathRule::path);
  }

 private:
  // A tree of the caller's at its own place.
  static bool IsInPlace(const Mount& mount) {
    return mount.kind == MountKind::kBind && mount.source == mount.target;
  }

  const Mount* MountAt(const std::string& target) const {
    const auto mount = std::ranges::find(plan_.mounts, target, &Mount::target);
    return mount == plan_.mounts.end() ? nullptr : &*mount;
  }

  // Where `path` is, of all that is mounted around it.
  const Mount* TreeAround(const std::string& path) const {
    const Mount* innermost = nullptr;
    for (const Mount& mount : plan_.mounts) {
      if (mount.target == path || !IsIn(path, mount.target)) continue;
      if (innermost == nullptr || mount.target.size() > innermost->target.size())
        innermost = &mount;
    }
    return innermost;
  }

  bool HasRule(const std::string& path) const {
    return RuleAround(path) != nullptr ||
           std::ranges::find(rules_.paths, path, &PathRule::path) != rules_.paths.end();
  }

  OriginText OriginOfRuleAt(const std::string& path) const {
    const auto rule = std::ranges::find(rules_.paths, path, &PathRule::path);
    return std::string(rules_.OriginText(rule == rules_.paths.end() ? 0 : rule->origin));
  }

  // Of the trees with `path` in them, itself excepted, the innermost.
  const PathRule* RuleAround(const std::string& path) const {
    const PathRule* innermost = nullptr;
    for (const PathRule& rule : rules_.paths) {
      if (rule.path == path || !IsIn(path, rule.path)) continue;
      if (innermost == nullptr || rule.path.size() > innermost->path.size()) innermost = &rule;
    }
    return innermost;
  }

  // Says nothing new: it is in a tree at its own place with the same rights.
  bool IsRepetition(const PathRule& rule) const {
    const Mount* const mount = MountAt(rule.path);
    const PathRule* const around = RuleAround(rule.path);
    if (mount == nullptr || around == nullptr || around->rights != rule.rights) return false;
    const Mount* const outer = MountAt(around->path);
    return outer != nullptr && IsInPlace(*mount) && IsInPlace(*outer);
  }

  // Each mount costs time at every start.
  void DropRepetitions() {
    std::vector<std::string> repetitions;
    for (const PathRule& rule : rules_.paths) {
      if (IsRepetition(rule)) repetitions.push_back(rule.path);
    }
    const auto is_dropped = [&](const std::string& path) {
      return std::ranges::find(repetitions, path) != repetitions.end();
    };
    std::erase_if(rules_.paths, [&](const PathRule& rule) { return is_dropped(rule.path); });
    std::erase_if(plan_.mounts, [&](const Mount& mount) { return is_dropped(mount.target); });
  }

  Rules& rules_;
  confinement::Plan& plan_;
  std::vector<std::string> hidden_names_;
};

absl::Status AddCallersTree(const FileRule& rule, const Surroundings& surroundings, Trees& trees) {
  const std::string path = AbsolutePath(rule.source, surroundings);
  const std::string resolved = Resolved(path);
  if (resolved.empty()) {
    const int error = errno;
    if (rule.may_be_absent && (error == ENOENT || error == ENOTDIR || error == EACCES)) {
      return absl::OkStatus();
    }
    return At(rule.origin,
              errors::Named(errors::Id::kRuleWithoutObject,
                            absl::NotFoundError(absl::StrCat(path, ": ", strerror(error)))));
  }
  const std::string target = rule.target.empty() ? resolved : Normal(rule.target);
  // The view has its own: the host's would make terminals that are not in it.
  if (target == kTerminalMaker || target == kTerminalMakerInPts) {
    trees.AddRule(target, rule.rights, rule.origin);
    return absl::OkStatus();
  }
  trees.Add({.source = resolved, .target = target}, rule.rights, rule.origin);
  if (!rule.target.empty() || path == resolved) return absl::OkStatus();
  // The name by which it was asked for leads to it, too.
  trees.AddRule(path, kReadFile, rule.origin);
  trees.AddMount({.kind = MountKind::kSymlink, .source = LinkText(path, resolved), .target = path});
  return absl::OkStatus();
}

// By its name in the view, which for the caller's own places is the same; and by what that name
// leads to, as rules are about objects. See Trees::HideInView for other places.
void AddHidden(const FileRule& rule, const Surroundings& surroundings, Trees& trees) {
  const std::string path = AbsolutePath(rule.source, surroundings);
  const std::string resolved = Resolved(path);
  trees.AddRule(path, hostcalls::policy::kNoRights, rule.origin);
  if (!resolved.empty()) trees.AddRule(resolved, hostcalls::policy::kNoRights, rule.origin);
  trees.AddMount({.kind = MountKind::kHidden, .target = resolved.empty() ? path : resolved});
  if (!resolved.empty() && resolved != path) trees.NoteHidden(path);
}

// Directories that hold much else than a program.
bool IsShared(const std::string& directory, const Surroundings& surroundings) {
  constexpr std::string_view kShared[] = {"/", "/dev/shm", "/home", "/root", "/tmp", "/var/tmp"};
  const std::string home = ValueOf(surroundings, "HOME");
  return std::ranges::find(kShared, directory) != std::end(kShared) ||
         (!home.empty() && IsIn(Normal(home), directory));
}

// The program's own file, and its directory unless that is one for everything.
absl::Status AddProgram(const std::string& program, const Surroundings& surroundings,
                        Trees& trees) {
  const std::string path = AbsolutePath(program, surroundings);
  for (const std::string& name : {path, Resolved(path)}) {
    if (name.empty() || trees.ShowsProgram(name)) continue;
    const std::string directory = DirectoryFor(name);
    const std::string tree = IsShared(directory, surroundings) ? name : directory;
    const FileRule rule{
        .source = tree, .rights = kReadOnly, .may_be_absent = true, .origin = "the program's own"};
    if (absl::Status status = AddCallersTree(rule, surroundings, trees); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string ValueOf(const Surroundings& surroundings, std::string_view name) {
  for (const std::string& entry : surroundings.environment) {
    const std::size_t equals = entry.find('=');
    if (entry.substr(0, equals) == name && equals != std::string::npos) {
      return entry.substr(equals + 1);
    }
  }
  return {};
}

std::string AbsolutePath(const std::string& path, const Surroundings& surroundings) {
  if (path.front() == '/') return Normal(path);
  if (path == "~" || absl::StartsWith(path, "~/")) {
    return Normal(absl::StrCat(ValueOf(surroundings, "HOME"), "/", path.substr(1)));
  }
  return Normal(absl::StrCat(surroundings.directory, "/", path));
}

absl::Status CompileFiles(const Policy& policy, const Surroundings& surroundings,
                          const std::string& program, Rules& rules, confinement::Plan& plan) {
  Trees trees(rules, plan);
  // What is in a tmpfs is in memory; the kernel's own limit is half of all there is, for each.
  const std::uint64_t tmpfs_size = policy.limits.memory ? policy.limits.memory->value : 0;
  trees.AddMount({.kind = MountKind::kProc, .target = "/proc"});
  trees.AddMount({.kind = MountKind::kDevices, .target = "/dev", .size = tmpfs_size});
  for (const DeviceRow& row : kDeviceRows) {
    if (row.path == kSharedMemory && !surroundings.mount_namespace) continue;  // all users' own
    trees.AddRule(std::string(row.path), row.rights, "default");
  }
  for (const FileRule& rule : policy.files) {
    if (rule.kind == TreeKind::kTmpfs) {
      if (rule.may_be_absent && !surroundings.mount_namespace) continue;
      const std::uint64_t size = rule.size != 0 ? rule.size : tmpfs_size;
      trees.Add({.kind = MountKind::kTmpfs, .target = Normal(rule.target), .size = size},
                rule.rights, rule.origin);
    } else if (rule.kind == TreeKind::kHidden) {
      AddHidden(rule, surroundings, trees);
    } else if (absl::Status status = AddCallersTree(rule, surroundings, trees); !status.ok()) {
      return status;
    }
  }
  if (!program.empty()) {
    if (absl::Status status = AddProgram(program, surroundings, trees); !status.ok()) return status;
  }
  trees.DropWhatIsThere();
  trees.HideInView();
  if (surroundings.mount_namespace) trees.ListWays();
  trees.Sort();
  return trees.CheckHidden();
}

}  // namespace dunebox::policy
