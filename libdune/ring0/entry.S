// The freestanding ring-0 image: vector stubs, system-call entry, hypercall stubs, ways back.
//
// Position-independent: it holds no absolute address and no data it writes. The host reads the
// header to find the entry points. No policy and no call numbers here: what ring 0 answers by
// itself is in each vCPU's Ring0State.

#include "hostcalls/abi/memory_pool.h"
#include "hostcalls/abi/posted_writes.h"
#include "hostcalls/abi/ring0_abi.h"
#include "hostcalls/abi/signal_actions.h"

// From a trap frame's RIP on the trap stack.
#define FROM_RIP(offset) (DUNE_BLOCK_STATE + (offset) - (DUNE_BLOCK_TRAP_STACK_TOP - 40))
#define INTERRUPTED_FROM_RIP FROM_RIP(DUNE_STATE_INTERRUPTED)
#define FAULTS_FROM_RIP FROM_RIP(DUNE_STATE_FAULTS)
// The same on the stack of #DB.
#define FROM_STEP_RIP(offset) (DUNE_BLOCK_STATE + (offset) - (DUNE_BLOCK_IST_STACK_TOP - 40))

// All general registers but RSP, as GuestState has them. POP_GENERAL leaves the flags alone.
        .macro  PUSH_GENERAL
        .irp    register, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, rbx, rbp, r12, r13, r14, r15
        pushq   %\register
        .endr
        .endm
        .macro  POP_GENERAL
        .irp    register, r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax
        popq    %\register
        .endr
        .endm

        .section .image, "ax"
image:
        .quad   DUNE_IMAGE_MAGIC
        .quad   vectors - image
        .quad   trap_out - image
        .quad   trap_return - image
        .quad   trap_return_end - image
        .quad   syscall_entry - image
        .quad   syscall_return - image
        .quad   syscall_return_end - image
        .quad   probe_ring0 - image
        .quad   probe_out - image
        .quad   probe_sysret - image
        .quad   probe_user - image
        .quad   probe_user_end - image
        .quad   quick_entry - image
        .quad   quick_test - image
        .quad   quick_sysret - image
        .quad   quick_out - image
        .quad   quick_routines - image
        .quad   quick_routines_end - image
        .quad   quick_retreat - image
        .quad   page_fault - image
        .quad   fault_test - image
        .quad   fault_return - image
        .quad   flush_out - image
        .quad   step - image
        .quad   step_test - image
        .quad   step_return - image

// Entered from: the CPU, exception n in ring 3 (or, as a bug, in ring 0).
// Registers in: the guest's, but for RSP.
// Stack: RSP0 (IST1 for #DB, NMI, #DF, #MC): [error code,] RIP, CS, RFLAGS, RSP, SS.
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

// Entered from: the CPU as vector 14, where CR2 is wanted without a look at the system registers.
// Stack: error code, RIP, CS, RFLAGS, RSP, SS; nothing else uses what is below.
// Leaves to: ring 3 when the memory pool has answered the fault, or in its handler; else trap, with CR2 below
// the TrapFrame.
        .balign 16
page_fault:
        pushq   $14
        subq    $16, %rsp
        movq    %rax, 8(%rsp)
        movq    %cr2, %rax
        movq    %rax, (%rsp)
        // Ring 3's own access, at a page of the pool.
        testb   $DUNE_FAULT_USER, 24(%rsp)
        jz      5f
        pushq   %rdi
        movabsq $(DUNE_ARENA_VIRT + DUNE_POOL_OFFSET), %rdi
        subq    DUNE_POOL_START(%rdi), %rax
        shrq    $12, %rax
        cmpq    DUNE_POOL_PAGES(%rdi), %rax
        jae     6f
7:      pushq   %rsi
        pushq   %rdx
        pushq   %rcx
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        movq    %rax, %rsi
        movq    88(%rsp), %rdx
        cld
        call    ring0_pool_fault
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rcx
        popq    %rdx
        popq    %rsi
        popq    %rdi
        testb   %al, %al
        movq    8(%rsp), %rax
        jz      4f
        movq    $DUNE_VECTOR_NONE, 16(%rsp)
        addq    $(16 + 16), %rsp
        incq    FAULTS_FROM_RIP(%rsp)
// Stack: RIP, CS, RFLAGS, RSP, SS of ring 3; the registers are its own. A host that has stopped the vCPU
// behind here goes on here again, with the word below set.
fault_test:
        cmpq    $0, INTERRUPTED_FROM_RIP(%rsp)
        jne     3f
fault_return:
        iretq
3:      subq    $16, %rsp
        jmp     trap

// Stack: the program's RDI, two words (CR2 the lower one), vector and what page_fault came with.
6:      movq    8(%rsp), %rax
        subq    DUNE_POOL_HEAP_START(%rdi), %rax
        shrq    $12, %rax
        cmpq    DUNE_POOL_HEAP_PAGES(%rdi), %rax
        jae     2f
        addq    $DUNE_POOL_FIRST_HEAP_PAGE, %rax
        jmp     7b
2:      popq    %rdi
1:      movq    8(%rsp), %rax
        addq    $16, %rsp
        jmp     trap

// Stack: two words (CR2 the lower one), TrapFrame. The program may not do that, and perhaps it wants to know.
4:      PUSH_GENERAL
        movq    %rsp, %rdi
        movabsq $(DUNE_ARENA_VIRT + DUNE_POOL_OFFSET), %rsi
        call    ring0_deliver_fault
        testb   %al, %al
        POP_GENERAL
        leaq    16(%rsp), %rsp
        jz      trap
        addq    $16, %rsp
        jmp     fault_test

