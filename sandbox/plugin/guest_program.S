// The ELF file of guest/main.c, as bytes.
        .section .rodata
        .balign 16
        .globl  dunebox_guest_program, dunebox_guest_program_end
dunebox_guest_program:
        .incbin DUNEBOX_GUEST_PROGRAM_PATH
dunebox_guest_program_end:

        .section .note.GNU-stack, "", @progbits
