/* The compiled kernels; -Wa,-I names the folder of those for one chip. */
    .section .rodata
    .balign 64
    .globl ec_cubin_ec_conv_4f2b72d8
    .hidden ec_cubin_ec_conv_4f2b72d8
ec_cubin_ec_conv_4f2b72d8:
    .incbin "ec_conv_4f2b72d8.cubin"
    .balign 64
    .globl ec_cubin_ec_conv_patch_995d7f5b
    .hidden ec_cubin_ec_conv_patch_995d7f5b
ec_cubin_ec_conv_patch_995d7f5b:
    .incbin "ec_conv_patch_995d7f5b.cubin"
    .balign 64
    .globl ec_cubin_ec_linear_5cdb47aa
    .hidden ec_cubin_ec_linear_5cdb47aa
ec_cubin_ec_linear_5cdb47aa:
    .incbin "ec_linear_5cdb47aa.cubin"
    .balign 64
    .globl ec_cubin_ec_reduce_columns_6ea50da9
    .hidden ec_cubin_ec_reduce_columns_6ea50da9
ec_cubin_ec_reduce_columns_6ea50da9:
    .incbin "ec_reduce_columns_6ea50da9.cubin"
    .section .note.GNU-stack,"",%progbits
