// Code that changes under its own feet, all in one thread: every change counts from the very next instruction on.
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "code.h"

static unsigned char* page;

static void patched_immediates(void) {
  long sum = 0;
  put_linear(page, 1, 0);
  for (int i = 0; i < 3000; ++i) {
    memcpy(page + 3, &i, 4);
    for (int k = 0; k < 100; ++k) sum = sum * 3 + call_code(page, k);
  }
  printf("3,000 patched immediates: %lx\n", sum);
  // Only one byte changes, and not the first of the block.
  sum = 0;
  for (int i = 0; i < 3000; ++i) {
    page[9 + i % 4] = (unsigned char)i;
    sum = sum * 3 + call_code(page, i);
  }
  printf("single bytes: %lx\n", sum);
}

// Each store in the loop changes the instruction right behind it.
CODE(next_instruction,
     "  xor %eax, %eax\n  mov $1000, %ecx\n"
     "1: mov %ecx, 2f+1(%rip)\n"
     "2: mov $0x7fffffff, %edx\n"
     "  imul $3, %rax, %rax\n  add %rdx, %rax\n  dec %ecx\n  jnz 1b\n  ret");
CODE(next_instruction_by_a_string,
     "  xor %eax, %eax\n  mov $200, %r8d\n"
     "1: lea 3f(%rip), %rsi\n  lea 2f(%rip), %rdi\n  mov $4, %ecx\n  incb 3f+1(%rip)\n"
     "  rep movsb\n"
     "2: .byte 0x0f, 0x0b, 0x0f, 0x0b\n"
     "  dec %r8d\n  jnz 1b\n  ret\n"
     "3: .byte 0x04, 0x00, 0x66, 0x90");  // add $n, %al; nop
CODE(next_instruction_by_a_vector,
     "  lea 3f(%rip), %rsi\n  movups (%rsi), %xmm0\n  movups %xmm0, 2f(%rip)\n"
     "2: .rept 8\n  ud2\n  .endr\n"
     "3: .byte 0x48, 0xc7, 0xc0, 0x34, 0x12, 0, 0\n  ret\n  .rept 8\n  int3\n  .endr");
CODE(next_instruction_by_a_push,
     "  mov %rsp, %rdx\n  lea 2f+8(%rip), %rsp\n  mov 3f(%rip), %rax\n"
     "  push %rax\n"
     "2: .rept 4\n  ud2\n  .endr\n"
     "  mov %rdx, %rsp\n  ret\n  .balign 8\n"
     "3: .byte 0xb8, 0x78, 0x56, 0x34, 0x12, 0x90, 0x90, 0x90");
CODE(next_instruction_by_a_call,
     // The return address overwrites a mov's immediate, which is read after the return.
     "  mov %rsp, %rdx\n  lea 2f+10(%rip), %rsp\n  call 3f\n"
     "2: movabs $0x1111111111111111, %rax\n  lea 2b(%rip), %rcx\n  sub %rcx, %rax\n  mov %rdx, %rsp\n  ret\n"
     "3: ret");
CODE(earlier_in_the_loop,
     "  xor %eax, %eax\n  mov $1000, %ecx\n"
     "1: add $0x11, %rax\n  imul $3, %rax, %rax\n"
     "  mov %cl, 1b+3(%rip)\n  dec %ecx\n  jnz 1b\n  ret");
CODE(own_branch,
     // jnz and jz by turns, and a displacement that changes.
     "  xor %eax, %eax\n  mov $100, %ecx\n"
     "1: xorb $1, 2f(%rip)\n  test %ecx, %ecx\n"
     "2: jnz 3f\n  add $3, %rax\n"
     "3: imul $3, %rax, %rax\n  add $7, %rax\n  dec %ecx\n  jnz 1b\n  ret");
CODE(own_call_target,
     "  xor %eax, %eax\n  mov $50, %ecx\n"
     "1: call 5f\n2: xorl $(5f-2b)^(6f-2b), 2b-4(%rip)\n  dec %ecx\n  jnz 1b\n  ret\n"
     "5: lea 3(%rax, %rax), %rax\n  ret\n6: lea 100(%rax), %rax\n  ret");
