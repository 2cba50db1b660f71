// Law: what is laid out here is what include/meshd_product.h says that tile kernels read.
//
// Full groups are laid out by words: a word is two units, turned into what the kernel wants by at
// most one operation. Segments that do not begin and end on words go bit by bit into place.
#include <string.h>

#include "bits.h"
#include "tile_plan.h"

namespace {

size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
size_t quotient_up(size_t a, size_t b) { return a / b + (a % b != 0); }

uint32_t as_unit(float x) {
    uint32_t unit;
    memcpy(&unit, &x, sizeof unit);
    return unit;
}

/* What a kernel wants of a word: low half and high half are the units. */
enum word_form { AS_IT_IS, ODD_INVERTED, ODD_MIXED };

uint64_t formed(uint64_t word, word_form form) {
    switch (form) {
    case ODD_INVERTED: return word ^ 0xffffffff00000000u;
    case ODD_MIXED: return word ^ word << 32;
    default: return word;
    }
}

word_form form_of_a(const tile_plan &plan) { return plan.kind == TILE_ANY ? ODD_MIXED : AS_IT_IS; }

// Inverted, every second count is of ones too many: what is left of a pair is sum - 32, the kernel's
// bias for nothing.
word_form form_of_w(const tile_plan &plan) {
    if (plan.kind == TILE_ANY) return ODD_MIXED;
    return plan.coding == MESHD_SIGNED && plan.kind >= TILE_UNIT_2 ? ODD_INVERTED : AS_IT_IS;
}

float factor_of_a(const tile_plan &plan, tile_kind kind) {
    if (plan.coding == MESHD_UNIPOLAR) return 1.0f;
    if (kind == TILE_ANY) return -1.0f;
    if (plan.layout == LAYOUT_NIBBLES) return 2.0f;
    return is_part(kind) ? 1.0f : -2.0f;
}

// 32 bits as eight bytes of four, the first in the lowest.
uint64_t as_nibbles(uint64_t bits) {
    bits = (bits | bits << 16) & 0x0000ffff0000ffffu;
    bits = (bits | bits << 8) & 0x00ff00ff00ff00ffu;
    return (bits | bits << 4) & 0x0f0f0f0f0f0f0f0fu;
}

// One row of a packed matrix.
struct row_reader {
    const uint64_t *words;
    const float *scales;
    size_t beta;

    row_reader(const packed_matrix *m, size_t row, size_t k)
        : words(m->words + row * ((k + 63) / 64)), scales(m->scales + row * quotient_up(k, m->beta)),
          beta(m->beta) {}

    float alpha(size_t begin) const { return scales[begin / beta]; }

    // Calls put(i, bits) for i < count: the elements of a segment, `width` at a time, moved to the
    // front; those behind its end are zero.
    template <class Put>
    void segment(size_t begin, size_t length, size_t width, size_t count, Put put) const {
        for (size_t i = 0; i < count; ++i) {
            const size_t done = smaller(width * i, length), left = smaller(width, length - done);
            put(i, left ? bits_at(words, begin + done, left) : 0);
        }
    }
};

// The units of a segment, or of a unit's segments, in a row of A. Nibbles stand as offsets into
// 16 tables of 16 bytes.
void lay_out_row_units(const tile_plan &plan, word_form form, const row_reader &row, size_t begin,
                       size_t length, size_t units, uint32_t *to) {
    if (plan.layout == LAYOUT_NIBBLES && begin % 64 == 0 && length % 64 == 0)
        for (size_t i = 0; i < length / 64; ++i) {
            const uint64_t word = row.words[begin / 64 + i];
            const uint64_t half[2] = {as_nibbles(word & 0xffffffffu) << 4,
                                      as_nibbles(word >> 32) << 4};
            memcpy(to + 4 * i, half, sizeof half);
        }
    else if (plan.layout == LAYOUT_NIBBLES)
        row.segment(begin, length, 64, quotient_up(units, 4), [&](size_t i, uint64_t word) {
            const uint64_t low = as_nibbles(word & 0xffffffffu) << 4;
            const uint64_t high = as_nibbles(word >> 32) << 4;
            const uint32_t unit[4] = {(uint32_t)low, (uint32_t)(low >> 32), (uint32_t)high,
                                      (uint32_t)(high >> 32)};
            const size_t count = smaller(4, units - 4 * i);
            if (count == 4)
                memcpy(to + 4 * i, unit, sizeof unit);
            else
                memcpy(to + 4 * i, unit, count * sizeof *unit);
        });
    else if (units == 1)
        to[0] = (uint32_t)bits_at(row.words, begin, 32);
    else if (begin % 64 == 0 && length % 64 == 0)
        for (size_t i = 0; i < length / 64; ++i) {
            const uint64_t pair = formed(row.words[begin / 64 + i], form);
            to[2 * i] = (uint32_t)pair;
            to[2 * i + 1] = (uint32_t)(pair >> 32);
        }
    else
        row.segment(begin, length, 64, units / 2, [&](size_t i, uint64_t word) {
            const uint64_t pair = formed(word, form);
            to[2 * i] = (uint32_t)pair;
            to[2 * i + 1] = (uint32_t)(pair >> 32);
        });
}

// The same in column c of a panel. Bytes of nibbles lie a row of columns apart.
void lay_out_column_units(const tile_plan &plan, const row_reader &row, size_t begin,
                          size_t length, size_t units, uint32_t *to, size_t c) {
    const size_t columns = plan.columns;
    if (plan.layout == LAYOUT_NIBBLES)
        row.segment(begin, length, 16, units, [&](size_t i, uint64_t bits) {
            const uint32_t nibbles = (uint32_t)as_nibbles(bits);
            uint8_t *byte = (uint8_t *)(to + i * columns) + c;
            for (int n = 0; n < 4; ++n, byte += columns) *byte = (uint8_t)(nibbles >> (8 * n));
        });
    else
        row.segment(begin, length, 64, units / 2, [&](size_t i, uint64_t word) {
            const uint64_t pair = formed(word, ODD_MIXED);
            to[2 * i * columns + c] = (uint32_t)pair;
            to[(2 * i + 1) * columns + c] = (uint32_t)(pair >> 32);
        });
}

// The alphas of a row, segment by segment of the finer cut: no division in the loop.
struct alpha_walk {
    const float *at;
    size_t per_scale, left; // finer segments that one scale serves, that this one still serves

