# Far transfers and iret, to the code and stack segments that ring 3 has anyway.
#include "cases.inc"

CASE far_return
  lea 1f(%rip), %rax
  push $0x33
  push %rax
  SET_FLAGS 0x8d5
  lretq
  ud2
1:ret

CASE far_return_and_release
  push $5; push $6
  lea 1f(%rip), %rax
  push $0x33
  push %rax
  lretq $16
  ud2
1:mov %rsp, %r8
  ret

CASE far_return_selector_upper_bits
  lea 1f(%rip), %rax
  mov $0x1111111111110033, %rbx
  push %rbx
  push %rax
  lretq
  ud2
1:ret

CASE interrupt_return
  mov %rsp, %rbx
  lea 1f(%rip), %rax
  mov %ss, %ecx
  push %rcx
  push %rbx
  push $0x8d7
  push $0x33
  push %rax
  iretq
  ud2
1:ret

CASE interrupt_return_to_another_stack
  mov %rsp, %rbx
  mov %ss, %ecx
  push %rcx
  lea 2048+arena(%rip), %rdx
  push %rdx
  push $0x202
  push $0x33
  lea 1f(%rip), %rax
  push %rax
  iretq
  ud2
1:push %rax
  mov %rsp, %rsi
  mov %rbx, %rsp
  ret

CASE interrupt_return_sets_direction_and_alignment_flags
  mov %rsp, %rbx
  mov %ss, %ecx
  push %rcx
  push %rbx
  push $0x40602
  push $0x33
  lea 1f(%rip), %rax
  push %rax
  iretq
  ud2
1:pushfq
  pop %rdx
  push $0x202
  popfq
  ret

# How code serializes without cpuid.
CASE interrupt_return_in_a_loop
  mov $200, %r8d
1:mov %rsp, %rbx
  mov %ss, %ecx
  push %rcx
  push %rbx
  pushfq
  mov %cs, %ecx
  push %rcx
  lea 2f(%rip), %rax
  push %rax
  iretq
2:dec %r8d
  jnz 1b
  ret

#ifndef HIGH
CASE far_return_of_32_bits
  lea 1f(%rip), %rax
  sub $8, %rsp
  movl $0x33, 4(%rsp)
  mov %eax, (%rsp)
  lretl
  ud2
1:ret

CASE far_jump_by_memory
  lea 1f(%rip), %rax
  mov %eax, 100+arena(%rip)
  movw $0x33, 104+arena(%rip)
  SET_FLAGS 0x8d5
  ljmpl *100+arena(%rip)
  ud2
1:ret

CASE far_call_by_memory
  lea 1f(%rip), %rax
  mov %eax, 100+arena(%rip)
  movw $0x33, 104+arena(%rip)
  lcalll *100+arena(%rip)
  ret
1:mov (%rsp), %rbx
  lretl
#endif

CASE selectors
  mov %cs, %eax
  mov %ss, %ebx
  ret
