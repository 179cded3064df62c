# The syscall instruction: RCX becomes the next address, R11 the flags, all else stays.
#include "cases.inc"
#include <asm/unistd.h>

CASE no_such_call
  mov $0xffff, %eax
  syscall
1:lea 1b(%rip), %rbx
  sub %rcx, %rbx
  ret

  .irp value, 0, 0x8d5, 0x400, 0x240000, 0x4000
CASE flags_\value
  mov $__NR_sched_yield, %eax
  SET_FLAGS \value
  syscall
  pushfq
  push $0x202
  popfq
  pop %rbx
  ret
  .endr

CASE two_in_a_row
  mov $0xffff, %eax
  syscall
  syscall
  mov %rcx, %rbx
  mov $0xffff, %eax
  stc
  syscall
  ret

CASE jumped_to
  mov $0xffff, %eax
  jmp 2f
1:ret
2:syscall
  jmp 1b

CASE called_in_a_loop
  mov $500, %ebx
  xor %r8d, %r8d
1:mov $__NR_sched_yield, %eax
  cmp $250, %ebx
  syscall
  adc %r11, %r8
  xor %rcx, %r8
  dec %ebx
  jnz 1b
  ret

# The kernel reads and writes memory at addresses relative to the stack pointer, below it too.
CASE memory_below_the_stack_pointer
  movq $0, -64(%rsp)
  movq $0, -56(%rsp)
  mov $__NR_getrlimit, %eax
  mov $4, %edi                 # RLIMIT_CORE, which the harness has set to 0
  lea -64(%rsp), %rsi
  syscall
  mov -64(%rsp), %rbx
  ret

CASE bad_pointer
  mov $__NR_getrlimit, %eax
  mov $4, %edi
  mov $0x10, %esi
  syscall
  ret

CASE vector_registers_stay
  pcmpeqd %xmm3, %xmm3
  fldpi
  mov $__NR_sched_yield, %eax
  syscall
  fstps arena(%rip)
  ret

CASE upper_half_of_the_number
  mov $0x123456780000ffff, %rax
  syscall
  ret

# RCX is the address of code that can be jumped to.
CASE jump_by_rcx
  mov $0xffff, %eax
  xor %ebx, %ebx
  syscall
  inc %ebx
  cmp $3, %ebx
  je 1f
  jmp *%rcx
1:ret

CASE in_the_middle_of_flags_that_live
  mov $0xffff, %eax
  cmp $1, %ebx
  syscall
  jc 1f
  lea 1(%rbx), %rbx
1:sbb %rdx, %rdx
  ret
