// Between the runtime and translated code. GS base is the thread's Context on both sides; FS base is
// the guest's while translated code runs and the host's otherwise.
//
// In a window (isolation `seg`) translated code has the window's base in GS and the Context in FS: it
// has an entry, a lookup and exits of its own, which differ in the segment that they name. FS points at the
// Context from before GS is changed until after it is the host's again.

// Under isolation pku the runtime's memory is shut on the other side: the enter stub shuts it last, and
// the keyed exits open it first.

#include "hostcalls/abi/set_pkru.inc"
#include "jit-fallback/dispatch/context_offsets.h"

// The bits of MXCSR that say what has happened: a function need not preserve them. [abi §3.2.1] [intel/vol1 §10.2.3]
#define MXCSR_STATUS 0x3f

        .text

// The guest's flags and registers but for RAX, RCX and RDX. Its stack pointer is loaded behind the last
// use of the host's.
        .macro  LOAD_GUEST segment
        pushq   %\segment:JIT_RFLAGS
        popfq
        LOAD_REGISTERS \segment
        .endm

        .macro  LOAD_REGISTERS segment
        movq    %\segment:JIT_RBX, %rbx
        movq    %\segment:JIT_RSP, %rsp
        movq    %\segment:JIT_RBP, %rbp
        movq    %\segment:JIT_RSI, %rsi
        movq    %\segment:JIT_RDI, %rdi
        movq    %\segment:JIT_R8, %r8
        movq    %\segment:JIT_R9, %r9
        movq    %\segment:JIT_R10, %r10
        movq    %\segment:JIT_R11, %r11
        movq    %\segment:JIT_R12, %r12
        movq    %\segment:JIT_R13, %r13
        movq    %\segment:JIT_R14, %r14
        movq    %\segment:JIT_R15, %r15
        .endm

// All of them, then on to translated code.
        .macro  ENTER_GUEST segment
        LOAD_GUEST \segment
        GO_ON   \segment
        .endm

        .macro  GO_ON segment
        movq    %\segment:JIT_RAX, %rax
        movq    %\segment:JIT_RCX, %rcx
        movq    %\segment:JIT_RDX, %rdx
        jmpq    *%\segment:JIT_TO_RESUME
        .endm

        .macro  LOAD_ALL segment
        movl    %\segment:JIT_OWN_COMPONENTS, %eax
        movl    %\segment:JIT_OWN_COMPONENTS + 4, %edx
        movq    %\segment:JIT_EXTENDED_AREA, %rcx
        xrstor64 (%rcx)
        .endm

        .macro  SAVE_ALL segment
        movl    %\segment:JIT_OWN_COMPONENTS, %eax
        movl    %\segment:JIT_OWN_COMPONENTS + 4, %edx
        movq    %\segment:JIT_EXTENDED_AREA, %rcx
        cmpl    $0, %\segment:JIT_HAS_XSAVEOPT
        je      1f
        xsaveopt64 (%rcx)
        jmp     2f
1:      xsave64 (%rcx)
2:
        .endm

// ---- in ----------------------------------------------------------------------------------------

// Entered from: ThreadContext::Enter(), ordinary call, no argument. Context: guest registers.
// Registers in: the host's.
// Stack: the host's; its pointer, with six registers on it, stays in host_rsp.
// Leaves to: translated code at the resume pointer; or the caller, EAX = JIT_EXIT_*.
        .globl  dunebox_jit_enter
        .type   dunebox_jit_enter, @function
dunebox_jit_enter:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, %gs:JIT_HOST_RSP
        LOAD_ALL gs
        movq    %gs:JIT_FS_BASE, %rax
        wrfsbase %rax
        // A signal handler that finds RIP from here to `end` goes to dunebox_jit_enter_abort or its
        // counterpart: the guest's state is still all in the Context.
        .globl  dunebox_jit_enter_window
dunebox_jit_enter_window:
        cmpl    $0, %gs:JIT_KICK
        jne     dunebox_jit_enter_abort
        cmpl    $0, %gs:JIT_USES_KEYS
        jne     .Lenter_keyed
        ENTER_GUEST gs
