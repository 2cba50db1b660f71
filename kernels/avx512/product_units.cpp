// Segments of 32, 64, 128 or 256 elements: 1, 2, 4 or 8 units.
//
// signed: with d = popcount(a ^ w) over U units of 32,
//     dot = 32 U - 2 d = -2 (d - 16 U),
// the -2 stands at A's alpha. For U = 1 the 16 is subtracted. For U > 1 the odd units of W are
// inverted, so popcount(a ^ ~w) = 32 - popcount(a ^ w), and
//     popcount(x0) - popcount(~x1) + ... = d - 32 (U / 2) = d - 16 U    needs no bias at all.
// unipolar: dot = 2 popcount(a & w) - popcount(a); popcount(a) comes with A.
//
// Operations on 16 columns and 256 elements, signed: 8 xor, 8 popcount, 7 add, and 3 for the scales:
// 13 cycles of a Zen 4 (two registers a cycle), 315 multiplications a cycle.
#include "product.h"
#include "tile.h"

namespace {

struct coding_signed {
    static constexpr int ones = 0;

    // count = popcount(a0 ^ w0) - popcount(a1 ^ w1)
    static void pair(__m512i &count, __m512i w0, __m512i w1, const uint32_t *a) {
        __m512i other;
        asm volatile("vpbroadcastd %[a0], %[count]\n\t"
                     "vpbroadcastd %[a1], %[other]\n\t"
                     "vpxord %[count], %[w0], %[count]\n\t"
                     "vpxord %[other], %[w1], %[other]\n\t"
                     "vpopcntd %[count], %[count]\n\t"
                     "vpopcntd %[other], %[other]\n\t"
                     "vpsubd %[other], %[count], %[count]"
                     : [count] "=&v"(count), [other] "=&v"(other)
                     : [w0] "v"(w0), [w1] "v"(w1), [a0] "m"(a[0]), [a1] "m"(a[1]));
    }
    static __m512i single(__m512i w, const uint32_t *a) {
        const __m512i x = _mm512_xor_si512(w, _mm512_set1_epi32((int)a[0]));
        return _mm512_sub_epi32(_mm512_popcnt_epi32(x), _mm512_set1_epi32(16));
    }
    static __m512i dot(__m512i count, const uint32_t *) { return count; }
};

struct coding_unipolar {
    static constexpr int ones = 1;

    static void pair(__m512i &count, __m512i w0, __m512i w1, const uint32_t *a) {
        __m512i other;
        asm volatile("vpbroadcastd %[a0], %[count]\n\t"
                     "vpbroadcastd %[a1], %[other]\n\t"
                     "vpandd %[count], %[w0], %[count]\n\t"
                     "vpandd %[other], %[w1], %[other]\n\t"
                     "vpopcntd %[count], %[count]\n\t"
                     "vpopcntd %[other], %[other]\n\t"
                     "vpaddd %[other], %[count], %[count]"
                     : [count] "=&v"(count), [other] "=&v"(other)
                     : [w0] "v"(w0), [w1] "v"(w1), [a0] "m"(a[0]), [a1] "m"(a[1]));
    }
    static __m512i single(__m512i w, const uint32_t *a) {
        return _mm512_popcnt_epi32(_mm512_and_si512(w, _mm512_set1_epi32((int)a[0])));
    }
    static __m512i dot(__m512i count, const uint32_t *ones_of_a) {
        const __m512i ones_in_all = _mm512_set1_epi32((int)*ones_of_a);
        return _mm512_sub_epi32(_mm512_add_epi32(count, count), ones_in_all);
    }
};

template <class Coding, int units> void tile(const tile_job *job) {
    constexpr int a_size = units + 1 + Coding::ones, w_size = (units + 1) * tile_columns;
    accumulators acc(job);
    const uint32_t *a = job->a, *w = job->w;
    for (size_t left = job->groups; left > 0; --left, a += tile_rows * a_size, w += w_size)
        MESHD_UNROLL for (int g = 0; g < tile_groups; ++g) {
            const uint32_t *column = w + g * lanes;
            __m512i count[tile_rows];
            if (units == 1) {
                const __m512i w0 = load_units(column);
                MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
                    count[r] = Coding::single(w0, a + r * a_size);
            }
            MESHD_UNROLL for (int u = 0; u + 1 < units; u += 2) {
                const __m512i w0 = load_units(column + u * tile_columns);
                const __m512i w1 = load_units(column + (u + 1) * tile_columns);
                MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) {
                    __m512i more;
                    Coding::pair(more, w0, w1, a + r * a_size + u);
                    count[r] = u == 0 ? more : _mm512_add_epi32(count[r], more);
                }
            }
            const __m512 alpha = load_alphas(column + units * tile_columns);
            MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) {
                const uint32_t *alpha_a = a + r * a_size + units;
                scale_and_add(acc.sum[r][g], Coding::dot(count[r], alpha_a + 1), alpha, *alpha_a);
            }
        }
    acc.store(job);
}

} // namespace

extern "C" void meshd_tile_signed_unit1_avx512_4x64(const tile_job *job) {
    tile<coding_signed, 1>(job);
}
extern "C" void meshd_tile_signed_unit2_avx512_4x64(const tile_job *job) {
    tile<coding_signed, 2>(job);
}
extern "C" void meshd_tile_signed_unit4_avx512_4x64(const tile_job *job) {
    tile<coding_signed, 4>(job);
}
extern "C" void meshd_tile_signed_unit8_avx512_4x64(const tile_job *job) {
    tile<coding_signed, 8>(job);
}
extern "C" void meshd_tile_unipolar_unit1_avx512_4x64(const tile_job *job) {
    tile<coding_unipolar, 1>(job);
}
extern "C" void meshd_tile_unipolar_unit2_avx512_4x64(const tile_job *job) {
    tile<coding_unipolar, 2>(job);
}
extern "C" void meshd_tile_unipolar_unit4_avx512_4x64(const tile_job *job) {
    tile<coding_unipolar, 4>(job);
}
extern "C" void meshd_tile_unipolar_unit8_avx512_4x64(const tile_job *job) {
    tile<coding_unipolar, 8>(job);
}
