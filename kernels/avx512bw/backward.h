/* The kernels of include/meshd_backward.h for AVX-512 with BW, DQ, VL. */
#ifndef MESHD_AVX512BW_BACKWARD_H
#define MESHD_AVX512BW_BACKWARD_H

#include "meshd_backward.h"

extern "C" {
void meshd_columns_exact_avx512bw(const uint64_t *windows, size_t words, uint32_t *index, size_t
                                  stride);
void meshd_columns_int8_avx512bw(const uint64_t *windows, size_t words, uint16_t *index, size_t
                                 stride);
void meshd_columns_planes_avx512bw(const uint64_t *windows, size_t groups, uint8_t *index, size_t
                                   stride);
void meshd_sums_exact_avx512bw(const float *values, size_t words, const uint32_t *index, size_t
                               panels, float zero, float *sums);
void meshd_sums_int8_avx512bw(const int8_t *values, size_t row_stride, size_t words,
                              const uint16_t *index, size_t panels, int32_t *sums);
void meshd_scale_avx512bw(const float *g, const float *alpha, size_t n, float *v);
uint32_t meshd_largest_avx512bw(const float *g, const float *alpha, size_t n);
int32_t meshd_round_int8_avx512bw(const float *g, const float *alpha, size_t n, float inverse,
                                  uint32_t first, uint32_t second, int8_t *values);
int32_t meshd_digits_planes_avx512bw(const float *g, const float *alpha, size_t n, size_t groups,
                                     float inverse, size_t planes, const uint16_t *carry,
                                     uint16_t *keys, size_t pair_stride);
void meshd_finish_exact_avx512bw(const float *sums, size_t n, const uint64_t *keep,
                                 int past_caches, float *out);
void meshd_finish_integer_avx512bw(const int32_t *sums, size_t n, int32_t factor,
                                   const int32_t *offset, int32_t constant, float step,
                                   const uint64_t *keep, int past_caches, float *out);

void meshd_overlay_backward_avx512bw(backward_kernels *table);
}

#endif
