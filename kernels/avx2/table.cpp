// What AVX2 puts over the scalar table. This file is built without AVX2: the tables are filled before
// it is known what the machine runs.
#include "avx2.h"

extern "C" void meshd_overlay_avx2(kernel_table *table) {
    table->isa = "avx2";
    table->pack_signed = meshd_pack_signed_f32_avx2;
    table->pack_unipolar = meshd_pack_unipolar_f32_avx2;
    table->unpack_signed = meshd_unpack_signed_f32_avx2;
    table->unpack_unipolar = meshd_unpack_unipolar_f32_avx2;
    table->product_signed = meshd_product_signed_b1_avx2_1x8;
    table->product_unipolar = meshd_product_unipolar_b1_avx2_1x8;
    table->carry_binarize = meshd_carry_binarize_f32_avx2;
    table->carry_settle = meshd_carry_settle_f32_avx2;
    table->planes_add = meshd_planes_add_b1_avx2;
    table->apply_votes = meshd_apply_votes_f32_avx2;
}
