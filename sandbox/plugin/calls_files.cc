// Files and descriptors of a plugin: reading what the policy names, and an output that the host keeps.
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/dispatch/arguments.h"
#include "hostcalls/services/support.h"
#include "sandbox/plugin/calls.h"
#include "sandbox/plugin/kernel_buffer.h"
#include "sandbox/plugin/without_pipe_signal.h"

namespace dunebox::plugin::calls {
namespace {

using hostcalls::Arguments;
using hostcalls::CopyResult;
using hostcalls::Errno;
using hostcalls::kSuccess;
using hostcalls::SyscallResult;
using Kind = OpenFile::Kind;
using File = std::shared_ptr<const OpenFile>;

constexpr std::uint64_t kMostBytes = 0x7fff'f000;  // [linux] MAX_RW_COUNT

SyscallResult Number(std::uint64_t value) { return SyscallResult(static_cast<std::int64_t>(value)); }

CopyResult<std::string> PathAt(const Calling& call, int directory, std::uint64_t address) {
  CopyResult<std::string> path =
      call.memory.CopyInString(address, PATH_MAX - 1, Errno{ENAMETOOLONG});
  if (!path.ok()) return path;
  if (path->empty()) return Errno{ENOENT};
  if (path->front() == '/') return path;
  if (directory == AT_FDCWD) return absl::StrCat(call.kernel.directory(), "/", *path);
  const File file = call.kernel.descriptors().Find(directory);
  if (file == nullptr) return Errno{EBADF};
  if (file->kind != Kind::kFile) return Errno{ENOTDIR};
  return absl::StrCat(file->name, "/", *path);
}

// What was not permitted is noted; what is not there is not.
Errno Refused(const Calling& call, const char* what, const std::string& path, Errno error) {
  if (error.value == EACCES) call.kernel.NoteDenial(absl::StrCat(what, " ", path));
  return error;
}

// ---- reading and writing ------------------------------------------------------------------------

// Null: not open, or not for that.
File Readable(const Calling& call) {
  File file = call.kernel.descriptors().Find(call.Int(0));
  if (file == nullptr || file->kind == Kind::kOutput) return nullptr;
  if (file->kind == Kind::kGranted && !file->may_read) return nullptr;
  file->Note(OpenFile::kRead);
  return file;
}
File Writable(const Calling& call) {
  File file = call.kernel.descriptors().Find(call.Int(0));
  if (file == nullptr) return nullptr;
  if (file->kind != Kind::kOutput && (file->kind != Kind::kGranted || !file->may_write)) return nullptr;
  file->Note(OpenFile::kWritten);
  return file;
}

SyscallResult ReadInto(const Calling& call, const File& file, std::uint64_t number, std::uint64_t to,
                       std::uint64_t count, std::uint64_t offset) {
  KernelBuffer buffer(call, to, count, KernelBuffer::Filled::kByKernel);
  if (buffer.data() == nullptr) return Errno{EFAULT};
  if (file->kind == Kind::kEmpty) return kSuccess;
  return buffer.Finish(call.Host(number, Arguments(file->host.get(), buffer.data(), buffer.size(), offset)));
}

SyscallResult ReadAt(const Calling& call, std::uint64_t number, std::uint64_t offset) {
  const File file = Readable(call);
  if (file == nullptr) return Errno{EBADF};
  return ReadInto(call, file, number, call[1], std::min(call[2], kMostBytes), offset);
}

// All of it, unless the host's descriptor fails or a kick comes.
SyscallResult PassOn(const Calling& call, int to, std::string_view text) {
  const WithoutPipeSignal guard;
  std::uint64_t done = 0;
  while (done < text.size()) {
    const SyscallResult written =
        call.Host(SYS_write, Arguments(to, text.data() + done, text.size() - done));
    if (!written.ok()) return done == 0 ? written : Number(done);
    done += written.ToRegister();
  }
  return Number(done);
}

SyscallResult KeepAndPassOn(const Calling& call, std::string_view text, const File& output) {
  SyscallResult passed = Number(text.size());
  if (output->host.valid()) {
    passed = PassOn(call, output->host.get(), text);
  } else if (call.kernel.relay()) {
    passed = call.kernel.relay()(*output, text);
  }
  if (passed.ok()) call.kernel.KeepOutput(text.substr(0, passed.ToRegister()));
  return passed;
}

// Ends early at a kick, as a write to a pipe does.
SyscallResult Keep(const Calling& call, const File& output, std::uint64_t address,
                   std::uint64_t count) {
  std::array<char, 4096> part;
  for (std::uint64_t done = 0; done < count;) {
    const std::uint64_t size = std::min<std::uint64_t>(count - done, part.size());
    if (!call.memory.Read(address + done,
                          std::as_writable_bytes(std::span(part)).first(size))) {
      return done == 0 ? SyscallResult(Errno{EFAULT}) : Number(done);
    }
    const SyscallResult taken = KeepAndPassOn(call, {part.data(), size}, output);
    if (!taken.ok()) return done == 0 ? taken : Number(done);
    done += taken.ToRegister();
    if (taken.ToRegister() < size || call.thread.kicked.load(std::memory_order_relaxed) != 0) {
      return Number(done);
    }
  }
  return Number(count);
}

SyscallResult WriteGranted(const Calling& call, const File& file, std::uint64_t address,
                           std::uint64_t count) {
  const KernelBuffer bytes(call, address, count, KernelBuffer::Filled::kByGuest);
  if (bytes.data() == nullptr) return Errno{EFAULT};
  const WithoutPipeSignal guard;
  return call.Host(SYS_write, Arguments(file->host.get(), bytes.data(), bytes.size()));
}

SyscallResult WriteTo(const Calling& call, const File& file, std::uint64_t address,
                      std::uint64_t count) {
  return file->kind == Kind::kGranted ? WriteGranted(call, file, address, count)
                                      : Keep(call, file, address, count);
}

// ---- status -------------------------------------------------------------------------------------

// struct stat of the C library is the kernel's.
static_assert(sizeof(struct stat) == 144);

SyscallResult StatusOf(const Calling& call, int fd, std::uint64_t to) {
  const File file = call.kernel.descriptors().Find(fd);
  if (file == nullptr) return Errno{EBADF};
  struct stat status{};
  if (file->kind == Kind::kFile) {
    if (fstat(file->host.get(), &status) != 0) return Errno{errno};
  } else {
    status.st_mode = S_IFIFO | 0600;
    status.st_nlink = 1;
    status.st_blksize = static_cast<blksize_t>(kPageSize);
  }
  return call.memory.CopyOut(GuestPtr<struct stat>{to}, status);
}

SyscallResult StatusAtPath(const Calling& call, int directory, std::uint64_t path_address,
                           std::uint64_t to, LastLink last) {
  CopyResult<std::string> path = PathAt(call, directory, path_address);
  if (!path.ok()) return path.error();
  const CopyResult<struct stat> status = call.kernel.files().Status(*path, last);
  if (!status.ok()) return Refused(call, "read", *path, status.error());
  return call.memory.CopyOut(GuestPtr<struct stat>{to}, *status);
}

LastLink LastOf(int flags) {
  return (flags & AT_SYMLINK_NOFOLLOW) != 0 ? LastLink::kKept : LastLink::kFollowed;
}

SyscallResult OpenPath(const Calling& call, int directory, std::uint64_t path_address, int flags) {
  CopyResult<std::string> path = PathAt(call, directory, path_address);
  if (!path.ok()) return path.error();
  constexpr int kChanges = O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);
  if ((flags & O_ACCMODE) != O_RDONLY || (flags & kChanges) != 0) {
    return Refused(call, "write", *path, Errno{EACCES});
  }
  if ((flags & O_PATH) != 0) return Errno{EINVAL};
  CopyResult<OpenFile> file = call.kernel.files().Open(
      *path, (flags & O_NOFOLLOW) != 0 ? LastLink::kKept : LastLink::kFollowed);
  if (!file.ok()) return Refused(call, "read", *path, file.error());
  if ((flags & O_DIRECTORY) != 0) {
    struct stat status;
    if (fstat(file->host.get(), &status) != 0 || !S_ISDIR(status.st_mode)) return Errno{ENOTDIR};
  }
  const int fd = call.kernel.descriptors().Add(std::make_shared<OpenFile>(*std::move(file)),
                                               (flags & O_CLOEXEC) != 0);
  return fd < 0 ? SyscallResult(Errno{EMFILE}) : SyscallResult(fd);
}

SyscallResult AccessPath(const Calling& call, int directory, std::uint64_t path_address, int mode) {
  CopyResult<std::string> path = PathAt(call, directory, path_address);
  if (!path.ok()) return path.error();
  const int error = call.kernel.files().Access(*path, mode, LastLink::kFollowed);
  return error == 0 ? kSuccess : SyscallResult(Errno{error});
}

SyscallResult ReadLinkPath(const Calling& call, int directory, std::uint64_t path_address,
                           std::uint64_t to, std::uint64_t size) {
  CopyResult<std::string> path = PathAt(call, directory, path_address);
  if (!path.ok()) return path.error();
  const CopyResult<std::string> target = call.kernel.files().ReadLink(*path);
  if (!target.ok()) return target.error();
  const std::string& text = *target;
  const auto bytes = std::as_bytes(std::span(text)).first(std::min<std::uint64_t>(size, text.size()));
  if (!call.memory.Write(to, bytes)) return Errno{EFAULT};
  return Number(bytes.size());
}

}  // namespace

