/* The scalar kernels of include/meshd_backward.h: the specification. */
#ifndef MESHD_SCALAR_BACKWARD_H
#define MESHD_SCALAR_BACKWARD_H

#include "meshd_backward.h"

extern "C" {
void meshd_columns_exact_scalar(const uint64_t *windows, size_t words, uint32_t *index, size_t
                                stride);
void meshd_columns_int8_scalar(const uint64_t *windows, size_t words, uint16_t *index, size_t
                               stride);
void meshd_columns_planes_scalar(const uint64_t *windows, size_t groups, uint8_t *index, size_t
                                 stride);
void meshd_sums_exact_scalar(const float *values, size_t words, const uint32_t *index, size_t
                             panels, float zero, float *sums);
void meshd_sums_int8_scalar(const int8_t *values, size_t row_stride, size_t words,
                            const uint16_t *index, size_t panels, int32_t *sums);
void meshd_sums_planes_scalar(const uint16_t *keys, size_t row_stride, size_t pair_stride, size_t
                              groups, size_t planes, const uint8_t *index, size_t panels, int32_t
                              *sums);
void meshd_scale_scalar(const float *g, const float *alpha, size_t n, float *v);
uint32_t meshd_largest_scalar(const float *g, const float *alpha, size_t n);
int32_t meshd_round_int8_scalar(const float *g, const float *alpha, size_t n, float inverse,
                                uint32_t first, uint32_t second, int8_t *values);
int32_t meshd_digits_planes_scalar(const float *g, const float *alpha, size_t n, size_t groups,
                                   float inverse, size_t planes, const uint16_t *carry,
                                   uint16_t *keys, size_t pair_stride);
void meshd_finish_exact_scalar(const float *sums, size_t n, const uint64_t *keep,
                               int past_caches, float *out);
void meshd_finish_integer_scalar(const int32_t *sums, size_t n, int32_t factor,
                                 const int32_t *offset, int32_t constant, float step,
                                 const uint64_t *keep, int past_caches, float *out);

void meshd_fill_backward_scalar(backward_kernels *table);
}

#endif
