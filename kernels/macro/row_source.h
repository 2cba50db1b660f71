/* The product's macro kernel, with A from anywhere: rows that exist as a packed matrix, or that are
 * put together when their tile is laid out (a convolution's windows). */
#ifndef MESHD_MACRO_ROW_SOURCE_H
#define MESHD_MACRO_ROW_SOURCE_H

#include "tile_plan.h"

/* Called by many threads at once. Rows are counted over the whole product. */
struct row_source {
    const void *context;
    size_t rows;
    /* Lays out `tiles` tiles one behind the other, from row `first` on, a multiple of plan.rows; rows
     * that are not there are zero. `to` has room for 16 units more. False: no scratch memory. */
    bool (*lay_out)(const void *context, const tile_plan &plan, size_t first, size_t tiles,
                    uint32_t *to);
    /* Adds to the start of rows x columns sums from (row, column) on; NULL: nothing is added. */
    void (*add_to_start)(const void *context, size_t row, size_t rows, size_t column,
                         size_t columns, float *to, size_t stride);
};

/* Its rows are those of a packed matrix that outlives it. */
row_source rows_of_matrix(const packed_matrix *a);

struct row_product {
    const product_kernels *kernels;
    tile_plan plan;
    row_source a;
    size_t columns;         /* W's rows */
    const uint32_t *panels; /* W's, laid out for `plan` */
    const float *bias;      /* (columns) or NULL */
    float *out;             /* (a.rows, columns) */
    size_t stride;          /* from a row of out to the next */
};

/* MESHD_OK or MESHD_NO_MEMORY. */
int multiply_rows(const row_product &product, size_t threads);

/* Memory for units, aligned to 64 bytes, with room for 16 more; free() it. NULL: there is none. */
uint32_t *new_units(size_t count);

#endif
