// Convolution: the product of an image's windows with the filters, group by group. Law: all
// arithmetic but the scale of a window and the start of a padded one is the tile kernels'.
#include <stdlib.h>

#include <optional>

#include "conv_rows.h"

namespace {

// Filters of one group.
packed_matrix group_of(const conv_geometry &g, const packed_matrix &w, size_t group) {
    const size_t rows = w.rows / g.groups, words = (g.k + 63) / 64;
    const size_t scales = g.k / w.beta;
    return {w.words + group * rows * words, w.scales + group * rows * scales, rows, w.beta};
}

void add_to_start(const void *context, size_t row, size_t rows, size_t column, size_t columns,
                  float *to, size_t stride) {
    ((const conv_rows *)context)->starts->add(row, rows, column, columns, to, stride);
}

// All groups, one after the other: of their `product` only the plan and the stride are the same.
int multiply_groups(conv_rows *rows, row_product product, const packed_matrix &w,
                    padded_starts *starts, size_t threads) {
    const conv_geometry &g = rows->g;
    const tile_plan &plan = product.plan;
    rows->starts = starts;
    product.a = {rows, g.pixels, rows->records ? lay_out_records : lay_out_packed,
                 starts ? add_to_start : nullptr, nullptr, 0, false};
    for (rows->group = 0; rows->group < g.groups; ++rows->group) {
        const packed_matrix filters = group_of(g, w, rows->group);
        product.columns = filters.rows;
        if (starts) starts->begin_group(rows->group, filters, threads);
        if (multiply_rows(product, threads) == MESHD_NO_MEMORY) return MESHD_NO_MEMORY;
        const size_t panels = (filters.rows + plan.columns - 1) / plan.columns;
        product.panels += panels * plan.columns * plan.w_units();
        product.out += filters.rows;
        if (product.bias) product.bias += filters.rows;
    }
    return MESHD_OK;
}

// Signed windows of one segment: the bits of padded taps mean -1.
bool lacks_padded_taps(const conv_rows &rows, meshd_coding coding) {
    return rows.scales == SCALE_OF_WINDOW && coding == MESHD_SIGNED && rows.g.is_padded();
}

int multiply_windows(conv_rows *rows, const row_product &product, const packed_matrix &w,
                     size_t threads) {
    uint32_t *records = nullptr;
    if (has_records(*rows, product.plan) &&
        !(records = make_records(rows, product.plan, threads)))
        return MESHD_NO_MEMORY;
    int status;
    try {
        std::optional<padded_starts> starts;
        if (lacks_padded_taps(*rows, product.plan.coding))
            starts.emplace(rows->g, rows->x, w.rows / rows->g.groups);
        status = multiply_groups(rows, product, w, starts ? &*starts : nullptr, threads);
    } catch (const std::bad_alloc &) {
        status = MESHD_NO_MEMORY;
    }
    free(records);
    return status;
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
    uint32_t *own = nullptr;
    if (!panels) {
        panels = own = new_units(meshd_conv_panel_units(kernels, shape, w, beta_a, coding));
        if (!own) return MESHD_NO_MEMORY;
        meshd_conv_prepare(kernels, shape, w, beta_a, coding, threads, own);
    }
    const row_product product = {kernels, plan, {}, 0, panels, bias, out, w->rows};
    const int status = multiply_windows(&rows, product, *w, threads);
    free(own);
    return status;
}