.Lenter_keyed:
        LOAD_GUEST gs
        movq    %gs:JIT_RAX, %rax
        movq    %rax, %gs:JIT_PASSED_RAX
        movq    %gs:JIT_RCX, %rax
        movq    %rax, %gs:JIT_PASSED_RCX
        movq    %gs:JIT_RDX, %rax
        movq    %rax, %gs:JIT_PASSED_RDX
        SET_PKRU DUNE_PKRU_GUEST
        movq    %gs:JIT_PASSED_RAX, %rax
        movq    %gs:JIT_PASSED_RCX, %rcx
        movq    %gs:JIT_PASSED_RDX, %rdx
        jmpq    *%gs:JIT_TO_RESUME
        .globl  dunebox_jit_enter_window_end
dunebox_jit_enter_window_end:

// R8 is GS base, R9 the window's.
        .macro  USE_WINDOW
        cmpq    %r8, %r9
        je      1f
        wrgsbase %r9
1:
        .endm

        .macro  USE_HOST_SEGMENTS
        movq    %fs:JIT_HOST_GS, %rcx
        testq   %rcx, %rcx
        je      1f
        wrgsbase %rcx
1:      movq    %fs:JIT_HOST_FS, %rcx
        wrfsbase %rcx
        .endm

// Entered from: ThreadContext::Enter(), ordinary call, RDI the Context of a thread in a window: guest registers.
// Registers in: the host's; GS base is any, and is as it was when the caller goes on, but that in place of 0, which
// nobody uses, it may be the window's: to write it takes as long as all that is done with vector registers.
// Stack, leaves to: as above.
        .globl  dunebox_jit_windowed_enter
        .type   dunebox_jit_windowed_enter, @function
dunebox_jit_windowed_enter:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, JIT_HOST_RSP(%rdi)
        // The thread block begins with its own address, which takes less to read than FS base. [abi-tls §3.4.2]
        movq    %fs:0, %rax
        movq    %rax, JIT_HOST_FS(%rdi)
        wrfsbase %rdi
        // Handlers leave it as it is from here on.
        rdgsbase %r8
        movq    %fs:JIT_WINDOW_BASE, %r9
        xorl    %ecx, %ecx
        cmpq    %r9, %r8
        cmovneq %r8, %rcx
        movq    %rcx, %fs:JIT_HOST_GS
        cmpl    $0, %fs:JIT_IS_BARE
        jne     .Lload_bare
.Lwindowed_load_all:
        LOAD_ALL fs
        // The same for what is entered in a window.
        .globl  dunebox_jit_windowed_enter_window
dunebox_jit_windowed_enter_window:
        USE_WINDOW
        cmpl    $0, %fs:JIT_KICK
        jne     dunebox_jit_windowed_enter_abort
        ENTER_GUEST fs
// A guest that has left by a gate finds nothing in the flags that say how an operation has ended, as behind any
// function call: the others are worth their time only if one is unusual.
.Lwindowed_enter_bare:
        USE_WINDOW
        cmpl    $0, %fs:JIT_KICK
        jne     dunebox_jit_windowed_enter_abort
        movq    %fs:JIT_RFLAGS, %rax
        andq    $~0x8d5, %rax
        cmpq    $0x202, %rax
        jne     1f
        LOAD_REGISTERS fs
        GO_ON   fs
1:      ENTER_GUEST fs
        .globl  dunebox_jit_windowed_enter_window_end
dunebox_jit_windowed_enter_window_end:

// Entered from: the code above, by itself or by a signal handler that has set RSP to host_rsp.
// Registers in: any; the vector registers are the guest's, or were about to be.
// Stack: as dunebox_jit_enter left it.
// Leaves to: the caller of dunebox_jit_enter, EAX = JIT_EXIT_KICKED. The Context is as it was.
        .globl  dunebox_jit_enter_abort, dunebox_jit_keyed_enter_abort
        .globl  dunebox_jit_windowed_enter_abort
dunebox_jit_windowed_enter_abort:
        ldmxcsr %fs:JIT_HOST_MXCSR
        USE_HOST_SEGMENTS
        movl    $JIT_EXIT_KICKED, %eax
        jmp     .Lreturn
