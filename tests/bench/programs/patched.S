# A function whose immediate operand is overwritten at run time.
#
# patched_begin .. patched_end is copied elsewhere and called there as uint64_t f(uint64_t).
# in: rdi = argument      out: rax = argument + immediate      changes: rdi, flags

    .section .rodata
    .globl  patched_begin, patched_immediate, patched_end
patched_begin:
    add     $0x11223344, %rdi               # too large for an immediate of one byte
    .set    patched_immediate, . - 4
    mov     %rdi, %rax
    ret
patched_end:

    .section .note.GNU-stack, "", @progbits
