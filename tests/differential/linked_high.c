// A program that is linked to lie where the translator's layout has libraries and the vDSO: it has its place, and they another.
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

static char room[160 << 20];  // with 0x57000000 as the program's start, to 0x61000000

int main(void) {
  const unsigned long first = (unsigned long)room, last = first + sizeof(room);
  EXPECT(first >= 0x57000000 && last <= 0x62000000);
  room[0] = 1;
  room[sizeof(room) - 1] = 2;
  const unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
  EXPECT(vdso != 0 && (vdso < 0x57000000 || vdso >= last));
  struct timespec now;
  EXPECT(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && (now.tv_sec != 0 || now.tv_nsec != 0));
  // The heap grows behind the program; a mapping lies elsewhere.
  char* const heap = sbrk(1 << 20);
  EXPECT(heap != (char*)-1 && (unsigned long)heap >= last);
  heap[0] = heap[(1 << 20) - 1] = 3;
  char* const mapping = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(mapping != MAP_FAILED && (mapping + (1 << 20) <= (char*)0x57000000 || (unsigned long)mapping >= last));
  printf("room %d %d\n", room[0], room[sizeof(room) - 1]);
  return 0;
}
