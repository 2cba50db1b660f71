// Law: each operation is rounded, in the order of include/meshd_conv.h.
#include "conv_start.h"

#include "bits.h"
#include "threads.h"

// Ranges move one way with the position: equal ones lie side by side.
padding_classes::padding_classes(const conv_geometry &g, size_t axis) {
    of_position.reserve(g.out_size[axis]);
    for (size_t at = 0; at < g.out_size[axis]; ++at) {
        const tap_range range(g, axis, at);
        if (ranges.empty()) {
            ranges.push_back(range);
            ranges[0].first = 0;
            ranges[0].end = g.kernel[axis];
        }
        if (range.count() == g.kernel[axis]) {
            of_position.push_back(0);
            continue;
        }
        const tap_range &last = ranges.back();
        const bool same = ranges.size() > 1 && last.first == range.first && last.end == range.end;
        if (!same) ranges.push_back(range);
        of_position.push_back((uint32_t)ranges.size() - 1);
    }
}

padded_starts::padded_starts(const conv_geometry &g, const packed_matrix *x, size_t filters)
    : g_(g), x_(x), filters_(filters), y_classes_(g, 0), x_classes_(g, 1), signs_(g.taps * filters),
      lacking_(y_classes_.ranges.size() * x_classes_.ranges.size() * filters), means_(g.pixels) {}

void padded_starts::fill_means(void *context, size_t image) {
    padded_starts &self = *(padded_starts *)context;
    const size_t size = self.g_.out_size[0] * self.g_.out_size[1];
    conv_window window(self.g_, image * size);
    for (size_t p = image * size; p < (image + 1) * size; ++p, window.next())
        if (window.taps_inside() < self.g_.taps)
            self.means_[p] = window.mean(self.x_->scales, self.group_);
}

void padded_starts::begin_group(size_t group, const packed_matrix &w, size_t threads) {
    const size_t words = (g_.k + 63) / 64;
    group_ = group;
    meshd_parallel(g_.batch, threads, fill_means, this);
    for (size_t tap = 0; tap < g_.taps; ++tap)
        for (size_t n = 0; n < filters_; ++n) {
            const int32_t ones =
                ones_in(w.words + n * words, tap * g_.tap_channels, g_.tap_channels);
            signs_[tap * filters_ + n] = 2 * ones - (int32_t)g_.tap_channels;
        }
    std::vector<int32_t> sums(filters_);
    float *to = lacking_.data();
    for (const tap_range &y : y_classes_.ranges)
        for (const tap_range &x : x_classes_.ranges) {
            sums.assign(filters_, 0);
            for (size_t tap = 0; tap < g_.taps; ++tap) {
                if (y.holds(tap / g_.kernel[1]) && x.holds(tap % g_.kernel[1])) continue;
                for (size_t n = 0; n < filters_; ++n) sums[n] += signs_[tap * filters_ + n];
            }
            for (size_t n = 0; n < filters_; ++n) *to++ = w.scales[n] * (float)sums[n];
        }
}

void padded_starts::add(size_t row, size_t rows, size_t column, size_t columns, float *to,
                        size_t stride) const {
    size_t x = row % g_.out_size[1], y = row / g_.out_size[1] % g_.out_size[0];
    for (size_t r = 0; r < rows; ++r, to += stride) {
        const size_t number =
            y_classes_.of_position[y] * x_classes_.ranges.size() + x_classes_.of_position[x];
        if (number > 0) {
            const float alpha = means_[row + r], *lacking = &lacking_[number * filters_ + column];
            for (size_t c = 0; c < columns; ++c) to[c] += alpha * lacking[c];
        }
        if (++x < g_.out_size[1]) continue;
        x = 0;
        if (++y == g_.out_size[0]) y = 0;
    }
}
