# Operands relative to RIP in every legacy encoding, with immediates of every size after the displacement.
#include "cases.inc"

# A memory operand at this offset of the arena.
#define AT(offset) offset+arena(%rip)

  .irp register, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
CASE load_store_\register
  mov AT(8), %\register
  mov %\register, AT(1000)
  add AT(16), %\register
  add %\register, AT(24)
  lea AT(100), %\register
  xchg %\register, AT(32)
  SET_FLAGS 0x8d5
  adc AT(40), %\register
  cmp %\register, AT(48)
  ret
  .endr

CASE the_stack_pointer
  mov %rsp, %rbx
  mov %rsp, AT(64)
  mov AT(8), %rsp
  mov %rsp, %rcx
  lea AT(2000), %rsp
  push %rax
  add AT(16), %rsp
  mov %rsp, %rdx
  mov AT(64), %rsp
  xchg AT(64), %rsp
  ret

CASE immediates
  movb $0x11, AT(3)
  movw $0x2233, AT(6)
  movl $0x44556677, AT(12)
  movq $-0x77665545, AT(24)
  addb $0x7f, AT(33)
  addw $0x1234, AT(38)
  addl $0x12345678, AT(44)
  addq $-5, AT(56)
  adcq $0x12345678, AT(64)
  sbbl $7, AT(72)
  orw $-2, AT(80)
  andb $0xf, AT(88)
  xorl $-1, AT(96)
  subq $1, AT(104)
  cmpq $0x7fffffff, AT(112)
  pushfq
  testb $8, AT(120)
  pushfq
  testl $0x80000000, AT(128)
  pushfq
  testq $-0x80000000, AT(136)
  pushfq
  imul $7, AT(144), %rax
  imul $0x1234567, AT(152), %ecx
  imulw $0x123, AT(160), %dx
  imul AT(168), %r8
  rolb $3, AT(176)
  shlw $5, AT(184)
  sarl $9, AT(192)
  rcrq $11, AT(200)
  shrq AT(208)
  mov $13, %cl
  rorq %cl, AT(216)
  shldq $5, %rax, AT(224)
  shrdl %cl, %edx, AT(232)
  btq $40, AT(240)
  btsl $3, AT(248)
  btrw $9, AT(256)
  btcq $63, AT(264)
  mov $200, %ecx
  bt %rcx, AT(272)
  pushfq
  pop %r9; pop %r10; pop %r11; pop %r12; pop %r13
  ret

CASE one_operand
  incb AT(0)
  decw AT(8)
  notl AT(16)
  negq AT(24)
  mov $1000, %eax
  xor %edx, %edx
  mull AT(32)
  imulq AT(40)
  mov $7, %edx
  movl $0x12345, AT(48)
  divl AT(48)
  movq $-77, AT(56)
  cqo
  idivq AT(56)
  movb $7, AT(64)
  mov $100, %eax
  divb AT(64)
  pushq AT(72)
  popq AT(80)
  pushw AT(88)
  popw AT(96)
  setg AT(104)
  setc AT(105)
  ret

CASE moves_that_extend
  movzbl AT(0), %eax
  movzwq AT(8), %rcx
  movsbw AT(16), %dx
  movsbq AT(24), %rbx
  movswl AT(32), %esi
  movslq AT(40), %rdi
  cmovz AT(48), %r8
  cmovnz AT(56), %r9d
  movbe AT(64), %r10
  movbe %r10, AT(72)
  movbew AT(80), %r11w
  movnti %rax, AT(88)
  crc32b AT(96), %r12d
  crc32q AT(104), %r13
  popcnt AT(112), %r14
  bsf AT(120), %r15
  lzcnt AT(128), %ebp
  tzcntw AT(136), %dx
  adcx AT(144), %rax
  adox AT(152), %rcx
  ret

CASE locked
  lock addq $5, AT(0)
  lock incl AT(8)
  lock xaddl %eax, AT(16)
  mov AT(24), %rax
  lock cmpxchgq %rbx, AT(24)
  lock cmpxchgb %cl, AT(32)
  lock btsq $5, AT(40)
  mov AT(48), %eax; mov AT(52), %edx
  mov $1, %ebx; mov $2, %ecx
  lock cmpxchg8b AT(48)
  mov AT(64), %rax; mov AT(72), %rdx
  lock cmpxchg16b AT(64)
  pushfq
  lock cmpxchg16b AT(64)
  pushfq
  cmpxchg16b AT(80)
  xchg %r15b, AT(96)
  xacquire lock addl $1, AT(104)
  pop %r8; pop %r9
  ret

