// Sums of five floats with signs, looked up: the "four Russians" for float32.
//
// The bits of five consecutive c choose among 32 sums of five values. These fill two registers,
//     low[i]  = ((((v0 code(i, 0) + v1 code(i, 1)) + v2 code(i, 2)) + v3 code(i, 3)) + v4 zero
//     high[i] = the same with + v4                                       i = 0..15
// where code(i, j) = bit j of i ? 1 : zero, and one vpermt2ps looks up sixteen columns by their
// five bits: 80 multiplications and additions for a permutation and an addition. The multiply-adds
// below round once, like the additions they stand for: a product with 1, -1 or 0 is exact.
//
// An index word holds the bits of six groups, so it is shifted five times for six rows each. Tables
// of a call's 30 groups and 6 rows take 23 KB of the first cache.
#include <immintrin.h>

#include "backward.h"

namespace {

constexpr size_t rows = MESHD_EXACT_ROWS;
constexpr size_t groups_of_word = 6, group = 5, table = 32;
constexpr size_t row_tables = MESHD_EXACT_BLOCK * groups_of_word * table;
constexpr size_t row_values = MESHD_EXACT_BLOCK * MESHD_EXACT_WORD;

void build_tables(const float *v, size_t groups, float zero, float *to) {
    const __m512 one = _mm512_set1_ps(1.0f), none = _mm512_set1_ps(zero);
    const __m512 code0 = _mm512_mask_blend_ps(0xaaaa, none, one);
    const __m512 code1 = _mm512_mask_blend_ps(0xcccc, none, one);
    const __m512 code2 = _mm512_mask_blend_ps(0xf0f0, none, one);
    const __m512 code3 = _mm512_mask_blend_ps(0xff00, none, one);
    for (size_t g = 0; g < groups; ++g, v += group, to += table) {
        __m512 sum = _mm512_mul_ps(_mm512_set1_ps(v[0]), code0);
        sum = _mm512_fmadd_ps(_mm512_set1_ps(v[1]), code1, sum);
        sum = _mm512_fmadd_ps(_mm512_set1_ps(v[2]), code2, sum);
        sum = _mm512_fmadd_ps(_mm512_set1_ps(v[3]), code3, sum);
        const __m512 last = _mm512_set1_ps(v[4]);
        _mm512_store_ps(to, _mm512_fmadd_ps(last, none, sum));
        _mm512_store_ps(to + 16, _mm512_add_ps(sum, last));
    }
}

// 64 columns: named members, since the compiler keeps those in registers.
struct floats {
    __m512 a, b, c, d;
};
struct indices {
    __m512i a, b, c, d;
};

inline floats load(const float *p) {
    return {_mm512_load_ps(p), _mm512_load_ps(p + 16), _mm512_load_ps(p + 32),
            _mm512_load_ps(p + 48)};
}

inline void store(float *p, const floats &x) {
    _mm512_store_ps(p, x.a);
    _mm512_store_ps(p + 16, x.b);
    _mm512_store_ps(p + 32, x.c);
    _mm512_store_ps(p + 48, x.d);
}

inline void look_up(floats &sum, const indices &i, const float *t) {
    const __m512 low = _mm512_load_ps(t), high = _mm512_load_ps(t + 16);
    sum.a = _mm512_add_ps(sum.a, _mm512_permutex2var_ps(low, i.a, high));
    sum.b = _mm512_add_ps(sum.b, _mm512_permutex2var_ps(low, i.b, high));
    sum.c = _mm512_add_ps(sum.c, _mm512_permutex2var_ps(low, i.c, high));
    sum.d = _mm512_add_ps(sum.d, _mm512_permutex2var_ps(low, i.d, high));
}

// One panel of six rows.
void panel(const float *t, size_t words, const uint32_t *index, size_t stride, float *sums) {
    floats s0 = load(sums), s1 = load(sums + MESHD_STRIP), s2 = load(sums + 2 * MESHD_STRIP);
    floats s3 = load(sums + 3 * MESHD_STRIP), s4 = load(sums + 4 * MESHD_STRIP);
    floats s5 = load(sums + 5 * MESHD_STRIP);
    for (size_t w = 0; w < words; ++w, index += stride) {
        indices i = {_mm512_load_si512(index), _mm512_load_si512(index + 16),
                     _mm512_load_si512(index + 32), _mm512_load_si512(index + 48)};
        for (size_t g = 0; g < groups_of_word; ++g, t += table) {
            look_up(s0, i, t);
            look_up(s1, i, t + row_tables);
            look_up(s2, i, t + 2 * row_tables);
            look_up(s3, i, t + 3 * row_tables);
            look_up(s4, i, t + 4 * row_tables);
            look_up(s5, i, t + 5 * row_tables);
            i = {_mm512_srli_epi32(i.a, 5), _mm512_srli_epi32(i.b, 5), _mm512_srli_epi32(i.c, 5),
                 _mm512_srli_epi32(i.d, 5)};
        }
    }
    store(sums, s0);
    store(sums + MESHD_STRIP, s1);
    store(sums + 2 * MESHD_STRIP, s2);
    store(sums + 3 * MESHD_STRIP, s3);
    store(sums + 4 * MESHD_STRIP, s4);
    store(sums + 5 * MESHD_STRIP, s5);
}

} // namespace

extern "C" void meshd_columns_exact_avx512bw(const uint64_t *windows, size_t words,
                                             uint32_t *index, size_t stride) {
    for (size_t w = 0; w < words; ++w, index += stride) {
        indices i = {};
        __m512i bit = _mm512_set1_epi32(1);
        for (size_t j = 0; j < MESHD_EXACT_WORD; ++j) {
            const uint64_t m = *windows++;
            i.a = _mm512_mask_or_epi32(i.a, (__mmask16)m, i.a, bit);
            i.b = _mm512_mask_or_epi32(i.b, (__mmask16)(m >> 16), i.b, bit);
            i.c = _mm512_mask_or_epi32(i.c, (__mmask16)(m >> 32), i.c, bit);
            i.d = _mm512_mask_or_epi32(i.d, (__mmask16)(m >> 48), i.d, bit);
            bit = _mm512_add_epi32(bit, bit);
        }
        _mm512_store_si512(index, i.a);
        _mm512_store_si512(index + 16, i.b);
        _mm512_store_si512(index + 32, i.c);
        _mm512_store_si512(index + 48, i.d);
    }
}

extern "C" void meshd_sums_exact_avx512bw(const float *values, size_t words, const uint32_t *index,
                                          size_t panels, float zero, float *sums) {
    alignas(64) float tables[rows * row_tables];
    for (size_t r = 0; r < rows; ++r)
        build_tables(values + r * row_values, words * groups_of_word, zero,
                     tables + r * row_tables);
    for (size_t p = 0; p < panels; ++p)
        panel(tables, words, index + p * MESHD_PANEL, panels * MESHD_PANEL,
              sums + p * MESHD_PANEL);
}
