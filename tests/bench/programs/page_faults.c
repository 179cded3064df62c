// AMOUNT times: 256 pages are mapped, each touched once, and given back.
#include <sys/mman.h>

#include "arguments.h"

enum { kPage = 4096, kPages = 256 };

int main(int argc, char** argv) {
  long touched = 0;
  for (long left = amount_of_work(argc, argv); left > 0; --left) {
    volatile char* memory = mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 1;
    // A page is what is measured, not 2 MiB of them.
    if (madvise((void*)memory, kPages * kPage, MADV_NOHUGEPAGE) != 0) return 1;
    for (long page = 0; page < kPages; ++page) {
      memory[page * kPage] = 1;  // first, or a page of zeros would be mapped and copied
      touched += memory[page * kPage + 1] == 0;
    }
    if (munmap((void*)memory, kPages * kPage) != 0) return 1;
  }
  printf("%ld pages\n", touched);
  return 0;
}
