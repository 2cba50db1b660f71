// The inner products of the backward pass without registers of 32 floats: bits become factors or
// table indices of bytes, once for all rows of a tile.
//
//   exact    30 rows of factors 1 and `zero` for 64 columns, then multiply-adds, which round once,
//            like the additions they stand for: a product with 1, -1 or 0 is exact
//   int8     bytes 0 and 1 times pairs of values, vpmaddubsw; 90 pairs of at most 256 fit int16
//   planes   vpshufb looks up the sums of four and of three digits of 2 bits; a second pair of bits
//            weighs four times as much. Bytes are added to 16 bits without unpacking: `whole` sums
//            even + 256 odd modulo 2^16, `odd` the high bytes, so even = whole - 256 odd
#include "backward.h"
#include "simd.h"

namespace {

constexpr size_t exact_values = MESHD_EXACT_BLOCK * MESHD_EXACT_WORD;

inline __m256i integers_at(const void *p) { return _mm256_load_si256((const __m256i *)p); }
inline void keep(void *p, __m256i x) { _mm256_store_si256((__m256i *)p, x); }

// Bit j of eight index words: 1 or zero.
inline __m256 factor(__m256i index, int j, __m256 zero) {
    const __m256i sign = _mm256_sll_epi32(index, _mm_cvtsi32_si128(31 - j));
    return _mm256_blendv_ps(zero, _mm256_set1_ps(1.0f), _mm256_castsi256_ps(sign));
}

// A row's sums of sixteen columns; named members, since the compiler keeps those in registers.
struct floats {
    __m256 left, right;
};

inline floats times(const float *v, const floats &code) {
    const __m256 x = _mm256_broadcast_ss(v);
    return {_mm256_mul_ps(x, code.left), _mm256_mul_ps(x, code.right)};
}

inline void add_times(floats &to, const float *v, const floats &code) {
    const __m256 x = _mm256_broadcast_ss(v);
    to.left = _mm256_fmadd_ps(x, code.left, to.left);
    to.right = _mm256_fmadd_ps(x, code.right, to.right);
}

inline void add(floats &to, const floats &x) {
    to.left = _mm256_add_ps(to.left, x.left);
    to.right = _mm256_add_ps(to.right, x.right);
}

inline floats floats_at(const float *p) { return {_mm256_load_ps(p), _mm256_load_ps(p + width)}; }

inline void keep(float *p, const floats &x) {
    _mm256_store_ps(p, x.left);
    _mm256_store_ps(p + width, x.right);
}

// Three rows, sixteen columns, the six groups of a word. codes (30, 64).
void exact_tile(const float *v0, const float *codes, float *sums) {
    const float *v1 = v0 + exact_values, *v2 = v1 + exact_values;
    floats sum0 = floats_at(sums), sum1 = floats_at(sums + MESHD_STRIP);
    floats sum2 = floats_at(sums + 2 * MESHD_STRIP);
    for (size_t c = 0; c < MESHD_EXACT_WORD; c += 5) {
        floats code = floats_at(codes);
        floats part0 = times(v0 + c, code), part1 = times(v1 + c, code);
        floats part2 = times(v2 + c, code);
        for (size_t j = 1; j < 5; ++j) {
            code = floats_at(codes + j * MESHD_PANEL);
            add_times(part0, v0 + c + j, code);
            add_times(part1, v1 + c + j, code);
            add_times(part2, v2 + c + j, code);
        }
        add(sum0, part0);
        add(sum1, part1);
        add(sum2, part2);
        codes += 5 * MESHD_PANEL;
    }
    keep(sums, sum0);
    keep(sums + MESHD_STRIP, sum1);
    keep(sums + 2 * MESHD_STRIP, sum2);
}

// Four rows, sixteen columns. pairs (6 words, 64): bytes 0 and 1.
void int8_tile(const int8_t *v, size_t row_stride, size_t pairs_count, const uint16_t *pairs,
               int32_t *sums) {
    __m256i sum[MESHD_INT8_ROWS];
    for (size_t r = 0; r < MESHD_INT8_ROWS; ++r) sum[r] = _mm256_setzero_si256();
    for (size_t p = 0; p < pairs_count; ++p, v += 2, pairs += MESHD_PANEL) {
        const __m256i chosen = integers_at(pairs);
        for (size_t r = 0; r < MESHD_INT8_ROWS; ++r) {
            int16_t both;
            __builtin_memcpy(&both, v + r * row_stride, sizeof both);
            sum[r] = _mm256_add_epi16(sum[r],
                                      _mm256_maddubs_epi16(chosen, _mm256_set1_epi16(both)));
        }
    }
    for (size_t r = 0; r < MESHD_INT8_ROWS; ++r) {
        int32_t *to = sums + r * MESHD_STRIP;
        const __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sum[r]));
        const __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(sum[r], 1));
        keep(to, _mm256_add_epi32(integers_at(to), low));
        keep(to + width, _mm256_add_epi32(integers_at(to + width), high));
    }
}

