# loop, loope, loopne, jrcxz and jecxz: the counter of both sizes, and flags that pass.
#include "cases.inc"

# COUNTED_LOOP name, instruction, counter: two ways to end, the rounds in r8.
  .macro COUNTED_LOOP name, instruction, counter
CASE \name
  mov $\counter, %rcx
  xor %r8d, %r8d
  mov $7, %r9d
1:inc %r8d
  cmp $100, %r8d
  ja 2f
  cmp $3, %r8d
  \instruction 1b
2:ret

CASE \name\()_zero_flag_set
  mov $\counter, %rcx
  xor %r8d, %r8d
1:lea 1(%r8), %r8
  lea -50(%r8), %rdx
  xchg %rcx, %rdx
  jrcxz 2f
  xchg %rcx, %rdx
  SET_FLAGS 0x8d5
  \instruction 1b
2:pushfq
  pop %rax
  ret
  .endm

  COUNTED_LOOP loop_one, loop, 1
  COUNTED_LOOP loop_two, loop, 2
  COUNTED_LOOP loop_five, loop, 5
  COUNTED_LOOP loop_zero, loop, 0
  COUNTED_LOOP loop_wide, loop, 0x100000003
  COUNTED_LOOP loope_five, loope, 5
  COUNTED_LOOP loopne_five, loopne, 5
  COUNTED_LOOP loopne_one, loopne, 1
  COUNTED_LOOP loop_32_bits, "addr32 loop", 0x100000003
  COUNTED_LOOP loop_32_bits_zero, "addr32 loop", 0x700000000
  COUNTED_LOOP loope_32_bits, "addr32 loope", 0x700000004
  COUNTED_LOOP loopne_32_bits, "addr32 loopne", 0x700000004

  .macro IF_ZERO name, value
CASE \name
  xor %r8d, %r8d
  mov $\value, %rcx
  SET_FLAGS 0xcd5
  jrcxz 1f
  lea 1(%r8), %r8
1:jecxz 2f
  lea 2(%r8), %r8
2:pushfq
  pop %rax
  cld
  jrcxz 3f
  lea 4(%r8), %r8
3:ret
  .endm
  IF_ZERO if_zero, 0
  IF_ZERO if_zero_one, 1
  IF_ZERO if_zero_upper_half_only, 0x100000000
  IF_ZERO if_zero_all_ones, -1

CASE loop_to_itself
  mov $100000, %ecx
1:loop 1b
  ret

CASE loop_body_of_one_instruction
  xor %eax, %eax; mov $50000, %ecx
1:add %rcx, %rax
  loop 1b
  ret

CASE jump_if_zero_backward
  xor %r8d, %r8d
  mov $1, %ecx
  jmp 2f
1:inc %r8d
  lea 1(%r8), %rcx
  cmp $5, %r8d
  je 3f
  xor %ecx, %ecx
2:dec %rcx
  mov $0, %ecx
  jrcxz 1b
3:ret