    alpha_walk(const tile_plan &plan, const row_reader &row)
        : at(row.scales),
          per_scale(row.beta % plan.fine ? plan.k : row.beta / plan.fine), left(per_scale) {}

    float next() {
        const float alpha = *at;
        if (--left == 0) {
            ++at;
            left = per_scale;
        }
        return alpha;
    }
};

inline void put_word(uint32_t *to, uint64_t pair) {
    to[0] = (uint32_t)pair;
    to[1] = (uint32_t)(pair >> 32);
}

// The units of the full groups of a row, where they are whole words or halves of them.
void lay_out_row_words(const tile_plan &plan, const uint64_t *word, size_t step, uint32_t *to) {
    const word_form form = form_of_a(plan);
    if (plan.group_units == 1)
        for (size_t g = 0; g < plan.groups; ++g, to += step)
            *to = (uint32_t)(word[g / 2] >> (32 * (g % 2)));
    else
        for (size_t g = 0; g < plan.groups; ++g, to += step)
            for (size_t u = 0; u < plan.group_units; u += 2) put_word(to + u, formed(*word++, form));
}

bool by_words(const tile_plan &plan) {
    return plan.layout == LAYOUT_UNITS && (plan.kind != TILE_ANY || plan.fine % 64 == 0);
}

// A row of a tile. `to` moves by plan.a_group * plan.rows from group to group.
void lay_out_row(const tile_plan &plan, const row_reader &row, uint32_t *to) {
    const size_t step = plan.rows * plan.a_group, units = plan.group_units;
    const size_t segments = plan.group_segments, length = segments * plan.fine;
    const float factor = factor_of_a(plan, plan.kind);
    const bool whole_words = by_words(plan);
    if (whole_words) lay_out_row_words(plan, row.words, step, to);
    alpha_walk alpha(plan, row);
    for (size_t g = 0; g < plan.groups; ++g, to += step) {
        if (!whole_words)
            lay_out_row_units(plan, form_of_a(plan), row, g * length, length, units, to);
        for (size_t s = 0; s < segments; ++s) to[units + s] = as_unit(factor * alpha.next());
        if (plan.coding == MESHD_UNIPOLAR)
            for (size_t s = 0; s < segments; ++s)
                to[units + segments + s] =
                    (uint32_t)ones_in(row.words, g * length + s * plan.fine, plan.fine);
    }
}

void lay_out_rest_of_row(const tile_plan &plan, const row_reader &row, uint32_t *to) {
    for (size_t i = 0; i < plan.rest; ++i, to += plan.rows * plan.a_rest) {
        const size_t begin = plan.rest_begin(i), length = plan.rest_length(i);
        lay_out_row_units(plan, ODD_MIXED, row, begin, length, plan.rest_units, to);
        to[plan.rest_units] = as_unit(factor_of_a(plan, TILE_ANY) * row.alpha(begin));
        if (plan.coding == MESHD_UNIPOLAR)
            to[plan.rest_units + 1] = (uint32_t)ones_in(row.words, begin, length);
    }
}

// Offsets into 16 tables, one in each byte, become those into 256: 16 bits, even | odd << 4.
void pair_units(uint32_t *__restrict even, uint32_t *__restrict odd, size_t units) {
    const auto low = [](uint32_t x) { return (x & 0xff) | (x & 0xff00) << 8; };
    const auto high = [](uint32_t x) { return (x >> 16 & 0xff) | (x >> 8 & 0xff0000); };
    for (size_t u = 0; u < units; ++u) {
        const uint32_t a = even[u], b = odd[u];
        even[u] = low(a) | low(b) << 4;
        odd[u] = high(a) | high(b) << 4;
    }
}

// The units of full groups of `count` columns whose segments begin on units. Columns run in the
// inner loop: their words come from as many lines of the first-level cache.
void lay_out_units(const tile_plan &plan, const packed_matrix *w, size_t first, size_t count,
                   uint32_t *to) {
    const size_t row_words = (plan.k + 63) / 64, columns = plan.columns;
    const size_t total = plan.groups * plan.group_units;
    const uint64_t *words = w->words + first * row_words;
    const word_form form = form_of_w(plan);
    size_t gap[2]; // from a unit to the next: within a group, and past its alphas
    gap[0] = columns;
    gap[1] = (1 + plan.w_group - plan.group_units) * columns;
    for (size_t unit = 0; unit < total; unit += 2) {
        uint32_t *even = to + (unit / plan.group_units * plan.w_group + unit % plan.group_units) *
                                  columns;
        uint32_t *odd = even + gap[plan.group_units == 1];
        const uint64_t *word = words + unit / 2;
        if (unit + 1 < total)
            for (size_t c = 0; c < count; ++c) {
                const uint64_t pair = formed(word[c * row_words], form);
                even[c] = (uint32_t)pair;
                odd[c] = (uint32_t)(pair >> 32);
            }
        else
            for (size_t c = 0; c < count; ++c) even[c] = (uint32_t)word[c * row_words];
    }
}

void lay_out_alphas(const tile_plan &plan, const packed_matrix *w, size_t first, size_t count,
                    uint32_t *to) {
    const size_t columns = plan.columns, scales = quotient_up(plan.k, w->beta);
    for (size_t g = 0; g < plan.groups; ++g)
        for (size_t s = 0; s < plan.group_segments; ++s) {
            const size_t begin = (g * plan.group_segments + s) * plan.fine;
            const float *alpha = w->scales + first * scales + begin / w->beta;
            uint32_t *at = to + (g * plan.w_group + plan.group_units + s) * columns;
            for (size_t c = 0; c < count; ++c) at[c] = as_unit(alpha[c * scales]);
        }
}

} // namespace

