// Counts to gradients, and gradients to latents that are binarized in the same pass: one reading and
// one writing of latents and moments, four elements at a time.
#include "pack_row.h"
#include "scalar/votes.h"
#include "stream.h"

namespace {

// G of struct ring_votes, group after group, from the first element to the last.
class gradients {
  public:
    explicit gradients(const ring_votes *votes)
        : votes_(*votes), voters_(vdupq_n_s32((int32_t)votes->members)),
          divisor_(vcvtq_f32_s32(voters_)), segment_end_(votes->gamma) {}

    float32x4_t take(size_t i, size_t lanes) {
        const int32x4_t count = counts(i, lanes);
        const int32x4_t balance = vsubq_s32(vaddq_s32(count, count), voters_);
        return vmulq_f32(scales(i, lanes), vdivq_f32(vcvtq_f32_s32(balance), divisor_));
    }

  private:
    int32x4_t counts(size_t i, size_t lanes) const {
        uint32x4_t count = vdupq_n_u32(0);
        for (size_t p = 0; p < votes_.count; ++p) {
            const uint32x4_t set = lanes_of(bits_at(votes_.planes + p * votes_.stride, i, lanes));
            count = vorrq_u32(count, vandq_u32(set, vdupq_n_u32((uint32_t)1 << p)));
        }
        return vreinterpretq_s32_u32(count);
    }

    // A group may reach over the end of a segment, or of several.
    float32x4_t scales(size_t i, size_t lanes) {
        while (i >= segment_end_) next_segment();
        float32x4_t scale = vdupq_n_f32(*votes_.scale);
        while (i + lanes > segment_end_) {
            const uint32x4_t before = first_lanes(segment_end_ - i);
            next_segment();
            scale = vbslq_f32(before, scale, vdupq_n_f32(*votes_.scale));
        }
        return scale;
    }

    void next_segment() {
        ++votes_.scale;
        segment_end_ += votes_.gamma;
    }

    ring_votes votes_; // .scale: that of the segment that ends at segment_end_
    int32x4_t voters_;
    float32x4_t divisor_;
    size_t segment_end_;
};

struct sgd {
    float32x4_t momentum, rate;
    float *velocity;

    explicit sgd(const sgd_step *step, float *v)
        : momentum(vdupq_n_f32(step->momentum)), rate(vdupq_n_f32(step->rate)), velocity(v) {}

    // What is subtracted from the latents i .. i+lanes-1.
    float32x4_t move(size_t i, size_t lanes, float32x4_t g) const {
        const float32x4_t v = vaddq_f32(vmulq_f32(load(velocity + i, lanes), momentum), g);
        store(velocity + i, lanes, v);
        return vmulq_f32(v, rate);
    }
};

struct adam {
    float32x4_t keep_1, add_1, keep_2, add_2, second_scale, epsilon, rate;
    float *first, *second;

    explicit adam(const adam_step *step, float *m, float *v)
        : keep_1(vdupq_n_f32(step->keep_1)), add_1(vdupq_n_f32(step->add_1)),
          keep_2(vdupq_n_f32(step->keep_2)), add_2(vdupq_n_f32(step->add_2)),
          second_scale(vdupq_n_f32(step->second_scale)), epsilon(vdupq_n_f32(step->epsilon)),
          rate(vdupq_n_f32(step->rate)), first(m), second(v) {}

    float32x4_t move(size_t i, size_t lanes, float32x4_t g) const {
        const float32x4_t m =
            vaddq_f32(vmulq_f32(load(first + i, lanes), keep_1), vmulq_f32(g, add_1));
        store(first + i, lanes, m);
        const float32x4_t square = vmulq_f32(vmulq_f32(g, g), add_2);
        const float32x4_t v = vaddq_f32(vmulq_f32(load(second + i, lanes), keep_2), square);
        store(second + i, lanes, v);
        const float32x4_t root = vsqrtq_f32(vmulq_f32(v, second_scale));
        return vmulq_f32(vdivq_f32(m, vaddq_f32(root, epsilon)), rate);
    }
};

template <class Rule> int update(const ring_votes *votes, Rule rule, const latent_matrix *m) {
    const size_t k = m->k, n = m->rows * k;
    if (some_count_is_larger(votes, n)) return MESHD_OVERFLOW;
    gradients gradient(votes);
    const float32x4_t cut = vdupq_n_f32(m->cut), one = vdupq_n_f32(1.0f);
    float *latents = m->latents;
    auto moved = [&](size_t i, size_t lanes) {
        const float32x4_t old = load(latents + i, lanes);
        const uint32x4_t passes = vandq_u32(vcleq_f32(vabsq_f32(old), cut), vreinterpretq_u32_f32(one));
        const float32x4_t g = vmulq_f32(gradient.take(i, lanes), vreinterpretq_f32_u32(passes));
        const float32x4_t x = vsubq_f32(old, rule.move(i, lanes, g));
        store(latents + i, lanes, x);
        return first_of(lanes, x);
    };
    if (!m->words) {
        each_group(n, n, [&](size_t i, size_t lanes, size_t) { moved(i, lanes); });
        return MESHD_OK;
    }
    for (size_t r = 0; r < m->rows; ++r)
        pack_row<is_set_signed>(latents + r * k, k, m->beta, m->words + r * ((k + 63) / 64),
                                m->scales + r * ((k + m->beta - 1) / m->beta),
                                [&](size_t i, size_t lanes) { return moved(r * k + i, lanes); });
    return MESHD_OK;
}

} // namespace

extern "C" int meshd_apply_votes_f32_neon(const uint64_t *planes, size_t count, size_t members,
                                          const float *scale, size_t n, size_t gamma, float *out) {
    const ring_votes votes = {planes, count, (n + 63) / 64, members, scale, gamma};
    if (some_count_is_larger(&votes, n)) return MESHD_OVERFLOW;
    gradients gradient(&votes);
    each_group(n, n, [&](size_t i, size_t lanes, size_t) {
        store(out + i, lanes, gradient.take(i, lanes));
    });
    return MESHD_OK;
}

extern "C" int meshd_votes_sgd_f32_neon(const ring_votes *votes, const sgd_step *step,
                                        float *velocity, const latent_matrix *m) {
    return update(votes, sgd(step, velocity), m);
}

extern "C" int meshd_votes_adam_f32_neon(const ring_votes *votes, const adam_step *step,
                                         float *first, float *second, const latent_matrix *m) {
    return update(votes, adam(step, first, second), m);
}
