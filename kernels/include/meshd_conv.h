/* Two-dimensional convolutions of packed images (cross-correlations, as neural networks have them).
 * Rules that hold for every function here: meshd_layout.h; the product that they end in:
 * meshd_product.h.
 *
 * Layout. An image is NHWC. Each pixel's channels are cut into `groups` rows of C = channels /
 * groups elements, packed row by row: the packed form of the float array as (batch * height * width
 * * groups, C). A filter is a row of k = kernel[0] * kernel[1] * C elements, the channels of tap
 * (0, 0) first, then those of tap (0, 1), and so on; it sees the channels of one group, and group g
 * has the filters g * F .. (g + 1) * F, F = filters / groups.
 *
 * A window is the k elements of a group that one output pixel sees. A tap outside the image is
 * *padded*: it contributes 0 to the sum, as in a float convolution with zero padding, though no bit
 * says 0. Windows of an image are ordered by output row, column, then group.
 *
 * Scales. beta_a and beta_w each divide C (segments lie within a tap) or are k (one scale a window,
 * one a filter). With beta_a = k a window's scale is the mean of |x| over its taps inside the image,
 *     alpha = (m[t0] + m[t1] + ...) / (float)count,
 * m the mean of |x| of a pixel's C elements, ascending over those taps, from +0, each addition
 * rounded; 0 where there are none. So x comes with the scales of its pixels: segments of
 * min(beta_a, C).
 *
 * Sum. With segments within taps, out is the product of the windows and the filters, where the
 * alpha of a padded tap is 0: its terms are fma(0, alpha_w * dot, acc). A filter's scale that is
 * NaN or infinite makes it NaN, as 0 * inf does in a float convolution.
 * With beta_a = beta_w = k a window is one segment, in which a padded tap has the bits 0. They mean
 * 0 in unipolar coding. In signed coding they mean -1, and dot counts -sum(w) of those taps; S =
 * sum(w) over the padded taps gives it back, where there are any, before the product's own term:
 *     start = start + alpha_a * (alpha_w * (float)S)      each operation rounded
 *     out   = fma(alpha_a, alpha_w * (float)dot, start)   dot = (sum over the taps inside) - S */
#ifndef MESHD_CONV_H
#define MESHD_CONV_H

#include "meshd_product.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Pairs are (vertical, horizontal). All but batch, height, width and padding are at least 1; groups
 * divides channels; k < 2^31; no kernel is larger than the padded image. */
struct conv_shape {
    size_t batch, height, width, channels;
    size_t kernel[2], stride[2], padding[2], dilation[2];
    size_t groups;
};

/* Height (axis 0) and width (axis 1) of the output:
 * (size + 2 padding - dilation (kernel - 1) - 1) / stride + 1. */
size_t meshd_conv_out(const struct conv_shape *shape, size_t axis);

/* How many uint32_t the panels of w (filters, k) take, for activations cut by beta_a. */
size_t meshd_conv_panel_units(const struct product_kernels *kernels, const struct conv_shape *shape,
                              const struct packed_matrix *w, size_t beta_a,
                              enum meshd_coding coding);

/* Lays out w for convolutions with the same kernels, shape.kernel, C, groups, beta_a and coding.
 * panels: aligned to 64. */
void meshd_conv_prepare(const struct product_kernels *kernels, const struct conv_shape *shape,
                        const struct packed_matrix *w, size_t beta_a, enum meshd_coding coding,
                        size_t threads, uint32_t *panels);

/* out (batch, out height, out width, filters). x: the image's rows with beta = min(beta_a, C);
 * panels: w's, or NULL: they are made on the way; bias (filters), or NULL. Any number of threads
 * gives the same bits. MESHD_OK or MESHD_NO_MEMORY. */
int meshd_conv(const struct product_kernels *kernels, const struct conv_shape *shape,
               const struct packed_matrix *x, size_t beta_a, const struct packed_matrix *w,
               const uint32_t *panels, enum meshd_coding coding, const float *bias, size_t threads,
               float *out);

/* The windows as a packed matrix: words (windows, ceil(k / 64)), scales (windows, k / beta) with
 * beta = min(beta_a, C). A padded tap has the bits 0 and the scales 0, in both codings; with
 * beta_a = k the scales of the other taps are the window's. */
void meshd_im2col(const struct conv_shape *shape, const struct packed_matrix *x, size_t beta_a,
                  size_t threads, uint64_t *words, float *scales);

#ifdef __cplusplus
}
#endif
#endif
