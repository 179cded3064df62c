// Code that is written and rewritten while it is used: in an RWX page, through a second mapping, and by mprotect back and forth.
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "expect.h"

typedef int (*function)(void);

static void write_function(unsigned char* at, int value) {
  at[0] = 0xb8;  // mov $value, %eax
  memcpy(at + 1, &value, 4);
  at[5] = 0xc3;
}

static int call(const void* at) { return ((function)(uintptr_t)at)(); }

int main(void) {
  long sum = 0;
  unsigned char* page = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(page != MAP_FAILED);
  for (int i = 0; i < 20000; ++i) {
    write_function(page + i % 64, i);
    sum += call(page + i % 64);
  }
  printf("rewritten in place: %ld\n", sum);

  write_function(page + 4096 - 3, 77);
  printf("across two pages: %d\n", call(page + 4096 - 3));

  // An instruction that changes the one after it: movb $2, 1(%rip); mov $1, %eax; ret.
  static const unsigned char patches_itself[] = {0xc6, 0x05, 0x01, 0, 0, 0, 2, 0xb8, 1, 0, 0, 0, 0xc3};
  memcpy(page, patches_itself, sizeof(patches_itself));
  printf("patches its next instruction: %d\n", call(page));

  int memory = memfd_create("code", 0);
  EXPECT(memory >= 0 && ftruncate(memory, 4096) == 0);
  unsigned char* writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  unsigned char* executable = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, memory, 0);
  EXPECT(writable != MAP_FAILED && executable != MAP_FAILED);
  sum = 0;
  for (int i = 0; i < 1000; ++i) {
    write_function(writable, i * 3);
    sum += call(executable);
  }
  printf("through a second mapping: %ld\n", sum);
  write_function(page, 0);
  EXPECT(pwrite(memory, page, 6, 0) == 6);
  printf("by a system call: %d\n", call(executable));

  sum = 0;
  for (int i = 0; i < 300; ++i) {
    EXPECT(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
    write_function(page, i);
    EXPECT(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
    sum += call(page);
  }
  printf("by turns writable and executable: %ld\n", sum);
  for (int i = 0; i < 100; ++i) {
    unsigned char* fresh = mmap(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    EXPECT(fresh == page);
    write_function(fresh, i);
    EXPECT(call(fresh) == i);
  }
  printf("replaced: ok\n");
  return 0;
}