// Ring 0's own access. One that only asks gets its answer here.
5:      leaq    probes(%rip), %rax
        cmpq    %rax, 32(%rsp)
        jb      1b
        leaq    probes_end(%rip), %rax
        cmpq    %rax, 32(%rsp)
        jae     1b
        leaq    probe_failed(%rip), %rax
        movq    %rax, 32(%rsp)
        movq    8(%rsp), %rax
        addq    $(16 + 16), %rsp
        iretq

// Entered from: the CPU as vector 1.
// Stack: IST1: RIP, CS, RFLAGS, RSP, SS.
// Leaves to: ring 3 with TF set, whatever the instruction did to it, while there are steps left; else as vector 1's stub does.
        .balign 16
step:
        testb   $3, 8(%rsp)
        jz      step_out
        decq    FROM_STEP_RIP(DUNE_STATE_STEPS)(%rsp)
        jle     step_out
        orq     $DUNE_RFLAGS_TRAP, 16(%rsp)
// As fault_test.
step_test:
        cmpq    $0, FROM_STEP_RIP(DUNE_STATE_INTERRUPTED)(%rsp)
        jne     step_interrupted
step_return:
        iretq
step_interrupted:
        pushq   $0
        pushq   $DUNE_VECTOR_NONE
        jmp     trap
step_out:
        pushq   $0
        pushq   $1
        jmp     trap

// bool ring0_probe_write(address), bool ring0_probe_read(address): see trap_delivery.cc.
        .globl  ring0_probe_write, ring0_probe_read
ring0_probe_write:
        pushfq
        orl     $DUNE_RFLAGS_ACCESS, (%rsp)
        popfq
probes:
        lock orb $0, (%rdi)
        movl    $1, %eax
        ret
ring0_probe_read:
        pushfq
        orl     $DUNE_RFLAGS_ACCESS, (%rsp)
        popfq
        movb    (%rdi), %al
probes_end:
        movl    $1, %eax
        ret
probe_failed:
        xorl    %eax, %eax
        ret

// void ring0_ring_doorbell(): KVM maps the page behind the address now, if it does not already.
// void ring0_flush_others(): returns when the host has made every vCPU forget its translations.
        .globl  ring0_ring_doorbell, ring0_flush_others
ring0_ring_doorbell:
        movabsq $(DUNE_ARENA_VIRT + DUNE_DOORBELL_OFFSET), %rax
        movb    $0, (%rax)
        ret
ring0_flush_others:
flush_out:
        outb    %al, $DUNE_PORT_FLUSH
        ret

// What a compiler may call.
        .globl  memcpy, memset
memcpy:
        movq    %rdi, %rax
        movq    %rdx, %rcx
        shrq    $3, %rcx
        rep movsq
        movl    %edx, %ecx
        andl    $7, %ecx
        rep movsb
        ret
memset:
        movq    %rdi, %r8
        movzbl  %sil, %eax
        movabsq $0x0101010101010101, %rcx
        imulq   %rcx, %rax
        movq    %rdx, %rcx
        shrq    $3, %rcx
        rep stosq
        movl    %edx, %ecx
        andl    $7, %ecx
        rep stosb
        movq    %r8, %rax
        ret

// Entered from: a vector stub.
// Registers in: the guest's; the host reads and writes them while the vCPU is out.
// Stack: TrapFrame at RSP.
// Leaves to: trap_return, which the host names as RIP.
        .balign 16
trap:
trap_out:
        outb    %al, $DUNE_PORT_TRAP
// Stack: TrapFrame at RSP, as the host wants ring 3 to continue.
trap_return:
        addq    $16, %rsp
// Stack: RIP, CS, RFLAGS, RSP, SS.
        iretq
trap_return_end:

// Entered from: SYSCALL in ring 3, where the CPU enters ring 0 for it.
// Registers in: the guest's; RCX = its next RIP, R11 = its RFLAGS.
// Stack: RSP is still the guest's and is not used: nothing is pushed, no trap can happen here.
// Leaves to: syscall_return or trap_return, as the host chooses.
        .balign 16
syscall_entry:
        outb    %al, $DUNE_PORT_SYSCALL
// SYSRETQ to a non-canonical RCX would raise #GP in ring 0 with the guest's RSP. The host refuses
// such addresses; clearing bits 63..47 makes it impossible even for a wrong host.
syscall_return:
        shlq    $17, %rcx
        shrq    $17, %rcx
        sysretq
syscall_return_end:

#include "libdune/ring0/quick_calls.inc"

// ---- The probe guest ----------------------------------------------------------------------------
// Entered from: the host sets RIP here, CPL 0. RSI = iterations, RSP = a trap stack.
// Leaves to: the host with RAX = cycles for RSI rounds of a two-instruction loop.
        .balign 16
probe_ring0:
        rdtsc
        movl    %eax, %r8d
1:      decq    %rsi
        jnz     1b
        rdtsc
        subl    %r8d, %eax
probe_out:
        outb    %al, $DUNE_PORT_PROBE
        hlt

// Entered from: the host sets RIP here, CPL 0. RCX = ring-3 address, R11 = RFLAGS.
// Leaves to: ring 3 at RCX if SYSRETQ works.
        .balign 16
probe_sysret:
        sysretq

// Copied to a user page. Entered from: IRETQ or SYSRETQ, or state set by the host, CPL 3.
// Registers in: RSI = iterations. Leaves to: SYSCALL with R8 = cycles for the loop; then OUT.
        .balign 16
probe_user:
        rdtsc
        movl    %eax, %r8d
1:      decq    %rsi
        jnz     1b
        rdtsc
        subl    %r8d, %eax
        movl    %eax, %r8d
        syscall
        outb    %al, $DUNE_PORT_TRAP
        ud2
probe_user_end:

        .section .note.GNU-stack, "", @progbits
