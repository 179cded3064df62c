// Two pages side by side, the first with code to its end.
#include <asm/unistd.h>
#include <sys/mman.h>

#include "bare.h"

#define HIDDEN __attribute__((visibility("hidden")))

enum protection { kExecutable, kReadable, kAbsent };

static unsigned char* const first = (unsigned char*)0x300000020000;
static unsigned char* const second = (unsigned char*)0x300000021000;
extern char page_edges_resume[] HIDDEN;
extern uint64_t page_edges_stack HIDDEN;

static void map(unsigned char* page, int protection) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  const long got = system_call(__NR_mmap, (long)page, 4096, protection, flags, -1, 0);
  if (got != (long)page) fail("mmap");
}

HIDDEN void page_edges_remove_second(void) {
  if (system_call(__NR_munmap, (long)second, 4096, 0, 0, 0, 0) != 0) fail("munmap");
}

HIDDEN void page_edges_protect(enum protection protection) {
  map(first, PROT_READ | PROT_WRITE | PROT_EXEC);
  if (protection == kAbsent) {
    page_edges_remove_second();
  } else {
    map(second, protection == kReadable ? PROT_READ | PROT_WRITE : PROT_READ | PROT_WRITE | PROT_EXEC);
  }
  // page_edges_place reads it there.
  first[0] = (unsigned char)protection;
}

// Puts `split` bytes of the code at the end of the first page and the rest at the start of the second, where there is one.
HIDDEN unsigned char* page_edges_place(const unsigned char* code, long length, long split) {
  unsigned char* const at = second - split;
  memset(first + 1, 0xcc, 4095);
  for (long i = 0; i < length; ++i) {
    if (i < split || first[0] != kAbsent) at[i] = code[i];
  }
  return at;
}

HIDDEN enum outcome next_split(int signal, greg_t* registers) {
  if (signal != SIGSEGV) return kEndCase;
  registers[REG_RIP] = (greg_t)page_edges_resume;
  registers[REG_RSP] = (greg_t)page_edges_stack;
  return kContinue;
}
