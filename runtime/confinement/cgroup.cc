#include "runtime/confinement/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/text_file.h"

namespace dunebox::confinement {
namespace {

constexpr char kPrefix[] = "dunebox-";  // and the process that made it
constexpr mode_t kMode = 0755;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::Status Write(int directory, const char* file, const std::string& text) {
  const runtime::FileDescriptor fd(openat(directory, file, O_WRONLY | O_CLOEXEC));
  if (fd.valid() && write(fd.get(), text.data(), text.size()) >= 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", file));
}

std::string Read(const std::string& path) { return runtime::ReadTextFile(path).value_or(""); }

bool HasWord(const std::string& text, absl::string_view word) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(absl::StripAsciiWhitespace(text), ' ');
  return std::find(words.begin(), words.end(), word) != words.end();
}

absl::Status CheckControllers(const std::string& parent, const CgroupLimits& limits) {
  const std::string controllers = Read(parent + "/cgroup.subtree_control");
  const auto missing = [](const char* name) {
    return absl::UnavailableError(absl::StrCat("the controller ", name, " is not delegated"));
  };
  if (limits.memory && !HasWord(controllers, "memory")) return missing("memory");
  if (limits.tasks && !HasWord(controllers, "pids")) return missing("pids");
  return absl::OkStatus();
}

}  // namespace

void RemoveStaleCgroups(const std::string& parent) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(parent.c_str()), closedir);
  if (directory == nullptr) return;
  while (const dirent* entry = readdir(directory.get())) {
    absl::string_view name(entry->d_name);
    pid_t maker = 0;
    if (!absl::ConsumePrefix(&name, kPrefix) || !absl::SimpleAtoi(name, &maker)) continue;
    const bool is_dead = kill(maker, 0) != 0 && errno == ESRCH;
    if (is_dead || maker == getpid()) unlinkat(dirfd(directory.get()), entry->d_name, AT_REMOVEDIR);
  }
}

std::vector<std::string> CgroupPlaces(std::string_view groups, std::string_view mounts) {
  std::optional<std::string> own;
  for (absl::string_view line : absl::StrSplit(View(groups), '\n')) {
    if (absl::ConsumePrefix(&line, "0::")) own = std::string(line);
  }
  std::vector<std::string> places;
  if (!own || absl::StrContains(*own, "..")) return places;
  for (const absl::string_view line : absl::StrSplit(View(mounts), '\n')) {
    // [proc(5)] ID parent device root point options [tags] - type source options
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    if (words.size() < 5 || !absl::StrContains(line, " - cgroup2 ")) continue;
    absl::string_view below(*own);
    if (words[3] != "/" && !absl::ConsumePrefix(&below, words[3])) continue;
    const std::string top(words[4]);
    std::string place(absl::StripSuffix(absl::StrCat(top, std::string(below)), "/"));
    for (; place.size() > top.size(); place.resize(place.rfind('/'))) places.push_back(place);
    places.push_back(top);
    break;
  }
  return places;
}

std::optional<std::uint64_t> ValueIn(std::string_view text, std::string_view key) {
  for (absl::string_view line : absl::StrSplit(View(text), '\n')) {
    std::uint64_t value = 0;
    if (absl::ConsumePrefix(&line, View(key)) && absl::ConsumePrefix(&line, " ") &&
        absl::SimpleAtoi(line, &value)) {
      return value;
    }
  }
  return std::nullopt;
}

absl::StatusOr<Cgroup> Cgroup::Create(const CgroupLimits& limits) {
  absl::Status nearest = absl::UnavailableError("no cgroup v2 hierarchy is mounted");
  bool is_first = true;
  for (const std::string& place :
       CgroupPlaces(Read("/proc/self/cgroup"), Read("/proc/self/mountinfo"))) {
    absl::StatusOr<Cgroup> group = CreateIn(place, limits);
    if (group.ok()) return group;
    if (std::exchange(is_first, false)) nearest = group.status();
  }
  return nearest;
}

absl::StatusOr<Cgroup> Cgroup::CreateIn(const std::string& parent, const CgroupLimits& limits) {
  if (absl::Status status = CheckControllers(parent, limits); !status.ok()) return status;
  RemoveStaleCgroups(parent);
  const std::string path = absl::StrCat(parent, "/", kPrefix, getpid());
  if (mkdir(path.c_str(), kMode) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make a cgroup in ", parent));
  }
  runtime::FileDescriptor directory(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  Cgroup group(path, std::move(directory));
  absl::Status status = group.Limit(limits);
  if (status.ok()) status = group.CheckEntering();
  if (status.ok()) return group;
  group.Remove();
  return status;
}

absl::Status Cgroup::Limit(const CgroupLimits& limits) const {
  const int directory = directory_.get();
  if (limits.memory) {
    const std::string bytes = absl::StrCat(*limits.memory + kRuntimeMemory);
    if (absl::Status status = Write(directory, "memory.max", bytes); !status.ok()) return status;
    // All or none: half a tree is of no use to anybody. A kernel without swap has no such file.
    if (absl::Status status = Write(directory, "memory.oom.group", "1"); !status.ok()) {
      return status;
    }
    Write(directory, "memory.swap.max", "0").IgnoreError();
  }
  if (!limits.tasks) return absl::OkStatus();
  // Each task of the program's may have a helper of the runtime's for a moment.
  return Write(directory, "pids.max", absl::StrCat(2 * *limits.tasks));
}

// Moving a process also takes rights over the group that it leaves.
absl::Status Cgroup::CheckEntering() {
  const pid_t child = fork();
  if (child < 0) return absl::ErrnoToStatus(errno, "cannot fork");
  if (child == 0) _exit(Enter().ok() ? 0 : 1);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status == 0) return absl::OkStatus();
  return absl::PermissionDeniedError("no process may be moved into a cgroup");
}

absl::Status Cgroup::Enter() {
  const runtime::FileDescriptor directory = std::move(directory_);
  return Write(directory.get(), "cgroup.procs", "0");
}

std::chrono::milliseconds Cgroup::CpuTime() const {
  const std::uint64_t microseconds = ValueIn(Read(path_ + "/cpu.stat"), "usage_usec").value_or(0);
  return std::chrono::milliseconds(microseconds / 1000);
}

bool Cgroup::RanOutOfMemory() const {
  return ValueIn(Read(path_ + "/memory.events"), "oom_kill").value_or(0) > 0;
}

void Cgroup::Remove() const {
  Write(directory_.get(), "cgroup.kill", "1").IgnoreError();  // Linux 5.14
  rmdir(path_.c_str());
}

}  // namespace dunebox::confinement
