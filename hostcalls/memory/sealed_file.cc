#include "hostcalls/memory/sealed_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

namespace dunebox::hostcalls {
namespace {

constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

absl::Status Failed(const char* what) {
  return absl::ResourceExhaustedError(absl::ErrnoToStatus(errno, what).message());
}

// Older kernels do not know the seal against execve of the file.
int CreateFile(const char* name) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const int fd = memfd_create(name, kFlags | MFD_NOEXEC_SEAL);
  return fd >= 0 || errno != EINVAL ? fd : memfd_create(name, kFlags);
}

}  // namespace

absl::StatusOr<SealedFile> SealedFile::Create(const char* name, std::uint64_t size,
                                              absl::FunctionRef<absl::Status(int fd)> fill) {
  const absl::StatusOr<int> fd = MakeUnsealed(name, size);
  if (!fd.ok()) return fd.status();
  return Seal(*fd, fill);
}

absl::StatusOr<int> SealedFile::MakeUnsealed(const char* name, std::uint64_t size) {
  rlimit most{};
  if (getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur < size) {
    return absl::ResourceExhaustedError("files may not be as large (RLIMIT_FSIZE)");
  }
  const int fd = CreateFile(name);
  if (fd < 0) return Failed("memfd_create");
  if (ftruncate(fd, static_cast<off_t>(size)) == 0) return fd;
  const absl::Status failed = Failed("ftruncate");
  close(fd);
  return failed;
}

absl::StatusOr<SealedFile> SealedFile::Of(int fd) {
  struct stat status{};
  if (fstat(fd, &status) == 0) return SealedFile(fd, status.st_dev, status.st_ino);
  const absl::Status failed = Failed("fstat");
  close(fd);
  return failed;
}

absl::StatusOr<SealedFile> SealedFile::Seal(int fd, absl::FunctionRef<absl::Status(int fd)> fill) {
  absl::StatusOr<SealedFile> file = Of(fd);
  if (!file.ok()) return file;
  if (absl::Status filled = fill(fd); !filled.ok()) return filled;
  if (fcntl(fd, F_ADD_SEALS, kSeals) != 0) return Failed("sealing");
  return file;
}

absl::StatusOr<SealedFile> SealedFile::Adopt(int fd, std::uint64_t size) {
  absl::StatusOr<SealedFile> file = Of(fd);
  if (!file.ok()) return file;
  // MFD_NOEXEC_SEAL has put a seal of its own besides.
  struct stat status{};
  const bool is_final = fstat(fd, &status) == 0 &&
                        static_cast<std::uint64_t>(status.st_size) == size &&
                        (fcntl(fd, F_GET_SEALS) & kSeals) == kSeals;
  if (!is_final) return absl::FailedPreconditionError("a file that may still be changed");
  return file;
}

SealedFile::~SealedFile() {
  if (Get()) close(fd_);
}

std::optional<int> SealedFile::Get() const {
  struct stat status{};
  if (fd_ < 0 || fstat(fd_, &status) != 0) return std::nullopt;
  if (status.st_dev != device_ || status.st_ino != inode_) return std::nullopt;
  return fd_;
}

}  // namespace dunebox::hostcalls
