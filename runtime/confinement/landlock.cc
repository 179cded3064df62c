#include "runtime/confinement/landlock.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/file_descriptor.h"

namespace dunebox::confinement {
namespace {

using hostcalls::policy::FileRights;
using hostcalls::policy::kAllRights;
using hostcalls::policy::kCreateFile;
using hostcalls::policy::kExecuteFile;
using hostcalls::policy::kNoRights;
using hostcalls::policy::kReadFile;
using hostcalls::policy::kWriteFile;
using hostcalls::policy::Reach;
using hostcalls::policy::Rules;
using runtime::FileDescriptor;

enum class Object : unsigned char { kAny, kDirectory };

struct RightRow {
  std::uint64_t bit;
  int version;
  FileRights given_by;
  Object object;
};
constexpr RightRow kRightRows[] = {
#define LANDLOCK_RIGHT(bit, name, version, given_by, object) \
  {std::uint64_t{1} << (bit), version, given_by, Object::object},
#include "runtime/confinement/landlock_rights.inc"
#undef LANDLOCK_RIGHT
};
constexpr std::uint64_t kExecuteBit = 1 << 0, kReadFileBit = 1 << 2, kReadDirectoryBit = 1 << 3;

// [linux] The header of Debian 12 ends at version 2.
struct RulesetAttributes {
  std::uint64_t files;
  std::uint64_t network;
  std::uint64_t scoped;
};
struct [[gnu::packed]] PathRuleAttributes {
  std::uint64_t allowed;
  std::int32_t parent_fd;
};
struct PortRuleAttributes {
  std::uint64_t allowed;
  std::uint64_t port;
};
static_assert(sizeof(PathRuleAttributes) == 12 && sizeof(PortRuleAttributes) == 16);
constexpr unsigned kAskVersion = 1;  // LANDLOCK_CREATE_RULESET_VERSION
constexpr int kPathRule = 1, kPortRule = 2;
constexpr std::uint64_t kBindTcp = 1 << 0, kConnectTcp = 1 << 1;
constexpr std::uint64_t kScopeAbstractSockets = 1 << 0, kScopeSignals = 1 << 1;
constexpr int kFirstWithNetwork = 4, kFirstWithScopes = 6;

std::size_t SizeOfAttributes(int version) {
  if (version < kFirstWithNetwork) return sizeof(RulesetAttributes::files);
  if (version < kFirstWithScopes) return offsetof(RulesetAttributes, scoped);
  return sizeof(RulesetAttributes);
}

bool IsPermissive(const Rules& rules) { return rules.allow_all || rules.audit; }

RulesetAttributes AttributesFor(int version, const LandlockNeeds& needs) {
  RulesetAttributes attributes{.files = HandledFileRights(version)};
  if (IsPermissive(needs.rules)) return attributes;
  if (version >= kFirstWithNetwork) {
    if (!needs.plan.any_bind_port) attributes.network |= kBindTcp;
    if (!needs.plan.any_connect_port) attributes.network |= kConnectTcp;
  }
  if (version >= kFirstWithScopes) {
    if (!needs.rules.signal_outside) attributes.scoped |= kScopeSignals;
    if (needs.rules.network.reach != Reach::kHost) attributes.scoped |= kScopeAbstractSockets;
  }
  return attributes;
}

absl::Status Failed(absl::string_view what) {
  return absl::ErrnoToStatus(errno, absl::StrCat("Landlock: ", what));
}

class Ruleset {
 public:
  static absl::StatusOr<Ruleset> Create(int version, const RulesetAttributes& attributes) {
    Ruleset ruleset(attributes.files);
    ruleset.fd_ = FileDescriptor(static_cast<int>(syscall(
        SYS_landlock_create_ruleset, &attributes, SizeOfAttributes(version), 0)));
    if (!ruleset.fd_.valid()) return Failed("cannot make a ruleset");
    return ruleset;
  }
  absl::Status AllowBelow(int fd, std::uint64_t rights) { return ToStatus(AddPath(fd, rights)); }
  // Pipes, sockets and memfds are no files of Landlock's, and need no rule.
  absl::Status AllowFile(int fd, std::uint64_t rights) {
    const int error = AddPath(fd, rights);
    return error == EBADFD ? absl::OkStatus() : ToStatus(error);
  }
  absl::Status AllowPort(std::uint64_t right, std::uint16_t port) {
    const PortRuleAttributes rule{.allowed = right, .port = port};
    return ToStatus(Add(kPortRule, &rule));
  }
  absl::Status Restrict() {
    return syscall(SYS_landlock_restrict_self, fd_.get(), 0) == 0
               ? absl::OkStatus()
               : Failed("cannot restrict this process");
  }

