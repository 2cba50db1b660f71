// Index bytes of the planes' product: seven rows of bits, transposed.
#include <immintrin.h>

#include "backward.h"

extern "C" void meshd_columns_planes_avx512bw(const uint64_t *windows, size_t groups,
                                              uint8_t *index, size_t stride) {
    for (size_t g = 0; g < groups; ++g, index += stride) {
        __m512i lanes = _mm512_setzero_si512();
        for (size_t j = 0; j < MESHD_PLANES_GROUP; ++j)
            lanes = _mm512_mask_add_epi8(lanes, (__mmask64)windows[j * groups + g], lanes,
                                         _mm512_set1_epi8((char)(1 << j)));
        _mm512_store_si512(index, lanes);
    }
}
