/* Where the taps of a convolution's windows lie in the image. */
#ifndef MESHD_MACRO_CONV_WINDOW_H
#define MESHD_MACRO_CONV_WINDOW_H

#include "meshd_conv.h"

struct conv_geometry : conv_shape {
    size_t tap_channels; /* C: of a group, in one tap */
    size_t taps, k;
    size_t out_size[2];
    size_t pixels; /* of all output images: windows of one group */

    explicit conv_geometry(const conv_shape &shape);
    bool is_padded() const { return padding[0] + padding[1] > 0; }
    size_t images_rows() const { return batch * height * width * groups; } /* packed rows of x */
};

/* One axis of a window: the taps first .. end lie in the image, the first of them at `at`. */
struct tap_range {
    size_t first, end, at;

    tap_range(const conv_geometry &g, size_t axis, size_t out_position);
    size_t count() const { return end - first; }
    bool holds(size_t tap) const { return first <= tap && tap < end; }
};

/* The window of one output pixel. */
struct conv_window {
    const conv_geometry &g;
    size_t image, position[2];
    tap_range y, x;

    conv_window(const conv_geometry &geometry, size_t pixel);
    void next();
    size_t taps_inside() const { return y.count() * x.count(); }

    /* see(tap, row of x) for each tap inside the image, ascending. */
    template <class See> void each_inside(size_t group, See see) const {
        for (size_t ty = y.first; ty < y.end; ++ty) {
            const size_t line = image * g.height + y.at + (ty - y.first) * g.dilation[0];
            size_t row = (line * g.width + x.at) * g.groups + group;
            for (size_t tx = x.first; tx < x.end; ++tx, row += g.dilation[1] * g.groups)
                see(ty * g.kernel[1] + tx, row);
        }
    }
    /* Its scale where beta_a = k: from the pixels' means, one a row of x. */
    float mean(const float *means, size_t group) const {
        float sum = 0.0f;
        each_inside(group, [&](size_t, size_t row) { sum += means[row]; });
        return taps_inside() ? sum / (float)taps_inside() : 0.0f;
    }
};

#endif
