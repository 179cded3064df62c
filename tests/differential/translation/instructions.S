# Instructions that a translator copies, but may get wrong: lengths, hidden operands, what reads or changes the machine.
#include "cases.inc"

CASE nops_of_every_length
  nop
  .byte 0x66, 0x90
  .byte 0x0f, 0x1f, 0x00
  .byte 0x0f, 0x1f, 0x40, 0x00
  .byte 0x0f, 0x1f, 0x44, 0x00, 0x00
  .byte 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00
  .byte 0x0f, 0x1f, 0x80, 0, 0, 0, 0
  .byte 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
  .byte 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
  .byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
  .byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
  .byte 0xf3, 0x90                  # pause
  .byte 0xf3, 0x0f, 0x1e, 0xfa      # endbr64
  .byte 0xf3, 0x0f, 0x1e, 0xc8      # rdsspd: a nop without shadow stacks
  .byte 0x41, 0x90                  # xchg %eax, %r8d
  .byte 0x48, 0x90
  xchg %eax, %eax
  xchg %ax, %ax
  ret

CASE fences_and_hints
  mfence; lfence; sfence
  prefetcht0 (%rax)
  prefetchnta 0x7000(%rsp)
  prefetchw arena(%rip)
  clflush arena(%rip)
  pause
  ret

CASE cpuid_leaves_all_registers_of_32_bits
  mov $-1, %rax
  mov $-1, %rbx
  mov $-1, %rcx
  mov $-1, %rdx
  mov $0, %eax
  SET_FLAGS 0x8d5
  cpuid
  pushfq
  shr $32, %rax
  shr $32, %rbx
  shr $32, %rcx
  shr $32, %rdx
  pop %r8
  ret

CASE time_stamp_counter_goes_forward
  xor %r8d, %r8d; mov $1000, %r9d; xor %r11d, %r11d
1:mov $-1, %rax
  mov $-1, %rdx
  SET_FLAGS 0x8d5
  rdtsc
  pushfq
  orq $0x200, (%rsp)
  pop %r12
  mov %rdx, %r13
  shr $32, %r13
  mov %rax, %r14
  shr $32, %r14
  shl $32, %rdx
  or %rdx, %rax
  cmp %r8, %rax
  adc $0, %r11
  mov %rax, %r8
  dec %r9d
  jnz 1b
  rdtscp
  shr $32, %rcx
  shl $32, %rdx
  or %rdx, %rax
  cmp %r8, %rax
  setae %bl
  xor %eax, %eax; xor %edx, %edx; xor %r8d, %r8d
  ret

CASE extended_control_register
  xor %ecx, %ecx
  mov $-1, %rdx
  xgetbv
  and $7, %eax
  shr $32, %rdx
  ret

CASE random_numbers_set_the_carry
  xor %ebx, %ebx
1:rdrand %rax
  jnc 1b
2:rdseed %rcx
  pushfq
  andq $~1, (%rsp)
  popfq
  mov $0, %eax
  mov $0, %ecx
  ret

CASE save_and_restore_vector_state
  fld1
  pcmpeqd %xmm5, %xmm5
  mov $3, %eax
  xor %edx, %edx
  xsave64 area(%rip)
  pxor %xmm5, %xmm5
  fninit
  mov $3, %eax
  xrstor64 area(%rip)
  movups %xmm5, arena(%rip)
  fstpl 32+arena(%rip)
  mov $3, %eax
  xsavec64 area(%rip)
  xsaveopt64 area(%rip)
  mov area+512(%rip), %rbx
  and $3, %ebx
  ret
  .local area
  .comm area, 4096, 64

CASE compare_and_exchange
  mov $5, %eax
  movq $5, arena(%rip)
  mov $9, %ebx
  cmpxchg %rbx, arena(%rip)
  pushfq
  cmpxchg %rcx, arena(%rip)
  pushfq
  mov %rax, %r8
  movq $1, 16+arena(%rip)
  movq $2, 24+arena(%rip)
  mov $1, %eax; mov $2, %edx; mov $3, %ebx; mov $4, %ecx
  lea 16+arena(%rip), %rdi
  lock cmpxchg16b (%rdi)
  pushfq
  lock cmpxchg16b (%rdi)
  pushfq
  mov $3, %eax; mov $4, %edx
  cmpxchg8b (%rdi)
  pop %r9; pop %r10; pop %r11; pop %r12
  ret

CASE bit_string_far_from_its_operand
  lea 1024+arena(%rip), %rdi
  mov $-800, %rax
  bts %rax, (%rdi)
  mov $1700, %ecx
  btr %rcx, (%rdi)
  btc %rax, 8(%rdi)
  ret

