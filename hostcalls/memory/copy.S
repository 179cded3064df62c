// Copies between the runtime and guest memory that may fault in the middle.
//
// Every instruction that can touch guest memory has a row in the fixup table below;
// the host's SIGSEGV/SIGBUS handler continues at the row's second address, and the
// routine reports the fault. No stack use, so the handler needs to change RIP only.

        .text

// By words first, as the kernel copies: an address that a sibling is changing is the old one or the new
// one, not one made of both. After a fault there the bytes that can be copied are.
// Entered from: Read() and Write(), ordinary call.
// Registers in: RDI destination, RSI source, RDX bytes.
// Stack: return address only.
// Leaves to: caller, RAX = bytes NOT copied (0 on success).
        .globl  dunebox_copy_bytes
        .type   dunebox_copy_bytes, @function
dunebox_copy_bytes:
        movq    %rdx, %rcx
        andl    $7, %edx
        shrq    $3, %rcx
        jz      .Lcopy_rest
.Lcopy_words:
        rep movsq
.Lcopy_rest:
        leaq    (%rdx,%rcx,8), %rcx
        jrcxz   .Lcopy_done
.Lcopy_rep:
        rep movsb
.Lcopy_done:
        movq    %rcx, %rax
        ret
        .size   dunebox_copy_bytes, . - dunebox_copy_bytes

// Entered from: ReadAtOnce() and WriteAtOnce(). RDI destination, RSI source.
// Leaves to: caller, RAX = 0 done, 1 fault.
        .macro  MOVE size, mov, reg
        .globl  dunebox_move_\size
        .type   dunebox_move_\size, @function
dunebox_move_\size:
.Lmove_\size\()_load:
        \mov    (%rsi), %\reg
.Lmove_\size\()_store:
        \mov    %\reg, (%rdi)
        xorl    %eax, %eax
        ret
        .size   dunebox_move_\size, . - dunebox_move_\size
        .endm
        MOVE    1, movb, al
        MOVE    2, movw, ax
        MOVE    4, movl, eax
        MOVE    8, movq, rax
.Lmove_fault:
        movl    $1, %eax
        ret

// Entered from: WriteWord(). RDI destination, RSI the word.
// Leaves to: caller, RAX = 0 done, 1 fault.
        .globl  dunebox_store_8
        .type   dunebox_store_8, @function
dunebox_store_8:
.Lstore_8:
        movq    %rsi, (%rdi)
        xorl    %eax, %eax
        ret
        .size   dunebox_store_8, . - dunebox_store_8

// Entered from: CopyInString(). RDI destination, RSI source, RDX most bytes to copy.
// Stack: return address only.
// Leaves to: caller, RAX = bytes copied before the NUL, RDX when there was none, or -1 after
// a fault.
        .globl  dunebox_copy_string
        .type   dunebox_copy_string, @function
dunebox_copy_string:
        xorl    %eax, %eax
1:      cmpq    %rdx, %rax
        je      2f
.Lstring_load:
        movzbl  (%rsi,%rax), %ecx
        testb   %cl, %cl
        jz      2f
        movb    %cl, (%rdi,%rax)
        incq    %rax
        jmp     1b
2:      ret
.Lstring_fault:
        movq    $-1, %rax
        ret
        .size   dunebox_copy_string, . - dunebox_copy_string

// Entered from: Probe(). RDI address. Leaves to: caller, RAX = 0 readable, 1 fault.
        .globl  dunebox_probe_byte
        .type   dunebox_probe_byte, @function
dunebox_probe_byte:
        xorl    %eax, %eax
.Lprobe_load:
        movzbl  (%rdi), %ecx
        ret
.Lprobe_fault:
        movl    $1, %eax
        ret
        .size   dunebox_probe_byte, . - dunebox_probe_byte

// Entered from: CompareExchange(). RDI address, ESI expected, EDX desired.
// Leaves to: caller, RAX = 0 exchanged, 1 another value was there, 2 fault.
        .globl  dunebox_compare_exchange
        .type   dunebox_compare_exchange, @function
dunebox_compare_exchange:
        movl    %esi, %eax
.Lexchange:
        lock cmpxchgl %edx, (%rdi)
        movl    $0, %eax
        setne   %al
        ret
.Lexchange_fault:
        movl    $2, %eax
        ret
        .size   dunebox_compare_exchange, . - dunebox_compare_exchange

        .section .data.rel.ro, "aw"
        .globl  dunebox_copy_fixups
        .balign 8
// Pairs: address of the instruction that may fault, address to continue at.
dunebox_copy_fixups:
        .quad   .Lcopy_words, .Lcopy_rest
        .quad   .Lcopy_rep, .Lcopy_done
        .irp    size, 1, 2, 4, 8
        .quad   .Lmove_\size\()_load, .Lmove_fault
        .quad   .Lmove_\size\()_store, .Lmove_fault
        .endr
        .quad   .Lstore_8, .Lmove_fault
        .quad   .Lstring_load, .Lstring_fault
        .quad   .Lprobe_load, .Lprobe_fault
        .quad   .Lexchange, .Lexchange_fault
        .quad   0, 0

        .section .note.GNU-stack, "", @progbits
