# Operands relative to FS and GS, and what sets those bases.
#include "cases.inc"
#include <asm/prctl.h>
#include <asm/unistd.h>

# Both bases into the arena, and back to zero by END_BASES.
  .macro BASES fs=64, gs=512
  lea \fs+arena(%rip), %rax
  wrfsbase %rax
  lea \gs+arena(%rip), %rax
  wrgsbase %rax
  .endm
  .macro END_BASES
  push %rax
  mov $0, %eax
  wrfsbase %rax
  wrgsbase %rax
  pop %rax
  ret
  .endm

CASE write_and_read_bases
  BASES
  rdfsbase %rbx
  rdgsbase %rcx
  rdfsbase %edx
  rdgsbase %r8d
  mov $0x12345678, %esi
  bts $50, %rsi
  wrgsbase %esi
  rdgsbase %r9
  END_BASES

  .macro BY_SYSTEM_CALL name, set, get, segment
CASE \name
  mov $__NR_arch_prctl, %eax
  mov $\set, %edi
  lea 100+arena(%rip), %rsi
  syscall
  mov %rax, %r12
  mov %\segment:8, %rbx
  movb $77, %\segment:(2)
  mov $__NR_arch_prctl, %eax
  mov $\get, %edi
  lea 800+arena(%rip), %rsi
  syscall
  mov 800+arena(%rip), %r13
  mov $__NR_arch_prctl, %eax
  mov $\set, %edi
  mov $-1, %rsi
  syscall
  mov %rax, %r14
  mov $__NR_arch_prctl, %eax
  mov $\set, %edi
  xor %esi, %esi
  syscall
  ret
  .endm
  BY_SYSTEM_CALL gs_base_by_system_call, ARCH_SET_GS, ARCH_GET_GS, gs
  BY_SYSTEM_CALL fs_base_by_system_call, ARCH_SET_FS, ARCH_GET_FS, fs

  .irp segment, fs, gs
CASE operands_of_\segment
  BASES
  mov $16, %ebx
  mov $3, %esi
  mov $2, %r13d
  mov %\segment:0, %rax
  mov %\segment:-8, %rcx
  mov %\segment:(%rbx), %edx
  mov %\segment:8(%rbx, %rsi, 4), %r8
  mov %\segment:(, %r13, 8), %r9
  mov %\segment:-8(%r13, %r13, 2), %r10w
  movb %dl, %\segment:33
  addq $5, %\segment:40
  lock xaddq %rcx, %\segment:(%rbx)
  movq $-7, %\segment:48(%rbx)
  movzbl %\segment:5, %edi
  cmpb $9, %\segment:7
  xchg %r10, %\segment:(%rbx, %rbx)
  movups %\segment:16, %xmm2
  movups %xmm2, %\segment:160(%rbx)
  END_BASES

CASE string_operands_of_\segment
  BASES
  mov $8, %esi
  lea 1500+arena(%rip), %rdi
  mov $5, %ecx
  rep movsl %\segment:(%rsi), %es:(%rdi)
  lodsq %\segment:(%rsi), %rax
  mov %rax, %rdx
  mov $6, %ebx
  xlatb %\segment:(%rbx)
  cmpsb %es:(%rdi), %\segment:(%rsi)
  END_BASES

CASE jump_and_call_by_memory_of_\segment
  BASES
  lea 1f(%rip), %rax
  mov %rax, %\segment:24
  mov %rax, %\segment:40
  mov $16, %ebx
  SET_FLAGS 0x8d5
  call *%\segment:24
  call *%\segment:8(%rbx)
  call *%\segment:8(%rbx, %rbx)
  lea 2f(%rip), %rax
  mov %rax, %\segment:24
  jmp *%\segment:(%rbx, %rsi)
1:lea 1(%r8), %r8
  mov $8, %esi
  ret
2:END_BASES

CASE push_and_pop_memory_of_\segment
  BASES
  pushq %\segment:16
  mov $8, %ebx
  popq %\segment:24(%rbx)
  pushq $0x77
  popq %\segment:0
  END_BASES

CASE relative_to_rip_and_\segment
  xor %eax, %eax
  lea 300+arena(%rip), %rbx
  mov $512, %eax
  wr\segment\()base %rax
  mov %\segment:100+arena(%rip), %rcx
  addl $0x12345678, %\segment:104+arena(%rip)
  movups %\segment:120+arena(%rip), %xmm9
  rorx $3, %\segment:136+arena(%rip), %r15
  lea 1f(%rip), %rdx
  mov %rdx, 512+200+arena(%rip)
  call *%\segment:200+arena(%rip)
  END_BASES
1:lea 3(%r8), %r8
  ret

# A null selector there already, so the base stays what it was or becomes zero as the processor has it.
CASE push_and_pop_selector_\segment
  mov %\segment, %ebx
  push %\segment
  mov (%rsp), %rcx
  pop %\segment
  pushw %\segment
  popw %\segment
  mov %ebx, %\segment
  mov %\segment, %edx
  mov %\segment, 8+arena(%rip)
  rd\segment\()base %r8
  ret

CASE data_selector_in_\segment
  mov $0x2b, %eax
  mov %eax, %\segment
  mov %\segment, %ebx
  rd\segment\()base %rcx
  lea 40+arena(%rip), %rdx
  mov %\segment:(%rdx), %rsi
  xor %eax, %eax
  mov %eax, %\segment
  mov $0, %eax
  wr\segment\()base %rax
  ret

CASE base_over_a_system_call_\segment
  BASES
  mov $__NR_sched_yield, %eax
  syscall
  mov %\segment:8, %rbx
  rd\segment\()base %rdx
  END_BASES

CASE fault_relative_to_\segment
  BASES
  mov $-0x40, %rbx
  neg %rbx
  mov $0x5000000000, %rcx
  movb $1, %\segment:(%rbx, %rcx)
  END_BASES
  .endr

CASE override_that_means_nothing
  BASES
  .byte 0x65; lea 8(%rbx), %r14
  .byte 0x64; lea arena(%rip), %r15
  .byte 0x64; add %rbx, %r14
  .byte 0x65; nop
  END_BASES

CASE other_selectors
  mov $0, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %ds, %ebx
  mov %es, %ecx
  mov arena(%rip), %rdx
  mov $0x2b, %eax
  mov %eax, %ds
  mov %eax, %es
  mov arena(%rip), %rsi
  mov %ds, %r8d
  xor %eax, %eax
  mov %eax, %ds
  mov %eax, %es
  ret

# The stack segment again, with the one instruction after it that is not interrupted.
CASE stack_selector
  mov %ss, %eax
  mov %rsp, %rbx
  mov %eax, %ss
  mov %rbx, %rsp
  ret

CASE switch_bases_in_a_loop
  xor %r8d, %r8d; mov $300, %ecx
1:mov %ecx, %eax
  and $0xf8, %eax
  lea arena(%rip), %rbx
  add %rax, %rbx
  wrgsbase %rbx
  add %gs:0, %r8
  wrfsbase %rbx
  rol $1, %r8
  xor %fs:8, %r8
  dec %ecx
  jnz 1b
  END_BASES
