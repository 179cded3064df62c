// Addresses that a program insists on: MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_32BIT, hints, and its own link-time alignment.
#include <elf.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "expect.h"

enum { kFlags = MAP_PRIVATE | MAP_ANONYMOUS };

static void at(uint64_t address, uint64_t bytes) {
  char* wanted = (char*)address;
  char* got = mmap(wanted, bytes, PROT_READ | PROT_WRITE, kFlags | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) {
    printf("0x%lx: %s\n", (unsigned long)address, strerror(errno));
    return;
  }
  EXPECT(got == wanted);
  got[0] = 1;
  got[bytes - 1] = 2;
  EXPECT(mmap(wanted, bytes, PROT_READ, kFlags | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
  // Plain MAP_FIXED replaces, and what is there is fresh.
  EXPECT(mmap(wanted, bytes, PROT_READ, kFlags | MAP_FIXED, -1, 0) == wanted);
  EXPECT(got[0] == 0 && got[bytes - 1] == 0);
  EXPECT(munmap(got, bytes) == 0);
  printf("0x%lx: mapped\n", (unsigned long)address);
}

static void own_alignment(void) {
  const Elf64_Phdr* headers = (const Elf64_Phdr*)getauxval(AT_PHDR);
  uint64_t bias = 0, alignment = 1;
  for (unsigned long i = 0; i < getauxval(AT_PHNUM); ++i) {
    if (headers[i].p_type == PT_PHDR) bias = (uint64_t)headers - headers[i].p_vaddr;
    if (headers[i].p_type == PT_LOAD && headers[i].p_align > alignment) alignment = headers[i].p_align;
  }
  printf("alignment 0x%lx, load bias is aligned: %d\n", (unsigned long)alignment, bias % alignment == 0);
}

int main(void) {
  own_alignment();
  at(0x10000, 4096);
  at(0x20000, 16 * 4096);
  at(0x7fff0000, 65536);
  at(0x80000000, 65536);
  at(0x100000000, 1 << 20);
  at(0x123456789000, 3 * 4096);
  at(0x3f0000000000, 4096);
  at(0xfffff000, 8192);
  at(0x12345678001, 4096);          // unaligned: EINVAL
  at(0x7ffffffff000, 4096);         // beyond the last page a program may have
  at(0x8000000000000000, 4096);     // no address at all
  at(0xffffffff80000000, 4096);     // the kernel's
  for (int i = 0; i < 20; ++i) {
    char* low = mmap(NULL, 4096 * (size_t)(i + 1), PROT_READ | PROT_WRITE, kFlags | MAP_32BIT, -1, 0);
    EXPECT(low != MAP_FAILED && (uint64_t)low < 0x80000000);
    low[0] = 1;
  }
  printf("MAP_32BIT\n");
  char* hinted = mmap((void*)0x234560000000, 8192, PROT_READ, kFlags, -1, 0);
  EXPECT(hinted == (char*)0x234560000000);
  char* elsewhere = mmap((void*)0x234560000000, 8192, PROT_READ, kFlags, -1, 0);
  EXPECT(elsewhere != MAP_FAILED && elsewhere != hinted);
  char* rounded = mmap((void*)0x234570000123, 4096, PROT_READ, kFlags, -1, 0);
  EXPECT(((uint64_t)rounded & 4095) == 0);
  printf("hints; an odd one was rounded %s\n", (uint64_t)rounded == 0x234570001000 ? "up" : (uint64_t)rounded == 0x234570000000 ? "down" : "elsewhere");
  EXPECT(mmap(NULL, 0, PROT_READ, kFlags, -1, 0) == MAP_FAILED);
  printf("length 0: %s\n", strerror(errno));
  EXPECT(mmap(NULL, (size_t)1 << 47, PROT_NONE, kFlags | MAP_NORESERVE, -1, 0) == MAP_FAILED);
  printf("length 2^47: %s\n", strerror(errno));
  EXPECT(mmap(NULL, SIZE_MAX, PROT_NONE, kFlags | MAP_NORESERVE, -1, 0) == MAP_FAILED);
  printf("length 2^64-1: %s\n", strerror(errno));
  EXPECT(munmap((void*)0x234560000001, 4096) != 0);
  printf("munmap of an odd address: %s\n", strerror(errno));
  EXPECT(munmap((void*)0x234580000000, 4096) == 0);
  printf("munmap of nothing succeeds\n");
  return 0;
}