CODE(overwrites_its_start_and_returns,
     // The first call leaves another function behind: the second one returns 5 + 1.
     "1: mov $77, %eax\n  jmp 2f\n  .rept 8\n  nop\n  .endr\n"
     "2: movl $0x01478d48, 1b(%rip)\n  movb $0xc3, 1b+4(%rip)\n  ret");
CODE(removes_traps_in_its_way,
     "  mov $8, %ecx\n  lea 1f(%rip), %rdi\n  mov $0x90, %eax\n"
     "3: mov %al, (%rdi)\n  inc %rdi\n  dec %ecx\n  jnz 3b\n"
     "1: .rept 4\n  ud2\n  .endr\n"
     "  mov $78, %eax\n  ret");
CODE(becomes_an_infinite_nop,
     "  mov $0xc3, %eax\n  mov %al, 1f(%rip)\n1: jmp 1b");

#define RUN(name)                                                          \
  do {                                                                     \
    COPY_CODE(page + 64, name);                                            \
    const long first = call_code(page + 64, 5);                            \
    COPY_CODE(page + 64, name);                                            \
    printf(#name ": %lx, %lx\n", first, call_code(page + 64, 5));          \
    fflush(stdout);                                                        \
  } while (0)

static long callee(long value) {
  // Called from the page, whose calling code it replaces.
  put_linear(page + 128, 7, (int)value);
  return value + 1;
}

// The caller changes behind the return address while the callee runs.
static void changed_behind_the_return_address(void) {
  long sum = 0;
  for (int i = 0; i < 100; ++i) {
    unsigned char* at = page + 512;
    *at++ = 0x50;                   // push %rax
    *at++ = 0x48, *at++ = 0xb8;     // movabs $callee, %rax
    const uintptr_t target = (uintptr_t)callee;
    memcpy(at, &target, 8);
    at += 8;
    *at++ = 0xff, *at++ = 0xd0;     // call *%rax
    *at++ = 0x59;                   // pop %rcx
    *at++ = 0xe9;                   // jmp page + 128, which is new
    const int distance = (int)(page + 128 - (at + 4));
    memcpy(at, &distance, 4);
    sum = sum * 5 + call_code(page + 512, i);
  }
  printf("changed while a callee runs: %lx\n", sum);
}

// Counters and tables on the same page as the code that uses them.
CODE(mixed_with_data,
     "  xor %eax, %eax\n  mov $20000, %ecx\n"
     "1: mov %ecx, %edx\n  and $7, %edx\n  lea 8f(%rip), %rsi\n  add %rcx, (%rsi, %rdx, 8)\n  add (%rsi, %rdx, 8), %rax\n"
     "  call 3f\n  dec %ecx\n  jnz 1b\n  ret\n"
     "3: incq 9f(%rip)\n  add 9f(%rip), %rax\n  ret\n"
     "8: .quad 0, 0, 0, 0, 0, 0, 0, 0\n9: .quad 0");
CODE(data_between_instructions,
     "  xor %eax, %eax\n  mov $3000, %ecx\n"
     "1: jmp 2f\n8: .long 0\n2: incl 8b(%rip)\n  add 8b(%rip), %eax\n  jmp 3f\n9: .long 0\n3: mov %eax, 9b(%rip)\n  xor 9b(%rip), %edx\n"
     "  dec %ecx\n  jnz 1b\n  ret");

// The same bytes decoded from two starts, then changed through one of them.
static void overlapping(void) {
  static const unsigned char bytes[] = {0xb8, 0x48, 0x8d, 0x47, 0x05, 0xc3, 0xc3};
  // From 0: mov $0x05478d48, %eax; ret. From 1: lea 5(%rdi), %rax; ret.
  memcpy(page, bytes, sizeof(bytes));
  long sum = 0;
  for (int i = 0; i < 200; ++i) {
    page[4] = (unsigned char)(i % 120);
    sum = sum * 3 + call_code(page, i);
    sum = sum * 3 + call_code(page + 1, i);
  }
  printf("overlapping and changed: %lx\n", sum);
}

static void by_system_calls(void) {
  int ends[2], sockets[2];
  char name[] = "code";
  EXPECT(pipe(ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
  FILE* file = fopen(name, "w+");
  EXPECT(file != NULL);
  const int fd = fileno(file);
  long sum = 0;
  unsigned char code[32];
  for (int i = 0; i < 100; ++i) {
    size_t length = put_constant(code, i * 10 + 1);
    EXPECT(write(ends[1], code, length) == (ssize_t)length && read(ends[0], page, length) == (ssize_t)length);
    sum = sum * 3 + call_code(page, 0);
    put_constant(code, i * 10 + 2);
    EXPECT(send(sockets[0], code, length, 0) == (ssize_t)length && recv(sockets[1], page, sizeof(code), 0) == (ssize_t)length);
    sum = sum * 3 + call_code(page, 0);
    put_constant(code, i * 10 + 3);
    EXPECT(pwrite(fd, code, length, 5) == (ssize_t)length && pread(fd, page, length, 5) == (ssize_t)length);
    sum = sum * 3 + call_code(page, 0);
    put_constant(code, i * 10 + 4);
    struct iovec parts[2] = {{page, 4}, {page + 4, length - 4}};
    EXPECT(pwrite(fd, code, length, 5) == (ssize_t)length && preadv(fd, parts, 2, 5) == (ssize_t)length);
    sum = sum * 3 + call_code(page, 0);
    // Across a page's edge, into a page that ran.
    put_constant(code, i * 10 + 5);
    EXPECT(pwrite(fd, code, length, 5) == (ssize_t)length && pread(fd, page + 4096 - 3, length, 5) == (ssize_t)length);
    sum = sum * 3 + call_code(page + 4096 - 3, 0);
    // Into a page that is not executable while it is written.
    put_constant(code, i * 10 + 6);
    EXPECT(mprotect(page, 4096, kRw) == 0 && pwrite(fd, code, length, 5) == (ssize_t)length);
    EXPECT(pread(fd, page, length, 5) == (ssize_t)length && mprotect(page, 4096, kRx) == 0);
    sum = sum * 3 + call_code(page, 0);
    errno = 0;
    EXPECT(pread(fd, page, length, 5) == -1 && errno == EFAULT);
    EXPECT(mprotect(page, 4096, kRwx) == 0);
    sum = sum * 3 + call_code(page, 0);
  }
  EXPECT(fclose(file) == 0 && unlink(name) == 0);
  EXPECT(close(ends[0]) == 0 && close(ends[1]) == 0 && close(sockets[0]) == 0 && close(sockets[1]) == 0);
  printf("by system calls: %lx\n", sum);
}

// The kernel writes into the page in the middle of the code that called it.
CODE(system_call_changes_what_follows,
     "  mov %edi, %edi\n  lea 2f+1(%rip), %rsi\n  mov $4, %edx\n  xor %eax, %eax\n  syscall\n"
     "2: mov $0x11111111, %eax\n  ret");

static void changed_by_its_own_system_call(void) {
  int ends[2];
  EXPECT(pipe(ends) == 0);
  long sum = 0;
  COPY_CODE(page + 64, system_call_changes_what_follows);
  for (int i = 0; i < 100; ++i) {
    const int value = i * 77;
    EXPECT(write(ends[1], &value, 4) == 4);
    sum = sum * 3 + call_code(page + 64, ends[0]);
  }
  printf("changed by its own system call: %lx\n", sum);
}

int main(void) {
  page = map_code(3 * 4096, kRwx);
  patched_immediates();
  RUN(next_instruction);
  RUN(next_instruction_by_a_string);
  RUN(next_instruction_by_a_vector);
  RUN(next_instruction_by_a_push);
  RUN(next_instruction_by_a_call);
  RUN(earlier_in_the_loop);
  RUN(own_branch);
  RUN(own_call_target);
  COPY_CODE(page + 64, overwrites_its_start_and_returns);
  const long first = call_code(page + 64, 5);
  printf("overwrites its start: %ld, %ld\n", first, call_code(page + 64, 5));
  RUN(removes_traps_in_its_way);
  RUN(becomes_an_infinite_nop);
  changed_behind_the_return_address();
  RUN(mixed_with_data);
  RUN(data_between_instructions);
  overlapping();
  by_system_calls();
  changed_by_its_own_system_call();
  return 0;
}
