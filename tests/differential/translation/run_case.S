# The start of a bare program, and the way into and out of a case.

  .macro load number, name
  mov 8*\number+initial_registers(%rip), %\name
  .endm
  .macro store number, name
  mov %\name, 8*\number+final_registers(%rip)
  .endm

  .text
  .globl _start
_start:
  xor %ebp, %ebp
  mov %rsp, %rdi
  and $-16, %rsp
  call bare_main
  ud2

# void run_case(const void* body)
# Loads initial_registers and initial_vectors, calls the body on the test stack, and stores what it left behind.
  .globl run_case
  .hidden run_case
run_case:
  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
  mov %rsp, saved_rsp(%rip)
  mov %rdi, case_body(%rip)
  fninit
  ldmxcsr usual_mxcsr(%rip)
  .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  movdqa \number*16+initial_vectors(%rip), %xmm\number
  .endr
  mov 8*4+initial_registers(%rip), %rsp
  pushq $0x202
  popfq
  load 0, rax; load 1, rcx; load 2, rdx; load 3, rbx
  load 5, rbp; load 6, rsi; load 7, rdi; load 8, r8
  load 9, r9; load 10, r10; load 11, r11; load 12, r12
  load 13, r13; load 14, r14; load 15, r15
  call *case_body(%rip)

# Entered from: the body's ret, or a signal handler that ends the case. Any stack, any flags.
  .globl case_done
  .hidden case_done
case_done:
  store 0, rax; store 1, rcx; store 2, rdx; store 3, rbx
  store 4, rsp; store 5, rbp; store 6, rsi; store 7, rdi
  store 8, r8; store 9, r9; store 10, r10; store 11, r11
  store 12, r12; store 13, r13; store 14, r14; store 15, r15
  mov saved_rsp(%rip), %rsp
  pushfq
  popq 8*16+final_registers(%rip)
  pushq $0x202
  popfq
  fxsave64 final_fxsave(%rip)
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
  ret

  .globl return_from_signal
  .hidden return_from_signal
return_from_signal:
  mov $15, %eax  # rt_sigreturn
  syscall

  .section .rodata
usual_mxcsr:
  .long 0x1f80

  .local saved_rsp, case_body
  .comm saved_rsp, 8, 8
  .comm case_body, 8, 8
  .section .note.GNU-stack, "", @progbits
