// Reads and writes the runtime's memory by operands that name their address: base, index,
// displacement, segment. One case a family of instructions; LOADS and STORES apart, for mask-writes
// confines stores only.
#include <asm/prctl.h>
#include <sys/mman.h>

#include "attack.h"

#define STORE(name, needs, text) X(name, needs, STORES, 0, text)
#define LOAD(name, needs, bytes, text) X(load_##name, needs, LOADS, bytes, text)
#define ROOM(name, needs, text) X(touch_##name, needs, LOADS_ROOM, 0, text)
#define TOUCH(name, needs, text) X(touch_##name, needs, TOUCHES, 0, text)

// ---- plain
// -----------------------------------------------------------------------------------------

#define PLAIN_STORES                                                     \
  STORE(mov_byte, ANY_CPU, "movb %%al, (%%rdi)")                         \
  STORE(mov_high_byte, ANY_CPU, "movb %%ah, (%%rdi)")                    \
  STORE(mov_word, ANY_CPU, "movw %%ax, (%%rdi)")                         \
  STORE(mov_dword, ANY_CPU, "movl %%eax, (%%rdi)")                       \
  STORE(mov_qword, ANY_CPU, "movq %%rax, (%%rdi)")                       \
  STORE(mov_r11, ANY_CPU, "movq %%rax, %%r11\n\tmovq %%r11, (%%rdi)")    \
  STORE(mov_rcx, ANY_CPU, "movq %%rax, %%rcx\n\tmovq %%rcx, (%%rdi)")    \
  STORE(mov_by_r11, ANY_CPU, "movq %%rdi, %%r11\n\tmovq %%rax, (%%r11)") \
  STORE(mov_by_r12, ANY_CPU, "movq %%rdi, %%r12\n\tmovq %%rax, (%%r12)") \
  STORE(mov_by_r13, ANY_CPU, "movq %%rdi, %%r13\n\tmovq %%rax, (%%r13)") \
  STORE(mov_by_rax, ANY_CPU, "movq %%rdi, %%rax\n\tmovq %%rax, (%%rax)") \
  STORE(mov_by_rcx, ANY_CPU, "movq %%rdi, %%rcx\n\tmovq %%rax, (%%rcx)") \
  STORE(imm_byte, ANY_CPU, "movb $0xa5, (%%rdi)")                        \
  STORE(imm_word, ANY_CPU, "movw $0xa5a5, (%%rdi)")                      \
  STORE(imm_dword, ANY_CPU, "movl $0xa5a5a5a5, (%%rdi)")                 \
  STORE(imm_qword, ANY_CPU, "movq $0x7ba5a5a5, (%%rdi)")                 \
  STORE(movnti, ANY_CPU, "movnti %%rax, (%%rdi)")                        \
  STORE(movbe, NEEDS_MOVBE, "movbe %%rax, (%%rdi)")                      \
  STORE(sete, ANY_CPU, "cmpq %%rax, %%rax\n\tsete (%%rdi)")              \
  STORE(fst_single, ANY_CPU, "fld1\n\tfstps (%%rdi)")                    \
  STORE(fst_double, ANY_CPU, "fld1\n\tfstpl (%%rdi)")                    \
  STORE(fst_extended, ANY_CPU, "fld1\n\tfstpt (%%rdi)")                  \
  STORE(fist_qword, ANY_CPU, "fld1\n\tfistpll (%%rdi)")                  \
  STORE(fbst, ANY_CPU, "fld1\n\tfbstp (%%rdi)")                          \
  STORE(movdiri, ANY_CPU, "movdiri %%rax, (%%rdi)")

#define PLAIN_LOADS                                                                  \
  LOAD(mov_byte, ANY_CPU, 1, "movb (%%rdi), %%al")                                   \
  LOAD(movzx_word, ANY_CPU, 2, "movzwl (%%rdi), %%eax")                              \
  LOAD(movsx_byte, ANY_CPU, 1, "movsbq (%%rdi), %%rax")                              \
  LOAD(movsxd, ANY_CPU, 4, "movslq (%%rdi), %%rax")                                  \
  LOAD(mov_dword, ANY_CPU, 4, "movl (%%rdi), %%eax")                                 \
  LOAD(mov_qword, ANY_CPU, 8, "movq (%%rdi), %%rax")                                 \
  LOAD(mov_by_r11, ANY_CPU, 8, "movq %%rdi, %%r11\n\tmovq (%%r11), %%rax")           \
  LOAD(mov_by_rcx, ANY_CPU, 8, "movq %%rdi, %%rcx\n\tmovq (%%rcx), %%rax")           \
  LOAD(mov_to_base, ANY_CPU, 8, "movq (%%rdi), %%rdi\n\tmovq %%rdi, %%rax")          \
  LOAD(add, ANY_CPU, 8, "xorl %%eax, %%eax\n\taddq (%%rdi), %%rax")                  \
  LOAD(xor, ANY_CPU, 8, "xorl %%eax, %%eax\n\txorq (%%rdi), %%rax")                  \
  LOAD(cmov, ANY_CPU, 8, "cmpq %%rax, %%rax\n\tcmoveq (%%rdi), %%rax")               \
  LOAD(imul, ANY_CPU, 8, "imulq $1, (%%rdi), %%rax")                                 \
  LOAD(push, ANY_CPU, 8, "pushq (%%rdi)\n\tpopq %%rax")                              \
  LOAD(fild, ANY_CPU, 8, "fildll (%%rdi)\n\tfistpll (%%rsi)\n\tmovq (%%rsi), %%rax") \
  TOUCH(cmp, ANY_CPU, "cmpq %%rax, (%%rdi)")                                         \
  TOUCH(test, ANY_CPU, "testq %%rax, (%%rdi)")                                       \
  TOUCH(bsf, ANY_CPU, "bsfq (%%rdi), %%rax")                                         \
  TOUCH(popcnt, ANY_CPU, "popcntq (%%rdi), %%rax")                                   \
  TOUCH(crc32, ANY_CPU, "crc32q (%%rdi), %%rax")                                     \
  TOUCH(mul, ANY_CPU, "mulq (%%rdi)")                                                \
  TOUCH(movdir64b_source, ANY_CPU, "movdir64b (%%rdi), %%rsi")

