// The interruptible system call: check for a pending signal and SYSCALL in one window. Twice: as the
// runtime is, and with its memory shut for the kernel (isolation pku).

#include "hostcalls/abi/set_pkru.inc"

        .text

// Entered from: host_call.cc, ordinary call.
// Registers in: RDI address of the pending word, RSI call number, RDX address of the six
//               argument words.
// Stack: return address, then RBX and RBP saved below it.
// Leaves to: caller, RAX = result; RDX = 1 when nothing was done because a signal is pending.
        .globl  dunebox_host_call
        .type   dunebox_host_call, @function
dunebox_host_call:
        pushq   %rbx
        pushq   %rbp
        // Stack: RBP, RBX, return address. RBX = pending word, RBP = arguments.
        movq    %rdi, %rbx
        movq    %rdx, %rbp
        movq    %rsi, %rax
        movq    0(%rbp), %rdi
        movq    8(%rbp), %rsi
        movq    16(%rbp), %rdx
        movq    24(%rbp), %r10
        movq    32(%rbp), %r8
        movq    40(%rbp), %r9
        // From here to the SYSCALL, included, a handler moves RIP to dunebox_host_call_restart.
        // When the kernel wants the call restarted (SA_RESTART) it puts RIP back on the SYSCALL,
        // which is in the window too.
        .globl  dunebox_host_call_window
dunebox_host_call_window:
        cmpl    $0, (%rbx)
        jne     dunebox_host_call_restart
        .globl  dunebox_host_call_syscall
dunebox_host_call_syscall:
        syscall
        xorl    %edx, %edx
        popq    %rbp
        popq    %rbx
        ret
        .globl  dunebox_host_call_restart
dunebox_host_call_restart:
        xorl    %eax, %eax
        movl    $1, %edx
        popq    %rbp
        popq    %rbx
        ret
        .size   dunebox_host_call, . - dunebox_host_call

// The same in the system-call view of the keys. From its SET_PKRU to the next one it touches no memory;
// a signal handler has the kernel's PKRU and then its own, and the kernel puts back what it found here.
// Entered from: host_call.cc, ordinary call, in the runtime's view.
// Registers in, leaves to: as above.
// Stack: return address, then RBX, RBP and R12 saved below it.
        .globl  dunebox_keyed_host_call
        .type   dunebox_keyed_host_call, @function
dunebox_keyed_host_call:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        // Stack: R12, RBP, RBX, return address. RBX = pending word, R12 = call number.
        movq    %rdi, %rbx
        movq    %rsi, %r12
        movq    0(%rdx), %rdi
        movq    8(%rdx), %rsi
        movq    16(%rdx), %rbp          // the third argument, as long as RDX is spent
        movq    24(%rdx), %r10
        movq    32(%rdx), %r8
        movq    40(%rdx), %r9
        // The window, as above.
        .globl  dunebox_keyed_host_call_window
dunebox_keyed_host_call_window:
        cmpl    $0, (%rbx)
        jne     dunebox_keyed_host_call_restart
        SET_PKRU DUNE_PKRU_SYSTEM_CALL
        movq    %r12, %rax
        movq    %rbp, %rdx
        .globl  dunebox_keyed_host_call_syscall
dunebox_keyed_host_call_syscall:
        syscall
        movq    %rax, %rbx
        SET_PKRU DUNE_PKRU_RUNTIME
        movq    %rbx, %rax
        xorl    %edx, %edx
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        // In either view.
        .globl  dunebox_keyed_host_call_restart
dunebox_keyed_host_call_restart:
        SET_PKRU DUNE_PKRU_RUNTIME
        xorl    %eax, %eax
        movl    $1, %edx
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .size   dunebox_keyed_host_call, . - dunebox_keyed_host_call

        .section .note.GNU-stack, "", @progbits
