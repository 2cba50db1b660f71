// Segments of 64 elements: 2 units. (Of 32, 128, 256: product_units.cpp, where the mathematics is.)
//
// The sums stay in registers: a step is a row by 32 columns, from the xor to the fused multiply-add,
// 8 operations a register (unipolar: 10).
#include "product.h"
#include "tile.h"

namespace {

struct coding_signed {
    static constexpr int ones = 0;

    static void step(alphas &sum, const units &w0, const units &w1, const alphas &alpha_w,
                     const uint32_t *a) {
        __m512i a0, a1, x, y, x1, y1;
        __m512 alpha;
        asm volatile("vpbroadcastd %[m0], %[a0]\n\t"
                     "vpbroadcastd %[m1], %[a1]\n\t"
                     "vpbroadcastd %[m2], %[alpha]\n\t"
                     "vpxord %[a0], %[w0_l], %[x]\n\t"
                     "vpxord %[a0], %[w0_h], %[y]\n\t"
                     "vpxord %[a1], %[w1_l], %[x1]\n\t"
                     "vpxord %[a1], %[w1_h], %[y1]\n\t"
                     "vpopcntd %[x], %[x]\n\t"
                     "vpopcntd %[y], %[y]\n\t"
                     "vpopcntd %[x1], %[x1]\n\t"
                     "vpopcntd %[y1], %[y1]\n\t"
                     "vpsubd %[x1], %[x], %[x]\n\t"
                     "vpsubd %[y1], %[y], %[y]\n\t"
                     "vcvtdq2ps %[x], %[x]\n\t"
                     "vcvtdq2ps %[y], %[y]\n\t"
                     "vmulps %[aw_l], %[x], %[x]\n\t"
                     "vmulps %[aw_h], %[y], %[y]\n\t"
                     "vfmadd231ps %[alpha], %[x], %[sum_l]\n\t"
                     "vfmadd231ps %[alpha], %[y], %[sum_h]"
                     : [sum_l] "+v"(sum.low), [sum_h] "+v"(sum.high), [a0] "=&v"(a0),
                       [a1] "=&v"(a1), [alpha] "=&v"(alpha), [x] "=&v"(x), [y] "=&v"(y),
                       [x1] "=&v"(x1), [y1] "=&v"(y1)
                     : [w0_l] "v"(w0.low), [w0_h] "v"(w0.high), [w1_l] "v"(w1.low),
                       [w1_h] "v"(w1.high), [aw_l] "v"(alpha_w.low), [aw_h] "v"(alpha_w.high),
                       [m0] "m"(a[0]), [m1] "m"(a[1]), [m2] "m"(a[2]));
    }
};

struct coding_unipolar {
    static constexpr int ones = 1;

    static void step(alphas &sum, const units &w0, const units &w1, const alphas &alpha_w,
                     const uint32_t *a) {
        const __m512i a0 = _mm512_set1_epi32((int)a[0]), a1 = _mm512_set1_epi32((int)a[1]);
        const __m512 alpha = broadcast_alpha(a + 2);
        const __m512i ones_of_a = _mm512_set1_epi32((int)a[3]);
        sum.low = _mm512_fmadd_ps(alpha, term(a0, a1, w0.low, w1.low, alpha_w.low, ones_of_a),
                                  sum.low);
        sum.high = _mm512_fmadd_ps(alpha, term(a0, a1, w0.high, w1.high, alpha_w.high, ones_of_a),
                                   sum.high);
        // Row by row: without this the compiler gathers the broadcasts of all rows, and spills.
        asm volatile("" : "+v"(sum.low), "+v"(sum.high));
    }

  private:
    static __m512 term(__m512i a0, __m512i a1, __m512i w0, __m512i w1, __m512 alpha_w,
                       __m512i ones_of_a) {
        const __m512i x = _mm512_and_si512(a0, w0), y = _mm512_and_si512(a1, w1);
        const __m512i count = _mm512_add_epi32(_mm512_popcnt_epi32(x), _mm512_popcnt_epi32(y));
        const __m512i dot = _mm512_sub_epi32(_mm512_add_epi32(count, count), ones_of_a);
        return _mm512_mul_ps(alpha_w, _mm512_cvtepi32_ps(dot));
    }
};

template <class Coding> void tile(const tile_job *job) {
    constexpr int a_size = 3 + Coding::ones, w_size = 3 * tile_columns;
    alphas sum[tile_rows];
    MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) sum[r] = load_row(job->start + r * job->start_stride);
    const uint32_t *a = job->a, *w = job->w;
    for (size_t left = job->groups; left > 0; --left, a += tile_rows * a_size, w += w_size) {
        const units w0 = load_units(w), w1 = load_units(w + tile_columns);
        const alphas alpha_w = load_alphas(w + 2 * tile_columns);
        MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
            Coding::step(sum[r], w0, w1, alpha_w, a + r * a_size);
    }
    MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) store_out(job, r, sum[r]);
}

} // namespace

extern "C" void meshd_tile_signed_unit2_avx512_8x32(const tile_job *job) {
    tile<coding_signed>(job);
}
extern "C" void meshd_tile_unipolar_unit2_avx512_8x32(const tile_job *job) {
    tile<coding_unipolar>(job);
}
