/* What VBMI's byte permutation adds to the kernels of include/meshd_backward.h. */
#ifndef MESHD_AVX512_BACKWARD_H
#define MESHD_AVX512_BACKWARD_H

#include "meshd_backward.h"

extern "C" {
void meshd_sums_planes_avx512(const uint16_t *keys, size_t row_stride, size_t pair_stride, size_t
                              groups, size_t planes, const uint8_t *index, size_t panels, int32_t
                              *sums);

void meshd_overlay_backward_avx512(backward_kernels *table);
}

#endif
