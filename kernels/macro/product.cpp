// The product's macro kernel: lays out, cuts into tiles, treats what is left over. Law: no
// instruction set is known here; all arithmetic is the tile kernels'.
//
// A task is a block of A's rows times some of W's panels. The block's tiles are laid out once a
// task and stay in the second-level cache; a panel stays in the first-level one while the tiles of
// the block pass over it. Each output element belongs to one task, and is computed by the same
// operations however the tasks are cut: any number of threads gives the same bits.
#include <stdlib.h>
#include <string.h>

#include <atomic>

#include "row_source.h"
#include "threads.h"

namespace {

// Of A in a task: parts of a second-level cache. Laid out, and what is fetched for the next one.
constexpr size_t block_bytes = 1 << 17, fetched_bytes = 1 << 19;
constexpr size_t cached_bytes = 1 << 23; // of out: what one product may take of a shared cache
constexpr size_t least_tiles = 8; // of a task: a panel comes from further away than a tile
constexpr size_t most_columns = 128, most_tile_floats = 8 * most_columns;
constexpr size_t line_bytes = 64, line_floats = 16; // of a cache line

size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
size_t quotient_up(size_t a, size_t b) { return a / b + (a % b != 0); }

struct preparation {
    const tile_plan &plan;
    const packed_matrix *w;
    uint32_t *panels;
};

void prepare_panel(void *context, size_t panel) {
    const preparation *p = (const preparation *)context;
    const size_t size = p->plan.w_units() * p->plan.columns;
    lay_out_panel(p->plan, p->w, panel * p->plan.columns, p->panels + panel * size);
}

// The rows of A after this task's, fetched little by little while its tiles are multiplied: the
// memory's time is hidden behind the arithmetic's.
struct upcoming {
    const char *at, *end;
    size_t step;

    upcoming(const row_source &a, size_t first, size_t rows, size_t turns)
        : at((const char *)a.memory + smaller(first, a.rows) * a.row_bytes),
          end(at + smaller((smaller(first + rows, a.rows) - smaller(first, a.rows)) * a.row_bytes,
                           fetched_bytes)),
          step(quotient_up(quotient_up((size_t)(end - at), turns), line_bytes) * line_bytes) {}

    void fetch_some() {
        for (const char *stop = (size_t)(end - at) < step ? end : at + step; at < stop;
             at += line_bytes)
            __builtin_prefetch(at, 0, 2); // into the second level: the first is the tile's
        if (at > end) at = end;
    }
};

struct multiplication : row_product {
    size_t block_tiles = 1, chunk_panels = 1, chunks = 1, ahead = 1;
    bool past_caches;
    std::atomic<bool> no_memory{false};

    explicit multiplication(const row_product &product)
        : row_product(product),
          past_caches(a.rows * columns * sizeof *out > cached_bytes && stride % line_floats == 0 &&
                      (uintptr_t)out % line_bytes == 0 && stride != plan.columns) {}

    // One pass over the full groups, one for each rest segment: the last writes to where the sums
    // belong, the others to `between`.
    void run_tile(const uint32_t *a_tile, const uint32_t *panel, const float *start,
                  size_t start_stride, float *to, size_t to_stride) const {
        alignas(64) float between[most_tile_floats];
        tile_job job = {a_tile, panel, plan.groups, plan.group_units, plan.padding(plan.group_units, plan.fine),
                        start,  start_stride, between, plan.columns, 0};
        const auto ends_here = [&] {
            job.out = to;
            job.stride = to_stride;
            job.past_caches = past_caches && to_stride == stride;
        };
        if (plan.groups > 0) {
            if (plan.rest == 0) ends_here();
            kernels->tile[plan.coding][plan.kind].run(&job);
        }
        job.a += plan.groups * plan.rows * plan.a_group;
        job.w += plan.groups * plan.columns * plan.w_group;
        job.groups = 1;
        job.units = plan.rest_units;
        for (size_t i = 0; i < plan.rest; ++i) {
            if (plan.groups > 0 || i > 0) {
                job.start = between;
                job.start_stride = plan.columns;
            }
            if (i + 1 == plan.rest) ends_here();
            job.padding = plan.padding(plan.rest_units, plan.rest_length(i));
            kernels->tile[plan.coding][TILE_ANY].run(&job);
            job.a += plan.rows * plan.a_rest;
            job.w += plan.columns * plan.w_rest;
        }
    }

