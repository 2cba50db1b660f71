// Segments of any length, from pairs of units (u, u ^ v).
//
// signed: a carry-save adder takes two words a step into the running `ones` word. With x0 = a0 ^ w0,
// x1 = a1 ^ w1, and the operands stored as (u, u ^ v), so that x0 ^ x1 = a01 ^ w01:
//     sum   = ones ^ x0 ^ x1 = ones ^ a01 ^ w01                     one three-input operation
//     carry = majority(ones, x0, x1)                                 x1 = sum ^ ones ^ x0:
//           = ones where ones = x0, else x1 = ~sum                   one, of (ones, x0, sum)
//     twos += popcount(carry); ones = sum
// xor, 2 three-input operations, popcount, add for 1024 bits: 2.5 a word instead of 3, and only half
// the population counts. In the end d = 2 twos + popcount(ones).
// unipolar: x = a & w has no such shortcut (x0 & x1 is not a function of the stored words' xor): two
// words cost two ands, popcounts and adds.
//
// Four rows are in work at once, so that counters and `ones` stay in registers; the tile is two of
// these. Between segments the sums wait in `out`, which is in the first-level cache.
#include "product.h"
#include "tile.h"

namespace {

constexpr int rows_at_once = 4;

struct counters {
    units twos[rows_at_once], ones[rows_at_once];

    counters() {
        const units zero = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        MESHD_UNROLL for (int r = 0; r < rows_at_once; ++r) twos[r] = ones[r] = zero;
    }
};

struct coding_signed {
    static constexpr int extra = 0;

    static void step(units &ones, units &twos, const units &w0, const units &w01,
                     const uint32_t *a) {
        __m512i a0, a01, x, y, carry_x, carry_y;
        // 0x96: xor of three. 0xd4, of (ones, x0, sum): ones where ones = x0, else ~sum.
        asm volatile("vpbroadcastd %[m0], %[a0]\n\t"
                     "vpbroadcastd %[m01], %[a01]\n\t"
                     "vmovdqa64 %[ones_l], %[carry_x]\n\t"
                     "vmovdqa64 %[ones_h], %[carry_y]\n\t"
                     "vpternlogd $0x96, %[a01], %[w01_l], %[ones_l]\n\t"
                     "vpternlogd $0x96, %[a01], %[w01_h], %[ones_h]\n\t"
                     "vpxord %[a0], %[w0_l], %[x]\n\t"
                     "vpxord %[a0], %[w0_h], %[y]\n\t"
                     "vpternlogd $0xd4, %[ones_l], %[x], %[carry_x]\n\t"
                     "vpternlogd $0xd4, %[ones_h], %[y], %[carry_y]\n\t"
                     "vpopcntd %[carry_x], %[carry_x]\n\t"
                     "vpopcntd %[carry_y], %[carry_y]\n\t"
                     "vpaddd %[carry_x], %[twos_l], %[twos_l]\n\t"
                     "vpaddd %[carry_y], %[twos_h], %[twos_h]"
                     : [ones_l] "+v"(ones.low), [ones_h] "+v"(ones.high), [twos_l] "+v"(twos.low),
                       [twos_h] "+v"(twos.high), [a0] "=&v"(a0), [a01] "=&v"(a01), [x] "=&v"(x),
                       [y] "=&v"(y), [carry_x] "=&v"(carry_x), [carry_y] "=&v"(carry_y)
                     : [w0_l] "v"(w0.low), [w0_h] "v"(w0.high), [w01_l] "v"(w01.low),
                       [w01_h] "v"(w01.high), [m0] "m"(a[0]), [m01] "m"(a[1]));
    }
    // -dot = 2 d - length = 2 (2 twos + popcount(ones)) - length
    static __m512i dot(__m512i ones, __m512i twos, const tile_job *job, const uint32_t *) {
        const __m512i d = _mm512_add_epi32(_mm512_add_epi32(twos, twos), _mm512_popcnt_epi32(ones));
        const int length = (int)job->units * 32 - job->padding;
        return _mm512_sub_epi32(_mm512_add_epi32(d, d), _mm512_set1_epi32(length));
    }
};

struct coding_unipolar {
    static constexpr int extra = 1;

    // `twos` counts half of the words and `ones` the other half: two chains of additions.
    static void step(units &ones, units &twos, const units &w0, const units &w01,
                     const uint32_t *a) {
        const __m512i a0 = _mm512_set1_epi32((int)a[0]), a1 = _mm512_set1_epi32((int)(a[0] ^ a[1]));
        count(twos.low, a0, w0.low);
        count(twos.high, a0, w0.high);
        count(ones.low, a1, _mm512_xor_si512(w0.low, w01.low));
        count(ones.high, a1, _mm512_xor_si512(w0.high, w01.high));
    }
    static __m512i dot(__m512i ones, __m512i twos, const tile_job *, const uint32_t *ones_of_a) {
        const __m512i agree = _mm512_add_epi32(twos, ones);
        const __m512i ones_in_all = _mm512_set1_epi32((int)*ones_of_a);
        return _mm512_sub_epi32(_mm512_add_epi32(agree, agree), ones_in_all);
    }

  private:
    static void count(__m512i &sum, __m512i a, __m512i w) {
        sum = _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_and_si512(a, w)));
    }
};

// One segment of rows `first` to `first` + 4: a at the first of them, w at the first units.
template <class Coding>
void segment(const tile_job *job, const uint32_t *a, const uint32_t *w, int first,
             const sums_of_segment &sums) {
    const size_t a_size = job->units + 1 + Coding::extra;
    counters c;
    for (size_t u = 0; u < job->units; u += 2, a += 2, w += 2 * tile_columns) {
        const units w0 = load_units(w), w01 = load_units(w + tile_columns);
        MESHD_UNROLL for (int r = 0; r < rows_at_once; ++r)
            Coding::step(c.ones[r], c.twos[r], w0, w01, a + r * a_size);
    }
    const alphas alpha = load_alphas(w);
    MESHD_UNROLL for (int r = 0; r < rows_at_once; ++r) {
        const uint32_t *alpha_a = a + r * a_size;
        const units dot = {
            Coding::dot(c.ones[r].low, c.twos[r].low, job, alpha_a + 1),
            Coding::dot(c.ones[r].high, c.twos[r].high, job, alpha_a + 1),
        };
        sums.scale_and_add(first + r, dot, alpha, alpha_a);
    }
}

template <class Coding> void tile(const tile_job *job) {
    const size_t a_size = job->units + 1 + Coding::extra, w_size = (job->units + 1) * tile_columns;
    const uint32_t *a = job->a, *w = job->w;
    sums_between between;
    for (size_t s = 0; s < job->groups; ++s, a += tile_rows * a_size, w += w_size) {
        const sums_of_segment sums(job, between, s);
        for (int r = 0; r < tile_rows; r += rows_at_once)
            segment<Coding>(job, a + r * a_size, w, r, sums);
    }
}

} // namespace

extern "C" void meshd_tile_signed_any_avx512_8x32(const tile_job *job) {
    tile<coding_signed>(job);
}
extern "C" void meshd_tile_unipolar_any_avx512_8x32(const tile_job *job) {
    tile<coding_unipolar>(job);
}
