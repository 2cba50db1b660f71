// Puts the NEON kernels over another table.
#include "stream.h"

extern "C" void meshd_overlay_stream_neon(stream_kernels *table) {
    table->pack_signed = meshd_pack_signed_f32_neon;
    table->pack_unipolar = meshd_pack_unipolar_f32_neon;
    table->segment_means = meshd_segment_means_f32_neon;
    table->unpack_signed = meshd_unpack_signed_f32_neon;
    table->unpack_unipolar = meshd_unpack_unipolar_f32_neon;
    table->carry_binarize = meshd_carry_binarize_f32_neon;
    table->carry_settle = meshd_carry_settle_f32_neon;
    table->feedback_binarize = meshd_feedback_binarize_f32_neon;
    table->planes_add = meshd_planes_add_b1_neon;
    table->planes_add_many = meshd_planes_add_many_b1_neon;
    table->planes_sum = meshd_planes_sum_b1_neon;
    table->apply_votes = meshd_apply_votes_f32_neon;
    table->votes_sgd = meshd_votes_sgd_f32_neon;
    table->votes_adam = meshd_votes_adam_f32_neon;
}