    // Asks for the lines of `out` before they are written: a store that misses holds up those behind.
    void fetch_ahead(const float *to, size_t rows) const {
        for (size_t r = 0; r < rows; ++r)
            for (size_t c = 0; c < plan.columns; c += line_floats)
                __builtin_prefetch(to + r * stride + c, 1);
    }

    // + 0: a bias of -0 counts as +0, whichever way a kernel turns the signs of its factors.
    void start_row(float *start, size_t column, size_t count) const {
        memset(start, 0, plan.columns * sizeof *start);
        if (bias)
            for (size_t c = 0; c < count; ++c) start[c] = bias[column + c] + 0.0f;
    }

    // `start`: a row that every row of the tile begins with.
    void multiply_tile(const uint32_t *a_tile, size_t row, size_t column, const float *start) const {
        const size_t rows = smaller(plan.rows, a.rows - row);
        const size_t count = smaller(plan.columns, columns - column);
        const uint32_t *panel = panels + column * plan.w_units();
        float *to = out + row * stride + column;
        alignas(64) float own_start[most_tile_floats];
        size_t start_stride = 0;
        if (a.add_to_start) {
            for (size_t r = 0; r < plan.rows; ++r)
                memcpy(own_start + r * plan.columns, start, plan.columns * sizeof *start);
            a.add_to_start(a.context, row, rows, column, count, own_start, plan.columns);
            start = own_start;
            start_stride = plan.columns;
        }
        if (!past_caches) fetch_ahead(to, rows);
        if (plan.k > 0 && rows == plan.rows && count == plan.columns) {
            run_tile(a_tile, panel, start, start_stride, to, stride);
            return;
        }
        alignas(64) float whole[most_tile_floats];
        const float *from = start; // all there is when k is 0
        if (plan.k > 0) {
            run_tile(a_tile, panel, start, start_stride, whole, plan.columns);
            from = whole;
            start_stride = plan.columns;
        }
        for (size_t r = 0; r < rows; ++r)
            memcpy(to + r * stride, from + r * start_stride, count * sizeof *to);
    }

    void task(size_t number) {
        const size_t tiles = quotient_up(a.rows, plan.rows);
        const size_t panel_count = quotient_up(columns, plan.columns);
        const size_t first = number / chunks * block_tiles;
        const size_t count = smaller(block_tiles, tiles - first);
        size_t panel = number % chunks * chunk_panels;
        const size_t end = smaller(panel + chunk_panels, panel_count);
        const size_t size = plan.rows * plan.a_units();
        uint32_t *block = new_units(count * size);
        if (!block || !a.lay_out(a.context, plan, first * plan.rows, count, block)) {
            no_memory = true;
            free(block);
            return;
        }
        alignas(64) float start[most_columns];
        // The block that this thread comes to next, if all take turns.
        const size_t after = first + ahead * block_tiles;
        upcoming next(a, after * plan.rows, count * plan.rows, count * (end - panel));
        for (size_t column = panel * plan.columns; panel < end; column += plan.columns, ++panel) {
            start_row(start, column, smaller(plan.columns, columns - column));
            for (size_t t = 0; t < count; ++t) {
                next.fetch_some();
                multiply_tile(block + t * size, (first + t) * plan.rows, column, start);
            }
        }
        // Stores past the caches are ordered like no others: they end before the task does.
        std::atomic_thread_fence(std::memory_order_seq_cst);
        free(block);
    }
};

void run_task(void *context, size_t number) { ((multiplication *)context)->task(number); }

// Blocks of rows while they give every thread some; else the panels are shared out too.
void cut(multiplication *m, size_t threads) {
    const size_t tiles = quotient_up(m->a.rows, m->plan.rows);
    const size_t panels = quotient_up(m->columns, m->plan.columns);
    const size_t tile_bytes = m->plan.rows * m->plan.a_units() * sizeof(uint32_t) + 1;
    m->block_tiles = block_bytes / tile_bytes + 1;
    if (m->a.row_bytes > 0) {
        const size_t fetched = fetched_bytes / (m->plan.rows * m->a.row_bytes) + 1;
        m->block_tiles = smaller(m->block_tiles, fetched < least_tiles ? least_tiles : fetched);
    }
    if (threads > 1 && m->block_tiles > tiles / (4 * threads))
        m->block_tiles = quotient_up(tiles, 4 * threads);
    const size_t blocks = quotient_up(tiles, m->block_tiles);
    const size_t wanted = threads > 1 && !m->a.once ? quotient_up(4 * threads, blocks) : 1;
    m->chunk_panels = quotient_up(panels, smaller(wanted, panels));
    m->chunks = quotient_up(panels, m->chunk_panels);
    m->ahead = threads;
}

bool lay_out_rows(const void *context, const tile_plan &plan, size_t first, size_t tiles,
                  uint32_t *to) {
    for (size_t t = 0; t < tiles; ++t, to += plan.rows * plan.a_units())
        lay_out_tile(plan, (const packed_matrix *)context, first + t * plan.rows, to);
    return true;
}

} // namespace

