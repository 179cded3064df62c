// What a vCPU executes in ring 0 that is not the program's: vector stubs, the entry of SYSCALL, hypercalls.
//
// The program has a red zone, so nothing here pushes onto its stack: every vector has an IST stack, which is left
// before any memory is touched that may not be mapped, SYSCALL pushes nothing, and the way back is IRETQ from the
// handlers' stack. Runs at DUNE_ALIAS_BASE, not where it is linked: what it names it names relative to itself.

#include "libdune/ring0_backend/layout.h"
#include "libdune/ring0_backend/table_tags.h"

        .section .text.dune_ring0, "ax", @progbits
        .balign 4096
        .globl  dune_ring0_text
        .hidden dune_ring0_text
dune_ring0_text:

// Entered from: the CPU, exception n in ring 0 or ring 3.
// Registers in: the interrupted code's, but for RSP.
// Stack: IST2, which for ring 3 is one of its own (IST1 for #DB, NMI, #DF, #MC): [error code,] RIP, CS, RFLAGS, RSP, SS.
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
        testb   $3, DUNE_FRAME_CS(%rsp)
        jne     dune_ring0_from_user
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

// Entered from: dune_run_user, in the program's page table.
// Registers in: RDI the frame in the upper half, RSI the word for CR3 of ring 3, RBX aliased pages.
// Leaves to: ring 3 by IRETQ, with its bases and registers; where ring 3 stops if a signal waits.
        .balign 16
        .globl  dune_ring0_enter_user
        .hidden dune_ring0_enter_user
dune_ring0_enter_user:
        rdfsbase %rax
        movq    %rax, DUNE_STATE_FS(%rbx)
        rdgsbase %rax
        movq    %rax, DUNE_STATE_GS(%rbx)
        movq    DUNE_STATE_USER_FS(%rbx), %rax
        wrfsbase %rax
        movq    DUNE_STATE_USER_GS(%rbx), %rax
        wrgsbase %rax
        orq     DUNE_TAGS_USER_KEEP(%rbx), %rsi
        movq    %rsi, %cr3
        movl    $1, DUNE_STATE_IN_USER(%rbx)
        leaq    DUNE_BLOCK_USER_TOP(%rbx), %rax
        movq    %rax, DUNE_BLOCK_TSS_IST2(%rbx)
        movq    %rdi, %rsp
        cmpl    $0, DUNE_STATE_PENDING(%rbx)
        je      dune_ring0_restore
        movq    $DUNE_VECTOR_STOPPED, DUNE_FRAME_VECTOR(%rsp)

// Entered from: an exception or SYSCALL in ring 3, or the loop, which has stopped it.
// Registers in: RBX aliased pages, RAX CR2; FS and GS base ring 3's.
// Stack: TrapFrame, in the upper half.
// Leaves to: dune_run_user's second half, in the program's page table.
        .globl  dune_ring0_from_user
        .hidden dune_ring0_from_user
dune_ring0_from_user:
        movl    $0, DUNE_STATE_IN_USER(%rbx)
        leaq    DUNE_BLOCK_IST2_TOP(%rbx), %rcx
        movq    %rcx, DUNE_BLOCK_TSS_IST2(%rbx)
        movq    DUNE_TAGS_PROCESS_LOAD(%rbx), %rcx
        movq    %rcx, %cr3
        movq    %rax, DUNE_STATE_CR2(%rbx)
        movq    %rsp, DUNE_STATE_FRAME(%rbx)
        rdfsbase %rax
        movq    %rax, DUNE_STATE_USER_FS(%rbx)
        rdgsbase %rax
        movq    %rax, DUNE_STATE_USER_GS(%rbx)
        movq    DUNE_STATE_FS(%rbx), %rax
        wrfsbase %rax
        movq    DUNE_STATE_GS(%rbx), %rax
        wrgsbase %rax
        movq    DUNE_STATE_KERNEL_RSP(%rbx), %rsp
        jmp     *DUNE_STATE_RESUME(%rbx)

// Entered from: SYSCALL in ring 0 or ring 3; the vCPU's state tells which.
// Registers in: the caller's; RCX = its next RIP, R11 = its RFLAGS.
// Stack: the caller's, not used.
// Leaves to: ring 0's: where the loop says. Ring 3's: trap, with a frame as an exception would have left it.
        .balign 16
        .globl  dune_ring0_syscall
        .hidden dune_ring0_syscall
dune_ring0_syscall:
        swapgs
        cmpl    $0, %gs:DUNE_STATE_IN_USER
        jne     .Lof_user
        swapgs
        outb    %al, $DUNE_PORT_BACKEND_SYSCALL
        ud2
.Lof_user:
        movq    %rsp, %gs:DUNE_STATE_SCRATCH
        movq    %gs:DUNE_STATE_SELF, %rsp
        addq    $DUNE_BLOCK_USER_TOP, %rsp
        pushq   $DUNE_RING3_DATA
        pushq   %gs:DUNE_STATE_SCRATCH
        pushq   %r11
        pushq   $DUNE_RING3_CODE
        pushq   %rcx
        pushq   $0
        pushq   $DUNE_VECTOR_SYSCALL
        swapgs
        jmp     trap
        .globl  dune_ring0_text_end
        .hidden dune_ring0_text_end
dune_ring0_text_end:

// Entered from: the loop, which begins to run a thread; runs where it is linked.
// Registers in: the program's, as behind a system call: RCX where it goes on.
// Leaves to: there, with RAX = 0. What a former thread has left of translations in this virtual CPU is forgotten: of changes since
// then nobody has told it (FlushRange).
        .text
        .globl  dune_begin_ring0
        .hidden dune_begin_ring0
dune_begin_ring0:
        movq    %cr3, %rax
        movq    %rax, %cr3
        movl    $0, %eax
        jmp     *%rcx

// Entered from: the program, ordinary call; runs where it is linked.
// Registers in: RDI operation, RSI, RDX arguments. Out: RAX.
        .globl  dune_hypercall, dune_hypercall_return
        .hidden dune_hypercall, dune_hypercall_return
        .type   dune_hypercall, @function
dune_hypercall:
        outb    %al, $DUNE_PORT_BACKEND_CALL
dune_hypercall_return:
        ret
        .size   dune_hypercall, . - dune_hypercall

// void dune_run_user(RDI frame, RSI word for CR3, RDX extended state, RCX features, R8 aliased pages, R9 dune_ring0_enter_user in
// the upper half): ordinary call; back when ring 3 has stopped, its registers in the frame that VcpuState names.
        .globl  dune_run_user
        .hidden dune_run_user
        .type   dune_run_user, @function
dune_run_user:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        subq    $8, %rsp
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movq    %r8, %rbx
        movq    %rdx, %r12
        movq    %rcx, %r13
        pushq   %r12
        pushq   %r13
        movl    %r13d, %eax
        movq    %r13, %rdx
        shrq    $32, %rdx
        xrstor64 (%r12)
        leaq    .Lstopped(%rip), %rax
        movq    %rax, DUNE_STATE_RESUME(%rbx)
        movq    %rsp, DUNE_STATE_KERNEL_RSP(%rbx)
        jmp     *%r9
.Lstopped:
        popq    %rax
        popq    %r12
        movq    %rax, %rdx
        shrq    $32, %rdx
        xsave64 (%r12)
        fninit
        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        cld
        addq    $8, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .size   dune_run_user, . - dune_run_user

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
