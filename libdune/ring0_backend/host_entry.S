// The loop's own ground: onto its private stack and off it, the host's system calls, new threads, the end of one.

#include "libdune/ring0_backend/layout.h"

// For debuggers and core files: behind the frames of the loop lie those of the program, whose registers are where KVM and
// the loop have them. RSP is where the loop's stack begins. [dwarf] §6.4: the rules of a frame as expressions.
#define ULEB(value) (value) & 0x7f | 0x80, (value) >> 7
#define SLEB(value) (value) & 0x7f | 0x80, (value) >> 7 & 0x7f | 0x80, (value) >> 14
#define OP_RUN 0x77 /* RSP + */, SLEB(DUNE_THREAD_FROM_STACK_TOP + DUNE_THREAD_RUN), 0x06 /* what is there */
#define OP_REGISTER(offset) OP_RUN, 0x23 /* + */, ULEB(DUNE_RUN_REGISTERS + offset)
        .macro  saved_at number, offset
        .cfi_escape 0x10, \number, 8, OP_REGISTER(\offset)
        .endm
        .macro  caller_is_the_program
        .cfi_signal_frame
        .cfi_escape 0x0f, 9, OP_REGISTER(48), 0x06
        saved_at 0, 0
        saved_at 3, 8
        saved_at 2, 16
        saved_at 1, 24
        saved_at 4, 32
        saved_at 5, 40
        saved_at 6, 56
        saved_at 8, 64
        saved_at 9, 72
        saved_at 10, 80
        saved_at 11, 88
        saved_at 12, 96
        saved_at 13, 104
        saved_at 14, 112
        saved_at 15, 120
        saved_at 16, 128
        .endm

        .text
// int64 dune_host_call(Thread* thread, const uint64 call[7]): number and six arguments.
// The kernel's result, or -512 when a signal came before the kernel was entered.
        .globl  dune_host_call, dune_host_call_window, dune_host_call_end, dune_host_call_stopped
        .hidden dune_host_call, dune_host_call_window, dune_host_call_end, dune_host_call_stopped
        .type   dune_host_call, @function
dune_host_call:
        .cfi_startproc
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbx, 0
        movq    %rdi, %rbx
        movq    %rsi, %rax
        movq    8(%rax), %rdi
        movq    16(%rax), %rsi
        movq    24(%rax), %rdx
        movq    32(%rax), %r10
        movq    40(%rax), %r8
        movq    48(%rax), %r9
        movq    (%rax), %rax
// From here to the SYSCALL, included, a signal's handler moves RIP to dune_host_call_stopped.
dune_host_call_window:
        cmpl    $0, DUNE_THREAD_SIGNALLED(%rbx)
        jne     dune_host_call_stopped
        syscall
dune_host_call_end:
        .cfi_remember_state
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        ret
        .cfi_restore_state
dune_host_call_stopped:
        movq    $-512, %rax
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        ret
        .cfi_endproc
        .size   dune_host_call, . - dune_host_call

// int dune_enter(Thread* thread, void* loop_stack, kvm_regs* registers): natively. Returns 0 in ring 0, with the
// caller's registers, while the host's thread is in the loop.
        .globl  dune_enter
        .hidden dune_enter
        .type   dune_enter, @function
dune_enter:
        movq    $0, 0(%rdx)
        movq    %rbx, 8(%rdx)
        movq    %rsp, 48(%rdx)
        movq    %rbp, 56(%rdx)
        movq    %r12, 96(%rdx)
        movq    %r13, 104(%rdx)
        movq    %r14, 112(%rdx)
        movq    %r15, 120(%rdx)
        leaq    .Lentered(%rip), %rax
        movq    %rax, 128(%rdx)
        pushfq
        popq    136(%rdx)
        movq    %rsi, %rsp
        xorl    %ebp, %ebp
        jmp     begin_loop
.Lentered:
        xorl    %eax, %eax
        ret
        .size   dune_enter, . - dune_enter

// Entered from: dune_enter. Stack: the loop's, empty. Never left; unwound, it is a frame that the program's lie behind.
        .type   begin_loop, @function
begin_loop:
        .cfi_startproc
        caller_is_the_program
        call    dune_begin_loop
        ud2
        .cfi_endproc
        .size   begin_loop, . - begin_loop

// void dune_leave(const kvm_regs* registers, uint32* thread_id): off the loop's stack, natively to where the program
// stood. The thread's block is free from the store on.
        .globl  dune_leave
        .hidden dune_leave
        .type   dune_leave, @function
dune_leave:
        movq    8(%rdi), %rbx
        movq    48(%rdi), %rsp
        movq    56(%rdi), %rbp
        movq    96(%rdi), %r12
        movq    104(%rdi), %r13
        movq    112(%rdi), %r14
        movq    120(%rdi), %r15
        movq    128(%rdi), %rcx
        movl    $0, (%rsi)
        xorl    %eax, %eax
        jmp     *%rcx
        .size   dune_leave, . - dune_leave

// int64 dune_clone(clone_args* arguments, uint64 size, Thread* child): clone3. The child begins in dune_begin_child.
        .globl  dune_clone
        .hidden dune_clone
        .type   dune_clone, @function
dune_clone:
        movl    $435, %eax
        syscall
        testq   %rax, %rax
        je      begin_child
        ret
        .size   dune_clone, . - dune_clone

// Entered from: dune_clone, in the child. Stack: the loop's, empty. As begin_loop.
        .type   begin_child, @function
begin_child:
        .cfi_startproc
        caller_is_the_program
        xorl    %ebp, %ebp
        movq    %rdx, %rdi
        call    dune_begin_child
        ud2
        .cfi_endproc
        .size   begin_child, . - begin_child

// void dune_exit_thread(uint32* thread_id, int status): all signals are blocked. Once the word is 0 another thread may
// use this stack, so nothing does.
        .globl  dune_exit_thread
        .hidden dune_exit_thread
        .type   dune_exit_thread, @function
dune_exit_thread:
        movl    $0, (%rdi)
        movl    %esi, %edi
        movl    $60, %eax
        syscall
        ud2
        .size   dune_exit_thread, . - dune_exit_thread

// The way back from our handler of the host's signals. [linux] SA_RESTORER
        .globl  dune_restorer
        .hidden dune_restorer
        .type   dune_restorer, @function
dune_restorer:
        movl    $15, %eax
        syscall
        .size   dune_restorer, . - dune_restorer

        .section .note.GNU-stack, "", @progbits
