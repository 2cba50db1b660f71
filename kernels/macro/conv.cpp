// Convolution: the product of an image's windows with the filters, group by group. Law: all
// arithmetic but the scale of a window and the start of a padded one is the tile kernels'.
#include <stdlib.h>

#include "bits.h"
#include "conv_rows.h"

namespace {

size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

// Filters of one group.
packed_matrix group_of(const conv_geometry &g, const packed_matrix &w, size_t group) {
    const size_t rows = w.rows / g.groups, words = (g.k + 63) / 64;
    const size_t scales = g.k / w.beta;
    return {w.words + group * rows * words, w.scales + group * rows * scales, rows, w.beta};
}

constexpr size_t at_once = 64; // filters

// What the sum of a window of one segment lacks where taps are padded: alpha_a * (alpha_w * S).
void add_to_window(const conv_rows &rows, const conv_window &window, size_t column, size_t columns,
                   float *to) {
    int32_t sums[at_once] = {0};
    window.each_padded([&](size_t tap) {
        const int32_t *more = rows.signs + tap * rows.w.rows + column;
        for (size_t c = 0; c < columns; ++c) sums[c] += more[c];
    });
    const float alpha = window.mean(rows.x->scales, rows.group);
    const float *alphas = rows.w.scales + column;
    for (size_t c = 0; c < columns; ++c) to[c] += alpha * (alphas[c] * (float)sums[c]);
}

void add_to_start(const void *context, size_t row, size_t count, size_t column, size_t columns,
                  float *to, size_t stride) {
    const conv_rows &rows = *(const conv_rows *)context;
    conv_window window(rows.g, row);
    for (size_t r = 0; r < count; ++r, to += stride, window.next()) {
        if (window.taps_inside() == rows.g.taps) continue;
        for (size_t c = 0; c < columns; c += at_once)
            add_to_window(rows, window, column + c, smaller(at_once, columns - c), to + c);
    }
}

void sum_signs(const conv_geometry &g, const packed_matrix &w, int32_t *sums) {
    const size_t words = (g.k + 63) / 64;
    for (size_t tap = 0; tap < g.taps; ++tap)
        for (size_t n = 0; n < w.rows; ++n) {
            const int32_t ones = ones_in(w.words + n * words, tap * g.tap_channels, g.tap_channels);
            *sums++ = 2 * ones - (int32_t)g.tap_channels;
        }
}

// All groups, one after the other: of their `product` only the plan and the stride are the same.
int multiply_groups(conv_rows *rows, row_product product, const packed_matrix &w, int32_t *signs,
                    size_t threads) {
    const conv_geometry &g = rows->g;
    const tile_plan &plan = product.plan;
    rows->signs = signs;
    product.a = {rows, g.pixels, rows->records ? lay_out_records : lay_out_packed,
                 signs ? add_to_start : nullptr, nullptr, 0, false};
    for (rows->group = 0; rows->group < g.groups; ++rows->group) {
        rows->w = group_of(g, w, rows->group);
        product.columns = rows->w.rows;
        if (signs) sum_signs(g, rows->w, signs);
        if (multiply_rows(product, threads) == MESHD_NO_MEMORY) return MESHD_NO_MEMORY;
        const size_t panels = (product.columns + plan.columns - 1) / plan.columns;
        product.panels += panels * plan.columns * plan.w_units();
        product.out += product.columns;
        if (product.bias) product.bias += product.columns;
    }
    return MESHD_OK;
}

// A kernel of one tap that sees each pixel once: the image's rows are the windows.
bool is_product(const conv_geometry &g) {
    return g.taps == 1 && g.groups == 1 && !g.is_padded() && g.stride[0] * g.stride[1] == 1;
}

} // namespace

extern "C" size_t meshd_conv_panel_units(const product_kernels *kernels, const conv_shape *shape,
                                         const packed_matrix *w, size_t beta_a,
                                         meshd_coding coding) {
    const conv_geometry g(*shape);
    const packed_matrix filters = group_of(g, *w, 0);
    return g.groups * meshd_product_panel_units(kernels, &filters, g.k, beta_a, coding);
}

extern "C" void meshd_conv_prepare(const product_kernels *kernels, const conv_shape *shape,
                                   const packed_matrix *w, size_t beta_a, meshd_coding coding,
                                   size_t threads, uint32_t *panels) {
    const conv_geometry g(*shape);
    for (size_t group = 0; group < g.groups; ++group) {
        const packed_matrix filters = group_of(g, *w, group);
        meshd_product_prepare(kernels, &filters, g.k, beta_a, coding, threads, panels);
        panels += meshd_product_panel_units(kernels, &filters, g.k, beta_a, coding);
    }
}

extern "C" int meshd_conv(const product_kernels *kernels, const conv_shape *shape,
                          const packed_matrix *x, size_t beta_a, const packed_matrix *w,
                          const uint32_t *panels, meshd_coding coding, const float *bias,
                          size_t threads, float *out) {
    const conv_geometry g(*shape);
    if (g.pixels == 0 || w->rows == 0) return MESHD_OK;
    if (is_product(g))
        return meshd_product(kernels, x, w, panels, g.k, coding, bias, threads, out);
    const tile_plan plan = make_tile_plan(kernels, g.k, beta_a, w->beta, coding);
    conv_rows rows = make_conv_rows(g, x, beta_a, plan.fine);
    uint32_t *own = nullptr, *records = nullptr;
    int32_t *signs = nullptr;
    bool has_memory = true;
    if (!panels) {
        own = new_units(meshd_conv_panel_units(kernels, shape, w, beta_a, coding));
        has_memory = own != nullptr;
        if (own) meshd_conv_prepare(kernels, shape, w, beta_a, coding, threads, own);
        panels = own;
    }
    if (has_memory && has_records(rows, plan))
        has_memory = (records = make_records(&rows, plan, threads)) != nullptr;
    if (has_memory && rows.scales == SCALE_OF_WINDOW && coding == MESHD_SIGNED && g.is_padded()) {
        signs = (int32_t *)malloc(g.taps * (w->rows / g.groups) * sizeof *signs);
        has_memory = signs != nullptr;
    }
    const row_product product = {kernels, plan, {}, 0, panels, bias, out, w->rows};
    const int status =
        has_memory ? multiply_groups(&rows, product, *w, signs, threads) : MESHD_NO_MEMORY;
    free(signs);
    free(records);
    free(own);
    return status;
}
