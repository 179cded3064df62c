// The built ring-0 image as bytes in the runtime; DUNE_IMAGE_PATH comes from CMake.
        .section .rodata.ring0_image, "a"
        .globl  dune_ring0_image_start, dune_ring0_image_end
        .balign 16
dune_ring0_image_start:
        .incbin DUNE_IMAGE_PATH
dune_ring0_image_end:
        .section .note.GNU-stack, "", @progbits
