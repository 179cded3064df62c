// The return path of our raw host handlers: libc's own is not reachable by name.
        .text
// Entered from: RET of the host handler. Stack: the kernel's rt_sigframe above the popped return
// address. Leaves to: the interrupted code, by rt_sigreturn.
        .globl  dunebox_host_restorer
        .type   dunebox_host_restorer, @function
dunebox_host_restorer:
        movl    $15, %eax
        syscall
        .size   dunebox_host_restorer, . - dunebox_host_restorer
        .section .note.GNU-stack, "", @progbits