#define MODIFIES                                                                             \
  STORE(add, ANY_CPU, "addq %%rax, (%%rdi)")                                                 \
  STORE(or, ANY_CPU, "orq %%rax, (%%rdi)")                                                   \
  STORE(xor_byte, ANY_CPU, "xorb $0x55, (%%rdi)")                                            \
  STORE(not, ANY_CPU, "notq (%%rdi)")                                                        \
  STORE(inc, ANY_CPU, "incb (%%rdi)")                                                        \
  STORE(shld, ANY_CPU, "shldq $9, %%rax, (%%rdi)")                                           \
  STORE(xchg, ANY_CPU, "xchgq %%rax, (%%rdi)")                                               \
  STORE(xchg_byte, ANY_CPU, "xchgb %%al, (%%rdi)")                                           \
  STORE(xadd, ANY_CPU, "xaddq %%rax, (%%rdi)")                                               \
  STORE(lock_add, ANY_CPU, "lock addl %%eax, (%%rdi)")                                       \
  STORE(lock_inc, ANY_CPU, "lock incq (%%rdi)")                                              \
  STORE(lock_or, ANY_CPU, "lock orb $1, (%%rdi)")                                            \
  STORE(lock_neg_dec, ANY_CPU, "lock decw (%%rdi)")                                          \
  STORE(lock_xadd, ANY_CPU, "lock xaddq %%rax, (%%rdi)")                                     \
  STORE(cmpxchg, ANY_CPU, "xorl %%eax, %%eax\n\tmovl $-1, %%ebx\n\tcmpxchgq %%rbx, (%%rdi)") \
  STORE(lock_cmpxchg, ANY_CPU,                                                               \
        "xorl %%eax, %%eax\n\tmovl $-1, %%ebx\n\tlock cmpxchgl %%ebx, (%%rdi)")              \
  STORE(cmpxchg8b, ANY_CPU, "xorl %%eax, %%eax\n\tmovl $-1, %%ebx\n\tlock cmpxchg8b (%%rdi)")

#define PAIR_MODIFIES                                                                             \
  STORE(cmpxchg16b, NEEDS_CX16,                                                                   \
        "movq %%rax, %%rbx\n\tmovq %%rax, %%rcx\n\txorl %%eax, %%eax\n\tcmpxchg16b (%%rdi)")      \
  STORE(lock_cmpxchg16b, NEEDS_CX16,                                                              \
        "movq %%rax, %%rbx\n\tmovq %%rax, %%rcx\n\txorl %%eax, %%eax\n\tlock cmpxchg16b (%%rdi)") \
  STORE(cmpxchg16b_other, NEEDS_CX16, "incl %%edx\n\tlock cmpxchg16b (%%rdi)")

// ---- vectors
// ---------------------------------------------------------------------------------------

#define VECTOR_STORES                                                          \
  STORE(movups, ANY_CPU, "movups %%xmm0, (%%rdi)")                             \
  STORE(movaps, ANY_CPU, "movaps %%xmm0, (%%rdi)")                             \
  STORE(movntps, ANY_CPU, "movntps %%xmm0, (%%rdi)")                           \
  STORE(movdqu, ANY_CPU, "movdqu %%xmm0, (%%rdi)")                             \
  STORE(movntdq, ANY_CPU, "movntdq %%xmm0, (%%rdi)")                           \
  STORE(movlps, ANY_CPU, "movlps %%xmm0, (%%rdi)")                             \
  STORE(movhps, ANY_CPU, "movhps %%xmm0, (%%rdi)")                             \
  STORE(movss, ANY_CPU, "movss %%xmm0, (%%rdi)")                               \
  STORE(movsd, ANY_CPU, "movsd %%xmm0, (%%rdi)")                               \
  STORE(movq, ANY_CPU, "movq %%xmm0, (%%rdi)")                                 \
  STORE(movd, ANY_CPU, "movd %%xmm0, (%%rdi)")                                 \
  STORE(movq_mmx, ANY_CPU, "movq %%rax, %%mm0\n\tmovq %%mm0, (%%rdi)\n\temms") \
  STORE(movntq, ANY_CPU, "movq %%rax, %%mm0\n\tmovntq %%mm0, (%%rdi)\n\temms") \
  STORE(pextrb, ANY_CPU, "pextrb $3, %%xmm0, (%%rdi)")                         \
  STORE(pextrq, ANY_CPU, "pextrq $1, %%xmm0, (%%rdi)")                         \
  STORE(extractps, ANY_CPU, "extractps $1, %%xmm0, (%%rdi)")

#define FROM_XMM1 "\n\tmovq %%xmm1, %%rax"
#define VECTOR_LOADS                                                                   \
  LOAD(movups, ANY_CPU, 8, "movups (%%rdi), %%xmm1" FROM_XMM1)                         \
  LOAD(movdqa, ANY_CPU, 8, "andq $-16, %%rdi\n\tmovdqa (%%rdi), %%xmm1" FROM_XMM1)     \
  LOAD(lddqu, ANY_CPU, 8, "lddqu (%%rdi), %%xmm1" FROM_XMM1)                           \
  LOAD(movlps, ANY_CPU, 8, "movlps (%%rdi), %%xmm1" FROM_XMM1)                         \
  LOAD(movddup, ANY_CPU, 8, "movddup (%%rdi), %%xmm1" FROM_XMM1)                       \
  LOAD(movss, ANY_CPU, 4, "movss (%%rdi), %%xmm1" FROM_XMM1)                           \
  LOAD(pinsrq, ANY_CPU, 8, "pinsrq $0, (%%rdi), %%xmm1" FROM_XMM1)                     \
  LOAD(paddq, ANY_CPU, 8,                                                              \
       "andq $-16, %%rdi\n\tpxor %%xmm1, %%xmm1\n\tpaddq (%%rdi), %%xmm1" FROM_XMM1)   \
  LOAD(movntdqa, ANY_CPU, 8, "andq $-16, %%rdi\n\tmovntdqa (%%rdi), %%xmm1" FROM_XMM1) \
  LOAD(mmx, ANY_CPU, 8, "movq (%%rdi), %%mm0\n\tmovq %%mm0, %%rax\n\temms")            \
  TOUCH(pmovzxbw, ANY_CPU, "pmovzxbw (%%rdi), %%xmm1")                                 \
  TOUCH(ucomisd, ANY_CPU, "ucomisd (%%rdi), %%xmm1")                                   \
  TOUCH(cvtpi2ps, ANY_CPU, "cvtdq2pd (%%rdi), %%xmm1")

