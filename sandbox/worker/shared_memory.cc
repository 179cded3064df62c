#include "sandbox/worker/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace dunebox::worker {
namespace {

constexpr unsigned kNoExecSeal = 0x8;  // MFD_NOEXEC_SEAL, Linux 6.3

absl::Status Failed(const char* what) {
  return absl::ResourceExhaustedError(absl::ErrnoToStatus(errno, what).message());
}

}  // namespace

absl::StatusOr<SharedMemory> SharedMemory::Create(const char* name, std::size_t size) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  runtime::FileDescriptor file(memfd_create(name, kFlags | kNoExecSeal));
  if (!file.valid() && errno == EINVAL) file = runtime::FileDescriptor(memfd_create(name, kFlags));
  if (!file.valid()) return Failed("memfd_create");
  if (ftruncate(file.get(), static_cast<off_t>(size)) != 0 ||
      fcntl(file.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return Failed("memory for two processes");
  }
  return Map(std::move(file));
}

absl::StatusOr<SharedMemory> SharedMemory::Map(runtime::FileDescriptor file) {
  struct stat status;
  if (fstat(file.get(), &status) != 0) return Failed("memory of two processes");
  const auto size = static_cast<std::size_t>(status.st_size);
  void* const start =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file.get(), 0);
  if (start == MAP_FAILED) return Failed("no addresses for memory of two processes");
  return SharedMemory(std::move(file), std::span(static_cast<std::byte*>(start), size));
}

SharedMemory::~SharedMemory() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

}  // namespace dunebox::worker
