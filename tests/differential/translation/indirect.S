# Indirect jumps and calls: by every register and kind of memory operand.
#include "cases.inc"

  .irp register, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
CASE jump_by_\register
  lea 1f(%rip), %\register
  SET_FLAGS 0x8d5
  jmp *%\register
  ud2
1:pushfq
  addq $7, (%rsp)
  popfq
  ret

CASE call_by_\register
  lea 1f(%rip), %\register
  SET_FLAGS 0x8d5
  call *%\register
  SET_FLAGS 0x85
  .byte 0x3e; call *%\register   # notrack
  ret
1:ret

CASE jump_by_memory_at_\register
  lea 1f(%rip), %\register
  mov %\register, 64+arena(%rip)
  lea arena(%rip), %\register
  SET_FLAGS 0x8d5
  jmp *64(%\register)
  ud2
1:ret

CASE call_by_memory_at_\register
  lea 1f(%rip), %\register
  mov %\register, arena(%rip)
  lea arena(%rip), %\register
  SET_FLAGS 0x44
  call *(%\register)
  ret
1:lea 4(%\register), %\register
  ret
  .endr

  .macro ENTRY number, register
entry_\number\()_\register:
  adc $(\number*\number+1), %r8
  rol $(\number+1), %r8
  jmp 2f
  .endm

# One target after the other through the same jump: r8 says who was there.
  .irp register, rax, rcx, r11, rbp, rsi
CASE jump_table_by_\register
  xor %r8d, %r8d; mov $200, %r9d
1:imul $7, %r9d, %r10d
  and $7, %r10d
  lea table_\register(%rip), %\register
  mov (%\register, %r10, 8), %\register
  cmp $60, %r9d
  jmp *%\register
  .irp number, 0, 1, 2, 3, 4, 5, 6, 7
  ENTRY \number, \register
  .endr
2:dec %r9d
  jnz 1b
  ret
  .pushsection .data.rel.ro, "aw", @progbits
  .balign 8
table_\register:
  .quad entry_0_\register, entry_1_\register, entry_2_\register, entry_3_\register
  .quad entry_4_\register, entry_5_\register, entry_6_\register, entry_7_\register
  .popsection
  .endr

CASE jump_table_scaled
  xor %r8d, %r8d; mov $7, %ecx
1:lea table_scaled(%rip), %rbx
  mov %ecx, %edx
  and $3, %edx
  SET_FLAGS 0x41
  jmp *(%rbx, %rdx, 8)
10:adc $1, %r8; jmp 2f
11:adc $10, %r8; jmp 2f
12:adc $100, %r8; jmp 2f
13:adc $1000, %r8; jmp 2f
2:dec %ecx
  jns 1b
  ret
  .pushsection .data.rel.ro, "aw", @progbits
  .balign 8
table_scaled:
  .quad 10b, 11b, 12b, 13b
  .popsection

# Offsets of 32 bits, as compilers make them.
CASE jump_table_of_offsets
  xor %eax, %eax; mov $20, %ecx
1:lea offsets(%rip), %r11
  mov %ecx, %edx
  and $3, %edx
  movslq (%r11, %rdx, 4), %rdx
  add %r11, %rdx
  .byte 0x3e; jmp *%rdx
10:lea 1(%rax), %rax; jmp 2f
11:lea (%rax, %rax), %rax; jmp 2f
12:lea 3(%rax, %rax), %rax; jmp 2f
13:not %rax
2:dec %ecx
  jnz 1b
  ret
  .pushsection .rodata
  .balign 4
offsets:
  .long 10b-offsets, 11b-offsets, 12b-offsets, 13b-offsets
  .popsection

CASE by_memory_relative_to_rip
  call *function_pointer(%rip)
  lea 1f(%rip), %rbx
  mov %rbx, pointer_variable(%rip)
  SET_FLAGS 0x8d5
  jmp *pointer_variable(%rip)
1:ret
double_rax:
  lea (%rax, %rax), %rax
  ret
  .pushsection .data.rel.ro, "aw", @progbits
function_pointer:
  .quad double_rax
  .popsection
  .local pointer_variable
  .comm pointer_variable, 8, 8

