/* What the AVX-512 tile kernels share. 16 columns lie side by side in a register, 32 bits of k each;
 * a unit of A is broadcast to all of them: no sum ever runs across a register. A tile is 8 rows by 32
 * columns: a step takes one row and the two registers of columns.
 *
 * The inner steps are written as assembler, because their order decides. On Zen 4, which starts two
 * 512-bit operations a cycle and half of its pipes count bits and multiply, one step's instructions
 * for the two registers side by side take 4.16 cycles at beta = 64, and one register after the other
 * 4.60, of at least 4; folding a broadcast into the xor costs as much again. What a compiler makes of
 * intrinsics gathers the broadcasts of many steps first, and spills. Registers and addresses are still
 * the compiler's. */
#ifndef MESHD_AVX512_TILE_H
#define MESHD_AVX512_TILE_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "meshd_product.h"

#define MESHD_UNROLL _Pragma("GCC unroll 16")

namespace {

constexpr int tile_rows = 8, lanes = 16, tile_columns = 2 * lanes;

/* Two registers: 32 columns. */
struct units {
    __m512i low, high;
};
struct alphas {
    __m512 low, high;
};

inline units load_units(const uint32_t *p) {
    return {_mm512_load_si512(p), _mm512_load_si512(p + lanes)};
}
inline alphas load_alphas(const uint32_t *p) {
    return {_mm512_load_ps(p), _mm512_load_ps(p + lanes)};
}
inline alphas load_row(const float *p) { return {_mm512_loadu_ps(p), _mm512_loadu_ps(p + lanes)}; }
inline void store_row(float *p, const alphas &x) {
    _mm512_storeu_ps(p, x.low);
    _mm512_storeu_ps(p + lanes, x.high);
}

inline void store_row_past_caches(float *p, const alphas &x) {
    _mm512_stream_ps(p, x.low);
    _mm512_stream_ps(p + lanes, x.high);
}
inline void store_out(const tile_job *job, int r, const alphas &x) {
    if (job->past_caches)
        store_row_past_caches(job->out + (size_t)r * job->stride, x);
    else
        store_row(job->out + (size_t)r * job->stride, x);
}
/* The macro kernel has asked for the lines of out; now they come from the second level. */
inline void fetch_out(const tile_job *job) {
    if (job->past_caches) return;
    MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) {
        _mm_prefetch((const char *)(job->out + (size_t)r * job->stride), _MM_HINT_T0);
        _mm_prefetch((const char *)(job->out + (size_t)r * job->stride + lanes), _MM_HINT_T0);
    }
}

/* One alpha of A for all lanes. By vpbroadcastd, which is a load and nothing else: Zen 4 takes a step
 * of its multiplying pipes for vbroadcastss from memory, the same bits (4.40 cycles instead of 4.01 at
 * beta = 64). */
inline __m512 broadcast_alpha(const uint32_t *p) {
    __m512i alpha;
    asm("vpbroadcastd %[p], %[alpha]" : [alpha] "=v"(alpha) : [p] "m"(*p));
    return _mm512_castsi512_ps(alpha);
}

/* Where a segment's sums come from and go to: the job's start, the job's out, or, between its
 * segments, a tile that stays in the first-level cache. (The rows of out may lie a power of two
 * apart, where they would push each other out of it.) */
struct sums_between {
    alignas(64) float tile[tile_rows * tile_columns];
};
struct sums_of_segment {
    const float *from;
    size_t from_stride;
    float *to;
    size_t to_stride;
    bool past_caches = false;

    sums_of_segment(const tile_job *job, sums_between &between, size_t segment)
        : from(between.tile), from_stride(tile_columns), to(between.tile), to_stride(tile_columns) {
        if (segment == 0) {
            from = job->start;
            from_stride = job->start_stride;
        }
        if (segment + 2 == job->groups) fetch_out(job);
        if (segment + 1 == job->groups) {
            to = job->out;
            to_stride = job->stride;
            past_caches = job->past_caches;
        }
    }
    /* to[r] = fma(alpha_a, alpha_w * (float)dot, from[r]) */
    void scale_and_add(int r, const units &dot, const alphas &alpha_w, const uint32_t *a) const {
        const __m512 alpha_a = broadcast_alpha(a);
        const __m512 low = _mm512_mul_ps(alpha_w.low, _mm512_cvtepi32_ps(dot.low));
        const __m512 high = _mm512_mul_ps(alpha_w.high, _mm512_cvtepi32_ps(dot.high));
        const alphas sum = load_row(from + r * from_stride);
        const alphas after = {_mm512_fmadd_ps(alpha_a, low, sum.low),
                              _mm512_fmadd_ps(alpha_a, high, sum.high)};
        if (past_caches)
            store_row_past_caches(to + r * to_stride, after);
        else
            store_row(to + r * to_stride, after);
    }
};

} // namespace

#endif