struct digit_tables {
    alignas(16) uint8_t four[256][16]; // sums of the chosen among four digits, by their key
    alignas(16) uint8_t three[64][16];
};

constexpr digit_tables make_tables() {
    digit_tables t = {};
    for (unsigned key = 0; key < 256; ++key)
        for (unsigned i = 0; i < 16; ++i)
            for (unsigned j = 0; j < 4; ++j)
                if (i >> j & 1) t.four[key][i] = (uint8_t)(t.four[key][i] + (key >> 2 * j & 3));
    for (unsigned key = 0; key < 64; ++key)
        for (unsigned i = 0; i < 16; ++i) t.three[key][i] = t.four[key][i & 7];
    return t;
}

constexpr digit_tables tables = make_tables();

inline __m256i both_halves(const uint8_t *p) {
    return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)p));
}

inline __m256i add_four_times(__m256i x, __m256i y) { // bytes of y below 64
    return _mm256_add_epi8(x, _mm256_slli_epi16(y, 2));
}

struct digit_rows {
    const uint16_t *keys;
    size_t row_stride, pair_stride, groups, chain; // chain: groups whose sums fit a byte
};

// 32 columns in order.
void add_halves(__m256i whole, __m256i odd, int32_t *to) {
    const __m256i even = _mm256_sub_epi16(whole, _mm256_slli_epi16(odd, 8));
    const __m256i left = _mm256_unpacklo_epi16(even, odd);
    const __m256i right = _mm256_unpackhi_epi16(even, odd);
    const __m256i half[2] = {_mm256_permute2x128_si256(left, right, 0x20),
                             _mm256_permute2x128_si256(left, right, 0x31)};
    for (size_t h = 0; h < 2; ++h, to += 16) {
        const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(half[h]));
        const __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(half[h], 1));
        keep(to, _mm256_add_epi32(integers_at(to), low));
        keep(to + width, _mm256_add_epi32(integers_at(to + width), high));
    }
}

// Four rows, 32 columns.
template <bool two_pairs>
void planes_tile(const digit_rows &of, const uint8_t *index, size_t stride, int32_t *sums) {
    const __m256i nibble = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    __m256i whole[MESHD_PLANES_ROWS] = {zero, zero, zero, zero};
    __m256i odd[MESHD_PLANES_ROWS] = {zero, zero, zero, zero};
    const uint16_t *key = of.keys;
    for (size_t left = of.groups; left > 0;) {
        size_t n = smaller(left, of.chain);
        left -= n;
        __m256i sum[MESHD_PLANES_ROWS] = {zero, zero, zero, zero};
        for (; n > 0; --n, ++key, index += stride) {
            const __m256i bits = integers_at(index);
            const __m256i low = _mm256_and_si256(bits, nibble);
            const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble);
            for (size_t r = 0; r < MESHD_PLANES_ROWS; ++r) {
                const uint16_t digits = key[r * of.row_stride];
                __m256i four = both_halves(tables.four[digits & 255]);
                __m256i three = both_halves(tables.three[digits >> 8]);
                if (two_pairs) {
                    const uint16_t more = key[r * of.row_stride + of.pair_stride];
                    four = add_four_times(four, both_halves(tables.four[more & 255]));
                    three = add_four_times(three, both_halves(tables.three[more >> 8]));
                }
                sum[r] = _mm256_add_epi8(sum[r], _mm256_shuffle_epi8(four, low));
                sum[r] = _mm256_add_epi8(sum[r], _mm256_shuffle_epi8(three, high));
            }
        }
        for (size_t r = 0; r < MESHD_PLANES_ROWS; ++r) {
            whole[r] = _mm256_add_epi16(whole[r], sum[r]);
            odd[r] = _mm256_add_epi16(odd[r], _mm256_srli_epi16(sum[r], 8));
        }
    }
    for (size_t r = 0; r < MESHD_PLANES_ROWS; ++r)
        add_halves(whole[r], odd[r], sums + r * MESHD_STRIP);
}

} // namespace

extern "C" void meshd_columns_exact_avx2(const uint64_t *windows, size_t words, uint32_t *index,
                                         size_t stride) {
    for (size_t w = 0; w < words; ++w, windows += MESHD_EXACT_WORD, index += stride)
        for (size_t lane = 0; lane < MESHD_PANEL; lane += width) {
            __m256i bits = _mm256_setzero_si256(), bit = _mm256_set1_epi32(1);
            for (size_t j = 0; j < MESHD_EXACT_WORD; ++j) {
                const __m256i chosen = lanes_of((uint32_t)(windows[j] >> lane) & 0xff);
                bits = _mm256_or_si256(bits, _mm256_and_si256(chosen, bit));
                bit = _mm256_add_epi32(bit, bit);
            }
            keep(index + lane, bits);
        }
}

