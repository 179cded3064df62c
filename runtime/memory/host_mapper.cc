#include "runtime/memory/host_mapper.h"

#include <sys/mman.h>

#include <cerrno>

#include "hostcalls/memory/protection_keys.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace dunebox::memory {
namespace {

// What was there may have been unmapped before the kernel found that it cannot map. Where it was not, this does nothing.
void FillHole(void* start, std::size_t length) {
  const int error = errno;
  (void)!mmap(start, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  errno = error;
}

}  // namespace

bool HostMapper::Adopt(void* start, std::size_t length, int prot) const {
  return key_ == 0 || hostcalls::SetProtectionKey(start, length, prot, key_);
}

void* HostMapper::Map(void* wanted, std::size_t length, int prot, int flags, int fd,
                      off_t offset) const {
  if (is_reserved_) flags = (flags & ~MAP_FIXED_NOREPLACE) | MAP_FIXED;
  const bool elsewhere = key_ != 0 && (flags & MAP_FIXED) != 0;
  void* mapped = mmap(elsewhere ? nullptr : wanted, length, prot,
                      elsewhere ? flags & ~MAP_FIXED : flags, fd, offset);
  if (mapped == MAP_FAILED) {
    if (is_reserved_) FillHole(wanted, length);
    return MAP_FAILED;
  }
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

bool HostMapper::Reserve(void* start, std::size_t length) const {
  return mmap(start, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
              0) != MAP_FAILED;
}

bool HostMapper::Unmap(void* start, std::size_t length) const {
  return is_reserved_ ? Reserve(start, length) : munmap(start, length) == 0;
}

// What lies behind is a reservation, which mremap does not grow into; only fresh memory can go there.
bool HostMapper::Grow(void* start, std::size_t length, std::size_t new_length, int prot,
                      bool is_private_anonymous) const {
  if (!is_reserved_) return mremap(start, length, new_length, 0) != MAP_FAILED;
  if (!is_private_anonymous) {
    errno = ENOMEM;
    return false;
  }
  std::byte* const end = static_cast<std::byte*>(start) + length;
  const bool is_mapped = mmap(end, new_length - length, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                              -1, 0) != MAP_FAILED;
  if (!is_mapped) FillHole(end, new_length - length);
  return is_mapped;
}

// MREMAP_DONTUNMAP leaves the old place mapped until the reservation is there again.
bool HostMapper::Move(void* start, std::size_t length, void* target, std::size_t new_length,
                      int flags, int prot, bool is_private_anonymous) const {
  constexpr int kTo = MREMAP_MAYMOVE | MREMAP_FIXED;
  if (!is_reserved_) return mremap(start, length, new_length, flags | kTo, target) != MAP_FAILED;
  if (length == 0 || (new_length > length && !is_private_anonymous)) {
    errno = length == 0 ? EINVAL : ENOMEM;
    return false;
  }
  if (new_length > length && !Grow(target, length, new_length, prot, is_private_anonymous)) {
    return false;
  }
  if (mremap(start, length, length, MREMAP_DONTUNMAP | kTo, target) == MAP_FAILED) {
    const int error = errno;
    Reserve(target, new_length);
    errno = error;
    return false;
  }
  return (flags & MREMAP_DONTUNMAP) != 0 || Reserve(start, length);
}

}  // namespace dunebox::memory
