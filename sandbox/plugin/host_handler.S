// The entry of every handler of the host application's process while sandboxes are in it: the signal
// may have come while guest code ran, with the thread's Context in FS and a window in GS.

#include "jit-fallback/dispatch/context_offsets.h"

        .text
// Entered from: the kernel, on the thread's alternate stack.
// Registers in: RDI signal, RSI siginfo, RDX ucontext.
// Stack: return address (dunebox_host_restorer); 16-byte aligned above it.
// Leaves to: dunebox_plugin_handler_body with the host's FS base, RCX the Context whose code or stubs
//            were interrupted, or 0; back with FS and GS base as they were found.
        .globl  dunebox_plugin_handler
        .type   dunebox_plugin_handler, @function
dunebox_plugin_handler:
        // The guest's alignment checks are not ours; the kernel has cleared its direction and trap flags.
        pushfq
        andl    $~0x40000, (%rsp)
        popfq
        // FS base is the host's own thread block, or a Context: only that has its own address at
        // JIT_SELF, and the guest can write neither.
        rdfsbase %rcx
        testq   %rcx, %rcx
        je      1f
        cmpq    %rcx, JIT_SELF(%rcx)
        jne     1f
        rdgsbase %rax
        pushq   %rax
        pushq   %rcx
        pushq   %rcx
        // Stack: aligned, FS base twice, GS base, return address.
        movq    JIT_HOST_FS(%rcx), %rax
        wrfsbase %rax
        call    dunebox_plugin_handler_body
        popq    %rcx
        popq    %rcx
        wrfsbase %rcx
        popq    %rax
        wrgsbase %rax
        ret
1:      xorl    %ecx, %ecx
        jmp     dunebox_plugin_handler_body
        .size   dunebox_plugin_handler, . - dunebox_plugin_handler

        .section .note.GNU-stack, "", @progbits
