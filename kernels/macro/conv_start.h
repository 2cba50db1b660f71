/* What the sums of padded windows of one segment lack in signed coding: alpha_a * (alpha_w * S),
 * include/meshd_conv.h. Windows that lack the same taps share the vector alpha_w * S. */
#ifndef MESHD_MACRO_CONV_START_H
#define MESHD_MACRO_CONV_START_H

#include <new>
#include <vector>

#include "conv_window.h"

/* One axis: positions of the output by which taps lie in the image. Class 0 lacks none. */
struct padding_classes {
    std::vector<uint32_t> of_position;
    std::vector<tap_range> ranges; /* of each class */

    padding_classes(const conv_geometry &g, size_t axis);
};

class padded_starts {
  public:
    /* For one group of w's filters. Throws std::bad_alloc. */
    padded_starts(const conv_geometry &g, const packed_matrix *x, size_t filters);

    /* Before the products of a group: its filters. */
    void begin_group(size_t group, const packed_matrix &filters, size_t threads);

    /* add_to_start of a row_source. */
    void add(size_t row, size_t rows, size_t column, size_t columns, float *to,
             size_t stride) const;

  private:
    const conv_geometry &g_;
    const packed_matrix *x_;
    size_t filters_, group_ = 0;
    padding_classes y_classes_, x_classes_;
    std::vector<int32_t> signs_; /* (taps, filters): sum of a filter's signs in a tap */
    std::vector<float> lacking_; /* (classes of y, classes of x, filters): alpha_w * S */
    std::vector<float> means_;   /* (pixels): alpha_a of padded windows */

    static void fill_means(void *self, size_t image);
};

#endif
