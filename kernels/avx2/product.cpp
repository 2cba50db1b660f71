// Product of packed matrices, one row of A times eight rows of W at a time.
//
// Eight rows of W are first copied to a panel, so that one register load brings word i of four of
// them. Word i of the panel is two registers; the second register's counts, moved up by 32 bits,
// fall between those of the first, which gives the eight rows in order without a permutation:
//
//     panel, 64-bit lanes      even: row 0 | row 2 | row 4 | row 6     odd: row 1 | row 3 | ...
//     counts, 32-bit lanes     even: c0 0  | c2 0  | ...               odd: c1 0  | c3 0  | ...
//     even | odd << 32               c0 c1 | c2 c3 | ...
//
// Per segment then, with the sign rules of scalar/product.cpp, for eight n at once:
//     acc = acc + (alpha_a * alpha_w) * (float)dot          s ascending, as the contract says.
//
// Three ways to cut a row into segments, all with the same result:
//     whole words     beta a multiple of 64, or one segment: bytes are counted over up to 31 words
//     parts of words  beta 16 or 32: one count of the bytes of a word serves 4 or 2 segments
//     masks           any beta: the words that a segment touches, with what is outside masked out
#include "product.h"
#include "simd.h"

namespace {

constexpr size_t panel_rows = 8;

struct panel {
    uint64_t *words; // (words of a row, 8): rows 0, 2, 4, 6, then 1, 3, 5, 7
    float *scales;   // (segments of the finer cut, 8): rows 0..7
};

// dot = what the counts of mix(a, w) and of a say about a segment of `length` elements.
struct coding_signed {
    static __m256i mix(__m256i a, __m256i w) { return _mm256_xor_si256(a, w); }
    static __m256i dot(__m256i count, int, size_t length) {
        return _mm256_sub_epi32(_mm256_set1_epi32((int)length), _mm256_add_epi32(count, count));
    }
};
struct coding_unipolar {
    static __m256i mix(__m256i a, __m256i w) { return _mm256_and_si256(a, w); }
    static __m256i dot(__m256i count, int ones_of_a, size_t) {
        return _mm256_sub_epi32(_mm256_add_epi32(count, count), _mm256_set1_epi32(ones_of_a));
    }
};

// One output row: the running sums of eight columns and where their scales stand.
struct row_sum {
    const float *alpha_a;   // of the segment that comes next
    size_t left, per_scale; // finer segments that alpha_a still serves; that one scale serves
    const float *alpha_w;   // panel
    __m256 acc = _mm256_setzero_ps();

    void add(__m256i dot) {
        const __m256 alpha =
            _mm256_mul_ps(_mm256_broadcast_ss(alpha_a), _mm256_loadu_ps(alpha_w));
        acc = _mm256_add_ps(acc, _mm256_mul_ps(alpha, _mm256_cvtepi32_ps(dot)));
        alpha_w += panel_rows;
        if (--left == 0) {
            ++alpha_a;
            left = per_scale;
        }
    }
};

// The ones in each byte: a table look-up for each half of it (Mula, Kurz, Lemire 2018, section 2).
inline __m256i ones_in_bytes(__m256i x) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, //
                                           0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i low = _mm256_and_si256(x, nibble);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high));
}

struct two_registers {
    __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();

    // Bytes summed to 64-bit lanes, and these to eight rows.
    __m256i rows() const {
        const __m256i zero = _mm256_setzero_si256();
        return _mm256_or_si256(_mm256_sad_epu8(even, zero),
                               _mm256_slli_epi64(_mm256_sad_epu8(odd, zero), 32));
    }
    // Low or high 32 bits of each 64-bit lane to eight rows.
    __m256i low_halves() const {
        return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    }
    __m256i high_halves() const {
        return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    }
};

template <class Coding> inline two_registers mixed(uint64_t a, const uint64_t *w) {
    const __m256i all = _mm256_set1_epi64x((long long)a);
    two_registers r;
    r.even = Coding::mix(all, _mm256_loadu_si256((const __m256i *)w));
    r.odd = Coding::mix(all, _mm256_loadu_si256((const __m256i *)(w + 4)));
    return r;
}

inline int ones(uint64_t x) { return (int)_mm_popcnt_u64(x); }

template <class Coding>
void row_by_words(const uint64_t *a, const panel &w, size_t k, size_t beta, row_sum *sum) {
    const uint64_t *column = w.words;
    for (size_t begin = 0; begin < k; begin += beta) {
        const size_t length = smaller(beta, k - begin);
        __m256i count = _mm256_setzero_si256();
        int ones_of_a = 0;
        for (size_t left = (length + 63) / 64; left > 0;) {
            const size_t block = smaller(left, 31); // 31 * 8 ones still fit a byte
            two_registers bytes;
            for (size_t i = 0; i < block; ++i, ++a, column += panel_rows) {
                const two_registers m = mixed<Coding>(*a, column);
                bytes.even = _mm256_add_epi8(bytes.even, ones_in_bytes(m.even));
                bytes.odd = _mm256_add_epi8(bytes.odd, ones_in_bytes(m.odd));
                ones_of_a += ones(*a);
            }
            count = _mm256_add_epi32(count, bytes.rows());
            left -= block;
        }
        sum->add(Coding::dot(count, ones_of_a, length));
    }
}

