// What the ring decided becomes a gradient, and the gradient moves the latents: the definition of
// both updates, one IEEE operation after the other, the same on every machine.
#include <math.h>

#include "stream.h"
#include "bits.h"
#include "votes.h"

namespace {

// G of struct ring_votes.
float gradient(const ring_votes *votes, size_t i) {
    int32_t count = 0;
    for (size_t p = 0; p < votes->count; ++p)
        count |= (int32_t)bit_at(votes->planes + p * votes->stride, i) << p;
    const int32_t voters = (int32_t)votes->members;
    return votes->scale[i / votes->gamma] * ((float)(2 * count - voters) / (float)voters);
}

// g of struct latent_matrix.
float cut_gradient(const ring_votes *votes, const latent_matrix *m, size_t i) {
    const bool passes = __builtin_fabsf(m->latents[i]) <= m->cut;
    return gradient(votes, i) * (passes ? 1.0f : 0.0f);
}

void binarize(const latent_matrix *m) {
    if (m->words)
        meshd_pack_signed_f32_scalar(m->latents, m->rows, m->k, m->beta, m->words, m->scales);
}

} // namespace

extern "C" int meshd_apply_votes_f32_scalar(const uint64_t *planes, size_t count, size_t members,
                                            const float *scale, size_t n, size_t gamma,
                                            float *out) {
    const ring_votes votes = {planes, count, (n + 63) / 64, members, scale, gamma};
    if (some_count_is_larger(&votes, n)) return MESHD_OVERFLOW;
    for (size_t i = 0; i < n; ++i) out[i] = gradient(&votes, i);
    return MESHD_OK;
}

extern "C" int meshd_votes_sgd_f32_scalar(const ring_votes *votes, const sgd_step *step,
                                          float *velocity, const latent_matrix *m) {
    const size_t n = m->rows * m->k;
    if (some_count_is_larger(votes, n)) return MESHD_OVERFLOW;
    for (size_t i = 0; i < n; ++i) {
        velocity[i] = velocity[i] * step->momentum + cut_gradient(votes, m, i);
        m->latents[i] = m->latents[i] - velocity[i] * step->rate;
    }
    binarize(m);
    return MESHD_OK;
}

extern "C" int meshd_votes_adam_f32_scalar(const ring_votes *votes, const adam_step *step,
                                           float *first, float *second, const latent_matrix *m) {
    const size_t n = m->rows * m->k;
    if (some_count_is_larger(votes, n)) return MESHD_OVERFLOW;
    for (size_t i = 0; i < n; ++i) {
        const float g = cut_gradient(votes, m, i);
        first[i] = first[i] * step->keep_1 + g * step->add_1;
        second[i] = second[i] * step->keep_2 + g * g * step->add_2;
        const float d = sqrtf(second[i] * step->second_scale) + step->epsilon;
        m->latents[i] = m->latents[i] - first[i] / d * step->rate;
    }
    binarize(m);
    return MESHD_OK;
}
