// Between the runtime and translated code. GS base is the thread's Context on both sides; FS base is
// the guest's while translated code runs and the host's otherwise.
//
// In a window (isolation `seg`) translated code has the window's base in GS and the Context in FS: it
// has an entry, a lookup and exits of its own, which differ in the segment that they name. FS keeps
// pointing at the Context until GS does again.

#include "jit-fallback/dispatch/context_offsets.h"

        .text

// Everything from the Context into the CPU, then on to translated code. The guest's stack pointer is
// loaded behind the last use of the host's.
.macro load_guest segment
        cmpl    $0, %\segment:JIT_KICK
        .ifc \segment, gs
        jne     dunebox_jit_enter_abort
        .else
        jne     dunebox_jit_enter_abort_windowed
        .endif
        pushq   %\segment:JIT_RFLAGS
        popfq
        movq    %\segment:JIT_RAX, %rax
        movq    %\segment:JIT_RCX, %rcx
        movq    %\segment:JIT_RDX, %rdx
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
        jmpq    *%\segment:JIT_RESUME
.endm

// ---- in ----------------------------------------------------------------------------------------

// Entered from: ThreadContext::Enter(), ordinary call, no argument. Context: guest registers.
// Registers in: the host's.
// Stack: the host's; its pointer, with six registers on it, stays in host_rsp.
// Leaves to: translated code at `resume`; or the caller, EAX = JIT_EXIT_*.
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
        movl    %gs:JIT_EXTENDED_MASK, %eax
        movl    %gs:JIT_EXTENDED_MASK + 4, %edx
        movq    %gs:JIT_EXTENDED_AREA, %rcx
        xrstor64 (%rcx)
        cmpl    $0, %gs:JIT_IS_WINDOWED
        jne     .Lenter_windowed
        movq    %gs:JIT_FS_BASE, %rax
        wrfsbase %rax
        // A signal handler that finds RIP from here to `end` goes to dunebox_jit_enter_abort, or to
        // its counterpart for windows: the guest's state is still all in the Context.
        .globl  dunebox_jit_enter_window
dunebox_jit_enter_window:
        load_guest gs
        .globl  dunebox_jit_enter_window_end
dunebox_jit_enter_window_end:

.Lenter_windowed:
        rdgsbase %rax
        wrfsbase %rax
        .globl  dunebox_jit_enter_windowed
dunebox_jit_enter_windowed:
        movq    %fs:JIT_WINDOW_BASE, %rax
        wrgsbase %rax
        load_guest fs
        .globl  dunebox_jit_enter_windowed_end
dunebox_jit_enter_windowed_end:

// Entered from: the second window above, as dunebox_jit_enter_abort.
        .globl  dunebox_jit_enter_abort_windowed
dunebox_jit_enter_abort_windowed:
        rdfsbase %rax
        wrgsbase %rax
        // Falls through.

// Entered from: the window above, by itself or by a signal handler that has set RSP to host_rsp.
// Registers in: any.
// Stack: as dunebox_jit_enter left it.
// Leaves to: the caller of dunebox_jit_enter, EAX = JIT_EXIT_KICKED. The Context is as it was.
        .globl  dunebox_jit_enter_abort
dunebox_jit_enter_abort:
        movq    %gs:JIT_HOST_FS, %rax
        wrfsbase %rax
        movl    $JIT_EXIT_KICKED, %eax
        jmp     .Lreturn

// ---- the second table --------------------------------------------------------------------------

// Entered from: a block that was not the target of the indirect jump that came to it, or an empty
//               entry of the first table.
// Registers in: R11 the guest address, RCX spent, both in slots; all others the guest's.
// Stack: the guest's, not to be touched.
// Leaves to: the target's block, registers as before; or dunebox_jit_exit_lookup. Flags are kept.
.macro lookup segment, exit
        movq    %rdx, %\segment:JIT_SLOT_SCRATCH0
        // From here to the end a signal handler goes to the exit with RDX from there.
        movl    $0, %edx
        crc32q  %r11, %rdx
        movzwl  %dx, %edx
        leaq    (%rdx, %rdx), %rdx
        movq    %\segment:JIT_SECOND_TABLE(, %rdx, 8), %rcx
        leaq    1(%rcx, %r11), %rcx
        jrcxz   1f
        movq    %\segment:JIT_SLOT_SCRATCH0, %rdx
        jmp     \exit
1:      movq    %\segment:JIT_SECOND_TABLE + 8(, %rdx, 8), %rcx
        movq    %\segment:JIT_SLOT_SCRATCH0, %rdx
        jmp     *%rcx
.endm

        .globl  dunebox_jit_lookup, dunebox_jit_lookup_end
dunebox_jit_lookup:
        lookup  gs, dunebox_jit_exit_lookup
dunebox_jit_lookup_end:

        .globl  dunebox_jit_lookup_windowed, dunebox_jit_lookup_windowed_end
dunebox_jit_lookup_windowed:
        lookup  fs, dunebox_jit_exit_lookup_windowed
dunebox_jit_lookup_windowed_end:

// ---- out ---------------------------------------------------------------------------------------

