// Law: what is laid out here is what include/meshd_product.h says that tile kernels read.
#include "tile_plan.h"

#include <string.h>

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

bool is_part(tile_kind kind) { return kind == TILE_PART_8 || kind == TILE_PART_16; }

// 16 bits as four bytes of four, the first in the lowest.
uint32_t as_nibbles(uint32_t bits) {
    bits = (bits | bits << 8) & 0x00ff00ffu;
    return (bits | bits << 4) & 0x0f0f0f0fu;
}

// `length` <= 32 elements of a packed row, from element `begin` on.
uint32_t bits_at(const uint64_t *words, size_t begin, size_t length) {
    const size_t i = begin / 64, shift = begin % 64;
    uint64_t bits = words[i] >> shift;
    if (shift + length > 64) bits |= words[i + 1] << (64 - shift);
    return (uint32_t)(bits & (~(uint64_t)0 >> (64 - length)));
}

int32_t ones(uint32_t x) { // Hacker's Delight, section 5-1
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    return (int32_t)(((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24);
}

uint32_t as_unit(float x) {
    uint32_t unit;
    memcpy(&unit, &x, sizeof unit);
    return unit;
}

// One row of a packed matrix, read segment by segment.
struct row_reader {
    const uint64_t *words;
    const float *scales;
    size_t beta;

    row_reader(const packed_matrix *m, size_t row, size_t k)
        : words(m->words + row * ((k + 63) / 64)), scales(m->scales + row * quotient_up(k, m->beta)),
          beta(m->beta) {}

    float alpha(size_t begin) const { return scales[begin / beta]; }

    // The units of elements begin .. begin + length, `count` of them in TILE_ANY's pairs.
    template <class Put> void pairs(size_t begin, size_t length, size_t count, Put put) const {
        uint32_t even = 0;
        for (size_t i = 0; i < count; ++i) {
            const size_t done = smaller(32 * i, length), left = smaller(32, length - done);
            const uint32_t unit = left ? bits_at(words, begin + done, left) : 0;
            put(i, i % 2 ? unit ^ even : unit);
            even = unit;
        }
    }

    // Whole units, from a multiple of 32.
    template <class Put> void units(size_t begin, size_t count, Put put) const {
        for (size_t i = 0, at = begin / 32; i < count; ++i, ++at)
            put(i, (uint32_t)(words[at / 2] >> (32 * (at % 2))));
    }

    // Units of nibbles, `count` of them.
    template <class Put> void nibbles(size_t begin, size_t length, size_t count, Put put) const {
        for (size_t i = 0; i < count; ++i) {
            const size_t done = smaller(16 * i, length), left = smaller(16, length - done);
            put(i, left ? as_nibbles(bits_at(words, begin + done, left)) : 0);
        }
    }

    int32_t ones_in(size_t begin, size_t length) const {
        int32_t sum = 0;
        for (size_t done = 0; done < length; done += 32)
            sum += ones(bits_at(words, begin + done, smaller(32, length - done)));
        return sum;
    }
};

float factor_of_a(const tile_plan &plan, tile_kind kind) {
    if (plan.coding == MESHD_UNIPOLAR) return 1.0f;
    if (kind == TILE_ANY) return -1.0f;
    if (plan.layout == LAYOUT_NIBBLES) return 2.0f;
    return is_part(kind) ? 1.0f : -2.0f;
}

// The units of elements begin .. begin + length, as a kernel of `kind` reads them.
template <class Put>
void each_unit(const tile_plan &plan, tile_kind kind, const row_reader &row, size_t begin,
               size_t length, size_t count, Put put) {
    if (plan.layout == LAYOUT_NIBBLES)
        row.nibbles(begin, length, count, put);
    else if (kind == TILE_ANY)
        row.pairs(begin, length, count, put);
    else
        row.units(begin, count, put);
}

// Units in A: nibbles stand as offsets into tables of 16 bytes.
void lay_out_units(const tile_plan &plan, tile_kind kind, const row_reader &row, size_t begin,
                   size_t length, size_t count, uint32_t *to) {
    const int shift = plan.layout == LAYOUT_NIBBLES ? 4 : 0;
    each_unit(plan, kind, row, begin, length, count,
              [&](size_t u, uint32_t unit) { to[u] = unit << shift; });
}

void lay_out_rest(const tile_plan &plan, const row_reader &row, size_t i, uint32_t *to) {
    const size_t begin = plan.groups * plan.group_segments * plan.fine + i * plan.fine;
    const size_t length = plan.rest_length(i), units = plan.rest_units;
    lay_out_units(plan, TILE_ANY, row, begin, length, units, to);
    to[units] = as_unit(factor_of_a(plan, TILE_ANY) * row.alpha(begin));
    if (plan.coding == MESHD_UNIPOLAR) to[units + 1] = (uint32_t)row.ones_in(begin, length);
}

void lay_out_group(const tile_plan &plan, const row_reader &row, size_t g, uint32_t *to) {
    const size_t length = plan.group_segments * plan.fine, begin = g * length;
    lay_out_units(plan, plan.kind, row, begin, length, plan.group_units, to);
    to += plan.group_units;
    const float factor = factor_of_a(plan, plan.kind);
    for (size_t s = 0; s < plan.group_segments; ++s)
        *to++ = as_unit(factor * row.alpha(begin + s * plan.fine));
    if (plan.coding == MESHD_UNIPOLAR)
        for (size_t s = 0; s < plan.group_segments; ++s)
            *to++ = (uint32_t)row.ones_in(begin + s * plan.fine, plan.fine);
}

// Column c of a group, whose first unit of column 0 is at `group`.
void lay_out_column_units(const tile_plan &plan, tile_kind kind, const row_reader &row,
                          size_t begin, size_t length, size_t count, uint32_t *group, size_t c) {
    const size_t columns = plan.columns;
    // Inverted, every second count is of ones too many: what is left of a pair is sum - 32, the
    // kernel's bias for nothing.
    const bool inverts = plan.coding == MESHD_SIGNED && kind >= TILE_UNIT_2;
    const auto put = [&](size_t u, uint32_t unit) { group[u * columns + c] = unit; };
    const auto put_inverted = [&](size_t u, uint32_t unit) {
        group[u * columns + c] = u % 2 ? ~unit : unit;
    };
    const auto put_nibbles = [&](size_t u, uint32_t unit) {
        uint8_t *to = (uint8_t *)(group + u * columns) + c;
        for (int i = 0; i < 4; ++i) to[(size_t)i * columns] = (uint8_t)(unit >> (8 * i));
    };
    if (plan.layout == LAYOUT_NIBBLES)
        each_unit(plan, kind, row, begin, length, count, put_nibbles);
    else if (inverts)
        each_unit(plan, kind, row, begin, length, count, put_inverted);
    else
        each_unit(plan, kind, row, begin, length, count, put);
}

void lay_out_column(const tile_plan &plan, const row_reader &row, uint32_t *to, size_t c) {
    const size_t columns = plan.columns, length = plan.group_segments * plan.fine;
    for (size_t g = 0; g < plan.groups; ++g) {
        lay_out_column_units(plan, plan.kind, row, g * length, length, plan.group_units, to, c);
        for (size_t s = 0; s < plan.group_segments; ++s)
            to[(plan.group_units + s) * columns + c] =
                as_unit(row.alpha(g * length + s * plan.fine));
        to += plan.w_group * columns;
    }
    for (size_t i = 0; i < plan.rest; ++i) {
        const size_t begin = plan.groups * length + i * plan.fine, units = plan.rest_units;
        lay_out_column_units(plan, TILE_ANY, row, begin, plan.rest_length(i), units, to, c);
        to[units * columns + c] = as_unit(row.alpha(begin));
        to += plan.w_rest * columns;
    }
}

} // namespace

int32_t tile_plan::padding(size_t units, size_t length) const {
    return (int32_t)(units * elements_of_unit(layout) - length);
}

size_t tile_plan::rest_length(size_t i) const {
    return smaller(fine, k - (groups * group_segments + i) * fine);
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

void lay_out_tile(const tile_plan &plan, const packed_matrix *a, size_t first, uint32_t *to) {
    for (size_t r = 0; r < plan.rows; ++r) {
        const bool exists = first + r < a->rows;
        const row_reader row(a, exists ? first + r : 0, plan.k);
        for (size_t g = 0; g < plan.groups; ++g) {
            uint32_t *at = to + (g * plan.rows + r) * plan.a_group;
            if (exists)
                lay_out_group(plan, row, g, at);
            else
                memset(at, 0, plan.a_group * sizeof *at);
        }
        uint32_t *rest = to + plan.groups * plan.rows * plan.a_group;
        for (size_t i = 0; i < plan.rest; ++i) {
            uint32_t *at = rest + (i * plan.rows + r) * plan.a_rest;
            if (exists)
                lay_out_rest(plan, row, i, at);
            else
                memset(at, 0, plan.a_rest * sizeof *at);
        }
    }
}

void lay_out_panel(const tile_plan &plan, const packed_matrix *w, size_t first, uint32_t *to) {
    if (first + plan.columns > w->rows) memset(to, 0, plan.w_units() * plan.columns * sizeof *to);
    for (size_t c = 0; c < plan.columns && first + c < w->rows; ++c)
        lay_out_column(plan, row_reader(w, first + c, plan.k), to, c);
}
