// The backward product with G rounded to 1..4 bit planes, up or down at random. With digits d in
// 0..L and bits b:
//     v = step * (2 d - L)
//     sum of (2 d - L) (2 b - 1) = 4 sum of d b - 2 sum of d - 2 L sum of b + L C
//     sum of (2 d - L) b         = 2 sum of d b - L sum of b
// Only the sum of d b is a product; that of b belongs to a column of the strip, that of d to a row.
#include "integer_product.h"

namespace {

using namespace meshd;

constexpr uint16_t all_ones = 0x1555; // seven digits of 1

struct planes_rounding {
    static constexpr size_t tile_rows = MESHD_PLANES_ROWS;
    using digits = uint16_t;

    const backward_plan<uint8_t> plan;
    const backward_kernels &kernels;
    const size_t planes;
    const uint64_t seed;
    const int32_t most;          // L
    const scratch<int32_t> ones; // (strips, 256): what the sum of b adds to a column

    planes_rounding(const backward_operands &x, size_t planes_, uint64_t seed_)
        : plan(x, ceiling(x.b.rows, MESHD_PLANES_GROUP)), kernels(meshd_kernels()->backward),
          planes(planes_), seed(seed_), most(meshd_largest_digit(planes_)),
          ones(plan.strips.size() * MESHD_STRIP) {}

    size_t groups() const { return plan.index.words(); }
    size_t row_size() const { return (planes + 1) / 2 * groups(); }
    int32_t factor() const { return plan.x.unipolar ? 2 : 4; }
    const int32_t *offset(size_t i) const { return ones.data() + i * MESHD_STRIP; }

    void fill_index(size_t i) const {
        const strip &s = plan.strips[i];
        const size_t panels = s.panels();
        const scratch<uint64_t> column(MESHD_PLANES_GROUP * groups());
        for (size_t p = 0; p < panels; ++p) {
            windows_down(plan.x.b, plan.x.k, s, p, 0, 1, MESHD_PLANES_GROUP * groups(),
                         column.data());
            kernels.columns_planes(column.data(), groups(), plan.index.of(i) + p * MESHD_PANEL,
                                   panels * MESHD_PANEL);
        }
        const scratch<uint16_t> keys(groups());
        const scratch<int32_t> count(MESHD_PLANES_ROWS * MESHD_STRIP);
        for (size_t g = 0; g < groups(); ++g) keys.data()[g] = all_ones;
        memset(count.data(), 0, sizeof(int32_t) * MESHD_PLANES_ROWS * MESHD_STRIP);
        blocks(keys.data(), 0, 0, 1, i, count.data());
        for (size_t j = 0; j < MESHD_STRIP; ++j)
            ones.data()[i * MESHD_STRIP + j] = -(plan.x.unipolar ? 1 : 2) * most * count.data()[j];
    }

    rounded_row round(const float *g, const float *alpha, size_t row, size_t segment,
                      uint16_t *to) const {
        const size_t n = plan.reduced;
        const uint32_t bits = kernels.largest(g, alpha, n);
        float largest;
        memcpy(&largest, &bits, sizeof largest);
        const bool finite = bits < 0x7f800000;
        if (!finite || largest < counts_as_zero) {
            memset(to, 0, sizeof(uint16_t) * row_size());
            return {finite ? 0.0f : NAN, 0};
        }
        const uint64_t key = mixed(mixed(mixed(seed, 0), row), segment);
        uint16_t carry[MESHD_PLANES_CHAINS];
        for (size_t i = 0; i < MESHD_PLANES_CHAINS; i += 4) {
            const uint64_t four = mixed(key, i / 4);
            for (size_t j = 0; j < 4; ++j) carry[i + j] = (uint16_t)(four >> 16 * j);
        }
        const float inverse = 32768.0f * (float)most / largest;
        const int32_t sum =
            kernels.digits_planes(g, alpha, n, groups(), inverse, planes, carry, to, groups());
        return {largest / (float)most, plan.x.unipolar ? 0 : most * (int32_t)n - 2 * sum};
    }

    void sums(const uint16_t *rounded, size_t i, int32_t *to) const {
        blocks(rounded, row_size(), groups(), planes, i, to);
    }

    void blocks(const uint16_t *keys, size_t row_stride, size_t pair_stride, size_t bits, size_t i,
                int32_t *to) const {
        const size_t panels = plan.strips[i].panels();
        for (size_t g = 0; g < groups(); g += MESHD_PLANES_BLOCK)
            kernels.sums_planes(keys + g, row_stride, pair_stride,
                                smaller(groups() - g, MESHD_PLANES_BLOCK), bits,
                                plan.index.of(i) + g * panels * MESHD_PANEL, panels, to);
    }
};

} // namespace

extern "C" int meshd_backward_planes(const backward_operands *x, size_t planes, uint64_t seed) {
    try {
        return integer_product<planes_rounding>(planes_rounding(*x, planes, seed)).run();
    } catch (const std::bad_alloc &) {
        return MESHD_NO_MEMORY;
    }
}