uint32_t *new_units(size_t count) {
    void *memory = nullptr;
    return posix_memalign(&memory, 64, (count + 16) * sizeof(uint32_t)) ? nullptr
                                                                        : (uint32_t *)memory;
}

row_source rows_of_matrix(const packed_matrix *a) {
    return {a, a->rows, lay_out_rows, nullptr, nullptr, 0, false};
}

int multiply_rows(const row_product &product, size_t threads) {
    if (product.a.rows == 0 || product.columns == 0) return MESHD_OK;
    multiplication m(product);
    cut(&m, threads);
    const size_t blocks = quotient_up(quotient_up(m.a.rows, m.plan.rows), m.block_tiles);
    meshd_parallel(blocks * m.chunks, threads, run_task, &m);
    return m.no_memory ? MESHD_NO_MEMORY : MESHD_OK;
}

extern "C" size_t meshd_product_panel_units(const product_kernels *kernels, const packed_matrix *w,
                                            size_t k, size_t beta_a, meshd_coding coding) {
    const tile_plan plan = make_tile_plan(kernels, k, beta_a, w->beta, coding);
    return quotient_up(w->rows, plan.columns) * plan.columns * plan.w_units();
}

extern "C" void meshd_product_prepare(const product_kernels *kernels, const packed_matrix *w,
                                      size_t k, size_t beta_a, meshd_coding coding, size_t threads,
                                      uint32_t *panels) {
    const tile_plan plan = make_tile_plan(kernels, k, beta_a, w->beta, coding);
    preparation p = {plan, w, panels};
    meshd_parallel(quotient_up(w->rows, plan.columns), threads, prepare_panel, &p);
}

panels_in_use::panels_in_use(const product_kernels *kernels, const packed_matrix *w,
                             const uint32_t *given, size_t k, size_t beta_a, meshd_coding coding,
                             size_t threads)
    : panels_(given) {
    if (given) return;
    panels_ = own_ = new_units(meshd_product_panel_units(kernels, w, k, beta_a, coding));
    if (own_) meshd_product_prepare(kernels, w, k, beta_a, coding, threads, own_);
}

panels_in_use::~panels_in_use() { free(own_); }

extern "C" int meshd_product(const product_kernels *kernels, const packed_matrix *a,
                             const packed_matrix *w, const uint32_t *panels, size_t k,
                             meshd_coding coding, const float *bias, size_t threads, float *out) {
    if (a->rows == 0 || w->rows == 0) return MESHD_OK;
    const panels_in_use laid_out(kernels, w, panels, k, a->beta, coding, threads);
    if (!laid_out.ok()) return MESHD_NO_MEMORY;
    const tile_plan plan = make_tile_plan(kernels, k, a->beta, w->beta, coding);
    return multiply_rows(
        {kernels, plan, rows_of_matrix(a), w->rows, laid_out.get(), bias, out, w->rows}, threads);
}
