// An executable, as bytes from the symbol DUNEBOX_PROGRAM_SYMBOL on.
#define CONCATENATE(name, end) name##end
#define END_OF(name) CONCATENATE(name, _end)

        .section .rodata
        .balign 4096    // where it can be mapped from the file that this becomes part of
        .globl  DUNEBOX_PROGRAM_SYMBOL, END_OF(DUNEBOX_PROGRAM_SYMBOL)
DUNEBOX_PROGRAM_SYMBOL:
        .incbin DUNEBOX_PROGRAM_PATH
END_OF(DUNEBOX_PROGRAM_SYMBOL):

        .section .note.GNU-stack, "", @progbits
