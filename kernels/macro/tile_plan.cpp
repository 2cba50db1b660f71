// Which kernel takes which segments, and how much room its operands need.
#include "tile_plan.h"

namespace {

size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
size_t quotient_up(size_t a, size_t b) { return a / b + (a % b != 0); }

size_t elements_of_unit(tile_layout layout) { return layout == LAYOUT_NIBBLES ? 16 : 32; }

// Pairs of whole units: an even number.
size_t units_of_any(tile_layout layout, size_t length) {
    return layout == LAYOUT_NIBBLES ? quotient_up(length, 16) : 2 * quotient_up(length, 64);
}

tile_kind kind_of(size_t fine, size_t k) {
    if (fine >= k) return TILE_ANY;
    switch (fine) {
    case 8: return TILE_PART_8;
    case 16: return TILE_PART_16;
    case 32: return TILE_UNIT_1;
    case 64: return TILE_UNIT_2;
    case 128: return TILE_UNIT_4;
    case 256: return TILE_UNIT_8;
    default: return TILE_ANY;
    }
}

} // namespace

int32_t tile_plan::padding(size_t units, size_t length) const {
    return (int32_t)(units * elements_of_unit(layout) - length);
}

tile_plan make_tile_plan(const product_kernels *kernels, size_t k, size_t beta_a, size_t beta_w,
                         meshd_coding coding) {
    tile_plan p = {};
    p.coding = coding;
    p.layout = kernels->layout;
    p.k = k;
    p.fine = smaller(beta_a, beta_w);
    p.rows = kernels->rows;
    p.columns = kernels->columns;
    p.kind = kind_of(p.fine, k);
    if (!kernels->tile[coding][p.kind].run) p.kind = TILE_ANY;
    const size_t unit = elements_of_unit(p.layout);
    const bool shared = p.kind != TILE_ANY && p.fine < unit; // a unit, by segments
    p.group_segments = shared ? unit / p.fine : 1;
    p.group_units =
        p.kind == TILE_ANY ? units_of_any(p.layout, p.fine) : p.group_segments * p.fine / unit;
    p.groups = k / (p.group_segments * p.fine);
    const size_t left = k - p.groups * p.group_segments * p.fine;
    p.rest = quotient_up(left, p.fine);
    p.rest_units = units_of_any(p.layout, smaller(p.fine, left));
    const size_t ones = coding == MESHD_UNIPOLAR ? 1 : 0;
    p.a_group = p.group_units + p.group_segments * (1 + ones);
    p.w_group = p.group_units + p.group_segments;
    p.a_rest = p.rest_units + 1 + ones;
    p.w_rest = p.rest_units + 1;
    return p;
}
