// Sums of seven small digits, looked up as bytes.
//
// The bits of seven c choose among 128 sums of those digits whose bit is 1. They fill two registers
// of bytes, and one vpermt2b looks up 64 columns by their seven bits: 448 multiplications and
// additions for a permutation and an addition. Digits have `planes` bits, so one look-up does what
// `planes` rounds of exclusive or and population count do.
//
// The tables are looked up themselves: for a pair of bits per digit, the key of four digits has 256
// values and that of three 64. With index bits i = 0..127,
//     table[i] = four[key & 255][i & 15] + three[key >> 8][i >> 4]
// and a second pair of bits weighs four times as much.
//
// A sum of seven digits is at most 7 (2^planes - 1), so 36, 12, 5 or 2 groups stay within a byte.
// Then bytes are added to 16 bits without unpacking: `whole` sums even + 256 odd modulo 2^16, and
// `odd` the high bytes, so that even = whole - 256 odd.
#include <immintrin.h>

#include "backward.h"

namespace {

constexpr size_t rows = MESHD_PLANES_ROWS, lanes = 64;

struct table_parts {
    alignas(64) uint8_t four[256][16];
    alignas(64) uint8_t three[64][128];
};

constexpr table_parts make_parts() {
    table_parts t = {};
    for (unsigned key = 0; key < 256; ++key)
        for (unsigned i = 0; i < 16; ++i)
            for (unsigned j = 0; j < 4; ++j)
                if (i >> j & 1) t.four[key][i] = (uint8_t)(t.four[key][i] + (key >> 2 * j & 3));
    for (unsigned key = 0; key < 64; ++key)
        for (unsigned i = 0; i < 128; ++i)
            for (unsigned j = 0; j < 3; ++j)
                if (i >> (4 + j) & 1)
                    t.three[key][i] = (uint8_t)(t.three[key][i] + (key >> 2 * j & 3));
    return t;
}

constexpr table_parts parts = make_parts();

struct table {
    __m512i low, high;
};

inline table table_of(uint16_t key) {
    const __m512i four =
        _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)parts.four[key & 255]));
    const uint8_t *three = parts.three[key >> 8];
    return {_mm512_add_epi8(four, _mm512_load_si512(three)),
            _mm512_add_epi8(four, _mm512_load_si512(three + lanes))};
}

inline __m512i four_times(__m512i x) { // bytes that stay below 64
    return _mm512_slli_epi16(x, 2);
}

template <bool two_pairs> inline table table_at(const uint16_t *key, size_t pair_stride) {
    table t = table_of(*key);
    if (two_pairs) {
        const table second = table_of(key[pair_stride]);
        t = {_mm512_add_epi8(t.low, four_times(second.low)),
             _mm512_add_epi8(t.high, four_times(second.high))};
    }
    return t;
}

// Up to 256 columns of one row: registers a..d serve panels 0..3.
struct bytes {
    __m512i a, b, c, d;
};

template <size_t panels> inline bytes load(const uint8_t *p) {
    bytes x = {};
    x.a = _mm512_load_si512(p);
    if (panels > 1) x.b = _mm512_load_si512(p + lanes);
    if (panels > 2) x.c = _mm512_load_si512(p + 2 * lanes);
    if (panels > 3) x.d = _mm512_load_si512(p + 3 * lanes);
    return x;
}

template <size_t panels> inline void look_up(bytes &sum, const bytes &i, const table &t) {
    sum.a = _mm512_add_epi8(sum.a, _mm512_permutex2var_epi8(t.low, i.a, t.high));
    if (panels > 1) sum.b = _mm512_add_epi8(sum.b, _mm512_permutex2var_epi8(t.low, i.b, t.high));
    if (panels > 2) sum.c = _mm512_add_epi8(sum.c, _mm512_permutex2var_epi8(t.low, i.c, t.high));
    if (panels > 3) sum.d = _mm512_add_epi8(sum.d, _mm512_permutex2var_epi8(t.low, i.d, t.high));
}

// The 16-bit sums of 64 columns.
struct halves {
    __m512i whole, odd;
};

