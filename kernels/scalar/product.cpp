// Product of packed matrices, from the plain definition to the bits.
//
// signed:    a, w in {-1, +1}, stored as bits A, W (1 means +1). The product of two elements is +1
//            where the bits agree and -1 where they differ; `len` pairs of which d differ give
//                dot = (len - d) - d = len - 2 popcount(A ^ W).
// unipolar:  a in {0, 1}, w in {-1, +1}. Only pairs with A = 1 count; of these popcount(A & W)
//            give +1 and the rest -1:
//                dot = popcount(A & W) - (popcount(A) - popcount(A & W))
//                    = 2 popcount(A & W) - popcount(A).
//
// A segment may begin and end inside a word: mask(first bit) and mask(last bit) cut it out.
#include "product.h"

namespace {

// Hacker's Delight, section 5-1: sums of 1, 2, 4 bits, then all bytes by one multiplication.
// (No popcnt instruction: the baseline of x86-64 has none.)
int32_t popcount(uint64_t x) {
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int32_t)(x * 0x0101010101010101u >> 56);
}

int32_t dot_signed(uint64_t a, uint64_t w, uint64_t mask) {
    return popcount(mask) - 2 * popcount((a ^ w) & mask);
}

int32_t dot_unipolar(uint64_t a, uint64_t w, uint64_t mask) {
    return 2 * popcount(a & w & mask) - popcount(a & mask);
}

// The dot product of elements begin <= i < end of two rows.
template <int32_t (*dot)(uint64_t, uint64_t, uint64_t)>
int32_t dot_range(const uint64_t *a, const uint64_t *w, size_t begin, size_t end) {
    const size_t first = begin / 64, last = (end - 1) / 64;
    int32_t sum = 0;
    for (size_t i = first; i <= last; ++i) {
        uint64_t mask = ~(uint64_t)0;
        if (i == first) mask &= ~(uint64_t)0 << (begin % 64);
        if (i == last) mask &= ~(uint64_t)0 >> (63 - (end - 1) % 64);
        sum += dot(a[i], w[i], mask);
    }
    return sum;
}

template <int32_t (*dot)(uint64_t, uint64_t, uint64_t)>
int product(const packed_matrix *a, const packed_matrix *w, size_t k, float *out) {
    const size_t words = (k + 63) / 64, fine = a->beta < w->beta ? a->beta : w->beta;
    const size_t segments_a = (k + a->beta - 1) / a->beta;
    const size_t segments_w = (k + w->beta - 1) / w->beta;
    for (size_t m = 0; m < a->rows; ++m)
        for (size_t n = 0; n < w->rows; ++n) {
            float acc = 0.0f;
            for (size_t begin = 0; begin < k; begin += fine) {
                const size_t end = k - begin < fine ? k : begin + fine;
                const float alpha_a = a->scales[m * segments_a + begin / a->beta];
                const float alpha_w = w->scales[n * segments_w + begin / w->beta];
                const int32_t d =
                    dot_range<dot>(a->words + m * words, w->words + n * words, begin, end);
                acc = acc + (alpha_a * alpha_w) * (float)d;
            }
            *out++ = acc;
        }
    return MESHD_OK;
}

} // namespace

extern "C" int meshd_product_signed_b1_scalar(const packed_matrix *a, const packed_matrix *w,
                                              size_t k, float *out) {
    return product<dot_signed>(a, w, k, out);
}

extern "C" int meshd_product_unipolar_b1_scalar(const packed_matrix *a, const packed_matrix *w,
                                                size_t k, float *out) {
    return product<dot_unipolar>(a, w, k, out);
}