#define YMM0 "vbroadcastsd %%xmm0, %%ymm0\n\t"
#define AVX_STORES                                                         \
  STORE(vmovups, NEEDS_AVX2, YMM0 "vmovups %%ymm0, (%%rdi)")               \
  STORE(vmovaps, NEEDS_AVX2, YMM0 "vmovaps %%ymm0, (%%rdi)")               \
  STORE(vmovdqu_x, NEEDS_AVX, "vmovdqu %%xmm0, (%%rdi)")                   \
  STORE(vmovntdq, NEEDS_AVX2, YMM0 "vmovntdq %%ymm0, (%%rdi)")             \
  STORE(vextractf128, NEEDS_AVX2, YMM0 "vextractf128 $1, %%ymm0, (%%rdi)") \
  STORE(vextracti128, NEEDS_AVX2, YMM0 "vextracti128 $1, %%ymm0, (%%rdi)") \
  STORE(vpextrd, NEEDS_AVX, "vpextrd $1, %%xmm0, (%%rdi)")                 \
  STORE(vmovss, NEEDS_AVX, "vmovss %%xmm0, (%%rdi)")                       \
  STORE(vmovhpd, NEEDS_AVX, "vmovhpd %%xmm0, (%%rdi)")                     \
  STORE(vcvtps2ph, NEEDS_F16C,                                             \
        "movl $0x40000000, %%eax\n\tmovd %%eax, %%xmm1\n\t"                \
        "vcvtps2ph $0, %%xmm1, (%%rdi)")

#define AVX_LOADS                                                                  \
  LOAD(vmovups, NEEDS_AVX, 8, "vmovups (%%rdi), %%ymm1" FROM_XMM1)                 \
  LOAD(vmovdqu_x, NEEDS_AVX, 8, "vmovdqu (%%rdi), %%xmm1" FROM_XMM1)               \
  LOAD(vbroadcastsd, NEEDS_AVX, 8, "vbroadcastsd (%%rdi), %%ymm1" FROM_XMM1)       \
  LOAD(vpbroadcastq, NEEDS_AVX2, 8, "vpbroadcastq (%%rdi), %%xmm1" FROM_XMM1)      \
  LOAD(vbroadcastf128, NEEDS_AVX, 8, "vbroadcastf128 (%%rdi), %%ymm1" FROM_XMM1)   \
  LOAD(vpaddq, NEEDS_AVX, 8,                                                       \
       "vpxor %%xmm1, %%xmm1, %%xmm1\n\tvpaddq (%%rdi), %%xmm1, %%xmm1" FROM_XMM1) \
  LOAD(vinserti128, NEEDS_AVX2, 8, "vinserti128 $0, (%%rdi), %%ymm1, %%ymm1" FROM_XMM1)

#define ZMM0 "vpbroadcastq %%xmm0, %%zmm0\n\tkxnorw %%k1, %%k1, %%k1\n\t"
#define AVX512_STORES                                                                       \
  STORE(zmm, NEEDS_AVX512F, ZMM0 "vmovdqu64 %%zmm0, (%%rdi)")                               \
  STORE(zmm_aligned, NEEDS_AVX512F, ZMM0 "vmovdqa32 %%zmm0, (%%rdi)")                       \
  STORE(zmm_masked, NEEDS_AVX512F, ZMM0 "vmovdqu64 %%zmm0, (%%rdi)%{%%k1%}")                \
  STORE(zmm_masked_bytes, NEEDS_AVX512BW, ZMM0 "vmovdqu8 %%zmm0, (%%rdi)%{%%k1%}")          \
  STORE(zmm_one_lane, NEEDS_AVX512F,                                                        \
        ZMM0 "movl $0x80, %%eax\n\tkmovw %%eax, %%k1\n\tvmovdqu64 %%zmm0, (%%rdi)%{%%k1%}") \
  STORE(zmm_scaled_displacement, NEEDS_AVX512F,                                             \
        ZMM0 "subq $0x40, %%rdi\n\tvmovdqu64 %%zmm0, 0x40(%%rdi)")                          \
  STORE(ymm_high_register, NEEDS_AVX512F,                                                   \
        ZMM0                                                                                \
        "vmovdqa64 %%zmm0, %%zmm17\n\t"                                                     \
        "vmovups %%zmm17, (%%rdi)")                                                         \
  STORE(vmovntdq_z, NEEDS_AVX512F, ZMM0 "vmovntdq %%zmm0, (%%rdi)")                         \
  STORE(vcompressps, NEEDS_AVX512F, ZMM0 "vcompressps %%zmm0, (%%rdi)%{%%k1%}")             \
  STORE(vpcompressq, NEEDS_AVX512F, ZMM0 "vpcompressq %%zmm0, (%%rdi)%{%%k1%}")             \
  STORE(vpmovqb, NEEDS_AVX512F, ZMM0 "vpmovqb %%zmm0, (%%rdi)")                             \
  STORE(vpmovusqd, NEEDS_AVX512F, ZMM0 "vpmovusqd %%zmm0, (%%rdi)%{%%k1%}")                 \
  STORE(vextracti64x4, NEEDS_AVX512F, ZMM0 "vextracti64x4 $1, %%zmm0, (%%rdi)")             \
  STORE(vpcompressb, ANY_CPU, ZMM0 "vpcompressb %%zmm0, (%%rdi)%{%%k1%}")                   \
  STORE(vcvtps2ph_z, NEEDS_AVX512F, ZMM0 "vcvtps2ph $0, %%zmm0, (%%rdi)")                   \
  STORE(vmovsh, ANY_CPU, "vmovsh %%xmm0, (%%rdi)")                                          \
  STORE(vmovw, ANY_CPU, "vmovw %%xmm0, (%%rdi)")                                            \
  STORE(kmovq, NEEDS_AVX512BW, "kmovq %%rax, %%k2\n\tkmovq %%k2, (%%rdi)")