inline void widen(halves &to, __m512i x) {
    to.whole = _mm512_add_epi16(to.whole, x);
    to.odd = _mm512_add_epi16(to.odd, _mm512_srli_epi16(x, 8));
}

template <size_t panels> inline void widen(halves *to, const bytes &x) {
    widen(to[0], x.a);
    if (panels > 1) widen(to[1], x.b);
    if (panels > 2) widen(to[2], x.c);
    if (panels > 3) widen(to[3], x.d);
}

inline void add(int32_t *to, __m256i x) {
    _mm512_store_si512(to, _mm512_add_epi32(_mm512_load_si512(to), _mm512_cvtepu16_epi32(x)));
}

// 64 columns in order: 128-bit lane l of `even` and `odd` interleaves to columns 16 l .. 16 l + 15.
inline void add(int32_t *to, const halves &x) {
    const __m512i even = _mm512_sub_epi16(x.whole, _mm512_slli_epi16(x.odd, 8));
    const __m512i left = _mm512_unpacklo_epi16(even, x.odd);
    const __m512i right = _mm512_unpackhi_epi16(even, x.odd);
    const __m512i first = _mm512_permutex2var_epi64(
        left, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), right);
    const __m512i second = _mm512_permutex2var_epi64(
        left, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), right);
    add(to, _mm512_castsi512_si256(first));
    add(to + 16, _mm512_extracti64x4_epi64(first, 1));
    add(to + 32, _mm512_castsi512_si256(second));
    add(to + 48, _mm512_extracti64x4_epi64(second, 1));
}

struct digit_rows {
    const uint16_t *keys;
    size_t row_stride, pair_stride, groups, chain; // chain: groups whose sums fit a byte
};

template <size_t panels, bool two_pairs>
void strip(const digit_rows &of, const uint8_t *index, int32_t *sums) {
    halves wide[rows][panels];
    for (size_t r = 0; r < rows; ++r)
        for (size_t p = 0; p < panels; ++p)
            wide[r][p] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    const uint16_t *key = of.keys;
    for (size_t left = of.groups; left > 0;) {
        size_t n = left < of.chain ? left : of.chain;
        left -= n;
        bytes s0 = {}, s1 = {}, s2 = {}, s3 = {};
        for (; n > 0; --n, ++key, index += panels * lanes) {
            const bytes i = load<panels>(index);
            look_up<panels>(s0, i, table_at<two_pairs>(key, of.pair_stride));
            look_up<panels>(s1, i, table_at<two_pairs>(key + of.row_stride, of.pair_stride));
            look_up<panels>(s2, i, table_at<two_pairs>(key + 2 * of.row_stride, of.pair_stride));
            look_up<panels>(s3, i, table_at<two_pairs>(key + 3 * of.row_stride, of.pair_stride));
        }
        widen<panels>(wide[0], s0);
        widen<panels>(wide[1], s1);
        widen<panels>(wide[2], s2);
        widen<panels>(wide[3], s3);
    }
    for (size_t r = 0; r < rows; ++r)
        for (size_t p = 0; p < panels; ++p)
            add(sums + r * MESHD_STRIP + p * lanes, wide[r][p]);
}

template <bool two_pairs>
void strip(const digit_rows &of, const uint8_t *index, size_t panels, int32_t *sums) {
    if (panels == 4)
        strip<4, two_pairs>(of, index, sums);
    else if (panels == 3)
        strip<3, two_pairs>(of, index, sums);
    else if (panels == 2)
        strip<2, two_pairs>(of, index, sums);
    else
        strip<1, two_pairs>(of, index, sums);
}

} // namespace

extern "C" void meshd_sums_planes_avx512(const uint16_t *keys, size_t row_stride,
                                         size_t pair_stride, size_t groups, size_t planes,
                                         const uint8_t *index, size_t panels, int32_t *sums) {
    const size_t largest = MESHD_PLANES_GROUP * (((size_t)1 << planes) - 1);
    const digit_rows of = {keys, row_stride, pair_stride, groups, 255 / largest};
    if (planes > 2)
        strip<true>(of, index, panels, sums);
    else
        strip<false>(of, index, panels, sums);
}
