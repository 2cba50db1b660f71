// Bit planes, and what the votes in them do to latents: include/meshd_stream.h for Python.
#include <cmath>

#include "meshd_kernels.h"
#include "packed.h"

namespace {

// Lets other Python threads run while a kernel counts into `count` planes.
template <class Kernel> void count_votes(size_t count, Kernel kernel) {
    int status;
    {
        const kernel_scope others_run;
        status = kernel();
    }
    if (status == MESHD_OVERFLOW)
        value_error("planes: a counter of " + std::to_string(count) +
                    " planes had no room for one more vote; its contents are now void");
}

void planes_add(nb::handle planes_arg, nb::handle bits_arg) {
    const array<uint64_t, 2> planes(planes_arg, "planes");
    const array<const uint64_t, 1> bits(bits_arg, "bits");
    const size_t count = planes.shape(0), words = planes.shape(1);
    bits.require_shape({words});
    count_votes(count, [&] {
        return meshd_kernels()->stream.planes_add(planes.data(), count, words, bits.data());
    });
}

void planes_add_many(nb::handle planes_arg, nb::handle bits_arg) {
    const array<uint64_t, 2> planes(planes_arg, "planes");
    const array<const uint64_t, 2> bits(bits_arg, "bits");
    const size_t count = planes.shape(0), words = planes.shape(1), voters = bits.shape(0);
    bits.require_shape({voters, words});
    count_votes(count, [&] {
        return meshd_kernels()->stream.planes_add_many(planes.data(), count, words, bits.data(),
                                                       voters);
    });
}

void planes_sum(nb::handle planes_arg, nb::handle other_arg) {
    const array<uint64_t, 2> planes(planes_arg, "planes");
    const array<const uint64_t, 2> other(other_arg, "other");
    const size_t count = planes.shape(0), words = planes.shape(1), given = other.shape(0);
    other.require_shape({given, words});
    count_votes(count, [&] {
        return meshd_kernels()->stream.planes_sum(planes.data(), count, words, other.data(), given);
    });
}

// Lets other Python threads run while a kernel reads the counts of `members` voters.
template <class Kernel> void use_votes(size_t members, Kernel kernel) {
    int status;
    {
        const kernel_scope others_run;
        status = kernel();
    }
    if (status == MESHD_OVERFLOW)
        value_error("planes: a count is larger than members = " + std::to_string(members));
}

// The votes on n elements, their arrays kept alive while they are used.
struct votes_argument {
    rows_apart<const uint64_t> planes;
    array<const float, 1> scale;
    ring_votes votes;

    votes_argument(nb::handle planes_arg, nb::handle members_arg, nb::handle scale_arg,
                   nb::handle gamma_arg, size_t n)
        : planes(planes_arg, "planes"), scale(scale_arg, "scale"), votes() {
        votes.members = bounded(members_arg, 1, 65535, "members");
        votes.gamma = segment_length(gamma_arg, n, "gamma");
        while (votes.members >> votes.count) ++votes.count; // bit_length(members)
        planes.require_shape(votes.count, words_of(n));
        scale.require_shape({segments_of(n, votes.gamma)});
        votes.planes = planes.data();
        votes.stride = planes.stride();
        votes.scale = scale.data();
    }
};

void apply_votes(nb::handle planes_arg, nb::handle members_arg, nb::handle scale_arg,
                 nb::handle gamma_arg, nb::handle n_arg, nb::handle out_arg) {
    const size_t n = bounded(n_arg, 0, INT64_MAX, "n");
    const array<const uint64_t, 2> planes(planes_arg, "planes");
    const votes_argument given(planes_arg, members_arg, scale_arg, gamma_arg, n);
    const array<float, 1> out(out_arg, "out");
    out.require_shape({n});
    const ring_votes &votes = given.votes;
    use_votes(votes.members, [&] {
        return meshd_kernels()->stream.apply_votes(planes.data(), votes.count, votes.members,
                                                   votes.scale, n, votes.gamma, out.data());
    });
}

float rounded(nb::handle h, const char *name) { return (float)number(h, name); }

// Latents of a slice that is binarized, and where its bits and scales go; cut None: no cut.
struct binary_latents {
    array<float, 2> latents, scales;
    array<uint64_t, 2> words;
    latent_matrix matrix;