// beta = 16 or 32 divides a word: bytes are summed to lanes of beta bits, each a segment's count.
template <class Coding, size_t beta>
void row_by_parts(const uint64_t *a, const panel &w, size_t k, size_t, row_sum *sum) {
    const uint64_t *column = w.words;
    for (size_t begin = 0; begin < k; ++a, column += panel_rows) {
        two_registers parts = mixed<Coding>(*a, column);
        const __m256i one = _mm256_set1_epi8(1);
        parts.even = _mm256_maddubs_epi16(ones_in_bytes(parts.even), one);
        parts.odd = _mm256_maddubs_epi16(ones_in_bytes(parts.odd), one);
        if (beta == 32) {
            parts.even = _mm256_madd_epi16(parts.even, _mm256_set1_epi16(1));
            parts.odd = _mm256_madd_epi16(parts.odd, _mm256_set1_epi16(1));
        }
        const __m256i half[2] = {parts.low_halves(), parts.high_halves()};
        uint64_t rest_of_a = *a;
        for (size_t s = 0; s < 64 / beta && begin < k; ++s, begin += beta) {
            __m256i count = half[s * beta / 32];
            if (beta == 16)
                count = s % 2 ? _mm256_srli_epi32(count, 16)
                              : _mm256_and_si256(count, _mm256_set1_epi32(0xffff));
            const int ones_of_a = ones(rest_of_a & (((uint64_t)1 << beta) - 1));
            sum->add(Coding::dot(count, ones_of_a, smaller(beta, k - begin)));
            rest_of_a >>= beta;
        }
    }
}

template <class Coding>
void row_by_masks(const uint64_t *a, const panel &w, size_t k, size_t beta, row_sum *sum) {
    for (size_t begin = 0; begin < k; begin += beta) {
        const size_t length = smaller(beta, k - begin);
        const size_t first = begin / 64, last = (begin + length - 1) / 64;
        __m256i count = _mm256_setzero_si256();
        int ones_of_a = 0;
        for (size_t i = first; i <= last; ++i) {
            uint64_t mask = ~(uint64_t)0;
            if (i == first) mask &= ~(uint64_t)0 << (begin % 64);
            if (i == last) mask &= ~(uint64_t)0 >> (63 - (begin + length - 1) % 64);
            const __m256i inside = _mm256_set1_epi64x((long long)mask);
            two_registers m = mixed<Coding>(a[i], w.words + i * panel_rows);
            m.even = ones_in_bytes(_mm256_and_si256(m.even, inside));
            m.odd = ones_in_bytes(_mm256_and_si256(m.odd, inside));
            count = _mm256_add_epi32(count, m.rows());
            ones_of_a += ones(a[i] & mask);
        }
        sum->add(Coding::dot(count, ones_of_a, length));
    }
}

using row_function = void (*)(const uint64_t *, const panel &, size_t, size_t, row_sum *);

template <class Coding> row_function row_function_for(size_t beta, size_t k) {
    if (beta % 64 == 0 || beta >= k) return row_by_words<Coding>;
    if (beta == 32) return row_by_parts<Coding, 32>;
    if (beta == 16) return row_by_parts<Coding, 16>;
    return row_by_masks<Coding>;
}

// Rows n..n+7 of W; rows that W does not have are zero, with scales zero.
void fill_panel(const packed_matrix *w, size_t n, size_t k, size_t fine, panel *to) {
    const size_t words = (k + 63) / 64, segments = (k + w->beta - 1) / w->beta;
    for (size_t j = 0; j < panel_rows; ++j) {
        const bool exists = n + j < w->rows;
        uint64_t *column = to->words + j / 2 + j % 2 * 4;
        for (size_t i = 0; i < words; ++i)
            column[i * panel_rows] = exists ? w->words[(n + j) * words + i] : 0;
        float *scale = to->scales + j;
        for (size_t begin = 0; begin < k; begin += fine, scale += panel_rows)
            *scale = exists ? w->scales[(n + j) * segments + begin / w->beta] : 0.0f;
    }
}

template <class Coding>
int product(const packed_matrix *a, const packed_matrix *w, size_t k, float *out) {
    const size_t words = (k + 63) / 64, fine = smaller(a->beta, w->beta);
    const size_t segments_a = (k + a->beta - 1) / a->beta, segments = (k + fine - 1) / fine;
    // A coarser scale of A that is not a multiple of the finer cut serves the whole row.
    const size_t per_scale = a->beta % fine == 0 ? a->beta / fine : segments;
    const row_function add_row = row_function_for<Coding>(fine, k);
    const size_t bytes = panel_rows * (words * sizeof(uint64_t) + segments * sizeof(float));
    void *scratch = _mm_malloc(bytes + 1, 64); // + 1: k may be 0
    if (!scratch) return MESHD_NO_MEMORY;
    panel p = {(uint64_t *)scratch, (float *)((uint64_t *)scratch + panel_rows * words)};
    for (size_t n = 0; n < w->rows; n += panel_rows) {
        fill_panel(w, n, k, fine, &p);
        for (size_t m = 0; m < a->rows; ++m) {
            row_sum sum = {a->scales + m * segments_a, per_scale, per_scale, p.scales};
            add_row(a->words + m * words, p, k, fine, &sum);
            store(out + m * w->rows + n, smaller(panel_rows, w->rows - n), sum.acc);
        }
    }
    _mm_free(scratch);
    return MESHD_OK;
}

} // namespace

extern "C" int meshd_product_signed_b1_avx2_1x8(const packed_matrix *a, const packed_matrix *w,
                                                size_t k, float *out) {
    return product<coding_signed>(a, w, k, out);
}

extern "C" int meshd_product_unipolar_b1_avx2_1x8(const packed_matrix *a, const packed_matrix *w,
                                                  size_t k, float *out) {
    return product<coding_unipolar>(a, w, k, out);
}
