# Faults at exact instructions with exact registers; most cases end there, some are continued by faults_handlers.c.
#include "cases.inc"

# Below this address a page that can be written, above it one without any access; set_up maps them.
  .set unmapped, 0x300000010000

# Registers that change before the fault, so that each of its neighbours would show.
  .macro WORK
  add $3, %rax; xor %rax, %rbx; rol $5, %rbx; lea (%rbx, %rcx), %rcx; imul $7, %r8, %r8
  .endm

CASE load_in_straight_code
  WORK
  mov $0x18, %edi
  add $1, %r9
  mov (%rdi), %rdx
  add $1, %r9
  WORK
  ret

CASE store_in_straight_code
  WORK
  lea load_in_straight_code(%rip), %rdi
  mov %rax, 4(%rdi)
  WORK
  ret

CASE first_instruction_of_a_block
  xor %edi, %edi
  jmp 1f
1:cmpb $1, 0x77(%rdi)
  ret

CASE last_instruction_before_a_jump
  xor %edi, %edi
  WORK
  testb $1, 0x78(%rdi)
  jz 1f
  WORK
1:ret

CASE in_the_tenth_round_of_a_loop
  mov $20, %ecx
  lea arena(%rip), %rdi
1:add (%rdi), %rax
  rol $3, %rax
  add $8, %rdi
  dec %ecx
  cmp $10, %ecx
  cmove %rcx, %rdi
  jmp 1b

CASE read_modify_write
  mov $0x20, %edi
  WORK
  lock xadd %rax, (%rdi)
  ret

CASE relative_to_rip
  WORK
  mov %rax, load_in_straight_code+8(%rip)
  ret

CASE relative_to_rip_with_an_immediate
  WORK
  addl $0x12345678, load_in_straight_code+8(%rip)
  ret

CASE flags_at_the_fault
  SET_FLAGS 0xcd5
  mov 0x30, %rax
  ret

CASE flags_computed_but_never_used
  mov $0x7fffffff, %eax
  add $1, %eax
  mov 0x38, %ebx
  cmp $1, %ebx
  ret

CASE repeated_move_in_the_middle
  lea arena(%rip), %rsi
  mov $unmapped, %rdi
  sub $40, %rdi
  mov $100, %ecx
  rep movsb
  ret

CASE repeated_scan_in_the_middle
  mov $unmapped, %rdi
  sub $64, %rdi
  mov $0x5, %eax
  mov $100, %ecx
  repne scasq
  ret

CASE load_across_pages
  mov $unmapped, %rdi
  mov -3(%rdi), %rax
  ret

CASE vector_load
  WORK
  mov $unmapped, %rdi
  movups -8(%rdi), %xmm3
  ret

CASE vector_load_misaligned
  movaps 4+arena(%rip), %xmm3
  ret

CASE push_on_a_bad_stack
  mov $unmapped+4096, %rsp
  push %rax
  ret

CASE push_of_an_immediate_on_a_bad_stack
  mov $0x40, %esp
  push $5
  ret

CASE pop_from_a_bad_stack
  mov $unmapped+16, %rsp
  pop %rbx
  ret

CASE pop_to_bad_memory
  mov $unmapped+64, %rax
  pop (%rax)
  ret

CASE push_of_bad_memory
  mov $unmapped+64, %rax
  push (%rax)
  ret

CASE pushf_on_a_bad_stack
  mov $unmapped+24, %rsp
  pushfq
  ret

CASE popf_from_a_bad_stack
  mov $unmapped+32, %rsp
  popfq
  ret

CASE call_on_a_bad_stack
  mov $unmapped+4096, %rsp
  WORK
  call 1f
  ud2
1:ret

CASE indirect_call_on_a_bad_stack
  mov $unmapped+4096, %rsp
  lea 1f(%rip), %rdx
  call *%rdx
  ud2
1:ret

CASE return_on_a_bad_stack
  mov $unmapped+48, %rsp
  WORK
  ret

CASE return_and_release_on_a_bad_stack
  mov $unmapped+48, %rsp
  ret $16

CASE leave_to_a_bad_stack
  mov $unmapped+80, %rbp
  leave
  ret

CASE enter_on_a_bad_stack
  mov $unmapped+4096, %rsp
  enter $16, $0
  ret

CASE noncanonical_stack_for_a_push
  mov $0x0800000000000000, %rsp
  push %rax
  ret

