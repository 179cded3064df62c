// Machine code written at run time, in the few forms that the programs of this folder need.
#ifndef DUNEBOX_TESTS_DIFFERENTIAL_TRANSLATION_CODE_H_
#define DUNEBOX_TESTS_DIFFERENTIAL_TRANSLATION_CODE_H_

#include <stdint.h>
#include <sys/mman.h>

#include "../expect.h"

typedef long (*generated)(long);

static inline long call_code(const void* at, long argument) { return ((generated)(uintptr_t)at)(argument); }

// f(x) = value: 11 bytes, the value at offset 2.
static inline size_t put_constant(unsigned char* at, long value) {
  at[0] = 0x48, at[1] = 0xb8;  // movabs $value, %rax
  memcpy(at + 2, &value, 8);
  at[10] = 0xc3;
  return 11;
}

// f(x) = x * factor + addend: 15 bytes.
static inline size_t put_linear(unsigned char* at, int factor, int addend) {
  at[0] = 0x48, at[1] = 0x69, at[2] = 0xc7;  // imul $factor, %rdi, %rax
  memcpy(at + 3, &factor, 4);
  at[7] = 0x48, at[8] = 0x05;  // add $addend, %rax
  memcpy(at + 9, &addend, 4);
  at[13] = 0xc3;
  return 14;
}

static inline unsigned char* map_code(size_t length, int protection) {
  void* at = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(at != MAP_FAILED);
  return at;
}

enum { kRwx = PROT_READ | PROT_WRITE | PROT_EXEC, kRw = PROT_READ | PROT_WRITE, kRx = PROT_READ | PROT_EXEC };

// Copies what stands between two labels of an assembly block.
#define COPY_CODE(to, name)                                            \
  do {                                                                 \
    extern const unsigned char name##_code[], name##_code_end[];       \
    memcpy((to), name##_code, (size_t)(name##_code_end - name##_code)); \
  } while (0)

#define CODE(name, text) \
  __asm__(".pushsection .rodata\n.balign 64\n.globl " #name "_code, " #name "_code_end\n" #name "_code:\n" text "\n" #name "_code_end:\n.popsection\n")

#endif  // DUNEBOX_TESTS_DIFFERENTIAL_TRANSLATION_CODE_H_
