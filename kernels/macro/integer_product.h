/* The backward product with G rounded to few bits: what int8 and planes have in common.
 * For each (row, segment): v is rounded to small integers times a step; the kernels sum the integers
 * whose bit is 1; and with codes of -1 and +1
 *     sum of q * code = 2 * (sum of q whose bit is 1) - (sum of all q),
 * so that every sum is exact, whatever its order. A Rounding says how:
 *     tile_rows, index_type; index_words(C), fill_index(strip);
 *     digits: a type for one row's integers, row_size(C) of them;
 *     round(g, alpha, row, segment, to) -> rounded_row;   sums(digits, strip, sums);
 *     factor(), offset(strip). */
#ifndef MESHD_MACRO_INTEGER_PRODUCT_H
#define MESHD_MACRO_INTEGER_PRODUCT_H

#include <math.h>
#include <string.h>

#include "meshd_kernels.h"
#include "strips.h"

namespace meshd {

/* out = step * (float)(sum * factor + offset + constant). */
struct rounded_row {
    float step;
    int32_t constant;
};

constexpr float counts_as_zero = 1e-30f; /* below it, the reciprocal of a step might overflow */

template <class Rounding> class integer_product {
  public:
    explicit integer_product(const Rounding &rounding) : by_(rounding) {}

    int run() const {
        const backward_operands &x = by_.plan.x;
        const int status = each_task(by_.plan.strips.size(), x.threads,
                                     [&](size_t i) { by_.fill_index(i); });
        if (status != MESHD_OK) return status;
        return each_task(ceiling(x.rows, task_rows), x.threads, [&](size_t task) { rows(task); });
    }

  private:
    static constexpr size_t tile_rows = Rounding::tile_rows, task_rows = 6 * tile_rows;
    using digits = typename Rounding::digits;

    void rows(size_t task) const {
        const backward_operands &x = by_.plan.x;
        const size_t begin = task * task_rows;
        const size_t end = begin + smaller(x.rows - begin, task_rows);
        const row_block g(x, begin, end - begin);
        const size_t size = tile_rows * by_.row_size();
        const scratch<digits> rounded(size);
        const scratch<int32_t> sums(tile_rows * MESHD_STRIP);
        memset(rounded.data(), 0, sizeof(digits) * size); // rows that the last tile lacks
        for (size_t i = 0, next; i < by_.plan.strips.size(); i = next) {
            for (next = i; next < by_.plan.strips.size(); ++next)
                if (by_.plan.strips[next].segment != by_.plan.strips[i].segment) break;
            for (size_t r = begin; r < end; r += tile_rows)
                tile(g, r, smaller(end - r, tile_rows), i, next, rounded.data(), sums.data());
        }
    }

    // A few rows of the strips i .. next - 1, which are one segment.
    void tile(const row_block &g, size_t first, size_t count, size_t i, size_t next,
              digits *rounded, int32_t *sums) const {
        rounded_row row[tile_rows];
        const size_t segment = by_.plan.strips[i].segment;
        for (size_t r = 0; r < count; ++r)
            row[r] = by_.round(g.row(first + r), by_.plan.alpha_of(segment), first + r, segment,
                               rounded + r * by_.row_size());
        for (; i < next; ++i) {
            const strip &s = by_.plan.strips[i];
            memset(sums, 0, sizeof(int32_t) * tile_rows * MESHD_STRIP);
            by_.sums(rounded, i, sums);
            for (size_t r = 0; r < count; ++r) {
                uint64_t keep[MESHD_STRIP / MESHD_PANEL];
                by_.plan.keep_of(first + r, s, keep);
                by_.kernels.finish_integer(sums + r * MESHD_STRIP, s.lanes, by_.factor(),
                                           by_.offset(i), row[r].constant, row[r].step, keep,
                                           by_.plan.out_of(first + r, s));
            }
        }
    }

    const Rounding &by_;
};


} // namespace meshd

#endif