 private:
  explicit Ruleset(std::uint64_t handled) : handled_(handled) {}
  static absl::Status ToStatus(int error) {
    if (error == 0) return absl::OkStatus();
    return absl::ErrnoToStatus(error, "Landlock: cannot add a rule");
  }
  // 0 or an errno.
  int AddPath(int fd, std::uint64_t rights) {
    const PathRuleAttributes rule{.allowed = rights & handled_, .parent_fd = fd};
    return rule.allowed == 0 ? 0 : Add(kPathRule, &rule);
  }
  int Add(int kind, const void* rule) {
    return syscall(SYS_landlock_add_rule, fd_.get(), kind, rule, 0) == 0 ? 0 : errno;
  }

  FileDescriptor fd_;
  std::uint64_t handled_;
};

// What is not there, or cannot be reached, needs no rule.
absl::Status AllowPath(Ruleset& ruleset, const std::string& path, FileRights rights,
                       std::uint64_t kinds = ~std::uint64_t{0}) {
  const FileDescriptor object(open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat info;
  if (!object.valid() || fstat(object.get(), &info) != 0) return absl::OkStatus();
  return ruleset.AllowFile(object.get(), LandlockRights(rights, S_ISDIR(info.st_mode)) & kinds);
}

FileRights RightsOfDescriptor(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_PATH) != 0) return kNoRights;
  switch (flags & O_ACCMODE) {
    case O_RDONLY:
      return kReadFile;
    case O_WRONLY:
      return kWriteFile;
    default:
      return kReadFile | kWriteFile;
  }
}

// What the program was started with it may open again, by /dev/stdin or /proc/self/fd/N: wall 1 lets
// it. But not directories, where the right would be to all that is below.
absl::Status AllowInherited(Ruleset& ruleset, int first_reserved) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir("/proc/self/fd"), closedir);
  if (listing == nullptr) return Failed("cannot list the open files");
  while (const dirent* entry = readdir(listing.get())) {
    int fd = -1;
    struct stat info;
    if (!absl::SimpleAtoi(entry->d_name, &fd) || fd >= first_reserved || fd == dirfd(listing.get()) ||
        fstat(fd, &info) != 0 || S_ISDIR(info.st_mode)) {
      continue;
    }
    const std::uint64_t rights = LandlockRights(RightsOfDescriptor(fd), false);
    if (absl::Status status = ruleset.AllowFile(fd, rights); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status AllowFiles(Ruleset& ruleset, const LandlockNeeds& needs) {
  if (needs.runtime_fd >= 0) {
    absl::Status status = ruleset.AllowBelow(needs.runtime_fd, kExecuteBit | kReadFileBit);
    if (!status.ok()) return status;
  }
  // The runtime looks at its own processes; those outside the session, Landlock keeps it from.
  if (needs.looks_at_processes) {
    const FileRights rights = needs.names_threads ? kReadFile | kWriteFile : kReadFile;
    if (absl::Status status = AllowPath(ruleset, "/proc", rights); !status.ok()) return status;
  }
  for (const std::string& directory : needs.output_directories) {
    if (absl::Status status = AllowPath(ruleset, directory, kReadFile | kWriteFile | kCreateFile);
        !status.ok()) {
      return status;
    }
  }
  if (absl::Status status = AllowInherited(ruleset, needs.first_reserved); !status.ok()) {
    return status;
  }
  if (IsPermissive(needs.rules)) return AllowPath(ruleset, "/", kAllRights);
  for (const auto& rule : needs.rules.paths) {
    // Landlock has no rule for one object: what may be listed by itself lists what is below it,
    // too, which in the session's view is nothing but what other rules show.
    const std::uint64_t kinds = rule.itself_alone ? kReadDirectoryBit : ~std::uint64_t{0};
    if (absl::Status status = AllowPath(ruleset, rule.path, rule.rights, kinds); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status AllowPorts(Ruleset& ruleset, std::uint64_t right,
                        const std::vector<std::uint16_t>& ports) {
  for (const std::uint16_t port : ports) {
    if (absl::Status status = ruleset.AllowPort(right, port); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// Reading a directory, and a file without a name in it, which leaves nothing behind.
constexpr int kProbeFlags[] = {O_RDONLY | O_DIRECTORY | O_CLOEXEC, O_TMPFILE | O_WRONLY | O_CLOEXEC};
constexpr const char* kProbePaths[] = {"/", "/etc", "/home", "/root", "/var", "/tmp", "/dev/shm"};

bool Opens(const LandlockProbe& probe) {
  return FileDescriptor(open(probe.path.c_str(), probe.flags, 0600)).valid();
}

// What the rules let it open by name tells nothing.
bool IsLetTo(const LandlockProbe& probe, const LandlockNeeds& needs) {
  const bool writes = (probe.flags & O_ACCMODE) != O_RDONLY;
  const auto names_it = [&](const hostcalls::policy::PathRule& rule) {
    return (rule.rights & (writes ? kWriteFile : kReadFile)) != 0 && !(writes && rule.itself_alone) &&
           IsIn(probe.path, rule.path);
  };
  const auto has_it = [&](const std::string& directory) { return IsIn(probe.path, directory); };
  return IsPermissive(needs.rules) || std::ranges::any_of(needs.rules.paths, names_it) ||
         std::ranges::any_of(needs.output_directories, has_it);
}

// A file is made only where nothing that is read will tell: on a disk that takes its time.
std::vector<LandlockProbe> WhatOpens(const LandlockNeeds& needs) {
  std::vector<LandlockProbe> result;
  for (const int flags : kProbeFlags) {
    for (const char* const path : kProbePaths) {
      LandlockProbe probe{.path = path, .flags = flags};
      if (!IsLetTo(probe, needs) && Opens(probe)) result.push_back(std::move(probe));
    }
    if (!result.empty()) break;
  }
  return result;
}

}  // namespace

int LandlockVersion() {
  const long version = syscall(SYS_landlock_create_ruleset, nullptr, 0, kAskVersion);
  return version > 0 ? static_cast<int>(version) : 0;
}

std::uint64_t HandledFileRights(int version) {
  std::uint64_t handled = 0;
  for (const RightRow& row : kRightRows) {
    if (row.version <= version) handled |= row.bit;
  }
  return handled;
}

std::uint64_t LandlockRights(FileRights rights, bool is_directory) {
  std::uint64_t given = 0;
  for (const RightRow& row : kRightRows) {
    const bool fits = is_directory || row.object == Object::kAny;
    if (fits && (row.given_by & rights) != 0) given |= row.bit;
  }
  return given;
}

absl::StatusOr<LandlockProbe> RestrictWithLandlock(int version, const LandlockNeeds& needs) {
  const RulesetAttributes attributes = AttributesFor(version, needs);
  absl::StatusOr<Ruleset> ruleset = Ruleset::Create(version, attributes);
  if (!ruleset.ok()) return ruleset.status();
  if (absl::Status status = AllowFiles(*ruleset, needs); !status.ok()) return status;
  for (const auto& [right, ports] : {std::pair(kConnectTcp, &needs.plan.connect_ports),
                                     std::pair(kBindTcp, &needs.plan.bind_ports)}) {
    if ((attributes.network & right) == 0) continue;
    if (absl::Status status = AllowPorts(*ruleset, right, *ports); !status.ok()) return status;
  }
  const std::vector<LandlockProbe> opens = WhatOpens(needs);
  if (absl::Status status = ruleset->Restrict(); !status.ok()) return status;
  for (const LandlockProbe& probe : opens) {
    if (IsDenied(probe)) return probe;
  }
  return LandlockProbe{};
}

bool IsDenied(const LandlockProbe& probe) {
  return probe.path.empty() || (!Opens(probe) && errno == EACCES);
}

}  // namespace dunebox::confinement
