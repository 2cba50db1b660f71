// Sums of six int8, looked up as int16.
//
// The bits of six consecutive c choose among 64 sums of those values whose bit is 1. They fill two
// registers of int16, and one vpermt2w looks up 32 columns by their six bits: 192 multiplications
// and additions for a permutation and an addition. A sum of six is at most 768 in magnitude, so
// thirty groups stay within int16; then they are added to 32 bits.
//
// Tables: vpmaddubsw multiplies bytes 0 or 1 (the bits of the table's index) with pairs of values.
#include <immintrin.h>

#include "backward.h"

namespace {

constexpr size_t rows = MESHD_INT8_ROWS;
constexpr size_t groups_of_word = 2, group = 6, table = 64;
constexpr size_t row_tables = MESHD_INT8_BLOCK * groups_of_word * table;

// Lane i of int16: byte 0 is bit `bit` of i, byte 1 is bit `bit + 1`; i = 0..31 plus `from`.
inline __m512i chosen(int bit, int from) {
    alignas(64) int16_t lane[32];
    for (int i = 0; i < 32; ++i)
        lane[i] = (int16_t)(((i + from) >> bit & 1) | ((i + from) >> (bit + 1) & 1) << 8);
    return _mm512_load_si512(lane);
}

inline __m512i pair(const int8_t *v) {
    int16_t both;
    __builtin_memcpy(&both, v, sizeof both);
    return _mm512_set1_epi16(both);
}

void build_tables(const int8_t *v, size_t groups, int16_t *to) {
    const __m512i first = chosen(0, 0), second = chosen(2, 0);
    const __m512i low = chosen(4, 0), high = chosen(4, 32);
    for (size_t g = 0; g < groups; ++g, v += group, to += table) {
        const __m512i four = _mm512_add_epi16(_mm512_maddubs_epi16(first, pair(v)),
                                              _mm512_maddubs_epi16(second, pair(v + 2)));
        const __m512i last = pair(v + 4);
        _mm512_store_si512(to, _mm512_add_epi16(four, _mm512_maddubs_epi16(low, last)));
        _mm512_store_si512(to + 32, _mm512_add_epi16(four, _mm512_maddubs_epi16(high, last)));
    }
}

// 128 columns, or 64 of them in a and b.
struct integers {
    __m512i a, b, c, d;
};

template <bool whole> inline integers load(const uint16_t *p) {
    integers x = {};
    x.a = _mm512_load_si512(p);
    x.b = _mm512_load_si512(p + 32);
    if (whole) {
        x.c = _mm512_load_si512(p + 64);
        x.d = _mm512_load_si512(p + 96);
    }
    return x;
}

template <bool whole>
inline void look_up(integers &sum, const integers &i, const int16_t *t) {
    const __m512i low = _mm512_load_si512(t), high = _mm512_load_si512(t + 32);
    sum.a = _mm512_add_epi16(sum.a, _mm512_permutex2var_epi16(low, i.a, high));
    sum.b = _mm512_add_epi16(sum.b, _mm512_permutex2var_epi16(low, i.b, high));
    if (whole) {
        sum.c = _mm512_add_epi16(sum.c, _mm512_permutex2var_epi16(low, i.c, high));
        sum.d = _mm512_add_epi16(sum.d, _mm512_permutex2var_epi16(low, i.d, high));
    }
}

template <bool whole>
inline void look_up_rows(integers &s0, integers &s1, integers &s2, integers &s3, const integers &i,
                         const int16_t *t) {
    look_up<whole>(s0, i, t);
    look_up<whole>(s1, i, t + row_tables);
    look_up<whole>(s2, i, t + 2 * row_tables);
    look_up<whole>(s3, i, t + 3 * row_tables);
}

inline void add(int32_t *to, __m512i x) {
    const __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(x));
    const __m512i high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(x, 1));
    _mm512_store_si512(to, _mm512_add_epi32(_mm512_load_si512(to), low));
    _mm512_store_si512(to + 16, _mm512_add_epi32(_mm512_load_si512(to + 16), high));
}

template <bool whole> inline void add(int32_t *to, const integers &x) {
    add(to, x.a);
    add(to + 32, x.b);
    if (whole) {
        add(to + 64, x.c);
        add(to + 96, x.d);
    }
}

// One panel, or two where whole, of four rows.
template <bool whole>
void panel(const int16_t *t, size_t words, const uint16_t *index, size_t stride, int32_t *sums) {
    integers s0 = {}, s1 = {}, s2 = {}, s3 = {};
    for (size_t w = 0; w < words; ++w, index += stride, t += groups_of_word * table) {
        integers i = load<whole>(index);
        look_up_rows<whole>(s0, s1, s2, s3, i, t);
        i = {_mm512_srli_epi16(i.a, 6), _mm512_srli_epi16(i.b, 6), _mm512_srli_epi16(i.c, 6),
             _mm512_srli_epi16(i.d, 6)};
        look_up_rows<whole>(s0, s1, s2, s3, i, t + table);
    }
    add<whole>(sums, s0);
    add<whole>(sums + MESHD_STRIP, s1);
    add<whole>(sums + 2 * MESHD_STRIP, s2);
    add<whole>(sums + 3 * MESHD_STRIP, s3);
}

} // namespace

extern "C" void meshd_columns_int8_avx512bw(const uint64_t *windows, size_t words, uint16_t *index,
                                            size_t stride) {
    for (size_t w = 0; w < words; ++w, index += stride) {
        __m512i left = _mm512_setzero_si512(), right = left, bit = _mm512_set1_epi16(1);
        for (size_t j = 0; j < MESHD_INT8_WORD; ++j) {
            const uint64_t m = *windows++;
            left = _mm512_mask_add_epi16(left, (__mmask32)m, left, bit);
            right = _mm512_mask_add_epi16(right, (__mmask32)(m >> 32), right, bit);
            bit = _mm512_add_epi16(bit, bit);
        }
        _mm512_store_si512(index, left);
        _mm512_store_si512(index + 32, right);
    }
}

extern "C" void meshd_sums_int8_avx512bw(const int8_t *values, size_t row_stride, size_t words,
                                         const uint16_t *index, size_t panels, int32_t *sums) {
    alignas(64) int16_t tables[rows * row_tables];
    for (size_t r = 0; r < rows; ++r)
        build_tables(values + r * row_stride, words * groups_of_word, tables + r * row_tables);
    size_t p = 0;
    for (; p + 2 <= panels; p += 2)
        panel<true>(tables, words, index + p * MESHD_PANEL, panels * MESHD_PANEL,
                    sums + p * MESHD_PANEL);
    if (p < panels)
        panel<false>(tables, words, index + p * MESHD_PANEL, panels * MESHD_PANEL,
                     sums + p * MESHD_PANEL);
}
