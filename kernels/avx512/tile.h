/* What the AVX-512 tile kernels share. 16 columns lie side by side in a register, 32 bits of k each;
 * a unit of A is broadcast to all of them: no sum ever runs across a register.
 *
 * The steps are written as assembler, because their order decides: on Zen 4 every step has two
 * registers' worth of bit counting and multiplying for each cycle that there is, and what a compiler
 * makes of intrinsics (it gathers the broadcasts first and spills) is a quarter slower. Registers and
 * addresses are still the compiler's. A broadcast stands alone, not folded into the xor: folded, it
 * costs a place in the schedule (measured: 14.2 cycles instead of 13.0 for 256 bits of 16 columns). */
#ifndef MESHD_AVX512_TILE_H
#define MESHD_AVX512_TILE_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "meshd_product.h"

#define MESHD_UNROLL _Pragma("GCC unroll 16")

namespace {

constexpr int tile_rows = 4, tile_groups = 4, lanes = 16, tile_columns = tile_groups * lanes;

inline __m512i load_units(const uint32_t *p) { return _mm512_load_si512(p); }
inline __m512 load_alphas(const uint32_t *p) { return _mm512_load_ps(p); }

struct accumulators {
    __m512 sum[tile_rows][tile_groups];

    explicit accumulators(const tile_job *job) {
        MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
            MESHD_UNROLL for (int g = 0; g < tile_groups; ++g)
                sum[r][g] = _mm512_loadu_ps(job->out + r * job->stride + g * lanes);
    }
    void store(const tile_job *job) const {
        MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
            MESHD_UNROLL for (int g = 0; g < tile_groups; ++g)
                _mm512_storeu_ps(job->out + r * job->stride + g * lanes, sum[r][g]);
    }
};

/* sum = fma(alpha_a, alpha_w * (float)dot, sum) */
inline void scale_and_add(__m512 &sum, __m512i dot, __m512 alpha_w, const uint32_t &alpha_a) {
    __m512 a;
    asm volatile("vcvtdq2ps %[dot], %[dot]\n\t"
                 "vmulps %[alpha_w], %[dot], %[dot]\n\t"
                 "vbroadcastss %[alpha_a], %[a]\n\t"
                 "vfmadd231ps %[a], %[dot], %[sum]"
                 : [sum] "+v"(sum), [dot] "+v"(dot), [a] "=&v"(a)
                 : [alpha_w] "v"(alpha_w), [alpha_a] "m"(alpha_a));
}

} // namespace

#endif