CASE multiply_and_divide
  mov $-7, %rax
  mov $3, %ebx
  mul %rbx
  mov %rdx, %r8
  imul %rbx
  cqo
  idiv %rbx
  mov $1000, %eax
  cltd
  idiv %ebx
  cwtl
  mov $77, %eax
  mov $5, %bl
  div %bl
  cbtw
  imul $-5, %rcx, %rcx
  ret

CASE bit_manipulation
  popcnt %rax, %rbx
  lzcnt %rcx, %rdx
  tzcnt %rcx, %rsi
  bsf %rax, %rdi
  bsr %rax, %r8
  pdep %rax, %rcx, %r9
  pext %rax, %rcx, %r10
  mulx %rax, %r11, %r12
  rorx $7, %rax, %r13
  andn %rax, %rcx, %r14
  bswap %rax
  shld $9, %rax, %rcx
  shrd $5, %rcx, %rdx
  crc32q %rax, %rbx
  ret

CASE high_byte_registers
  mov $0x1234, %eax
  mov %ah, %bl
  add %ch, %dh
  xchg %ah, %al
  movzbl %bh, %ecx
  rol $4, %dh
  ret

CASE x87_loop
  fldpi
  fld1
  mov $200, %ecx
1:fld %st(1)
  fmul %st(1), %st
  faddp %st, %st(1)
  fsqrt
  dec %ecx
  jnz 1b
  fcomi %st(1), %st
  pushfq
  fstpt arena(%rip)
  pop %rax
  fstp %st(0)
  ret

CASE rounding_of_the_vector_unit
  lea modes(%rip), %rsi
  mov $4, %ecx
  lea arena(%rip), %rdi
1:ldmxcsr (%rsi)
  mov $1, %eax
  cvtsi2sd %eax, %xmm0
  mov $3, %eax
  cvtsi2sd %eax, %xmm1
  divsd %xmm1, %xmm0
  movsd %xmm0, (%rdi)
  mov $-7, %eax
  cvtsi2sd %eax, %xmm2
  divsd %xmm1, %xmm2
  cvtsd2si %xmm2, %rbx
  mov %rbx, 8(%rdi)
  stmxcsr 16(%rdi)
  add $24, %rdi
  add $4, %rsi
  dec %ecx
  jnz 1b
  ldmxcsr modes(%rip)
  ret
  .pushsection .rodata
modes: .long 0x1f80, 0x3f80, 0x5f80, 0x7f80
  .popsection

CASE denormals_as_zero
  lea 1f(%rip), %rbx
  ldmxcsr (%rbx)
  movsd 8(%rbx), %xmm0
  addsd %xmm0, %xmm0
  movq %xmm0, %rax
  ldmxcsr modes(%rip)
  ret
  .balign 8
1:.long 0x9fc0, 0
  .quad 0x000fffffffffffff

CASE mmx_registers_over_calls
  movq arena(%rip), %mm0
  call 1f
  movq %mm0, 8+arena(%rip)
  emms
  fninit
  ret
1:paddb %mm0, %mm0
  ret

CASE masked_store_by_rdi
  lea 64+arena(%rip), %rdi
  maskmovdqu %xmm1, %xmm0
  ret

CASE conditional_moves_read_their_memory_anyway
  lea arena(%rip), %rbx
  xor %ecx, %ecx
  cmovnz (%rbx), %rax
  cmovz 8(%rbx), %edx
  cmovnz %esi, %edi
  ret

# r12, r13, rsp and rbp as bases have encodings of their own.
CASE addressing_forms
  lea 512+arena(%rip), %r13
  mov %r13, %r12
  mov %rsp, %r14
  mov %r13, %rbp
  mov (%r13), %rax
  mov (%r12), %rbx
  mov 8(%r13), %rcx
  mov 8(%r12), %rdx
  mov 0x100(%r12), %rsi
  mov $2, %edi
  mov (%rbp, %rdi, 8), %r8
  mov 16(%r13, %rdi, 4), %r9
  mov (%r12, %rdi), %r10
  mov -8(%rbp), %r11
  mov %rbp, %rsp
  mov 8(%rsp, %rdi, 2), %rdi
  mov %r14, %rsp
  ret

# Registers that a translator may want for itself, all in use, with flags that live over it all.
CASE all_registers_live_over_a_loop
  mov $300, %ecx
1:add %rax, %rbx; adc %rdx, %rsi; adc %rdi, %rbp; adc %r8, %r9
  adc %r10, %r11; adc %r12, %r13; adc %r14, %r15
  lea (%rax, %r15), %rax; lea (%rdx, %rbx, 2), %rdx
  jc 2f
  lea 1(%r8), %r8
2:sbb %r10, %r12
  lea 7(%rdi), %rdi
  lea -1(%rcx), %rcx
  jrcxz 3f
  jmp 1b
3:ret
