// System calls of the loop: no libc, no errno, no thread-local storage, because FS base and the
// allocator belong to a program that may be stopped in the middle of anything. Results are the
// kernel's, -errno on failure.
//
//   const long fd = RawCall(SYS_openat, AT_FDCWD, path, O_RDONLY);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_RAW_CALL_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_RAW_CALL_H_

#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace dune::ring0 {

template <typename T>
long Word(T value) {
  if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<long>(value);
  } else {
    return static_cast<long>(value);
  }
}

template <typename A = long, typename B = long, typename C = long, typename D = long,
          typename E = long, typename F = long>
long RawCall(long number, A a = 0, B b = 0, C c = 0, D d = 0, E e = 0, F f = 0) {
  register long r10 asm("r10") = Word(d);
  register long r8 asm("r8") = Word(e);
  register long r9 asm("r9") = Word(f);
  long result = number;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(Word(a)), "S"(Word(b)), "d"(Word(c)), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

// libc's are reached through a table that the dynamic linker may still have to fill.
inline void CopyBytes(void* to, const void* from, std::size_t size) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}
inline void ZeroBytes(void* to, std::size_t size) {
  asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(0) : "memory");
}
// Of 4 KiB, by words: as fast as by bytes where the processor is told to be fast with those, and elsewhere faster.
inline void CopyPage(void* to, const void* from) {
  std::size_t words = 512;
  asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
}
inline void ZeroPage(void* at) {
  std::size_t words = 512;
  asm volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(0) : "memory");
}

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_RAW_CALL_H_
