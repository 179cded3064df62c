// AMOUNT times: overwrite the immediate operand of a function in a page that is both writable
// and executable, then call the function 1,000 times.
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "arguments.h"

extern const unsigned char patched_begin[], patched_immediate[], patched_end[];

typedef uint64_t (*function)(uint64_t);

int main(int argc, char** argv) {
  const long patches = amount_of_work(argc, argv);
  unsigned char* code =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) return 1;
  memcpy(code, patched_begin, (size_t)(patched_end - patched_begin));
  unsigned char* immediate = code + (patched_immediate - patched_begin);
  const function add = (function)(uintptr_t)code;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < patches; ++i) {
    memcpy(immediate, &i, sizeof(i));
    for (int calls = 0; calls < 1000; ++calls) sum = add(sum);
  }
  printf("%lu\n", sum);
  return 0;
}