// Entered from: emitted code, by its pointers in the Context; one label for each reason.
// Registers in: the guest's; at lookup R11 is the guest address, RCX is spent, both are in slots.
// Stack: the guest's, not to be touched.
// Leaves to: the caller of dunebox_jit_enter, EAX = JIT_EXIT_*, guest registers in the Context.
        .globl  dunebox_jit_exit_link, dunebox_jit_exit_lookup, dunebox_jit_exit_syscall
        .globl  dunebox_jit_exit_emulate, dunebox_jit_exit_trap, dunebox_jit_exit_stale
.macro windowed_exit name, reason
        .globl  dunebox_jit_exit_\name\()_windowed
dunebox_jit_exit_\name\()_windowed:
        .ifc \name, lookup
        movq    %r11, %fs:JIT_RIP
        movq    %fs:JIT_SLOT_RCX, %rcx
        movq    %fs:JIT_SLOT_R11, %r11
        .endif
        movq    %rax, %fs:JIT_RAX
        rdfsbase %rax
        wrgsbase %rax
        movl    $\reason, %eax
        jmp     .Lsave
.endm

        windowed_exit lookup, JIT_EXIT_LOOKUP
        windowed_exit link, JIT_EXIT_LINK
        windowed_exit syscall, JIT_EXIT_SYSCALL
        windowed_exit emulate, JIT_EXIT_EMULATE
        windowed_exit trap, JIT_EXIT_TRAP
        windowed_exit stale, JIT_EXIT_STALE

dunebox_jit_exit_lookup:
        movq    %r11, %gs:JIT_RIP
        movq    %gs:JIT_SLOT_RCX, %rcx
        movq    %gs:JIT_SLOT_R11, %r11
        movq    %rax, %gs:JIT_RAX
        movl    $JIT_EXIT_LOOKUP, %eax
        jmp     .Lsave
dunebox_jit_exit_link:
        movq    %rax, %gs:JIT_RAX
        movl    $JIT_EXIT_LINK, %eax
        jmp     .Lsave
dunebox_jit_exit_emulate:
        movq    %rax, %gs:JIT_RAX
        movl    $JIT_EXIT_EMULATE, %eax
        jmp     .Lsave
dunebox_jit_exit_trap:
        movq    %rax, %gs:JIT_RAX
        movl    $JIT_EXIT_TRAP, %eax
        jmp     .Lsave
dunebox_jit_exit_stale:
        movq    %rax, %gs:JIT_RAX
        movl    $JIT_EXIT_STALE, %eax
        jmp     .Lsave
dunebox_jit_exit_syscall:
        movq    %rax, %gs:JIT_RAX
        movl    $JIT_EXIT_SYSCALL, %eax
.Lsave:
        movq    %rcx, %gs:JIT_RCX
        movq    %rdx, %gs:JIT_RDX
        movq    %rbx, %gs:JIT_RBX
        movq    %rsp, %gs:JIT_RSP
        movq    %rbp, %gs:JIT_RBP
        movq    %rsi, %gs:JIT_RSI
        movq    %rdi, %gs:JIT_RDI
        movq    %r8, %gs:JIT_R8
        movq    %r9, %gs:JIT_R9
        movq    %r10, %gs:JIT_R10
        movq    %r11, %gs:JIT_R11
        movq    %r12, %gs:JIT_R12
        movq    %r13, %gs:JIT_R13
        movq    %r14, %gs:JIT_R14
        movq    %r15, %gs:JIT_R15
        movq    %gs:JIT_HOST_RSP, %rsp
        pushfq
        popq    %gs:JIT_RFLAGS
        // The direction flag and alignment checks are the guest's own business.
        cld
        btl     $18, %gs:JIT_RFLAGS
        jnc     .Lsave_extended
        pushfq
        andl    $~0x40000, (%rsp)
        popfq
        jmp     .Lsave_extended

// Entered from: the kernel, at the end of a host signal handler that found RIP in translated code and
//               has copied the guest's registers to the Context.
// Registers in: any; the vector registers and FS base are the guest's.
// Stack: RSP = host_rsp.
// Leaves to: the caller of dunebox_jit_enter, EAX = JIT_EXIT_SIGNAL.
        .globl  dunebox_jit_exit_signal, dunebox_jit_exit_signal_windowed
dunebox_jit_exit_signal_windowed:
        rdfsbase %rax
        wrgsbase %rax
dunebox_jit_exit_signal:
        movl    $JIT_EXIT_SIGNAL, %eax
.Lsave_extended:
        movl    %eax, %ebx
        cmpl    $0, %gs:JIT_IS_WINDOWED
        jne     .Lhave_fs
        rdfsbase %rcx
        movq    %rcx, %gs:JIT_FS_BASE
.Lhave_fs:
        movq    %gs:JIT_HOST_FS, %rcx
        wrfsbase %rcx
        movl    %gs:JIT_EXTENDED_MASK, %eax
        movl    %gs:JIT_EXTENDED_MASK + 4, %edx
        movq    %gs:JIT_EXTENDED_AREA, %rcx
        cmpl    $0, %gs:JIT_HAS_XSAVEOPT
        je      .Lplain_save
        xsaveopt64 (%rcx)
        jmp     .Lsaved
.Lplain_save:
        xsave64 (%rcx)
.Lsaved:
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
