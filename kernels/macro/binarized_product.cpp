// A product whose activations are binarized on the way. Law: the bits, scales and sums are exactly
// those of packing first and multiplying then.
//
// Each task binarizes its own rows just before it lays them out: they come from the cache, where the
// task before has fetched them, and the packed words are read while they are still there. Where the
// tasks of several threads would need the same rows (few rows, many columns), packing comes first.
#include "row_source.h"
#include "threads.h"
#include "meshd_stream.h"

namespace {

size_t quotient_up(size_t a, size_t b) { return a / b + (a % b != 0); }

struct binarization {
    const stream_kernels *stream;
    const float *x;
    const binarized *a;
    size_t k;
    meshd_coding coding;

    void pack(size_t first, size_t rows) const {
        const auto pack = coding == MESHD_UNIPOLAR ? stream->pack_unipolar : stream->pack_signed;
        pack(x + first * k, rows, k, a->beta, a->words + first * ((k + 63) / 64),
             a->scales + first * quotient_up(k, a->beta));
        if (a->kept) stream->within(x + first * k, rows, k, a->cut, a->kept + first * ((k + 63) / 64));
    }
    packed_matrix packed() const { return {a->words, a->scales, a->rows, a->beta}; }
};

bool pack_and_lay_out(const void *context, const tile_plan &plan, size_t first, size_t tiles,
                      uint32_t *to) {
    const binarization *b = (const binarization *)context;
    const size_t rows = tiles * plan.rows, left = b->a->rows - first;
    b->pack(first, rows < left ? rows : left);
    const packed_matrix packed = b->packed();
    const row_source rows_of_packed = rows_of_matrix(&packed);
    return rows_of_packed.lay_out(&packed, plan, first, tiles, to);
}

struct pack_task {
    const binarization *b;
    size_t rows; // of a task
};

void run_pack(void *context, size_t number) {
    const pack_task *t = (const pack_task *)context;
    const size_t first = number * t->rows, left = t->b->a->rows - first;
    t->b->pack(first, t->rows < left ? t->rows : left);
}

} // namespace

extern "C" int meshd_binarized_product(const product_kernels *kernels, const stream_kernels *stream,
                                       const float *x, const binarized *a, const packed_matrix *w,
                                       const uint32_t *panels, size_t k, meshd_coding coding,
                                       const float *bias, size_t threads, float *out) {
    const binarization b = {stream, x, a, k, coding};
    const packed_matrix packed = b.packed();
    const bool on_the_way = w->rows > 0 && (threads == 1 || a->rows >= 64 * threads);
    if (!on_the_way) {
        const size_t rows = quotient_up(a->rows, 4 * threads) + (a->rows == 0);
        pack_task tasks = {&b, rows};
        meshd_parallel(quotient_up(a->rows, rows), threads, run_pack, &tasks);
        return meshd_product(kernels, &packed, w, panels, k, coding, bias, threads, out);
    }
    const panels_in_use laid_out(kernels, w, panels, k, a->beta, coding, threads);
    if (!laid_out.ok()) return MESHD_NO_MEMORY;
    const tile_plan plan = make_tile_plan(kernels, k, a->beta, w->beta, coding);
    const row_source source = {&b, a->rows, pack_and_lay_out, nullptr, x, k * sizeof *x, true};
    return multiply_rows({kernels, plan, source, w->rows, laid_out.get(), bias, out, w->rows},
                         threads);
}
