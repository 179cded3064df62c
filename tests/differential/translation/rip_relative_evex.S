# Operands relative to RIP in EVEX encodings: masks, broadcasts, immediates, and the 32 registers of 512 bits.
#include "cases.inc"

#define AT(offset) offset+arena(%rip)

  .globl set_up
set_up:
  push %rbx
  mov $7, %eax
  xor %ecx, %ecx
  cpuid
  and $0xc0030000, %ebx        # F, DQ, BW, VL
  cmp $0xc0030000, %ebx
  pop %rbx
  jne 1f
  ret
1:lea no_avx512(%rip), %rdi
  jmp skip
  .pushsection .rodata
no_avx512: .asciz "the processor has no AVX-512"
  .popsection

# All of zmm0 to zmm31 and k0 to k7 into the arena, from 1024 on.
  .macro END_VECTORS
  .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
  vmovdqu64 %zmm\number, 1024+64*\number+arena(%rip)
  .endr
  .irp number, 0, 1, 2, 3, 4, 5, 6, 7
  kmovq %k\number, 3072+8*\number+arena(%rip)
  .endr
  vzeroall
  .irp number, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
  vpxord %zmm\number, %zmm\number, %zmm\number
  .endr
  ret
  .endm

CASE loads_and_stores
  vmovups AT(0), %zmm0
  vmovdqa64 AT(64), %zmm16
  vmovdqu8 AT(129), %ymm17
  vmovdqu16 AT(160), %xmm31
  vmovdqu64 %zmm0, AT(600)
  vmovss AT(200), %xmm20
  vmovsd %xmm20, AT(700)
  vmovntdq %zmm16, AT(768)
  vmovd AT(204), %xmm21
  vmovq %xmm21, AT(712)
  END_VECTORS

CASE masks
  kmovq AT(0), %k1
  kmovw AT(8), %k2
  kmovb AT(9), %k3
  kmovd AT(12), %k4
  vmovups AT(64), %zmm1
  vmovups AT(64), %zmm2{%k1}{z}
  vaddps AT(128), %zmm1, %zmm3{%k2}
  vpcmpeqd AT(192), %zmm1, %k5{%k2}
  vpcmpub $6, AT(256), %zmm1, %k6
  vcmppd $1, AT(320), %zmm1, %k7
  vmovdqu8 %zmm1, AT(640){%k1}
  kmovq %k1, AT(720)
  END_VECTORS

CASE broadcasts
  vaddps AT(0){1to16}, %zmm1, %zmm30
  vpaddq AT(8){1to8}, %zmm2, %zmm29
  vpternlogd $0x96, AT(16){1to16}, %zmm3, %zmm28
  vfmadd213pd AT(24){1to4}, %ymm4, %ymm27
  vpermi2d AT(32){1to16}, %zmm5, %zmm26
  vbroadcastf64x4 AT(64), %zmm25
  vbroadcasti32x2 AT(96), %zmm24
  vcvtdq2pd AT(128){1to8}, %zmm23
  vrndscaleps $0x11, AT(132){1to16}, %zmm22
  vprord $7, AT(136){1to16}, %zmm21
  END_VECTORS

CASE immediates
  vmovups AT(0), %zmm1
  valignd $3, AT(64), %zmm1, %zmm2
  vpalignr $5, AT(128), %zmm1, %zmm3
  vshuff64x2 $0x4e, AT(192), %zmm1, %zmm4
  vpshufd $0x1b, AT(256), %zmm5
  vpternlogq $0xe8, AT(320), %zmm1, %zmm18
  vinserti64x4 $1, AT(384), %zmm1, %zmm19
  vextracti32x4 $2, %zmm1, AT(600)
  vpsrld $3, AT(448), %zmm20
  vrangepd $5, AT(0), %zmm1, %zmm6
  vdbpsadbw $0x1b, AT(64), %zmm1, %zmm7
  vpermq $0x1b, AT(128), %zmm8
  vgetmantps $3, AT(192), %zmm9
  vpextrb $3, %xmm19, AT(640)
  vpinsrd $2, AT(644), %xmm19, %xmm10
  vcvtps2ph $0, %zmm1, AT(660)
  vpsllw $3, AT(256), %zmm11
  vreduceps $1, AT(320), %zmm12
  END_VECTORS

CASE scalar_and_conversions
  vaddsd AT(0), %xmm16, %xmm17
  vcvtsi2sdq AT(8), %xmm17, %xmm18
  vcvttsd2usi AT(16), %rax
  vucomiss AT(24), %xmm19
  vcvtudq2pd AT(32), %zmm20
  vpmovzxbd AT(64), %zmm21
  vpmovwb %zmm21, AT(600)
  vcompressps %zmm21, AT(640)
  vpexpandd AT(128), %zmm22
  vscalefsd AT(192), %xmm16, %xmm23
  END_VECTORS

CASE gathers_and_scatters
  lea arena(%rip), %rbx
  vmovdqu32 indices(%rip), %zmm16
  kxnorw %k1, %k1, %k1
  vpgatherdd 3(%rbx, %zmm16, 4), %zmm17{%k1}
  kxnorw %k2, %k2, %k2
  vpscatterdd %zmm17, 200(%rbx, %zmm16, 8){%k2}
  END_VECTORS
  .pushsection .rodata
  .balign 64
indices: .long 1, 5, 9, 13, 2, 4, 8, 16, 3, 7, 11, 15, 6, 10, 14, 12
  .popsection

# A displacement of 8 bits counts in operands.
CASE compressed_displacements
  lea 512+arena(%rip), %rbx
  vmovups 64(%rbx), %zmm16
  vmovups -128(%rbx), %zmm17
  vaddps 4(%rbx){1to16}, %zmm16, %zmm18
  vmovups 3(%rbx), %ymm19
  vpaddb 96(%rbx), %ymm19, %ymm20
  END_VECTORS

CASE before_a_branch
  mov $20, %ecx
1:vpaddd AT(0), %zmm16, %zmm16
  vptestmd AT(64), %zmm16, %k1
  kortestw %k1, %k1
  jz 2f
  vpaddd AT(128){1to16}, %zmm17, %zmm17{%k1}
  vmovdqu64 %zmm17, AT(192)
2:dec %ecx
  jnz 1b
  END_VECTORS
