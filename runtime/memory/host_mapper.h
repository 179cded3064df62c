// Makes the host mappings of guest memory, under isolation pku with the guest's protection key.
// Where memory is replaced nobody ever sees it with another key: the kernel gives fresh mappings
// key 0, which system calls and siblings could not touch.
//
// In a reserved window (hostcalls::Window::is_reserved) no address is ever free for the rest of the
// process, not even for a moment: what is unmapped becomes a reservation again in the same call. (Where a kernel unmaps
// before it refuses to map, it becomes one in the next.)
#ifndef DUNEBOX_RUNTIME_MEMORY_HOST_MAPPER_H_
#define DUNEBOX_RUNTIME_MEMORY_HOST_MAPPER_H_

#include <sys/types.h>

#include <cstddef>

namespace dunebox::memory {

class HostMapper {
 public:
  // 0: none of its own.
  void SetKey(int key) { key_ = key; }
  int key() const { return key_; }
  void SetReserved(bool is_reserved) { is_reserved_ = is_reserved; }

  // As mmap(2) with MAP_FIXED or MAP_FIXED_NOREPLACE in `flags`.
  void* Map(void* wanted, std::size_t length, int prot, int flags, int fd, off_t offset) const;
  // As munmap(2).
  bool Unmap(void* start, std::size_t length) const;
  // As mremap(2) to the same place.
  bool Grow(void* start, std::size_t length, std::size_t new_length, int prot,
            bool is_private_anonymous) const;
  // As mremap(2) with MREMAP_MAYMOVE | MREMAP_FIXED and `flags`.
  bool Move(void* start, std::size_t length, void* target, std::size_t new_length, int flags,
            int prot, bool is_private_anonymous) const;
  // Gives an existing mapping the key. False: errno says why.
  bool Adopt(void* start, std::size_t length, int prot) const;

 private:
  bool Reserve(void* start, std::size_t length) const;

  int key_ = 0;
  bool is_reserved_ = false;
};

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_HOST_MAPPER_H_
