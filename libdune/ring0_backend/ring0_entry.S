// What a vCPU executes in ring 0 that is not the program's: vector stubs, the entry of SYSCALL, hypercalls.
//
// The program has a red zone, so nothing here pushes onto its stack: every vector has an IST stack, which is left
// before any memory is touched that may not be mapped, SYSCALL pushes nothing, and the way back is IRETQ from the
// handlers' stack. Runs at DUNE_ALIAS_BASE, not where it is linked: what it names it names relative to itself.

#include "libdune/ring0_backend/layout.h"

        .section .text.dune_ring0, "ax", @progbits
        .balign 4096
        .globl  dune_ring0_text
        .hidden dune_ring0_text
dune_ring0_text:

// Entered from: the CPU, exception n in ring 0 or ring 3.
// Registers in: the interrupted code's, but for RSP.
// Stack: IST2 (IST1 for #DB, NMI, #DF, #MC): [error code,] RIP, CS, RFLAGS, RSP, SS.
// Leaves to: trap, with error code and vector pushed.
        .globl  dune_ring0_vectors
        .hidden dune_ring0_vectors
dune_ring0_vectors:
        .set    n, 0
        .rept   32
        .balign 16
        .if     n != 8 && n != 10 && n != 11 && n != 12 && n != 13 && n != 14 && n != 17 && n != 21
        pushq   $0
        .endif
        pushq   $n
        jmp     trap
        .set    n, n + 1
        .endr

// Entered from: a vector stub.
// Stack: vector, error code, RIP, CS, RFLAGS, RSP, SS.
// Leaves to: deliver, if the program wants to see this vector first; else to the loop.
        .balign 16
trap:
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rbx
        pushq   %rbp
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
// Stack: TrapFrame.
        cld
        movq    %rsp, %rbx
        andq    $-DUNE_ALIAS_BLOCK_BYTES, %rbx
        movq    %cr2, %rax
        xorl    %r12d, %r12d
        movq    DUNE_FRAME_VECTOR(%rsp), %rcx
        btq     %rcx, dune_ring0_text + DUNE_ALIAS_SHARED_OFFSET + DUNE_SHARED_HANDLED(%rip)
        jc      deliver
trap_out:
        outb    %al, $DUNE_PORT_BACKEND_TRAP
        ud2

// Entered from: the loop, which could do nothing about a trap that the program has a handler for.
// Registers in: RAX = CR2, RBX = the vCPU's aliased pages.
// Stack: TrapFrame, as trap_out left it.
        .globl  dune_ring0_deliver
        .hidden dune_ring0_deliver
dune_ring0_deliver:
        movl    $1, %r12d
// Registers in: RAX = CR2, RBX = aliased pages, R12 = the loop has been asked already.
// Stack: TrapFrame on an IST stack, or already on the handlers' stack.
// Leaves to: dune_dispatch_trap, on the handlers' stack: below what was interrupted there, else at its top.
deliver:
        movq    DUNE_STATE_HANDLER_TOP(%rbx), %rdi
        movq    DUNE_FRAME_RSP(%rsp), %rdx
        movq    DUNE_STATE_HANDLER_LOW(%rbx), %rcx
        cmpq    %rdi, %rdx
        ja      .Ltop
        cmpq    %rcx, %rdx
        jbe     .Ltop
        // A quarter of the stack each, and below what the interrupted one has used.
        subq    %rdi, %rdx
        negq    %rdx
        addq    $128, %rdx
        shrq    $14, %rdx
        incq    %rdx
        // Four deep: a signal.
        cmpq    $4, %rdx
        jae     passed_out
        shlq    $14, %rdx
        subq    %rdx, %rdi
.Ltop:
        andq    $-64, %rdi
        subq    $192, %rdi
        movq    %rdi, %rdx
        movq    %rsp, %rsi
        movl    $DUNE_FRAME_WORDS, %ecx
        rep     movsq
        movq    %rax, (%rdi)
        movq    %rdx, %rsp
