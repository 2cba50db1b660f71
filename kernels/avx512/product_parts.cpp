// Segments of 8 or 16 elements: four or two in a unit, counted at once by vpopcntb or vpopcntw.
//
// A count is at most 16: it is the index into a table of 32 floats, held in two registers, that says
// what it means: dot = beta - 2 count (signed). The look-up reads the lane's low five bits only; what
// lies above, the other segments' counts, is shifted down in its turn, and for beta = 8 the bit
// above a count's four is zero. It replaces the mask and the conversion, and their ports.
// unipolar: dot = 2 count - popcount(a).
#include "product.h"
#include "tile.h"

namespace {

// 16 * (5-bit index) floats: value(count) for count < 32.
struct count_table {
    __m512 low, high;

    template <class Value> explicit count_table(Value value) {
        float entry[32];
        for (int i = 0; i < 32; ++i) entry[i] = (float)value(i);
        low = _mm512_loadu_ps(entry);
        high = _mm512_loadu_ps(entry + 16);
    }
    __m512 operator()(__m512i count) const { return _mm512_permutex2var_ps(low, count, high); }
};

template <int beta> __m512i counts(__m512i x) {
    return beta == 16 ? _mm512_popcnt_epi16(x) : _mm512_popcnt_epi8(x);
}

template <int beta> struct coding_signed {
    static constexpr int ones = 0;
    static __m512i mix(__m512i a, __m512i w) { return _mm512_xor_si512(a, w); }
    static int value(int count) { return beta - 2 * count; }
    static __m512 dot(__m512 value, const uint32_t *) { return value; }
};

template <int beta> struct coding_unipolar {
    static constexpr int ones = 1;
    static __m512i mix(__m512i a, __m512i w) { return _mm512_and_si512(a, w); }
    static int value(int count) { return 2 * count; }
    static __m512 dot(__m512 value, const uint32_t *ones_of_a) {
        return _mm512_sub_ps(value, _mm512_set1_ps((float)(int)*ones_of_a));
    }
};

template <class Coding, int beta> void tile(const tile_job *job) {
    constexpr int parts = 32 / beta;
    constexpr int a_size = 1 + parts * (1 + Coding::ones), w_size = (1 + parts) * tile_columns;
    const count_table table(Coding::value);
    accumulators acc(job);
    const uint32_t *a = job->a, *w = job->w;
    for (size_t left = job->groups; left > 0; --left, a += tile_rows * a_size, w += w_size)
        MESHD_UNROLL for (int g = 0; g < tile_groups; ++g) {
            const uint32_t *column = w + g * lanes;
            const __m512i unit = load_units(column);
            __m512 alpha_w[parts];
            MESHD_UNROLL for (int p = 0; p < parts; ++p)
                alpha_w[p] = load_alphas(column + (1 + p) * tile_columns);
            MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) {
                const uint32_t *row = a + r * a_size;
                const __m512i a_unit = _mm512_set1_epi32((int)row[0]);
                __m512i count = counts<beta>(Coding::mix(a_unit, unit));
                MESHD_UNROLL for (int p = 0; p < parts; ++p) {
                    const __m512 dot = Coding::dot(table(count), row + 1 + parts + p);
                    const __m512 alpha_a = _mm512_castsi512_ps(_mm512_set1_epi32((int)row[1 + p]));
                    acc.sum[r][g] = _mm512_fmadd_ps(alpha_a, _mm512_mul_ps(alpha_w[p], dot),
                                                    acc.sum[r][g]);
                    if (p + 1 < parts) count = _mm512_srli_epi32(count, beta);
                }
                // Row by row: without this the compiler gathers the look-ups and spills.
                asm volatile("" : "+v"(acc.sum[r][g]));
            }
        }
    acc.store(job);
}

} // namespace

extern "C" void meshd_tile_signed_part8_avx512_4x64(const tile_job *job) {
    tile<coding_signed<8>, 8>(job);
}
extern "C" void meshd_tile_signed_part16_avx512_4x64(const tile_job *job) {
    tile<coding_signed<16>, 16>(job);
}
extern "C" void meshd_tile_unipolar_part8_avx512_4x64(const tile_job *job) {
    tile<coding_unipolar<8>, 8>(job);
}
extern "C" void meshd_tile_unipolar_part16_avx512_4x64(const tile_job *job) {
    tile<coding_unipolar<16>, 16>(job);
}
