/* The scalar kernels of include/meshd_stream.h: the specification. */
#ifndef MESHD_SCALAR_STREAM_H
#define MESHD_SCALAR_STREAM_H

#include "meshd_stream.h"

extern "C" {
void meshd_within_f32_scalar(const float *x, size_t rows, size_t k, float cut, uint64_t *words);
void meshd_pack_signed_f32_scalar(const float *x, size_t rows, size_t k, size_t beta,
                                  uint64_t *words, float *scales);
void meshd_pack_unipolar_f32_scalar(const float *x, size_t rows, size_t k, size_t beta,
                                    uint64_t *words, float *scales);
void meshd_segment_means_f32_scalar(const float *x, size_t rows, size_t k, size_t beta,
                                    float *means);
void meshd_unpack_signed_f32_scalar(const packed_matrix *m, size_t k, float *out);
void meshd_unpack_unipolar_f32_scalar(const packed_matrix *m, size_t k, float *out);
void meshd_carry_binarize_f32_scalar(const float *grad, float *carried, size_t n, float weight,
                                     size_t gamma, uint64_t *bits, float *means);
void meshd_carry_settle_f32_scalar(float *carried, const uint64_t *bits, const float *scale,
                                   size_t n, size_t gamma);
void meshd_feedback_binarize_f32_scalar(const float *grad, float *carried, size_t n, float weight,
                                        size_t gamma, const float *scale, uint64_t *bits,
                                        float *means);
int meshd_planes_add_b1_scalar(uint64_t *planes, size_t count, size_t words, const uint64_t *bits);
int meshd_planes_add_many_b1_scalar(uint64_t *planes, size_t count, size_t words,
                                    const uint64_t *bits, size_t voters);
int meshd_planes_sum_b1_scalar(uint64_t *planes, size_t count, size_t words, const uint64_t *other,
                               size_t other_count);
int meshd_apply_votes_f32_scalar(const uint64_t *planes, size_t count, size_t members,
                                 const float *scale, size_t n, size_t gamma, float *out);
int meshd_votes_sgd_f32_scalar(const ring_votes *votes, const sgd_step *step, float *velocity,
                               const latent_matrix *m);
int meshd_votes_adam_f32_scalar(const ring_votes *votes, const adam_step *step, float *first,
                                float *second, const latent_matrix *m);

void meshd_fill_stream_scalar(stream_kernels *table);
}

#endif