    binary_latents(nb::handle latents_arg, nb::handle cut, nb::handle beta, nb::handle words_arg,
                   nb::handle scales_arg)
        : latents(latents_arg, "latents"), scales(scales_arg, "out_scales"),
          words(words_arg, "out_words"), matrix() {
        const size_t rows = latents.shape(0), k = latents.shape(1);
        const size_t length = segment_length(beta, k, "beta");
        matrix = {latents.data(), rows, k, INFINITY, length, words.data(), scales.data()};
        if (!cut.is_none()) matrix.cut = rounded(cut, "cut");
        words.require_shape({rows, words_of(k)});
        scales.require_shape({rows, segments_of(k, matrix.beta)});
    }

    size_t size() const { return matrix.rows * matrix.k; }
    void require_same_shape(const array<float, 2> &moment) const {
        moment.require_shape({matrix.rows, matrix.k});
    }
    static constexpr size_t dimensions = 2;
};

// Latents that are parameters as they are: neither cut nor binarized.
struct dense_latents {
    array<float, 1> latents;
    latent_matrix matrix;

    explicit dense_latents(nb::handle latents_arg) : latents(latents_arg, "latents"), matrix() {
        matrix = {latents.data(), 1, latents.shape(0), INFINITY, 1, nullptr, nullptr};
    }

    size_t size() const { return matrix.k; }
    void require_same_shape(const array<float, 1> &moment) const {
        moment.require_shape({matrix.k});
    }
    static constexpr size_t dimensions = 1;
};

template <class Latents, class... Target>
void votes_sgd(nb::handle planes, nb::handle members, nb::handle scale, nb::handle gamma,
               nb::handle velocity_arg, nb::handle momentum, nb::handle rate, Target... target) {
    const Latents latents(target...);
    const votes_argument votes(planes, members, scale, gamma, latents.size());
    const array<float, Latents::dimensions> velocity(velocity_arg, "velocity");
    latents.require_same_shape(velocity);
    const sgd_step step = {rounded(momentum, "momentum"), rounded(rate, "rate")};
    use_votes(votes.votes.members, [&] {
        return meshd_kernels()->stream.votes_sgd(&votes.votes, &step, velocity.data(),
                                                 &latents.matrix);
    });
}

// The complements of the decays are taken in float64, as the powers in rate and second_scale are.
adam_step adam_step_of(nb::handle decay_1, nb::handle decay_2, nb::handle epsilon,
                       nb::handle second_scale, nb::handle rate) {
    const double b1 = number(decay_1, "decay_1"), b2 = number(decay_2, "decay_2");
    return {(float)b1,
            (float)(1.0 - b1),
            (float)b2,
            (float)(1.0 - b2),
            rounded(second_scale, "second_scale"),
            rounded(epsilon, "epsilon"),
            rounded(rate, "rate")};
}

template <class Latents, class... Target>
void votes_adam(nb::handle planes, nb::handle members, nb::handle scale, nb::handle gamma,
                nb::handle first_arg, nb::handle second_arg, nb::handle decay_1,
                nb::handle decay_2, nb::handle epsilon, nb::handle second_scale, nb::handle rate,
                Target... target) {
    const Latents latents(target...);
    const votes_argument votes(planes, members, scale, gamma, latents.size());
    const array<float, Latents::dimensions> first(first_arg, "first"), second(second_arg, "second");
    latents.require_same_shape(first);
    latents.require_same_shape(second);
    const adam_step step = adam_step_of(decay_1, decay_2, epsilon, second_scale, rate);
    use_votes(votes.votes.members, [&] {
        return meshd_kernels()->stream.votes_adam(&votes.votes, &step, first.data(), second.data(),
                                                  &latents.matrix);
    });
}

} // namespace

void bind_votes(nb::module_ &m) {
    using h = nb::handle;
    def(m, "planes_add", planes_add);
    def(m, "planes_add_many", planes_add_many);
    def(m, "planes_sum", planes_sum);
    def(m, "apply_votes", apply_votes);
    def(m, "votes_sgd", votes_sgd<binary_latents, h, h, h, h, h>);
    def(m, "votes_sgd_dense", votes_sgd<dense_latents, h>);
    def(m, "votes_adam", votes_adam<binary_latents, h, h, h, h, h>);
    def(m, "votes_adam_dense", votes_adam<dense_latents, h>);
}
