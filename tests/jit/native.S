// Into guest code on the bare processor and out of it again.

#include "jit-fallback/dispatch/context_offsets.h"
#include "tests/jit/native.h"

        .text

// Entered from: RunNative, ordinary call; RDI = Machine*, RSI = components of the vector state.
// Registers in: the host's.
// Stack: the host's; its pointer, with six registers on it, stays in jit_test_host_rsp.
// Leaves to: guest code at the Machine's `rip`.
        .globl  jit_test_enter_native
        .type   jit_test_enter_native, @function
jit_test_enter_native:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, jit_test_host_rsp(%rip)
        rdgsbase %rax
        movq    %rax, jit_test_host_gs(%rip)
        movl    %esi, %eax
        xorl    %edx, %edx
        xrstor64 JIT_TEST_EXTENDED(%rdi)
        movq    JIT_TEST_RIP(%rdi), %rax
        movq    %rax, jit_test_rip(%rip)
        movq    JIT_TEST_FS_BASE(%rdi), %rax
        wrfsbase %rax
        movq    JIT_TEST_GS_BASE(%rdi), %rax
        wrgsbase %rax
        pushq   JIT_TEST_RFLAGS(%rdi)
        popfq
        movq    JIT_TEST_GPR + 0(%rdi), %rax
        movq    JIT_TEST_GPR + 8(%rdi), %rcx
        movq    JIT_TEST_GPR + 16(%rdi), %rdx
        movq    JIT_TEST_GPR + 24(%rdi), %rbx
        movq    JIT_TEST_GPR + 32(%rdi), %rsp
        movq    JIT_TEST_GPR + 40(%rdi), %rbp
        movq    JIT_TEST_GPR + 48(%rdi), %rsi
        movq    JIT_TEST_GPR + 64(%rdi), %r8
        movq    JIT_TEST_GPR + 72(%rdi), %r9
        movq    JIT_TEST_GPR + 80(%rdi), %r10
        movq    JIT_TEST_GPR + 88(%rdi), %r11
        movq    JIT_TEST_GPR + 96(%rdi), %r12
        movq    JIT_TEST_GPR + 104(%rdi), %r13
        movq    JIT_TEST_GPR + 112(%rdi), %r14
        movq    JIT_TEST_GPR + 120(%rdi), %r15
        movq    JIT_TEST_GPR + 56(%rdi), %rdi
        jmp     *jit_test_rip(%rip)

// Entered from: the kernel, at the end of a signal handler that has the guest's state already.
// Registers in: any; bases and vector registers are the guest's.
// Stack: RSP = jit_test_host_rsp.
// Leaves to: the caller of jit_test_enter_native.
        .globl  jit_test_leave_native
jit_test_leave_native:
        movq    jit_test_host_fs(%rip), %rax
        wrfsbase %rax
        movq    jit_test_host_gs(%rip), %rax
        wrgsbase %rax
        fninit
        ldmxcsr jit_test_mxcsr(%rip)
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .size   jit_test_enter_native, . - jit_test_enter_native

// Entered from: the kernel, on the signal stack.
// Registers in: RDI signal, RSI siginfo, RDX ucontext.
// Stack: return address (the restorer); 16-byte aligned above it.
// Leaves to: jit_test_signal_body with the host's FS base, the one found in RCX and without
//            alignment checks; back with FS base as it was found.
        .globl  jit_test_signal_entry
        .type   jit_test_signal_entry, @function
jit_test_signal_entry:
        pushfq
        andl    $~0x40000, (%rsp)
        popfq
        cld
        rdfsbase %rcx
        movq    jit_test_host_fs(%rip), %rax
        cmpb    $0, jit_test_has_context_in_fs(%rip)
        jne     1f
2:      pushq   %rcx
        wrfsbase %rax
        call    jit_test_signal_body
        popq    %rcx
        wrfsbase %rcx
        ret
        // In a window: FS base is a Context's if it says so itself, GS base may be the window's.
1:      cmpq    %rcx, JIT_SELF(%rcx)
        jne     2b
        rdgsbase %r8
        pushq   %r8
        pushq   %rcx
        pushq   %rcx
        wrfsbase %rax
        wrgsbase %rcx
        call    jit_test_signal_body
        popq    %rcx
        popq    %rcx
        wrfsbase %rcx
        popq    %r8
        wrgsbase %r8
        ret
        .size   jit_test_signal_entry, . - jit_test_signal_entry

        .data
        .balign 8
        .globl  jit_test_host_fs, jit_test_host_rsp
jit_test_host_fs:       .quad 0
jit_test_host_gs:       .quad 0
jit_test_host_rsp:      .quad 0
jit_test_rip:           .quad 0
jit_test_mxcsr:         .long 0x1f80
        .globl  jit_test_has_context_in_fs
jit_test_has_context_in_fs: .byte 0

        .section .note.GNU-stack, "", @progbits
