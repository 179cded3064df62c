// The ways from guest code to the host, as bytes of the host's, which puts them into each window (gate_pages.cc). SYSCALL
// spends RCX and R11, which a function may.

#include "sandbox/plugin/guest/gates.h"

        .section .rodata
        .balign DUNEBOX_CALLBACK_SIZE
// Entered from: a thread's function, ordinary call. RDI: 0.
// Leaves to: the host, for good.
        .globl  dunebox_gate_ready
        .type   dunebox_gate_ready, @function
dunebox_gate_ready:
        movl    $DUNEBOX_GATE_READY, %eax
        syscall
        ud2
        .size   dunebox_gate_ready, . - dunebox_gate_ready

// Entered from: a function that the host has called, by its RET.
// Leaves to: the host, which has taken RSP from this entry for the end of the call.
        .globl  dunebox_gate_return
        .type   dunebox_gate_return, @function
dunebox_gate_return:
        movq    %rax, %rdi
        movl    $DUNEBOX_GATE_RETURN, %eax
        syscall
        ud2
        .size   dunebox_gate_return, . - dunebox_gate_return

// Entered from: the plugin, as functions of any type.
// Leaves to: the host; back with RAX and XMM0 set, to the caller.
        .balign DUNEBOX_CALLBACK_SIZE
        .globl  dunebox_gate_callbacks
        .type   dunebox_gate_callbacks, @function
dunebox_gate_callbacks:
        .set    number, 0
        .rept   DUNEBOX_MOST_CALLBACKS
        movq    %rcx, %r10
        movl    $DUNEBOX_GATE_CALLBACK + number, %eax
        syscall
        ret
        .balign DUNEBOX_CALLBACK_SIZE
        .set    number, number + 1
        .endr
        .size   dunebox_gate_callbacks, . - dunebox_gate_callbacks
        .globl  dunebox_gates_end
dunebox_gates_end:

        .section .note.GNU-stack, "", @progbits