extern "C" void meshd_columns_int8_avx2(const uint64_t *windows, size_t words, uint16_t *index,
                                        size_t stride) {
    const __m256i select = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048,
                                             4096, 8192, 16384, (short)32768);
    for (size_t w = 0; w < words; ++w, windows += MESHD_INT8_WORD, index += stride)
        for (size_t lane = 0; lane < MESHD_PANEL; lane += 16) {
            __m256i bits = _mm256_setzero_si256();
            for (size_t j = 0; j < MESHD_INT8_WORD; ++j) {
                const __m256i all = _mm256_set1_epi16((short)(windows[j] >> lane));
                const __m256i chosen = _mm256_cmpeq_epi16(_mm256_and_si256(all, select), select);
                const __m256i bit = _mm256_set1_epi16((short)(1 << j));
                bits = _mm256_or_si256(bits, _mm256_and_si256(chosen, bit));
            }
            keep(index + lane, bits);
        }
}

extern "C" void meshd_columns_planes_avx2(const uint64_t *windows, size_t groups, uint8_t *index,
                                          size_t stride) {
    const __m256i byte_of_lane = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, //
                                                  2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i select = _mm256_set1_epi64x((long long)0x8040201008040201);
    for (size_t g = 0; g < groups; ++g, index += stride)
        for (size_t lane = 0; lane < MESHD_PANEL; lane += 32) {
            __m256i bits = _mm256_setzero_si256();
            for (size_t j = 0; j < MESHD_PLANES_GROUP; ++j) {
                const __m256i all = _mm256_set1_epi32((int)(windows[j * groups + g] >> lane));
                const __m256i own =
                    _mm256_and_si256(_mm256_shuffle_epi8(all, byte_of_lane), select);
                const __m256i bit = _mm256_set1_epi8((char)(1 << j));
                bits = _mm256_or_si256(bits,
                                       _mm256_and_si256(_mm256_cmpeq_epi8(own, select), bit));
            }
            keep(index + lane, bits);
        }
}

extern "C" void meshd_sums_exact_avx2(const float *values, size_t words, const uint32_t *index,
                                      size_t panels, float zero, float *sums) {
    alignas(32) float codes[MESHD_EXACT_WORD * MESHD_PANEL];
    const __m256 none = _mm256_set1_ps(zero);
    for (size_t p = 0; p < panels; ++p, sums += MESHD_PANEL)
        for (size_t w = 0; w < words; ++w) {
            const uint32_t *word = index + (w * panels + p) * MESHD_PANEL;
            for (size_t lane = 0; lane < MESHD_PANEL; lane += width) {
                const __m256i bits = integers_at(word + lane);
                for (int j = 0; j < MESHD_EXACT_WORD; ++j)
                    _mm256_store_ps(codes + j * MESHD_PANEL + lane, factor(bits, j, none));
            }
            for (size_t r = 0; r < MESHD_EXACT_ROWS; r += 3)
                for (size_t lane = 0; lane < MESHD_PANEL; lane += 16)
                    exact_tile(values + r * exact_values + w * MESHD_EXACT_WORD, codes + lane,
                               sums + r * MESHD_STRIP + lane);
        }
}

extern "C" void meshd_sums_int8_avx2(const int8_t *values, size_t row_stride, size_t words,
                                     const uint16_t *index, size_t panels, int32_t *sums) {
    constexpr size_t word_pairs = MESHD_INT8_WORD / 2;
    alignas(32) uint16_t pairs[MESHD_INT8_BLOCK * word_pairs * MESHD_PANEL];
    const __m256i one = _mm256_set1_epi16(1), two = _mm256_set1_epi16(2);
    for (size_t p = 0; p < panels; ++p, sums += MESHD_PANEL) {
        uint16_t *to = pairs;
        for (size_t w = 0; w < words; ++w, to += word_pairs * MESHD_PANEL)
            for (size_t lane = 0; lane < MESHD_PANEL; lane += 16) {
                __m256i bits = integers_at(index + (w * panels + p) * MESHD_PANEL + lane);
                for (size_t j = 0; j < word_pairs; ++j) {
                    const __m256i second = _mm256_slli_epi16(_mm256_and_si256(bits, two), 7);
                    keep(to + j * MESHD_PANEL + lane,
                         _mm256_or_si256(_mm256_and_si256(bits, one), second));
                    bits = _mm256_srli_epi16(bits, 2);
                }
            }
        for (size_t lane = 0; lane < MESHD_PANEL; lane += 16)
            int8_tile(values, row_stride, words * word_pairs, pairs + lane, sums + lane);
    }
}

extern "C" void meshd_sums_planes_avx2(const uint16_t *keys, size_t row_stride, size_t pair_stride,
                                       size_t groups, size_t planes, const uint8_t *index,
                                       size_t panels, int32_t *sums) {
    const size_t largest = MESHD_PLANES_GROUP * (((size_t)1 << planes) - 1);
    const digit_rows of = {keys, row_stride, pair_stride, groups, 255 / largest};
    const size_t lanes = panels * MESHD_PANEL;
    for (size_t lane = 0; lane < lanes; lane += 32)
        if (planes > 2)
            planes_tile<true>(of, index + lane, lanes, sums + lane);
        else
            planes_tile<false>(of, index + lane, lanes, sums + lane);
}
