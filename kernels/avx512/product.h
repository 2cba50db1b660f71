/* The AVX-512 kernels of include/meshd_product.h, for processors that count bits in registers. */
#ifndef MESHD_AVX512_PRODUCT_H
#define MESHD_AVX512_PRODUCT_H

#include "meshd_product.h"

extern "C" {
void meshd_tile_signed_any_avx512_8x32(const tile_job *job);
void meshd_tile_signed_part8_avx512_8x32(const tile_job *job);
void meshd_tile_signed_part16_avx512_8x32(const tile_job *job);
void meshd_tile_signed_unit1_avx512_8x32(const tile_job *job);
void meshd_tile_signed_unit2_avx512_8x32(const tile_job *job);
void meshd_tile_signed_unit4_avx512_8x32(const tile_job *job);
void meshd_tile_signed_unit8_avx512_8x32(const tile_job *job);
void meshd_tile_unipolar_any_avx512_8x32(const tile_job *job);
void meshd_tile_unipolar_part8_avx512_8x32(const tile_job *job);
void meshd_tile_unipolar_part16_avx512_8x32(const tile_job *job);
void meshd_tile_unipolar_unit1_avx512_8x32(const tile_job *job);
void meshd_tile_unipolar_unit2_avx512_8x32(const tile_job *job);
void meshd_tile_unipolar_unit4_avx512_8x32(const tile_job *job);
void meshd_tile_unipolar_unit8_avx512_8x32(const tile_job *job);

void meshd_overlay_product_avx512(product_kernels *table);
}

#endif