// Stack: TrapFrame, CR2; 64-byte aligned. The IST stack is free again.
        movq    %rdx, %rdi
        movq    %rax, %rsi
        movl    %r12d, %edx
        call    *DUNE_STATE_DISPATCH(%rbx)
        testl   %eax, %eax
        je      dune_ring0_test
        cmpl    $DUNE_DISPATCH_ASK, %eax
        movq    DUNE_FRAME_BYTES(%rsp), %rax
        je      trap_out
passed_out:
        outb    %al, $DUNE_PORT_BACKEND_PASSED
        ud2

// Entered from: dune_dispatch_trap said that the interrupted code goes on.
// Stack: TrapFrame. From here to the IRETQ the loop can take the frame for the program's state.
        .globl  dune_ring0_test, dune_ring0_restore, dune_ring0_iret
        .hidden dune_ring0_test, dune_ring0_restore, dune_ring0_iret
dune_ring0_test:
        cmpl    $0, DUNE_STATE_PENDING(%rbx)
        jne     return_out
dune_ring0_restore:
        movq    0(%rsp), %r15
        movq    8(%rsp), %r14
        movq    16(%rsp), %r13
        movq    24(%rsp), %r12
        movq    32(%rsp), %r11
        movq    40(%rsp), %r10
        movq    48(%rsp), %r9
        movq    56(%rsp), %r8
        movq    64(%rsp), %rdi
        movq    72(%rsp), %rsi
        movq    80(%rsp), %rbp
        movq    88(%rsp), %rbx
        movq    96(%rsp), %rdx
        movq    104(%rsp), %rcx
        movq    112(%rsp), %rax
        addq    $DUNE_FRAME_RIP, %rsp
dune_ring0_iret:
        iretq

return_out:
        outb    %al, $DUNE_PORT_BACKEND_RETURN
        ud2

// Entered from: SYSCALL in ring 0.
// Registers in: the program's; RCX = its next RIP, R11 = its RFLAGS.
// Stack: the program's, not used.
// Leaves to: where the loop says.
        .balign 16
        .globl  dune_ring0_syscall
        .hidden dune_ring0_syscall
dune_ring0_syscall:
        outb    %al, $DUNE_PORT_BACKEND_SYSCALL
        ud2
        .globl  dune_ring0_text_end
        .hidden dune_ring0_text_end
dune_ring0_text_end:

// Entered from: the program, ordinary call; runs where it is linked.
// Registers in: RDI operation, RSI, RDX arguments. Out: RAX.
        .text
        .globl  dune_hypercall, dune_hypercall_return
        .hidden dune_hypercall, dune_hypercall_return
        .type   dune_hypercall, @function
dune_hypercall:
        outb    %al, $DUNE_PORT_BACKEND_CALL
dune_hypercall_return:
        ret
        .size   dune_hypercall, . - dune_hypercall

// int dune_call_with_state_saved(handler, argument, state_bytes, features): ordinary call, on the handlers' stack.
// The XSAVE header has to be zero beforehand. [intel/vol1 §13.4.2]
        .globl  dune_call_with_state_saved
        .hidden dune_call_with_state_saved
        .type   dune_call_with_state_saved, @function
dune_call_with_state_saved:
        pushq   %rbp
        movq    %rsp, %rbp
        pushq   %rbx
        pushq   %r12
        movq    %rcx, %rax
        movq    %rcx, %rbx
        shrq    $32, %rcx
        movq    %rcx, %r12
        subq    %rdx, %rsp
        andq    $-64, %rsp
        movq    %rdi, %r8
        leaq    512(%rsp), %rdi
        movq    %rax, %r9
        xorl    %eax, %eax
        movl    $8, %ecx
        rep     stosq
        movq    %r9, %rax
        movq    %r12, %rdx
        xsave64 (%rsp)
        fninit
        pushq   $0x1f80
        ldmxcsr (%rsp)
        addq    $8, %rsp
        movq    %rsi, %rdi
        call    *%r8
        movl    %eax, %r8d
        movl    %ebx, %eax
        movl    %r12d, %edx
        xrstor64 (%rsp)
        movl    %r8d, %eax
        leaq    -16(%rbp), %rsp
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   dune_call_with_state_saved, . - dune_call_with_state_saved

        .section .note.GNU-stack, "", @progbits