CASE vectors_and_immediates
  movups AT(0), %xmm0
  movaps AT(16), %xmm1
  movss AT(36), %xmm2
  movsd AT(40), %xmm3
  movdqu %xmm0, AT(1000)
  addps AT(64), %xmm4
  mulpd AT(80), %xmm5
  cvtsi2sdq AT(96), %xmm6
  cvttsd2si AT(104), %rax
  ucomisd AT(112), %xmm3
  pushfq
  pshufd $0x1b, AT(128), %xmm7
  shufps $0x4e, AT(144), %xmm8
  pinsrw $3, AT(160), %xmm9
  pinsrq $1, AT(168), %xmm10
  pinsrb $9, AT(176), %xmm11
  palignr $5, AT(192), %xmm12
  pextrw $2, %xmm0, AT(208)
  pextrb $7, %xmm1, AT(210)
  extractps $1, %xmm2, AT(216)
  roundsd $3, AT(224), %xmm13
  dpps $0xf1, AT(240), %xmm14
  pshufb AT(256), %xmm15
  pmulld AT(272), %xmm0
  cmppd $2, AT(288), %xmm1
  cmpss $1, AT(304), %xmm2
  mov $5, %eax; mov $7, %edx
  pcmpestri $0x0c, AT(320), %xmm3
  pushfq
  pcmpistrm $0x40, AT(336), %xmm4
  pclmulqdq $0x11, AT(352), %xmm5
  aesenc AT(368), %xmm6
  aeskeygenassist $3, AT(384), %xmm7
  sha256msg1 AT(400), %xmm8
  sha1rnds4 $2, AT(416), %xmm9
  blendvps %xmm0, AT(432), %xmm10
  movhps AT(448), %xmm11
  movlpd %xmm12, AT(456)
  movntdqa AT(464), %xmm13
  movntps %xmm14, AT(480)
  movddup AT(496), %xmm15
  gf2p8affineqb $7, AT(512), %xmm1
  prefetcht0 AT(528)
  clflush AT(528)
  pop %r8; pop %r9
  ret

CASE x87_and_mmx
  fldl AT(0)
  flds AT(8)
  fildl AT(16)
  fildll AT(24)
  fadds AT(32)
  fimull AT(40)
  fstpl AT(48)
  fistpll AT(56)
  fstpt AT(64)
  fldt AT(64)
  fstcw AT(88)
  fldcw AT(88)
  fnstsw AT(96)
  fstp %st(0)
  fstp %st(0)
  fbstp AT(112)
  stmxcsr AT(128)
  ldmxcsr AT(128)
  movq AT(136), %mm0
  paddd AT(144), %mm0
  pshufw $0x1b, AT(152), %mm1
  movq %mm0, AT(160)
  movq %mm1, AT(168)
  cvtpi2ps AT(176), %xmm3
  emms
  fninit
  ret

CASE state_of_the_vector_unit
  lea arena(%rip), %rbx
  fxsave64 512+arena(%rip)
  pcmpeqd %xmm1, %xmm1
  fxrstor64 512+arena(%rip)
  movq $0, 512+arena(%rip)
  movq $0, 520+arena(%rip)
  movq $0, 528+arena(%rip)
  ret

CASE load_effective_address
  lea AT(5), %rax
  lea AT(-5), %ebx
  lea AT(7), %cx
  lea 1f(%rip), %rdx
1:lea 1b(%rip), %rsi
  lea -0x7fffff00(%rip), %rdi
  lea 0x7fffff00(%rip), %r8
  lea 0(%rip), %r9
  ret

# At the start of a block, at its end, before a branch, as the operand of a branch, and the code itself as data.
CASE at_block_edges
  mov $50, %ecx
  xor %r8d, %r8d
1:add AT(0), %r8
  addq $3, AT(0)
  jc 2f
2:mov AT(8), %r9
  test %r9, %r9
  js 3f
  xor 3f(%rip), %r9
3:lea 3b(%rip), %r10
  cmpl $0x12345678, AT(16)
  jne 4f
4:dec %ecx
  jnz 1b
  ret

CASE reads_its_own_code
  mov 1f(%rip), %rax
1:mov 1b(%rip), %ebx
  addb 1b(%rip), %cl
  cmpb $0x8b, 1b(%rip)
  sete %dl
  movups case_data_in_code(%rip), %xmm3
  ret
case_data_in_code:
  .quad 1, 2

CASE with_useless_prefixes
  .byte 0x3e; mov AT(0), %rax
  .byte 0x2e; add AT(8), %rax
  .byte 0x2e; addw $0x1234, AT(16)
  .byte 0xf3; mov AT(24), %ecx
  .byte 0x40; mov AT(32), %dl
  .byte 0x4f; mov AT(40), %r8
  ret

#ifndef HIGH
CASE addresses_of_32_bits
  mov 8+arena(%eip), %rax
  addl $0x1234567, 16+arena(%eip)
  lea 24+arena(%eip), %rbx
  lea 24+arena(%eip), %ecx
  lea -0x7fffff00(%eip), %rdx
  movups 32+arena(%eip), %xmm1
  shldq $3, %rax, 48+arena(%eip)
  mov arena+64, %rsi
  movabs arena+72, %rax
  ret
#endif

CASE absolute_addresses_of_64_bits
  movabs arena+8, %rax
  add $3, %rax
  movabs %rax, arena+16
  movabs arena+33, %al
  movabs $arena+40, %rbx
  mov (%rbx), %rcx
  ret
