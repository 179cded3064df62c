#include "runtime/memory/host_mapper.h"

#include <sys/mman.h>

#include <cerrno>

#include "hostcalls/memory/protection_keys.h"

namespace dunebox::memory {

bool HostMapper::Adopt(void* start, std::size_t length, int prot) const {
  return key_ == 0 || hostcalls::SetProtectionKey(start, length, prot, key_);
}

void* HostMapper::Map(void* wanted, std::size_t length, int prot, int flags, int fd,
                      off_t offset) const {
  const bool elsewhere = key_ != 0 && (flags & MAP_FIXED) != 0;
  void* mapped = mmap(elsewhere ? nullptr : wanted, length, prot,
                      elsewhere ? flags & ~MAP_FIXED : flags, fd, offset);
  if (mapped == MAP_FAILED) return MAP_FAILED;
  void* result = mapped;
  if (!Adopt(mapped, length, prot)) {
    result = MAP_FAILED;
  } else if (elsewhere) {
    result = mremap(mapped, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, wanted);
  }
  if (result != MAP_FAILED) return result;
  const int error = errno;
  munmap(mapped, length);
  errno = error;
  return MAP_FAILED;
}

}  // namespace dunebox::memory
