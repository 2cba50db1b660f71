/* The two ways from an image to the rows of a product, a row a window of one group.
 *
 *   packed im2col   the windows' words and scales are put together as rows of a packed matrix, a
 *                   tile at a time, and laid out like any others: for every shape;
 *   indirect        each row of the image is laid out once, alone: its *record*. A tile is put
 *                   together from its windows' records through a table of pointers, one for each
 *                   tap and window, padded ones to a record of zeros: where a tap is whole groups
 *                   of the plan. */
#ifndef MESHD_MACRO_CONV_ROWS_H
#define MESHD_MACRO_CONV_ROWS_H

#include "conv_start.h"
#include "row_source.h"

/* Which scales a window's row has: those of its pixels; the window's for each tap inside the image
 * and 0 for each padded one; or the window's alone. */
enum window_scales { SCALES_OF_PIXELS, SCALES_OF_TAPS, SCALE_OF_WINDOW };

/* What lays out one group's windows; context of a row_source. */
struct conv_rows {
    const conv_geometry &g;
    const packed_matrix *x;
    window_scales scales;
    size_t beta;             /* of a window's row: the length that one of its scales is for */
    size_t group;            /* now at work */
    const uint32_t *records; /* NULL: packed im2col */
    tile_plan record_plan;   /* of a record: a tile of one row */
    const padded_starts *starts; /* NULL: no sum lacks anything */
};

/* Rows that all have the scales of x where beta_a <= C, the window's otherwise. */
conv_rows make_conv_rows(const conv_geometry &g, const packed_matrix *x, size_t beta_a,
                         size_t fine);

/* words and scales of one window's row. */
void fill_window(const conv_rows &rows, const conv_window &window, uint64_t *words, float *scales);

bool lay_out_packed(const void *context, const tile_plan &plan, size_t first, size_t tiles,
                    uint32_t *to);

/* Whether a tile can be put together from records, and whether that is faster. */
bool has_records(const conv_rows &rows, const tile_plan &plan);

/* Records of all rows of x and one of zeros behind them, for free(); NULL: no memory. Sets
 * rows.record_plan and rows.records. */
uint32_t *make_records(conv_rows *rows, const tile_plan &plan, size_t threads);

bool lay_out_records(const void *context, const tile_plan &plan, size_t first, size_t tiles,
                     uint32_t *to);

#endif
