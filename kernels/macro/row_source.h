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
    /* What lay_out reads of a row: row_bytes from memory + row * row_bytes on. It is fetched into the
     * cache while the rows before are multiplied. row_bytes 0: nothing is worth it. */
    const void *memory;
    size_t row_bytes;
    bool once; /* lay_out must not be called twice for a row: W's panels are not shared out */
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

/* W's panels: the caller's, or made here and freed at the end. ok: there was memory. */
class panels_in_use {
  public:
    panels_in_use(const product_kernels *kernels, const packed_matrix *w, const uint32_t *given,
                  size_t k, size_t beta_a, meshd_coding coding, size_t threads);
    ~panels_in_use();
    panels_in_use(const panels_in_use &) = delete;
    panels_in_use &operator=(const panels_in_use &) = delete;

    bool ok() const { return panels_ != nullptr; }
    const uint32_t *get() const { return panels_; }

  private:
    uint32_t *own_ = nullptr;
    const uint32_t *panels_;
};

/* Memory for units, aligned to 64 bytes, with room for 16 more; free() it. NULL: there is none. */
uint32_t *new_units(size_t count);

#endif