dunebox_jit_keyed_enter_abort:
        SET_PKRU DUNE_PKRU_RUNTIME
dunebox_jit_enter_abort:
        ldmxcsr %gs:JIT_HOST_MXCSR
        movq    %gs:JIT_HOST_FS, %rax
        wrfsbase %rax
        movl    $JIT_EXIT_KICKED, %eax
        jmp     .Lreturn

// ---- the second table --------------------------------------------------------------------------

// Entered from: a block that was not the target of the indirect jump that came to it.
// Registers in: R11 the guest address, RCX spent, both in slots; all others the guest's.
// Stack: the guest's, not to be touched.
// Leaves to: the target's block, registers as before; or the exit for lookups. Flags are kept.
        .macro  LOOKUP segment
        movq    %rdx, %\segment:JIT_SLOT_SCRATCH0
        // From here to the end a signal handler goes to the exit for lookups with RDX from there.
        movl    $0, %edx
        crc32q  %r11, %rdx
        movzwl  %dx, %edx
        leaq    (%rdx, %rdx), %rdx
        movq    %\segment:JIT_SECOND_TABLE(, %rdx, 8), %rcx
        leaq    1(%rcx, %r11), %rcx
        jrcxz   1f
        movq    %\segment:JIT_SLOT_SCRATCH0, %rdx
        jmp     *%\segment:JIT_TO_EXIT_LOOKUP
1:      movq    %\segment:JIT_SECOND_TABLE + 8(, %rdx, 8), %rcx
        movq    %\segment:JIT_SLOT_SCRATCH0, %rdx
        jmp     *%rcx
        .endm

        .globl  dunebox_jit_lookup, dunebox_jit_lookup_end
dunebox_jit_lookup:
        LOOKUP  gs
dunebox_jit_lookup_end:

        .globl  dunebox_jit_windowed_lookup, dunebox_jit_windowed_lookup_end
dunebox_jit_windowed_lookup:
        LOOKUP  fs
dunebox_jit_windowed_lookup_end:

// ---- out ---------------------------------------------------------------------------------------

// Entered from: emitted code, by its pointers in the thread's memory; one label for each reason, with one
//               more for isolation pku and one for seg. For lookups also from an empty entry of the first table.
// Registers in: the guest's; at lookup R11 is the guest address, RCX is spent, both are in slots.
// Stack: the guest's, not to be touched.
// Leaves to: the caller of dunebox_jit_enter, EAX = JIT_EXIT_*, guest registers in the Context.
        .macro  EXIT name, reason
        .globl  dunebox_jit_exit_\name, dunebox_jit_keyed_exit_\name, dunebox_jit_windowed_exit_\name
dunebox_jit_exit_\name:
        .if     \reason == JIT_EXIT_LOOKUP
        LEAVE_AT_R11 gs
        .endif
        movq    %rax, %gs:JIT_RAX
        movl    $\reason, %eax
        jmp     .Lsave
dunebox_jit_keyed_exit_\name:
        .if     \reason == JIT_EXIT_LOOKUP
        LEAVE_AT_R11 gs
        .endif
        movq    %rbx, %gs:JIT_PASSED_RBX
        movl    $\reason, %ebx
        jmp     .Lopen
dunebox_jit_windowed_exit_\name:
        .if     \reason == JIT_EXIT_LOOKUP
        LEAVE_AT_R11 fs
        .endif
        movq    %rax, %fs:JIT_RAX
        movl    $\reason, %eax
        jmp     .Lwindowed_save
        .endm

        .macro  LEAVE_AT_R11 segment
        movq    %r11, %\segment:JIT_RIP
        movq    %\segment:JIT_SLOT_RCX, %rcx
        movq    %\segment:JIT_SLOT_R11, %r11
        .endm

        EXIT    link, JIT_EXIT_LINK
        EXIT    lookup, JIT_EXIT_LOOKUP
        EXIT    syscall, JIT_EXIT_SYSCALL
        EXIT    emulate, JIT_EXIT_EMULATE
        EXIT    trap, JIT_EXIT_TRAP
        EXIT    stale, JIT_EXIT_STALE
        EXIT    budget, JIT_EXIT_BUDGET

