// The backward product in float32: for each segment on its own, sums that the kernels look up.
// include/meshd_backward.h has the order of the additions.
#include <string.h>

#include "meshd_kernels.h"
#include "strips.h"

namespace {

using namespace meshd;

constexpr size_t tile_rows = MESHD_EXACT_ROWS;
constexpr size_t unit_rows = 4 * tile_rows; // share a pass over the index of all strips
constexpr size_t block_values = MESHD_EXACT_BLOCK * MESHD_EXACT_WORD;

struct exact_product {
    const backward_plan<uint32_t> plan;
    const backward_kernels &kernels;
    const size_t task_rows;

    explicit exact_product(const backward_operands &x)
        : plan(x, ceiling(x.b.rows, MESHD_EXACT_WORD)), kernels(meshd_kernels()->backward),
          task_rows(rows_of_task(x, unit_rows)) {}

    void fill_index(size_t i) const {
        const strip &s = plan.strips[i];
        const size_t words = plan.index.words(), count = words * MESHD_EXACT_WORD;
        const scratch<uint64_t> column(count);
        for (size_t p = 0; p < s.panels(); ++p) {
            windows_down(plan.x.b, plan.x.k, s, p, 0, 1, count, column.data());
            kernels.columns_exact(column.data(), words, plan.index.of(i) + p * MESHD_PANEL,
                                  s.panels() * MESHD_PANEL);
        }
    }

    // Rows first .. first + count - 1 (at most six) of strip i.
    void tile(const row_block &g, size_t first, size_t count, size_t i, float *values,
              float *sums) const {
        const strip &s = plan.strips[i];
        const size_t lanes = s.panels() * MESHD_PANEL;
        memset(sums, 0, sizeof(float) * tile_rows * MESHD_STRIP);
        for (size_t c = 0; c < plan.reduced; c += block_values) {
            const size_t n = smaller(plan.reduced - c, block_values);
            for (size_t r = 0; r < count; ++r) {
                float *v = values + r * block_values;
                kernels.scale(g.row(first + r) + c, plan.alpha_of(s.segment) + c, n, v);
                memset(v + n, 0, sizeof(float) * (block_values - n));
            }
            kernels.sums_exact(values, ceiling(n, MESHD_EXACT_WORD),
                               plan.index.of(i) + c / MESHD_EXACT_WORD * lanes, s.panels(),
                               plan.x.unipolar ? 0.0f : -1.0f, sums);
        }
        for (size_t r = 0; r < count; ++r) {
            uint64_t keep[MESHD_STRIP / MESHD_PANEL];
            plan.keep_of(first + r, s, keep);
            kernels.finish_exact(sums + r * MESHD_STRIP, s.lanes, keep, plan.past_caches,
                                 plan.out_of(first + r, s));
        }
    }

    void rows(size_t task) const {
        const size_t begin = task * task_rows, count = smaller(plan.x.rows - begin, task_rows);
        const row_block g(plan.x, begin, count);
        const scratch<float> values(tile_rows * block_values), sums(tile_rows * MESHD_STRIP);
        memset(values.data(), 0, sizeof(float) * tile_rows * block_values);
        for (size_t unit = begin; unit < begin + count; unit += unit_rows) {
            const size_t end = smaller(unit + unit_rows, begin + count);
            for (size_t i = 0; i < plan.strips.size(); ++i)
                for (size_t r = unit; r < end; r += tile_rows)
                    tile(g, r, smaller(end - r, tile_rows), i, values.data(), sums.data());
        }
        end_of_stores();
    }
};

} // namespace

extern "C" int meshd_backward_exact(const backward_operands *x) {
    try {
        const exact_product product(*x);
        const int status = each_task(product.plan.strips.size(), x->threads,
                                     [&](size_t i) { product.fill_index(i); });
        if (status != MESHD_OK) return status;
        return each_task(ceiling(x->rows, product.task_rows), x->threads,
                         [&](size_t task) { product.rows(task); });
    } catch (const std::bad_alloc &) {
        return MESHD_NO_MEMORY;
    }
}
