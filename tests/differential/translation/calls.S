# Calls and returns, matched and not.
#include "cases.inc"

CASE call_and_return
  SET_FLAGS 0x8d5
  call 1f
  add $1, %rax
  call 1f
  ret
1:lea 100(%rax), %rax
  ret

CASE call_the_next_instruction
  call 1f
1:pop %rax
  lea 1b(%rip), %rbx
  sub %rax, %rbx
  ret

CASE return_and_release
  push %rax; push %rcx; push %rdx
  call 1f
  mov %rsp, %r8
  push $7
  call 2f
  ret
1:ret $24
2:mov 8(%rsp), %r9
  ret $8

CASE return_and_release_much
  sub $40000, %rsp
  call 1f
  mov %rsp, %r8
  ret
1:mov %rsp, %r9
  ret $40000

CASE return_and_release_nothing
  call 1f
  ret
1:ret $0

CASE return_with_prefixes
  call 1f
  call 2f
  .byte 0xf2; call 1f
  call 3f
  .byte 0xf3, 0xc3
1:.byte 0xf3; ret   # rep
2:.byte 0xf2; ret   # bnd
3:.byte 0x48; ret   # REX.W

CASE push_and_return
  lea 1f(%rip), %rax
  push %rax
  SET_FLAGS 0x8d5
  ret
  ud2
1:mov $1, %ebx
  ret

CASE return_to_a_changed_address
  call 1f
  ud2
2:mov $5, %ebx
  ret
1:lea 2b(%rip), %rax
  mov %rax, (%rsp)
  ret

CASE return_skips_bytes_after_the_call
  call 1f
  .quad 0x1122334455667788
  mov $6, %ebx
  ret
1:mov (%rsp), %rax
  mov (%rax), %rcx
  addq $8, (%rsp)
  ret

CASE return_over_three_frames
  mov %rsp, %rbp
  call 1f
  ud2
1:call 2f
  ud2
2:call 3f
  ud2
3:mov %rbp, %rsp
  mov $9, %eax
  ret

CASE return_twice_to_the_same_place
  xor %r8d, %r8d
  lea 1f(%rip), %rax
  push %rax; push %rax; push %rax
  ret
1:inc %r8d
  cmp $3, %r8d
  jb 2f
  ret
2:ret

CASE tail_calls
  call 1f
  ret
1:lea 1(%rax), %rax
  jmp 2f
2:lea 2(%rbx), %rbx
  lea 3f(%rip), %r11
  jmp *%r11
3:ret

CASE recursion_100000_deep
  mov $100000, %edi
  xor %eax, %eax
  call 1f
  ret
1:test %edi, %edi
  je 2f
  push %rdi
  dec %edi
  call 1b
  pop %rdi
  lea (%rdi, %rax, 2), %rax
  rol $5, %rax
2:ret

CASE recursion_fibonacci
  mov $20, %edi
1:call 2f
  ret
2:cmp $2, %edi
  jae 3f
  mov %edi, %eax
  ret
3:push %rdi
  dec %edi
  call 2b
  pop %rdi
  push %rax
  sub $2, %edi
  call 2b
  pop %rcx
  add %rcx, %rax
  ret

CASE mutual_recursion
  mov $1000, %edi
  call 1f
  ret
1:inc %r8d
  dec %edi
  je 3f
  call 2f
  inc %r10d
  ret
2:inc %r9d
  dec %edi
  je 3f
  call 1b
  inc %r11d
3:ret

# Many call sites of one function, each to be returned to.
CASE one_function_from_256_places
  xor %eax, %eax; mov $20, %ecx
1:
  .rept 256
  call multiply
  add %ecx, %eax
  .endr
  dec %ecx
  jnz 1b
  ret
multiply:
  imul $0x01000193, %rax, %rax
  inc %rax
  ret

CASE enter_and_leave
  enter $32, $0
  mov %rbp, %r8
  mov %rsp, %r9
  movq $1, -8(%rbp)
  leave
  ret

CASE enter_nested
  enter $16, $0
  enter $16, $1
  enter $24, $2
  enter $8, $5
  mov %rsp, %r8
  leave
  leave
  leave
  leave
  ret

# Two stacks that change hands: returns that match no call.
CASE coroutines
  lea 3000+arena(%rip), %rbx
  lea 2f(%rip), %rax
  sub $8, %rbx
  mov %rax, (%rbx)
  mov $100, %ecx
  xor %eax, %eax
1:call 9f
  lea (%rax, %rcx, 2), %rax
  dec %ecx
  jnz 1b
  ret
2:add $7, %rax
  call 9f
  rol $3, %rax
  call 9f
  jmp 2b
9:xchg %rbx, %rsp
  ret

CASE call_direct_near_the_limits_of_a_byte
  call 1f
  .skip 130, 0x90
  ret
1:nop
  ret

# The stack pointer as an operand: its value before, after, or of the address.
CASE stack_pointer_operands
  push %rsp
  pop %r8
  push (%rsp)
  pop %r9
  pushq 8(%rsp)
  popq 8(%rsp)
  push $0
  push $0x1234
  popq (%rsp)
  pop %r14
  sub $8, %rsp
  push %rax
  pop (%rsp)
  mov %rsp, %r10
  pop %r11
  push %rsp
  pop %rsp
  mov %rsp, %r12
  pushw $7
  popw %r13w
  ret

CASE pop_the_stack_pointer
  mov %rsp, %rbx
  lea 1000+arena(%rip), %rax
  push %rax
  pop %rsp
  push %rcx
  mov %rsp, %r8
  mov %rbx, %rsp
  ret

# What lies below the stack pointer belongs to the program.
CASE below_the_stack_pointer
  .irp offset, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128
  movq $0x55000000+\offset, -\offset(%rsp)
  .endr
  jmp 1f
1:test %eax, %eax
  jne 2f
2:lea 3f(%rip), %r11
  jmp *%r11
3:xor %eax, %eax
  .irp offset, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128
  imul $3, %rax, %rax
  add -\offset(%rsp), %rax
  .endr
  ret