#define AVX512_LOADS                                                                          \
  LOAD(zmm, NEEDS_AVX512F, 8, "vmovdqu64 (%%rdi), %%zmm1" FROM_XMM1)                          \
  LOAD(zmm_masked, NEEDS_AVX512F, 8, ZMM0 "vmovdqu64 (%%rdi), %%zmm1%{%%k1%}%{z%}" FROM_XMM1) \
  LOAD(vpexpandq, NEEDS_AVX512F, 8, ZMM0 "vpexpandq (%%rdi), %%zmm1%{%%k1%}" FROM_XMM1)       \
  LOAD(embedded_broadcast, NEEDS_AVX512F, 8,                                                  \
       "vpxorq %%zmm1, %%zmm1, %%zmm1\n\tvpaddq (%%rdi)%{1to8%}, %%zmm1, %%zmm1" FROM_XMM1)   \
  LOAD(scaled_displacement, NEEDS_AVX512F, 8,                                                 \
       "subq $0x40, %%rdi\n\tvmovdqu64 0x40(%%rdi), %%zmm1" FROM_XMM1)                        \
  LOAD(vbroadcasti64x4, NEEDS_AVX512F, 8, "vbroadcasti64x4 (%%rdi), %%zmm1" FROM_XMM1)        \
  LOAD(kmovq, NEEDS_AVX512BW, 8, "kmovq (%%rdi), %%k2\n\tkmovq %%k2, %%rax")

// ---- addresses
// -------------------------------------------------------------------------------------

// INSTRUCTION(before, operand) with the target reached by every kind of sum that wraps at 2^64.
#define ADDRESSES(F)                                                                              \
  F(base_and_zero, "", "(%%rdi,%%rbx)")                                                           \
  F(index_only, "", "(%%rbx,%%rdi)")                                                              \
  F(index_from_own, "subq %%rsi, %%rdi\n\t", "(%%rsi,%%rdi)")                                     \
  F(index_scaled, "movq %%rdi, %%rbx\n\tandl $7, %%ebx\n\tshrq $3, %%rdi\n\t", "(%%rbx,%%rdi,8)") \
  F(index_scaled_from_own, "subq %%rsi, %%rdi\n\tsarq $2, %%rdi\n\t", "(%%rsi,%%rdi,4)")          \
  F(negative_index, "movabsq $0x100000000000, %%rbx\n\taddq %%rbx, %%rdi\n\tnegq %%rbx\n\t",      \
    "(%%rdi,%%rbx)")                                                                              \
  F(base_wraps, "movabsq $0x8000000000000000, %%rbx\n\taddq %%rbx, %%rdi\n\t", "(%%rdi,%%rbx)")   \
  F(scale_wraps, "movabsq $0x8000000000000000, %%rbx\n\taddq %%rbx, %%rdi\n\tshrq %%rbx\n\t",     \
    "(%%rdi,%%rbx,2)")                                                                            \
  F(no_base, "subq $0x1000, %%rdi\n\tshrq $2, %%rdi\n\t", "0x1000(,%%rdi,4)")                     \
  F(r12_r13, "movq %%rdi, %%r12\n\tmovq %%rbx, %%r13\n\t", "(%%r12,%%r13,2)")                     \
  F(index_is_base, "shrq %%rdi\n\t", "(%%rdi,%%rdi)")

#define DISPLACEMENTS(F)                                                                        \
  F(greatest, "subq $0x7fffffff, %%rdi\n\t", "0x7fffffff(%%rdi)")                               \
  F(least, "addq $0x7fffffff, %%rdi\n\tincq %%rdi\n\t", "-0x80000000(%%rdi)")                   \
  F(disp8, "subq $0x7f, %%rdi\n\t", "0x7f(%%rdi)")                                              \
  F(disp8_negative, "subq $-0x80, %%rdi\n\t", "-0x80(%%rdi)")                                   \
  F(by_rbp, "leaq -0x100(%%rdi), %%rbp\n\t", "0x100(%%rbp)")                                    \
  F(by_rsp, "leaq -0x100(%%rdi), %%rsp\n\t", "0x100(%%rsp)")                                    \
  F(by_rsp_far, "movq %%rdi, %%rsp\n\tsubq $0x7ffffff0, %%rsp\n\t", "0x7ffffff0(%%rsp)")        \
  F(by_rsp_index, "leaq -0x100(%%rdi), %%rsp\n\t", "0x100(%%rsp,%%rbx,8)")                      \
  F(with_index, "subq $0x7fffffff, %%rdi\n\t", "0x7fffffff(%%rdi,%%rbx,8)")                     \
  F(noncanonical_base, "movabsq $0x800000000000, %%rbx\n\taddq %%rbx, %%rdi\n\tnegq %%rbx\n\t", \
    "(%%rdi,%%rbx)")

