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
// Two rows by four registers are in work at once, so that counters and `ones` stay in registers; the
// tile is two of these. Between segments the sums wait in `out`, which is in the first-level cache.
#include "product.h"
#include "tile.h"

namespace {

constexpr int rows_at_once = 2;

struct counters {
    __m512i twos[rows_at_once][tile_groups], ones[rows_at_once][tile_groups];

    counters() {
        MESHD_UNROLL for (int r = 0; r < rows_at_once; ++r)
            MESHD_UNROLL for (int g = 0; g < tile_groups; ++g)
                twos[r][g] = ones[r][g] = _mm512_setzero_si512();
    }
};

struct coding_signed {
    static constexpr int extra = 0;

    static void step(counters &c, int r, int g, __m512i w0, __m512i w01, const uint32_t *a) {
        __m512i carry, x, mixed;
        // 0x96: xor of three. 0xd4, of (ones, x0, sum): ones where ones = x0, else ~sum.
        asm volatile("vpbroadcastd %[a0], %[x]\n\t"
                     "vpbroadcastd %[a01], %[mixed]\n\t"
                     "vmovdqa64 %[ones], %[carry]\n\t"
                     "vpternlogd $0x96, %[mixed], %[w01], %[ones]\n\t"
                     "vpxord %[x], %[w0], %[x]\n\t"
                     "vpternlogd $0xd4, %[ones], %[x], %[carry]\n\t"
                     "vpopcntd %[carry], %[carry]\n\t"
                     "vpaddd %[carry], %[twos], %[twos]"
                     : [ones] "+v"(c.ones[r][g]), [twos] "+v"(c.twos[r][g]), [carry] "=&v"(carry),
                       [x] "=&v"(x), [mixed] "=&v"(mixed)
                     : [w0] "v"(w0), [w01] "v"(w01), [a0] "m"(a[0]), [a01] "m"(a[1]));
    }
    // -dot = 2 d - length = 2 (2 twos + popcount(ones)) - length
    static __m512i dot(const counters &c, int r, int g, const tile_job *job, const uint32_t *) {
        const __m512i twos = c.twos[r][g], ones = _mm512_popcnt_epi32(c.ones[r][g]);
        const __m512i d = _mm512_add_epi32(_mm512_add_epi32(twos, twos), ones);
        const int length = (int)job->units * 32 - job->padding;
        return _mm512_sub_epi32(_mm512_add_epi32(d, d), _mm512_set1_epi32(length));
    }
};

struct coding_unipolar {
    static constexpr int extra = 1;

    // `twos` counts half of the words and `ones` the other half: two chains of additions.
    static void step(counters &c, int r, int g, __m512i w0, __m512i w01, const uint32_t *a) {
        const __m512i a0 = _mm512_set1_epi32((int)a[0]), a1 = _mm512_set1_epi32((int)(a[0] ^ a[1]));
        const __m512i w1 = _mm512_xor_si512(w0, w01);
        const __m512i even = _mm512_popcnt_epi32(_mm512_and_si512(a0, w0));
        const __m512i odd = _mm512_popcnt_epi32(_mm512_and_si512(a1, w1));
        c.twos[r][g] = _mm512_add_epi32(c.twos[r][g], even);
        c.ones[r][g] = _mm512_add_epi32(c.ones[r][g], odd);
    }
    static __m512i dot(const counters &c, int r, int g, const tile_job *, const uint32_t *ones) {
        const __m512i agree = _mm512_add_epi32(c.twos[r][g], c.ones[r][g]);
        return _mm512_sub_epi32(_mm512_add_epi32(agree, agree), _mm512_set1_epi32((int)*ones));
    }
};

// One segment of two rows: a, w at their first units.
template <class Coding>
void segment(const tile_job *job, const uint32_t *a, const uint32_t *w, float *out) {
    const size_t a_size = job->units + 1 + Coding::extra;
    counters c;
    for (size_t u = 0; u < job->units; u += 2, a += 2, w += 2 * tile_columns)
        MESHD_UNROLL for (int g = 0; g < tile_groups; ++g) {
            const __m512i w0 = load_units(w + g * lanes);
            const __m512i w01 = load_units(w + tile_columns + g * lanes);
            MESHD_UNROLL for (int r = 0; r < rows_at_once; ++r)
                Coding::step(c, r, g, w0, w01, a + r * a_size);
        }
    MESHD_UNROLL for (int g = 0; g < tile_groups; ++g) {
        const __m512 alpha = load_alphas(w + g * lanes);
        MESHD_UNROLL for (int r = 0; r < rows_at_once; ++r) {
            const uint32_t *alpha_a = a + r * a_size;
            float *to = out + r * job->stride + g * lanes;
            __m512 sum = _mm512_loadu_ps(to);
            scale_and_add(sum, Coding::dot(c, r, g, job, alpha_a + 1), alpha, *alpha_a);
            _mm512_storeu_ps(to, sum);
        }
    }
}

template <class Coding> void tile(const tile_job *job) {
    const size_t a_size = job->units + 1 + Coding::extra, w_size = (job->units + 1) * tile_columns;
    for (int r = 0; r < tile_rows; r += rows_at_once)
        for (size_t s = 0; s < job->groups; ++s)
            segment<Coding>(job, job->a + (s * tile_rows + r) * a_size, job->w + s * w_size,
                            job->out + r * job->stride);
}

} // namespace

extern "C" void meshd_tile_signed_any_avx512_4x64(const tile_job *job) {
    tile<coding_signed>(job);
}
extern "C" void meshd_tile_unipolar_any_avx512_4x64(const tile_job *job) {
    tile<coding_unipolar>(job);
}
