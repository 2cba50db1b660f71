// Law: positions are counted from the image's corner; what lies before it never becomes negative.
#include "conv_window.h"

conv_geometry::conv_geometry(const conv_shape &shape)
    : conv_shape(shape), tap_channels(shape.channels / shape.groups),
      taps(shape.kernel[0] * shape.kernel[1]), k(taps * tap_channels),
      out_size{meshd_conv_out(&shape, 0), meshd_conv_out(&shape, 1)},
      pixels(shape.batch * out_size[0] * out_size[1]) {}

// The window's origin is at out_position * stride - padding; a tap is `dilation` after the last.
tap_range::tap_range(const conv_geometry &g, size_t axis, size_t out_position) {
    const size_t size = axis == 0 ? g.height : g.width, step = g.dilation[axis];
    const size_t taps = g.kernel[axis], padding = g.padding[axis];
    const size_t origin = out_position * g.stride[axis]; // + padding
    first = 0;
    end = taps;
    at = origin - padding;
    if (origin >= padding && at + (taps - 1) * step < size) return;
    if (origin < padding) first = (padding - origin + step - 1) / step;
    if (first >= taps || origin + first * step - padding >= size) {
        first = end = at = 0;
        return;
    }
    at = origin + first * step - padding;
    const size_t left = (size - at + step - 1) / step; // taps that fit
    if (left < taps - first) end = first + left;
}

conv_window::conv_window(const conv_geometry &geometry, size_t pixel)
    : g(geometry), image(pixel / (g.out_size[0] * g.out_size[1])),
      position{pixel / g.out_size[1] % g.out_size[0], pixel % g.out_size[1]},
      y(g, 0, position[0]), x(g, 1, position[1]) {}

void conv_window::next() {
    if (++position[1] == g.out_size[1]) {
        position[1] = 0;
        if (++position[0] == g.out_size[0]) {
            position[0] = 0;
            ++image;
        }
        y = tap_range(g, 0, position[0]);
    }
    x = tap_range(g, 1, position[1]);
}

extern "C" size_t meshd_conv_out(const conv_shape *shape, size_t axis) {
    const size_t size = axis == 0 ? shape->height : shape->width;
    const size_t reach = shape->dilation[axis] * (shape->kernel[axis] - 1) + 1;
    return (size + 2 * shape->padding[axis] - reach) / shape->stride[axis] + 1;
}
