#include "sandbox/oci/attributes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <vector>

#include "absl/strings/str_split.h"
#include "runtime/file_descriptor.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::oci {
namespace {

constexpr std::string_view kUsualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr std::size_t kMostPasswd = 1 << 20;
constexpr mode_t kUsualUmask = 022;

absl::Status Failed(std::string_view what) {
  return absl::ErrnoToStatus(errno, absl::string_view(what.data(), what.size()));
}

absl::Status SetLimits(const Process& process) {
  for (const Rlimit& limit : process.rlimits) {
    const rlimit value{.rlim_cur = limit.soft, .rlim_max = limit.hard};
    if (setrlimit(static_cast<__rlimit_resource>(limit.resource), &value) != 0) {
      return Failed(fmt::format("process.rlimits: cannot set limit {} to {}", limit.resource,
                                limit.hard));
    }
  }
  return absl::OkStatus();
}

absl::Status BecomeUser(const User& user) {
  const std::vector<gid_t> groups(user.additional_gids.begin(), user.additional_gids.end());
  // Where a user namespace forbids it there are none to be given up.
  const bool may_fail = groups.empty() && getgroups(0, nullptr) == 0;
  if (setgroups(groups.size(), groups.data()) != 0 && !may_fail) {
    return Failed("process.user.additionalGids: cannot be taken");
  }
  if (setresgid(user.gid, user.gid, user.gid) != 0) return Failed("process.user.gid");
  if (setresuid(user.uid, user.uid, user.uid) != 0) return Failed("process.user.uid");
  return absl::OkStatus();
}

absl::Status ShrinkBoundingSet(CapabilityBits kept) {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; ++capability) {
    if ((kept >> capability & 1) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability) != 0) return Failed("cannot give up a capability");
  }
  return absl::OkStatus();
}

// Of those kept, the ones that this process has.
absl::Status SetCapabilities(CapabilityBits kept) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> words{};
  if (syscall(SYS_capget, &header, words.data()) != 0) return Failed("capget");
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::uint32_t left = words[i].permitted & static_cast<std::uint32_t>(kept >> (32 * i));
    words[i] = {.effective = left, .permitted = left, .inheritable = left};
  }
  if (syscall(SYS_capset, &header, words.data()) != 0) return Failed("capset");
  if (getuid() == 0) return absl::OkStatus();
  // What another user than root keeps over an execve.
  for (int capability = 0; capability < 64; ++capability) {
    const auto word = static_cast<std::size_t>(capability / 32);
    if ((words[word].permitted >> (capability % 32) & 1) == 0) continue;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0) {
      return Failed("process.capabilities.ambient");
    }
  }
  return absl::OkStatus();
}

std::string ReadPasswd() {
  // Not a device or a pipe that somebody has put there.
  const runtime::FileDescriptor file(open("/etc/passwd", O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  struct stat info;
  if (!file.valid() || fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return {};
  std::string text(std::min<std::size_t>(static_cast<std::size_t>(info.st_size), kMostPasswd), '\0');
  const ssize_t size = read(file.get(), text.data(), text.size());
  text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  return text;
}

void SetEnvironment(const Process& process) {
  clearenv();
  for (const std::string& entry : process.env) {
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0) continue;
    setenv(entry.substr(0, equals).c_str(), entry.c_str() + equals + 1, 1);
  }
  setenv("HOME", HomeOf(process.user.uid, ReadPasswd()).c_str(), /*overwrite=*/0);
}

// In the container's root. Since the name was looked up for the first time somebody may have put a link there, which
// leads by /proc/self/fd to a directory that this process has open: a directory of the host's.
absl::Status EnterDirectory(const std::string& path) {
  if (chdir(path.c_str()) != 0) return Failed("process.cwd: cannot enter " + path);
  std::array<char, PATH_MAX> name;
  if (getcwd(name.data(), name.size()) != nullptr) return absl::OkStatus();
  return Failed("process.cwd: " + path + " is not in the container's root");
}

// 0, or why this file cannot be executed.
int WhyNot(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return errno;
  if (!S_ISREG(info.st_mode)) return EACCES;
  return access(path.c_str(), X_OK) == 0 ? 0 : errno;
}

}  // namespace

std::string HomeOf(std::uint32_t uid, const std::string& passwd) {
  constexpr std::size_t kUid = 2, kHome = 5;
  for (const absl::string_view line : absl::StrSplit(passwd, '\n')) {
    const std::vector<std::string> fields = absl::StrSplit(line, ':');
    if (fields.size() > kHome && fields[kUid] == fmt::format("{}", uid) &&
        fields[kHome].starts_with('/')) {
      return fields[kHome];
    }
  }
  return "/";
}

absl::Status FindProgram(const Process& process) {
  const std::string& name = process.args.front();
  int error = ENOENT;
  if (name.find('/') != std::string::npos) {
    error = WhyNot(name[0] == '/' ? name : process.cwd + "/" + name);
  } else {
    std::string path(kUsualPath);
    for (const std::string& entry : process.env) {
      if (entry.starts_with("PATH=")) path = entry.substr(5);
    }
    for (const absl::string_view directory : absl::StrSplit(path, ':')) {
      const int why = WhyNot(std::string(directory.empty() ? "." : directory) + "/" + name);
      if (why == 0) return absl::OkStatus();
      if (why != ENOENT && why != ENOTDIR) error = why;
    }
  }
  if (error == 0) return absl::OkStatus();
  // Engines know these words, and report 127 and 126 for them.
  return error == ENOENT || error == ENOTDIR
             ? absl::NotFoundError(fmt::format(
                   "executable file {} not found in $PATH: no such file or directory",
                   policy::Quoted(name)))
             : absl::PermissionDeniedError(
                   fmt::format("cannot execute {}: permission denied", policy::Quoted(name)));
}

absl::Status TakeAttributes(const Process& process, CapabilityBits kept) {
  SetEnvironment(process);
  absl::Status status = SetLimits(process);
  if (status.ok()) status = ShrinkBoundingSet(kept);
  if (!status.ok()) return status;
  if (prctl(PR_SET_KEEPCAPS, 1) != 0) return Failed("cannot keep capabilities");
  status = BecomeUser(process.user);
  if (status.ok()) status = SetCapabilities(kept);
  if (!status.ok()) return status;
  prctl(PR_SET_KEEPCAPS, 0);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return Failed("process.noNewPrivileges");
  umask(process.user.umask.value_or(kUsualUmask));
  return EnterDirectory(process.cwd);
}

}  // namespace dunebox::oci
