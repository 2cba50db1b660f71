// The backward product with G rounded to int8, up or down at random.
#include "integer_product.h"

namespace {

using namespace meshd;

struct int8_rounding {
    static constexpr size_t tile_rows = MESHD_INT8_ROWS;
    using digits = int8_t;

    const backward_plan<uint16_t> plan;
    const backward_kernels &kernels;
    const uint64_t seed;
    const scratch<int32_t> zeros;

    int8_rounding(const backward_operands &x, uint64_t seed_)
        : plan(x, ceiling(x.b.rows, MESHD_INT8_WORD)), kernels(meshd_kernels()->backward),
          seed(seed_), zeros(MESHD_STRIP) {
        memset(zeros.data(), 0, sizeof(int32_t) * MESHD_STRIP);
    }

    size_t row_size() const { return plan.index.words() * MESHD_INT8_WORD; }
    int32_t factor() const { return plan.x.unipolar ? 1 : 2; }
    const int32_t *offset(size_t) const { return zeros.data(); }

    void fill_index(size_t i) const {
        const strip &s = plan.strips[i];
        const size_t words = plan.index.words(), count = words * MESHD_INT8_WORD;
        const scratch<uint64_t> column(count);
        for (size_t p = 0; p < s.panels(); ++p) {
            windows_down(plan.x.b, plan.x.k, s, p, 0, 1, count, column.data());
            kernels.columns_int8(column.data(), words, plan.index.of(i) + p * MESHD_PANEL,
                                 s.panels() * MESHD_PANEL);
        }
    }

    rounded_row round(const float *g, const float *alpha, size_t row, size_t segment,
                      int8_t *to) const {
        const size_t n = plan.reduced;
        const uint32_t bits = kernels.largest(g, alpha, n);
        float largest;
        memcpy(&largest, &bits, sizeof largest);
        const bool finite = bits < 0x7f800000;
        if (!finite || largest < counts_as_zero) {
            memset(to, 0, n);
            return {finite ? 0.0f : NAN, 0};
        }
        const uint64_t key = mixed(mixed(mixed(seed, 0), row), segment);
        const int32_t sum = kernels.round_int8(g, alpha, n, 127.0f * MESHD_INT8_ONE / largest,
                                               (uint32_t)key, (uint32_t)(key >> 32), to);
        return {largest / 127.0f, plan.x.unipolar ? 0 : -sum};
    }

    void sums(const int8_t *rounded, size_t i, int32_t *to) const {
        const size_t panels = plan.strips[i].panels();
        for (size_t word = 0; word < plan.index.words(); word += MESHD_INT8_BLOCK)
            kernels.sums_int8(rounded + word * MESHD_INT8_WORD, row_size(),
                              smaller(plan.index.words() - word, MESHD_INT8_BLOCK),
                              plan.index.of(i) + word * panels * MESHD_PANEL, panels, to);
    }
};

} // namespace

extern "C" int meshd_backward_int8(const backward_operands *x, uint64_t seed) {
    try {
        return integer_product<int8_rounding>(int8_rounding(*x, seed)).run();
    } catch (const std::bad_alloc &) {
        return MESHD_NO_MEMORY;
    }
}
