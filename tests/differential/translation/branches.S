# Direct jumps: every condition, taken and not, short and near, forward and backward.
#include "cases.inc"

# For each of the 32 settings of CF, PF, ZF, SF, OF: one bit of r8 (short forward), r9 (near forward), r10 (short backward) and r11
# (near backward) says whether the jump was taken.
  .macro CONDITION cc
CASE jump_if_\cc
  xor %r8d, %r8d; xor %r9d, %r9d; xor %r10d, %r10d; xor %r11d, %r11d
  lea flag_settings(%rip), %rsi
  xor %ecx, %ecx
  jmp 10f
1:bts %rcx, %r10
  jmp 5f
10:
  pushq (%rsi, %rcx, 8)
  popfq
  j\cc 2f
  jmp 3f
2:bts %rcx, %r8
3:pushq (%rsi, %rcx, 8)
  popfq
  {disp32} j\cc 4f
  jmp 6f
4:bts %rcx, %r9
6:pushq (%rsi, %rcx, 8)
  popfq
  j\cc 1b
5:pushq (%rsi, %rcx, 8)
  popfq
  {disp32} j\cc far_back_\cc
7:inc %ecx
  cmp $32, %ecx
  jb 10b
  ret
  .skip 300, 0x90
far_back_\cc:
  bts %rcx, %r11
  jmp 7b

# The same with setcc and cmovcc, which a translator copies.
CASE set_and_move_if_\cc
  xor %r8d, %r8d; xor %r9d, %r9d; xor %ecx, %ecx
  mov $1, %ebx
  lea flag_settings(%rip), %rsi
1:xor %edx, %edx
  pushq (%rsi, %rcx, 8)
  popfq
  set\cc %al
  cmov\cc %ebx, %edx
  movzbl %al, %eax
  shl %cl, %rax; shl %cl, %rdx
  or %rax, %r8; or %rdx, %r9
  inc %ecx
  cmp $32, %ecx
  jb 1b
  ret

# The flags themselves pass through a jump, taken or not.
CASE flags_pass_jump_if_\cc
  xor %ecx, %ecx; xor %r8d, %r8d
  lea flag_settings(%rip), %rsi
1:pushq (%rsi, %rcx, 8)
  popfq
  j\cc 2f
2:pushfq
  pop %rax
  imul $31, %r8, %r8
  add %rax, %r8
  inc %ecx
  cmp $32, %ecx
  jb 1b
  ret
  .endm

  .irp cc, o, no, b, ae, e, ne, be, a, s, ns, p, np, l, ge, le, g
  CONDITION \cc
  .endr

CASE jump_short_forward
  jmp 1f
  ud2
1:mov $1, %eax
  ret

CASE jump_near_forward
  {disp32} jmp 1f
  .skip 200, 0xcc
1:mov $2, %eax
  ret

CASE jump_backward
  jmp 2f
1:mov $3, %eax
  ret
2:jmp 1b

CASE jump_to_the_next_instruction
  jmp 1f
1:{disp32} jmp 2f
2:SET_FLAGS 0x8d5
  jc 3f
3:jnc 4f
4:ret

CASE jump_with_prefixes
  .byte 0xf2; jmp 1f       # bnd
1:SET_FLAGS 0x40
  .byte 0x3e; je 2f        # the hint "taken"
  ud2
2:.byte 0x2e; jne 3f       # the hint "not taken"
  .byte 0xf2; je 3f        # bnd
  ud2
3:.byte 0x48; jmp 4f       # REX.W
4:ret

CASE jump_into_the_middle_of_a_known_block
  xor %r8d, %r8d; mov $5, %ecx
1:lea 1(%r8), %r8
2:lea 2(%r8), %r8
3:lea 4(%r8), %r8
4:lea 8(%r8), %r8
  dec %ecx
  cmp $4, %ecx
  je 2b
  cmp $3, %ecx
  je 3b
  cmp $2, %ecx
  je 4b
  cmp $1, %ecx
  je 1b
  ret

# One entrance, the second in the middle of the first's immediate: two readings of the same bytes.
CASE overlapping_instructions
  xor %eax, %eax; xor %r8d, %r8d; xor %ecx, %ecx
  jmp 2f
1:.byte 0xb8                 # mov $0xc3c1ff41, %eax, or from 2: inc %r9d; ret
2:.byte 0x41, 0xff, 0xc1, 0xc3
  inc %r8d
  ret

CASE overlapping_both_ways
  xor %r8d, %r8d
  call 1f
  call 2f
  call 1f
  call 2f
  ret
1:.byte 0x49, 0x81, 0xc0     # add $0x01c08349, %r8, or from 2: add $1, %r8
2:.byte 0x49, 0x83, 0xc0, 0x01
  ret

CASE long_straight_line
  mov $1, %eax
  .rept 400
  imul $3, %eax, %eax
  rol $7, %rax
  adc %rax, %rbx
  xor %rbx, %rdx
  .endr
  ret

CASE many_small_blocks
  mov $3, %eax
  .rept 300
  imul $5, %eax, %eax
  test $4, %al
  je 1f
  add %rax, %rbx
  jmp 2f
1:sub %rax, %rdx
2:
  .endr
  ret

CASE nested_loops
  xor %eax, %eax; mov $50, %ebx
1:mov $40, %ecx
2:mov $30, %edx
3:add %rbx, %rax
  rol $1, %rax
  xor %rcx, %rax
  dec %edx
  jnz 3b
  dec %ecx
  jnz 2b
  dec %ebx
  jnz 1b
  ret

# Flags that only one of two targets reads, and one far away.
CASE flags_live_over_blocks
  xor %r8d, %r8d; xor %r9d, %r9d; mov $100, %ecx
1:mov %ecx, %eax
  imul $0x9e3779b1, %eax, %eax
  add %eax, %eax
  jmp 2f
2:jmp 3f
3:lea 1(%r8), %r8
  jc 4f
  jmp 5f
4:lea 2(%r8), %r8
  jmp 5f
5:adc $0, %r9
  sbb %rbx, %rbx
  jo 6f
  lea 4(%r8), %r8
6:setp %dl
  movzbl %dl, %edx
  add %rdx, %r9
  dec %ecx
  jnz 1b
  ret

  .section .rodata
  .balign 8
flag_settings:
  .macro SETTING o, s, z, p, c
  .quad 0x202 | \o*0x800 | \s*0x80 | \z*0x40 | \p*4 | \c
  .endm
  .irp o, 0, 1
  .irp s, 0, 1
  .irp z, 0, 1
  .irp p, 0, 1
  SETTING \o, \s, \z, \p, 0
  SETTING \o, \s, \z, \p, 1
  .endr
  .endr
  .endr
  .endr
