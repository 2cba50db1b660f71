// Packed im2col: bits of taps one behind the other, at any bit of a word. Law: what is written is a
// packed matrix as meshd_layout.h has it, padding bits zero.
#include <stdlib.h>
#include <string.h>

#include "conv_rows.h"
#include "threads.h"

namespace {

size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
size_t words_of(size_t n) { return (n + 63) / 64; }

// `length` elements of `from`, whose padding is zero, to element `at` of a row of zeros.
void put_elements(uint64_t *row, size_t at, const uint64_t *from, size_t length) {
    const size_t shift = at % 64, count = words_of(length);
    uint64_t *to = row + at / 64;
    if (shift == 0) {
        for (size_t i = 0; i < count; ++i) to[i] = from[i];
        return;
    }
    const size_t last = (at + length - 1) / 64 - at / 64;
    for (size_t i = 0; i < count; ++i) {
        to[i] |= from[i] << shift;
        if (i < last) to[i + 1] |= from[i] >> (64 - shift);
    }
}

struct expansion {
    const conv_geometry &g;
    const packed_matrix *x;
    size_t beta_a, share; // windows of all groups that a task takes
    uint64_t *words;
    float *scales;
};

void expand(void *context, size_t task) {
    const expansion &e = *(const expansion *)context;
    const size_t first = task * e.share, end = smaller(first + e.share, e.g.pixels);
    conv_rows rows = make_conv_rows(e.g, e.x, e.beta_a, e.x->beta);
    const size_t row_words = words_of(e.g.k), row_scales = e.g.k / rows.beta;
    uint64_t *words = e.words + first * e.g.groups * row_words;
    float *scales = e.scales + first * e.g.groups * row_scales;
    conv_window window(e.g, first);
    for (size_t p = first; p < end; ++p, window.next())
        for (rows.group = 0; rows.group < e.g.groups; ++rows.group) {
            fill_window(rows, window, words, scales);
            words += row_words;
            scales += row_scales;
        }
}

} // namespace

conv_rows make_conv_rows(const conv_geometry &g, const packed_matrix *x, size_t beta_a,
                         size_t fine) {
    conv_rows rows = {g, x, SCALES_OF_PIXELS, x->beta, 0, nullptr, {}, nullptr};
    if (beta_a <= g.tap_channels) return rows;
    rows.scales = fine == g.k ? SCALE_OF_WINDOW : SCALES_OF_TAPS;
    rows.beta = fine == g.k ? g.k : g.tap_channels;
    return rows;
}

void fill_window(const conv_rows &rows, const conv_window &window, uint64_t *words, float *scales) {
    const conv_geometry &g = rows.g;
    const size_t of_tap = words_of(g.tap_channels), tap_scales = g.tap_channels / rows.x->beta;
    const bool whole = window.taps_inside() == g.taps;
    if (!whole || g.tap_channels % 64) memset(words, 0, words_of(g.k) * sizeof *words);
    if (!whole) memset(scales, 0, g.k / rows.beta * sizeof *scales);
    const float mean =
        rows.scales == SCALES_OF_PIXELS ? 0.0f : window.mean(rows.x->scales, rows.group);
    if (rows.scales == SCALE_OF_WINDOW) *scales = mean;
    window.each_inside(rows.group, [&](size_t tap, size_t row) {
        put_elements(words, tap * g.tap_channels, rows.x->words + row * of_tap, g.tap_channels);
        if (rows.scales == SCALES_OF_TAPS) scales[tap] = mean;
        if (rows.scales != SCALES_OF_PIXELS) return;
        const float *from = rows.x->scales + row * tap_scales;
        for (size_t s = 0; s < tap_scales; ++s) scales[tap * tap_scales + s] = from[s];
    });
}

bool lay_out_packed(const void *context, const tile_plan &plan, size_t first, size_t tiles,
                    uint32_t *to) {
    const conv_rows &rows = *(const conv_rows *)context;
    const size_t row_words = words_of(rows.g.k), row_scales = rows.g.k / rows.beta;
    uint64_t *words = (uint64_t *)malloc(plan.rows * row_words * sizeof *words);
    float *scales = (float *)malloc(plan.rows * row_scales * sizeof *scales);
    const bool has_memory = words && scales;
    conv_window window(rows.g, first);
    for (size_t t = 0; has_memory && t < tiles; ++t, first += plan.rows) {
        const size_t count = smaller(plan.rows, rows.g.pixels - first);
        for (size_t r = 0; r < count; ++r, window.next())
            fill_window(rows, window, words + r * row_words, scales + r * row_scales);
        const packed_matrix tile = {words, scales, count, rows.beta};
        lay_out_tile(plan, &tile, 0, to);
        to += plan.rows * plan.a_units();
    }
    free(words);
    free(scales);
    return has_memory;
}

extern "C" void meshd_im2col(const conv_shape *shape, const packed_matrix *x, size_t beta_a,
                             size_t threads, uint64_t *words, float *scales) {
    const conv_geometry g(*shape);
    if (g.pixels == 0) return;
    const size_t share = g.pixels / (8 * threads) + 64;
    expansion e = {g, x, beta_a, share, words, scales};
    meshd_parallel((g.pixels + share - 1) / share, threads, expand, &e);
}
