# String instructions with and without a repeat prefix, in both directions.
#include "cases.inc"

  .macro POINTERS source=0, target=1024, count=40
  lea \source+arena(%rip), %rsi
  lea \target+arena(%rip), %rdi
  mov $\count, %ecx
  .endm

  .irp size, b, w, l, q
CASE move_\size
  POINTERS
  rep movs\size
  ret
CASE move_backward_\size
  POINTERS 800, 2000
  std
  rep movs\size
  ret
CASE move_overlapping_\size
  POINTERS 0, 3, 100
  rep movs\size
  ret
CASE move_once_\size
  POINTERS
  movs\size
  std
  movs\size
  movs\size
  ret
CASE move_none_\size
  POINTERS 0, 1024, 0
  SET_FLAGS 0x8d5
  rep movs\size
  ret
CASE store_\size
  POINTERS 0, 512, 77
  rep stos\size
  std
  stos\size
  ret
CASE load_\size
  POINTERS 0, 512, 13
  lods\size
  mov %rax, %rbx
  rep lods\size
  std
  lods\size
  ret
CASE scan_\size
  lea 1024+arena(%rip), %rdi
  mov $60, %ecx
  xor %eax, %eax
  rep stos\size
  movb $9, 1100+arena(%rip)
  lea 1024+arena(%rip), %rdi
  mov $60, %ecx
  repe scas\size
  pushfq
  pop %rbx
  mov %rdi, %r8
  mov %rcx, %r9
  lea 1300+arena(%rip), %rdi
  mov $70, %ecx
  std
  repne scas\size
  scas\size
  ret
CASE compare_\size
  POINTERS 0, 1024, 40
  rep movs\size
  notb 1024+100+arena(%rip)
  notb 1024+20+arena(%rip)
  POINTERS 0, 1024, 40
  repe cmps\size
  pushfq
  pop %rbx
  mov %rcx, %r9
  repne cmps\size
  pushfq
  pop %rdx
  std
  cmps\size
  ret
CASE compare_none_\size
  POINTERS 0, 1024, 0
  SET_FLAGS 0x8d5
  repe cmps\size
  repne scas\size
  ret
  .endr

CASE segment_override
  POINTERS
  .byte 0x3e; movsb           # ds
  .byte 0x2e; lodsb           # cs
  .byte 0x26, 0xf3, 0xa4      # es rep movsb
  ret

CASE repeat_loops_in_a_loop
  mov $50, %ebx
1:POINTERS 7, 1200, 300
  rep movsb
  POINTERS 1200, 7, 300
  add %bl, 3(%rsi)
  rep movsb
  dec %ebx
  jnz 1b
  ret

CASE length_of_a_string
  lea text(%rip), %rdi
  xor %eax, %eax
  mov $-1, %rcx
  repne scasb
  not %rcx
  ret
  .pushsection .rodata
text: .asciz "nineteen characters"
  .popsection

CASE translate_bytes
  lea arena(%rip), %rbx
  mov $20, %ecx
  mov $0x1100, %eax
1:xlatb
  add %al, %ah
  loop 1b
  ret

#ifndef HIGH
CASE addresses_of_32_bits
  lea arena(%rip), %esi
  lea 1024+arena(%rip), %edi
  bts $35, %rsi
  bts $36, %rdi
  mov $0x500000010, %rcx
  addr32 rep movsb
  lea arena(%rip), %ebx
  bts $40, %rbx
  mov $3, %eax
  addr32 xlatb
  ret
#endif
