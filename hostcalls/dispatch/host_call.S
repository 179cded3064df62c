// The interruptible system call: check for a pending signal and SYSCALL in one window.

        .text

// Entered from: HostCall() in host_call.cc, ordinary call.
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

        .section .note.GNU-stack, "", @progbits
