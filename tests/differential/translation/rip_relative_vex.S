# Operands relative to RIP in VEX encodings of two and three bytes.
#include "cases.inc"

#define AT(offset) offset+arena(%rip)

  .globl set_up
set_up:
  push %rbx
  mov $7, %eax
  xor %ecx, %ecx
  cpuid
  test $0x20, %ebx             # AVX2
  pop %rbx
  jz 1f
  ret
1:lea no_avx2(%rip), %rdi
  jmp skip
  .pushsection .rodata
no_avx2: .asciz "the processor has no AVX2"
  .popsection

# The whole of ymm0 to ymm15 into the arena.
  .macro END_VECTORS
  .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vmovdqu %ymm\number, 1024+32*\number+arena(%rip)
  .endr
  vzeroupper
  ret
  .endm

CASE two_byte_prefix
  vmovups AT(0), %ymm0
  vmovdqa AT(32), %ymm1
  vaddps AT(64), %ymm1, %ymm2
  vmulsd AT(96), %xmm1, %xmm3
  vxorps AT(128), %ymm4, %ymm4
  vpshufd $0x1b, AT(160), %ymm5
  vcmpps $2, AT(192), %ymm0, %ymm6
  vpinsrw $3, AT(224), %xmm7, %xmm7
  vmovss AT(228), %xmm8
  vmovups %ymm0, AT(800)
  vmovsd %xmm1, AT(840)
  vucomisd AT(232), %xmm3
  vsqrtpd AT(256), %ymm10
  vldmxcsr mxcsr(%rip)
  vstmxcsr AT(300)
  END_VECTORS
  .pushsection .rodata
mxcsr: .long 0x1f80
  .popsection

CASE three_byte_prefix
  vmovups AT(0), %ymm0
  vpshufb AT(32), %ymm0, %ymm1
  vpalignr $5, AT(64), %ymm0, %ymm2
  vperm2i128 $0x21, AT(96), %ymm0, %ymm3
  vpermq $0x1b, AT(128), %ymm4
  vpermd AT(160), %ymm0, %ymm5
  vblendvps %ymm0, AT(192), %ymm1, %ymm6
  vpblendvb %ymm1, AT(224), %ymm2, %ymm15
  vinserti128 $1, AT(256), %ymm0, %ymm8
  vextracti128 $1, %ymm0, AT(900)
  vbroadcastss AT(272), %ymm9
  vpbroadcastb AT(276), %ymm10
  vfmadd231ps AT(288), %ymm0, %ymm11
  vfnmadd132sd AT(320), %xmm0, %xmm12
  vroundpd $1, AT(352), %ymm13
  vpinsrq $1, AT(384), %xmm0, %xmm14
  vpextrb $3, %xmm0, AT(940)
  vpextrq $1, %xmm0, AT(944)
  vaesenc AT(400), %xmm0, %xmm7
  vpclmulqdq $1, AT(416), %xmm0, %xmm14
  vmpsadbw $3, AT(448), %ymm0, %ymm9
  vcvtph2ps AT(480), %ymm10
  vcvtps2ph $0, %ymm10, AT(960)
  vmaskmovps AT(512), %ymm0, %ymm11
  vmaskmovps %ymm2, %ymm0, AT(992)
  vdpps $0xf1, AT(544), %ymm0, %ymm12
  vpcmpistri $0x0c, AT(576), %xmm3
  vtestps AT(608), %ymm0
  vpsrlvd AT(640), %ymm0, %ymm13
  END_VECTORS

CASE general_registers
  andn AT(0), %rax, %rbx
  bextr %rcx, AT(8), %rdx
  blsi AT(16), %rsi
  blsr AT(24), %edi
  blsmsk AT(32), %r8
  bzhi %rax, AT(40), %r9
  mulx AT(48), %r10, %r11
  pdep AT(56), %rax, %r12
  pext AT(64), %rax, %r13
  rorx $5, AT(72), %r14
  rorx $31, AT(80), %r15d
  sarx %rcx, AT(88), %rbp
  shlx %rcx, AT(96), %rax
  shrx %ecx, AT(104), %ecx
  ret

CASE gathers
  vmovdqu indices(%rip), %ymm1
  lea arena(%rip), %rbx
  vpcmpeqd %ymm2, %ymm2, %ymm2
  vgatherdps %ymm2, 3(%rbx, %ymm1, 4), %ymm0
  vpcmpeqd %ymm2, %ymm2, %ymm2
  vpgatherdq %ymm2, (%rbx, %xmm1, 8), %ymm3
  END_VECTORS
  .pushsection .rodata
  .balign 32
indices: .long 1, 5, 9, 13, 2, 4, 8, 16
  .popsection

CASE before_a_branch
  mov $20, %ecx
1:vpaddd AT(0), %ymm0, %ymm0
  vptest AT(32), %ymm0
  jz 2f
  vpaddd AT(64), %ymm1, %ymm1
  jc 2f
  vmovdqu %ymm1, AT(96)
2:dec %ecx
  jnz 1b
  END_VECTORS

#ifndef HIGH
CASE addresses_of_32_bits
  vmovups 0+arena(%eip), %ymm0
  vpalignr $3, 32+arena(%eip), %ymm0, %ymm1
  rorx $9, 64+arena(%eip), %rax
  END_VECTORS
#endif
