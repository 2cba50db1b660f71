/* The contract of the kernels: a table of C functions over packed bits, and the choice of one table
 * at run time. Nothing here knows Python. */
#ifndef MESHD_KERNELS_H
#define MESHD_KERNELS_H

#include "meshd_backward.h"
#include "meshd_conv.h"
#include "meshd_product.h"
#include "meshd_stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One instruction set's kernels. The scalar set specifies, the others overlay it. */
struct kernel_table {
    const char *isa;
    struct stream_kernels stream;
    struct product_kernels product;
    struct backward_kernels backward;
};

/* The table in use. The first call picks the fastest set that this machine runs. Thread-safe. */
const struct kernel_table *meshd_kernels(void);

/* Makes `name` the set in use, for all threads, from their next call on. MESHD_OK,
 * MESHD_UNKNOWN_ISA (not in this build) or MESHD_UNSUPPORTED_ISA (not on this machine); on an error
 * nothing changes. */
int meshd_use_isa(const char *name);

/* The i-th set that is in this build *and* runs here, fastest first; NULL after the last. */
const char *meshd_list_isa(size_t i);

#ifdef __cplusplus
}
#endif
#endif
