#include "sandbox/plugin/host_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <utility>

#include "hostcalls/services/separate_descriptors.h"

namespace dunebox::plugin {

using hostcalls::CopyResult;
using hostcalls::DescriptorPath;
using hostcalls::Errno;
namespace rights = hostcalls::policy;

CopyResult<std::string> NameOf(int fd) {
  std::array<char, PATH_MAX> target;
  const ssize_t length = readlink(DescriptorPath(fd).c_str(), target.data(), target.size());
  if (length < 0) return Errno{errno};
  return std::string(target.data(), static_cast<std::size_t>(length));
}

bool IsOfProcesses(int fd) {
  struct statfs system;
  return fstatfs(fd, &system) != 0 || system.f_type == PROC_SUPER_MAGIC;
}

void AddRule(rights::Rules& rules, const std::string& path, rights::FileRights allowed) {
  const auto after = std::ranges::upper_bound(rules.paths, path, {}, &rights::PathRule::path);
  rules.paths.insert(after, {.path = path, .rights = allowed});
}

std::optional<NamedFile> OpenForHost(const std::string& path) {
  // Looked at before it is opened: opening a FIFO or a device has effects.
  const runtime::FileDescriptor pinned(open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat status;
  if (!pinned.valid() || fstat(pinned.get(), &status) != 0 || !S_ISREG(status.st_mode))
    return std::nullopt;
  const CopyResult<std::string> name = NameOf(pinned.get());
  runtime::FileDescriptor file(
      open(DescriptorPath(pinned.get()).c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!name.ok() || !file.valid()) return std::nullopt;
  return NamedFile{*name, std::move(file)};
}

rights::Rules FileRulesOf(const Policy& policy) {
  rights::Rules rules;
  rules.allow_all = false;
  rules.origins = {"default"};
  for (const std::string& path : policy.libraries) AddRule(rules, path, rights::kReadOnly);
  for (const std::string& path : policy.readable) AddRule(rules, path, rights::kReadFile);
  return rules;
}

HostFiles::HostFiles(const Policy& policy) : rules_(FileRulesOf(policy)) {}

CopyResult<OpenFile> HostFiles::Allow(const std::string& path) {
  // By the name that the kernel will give for it. What is not there needs no rule.
  const std::unique_ptr<char, decltype(&std::free)> name(realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (name != nullptr) {
    const std::lock_guard lock(mutex_);
    AddRule(rules_, name.get(), rights::kReadOnly);
  }
  return Open(path, LastLink::kFollowed);
}

rights::Rules HostFiles::rules() const {
  const std::lock_guard lock(mutex_);
  return rules_;
}

void HostFiles::SetRules(rights::Rules rules) {
  const std::lock_guard lock(mutex_);
  rules_ = std::move(rules);
}

void HostFiles::Grant(const std::string& name, runtime::FileDescriptor file) {
  const std::lock_guard lock(mutex_);
  if (!file.valid()) return;
  // What may be read may have been set back since.
  AddRule(rules_, name, rights::kReadOnly);
  granted_.try_emplace(name, std::move(file));
}

CopyResult<HostFiles::Pinned> HostFiles::Pin(const std::string& path, LastLink last) const {
  open_how how{};
  how.flags =
      static_cast<std::uint64_t>(O_PATH | O_CLOEXEC | (last == LastLink::kKept ? O_NOFOLLOW : 0));
  how.resolve = RESOLVE_NO_MAGICLINKS;
  runtime::FileDescriptor handle(
      static_cast<int>(syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof(how))));
  const int error = errno;
  if (!handle.valid()) {
    const std::lock_guard lock(mutex_);
    // What is not there is told where the plugin may know what is.
    const bool may_know = (rules_.RightsOn(path).rights & rights::kReadFile) != 0;
    return Errno{may_know || error == EMFILE || error == ENFILE ? error : EACCES};
  }
  CopyResult<std::string> name = NameOf(handle.get());
  if (!name.ok()) return name.error();
  const std::lock_guard lock(mutex_);
  const rights::FileRights allowed = rules_.RightsOn(*name).rights;
  if ((allowed & rights::kReadFile) == 0 || IsOfProcesses(handle.get())) return Errno{EACCES};
  return Pinned{std::move(handle), *std::move(name), allowed};
}

runtime::FileDescriptor HostFiles::OpenPinned(const Pinned& pinned) const {
  const std::lock_guard lock(mutex_);
  const auto granted = granted_.find(pinned.name);
  if (granted == granted_.end()) {
    return runtime::FileDescriptor(
        open(DescriptorPath(pinned.handle.get()).c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  }
  const int file = granted->second.get();
  lseek(file, 0, SEEK_SET);
  return runtime::FileDescriptor(fcntl(file, F_DUPFD_CLOEXEC, 0));
}

CopyResult<OpenFile> HostFiles::Open(const std::string& path, LastLink last) const {
  CopyResult<Pinned> pinned = Pin(path, last);
  if (!pinned.ok()) return pinned.error();
  struct stat status;
  if (fstat(pinned->handle.get(), &status) != 0) return Errno{errno};
  if (S_ISLNK(status.st_mode)) return Errno{ELOOP};
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return Errno{EACCES};
  OpenFile file{.kind = OpenFile::Kind::kFile,
                .host = OpenPinned(*pinned),
                .name = pinned->name,
                .is_executable = (pinned->rights & rights::kExecuteFile) != 0};
  if (!file.host.valid()) return Errno{errno};
  return file;
}

CopyResult<struct stat> HostFiles::Status(const std::string& path, LastLink last) const {
  CopyResult<Pinned> pinned = Pin(path, last);
  if (!pinned.ok()) return pinned.error();
  struct stat status;
  if (fstat(pinned->handle.get(), &status) != 0) return Errno{errno};
  return status;
}

int HostFiles::Access(const std::string& path, int mode, LastLink last) const {
  CopyResult<Pinned> pinned = Pin(path, last);
  if (!pinned.ok()) return pinned.error().value;
  if ((mode & W_OK) != 0) return EACCES;
  if ((mode & X_OK) != 0 && (pinned->rights & rights::kExecuteFile) == 0) return EACCES;
  if (mode == F_OK) return 0;
  return faccessat(AT_FDCWD, DescriptorPath(pinned->handle.get()).c_str(), mode, AT_EACCESS) == 0
             ? 0
             : errno;
}

CopyResult<std::string> HostFiles::ReadLink(const std::string& path) const {
  CopyResult<Pinned> pinned = Pin(path, LastLink::kKept);
  if (!pinned.ok()) return pinned.error();
  std::array<char, PATH_MAX> target;
  const ssize_t length = readlinkat(pinned->handle.get(), "", target.data(), target.size());
  if (length < 0) return Errno{errno == ENOENT ? EINVAL : errno};
  return std::string(target.data(), static_cast<std::size_t>(length));
}

}  // namespace dunebox::plugin