CASE noncanonical_stack_for_a_call
  mov $0x0800000000000000, %rsp
  call 1f
1:ret

CASE noncanonical_stack_for_a_return
  mov $0x0800000000000000, %rsp
  ret

CASE jump_to_an_unmapped_page
  mov $unmapped+0x123, %rax
  WORK
  jmp *%rax
  ret

CASE call_to_an_unmapped_page
  mov $unmapped+0x124, %rdx
  WORK
  call *%rdx
  ret

CASE jump_by_bad_memory
  mov $unmapped+0x30, %rax
  WORK
  jmp *8(%rax)

CASE call_by_bad_memory
  mov $unmapped+0x30, %rdx
  WORK
  call *8(%rdx)
  ret

CASE return_to_an_unmapped_page
  mov $unmapped+0x125, %rax
  push %rax
  WORK
  ret

CASE return_to_page_zero
  push $0
  ret

CASE jump_to_data
  lea 100+arena(%rip), %rbx
  WORK
  jmp *%rbx

CASE call_to_data
  lea 100+arena(%rip), %rdx
  call *%rdx
  ret

CASE return_to_data
  lea 100+arena(%rip), %rbx
  push %rbx
  ret

CASE direct_jump_to_an_unmapped_page
  WORK
  .byte 0xe9
  .long 0x40000000
  ret

CASE direct_call_to_an_unmapped_page
  WORK
  .byte 0xe8
  .long 0x40000000
  ret

CASE conditional_jump_to_an_unmapped_page
  cmp %rax, %rax
  .byte 0x0f, 0x84
  .long 0x40000000
  ret

CASE conditional_jump_to_an_unmapped_page_not_taken
  cmp %rax, %rax
  .byte 0x0f, 0x85
  .long 0x40000000
  ret

CASE jump_to_a_noncanonical_address
  mov $0x0800000000001234, %rax
  jmp *%rax

CASE call_to_a_noncanonical_address
  mov $0x0800000000001234, %rax
  call *%rax
  ret

CASE return_to_a_noncanonical_address
  mov $0x0800000000001234, %rax
  push %rax
  ret

CASE jump_to_a_kernel_address
  mov $0xffffffff81000000, %rax
  jmp *%rax

CASE load_of_a_noncanonical_address
  mov $0x0800000000000000, %rax
  mov (%rax), %rbx
  ret

CASE load_of_a_kernel_address
  mov $0xffffffff81000000, %rax
  mov (%rax), %rbx
  ret

CASE breakpoint
  WORK
  int3
  WORK
  ret

CASE undefined_instruction
  WORK
  ud2
  WORK
  ret

CASE undefined_instruction_one
  WORK
  .byte 0x0f, 0xb9, 0xc1     # ud1 %ecx, %eax
  ret

CASE undefined_instruction_in_64_bits
  .byte 0x06                 # push %es
  ret

CASE lock_prefix_where_none_may_be
  WORK
  .byte 0xf0, 0x48, 0x89, 0xc3
  ret

CASE instruction_longer_than_15_bytes
  .byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
  ret

CASE divide_by_zero
  WORK
  xor %esi, %esi
  mov $77, %eax
  xor %edx, %edx
  div %esi
  ret

CASE divide_overflow
  mov $-0x8000000000000000, %rax
  cqo
  mov $-1, %rcx
  idiv %rcx
  ret

CASE divide_by_memory_of_zero
  movq $0, arena(%rip)
  idivl arena(%rip)
  ret

CASE x87_unmasked
  movw $0x37b, arena(%rip)
  fldcw arena(%rip)
  fldz
  fld1
  fdivp %st, %st(1)
  WORK
  fwait
  ret

CASE vector_unmasked
  movl $0x1d80, arena(%rip)
  ldmxcsr arena(%rip)
  pxor %xmm0, %xmm0
  mov $1, %eax
  cvtsi2sd %eax, %xmm1
  WORK
  divsd %xmm0, %xmm1
  ret

  .macro PRIVILEGED name, instruction