// The reason stays in a register: memory that the guest can write would not do.
.Lopen:
        movq    %rax, %gs:JIT_PASSED_RAX
        movq    %rcx, %gs:JIT_PASSED_RCX
        movq    %rdx, %gs:JIT_PASSED_RDX
        SET_PKRU DUNE_PKRU_RUNTIME
        movq    %gs:JIT_PASSED_RAX, %rax
        movq    %rax, %gs:JIT_RAX
        movq    %gs:JIT_PASSED_RBX, %rax
        movq    %rax, %gs:JIT_RBX
        movq    %gs:JIT_PASSED_RCX, %rcx
        movq    %gs:JIT_PASSED_RDX, %rdx
        movl    %ebx, %eax
        jmp     .Lsave_others
// The guest's registers but for RAX and RBX; then the host's stack, and flags that its code may run with.
        .macro  SAVE_REGISTERS segment
        movq    %rcx, %\segment:JIT_RCX
        movq    %rdx, %\segment:JIT_RDX
        movq    %rsp, %\segment:JIT_RSP
        movq    %rbp, %\segment:JIT_RBP
        movq    %rsi, %\segment:JIT_RSI
        movq    %rdi, %\segment:JIT_RDI
        movq    %r8, %\segment:JIT_R8
        movq    %r9, %\segment:JIT_R9
        movq    %r10, %\segment:JIT_R10
        movq    %r11, %\segment:JIT_R11
        movq    %r12, %\segment:JIT_R12
        movq    %r13, %\segment:JIT_R13
        movq    %r14, %\segment:JIT_R14
        movq    %r15, %\segment:JIT_R15
        movq    %\segment:JIT_RIP, %rcx
        movq    %rcx, %\segment:JIT_LEFT_RIP
        movl    %\segment:JIT_LINK, %ecx
        movl    %ecx, %\segment:JIT_LEFT_LINK
        movq    %\segment:JIT_HOST_RSP, %rsp
        pushfq
        popq    %rcx
        movq    %rcx, %\segment:JIT_RFLAGS
        // The direction flag and alignment checks are the guest's own business.
        testl   $0x40400, %ecx
        je      1f
        cld
        pushfq
        andl    $~0x40000, (%rsp)
        popfq
1:
        .endm

.Lsave:
        movq    %rbx, %gs:JIT_RBX
.Lsave_others:
        SAVE_REGISTERS gs
        jmp     .Lsave_extended
.Lwindowed_save:
        movq    %rbx, %fs:JIT_RBX
        SAVE_REGISTERS fs
        movl    %eax, %ebx
        cmpl    $0, %fs:JIT_GATE
        jne     .Lsave_bare
        jmp     .Lwindowed_save_all

// Entered from: the kernel, at the end of a host signal handler that found RIP in translated code and
//               has copied the guest's registers to the Context.
// Registers in: any; the vector registers and FS base are the guest's.
// Stack: RSP = host_rsp.
// Leaves to: the caller of dunebox_jit_enter, EAX = JIT_EXIT_SIGNAL.
        .globl  dunebox_jit_exit_signal, dunebox_jit_keyed_exit_signal
        .globl  dunebox_jit_windowed_exit_signal
dunebox_jit_keyed_exit_signal:
        SET_PKRU DUNE_PKRU_RUNTIME
        jmp     dunebox_jit_exit_signal
dunebox_jit_exit_signal:
        movl    $JIT_EXIT_SIGNAL, %eax
.Lsave_extended:
        movl    %eax, %ebx
        rdfsbase %rcx
        movq    %rcx, %gs:JIT_FS_BASE
        movq    %gs:JIT_HOST_FS, %rcx
        wrfsbase %rcx
        SAVE_ALL gs
        ldmxcsr %gs:JIT_HOST_MXCSR
        movl    %ebx, %eax
.Lreturn:
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

dunebox_jit_windowed_exit_signal:
        movl    $JIT_EXIT_SIGNAL, %ebx
.Lwindowed_save_all:
        movl    $0, %fs:JIT_IS_BARE
        SAVE_ALL fs
