# The flags register: what popf takes, and instructions that read, write or keep single flags.
#include "cases.inc"

  .irp value, 0, 0x8d5, 0x1, 0x4, 0x10, 0x40, 0x80, 0x400, 0x800, 0x4000, 0x40000, 0x200000, 0x244cd5
CASE pop_and_push_\value
  push $\value
  popfq
  pushfq
  push $0x202
  pop %rax
  pop %rbx
  push %rax
  popfq
  ret
  .endr

# IF and IOPL stay as they are, VM, RF, VIF and VIP read as zero; no fault.
CASE pop_privileged_bits
  push $0x1b3002
  popfq
  pushfq
  pop %rbx
  push $0x202
  popfq
  ret

CASE pop_and_push_of_16_bits
  SET_FLAGS 0x8d5
  pushw $0x42
  popfw
  pushfw
  popw %bx
  SET_FLAGS 0x8d5
  pushfw
  popw %cx
  ret

CASE in_the_upper_half_of_ax
  SET_FLAGS 0x8d5
  lahf
  mov %eax, %ebx
  mov $0x4200, %eax
  sahf
  pushfq
  pop %rcx
  mov $0xff00, %eax
  sahf
  lahf
  ret

CASE carry_instructions
  stc; pushfq; cmc; pushfq; clc; pushfq; cmc
  adc $0, %rax
  pop %rbx; pop %rcx; pop %rdx
  ret

# inc and dec keep the carry, not, mov and lea keep all, shifts by zero too.
CASE kept_flags
  SET_FLAGS 0x8d5
  inc %rax
  pushfq
  SET_FLAGS 0x801
  dec %rax
  pushfq
  SET_FLAGS 0x8d5
  not %rax
  lea 1(%rax), %rax
  mov %rax, %rbx
  bswap %rbx
  xchg %rbx, %rcx
  xor %r8d, %r8d
  SET_FLAGS 0x8d5
  xor %ecx, %ecx
  SET_FLAGS 0x8d5
  shl %cl, %rbx
  ror %cl, %rbx
  shld %cl, %rbx, %rdx
  pushfq
  pop %r10; pop %r11; pop %r12
  ret

CASE alignment_check_bit_for_aligned_access
  push $0x40202
  popfq
  mov arena(%rip), %rax
  mov %rax, 8+arena(%rip)
  push %rax
  pop %rbx
  call 1f
1:pop %rcx
  pushfq
  pop %rdx
  push $0x202
  popfq
  ret

CASE identification_bit
  pushfq
  pop %rax
  mov %rax, %rbx
  xor $0x200000, %rax
  push %rax
  popfq
  pushfq
  pop %rcx
  push %rbx
  popfq
  ret

CASE direction_over_calls_and_jumps
  std
  lea 1f(%rip), %rax
  call *%rax
  jmp 2f
1:pushfq
  pop %rbx
  ret
2:pushfq
  pop %rcx
  cld
  ret

# Each pair of a writer and a reader of flags with a jump between them.
  .macro PAIR writer, reader
  \writer
  jmp 77f
77:\reader
  add %rax, %rbx
  rol $3, %rbx
  .endm
CASE writers_and_readers_over_a_jump
  mov $20, %r8d
1:mov %r8, %rax
  imul $0x6789abcd, %rax, %rax
  mov $0, %edx
  .irp writer, "add $0x70000000, %eax", "sub $-0x80000000, %rax", "test $0x55, %al", "neg %rax", "shl $1, %rax", "sar $3, %ax", "bt $5, %rax", "imul $77, %eax, %eax", "cmp $-3, %al", "popcnt %rax, %rax", "bsf %rax, %r9"
  .irp reader, "adc $3, %rax", "sbb %rdx, %rdx", "setg %al", "cmovp %r8, %rax", "setbe %dl", "rcl $1, %rax", "lahf", "cmc; rcr $1, %al", "seto %ah"
  PAIR "\writer", "\reader"
  .endr
  .endr
  dec %r8d
  jnz 1b
  ret

CASE two_carry_chains
  xor %eax, %eax
  mov $-1, %rbx
  mov $5, %ecx
1:adcx %rbx, %rax
  adox %rbx, %rdx
  jrcxz 2f
  lea -1(%rcx), %rcx
  jmp 1b
2:setc %r8b
  seto %r9b
  ret