#define STORE_AT(name, before, operand) STORE(name, ANY_CPU, before "movq %%rax, " operand)
#define STORE_VECTOR_AT(name, before, operand) \
  STORE(name##_x, ANY_CPU, before "movdqu %%xmm0, " operand)
#define LOAD_AT(name, before, operand) LOAD(name, ANY_CPU, 8, before "movq " operand ", %%rax")
#define LOAD_VECTOR_AT(name, before, operand) \
  LOAD(name##_x, ANY_CPU, 8, before "movdqu " operand ", %%xmm1" FROM_XMM1)

#define INDEXED_STORES ADDRESSES(STORE_AT) ADDRESSES(STORE_VECTOR_AT)
#define INDEXED_LOADS ADDRESSES(LOAD_AT) ADDRESSES(LOAD_VECTOR_AT)
#define DISPLACED_STORES DISPLACEMENTS(STORE_AT) DISPLACEMENTS(STORE_VECTOR_AT)
#define DISPLACED_LOADS DISPLACEMENTS(LOAD_AT) DISPLACEMENTS(LOAD_VECTOR_AT)

// ---- bit strings
// -----------------------------------------------------------------------------------

// The offset counts bits, of any sign: [rsi] reaches 2^60 bytes in both directions.
#define BIT_OFFSET "subq %%rsi, %%rdi\n\tshlq $3, %%rdi\n\t"
#define BIT_STORES                                                                               \
  STORE(bts, ANY_CPU, BIT_OFFSET "btsq %%rdi, (%%rsi)")                                          \
  STORE(btc, ANY_CPU, BIT_OFFSET "btcq %%rdi, (%%rsi)")                                          \
  STORE(lock_bts, ANY_CPU, BIT_OFFSET "lock btsq %%rdi, (%%rsi)")                                \
  STORE(bts_negative, ANY_CPU,                                                                   \
        "movabsq $0x10000000000, %%rbx\n\taddq %%rbx, %%rdi\n\tshlq $3, %%rbx\n\t"               \
        "negq %%rbx\n\tbtsq %%rbx, (%%rdi)")                                                     \
  STORE(bts_dword, ANY_CPU, "subq $0x1000, %%rdi\n\tmovl $0x8000, %%ebx\n\tbtsl %%ebx, (%%rdi)") \
  STORE(bts_word, ANY_CPU, "addq $0x1000, %%rdi\n\tmovl $-0x8000, %%ebx\n\tbtsw %%bx, (%%rdi)")  \
  STORE(bts_immediate, ANY_CPU, "btsq $63, (%%rdi)")                                             \
  STORE(bts_indexed, ANY_CPU, BIT_OFFSET "btcq %%rdi, -8(%%rsi,%%rbx,8)")
#define BIT_LOADS                                                                              \
  TOUCH(bt, ANY_CPU, BIT_OFFSET "btq %%rdi, (%%rsi)")                                          \
  TOUCH(bt_dword, ANY_CPU, "subq $0x1000, %%rdi\n\tmovl $0x8000, %%ebx\n\tbtl %%ebx, (%%rdi)") \
  TOUCH(bt_immediate, ANY_CPU, "btq $63, (%%rdi)")

// ---- segments
// --------------------------------------------------------------------------------------

#define SET_FS "rdfsbase %%r13\n\twrfsbase %%rdi\n\t"
#define OWN_FS "\n\twrfsbase %%r13"
// FS base from RDI by arch_prctl; refused, it stays and there is nothing to attack with.
#define CALL_FS                                                                           \
  "rdfsbase %%r13\n\tmovq %%rdi, %%r12\n\tmovq %%rsi, %%r14\n\tmovq %%rax, %%r15\n\t"     \
  "movq %%rdi, %%rsi\n\tmovl $0x1002, %%edi\n\tmovl $158, %%eax\n\tsyscall\n\t"           \
  "movq %%r12, %%rdi\n\tmovq %%r14, %%rsi\n\ttestl %%eax, %%eax\n\tmovq %%r15, %%rax\n\t" \
  "je 1f\n\tud2\n\t1: "
#define FS_STORES                                                                                 \
  STORE(wrfsbase, ANY_CPU, SET_FS "movq %%rax, %%fs:0" OWN_FS)                                    \
  STORE(arch_prctl, ANY_CPU, CALL_FS "movq %%rax, %%fs:0" OWN_FS)                                 \
  STORE(fs_displacement, ANY_CPU,                                                                 \
        "subq $0x1000, %%rdi\n\t" SET_FS "movq %%rax, %%fs:0x1000" OWN_FS)                        \
  STORE(fs_negative, ANY_CPU, "addq $0x1000, %%rdi\n\t" SET_FS "movq %%rax, %%fs:-0x1000" OWN_FS) \
  STORE(fs_register, ANY_CPU, SET_FS "movq %%rax, %%fs:(%%rbx)" OWN_FS)                           \
  STORE(fs_own_base, ANY_CPU,                                                                     \
        "movq %%rdi, %%rbx\n\tsubq %%rsi, %%rbx\n\tmovq %%rsi, %%rdi\n\t" SET_FS                  \
        "movq %%rax, %%fs:(%%rbx)" OWN_FS)                                                        \
  STORE(fs_own_base_index, ANY_CPU,                                                               \
        "movq %%rdi, %%rbx\n\tsubq %%rsi, %%rbx\n\tmovq %%rsi, %%rdi\n\tshrq $3, %%rbx\n\t"       \
        "xorl %%ecx, %%ecx\n\t" SET_FS "movq %%rax, %%fs:(%%rcx,%%rbx,8)" OWN_FS)                 \
  STORE(fs_unchanged, ANY_CPU, "rdfsbase %%r13\n\tsubq %%r13, %%rdi\n\tmovq %%rax, %%fs:(%%rdi)") \
  STORE(fs_zero, ANY_CPU,                                                                         \
        "movq %%rdi, %%rbx\n\txorl %%edi, %%edi\n\t" SET_FS "movq %%rax, %%fs:(%%rbx)" OWN_FS)    \
  STORE(fs_address_size, ANY_CPU, SET_FS "movq %%rax, %%fs:(%%ebx)" OWN_FS)                       \
  STORE(fs_vector, ANY_CPU, SET_FS "movdqu %%xmm0, %%fs:(%%rbx)" OWN_FS)                          \
  STORE(fs_byte, ANY_CPU, SET_FS "movb $0x77, %%fs:0" OWN_FS)                                     \
  STORE(fs_lock, ANY_CPU, SET_FS "lock addq %%rax, %%fs:0" OWN_FS)                                \
  STORE(fs_pop, ANY_CPU, "pushq %%rax\n\t" SET_FS "popq %%fs:0" OWN_FS)                           \
  STORE(fs_by_rsp, ANY_CPU,                                                                       \
        SET_FS                                                                                    \
        "movq %%rsp, %%r14\n\txorl %%esp, %%esp\n\t"                                              \
        "movq %%rax, %%fs:(%%rsp)\n\tmovq %%r14, %%rsp" OWN_FS)
#define FS_LOADS                                                                                  \
  LOAD(wrfsbase, ANY_CPU, 8, SET_FS "movq %%fs:0, %%rax" OWN_FS)                                  \
  LOAD(arch_prctl, ANY_CPU, 8, CALL_FS "movq %%fs:0, %%rax" OWN_FS)                               \
  LOAD(fs_own_base, ANY_CPU, 8,                                                                   \
       "movq %%rdi, %%rbx\n\tsubq %%rsi, %%rbx\n\tmovq %%rsi, %%rdi\n\t" SET_FS                   \
       "movq %%fs:(%%rbx), %%rax" OWN_FS)                                                         \
  LOAD(fs_unchanged, ANY_CPU, 8,                                                                  \
       "rdfsbase %%r13\n\tsubq %%r13, %%rdi\n\tmovq %%fs:(%%rdi), %%rax")                         \
  LOAD(fs_push, ANY_CPU, 8, SET_FS "pushq %%fs:0" OWN_FS "\n\tpopq %%rax")                        \
  LOAD(fs_vector, ANY_CPU, 8, SET_FS "movdqu %%fs:(%%rbx), %%xmm1" OWN_FS FROM_XMM1)              \
  LOAD(fs_movs, ANY_CPU, 8,                                                                       \
       "movq %%rsi, %%r12\n\tmovq %%rdi, %%r14\n\t" SET_FS                                        \
       "xorl %%esi, %%esi\n\tmovq %%r12, %%rdi\n\t"                                               \
       "movl $8, %%ecx\n\trep movsb %%fs:(%%rsi), %%es:(%%rdi)" OWN_FS "\n\tmovq (%%r12), %%rax") \
  LOAD(fs_lods, ANY_CPU, 8, SET_FS "xorl %%esi, %%esi\n\tlodsq %%fs:(%%rsi), %%rax" OWN_FS)

#define SET_GS "wrgsbase %%rdi\n\t"
#define GS_STORES                                                                                  \
  STORE(wrgsbase, ANY_CPU, SET_GS "movq %%rax, %%gs:0")                                            \
  STORE(gs_displacement, ANY_CPU, "subq $0x1000, %%rdi\n\t" SET_GS "movq %%rax, %%gs:0x1000")      \
  STORE(gs_register, ANY_CPU, SET_GS "movq %%rax, %%gs:(%%rbx)")                                   \
  STORE(gs_own_base, ANY_CPU,                                                                      \
        "movq %%rdi, %%rbx\n\tsubq %%rsi, %%rbx\n\tmovq %%rsi, %%rdi\n\t" SET_GS                   \
        "movq %%rax, %%gs:(%%rbx)")                                                                \
  STORE(gs_own_base_index, ANY_CPU,                                                                \
        "movq %%rdi, %%rbx\n\tsubq %%rsi, %%rbx\n\tmovq %%rsi, %%rdi\n\tshrq $3, %%rbx\n\t" SET_GS \
        "movq %%rax, %%gs:(%%rcx,%%rbx,8)")                                                        \
  STORE(gs_context_slot, ANY_CPU, "xorl %%ebx, %%ebx\n\twrgsbase %%rbx\n\tmovq %%rax, %%gs:0xc00") \
  STORE(gs_vector, ANY_CPU, SET_GS "movdqu %%xmm0, %%gs:(%%rbx)")                                  \
  STORE(gs_lock, ANY_CPU, SET_GS "lock addq %%rax, %%gs:0")                                        \
  STORE(gs_pop, ANY_CPU, "pushq %%rax\n\t" SET_GS "popq %%gs:0")                                   \
  STORE(gs_address_size, ANY_CPU, SET_GS "movq %%rax, %%gs:(%%ebx)")
#define GS_LOADS                                                                \
  LOAD(wrgsbase, ANY_CPU, 8, SET_GS "movq %%gs:0, %%rax")                       \
  LOAD(gs_own_base, ANY_CPU, 8,                                                 \
       "movq %%rdi, %%rbx\n\tsubq %%rsi, %%rbx\n\tmovq %%rsi, %%rdi\n\t" SET_GS \
       "movq %%gs:(%%rbx), %%rax")                                              \
  LOAD(gs_push, ANY_CPU, 8, SET_GS "pushq %%gs:0\n\tpopq %%rax")                \
  LOAD(gs_vector, ANY_CPU, 8, SET_GS "movdqu %%gs:(%%rbx), %%xmm1" FROM_XMM1)   \
  LOAD(gs_lods, ANY_CPU, 8, SET_GS "xorl %%esi, %%esi\n\tlodsq %%gs:(%%rsi), %%rax")

// ---- gathers, scatters, masks
// ----------------------------------------------------------------------

#define GATHER_LOADS                                                                             \
  LOAD(gather_base, NEEDS_AVX2, 8,                                                               \
       "vpxor %%xmm2, %%xmm2, %%xmm2\n\tvpcmpeqd %%xmm3, %%xmm3, %%xmm3\n\t"                     \
       "vpgatherqq %%xmm3, (%%rdi,%%xmm2), %%xmm1" FROM_XMM1)                                    \
  LOAD(gather_index, NEEDS_AVX2, 8,                                                              \
       "vmovq %%rdi, %%xmm2\n\tvpbroadcastq %%xmm2, %%xmm2\n\t"                                  \
       "vpcmpeqd %%xmm3, %%xmm3, %%xmm3\n\tvpgatherqq %%xmm3, (%%rbx,%%xmm2), %%xmm1" FROM_XMM1) \
  LOAD(gather_from_own, NEEDS_AVX2, 8,                                                           \
       "subq %%rsi, %%rdi\n\tvmovq %%rdi, %%xmm2\n\t"                                            \
       "vpbroadcastq %%xmm2, %%xmm2\n\tvpcmpeqd %%xmm3, %%xmm3, %%xmm3\n\t"                      \
       "vpgatherqq %%xmm3, (%%rsi,%%xmm2), %%xmm1" FROM_XMM1)                                    \
  LOAD(gather_dword_index, NEEDS_AVX2, 8,                                                        \
       "vpcmpeqd %%xmm3, %%xmm3, %%xmm3\n\t"                                                     \
       "addq $8, %%rdi\n\tvpcmpeqd %%xmm2, %%xmm2, %%xmm2\n\t"                                   \
       "vpgatherdq %%xmm3, (%%rdi,%%xmm2,8), %%xmm1" FROM_XMM1)                                  \
  LOAD(gather_zmm, NEEDS_AVX512F, 8,                                                             \
       "vpbroadcastq %%rdi, %%zmm2\n\tkxnorw %%k1, %%k1, %%k1\n\t"                               \
       "vpgatherqq (%%rbx,%%zmm2), %%zmm1%{%%k1%}" FROM_XMM1)                                    \
  LOAD(gather_ps, NEEDS_AVX2, 4,                                                                 \
       "vpxor %%xmm2, %%xmm2, %%xmm2\n\tvpcmpeqd %%xmm3, %%xmm3, %%xmm3\n\t"                     \
       "vgatherdps %%xmm3, (%%rdi,%%xmm2), %%xmm1" FROM_XMM1)
#define SCATTER_STORES                                                                             \
  STORE(scatter_base, NEEDS_AVX512F,                                                               \
        ZMM0                                                                                       \
        "vpxorq %%zmm2, %%zmm2, %%zmm2\n\t"                                                        \
        "vpscatterdd %%zmm0, (%%rdi,%%zmm2)%{%%k1%}")                                              \
  STORE(scatter_index, NEEDS_AVX512F,                                                              \
        ZMM0                                                                                       \
        "vpbroadcastq %%rdi, %%zmm2\n\t"                                                           \
        "vpscatterqq %%zmm0, (%%rbx,%%zmm2)%{%%k1%}")                                              \
  STORE(scatter_from_own, NEEDS_AVX512F,                                                           \
        ZMM0                                                                                       \
        "subq %%rsi, %%rdi\n\tvpbroadcastq %%rdi, %%zmm2\n\t"                                      \
        "vpscatterqq %%zmm0, (%%rsi,%%zmm2)%{%%k1%}")                                              \
  STORE(scatter_dword_index, NEEDS_AVX512F,                                                        \
        ZMM0                                                                                       \
        "addq $8, %%rdi\n\t"                                                                       \
        "vpternlogd $255, %%zmm2, %%zmm2, %%zmm2\n\tvpscatterdq %%zmm0, (%%rdi,%%ymm2,8)%{%%k1%}") \
  STORE(scatter_pd, NEEDS_AVX512F,                                                                 \
        ZMM0                                                                                       \
        "vpbroadcastq %%rdi, %%zmm2\n\t"                                                           \
        "vscatterqpd %%zmm0, (%%rbx,%%zmm2)%{%%k1%}")
#define MASK_STORES                                                                              \
  STORE(maskmovdqu, ANY_CPU, "pcmpeqd %%xmm1, %%xmm1\n\tmaskmovdqu %%xmm1, %%xmm0")              \
  STORE(vmaskmovdqu, NEEDS_AVX, "vpcmpeqd %%xmm1, %%xmm1, %%xmm1\n\tvmaskmovdqu %%xmm1, %%xmm0") \
  STORE(maskmovq, ANY_CPU,                                                                       \
        "movq %%rax, %%mm0\n\tpcmpeqd %%mm1, %%mm1\n\t"                                          \
        "maskmovq %%mm1, %%mm0\n\temms")                                                         \
  STORE(vmaskmovps, NEEDS_AVX2,                                                                  \
        YMM0                                                                                     \
        "vpcmpeqd %%ymm1, %%ymm1, %%ymm1\n\t"                                                    \
        "vmaskmovps %%ymm0, %%ymm1, (%%rdi)")                                                    \
  STORE(vpmaskmovq, NEEDS_AVX2,                                                                  \
        YMM0                                                                                     \
        "vpcmpeqd %%ymm1, %%ymm1, %%ymm1\n\t"                                                    \
        "vpmaskmovq %%ymm0, %%ymm1, (%%rbx,%%rdi)")
#define MASK_LOADS                                     \
  LOAD(vmaskmovps, NEEDS_AVX2, 8,                      \
       "vpcmpeqd %%ymm2, %%ymm2, %%ymm2\n\t"           \
       "vmaskmovps (%%rdi), %%ymm2, %%ymm1" FROM_XMM1) \
  LOAD(vpmaskmovq, NEEDS_AVX2, 8,                      \
       "vpcmpeqd %%ymm2, %%ymm2, %%ymm2\n\t"           \
       "vpmaskmovq (%%rdi), %%ymm2, %%ymm1" FROM_XMM1)
#define LINE_STORES                                       \
  STORE(movdir64b, ANY_CPU, "movdir64b (%%rsi), %%rdi") \
  STORE(clzero, ANY_CPU, "movq %%rdi, %%rax\n\tclzero")

// ---- state
// -----------------------------------------------------------------------------------------

#define STATE_STORES                                                                 \
  STORE(fxsave, ANY_CPU, "fxsave (%%rdi)")                                           \
  STORE(fxsave64, ANY_CPU, "fxsave64 (%%rdi)")                                       \
  STORE(xsave, ANY_CPU, "movl $7, %%eax\n\txsave (%%rdi)")                           \
  STORE(xsave64_all, ANY_CPU, "orl $-1, %%eax\n\torl $-1, %%edx\n\txsave64 (%%rdi)") \
  STORE(xsaveopt, ANY_CPU, "movl $7, %%eax\n\txsaveopt (%%rdi)")                     \
  STORE(xsavec, NEEDS_XSAVEC, "movl $7, %%eax\n\txsavec (%%rdi)")                    \
  STORE(fnstenv, ANY_CPU, "fnstenv (%%rdi)")                                         \
  STORE(fnsave, ANY_CPU, "fnsave (%%rdi)")                                           \
  STORE(fnstcw, ANY_CPU, "fnstcw (%%rdi)")                                           \
  STORE(fnstsw, ANY_CPU, "fld1\n\tfnstsw (%%rdi)\n\tfninit")                         \
  STORE(stmxcsr, ANY_CPU, "stmxcsr (%%rdi)")                                         \
  STORE(vstmxcsr, NEEDS_AVX, "vstmxcsr (%%rdi)")
// Of the runtime's memory, only zeros are surely a state that can be loaded.
#define STATE_LOADS                                           \
  ROOM(fxrstor, ANY_CPU, "fxrstor64 (%%rdi)")                 \
  ROOM(xrstor, ANY_CPU, "movl $7, %%eax\n\txrstor64 (%%rdi)") \
  ROOM(fldenv, ANY_CPU, "fldenv (%%rdi)\n\tfninit")           \
  ROOM(frstor, ANY_CPU, "frstor (%%rdi)\n\tfninit")           \
  ROOM(fldcw, ANY_CPU, "fldcw (%%rdi)\n\tfninit")             \
  ROOM(ldmxcsr, ANY_CPU, "ldmxcsr (%%rdi)")

// ---- the rows as tables
// ----------------------------------------------------------------------------

#define LISTS(L)                                                                            \
  L(plain_stores, PLAIN_STORES)                                                             \
  L(plain_loads, PLAIN_LOADS)                                                               \
  L(modifies, MODIFIES)                                                                     \
  L(pair_modifies, PAIR_MODIFIES)                                                           \
  L(vector_stores, VECTOR_STORES)                                                           \
  L(vector_loads, VECTOR_LOADS) L(avx_stores, AVX_STORES) L(avx_loads, AVX_LOADS)           \
      L(avx512_stores, AVX512_STORES) L(avx512_loads, AVX512_LOADS)                         \
          L(indexed_stores, INDEXED_STORES) L(indexed_loads, INDEXED_LOADS)                 \
              L(displaced_stores, DISPLACED_STORES) L(displaced_loads, DISPLACED_LOADS)     \
                  L(bit_string_stores, BIT_STORES) L(bit_string_loads, BIT_LOADS)           \
                      L(fs_stores, FS_STORES) L(fs_loads, FS_LOADS) L(gs_stores, GS_STORES) \
                          L(gs_loads, GS_LOADS) L(gather_loads, GATHER_LOADS)               \
                              L(scatter_stores, SCATTER_STORES) L(mask_stores, MASK_STORES) \
                                  L(mask_loads, MASK_LOADS) L(line_stores, LINE_STORES)     \
                                      L(state_stores, STATE_STORES) L(state_loads, STATE_LOADS)

#define X(name, needs, access, bytes, text) ATTACK_CODE(code_##name, text)
#define L(name, ...) __VA_ARGS__
LISTS(L)
#undef X
#undef L
#define X(name, needs, access, bytes, text) {#name, needs, access, bytes, code_##name},
#define L(name, ...)                                     \
  static const struct row name##_rows[] = {__VA_ARGS__}; \
  static void run_##name(void) { RUN_ROWS(name##_rows); }
LISTS(L)
#undef L

// ---- absolute addresses in the instruction
// ---------------------------------------------------------

static unsigned char* code_page;

struct absolute {
  const char* name;
  int is_store, prefix_bytes, bytes;
  unsigned char prefix[4];
};

// MOV between the accumulator and a 64-bit address that the instruction holds.
static const struct absolute kAbsolute[] = {
    {"moffs_qword", 1, 2, 8, {0x48, 0xa3}},    {"moffs_dword", 1, 1, 4, {0xa3}},
    {"moffs_word", 1, 2, 2, {0x66, 0xa3}},     {"moffs_byte", 1, 1, 1, {0xa2}},
    {"moffs_fs", 1, 3, 8, {0x64, 0x48, 0xa3}}, {"load_moffs_qword", 0, 2, 8, {0x48, 0xa1}},
    {"load_moffs_dword", 0, 1, 4, {0xa1}},     {"load_moffs_byte", 0, 1, 1, {0xa0}},
};

static void run_code_page(u64 ignored) {
  u64 value = 0xa5a5a5a5a5a5a5a5;
  __asm__ volatile("call *%1" : "+a"(value) : "r"(code_page) : "memory");
  attack_loot = value;
}

static void run_absolute(int is_store) {
  code_page =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (size_t i = 0; i < sizeof(kAbsolute) / sizeof(kAbsolute[0]); ++i) {
    const struct absolute* row = &kAbsolute[i];
    if (row->is_store != is_store) continue;
    for (int j = 0; j < place_count; ++j) {
      u64 target = is_store ? places[j].write : places[j].read;
      if (target == 0) continue;
      const u64 address = row->prefix[0] == 0x64 ? target - attack_fs_base : target;
      memcpy(code_page, row->prefix, (size_t)row->prefix_bytes);
      memcpy(code_page + row->prefix_bytes, &address, 8);
      code_page[row->prefix_bytes + 8] = 0xc3;
      const int signal_number = attempt(run_code_page, 0);
      if (signal_number == 0) {
        say("completed %s %s", row->name, places[j].name);
        if (!is_store)
          say("loot %s %s %lx %d %lx", row->name, places[j].name, target, row->bytes, attack_loot);
      } else if (!is_refusal(signal_number)) {
        breach("%s at %s: signal %d", row->name, places[j].name, signal_number);
      }
    }
  }
}
static void run_absolute_stores(void) { run_absolute(1); }
static void run_absolute_loads(void) { run_absolute(0); }

// ---- 32-bit addresses
// ------------------------------------------------------------------------------

ATTACK_CODE(code_short_base, "movq %%rax, (%%edi)")
ATTACK_CODE(code_short_sum,
            "movl $0x80000000, %%ebx\n\tsubl %%ebx, %%edi\n\tmovq %%rax, (%%edi,%%ebx)")
ATTACK_CODE(code_short_displacement, "movq %%rax, 0x7fffffff(%%edi)")

// The sum is cut to 32 bits: it never gets to the runtime, whatever the registers hold.
static void run_short_addresses(void) {
  // Not where the program's own image lies: what is written there has to fault.
  for (int j = 0; j < place_count; ++j) {
    const u64 target = places[j].write;
    if (target == 0) continue;
    const u64 high = target & ~0xffffffffUL;
    (void)attempt(code_short_base, high | 0xfff);
    (void)attempt(code_short_sum, high | 0xfff);
    (void)attempt(code_short_displacement, high | 0x80000010);
  }
}

const struct attack_case attack_cases[] = {
#define L(name, ...) {#name, run_##name},
    LISTS(L){"absolute_stores", run_absolute_stores},
    {"absolute_loads", run_absolute_loads},
    {"short_addresses", run_short_addresses},
    {NULL, NULL},
};
