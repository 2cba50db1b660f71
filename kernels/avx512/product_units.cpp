// Segments of 32, 128 or 256 elements: 1, 4 or 8 units. (Of 64: product_unit2.cpp.)
//
// signed: with d = popcount(a ^ w) over U units of 32,
//     dot = 32 U - 2 d = -2 (d - 16 U),
// the -2 stands at A's alpha. For U = 1 the 16 is subtracted. For U > 1 the odd units of W are
// inverted, so popcount(a ^ ~w) = 32 - popcount(a ^ w), and
//     popcount(x0) - popcount(~x1) + ... = d - 32 (U / 2) = d - 16 U    needs no bias at all.
// unipolar: dot = 2 popcount(a & w) - popcount(a); popcount(a) comes with A.
//
// Operations on 16 columns and 256 elements, signed: 8 xor, 8 popcount, 7 add, and 3 for the scales:
// 13 cycles of a Zen 4 (two registers a cycle), 315 multiplications a cycle; 304 are reached.
//
// Counters of four rows stay in registers; the sums wait in `out`, in the first-level cache.
#include "product.h"
#include "tile.h"

namespace {

constexpr int rows_at_once = 4;

struct coding_signed {
    static constexpr int ones = 0;

    // count = popcount(a0 ^ w0) - popcount(a1 ^ w1)
    static void first(units &count, const units &w0, const units &w1, const uint32_t *a) {
        __m512i a0, a1, x1, y1;
        asm volatile("vpbroadcastd %[m0], %[a0]\n\t"
                     "vpbroadcastd %[m1], %[a1]\n\t"
                     "vpxord %[a0], %[w0_l], %[c_l]\n\t"
                     "vpxord %[a0], %[w0_h], %[c_h]\n\t"
                     "vpxord %[a1], %[w1_l], %[x1]\n\t"
                     "vpxord %[a1], %[w1_h], %[y1]\n\t"
                     "vpopcntd %[c_l], %[c_l]\n\t"
                     "vpopcntd %[c_h], %[c_h]\n\t"
                     "vpopcntd %[x1], %[x1]\n\t"
                     "vpopcntd %[y1], %[y1]\n\t"
                     "vpsubd %[x1], %[c_l], %[c_l]\n\t"
                     "vpsubd %[y1], %[c_h], %[c_h]"
                     : [c_l] "=&v"(count.low), [c_h] "=&v"(count.high), [a0] "=&v"(a0),
                       [a1] "=&v"(a1), [x1] "=&v"(x1), [y1] "=&v"(y1)
                     : [w0_l] "v"(w0.low), [w0_h] "v"(w0.high), [w1_l] "v"(w1.low),
                       [w1_h] "v"(w1.high), [m0] "m"(a[0]), [m1] "m"(a[1]));
    }
    // count += popcount(a0 ^ w0) - popcount(a1 ^ w1)
    static void more(units &count, const units &w0, const units &w1, const uint32_t *a) {
        __m512i a0, a1, x, y, x1, y1;
        asm volatile("vpbroadcastd %[m0], %[a0]\n\t"
                     "vpbroadcastd %[m1], %[a1]\n\t"
                     "vpxord %[a0], %[w0_l], %[x]\n\t"
                     "vpxord %[a0], %[w0_h], %[y]\n\t"
                     "vpxord %[a1], %[w1_l], %[x1]\n\t"
                     "vpxord %[a1], %[w1_h], %[y1]\n\t"
                     "vpopcntd %[x], %[x]\n\t"
                     "vpopcntd %[y], %[y]\n\t"
                     "vpopcntd %[x1], %[x1]\n\t"
                     "vpopcntd %[y1], %[y1]\n\t"
                     "vpaddd %[x], %[c_l], %[c_l]\n\t"
                     "vpaddd %[y], %[c_h], %[c_h]\n\t"
                     "vpsubd %[x1], %[c_l], %[c_l]\n\t"
                     "vpsubd %[y1], %[c_h], %[c_h]"
                     : [c_l] "+v"(count.low), [c_h] "+v"(count.high), [a0] "=&v"(a0),
                       [a1] "=&v"(a1), [x] "=&v"(x), [y] "=&v"(y), [x1] "=&v"(x1), [y1] "=&v"(y1)
                     : [w0_l] "v"(w0.low), [w0_h] "v"(w0.high), [w1_l] "v"(w1.low),
                       [w1_h] "v"(w1.high), [m0] "m"(a[0]), [m1] "m"(a[1]));
    }
    static __m512i single(__m512i w, __m512i a) {
        const __m512i count = _mm512_popcnt_epi32(_mm512_xor_si512(w, a));
        return _mm512_sub_epi32(count, _mm512_set1_epi32(16));
    }
    static __m512i dot(__m512i count, const uint32_t *) { return count; }
};

struct coding_unipolar {
    static constexpr int ones = 1;