.Lwindowed_saved:
        ldmxcsr %fs:JIT_HOST_MXCSR
.Lwindowed_left:
        USE_HOST_SEGMENTS
        movl    %ebx, %eax
        jmp     .Lreturn

// Only in windows. The vector state of a guest that has left by a gate: the first eight registers, of their lower halves, and
// MXCSR. Whatever the host has in the others is cleared. What no instruction clears quickly has to be initial, as the
// x87 unit if the guest's code knows it, or all is loaded: to ask takes as long as a write of FS base.
.Lload_bare:
        cmpl    $0, %fs:JIT_MUST_BE_INITIAL
        je      1f
        movl    $1, %ecx
        xgetbv
        testl   %fs:JIT_MUST_BE_INITIAL, %eax
        jne     .Lwindowed_load_all
1:      movq    %fs:JIT_EXTENDED_AREA, %rcx
        vzeroall
        testb   $JIT_OPMASK_COMPONENT, %fs:JIT_OWN_COMPONENTS
        je      2f
        .irp    number, 0, 1, 2, 3, 4, 5, 6, 7
        kxorw   %k\number, %k\number, %k\number
        .endr
        .irp    number, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        vpxord  %xmm\number, %xmm\number, %xmm\number
        .endr
2:
        // It is mostly the host's: to compare takes less than to load.
        movl    24(%rcx), %eax
        cmpl    %eax, %fs:JIT_HOST_MXCSR
        je      3f
        ldmxcsr 24(%rcx)
3:
        .irp    number, 0, 1, 2, 3, 4, 5, 6, 7
        movups  160 + 16 * \number(%rcx), %xmm\number
        .endr
        jmp     .Lwindowed_enter_bare

// Where gates are: at one, and with the x87 unit in its initial state, only that is saved. EBX is the reason.
.Lsave_bare:
        cmpl    $JIT_EXIT_SYSCALL, %ebx
        jne     .Lwindowed_save_all
        movq    %fs:JIT_RAX, %rax
        shrq    $JIT_GATE_BITS, %rax
        movl    %fs:JIT_GATE, %ecx
        cmpq    %rcx, %rax
        jne     .Lwindowed_save_all
        movq    %fs:JIT_EXTENDED_AREA, %rcx
        testb   $JIT_X87_COMPONENT, %fs:JIT_OWN_COMPONENTS
        jne     .Lask_x87
        // The unit is still the host's: what the area says of it stays.
        andl    $JIT_X87_COMPONENT, 512(%rcx)
        jmp     1f
.Lask_x87:
        movl    $1, %ecx
        xgetbv
        testl   $JIT_X87_COMPONENT, %eax
        jne     .Lwindowed_save_all
        movq    %fs:JIT_EXTENDED_AREA, %rcx
        movl    $0, 512(%rcx)
1:
        .irp    number, 0, 1, 2, 3, 4, 5, 6, 7
        movups  %xmm\number, 160 + 16 * \number(%rcx)
        .endr
        stmxcsr 24(%rcx)
        // XSTATE_BV: SSE. Its upper half is that of components that no guest has.
        orl     $JIT_SSE_COMPONENT, 512(%rcx)
        movl    $1, %fs:JIT_IS_BARE
        vzeroupper
        // As behind any function, of MXCSR only the control bits are the host's again: the others differ in most calls, and
        // to load a value that is another one takes longer than all that is done with vector registers.
        movl    24(%rcx), %eax
        xorl    %fs:JIT_HOST_MXCSR, %eax
        testl   $~MXCSR_STATUS, %eax
        jne     .Lwindowed_saved
        jmp     .Lwindowed_left
        .size   dunebox_jit_enter, . - dunebox_jit_enter

        .data
// Set as soon as a thread with a Context exists: from then on GS base may point at one, and a host
// signal handler may be entered with the guest's FS base.
        .globl  dunebox_guest_fs_possible
dunebox_guest_fs_possible:
        .byte   0
// Set besides when those threads run in windows: FS base is the host's or a Context, GS base
// somebody's Context or window.
        .globl  dunebox_windows_possible
dunebox_windows_possible:
        .byte   0

        .section .note.GNU-stack, "", @progbits
