// Built without AVX2: the tables are filled before it is known what the machine runs.
#include "stream.h"

extern "C" void meshd_overlay_stream_avx2(stream_kernels *table) {
    table->pack_signed = meshd_pack_signed_f32_avx2;
    table->pack_unipolar = meshd_pack_unipolar_f32_avx2;
    table->within = meshd_within_f32_avx2;
    table->segment_means = meshd_segment_means_f32_avx2;
    table->unpack_signed = meshd_unpack_signed_f32_avx2;
    table->unpack_unipolar = meshd_unpack_unipolar_f32_avx2;
    table->carry_binarize = meshd_carry_binarize_f32_avx2;
    table->carry_settle = meshd_carry_settle_f32_avx2;
    table->feedback_binarize = meshd_feedback_binarize_f32_avx2;
    table->planes_add = meshd_planes_add_b1_avx2;
    table->planes_add_many = meshd_planes_add_many_b1_avx2;
    table->planes_sum = meshd_planes_sum_b1_avx2;
    table->apply_votes = meshd_apply_votes_f32_avx2;
    table->votes_sgd = meshd_votes_sgd_f32_avx2;
    table->votes_adam = meshd_votes_adam_f32_avx2;
}