CASE privileged_\name
  WORK
  \instruction
  ret
  .endm
  PRIVILEGED hlt, hlt
  PRIVILEGED cli, cli
  PRIVILEGED sti, sti
  PRIVILEGED clts, clts
  PRIVILEGED wbinvd, wbinvd
  PRIVILEGED rdmsr, rdmsr
  PRIVILEGED wrmsr, wrmsr
  PRIVILEGED sysret, sysretq
  PRIVILEGED swapgs, swapgs
  PRIVILEGED read_cr0, "mov %cr0, %rax"
  PRIVILEGED write_cr3, "mov %rax, %cr3"
  PRIVILEGED read_dr7, "mov %dr7, %rax"
  PRIVILEGED in, "in $0x80, %al"
  PRIVILEGED out, "out %al, $0x80"
  PRIVILEGED lgdt, "lgdt arena(%rip)"
  PRIVILEGED ltr, "ltr %ax"
  PRIVILEGED invlpg, "invlpg (%rsp)"
  PRIVILEGED insb, insb

CASE interrupt_without_a_gate
  WORK
  int $0x99
  ret

CASE alignment_check
  push $0x40202
  popfq
  WORK
  lea arena(%rip), %rdi
  mov 1(%rdi), %eax
  ret

CASE interrupt_return_to_a_bad_selector
  push $0x2b
  push %rsp
  push $0x202
  push $0x10
  push $0
  iretq

CASE far_return_to_a_bad_selector
  push $0x10
  push $0
  lretq

CASE load_of_a_bad_selector
  mov $0x10, %eax
  mov %eax, %ds
  ret

# ---- Continued by a handler -------------------------------------------------------------------------------------------------

# The handler puts the arena's address into rdi and returns: the instruction runs again.
CASE repaired_register, repair_rdi
  mov $0x18, %edi
  add $1, %r9
  mov 8(%rdi), %rdx
  add $1, %r9
  mov %rdx, 16(%rdi)
  ret

# The handler changes every register, the flags too, and goes on behind the instruction.
CASE all_registers_changed, change_all_registers
  xor %edi, %edi
  movzbl 5(%rdi), %eax           # 4 bytes
  pushfq
  pop %rdi
  ret

CASE all_registers_changed_in_a_call, change_all_registers
  mov $unmapped+0x124, %rdx
  call 1f
  ret
1:movzbl 5, %eax                 # 8 bytes
  jc 2f
  mov $0, %eax
2:ret

CASE redirected, go_to_landing
  xor %edi, %edi
  mov (%rdi), %rax
  ud2

CASE breakpoints_return_behind_themselves, go_on
  mov $100, %ecx
1:add $3, %rax
  int3
  rol $1, %rax
  dec %ecx
  jnz 1b
  ret

CASE jump_to_nowhere_returns_to_its_caller, pop_to_caller
  mov $200, %r12d
1:mov $unmapped, %rax
  add %r12, %rax
  call *%rax
  inc %rbx
  dec %r12d
  jnz 1b
  ret

CASE faults_skipped_in_a_loop, skip_four_bytes
  mov $1000, %ecx
  xor %edi, %edi
1:add %rcx, %rax
  rol $1, %rax
  movzbl 0x10(%rdi), %edx        # 4 bytes
  sub $3, %rbx
  dec %ecx
  jnz 1b
  ret

CASE undefined_instructions_emulated, skip_two_bytes
  mov $200, %ecx
1:ud2
  lea 1(%rax), %rax
  loop 1b
  ret

  # TF set: a trap behind each of the instructions, whose number and places the handler adds up.
CASE single_steps, count_steps
  pushfq
  orl $0x100, (%rsp)
  popfq
  nop
  add $1, %rax
  jmp 1f
  nop
1:call 2f
  mov $4, %ecx
3:loop 3b
  mov $3, %ecx
  lea arena(%rip), %rdi
  rep stosb
  jrcxz 4f
4:cmp %rax, %rax
  je 5f
  nop
5:lea 6f(%rip), %rdx
  jmp *%rdx
6:push %rax
  pop %rbx
  pushfq
  pop %r11
  pushfq
  andl $~0x100, (%rsp)
  popfq
  nop
  nop
  ret
2:ret $0

CASE single_steps_over_a_system_call, count_steps
  pushfq
  orl $0x100, (%rsp)
  popfq
  mov $0xffff, %eax
  syscall
  nop
  nop
  mov %r11, %rbx
  pushfq
  andl $~0x100, (%rsp)
  popfq
  nop
  ret

CASE single_step_switched_on_by_a_handler, start_stepping
  xor %edi, %edi
  movzbl 5(%rdi), %eax           # 4 bytes
  add $1, %rbx
  add $1, %rbx
  jmp 1f
1:add $1, %rbx
  mov %rbx, %rcx
  ret