SyscallResult Read(const Calling& call) { return ReadAt(call, SYS_read, 0); }
SyscallResult PositionedRead(const Calling& call) { return ReadAt(call, SYS_pread64, call[3]); }

SyscallResult Write(const Calling& call) {
  const File file = Writable(call);
  return file != nullptr ? WriteTo(call, file, call[1], std::min(call[2], kMostBytes))
                         : SyscallResult(Errno{EBADF});
}

// The array is copied first; each buffer is checked by what it becomes.
SyscallResult WriteVector(const Calling& call) {
  const File file = Writable(call);
  if (file == nullptr) return Errno{EBADF};
  CopyResult<std::vector<iovec>> parts = hostcalls::CopyInIovec(call.memory, call[1], call[2]);
  if (!parts.ok()) return parts.error();
  std::uint64_t total = 0;
  for (const iovec& part : *parts) {
    const std::uint64_t size = std::min<std::uint64_t>(part.iov_len, kMostBytes - total);
    const SyscallResult kept = WriteTo(call, file, reinterpret_cast<std::uint64_t>(part.iov_base), size);
    if (!kept.ok()) return total == 0 ? kept : Number(total);
    total += kept.ToRegister();
    if (kept.ToRegister() < part.iov_len) break;
  }
  return Number(total);
}

