// The part of the probe that runs while key 0 is shut: it uses registers only.

#include "hostcalls/abi/set_pkru.inc"

        .text
// Entered from: TryInChild(), ordinary call, in the runtime's view of the keys.
// Registers in: EDI process, ESI thread, EDX signal.
// Stack: return address and RBX; not used while the key is shut.
// Leaves to: the caller, EAX = PKRU as it was behind the signal.
        .globl  dunebox_probe_shut_key
        .type   dunebox_probe_shut_key, @function
dunebox_probe_shut_key:
        pushq   %rbx
        movl    %edx, %ebx
        SET_PKRU DUNE_PKRU_GUEST
        movl    %ebx, %edx
        movl    $234, %eax              // tgkill
        syscall
        xorl    %ecx, %ecx
        rdpkru
        movl    %eax, %ebx
        SET_PKRU DUNE_PKRU_RUNTIME
        movl    %ebx, %eax
        popq    %rbx
        ret
        .size   dunebox_probe_shut_key, . - dunebox_probe_shut_key

// Entered from: the kernel, on the alternate stack. Leaves to: the kernel, by the return address.
        .globl  dunebox_probe_handler
        .type   dunebox_probe_handler, @function
dunebox_probe_handler:
        xorl    %ecx, %ecx
        rdpkru
        movl    %eax, dunebox_probe_pkru(%rip)
        ret
        .size   dunebox_probe_handler, . - dunebox_probe_handler

        .bss
        .globl  dunebox_probe_pkru
        .balign 4
dunebox_probe_pkru:
        .zero   4

        .section .note.GNU-stack, "", @progbits
