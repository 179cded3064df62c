// Copies 64 MiB AMOUNT times with the C library's memcpy, as wide as the processor has registers.
#include <stdint.h>
#include <string.h>

#include "arguments.h"

enum { kBytes = 64 << 20 };

int main(int argc, char** argv) {
  uint64_t* from = malloc(kBytes);
  uint64_t* to = malloc(kBytes);
  if (from == NULL || to == NULL) return 1;
  for (uint64_t i = 0; i < kBytes / 8; ++i) from[i] = i * 0x9e3779b97f4a7c15;
  uint64_t sum = 0;
  for (long left = amount_of_work(argc, argv); left > 0; --left) {
    from[left % 4096] += (uint64_t)left;
    memcpy(to, from, kBytes);
    sum = sum * 31 + to[left % 4096] + to[kBytes / 8 - 1];
  }
  printf("%016lx\n", sum);
  return 0;
}