SyscallResult ReadVector(const Calling& call) {
  const File file = Readable(call);
  if (file == nullptr) return Errno{EBADF};
  CopyResult<std::vector<iovec>> parts = hostcalls::CopyInIovec(call.memory, call[1], call[2]);
  if (!parts.ok()) return parts.error();
  if (call.memory.pages() != nullptr) {
    // Into the first that takes something, which is less than what was asked for.
    for (const iovec& part : *parts) {
      if (part.iov_len == 0) continue;
      return ReadInto(call, file, SYS_read, reinterpret_cast<std::uint64_t>(part.iov_base), part.iov_len, 0);
    }
    return kSuccess;
  }
  for (iovec& part : *parts) {
    part.iov_base = call.Checked(reinterpret_cast<std::uint64_t>(part.iov_base), part.iov_len);
    if (part.iov_base == nullptr) return Errno{EFAULT};
  }
  if (file->kind == Kind::kEmpty) return kSuccess;
  return call.Host(SYS_readv, Arguments(file->host.get(), parts->data(), parts->size()));
}

SyscallResult Seek(const Calling& call) {
  const File file = call.kernel.descriptors().Find(call.Int(0));
  if (file == nullptr) return Errno{EBADF};
  if (file->kind != Kind::kFile) return Errno{ESPIPE};
  return call.Host(SYS_lseek, Arguments(file->host.get(), call[1], call[2]));
}

SyscallResult Open(const Calling& call) { return OpenPath(call, AT_FDCWD, call[0], call.Int(1)); }
SyscallResult OpenAt(const Calling& call) { return OpenPath(call, call.Int(0), call[1], call.Int(2)); }

SyscallResult Close(const Calling& call) {
  return call.kernel.descriptors().Close(call.Int(0)) ? kSuccess : SyscallResult(Errno{EBADF});
}

SyscallResult Duplicate(const Calling& call) {
  const File file = call.kernel.descriptors().Find(call.Int(0));
  if (file == nullptr) return Errno{EBADF};
  const int fd = call.kernel.descriptors().Add(file, false);
  return fd < 0 ? SyscallResult(Errno{EMFILE}) : SyscallResult(fd);
}

// dup3's flags are dup2's third argument, which nobody gives.
SyscallResult DuplicateTo(const Calling& call) {
  const File file = call.kernel.descriptors().Find(call.Int(0));
  if (file == nullptr || !call.kernel.descriptors().Set(call.Int(1), file, false)) {
    return Errno{EBADF};
  }
  return SyscallResult(call.Int(1));
}

