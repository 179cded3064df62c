// Makes the host mappings of guest memory, under isolation pku with the guest's protection key.
// Where memory is replaced nobody ever sees it with another key: the kernel gives fresh mappings
// key 0, which system calls and siblings could not touch.
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

  // As mmap(2) with MAP_FIXED or MAP_FIXED_NOREPLACE in `flags`.
  void* Map(void* wanted, std::size_t length, int prot, int flags, int fd, off_t offset) const;
  // Gives an existing mapping the key. False: errno says why.
  bool Adopt(void* start, std::size_t length, int prot) const;

 private:
  int key_ = 0;
};

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_HOST_MAPPER_H_
