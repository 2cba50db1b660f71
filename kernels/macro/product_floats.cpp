// Float activations times binary weights: lanes lie along the rows of W, so a lane's index word is
// 30 bits of its row, and a segment's sum is scaled lane by lane.
#include <string.h>

#include "meshd_kernels.h"
#include "strips.h"

namespace {

using namespace meshd;

constexpr size_t tile_rows = MESHD_EXACT_ROWS;
constexpr size_t block_values = MESHD_EXACT_BLOCK * MESHD_EXACT_WORD;

struct floats_product {
    const float *x;
    const size_t rows, k, row_words, segments, segment_words; // words of 30 bits in a segment
    const packed_matrix &w;
    float *const out;
    const std::vector<strip> strips; // of the rows of w
    const scratch<float> alpha;      // (segments, rows of w)
    const strip_index<uint32_t> index;
    const backward_kernels &kernels;

    floats_product(const float *x_, size_t rows_, const packed_matrix &w_, size_t k_, float *out_)
        : x(x_), rows(rows_), k(k_), row_words(ceiling(k_, 64)), segments(ceiling(k_, w_.beta)),
          segment_words(ceiling(w_.beta, MESHD_EXACT_WORD)), w(w_), out(out_),
          strips(cut(w_.rows, w_.rows)), alpha(segments * w_.rows),
          index(strips, segments * segment_words), kernels(meshd_kernels()->backward) {
        transpose(w.scales, w.rows, segments, segments, alpha.data(), w.rows);
    }

    size_t length(size_t segment) const { return smaller(k - segment * w.beta, w.beta); }

    void fill_index(size_t i) const {
        const size_t lanes = strips[i].panels() * MESHD_PANEL;
        uint32_t *to = index.of(i);
        for (size_t s = 0; s < segments; ++s)
            for (size_t word = 0; word < segment_words; ++word, to += lanes)
                for (size_t lane = 0; lane < lanes; ++lane) {
                    const size_t c = word * MESHD_EXACT_WORD, n = strips[i].begin + lane;
                    to[lane] = 0;
                    if (lane < strips[i].lanes && c < length(s))
                        to[lane] = (uint32_t)window(w.words + n * row_words, row_words,
                                                    s * w.beta + c,
                                                    smaller(length(s) - c, MESHD_EXACT_WORD));
                }
    }

    // sums (6, 256) = the sum over segment s for rows first .. first + count - 1 of x and strip i.
    void segment_sums(size_t first, size_t count, size_t s, size_t i, float *values,
                      float *sums) const {
        const size_t panels = strips[i].panels();
        const uint32_t *begin = index.of(i) + s * segment_words * panels * MESHD_PANEL;
        memset(sums, 0, sizeof(float) * tile_rows * MESHD_STRIP);
        for (size_t c = 0; c < length(s); c += block_values) {
            const size_t n = smaller(length(s) - c, block_values);
            for (size_t r = 0; r < count; ++r) {
                float *v = values + r * block_values;
                memcpy(v, x + (first + r) * k + s * w.beta + c, sizeof(float) * n);
                memset(v + n, 0, sizeof(float) * (block_values - n));
            }
            kernels.sums_exact(values, ceiling(n, MESHD_EXACT_WORD),
                               begin + c / MESHD_EXACT_WORD * panels * MESHD_PANEL, panels, -1.0f,
                               sums);
        }
    }

    void tile(size_t first) const {
        const size_t count = smaller(rows - first, tile_rows);
        const scratch<float> values(tile_rows * block_values), sums(tile_rows * MESHD_STRIP);
        memset(values.data(), 0, sizeof(float) * tile_rows * block_values);
        for (size_t r = 0; r < count; ++r)
            memset(out + (first + r) * w.rows, 0, sizeof(float) * w.rows);
        for (size_t i = 0; i < strips.size(); ++i)
            for (size_t s = 0; s < segments; ++s) {
                segment_sums(first, count, s, i, values.data(), sums.data());
                const float *scales = alpha.data() + s * w.rows + strips[i].begin;
                for (size_t r = 0; r < count; ++r) {
                    float *to = out + (first + r) * w.rows + strips[i].begin;
                    const float *sum = sums.data() + r * MESHD_STRIP;
                    for (size_t n = 0; n < strips[i].lanes; ++n)
                        to[n] = to[n] + scales[n] * sum[n];
                }
            }
    }
};

} // namespace

extern "C" int meshd_product_floats(const float *x, size_t rows, const packed_matrix *w, size_t k,
                                    float *out, size_t threads) {
    try {
        const floats_product product(x, rows, *w, k, out);
        const int status = each_task(product.strips.size(), threads,
                                     [&](size_t i) { product.fill_index(i); });
        if (status != MESHD_OK) return status;
        return each_task(ceiling(rows, tile_rows), threads,
                         [&](size_t task) { product.tile(task * tile_rows); });
    } catch (const std::bad_alloc &) {
        return MESHD_NO_MEMORY;
    }
}
