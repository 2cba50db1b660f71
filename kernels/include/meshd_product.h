/* Products of packed matrices. Rules that hold for every function here: meshd_layout.h.
 *
 *     out[m][n] = start + sum over the segments s, ascending, of
 *         acc = fma(alpha_a[m][s], alpha_w[n][s] * (float)dot_s, acc)
 *
 * one rounding in the multiplication, one in the fused multiply-add (C99 fma, IEEE 754-2008 section
 * 5.4.1); start is +0 or the column's bias + 0. Segments are those of the finer of the two cuts, and the
 * alpha of the coarser matrix is that of the segment that holds s. One cut refines the other: the
 * larger beta is a multiple of the smaller one, or one segment is the whole row.
 *     signed (both +-1):            dot_s = len - 2 popcount(a ^ w)
 *     unipolar (a 0 or 1, w +-1):   dot_s = 2 popcount(a & w) - popcount(a)
 * A factor 2 may stand at either alpha instead of dot: the bits are the same as long as nothing
 * overflows (scales below 2^127) or underflows (to a zero whose sign later terms of 0 may turn). A
 * scale that is NaN makes the outputs that use it NaN; a scale that is infinite makes them infinite,
 * or NaN where dot_s is 0.
 *
 * Two layers. A *tile kernel* belongs to an instruction set: it multiplies a few rows of A with the
 * columns of a panel, from operands that were laid out for it. The *macro kernel* (kernels/macro)
 * knows no instruction set: it lays out, cuts into tiles, and treats what is left over. */
#ifndef MESHD_PRODUCT_H
#define MESHD_PRODUCT_H

#include "meshd_layout.h"

#ifdef __cplusplus
extern "C" {
#endif

struct stream_kernels; /* meshd_stream.h */

enum meshd_coding { MESHD_SIGNED = 0, MESHD_UNIPOLAR = 1 };

/* How long the segments are that a tile kernel takes. */
enum tile_kind {
    TILE_ANY = 0, /* any length, in whole units; padding bits are zero in A and in W */
    TILE_PART_8,  /* beta = 8 */
    TILE_PART_16, /* beta = 16 */
    TILE_UNIT_1,  /* beta = 32 */
    TILE_UNIT_2,  /* beta = 64 */
    TILE_UNIT_4,  /* beta = 128 */
    TILE_UNIT_8,  /* beta = 256 */
    TILE_KINDS
};

/* How a set's kernels want the elements: in units of uint32_t.
 *
 * LAYOUT_UNITS: 32 elements in a unit; element i of a segment is bit i % 32 of its unit i / 32, as in
 *   the packed words of a little-endian machine.
 *     TILE_ANY     unit 2j as it is, unit 2j + 1 xor-ed with unit 2j, in A and in W; an even number
 *     TILE_PART_*  one unit holds the segments of 32 elements
 *     TILE_UNIT_2, _4, _8, signed: odd units of W are inverted
 *   Signed alphas of A stand multiplied by -2 (TILE_UNIT_*: the kernel counts dot / -2), by -1
 *   (TILE_ANY: -dot), or as they are (TILE_PART_*: dot).
 * LAYOUT_NIBBLES: 16 elements in a unit; element i of a segment is bit i % 4 of byte i / 4, in the
 *   order of memory. In A each byte is shifted up by 4: the offset of that nibble's table of 16 bytes.
 *   In W a unit is four rows of bytes, each with a byte of every column.
 *     TILE_PART_8  one unit holds two segments
 *     TILE_ANY     two rows of A, 2j and 2j + 1, share offsets of 16 bits, of one of 256 tables: for
 *       nibble a of the one and b of the other 16 (a + 16 b), those of a unit's first two bytes in
 *       row 2j, of the last two in row 2j + 1; an even number of rows
 *   Signed alphas of A stand multiplied by 2 (the kernel counts dot / 2), by -1 (TILE_ANY: -dot).
 * Unipolar alphas stand as they are, in both. */
enum tile_layout { LAYOUT_UNITS = 0, LAYOUT_NIBBLES = 1 };

/* A group is what a kernel's loop passes over at once: one segment, or the segments of one unit.
 *   a: for each group, for each of the tile's rows: its units, then an alpha for each segment, then
 *      (unipolar) popcount(a) of each segment as int32_t;
 *   w: for each group, for each unit the units of all columns, then for each segment the alphas of
 *      all columns. Aligned to 64 bytes.
 *   start: rows x columns, what the sums begin with; row r at start + r * start_stride (0: one row for
 *      all);
 *   out: rows x columns, row r at out + r * stride; written.
 *   past_caches: out is too large to stay in a cache, and its rows here are aligned to 64 bytes: the
 *      stores may go straight to memory. */
struct tile_job {
    const uint32_t *a;
    const uint32_t *w;
    size_t groups;
    size_t units;    /* of a segment; TILE_ANY only */
    int32_t padding; /* TILE_ANY, signed: bits of a segment's units that are behind its elements */
    const float *start;
    size_t start_stride;
    float *out;
    size_t stride;
    int past_caches;
};

struct tile_kernel {
    void (*run)(const struct tile_job *job); /* NULL: the set has none for this kind */
};

struct product_kernels {
    enum tile_layout layout;
    size_t rows, columns; /* of a tile, for all kinds: at most 128 columns, 1024 sums; columns a
                           * multiple of 16 */
    struct tile_kernel tile[2][TILE_KINDS]; /* by meshd_coding; TILE_ANY is never NULL */
};

/* The macro kernel, with the tile kernels of `kernels`. k < 2^31; beta_a and w.beta as above;
 * threads >= 1 is the most that are used, and any number of them gives the same bits. */

/* How many uint32_t the panels of w take: rows of k elements, for activations cut by beta_a. */
size_t meshd_product_panel_units(const struct product_kernels *kernels,
                                 const struct packed_matrix *w, size_t k, size_t beta_a,
                                 enum meshd_coding coding);

/* Lays out w for products with the same kernels, k, beta_a and coding. panels: aligned to 64. */
void meshd_product_prepare(const struct product_kernels *kernels, const struct packed_matrix *w,
                           size_t k, size_t beta_a, enum meshd_coding coding, size_t threads,
                           uint32_t *panels);

/* out (a.rows, w.rows) = A W^T as above. panels: w's, or NULL: they are made on the way; bias
 * (w.rows), or NULL. MESHD_OK or MESHD_NO_MEMORY. */
int meshd_product(const struct product_kernels *kernels, const struct packed_matrix *a,
                  const struct packed_matrix *w, const uint32_t *panels, size_t k,
                  enum meshd_coding coding, const float *bias, size_t threads, float *out);

/* Where the bits of x go: words (rows, ceil(k / 64)), scales (rows, ceil(k / beta)); and, unless it is
 * NULL, kept (rows, ceil(k / 64)): whether |x| <= cut. */
struct binarized {
    uint64_t *words;
    float *scales;
    size_t rows;
    size_t beta;
    uint64_t *kept;
    float cut;
};

/* The same with A binarized from x (a.rows, k) on the way, as pack_signed or pack_unipolar of
 * `stream` do; a's words and scales are written. */
int meshd_binarized_product(const struct product_kernels *kernels,
                            const struct stream_kernels *stream, const float *x,
                            const struct binarized *a, const struct packed_matrix *w,
                            const uint32_t *panels, size_t k, enum meshd_coding coding,
                            const float *bias, size_t threads, float *out);

#ifdef __cplusplus
}
#endif
#endif
