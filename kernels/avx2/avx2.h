/* The AVX2 kernels, one for each scalar one. Contracts: include/meshd_kernels.h. */
#ifndef MESHD_AVX2_H
#define MESHD_AVX2_H

#include "meshd_kernels.h"

extern "C" {
void meshd_pack_signed_f32_avx2(const float *x, size_t rows, size_t k, size_t beta,
                                uint64_t *words, float *scales);
void meshd_pack_unipolar_f32_avx2(const float *x, size_t rows, size_t k, size_t beta,
                                  uint64_t *words, float *scales);
void meshd_unpack_signed_f32_avx2(const packed_matrix *m, size_t k, float *out);
void meshd_unpack_unipolar_f32_avx2(const packed_matrix *m, size_t k, float *out);
int meshd_product_signed_b1_avx2_1x8(const packed_matrix *a, const packed_matrix *w, size_t k,
                                     float *out);
int meshd_product_unipolar_b1_avx2_1x8(const packed_matrix *a, const packed_matrix *w, size_t k,
                                       float *out);
void meshd_carry_binarize_f32_avx2(const float *grad, float *carried, size_t n, float weight,
                                   size_t gamma, uint64_t *bits, float *means);
void meshd_carry_settle_f32_avx2(float *carried, const uint64_t *bits, const float *scale,
                                 size_t n, size_t gamma);
int meshd_planes_add_b1_avx2(uint64_t *planes, size_t count, size_t words, const uint64_t *bits);
int meshd_apply_votes_f32_avx2(const uint64_t *planes, size_t count, size_t members,
                               const float *scale, size_t n, size_t gamma, float *out);

/* Puts the AVX2 kernels over those of a filled table. */
void meshd_overlay_avx2(kernel_table *table);
}

#endif
