// The entry of our host signal handlers: FS base may be the guest's.

#include "hostcalls/abi/set_pkru.inc"
#include "jit-fallback/dispatch/context_offsets.h"

        .text
// Entered from: the kernel, on the thread's signal stack.
// Registers in: RDI signal, RSI siginfo, RDX ucontext.
// Stack: return address (dunebox_host_restorer); 16-byte aligned above it.
// Leaves to: dunebox_host_handler_body with the host's FS base; back with FS base as it was found.
        .globl  dunebox_host_handler
        .type   dunebox_host_handler, @function
dunebox_host_handler:
        // The guest's alignment checks are not ours; the kernel has cleared its direction and trap flags.
        pushfq
        andl    $~0x40000, (%rsp)
        popfq
        cmpb    $0, dunebox_guest_fs_possible(%rip)
        je      dunebox_host_handler_body
        // The kernel has opened key 0 only, and puts back what was there when the handler returns.
        cmpb    $0, dunebox_keys_in_use(%rip)
        je      .Lhas_keys
        movq    %rdx, %r8
        SET_PKRU DUNE_PKRU_RUNTIME
        movq    %r8, %rdx
.Lhas_keys:
        rdgsbase %rax
        testq   %rax, %rax
        je      dunebox_host_handler_body
        rdfsbase %rcx
        movq    JIT_HOST_FS(%rax), %rax
        cmpq    %rcx, %rax
        je      dunebox_host_handler_body
        pushq   %rcx
        // Stack: FS base as found, return address; aligned.
        wrfsbase %rax
        call    dunebox_host_handler_body
        popq    %rcx
        wrfsbase %rcx
        ret
        .size   dunebox_host_handler, . - dunebox_host_handler

        .section .note.GNU-stack, "", @progbits