    static void first(units &count, const units &w0, const units &w1, const uint32_t *a) {
        const __m512i a0 = _mm512_set1_epi32((int)a[0]), a1 = _mm512_set1_epi32((int)a[1]);
        count = {_mm512_add_epi32(single(w0.low, a0), single(w1.low, a1)),
                 _mm512_add_epi32(single(w0.high, a0), single(w1.high, a1))};
        asm volatile("" : "+v"(count.low), "+v"(count.high)); // row by row: see product_unit2.cpp
    }
    static void more(units &count, const units &w0, const units &w1, const uint32_t *a) {
        units here;
        first(here, w0, w1, a);
        count = {_mm512_add_epi32(count.low, here.low), _mm512_add_epi32(count.high, here.high)};
    }
    static __m512i single(__m512i w, __m512i a) {
        return _mm512_popcnt_epi32(_mm512_and_si512(w, a));
    }
    static __m512i dot(__m512i count, const uint32_t *ones_of_a) {
        const __m512i ones_in_all = _mm512_set1_epi32((int)*ones_of_a);
        return _mm512_sub_epi32(_mm512_add_epi32(count, count), ones_in_all);
    }
};

// One segment of rows `first` to `first` + 4: a at the first of them, w at the first units.
template <class Coding, int unit_count>
void segment(const uint32_t *a, const uint32_t *w, int first, const sums_of_segment &sums) {
    constexpr int a_size = unit_count + 1 + Coding::ones;
    units count[rows_at_once];
    if (unit_count == 1) {
        const units w0 = load_units(w);
        MESHD_UNROLL for (int r = 0; r < rows_at_once; ++r) {
            const __m512i a0 = _mm512_set1_epi32((int)a[r * a_size]);
            count[r] = {Coding::single(w0.low, a0), Coding::single(w0.high, a0)};
        }
    }
    MESHD_UNROLL for (int u = 0; u + 1 < unit_count; u += 2) {
        const units w0 = load_units(w + u * tile_columns);
        const units w1 = load_units(w + (u + 1) * tile_columns);
        MESHD_UNROLL for (int r = 0; r < rows_at_once; ++r)
            if (u == 0)
                Coding::first(count[r], w0, w1, a + r * a_size);
            else
                Coding::more(count[r], w0, w1, a + r * a_size + u);
    }
    const alphas alpha = load_alphas(w + unit_count * tile_columns);
    MESHD_UNROLL for (int r = 0; r < rows_at_once; ++r) {
        const uint32_t *alpha_a = a + r * a_size + unit_count;
        const units dot = {Coding::dot(count[r].low, alpha_a + 1),
                           Coding::dot(count[r].high, alpha_a + 1)};
        sums.scale_and_add(first + r, dot, alpha, alpha_a);
    }
}

template <class Coding, int unit_count> void tile(const tile_job *job) {
    constexpr int a_size = unit_count + 1 + Coding::ones, w_size = (unit_count + 1) * tile_columns;
    const uint32_t *a = job->a, *w = job->w;
    sums_between between;
    for (size_t s = 0; s < job->groups; ++s, a += tile_rows * a_size, w += w_size) {
        const sums_of_segment sums(job, between, s);
        MESHD_UNROLL for (int r = 0; r < tile_rows; r += rows_at_once)
            segment<Coding, unit_count>(a + r * a_size, w, r, sums);
    }
}

} // namespace

extern "C" void meshd_tile_signed_unit1_avx512_8x32(const tile_job *job) {
    tile<coding_signed, 1>(job);
}
extern "C" void meshd_tile_signed_unit4_avx512_8x32(const tile_job *job) {
    tile<coding_signed, 4>(job);
}
extern "C" void meshd_tile_signed_unit8_avx512_8x32(const tile_job *job) {
    tile<coding_signed, 8>(job);
}
extern "C" void meshd_tile_unipolar_unit1_avx512_8x32(const tile_job *job) {
    tile<coding_unipolar, 1>(job);
}
extern "C" void meshd_tile_unipolar_unit4_avx512_8x32(const tile_job *job) {
    tile<coding_unipolar, 4>(job);
}
extern "C" void meshd_tile_unipolar_unit8_avx512_8x32(const tile_job *job) {
    tile<coding_unipolar, 8>(job);
}
