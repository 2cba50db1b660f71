/* How the operands of one product are cut into tiles, and laid out for the tile kernels in use.
 *
 * A row of k elements is cut into fine segments. Its full groups go to the kernel of `kind`; the
 * segments that are left (the short last one, or less than a group) go one by one to TILE_ANY.
 *
 *     one row of A:     groups x (units, alphas, unipolar: ones)   rest x (units, alpha, ones)
 *     one column of W:  groups x (units, alphas)                   rest x (units, alpha)
 *
 * in a tile of A group by group, row after row; in a panel of W group by group, unit after unit, the
 * columns side by side (include/meshd_product.h). */
#ifndef MESHD_MACRO_TILE_PLAN_H
#define MESHD_MACRO_TILE_PLAN_H

#include "meshd_product.h"

struct tile_plan {
    meshd_coding coding;
    tile_layout layout;
    tile_kind kind;
    size_t k, fine;         /* elements of a row, of a segment */
    size_t rows, columns;   /* of a tile */
    size_t group_segments;  /* segments, */
    size_t group_units;     /* units of a group */
    size_t groups;          /* full groups of a row */
    size_t rest;            /* segments after them */
    size_t rest_units;      /* units of such a segment: TILE_ANY's */
    size_t a_group, a_rest; /* uint32_t of a group and of a rest segment, in a row of A, */
    size_t w_group, w_rest; /* in a column of W */

    size_t a_units() const { return groups * a_group + rest * a_rest; } /* of a row */
    size_t w_units() const { return groups * w_group + rest * w_rest; } /* of a column */
    int32_t padding(size_t units, size_t length) const; /* bits behind a segment in its units */
    /* Where its i-th rest segment begins, and how long it is. */
    size_t rest_begin(size_t i) const { return (groups * group_segments + i) * fine; }
    size_t rest_length(size_t i) const {
        return k - rest_begin(i) < fine ? k - rest_begin(i) : fine;
    }
};

inline bool is_part(tile_kind kind) { return kind == TILE_PART_8 || kind == TILE_PART_16; }

tile_plan make_tile_plan(const product_kernels *kernels, size_t k, size_t beta_a, size_t beta_w,
                         meshd_coding coding);

/* lay_out.cpp. Rows first .. first + plan.rows of a; rows that a does not have are zero, with alphas zero. */
void lay_out_tile(const tile_plan &plan, const packed_matrix *a, size_t first, uint32_t *to);

/* lay_out.cpp. lay_out_tile's two steps: the rows by themselves, for any plan.rows; what a row holds
 * together with its neighbour (LAYOUT_NIBBLES, TILE_ANY). */
void lay_out_rows_alone(const tile_plan &plan, const packed_matrix *a, size_t first, uint32_t *to);
void pair_rows(const tile_plan &plan, uint32_t *tile);

/* lay_out.cpp. Rows first .. first + plan.columns of w become columns; those that w does not have are zero. */
void lay_out_panel(const tile_plan &plan, const packed_matrix *w, size_t first, uint32_t *to);

#endif
