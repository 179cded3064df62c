// The image for a program that runs in ring 0 itself: vector stubs, system-call entry, the way back.
//
// The program's stack has a red zone, so nothing here may push onto it: every vector has an IST stack,
// SYSCALL pushes nothing, and the way back is IRETQ from an IST stack. Position-independent.

#include "hostcalls/abi/ring0_program_abi.h"

        .section .image, "ax"
image:
        .quad   DUNE_PROGRAM_IMAGE_MAGIC
        .quad   vectors - image
        .quad   trap_out - image
        .quad   trap_return - image
        .quad   trap_return_end - image
        .quad   syscall_entry - image

// Entered from: the CPU, exception n in the program, which is in ring 0 (or in a ring 3 of its own).
// Registers in: the program's, but for RSP.
// Stack: IST2 (IST1 for #DB, NMI, #DF, #MC): [error code,] RIP, CS, RFLAGS, RSP, SS.
// Leaves to: trap, with vector and error code pushed: a TrapFrame at RSP.
        .balign DUNE_VECTOR_STRIDE
vectors:
        .set    n, 0
        .rept   DUNE_VECTOR_COUNT
        .balign DUNE_VECTOR_STRIDE
        // #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP push an error code of their own.
        .if     n != 8 && n != 10 && n != 11 && n != 12 && n != 13 && n != 14 && n != 17 && n != 21
        pushq   $0
        .endif
        pushq   $n
        jmp     trap
        .set    n, n + 1
        .endr

// Entered from: a vector stub.
// Registers in: the program's; the host reads and writes them while the vCPU is out.
// Stack: TrapFrame at RSP, on an IST stack.
// Leaves to: trap_return, by itself or because the host names it as RIP.
        .balign 16
trap:
trap_out:
        outb    %al, $DUNE_PORT_TRAP
// Stack: TrapFrame at RSP, as the CPU left it or as the host wants the program to continue.
trap_return:
        addq    $16, %rsp
// Stack: RIP, CS, RFLAGS, RSP, SS.
        iretq
trap_return_end:

// Entered from: SYSCALL in the program.
// Registers in: the program's; RCX = its next RIP, R11 = its RFLAGS.
// Stack: RSP is still the program's and is not used: nothing is pushed.
// Leaves to: trap_return with RSP on an IST stack, which the host names. Never further here.
        .balign 16
syscall_entry:
        outb    %al, $DUNE_PORT_SYSCALL
        ud2
