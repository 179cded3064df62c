// The built image for programs in ring 0 as bytes in the runtime; DUNE_IMAGE_PATH comes from CMake.
        .section .rodata.ring0_program_image, "a"
        .globl  dune_program_image_start, dune_program_image_end
        .balign 16
dune_program_image_start:
        .incbin DUNE_IMAGE_PATH
dune_program_image_end:
        .section .note.GNU-stack, "", @progbits