CASE by_memory_on_the_stack
  lea 1f(%rip), %rbx
  push %rbx
  push $0
  push $0
  SET_FLAGS 0x8d5
  jmp *16(%rsp)
1:lea 2f(%rip), %rbx
  mov %rbx, (%rsp)
  call *(%rsp)
  mov %rbx, 8(%rsp)
  call *8(%rsp)
  mov $1, %ecx
  call *(%rsp, %rcx, 8)
  add $24, %rsp
  ret
2:mov (%rsp), %rdx
  mov %rsp, %rsi
  ret

# The call's own push overwrites the memory operand, which was read before.
CASE call_overwrites_its_operand
  lea 1f(%rip), %rbx
  push %rbx
  add $8, %rsp
  call *-8(%rsp)
  mov -8(%rsp), %rdx
  ret
1:mov (%rsp), %rcx
  ret

CASE jump_by_indexed_memory
  lea 1f(%rip), %rax
  mov %rax, 808+arena(%rip)
  lea arena(%rip), %rdx
  mov $50, %r12d
  jmp *408(%rdx, %r12, 8)
1:mov $25, %r13d
  call 2f
  ret
2:lea 3f(%rip), %rax
  mov %rax, 200+arena(%rip)
  jmp *(%rdx, %r13, 8)
3:mov $3, %eax
  ret

# The registers of the operand are changed by the jump's target and by nothing else.
CASE call_chain
  lea 1f(%rip), %rax
  lea 2f(%rip), %rcx
  lea 3f(%rip), %r11
  call *%rax
  ret
1:call *%rcx
  xchg %rax, %rcx
  ret
2:call *%r11
  xchg %rcx, %r11
  ret
3:xchg %rax, %r11
  ret

# goto *table[opcode], each instruction with its own jump: add, sub, rotate, swap, decrement and loop, end.
CASE threaded_interpreter
  xor %eax, %eax; mov $0x1234567, %ebx; mov $3000, %ecx
  lea program(%rip), %rsi
  lea operations(%rip), %rdi
  .macro NEXT
  movzbl (%rsi), %edx
  inc %rsi
  jmp *(%rdi, %rdx, 8)
  .endm
  NEXT
10:add %rbx, %rax; NEXT
11:sub %rcx, %rbx; NEXT
12:rol $11, %rax; NEXT
13:xchg %rax, %rbx; NEXT
14:dec %rcx
  je 1f
  lea program(%rip), %rsi
1:NEXT
15:ret
  .pushsection .data.rel.ro, "aw", @progbits
  .balign 8
operations:
  .quad 10b, 11b, 12b, 13b, 14b, 15b
program:
  .byte 0, 1, 2, 3, 0, 0, 2, 1, 3, 2, 4, 5
  .popsection

# 1,000 targets through one jump, then all again in reverse order.
CASE thousand_targets
  lea targets(%rip), %rbx
  xor %eax, %eax; xor %ecx, %ecx
1:imul $7, %ecx, %edx
  add %rbx, %rdx
  call *%rdx
  rol $1, %rax
  inc %ecx
  cmp $1000, %ecx
  jb 1b
2:dec %ecx
  imul $7, %ecx, %edx
  add %rbx, %rdx
  call *%rdx
  rol $1, %rax
  test %ecx, %ecx
  jnz 2b
  ret
targets:
  .set number, 1
  .rept 1000
  .byte 0x48, 0x05                # add $number, %rax; ret
  .long number * 0x01000193 & 0x7fffffff
  ret
  .set number, number + 1
  .endr

CASE the_operand_is_the_stack_pointer
  lea (%rsp), %rbx
  lea 1f(%rip), %rsp
  jmp *%rsp
  ud2
1:xchg %rbx, %rsp
  ret

#ifndef HIGH
CASE by_memory_with_an_address_of_32_bits
  lea 1f(%rip), %rax
  mov %rax, 16+arena(%rip)
  lea arena(%rip), %ebx
  bts $40, %rbx
  jmp *16(%ebx)
1:lea 2f(%rip), %rax
  mov %rax, 16+arena(%rip)
  call *arena+16
  call *16(%ebx)
  ret
2:ret
#endif
