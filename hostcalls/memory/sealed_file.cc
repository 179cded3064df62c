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
  rlimit most{};
  if (getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur < size) {
    return absl::ResourceExhaustedError("files may not be as large (RLIMIT_FSIZE)");
  }
  const int fd = CreateFile(name);
  if (fd < 0) return Failed("memfd_create");
  struct stat status{};
  if (fstat(fd, &status) != 0) {
    const absl::Status failed = Failed("fstat");
    close(fd);
    return failed;
  }
  SealedFile file(fd, status.st_dev, status.st_ino);
  if (ftruncate(fd, static_cast<off_t>(size)) != 0) return Failed("ftruncate");
  if (absl::Status filled = fill(fd); !filled.ok()) return filled;
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (fcntl(fd, F_ADD_SEALS, kSeals) != 0) return Failed("sealing");
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
