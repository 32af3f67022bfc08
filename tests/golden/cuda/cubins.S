/* The compiled kernels; -Wa,-I names the folder of those for one chip. */
    .section .rodata
    .balign 64
    .globl ec_cubin_ec_conv_57b646cf
    .hidden ec_cubin_ec_conv_57b646cf
ec_cubin_ec_conv_57b646cf:
    .incbin "ec_conv_57b646cf.cubin"
    .balign 64
    .globl ec_cubin_ec_conv_patch_f0ac5e66
    .hidden ec_cubin_ec_conv_patch_f0ac5e66
ec_cubin_ec_conv_patch_f0ac5e66:
    .incbin "ec_conv_patch_f0ac5e66.cubin"
    .balign 64
    .globl ec_cubin_ec_linear_0b087470
    .hidden ec_cubin_ec_linear_0b087470
ec_cubin_ec_linear_0b087470:
    .incbin "ec_linear_0b087470.cubin"
    .balign 64
    .globl ec_cubin_ec_reduce_columns_969ab7e4
    .hidden ec_cubin_ec_reduce_columns_969ab7e4
ec_cubin_ec_reduce_columns_969ab7e4:
    .incbin "ec_reduce_columns_969ab7e4.cubin"
    .section .note.GNU-stack,"",%progbits