SyscallResult DescriptorControl(const Calling& call) {
  Descriptors& descriptors = call.kernel.descriptors();
  const File file = descriptors.Find(call.Int(0));
  if (file == nullptr) return Errno{EBADF};
  switch (call.Int(1)) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: {
      if (call.Int(2) < 0 || call.Int(2) >= descriptors.most()) return Errno{EINVAL};
      const int fd = descriptors.Add(file, call.Int(1) == F_DUPFD_CLOEXEC, call.Int(2));
      return fd < 0 ? SyscallResult(Errno{EMFILE}) : SyscallResult(fd);
    }
    case F_GETFD:
      return SyscallResult(descriptors.ClosesOnExec(call.Int(0)) ? FD_CLOEXEC : 0);
    case F_SETFD:
      descriptors.SetClosesOnExec(call.Int(0), (call[2] & FD_CLOEXEC) != 0);
      return kSuccess;
    case F_GETFL:
      if (file->kind == Kind::kGranted && file->may_write) {
        return SyscallResult(file->may_read ? O_RDWR : O_WRONLY);
      }
      return SyscallResult(file->kind == Kind::kOutput ? O_WRONLY : O_RDONLY);
    default:
      return Errno{EINVAL};
  }
}

// Nothing that a plugin has is a terminal or a device.
SyscallResult DeviceControl(const Calling& call) {
  const bool is_open = call.kernel.descriptors().Find(call.Int(0)) != nullptr;
  return Errno{is_open ? ENOTTY : EBADF};
}

SyscallResult DescriptorStatus(const Calling& call) { return StatusOf(call, call.Int(0), call[1]); }
SyscallResult Status(const Calling& call) {
  return StatusAtPath(call, AT_FDCWD, call[0], call[1], LastLink::kFollowed);
}
SyscallResult LinkStatus(const Calling& call) {
  return StatusAtPath(call, AT_FDCWD, call[0], call[1], LastLink::kKept);
}
SyscallResult StatusAt(const Calling& call) {
  const int flags = call.Int(3);
  if ((flags & AT_EMPTY_PATH) != 0) {
    CopyResult<std::string> path = call.memory.CopyInString(call[1], PATH_MAX - 1, Errno{ENAMETOOLONG});
    if (!path.ok()) return path.error();
    if (path->empty()) return StatusOf(call, call.Int(0), call[2]);
  }
  return StatusAtPath(call, call.Int(0), call[1], call[2], LastOf(flags));
}

SyscallResult Access(const Calling& call) { return AccessPath(call, AT_FDCWD, call[0], call.Int(1)); }
SyscallResult AccessAt(const Calling& call) {
  return AccessPath(call, call.Int(0), call[1], call.Int(2));
}

SyscallResult ReadLink(const Calling& call) {
  return ReadLinkPath(call, AT_FDCWD, call[0], call[1], call[2]);
}
SyscallResult ReadLinkAt(const Calling& call) {
  return ReadLinkPath(call, call.Int(0), call[1], call[2], call[3]);
}

SyscallResult ListDirectory(const Calling& call) {
  const File file = call.kernel.descriptors().Find(call.Int(0));
  if (file == nullptr) return Errno{EBADF};
  if (file->kind != Kind::kFile) return Errno{ENOTDIR};
  KernelBuffer buffer(call, call[1], call[2], KernelBuffer::Filled::kByKernel);
  if (buffer.data() == nullptr) return Errno{EFAULT};
  return buffer.Finish(call.Host(SYS_getdents64, Arguments(file->host.get(), buffer.data(), buffer.size())));
}

SyscallResult GetDirectory(const Calling& call) {
  const std::string path = call.kernel.directory();
  const std::span text(path.c_str(), path.size() + 1);
  if (call[1] < text.size()) return Errno{ERANGE};
  if (!call.memory.Write(call[0], std::as_bytes(text))) return Errno{EFAULT};
  return Number(text.size());
}

SyscallResult ChangeDirectory(const Calling& call) {
  CopyResult<std::string> path = PathAt(call, AT_FDCWD, call[0]);
  if (!path.ok()) return path.error();
  CopyResult<OpenFile> directory = call.kernel.files().Open(*path, LastLink::kFollowed);
  if (!directory.ok()) return Refused(call, "read", *path, directory.error());
  struct stat status;
  if (fstat(directory->host.get(), &status) != 0 || !S_ISDIR(status.st_mode)) return Errno{ENOTDIR};
  call.kernel.SetDirectory(directory->name);
  return kSuccess;
}

SyscallResult ChangeMask(const Calling& call) {
  return Number(call.kernel.ExchangeMask(static_cast<std::uint32_t>(call[0])));
}

}  // namespace dunebox::plugin::calls
