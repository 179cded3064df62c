// The worker's executable, as bytes.
        .section .rodata
        .balign 16
        .globl  dunebox_worker_program, dunebox_worker_program_end
dunebox_worker_program:
        .incbin DUNEBOX_WORKER_PROGRAM_PATH
dunebox_worker_program_end:

        .section .note.GNU-stack, "", @progbits