void pair_rows(const tile_plan &plan, uint32_t *tile) {
    if (plan.layout != LAYOUT_NIBBLES) return;
    const size_t groups = plan.groups * plan.rows, rest = plan.rest * plan.rows;
    if (plan.kind == TILE_ANY)
        for (size_t i = 0; i < groups; i += 2)
            pair_units(tile + i * plan.a_group, tile + (i + 1) * plan.a_group, plan.group_units);
    tile += groups * plan.a_group;
    for (size_t i = 0; i < rest; i += 2)
        pair_units(tile + i * plan.a_rest, tile + (i + 1) * plan.a_rest, plan.rest_units);
}

void lay_out_rows_alone(const tile_plan &plan, const packed_matrix *a, size_t first, uint32_t *to) {
    uint32_t *rest = to + plan.groups * plan.rows * plan.a_group;
    const size_t count = smaller(plan.rows, a->rows - first);
    if (count < plan.rows) memset(to, 0, plan.rows * plan.a_units() * sizeof *to);
    for (size_t r = 0; r < count; ++r) {
        const row_reader row(a, first + r, plan.k);
        lay_out_row(plan, row, to + r * plan.a_group);
        lay_out_rest_of_row(plan, row, rest + r * plan.a_rest);
    }
}

void lay_out_tile(const tile_plan &plan, const packed_matrix *a, size_t first, uint32_t *to) {
    lay_out_rows_alone(plan, a, first, to);
    pair_rows(plan, to);
}

void lay_out_panel(const tile_plan &plan, const packed_matrix *w, size_t first, uint32_t *to) {
    uint32_t *rest = to + plan.groups * plan.columns * plan.w_group;
    const size_t count = smaller(plan.columns, w->rows - first);
    const size_t length = plan.group_segments * plan.fine;
    if (count < plan.columns) memset(to, 0, plan.columns * plan.w_units() * sizeof *to);
    const bool whole_words = by_words(plan);
    if (whole_words) lay_out_units(plan, w, first, count, to);
    lay_out_alphas(plan, w, first, count, to);
    for (size_t c = 0; c < count; ++c) {
        const row_reader row(w, first + c, plan.k);
        if (!whole_words)
            for (size_t g = 0; g < plan.groups; ++g)
                lay_out_column_units(plan, row, g * length, length, plan.group_units,
                                     to + g * plan.w_group * plan.columns, c);
        uint32_t *at = rest;
        for (size_t i = 0; i < plan.rest; ++i, at += plan.w_rest * plan.columns) {
            const size_t begin = plan.rest_begin(i);
            lay_out_column_units(plan, row, begin, plan.rest_length(i), plan.rest_units, at, c);
            at[plan.rest_units * plan.columns + c] = as_unit(row.alpha(begin));
        }
    }
}
