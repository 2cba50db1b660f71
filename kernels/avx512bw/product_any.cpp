// Segments of any length: tables of nibbles, 4 rows by 128 columns.
#include "product.h"
#include "product_tile.h"

#include "generic/nibble_any.h"

extern "C" void meshd_tile_signed_any_avx512bw_4x128(const tile_job *job) {
    tile_any<any_signed>(job);
}
extern "C" void meshd_tile_unipolar_any_avx512bw_4x128(const tile_job *job) {
    tile_any<any_unipolar>(job);
}
