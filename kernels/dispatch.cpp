// Chooses the kernel table. Law: one list, fastest first, scalar last; a table is the scalar one
// with an overlay; what is chosen is one atomic pointer. Adding an instruction set is one line in
// `sets`, one function that overlays another set, and one object library.
#include <float.h>
#include <string.h>

#include <atomic>

#include "cpu_features.h"
#include "meshd_kernels.h"
#include "scalar/backward.h"
#include "scalar/product.h"
#include "scalar/stream.h"
#if MESHD_HAVE_AVX2
#include "avx2/backward.h"
#include "avx2/product.h"
#include "avx2/stream.h"
#endif
#if MESHD_HAVE_AVX512BW
#include "avx512bw/backward.h"
#include "avx512bw/product.h"
#include "avx512bw/stream.h"
#endif
#if MESHD_HAVE_AVX512
#include "avx512/backward.h"
#include "avx512/product.h"
#endif
#if MESHD_HAVE_NEON
#include "neon/product.h"
#include "neon/stream.h"
#endif

#if FLT_EVAL_METHOD != 0 || defined(__FAST_MATH__)
#error "meshd needs each float operation rounded: every member must get the same bits"
#endif

namespace {

struct instruction_set {
    const char *name;
    bool (*runs_here)();
    void (*fill)(kernel_table *); // every slot
};

void fill_scalar(kernel_table *table) {
    meshd_fill_stream_scalar(&table->stream);
    meshd_fill_product_scalar(&table->product);
    meshd_fill_backward_scalar(&table->backward);
}

#if MESHD_HAVE_AVX2
void overlay_avx2(kernel_table *table) {
    fill_scalar(table);
    meshd_overlay_stream_avx2(&table->stream);
    meshd_overlay_product_avx2(&table->product);
    meshd_overlay_backward_avx2(&table->backward);
}
#endif

#if MESHD_HAVE_AVX512BW
void overlay_avx512bw(kernel_table *table) {
    overlay_avx2(table);
    meshd_overlay_stream_avx512bw(&table->stream);
    meshd_overlay_product_avx512bw(&table->product);
    meshd_overlay_backward_avx512bw(&table->backward);
}
#endif

#if MESHD_HAVE_AVX512
void overlay_avx512(kernel_table *table) {
    overlay_avx512bw(table);
    meshd_overlay_product_avx512(&table->product);
    meshd_overlay_backward_avx512(&table->backward);
}
#endif

#if MESHD_HAVE_NEON
void overlay_neon(kernel_table *table) {
    fill_scalar(table);
    meshd_overlay_stream_neon(&table->stream);
    meshd_overlay_product_neon(&table->product);
}
#endif

const instruction_set sets[] = {
#if MESHD_HAVE_AVX512
    {"avx512", meshd_cpu_runs_avx512, overlay_avx512},
#endif
#if MESHD_HAVE_AVX512BW
    {"avx512bw", meshd_cpu_runs_avx512bw, overlay_avx512bw},
#endif
#if MESHD_HAVE_AVX2
    {"avx2", meshd_cpu_runs_avx2, overlay_avx2},
#endif
#if MESHD_HAVE_NEON
    {"neon", meshd_cpu_runs_neon, overlay_neon},
#endif
    {"scalar", [] { return true; }, fill_scalar},
};
constexpr size_t set_count = sizeof(sets) / sizeof(sets[0]);

struct all_tables {
    kernel_table table[set_count];

    all_tables() {
        for (size_t i = 0; i < set_count; ++i) {
            table[i].isa = sets[i].name;
            sets[i].fill(&table[i]);
        }
    }
};

const kernel_table *table_of(size_t i) {
    static const all_tables tables; // built once, by the first thread that comes
    return &tables.table[i];
}

std::atomic<const kernel_table *> in_use{nullptr};

} // namespace

extern "C" const kernel_table *meshd_kernels(void) {
    const kernel_table *table = in_use.load(std::memory_order_acquire);
    if (table) return table;
    size_t i = 0;
    while (!sets[i].runs_here()) ++i; // ends: scalar runs everywhere
    const kernel_table *best = table_of(i);
    // A set that another thread forced meanwhile stays.
    return in_use.compare_exchange_strong(table, best) ? best : table;
}

extern "C" int meshd_use_isa(const char *name) {
    for (size_t i = 0; i < set_count; ++i) {
        if (strcmp(sets[i].name, name) != 0) continue;
        if (!sets[i].runs_here()) return MESHD_UNSUPPORTED_ISA;
        in_use.store(table_of(i), std::memory_order_release);
        return MESHD_OK;
    }
    return MESHD_UNKNOWN_ISA;
}

extern "C" const char *meshd_list_isa(size_t i) {
    for (size_t s = 0; s < set_count; ++s)
        if (sets[s].runs_here() && i-- == 0) return sets[s].name;
    return nullptr;
}
