/* The backward product with G rounded to few bits: what int8 and planes have in common. For each
 * (row, segment): v is rounded to small integers times a step; the kernels sum the integers whose
 * bit is 1; and with codes of -1 and +1
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

/* 64 random bits from 128: the finalizer of splitmix64 (Steele, Lea, Flood, "Fast Splittable
 * Pseudorandom Number Generators", 2014) over each part in turn. */
inline uint64_t mixed(uint64_t state, uint64_t part) {
    state += part * 0x9e3779b97f4a7c15 + 0x9e3779b97f4a7c15;
    state = (state ^ state >> 30) * 0xbf58476d1ce4e5b9;
    state = (state ^ state >> 27) * 0x94d049bb133111eb;
    return state ^ state >> 31;
}

template <class Rounding> class integer_product {
  public:
    explicit integer_product(const Rounding &rounding)
        : by_(rounding), task_rows_(rows_of_task(rounding.plan.x, unit_rows)) {}

    int run() const {
        const backward_operands &x = by_.plan.x;
        const int status = each_task(by_.plan.strips.size(), x.threads,
                                     [&](size_t i) { by_.fill_index(i); });
        if (status != MESHD_OK) return status;
        return each_task(ceiling(x.rows, task_rows_), x.threads, [&](size_t task) { rows(task); });
    }

  private:
    static constexpr size_t tile_rows = Rounding::tile_rows, unit_rows = 6 * tile_rows;
    using digits = typename Rounding::digits;

    void rows(size_t task) const {
        const size_t begin = task * task_rows_;
        const size_t count = smaller(by_.plan.x.rows - begin, task_rows_);
        const row_block g(by_.plan.x, begin, count);
        const size_t size = unit_rows * by_.row_size();
        const scratch<digits> rounded(size);
        const scratch<int32_t> sums(tile_rows * MESHD_STRIP);
        memset(rounded.data(), 0, sizeof(digits) * size); // rows that the last tile lacks
        for (size_t unit = 0; unit < count; unit += unit_rows)
            rows(g, begin + unit, smaller(count - unit, unit_rows), rounded.data(), sums.data());
        end_of_stores();
    }

    // Of a segment all rows are rounded first: rounding and summing each want the first cache.
    void rows(const row_block &g, size_t begin, size_t count, digits *rounded,
              int32_t *sums) const {
        const std::vector<strip> &strips = by_.plan.strips;
        rounded_row row[unit_rows];
        for (size_t i = 0; i < strips.size(); ++i) {
            const size_t segment = strips[i].segment;
            if (i == 0 || strips[i - 1].segment != segment)
                for (size_t r = 0; r < count; ++r)
                    row[r] = by_.round(g.row(begin + r), by_.plan.alpha_of(segment), begin + r,
                                       segment, rounded + r * by_.row_size());
            for (size_t r = 0; r < count; r += tile_rows)
                tile(begin + r, smaller(count - r, tile_rows), i, row + r,
                     rounded + r * by_.row_size(), sums);
        }
    }

    // A few rows of strip i.
    void tile(size_t first, size_t count, size_t i, const rounded_row *row, const digits *rounded,
              int32_t *sums) const {
        const strip &s = by_.plan.strips[i];
        for (size_t r = 0; r < count && !by_.plan.past_caches; ++r) // on its way meanwhile
            for (size_t i16 = 0; i16 < s.lanes; i16 += 16)
                __builtin_prefetch(by_.plan.out_of(first + r, s) + i16, 1);
        memset(sums, 0, sizeof(int32_t) * tile_rows * MESHD_STRIP);
        by_.sums(rounded, i, sums);
        for (size_t r = 0; r < count; ++r) {
            uint64_t keep[MESHD_STRIP / MESHD_PANEL];
            by_.plan.keep_of(first + r, s, keep);
            by_.kernels.finish_integer(sums + r * MESHD_STRIP, s.lanes, by_.factor(), by_.offset(i),
                                       row[r].constant, row[r].step, keep,
                                       by_.plan.past_caches, by_.plan.out_of(first + r, s));
        }
    }

    const Rounding &by_;
    const size_t task_rows_;
};

} // namespace meshd

#endif
