#include "hostcalls/services/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"

namespace dunebox::hostcalls {
namespace {

constexpr unsigned kNoExecSeal = 0x8;  // MFD_NOEXEC_SEAL, Linux 6.3
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

}  // namespace

absl::StatusOr<int> CreateSharedMemory(const char* name, std::size_t size) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = memfd_create(name, kFlags | kNoExecSeal);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(name, kFlags);  // an older kernel
  if (fd >= 0 && ftruncate(fd, static_cast<off_t>(size)) == 0 &&
      fcntl(fd, F_ADD_SEALS, kSeals) == 0) {
    return fd;
  }
  const absl::Status error =
      errors::Named(errors::Id::kNoMemory,
                    absl::ErrnoToStatus(errno, absl::StrCat("cannot make memory for ", name)));
  if (fd >= 0) close(fd);
  return error;
}

void* MapSharedMemory(int fd, std::size_t size) {
  return mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

}  // namespace dunebox::hostcalls
