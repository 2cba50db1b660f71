// Every slot of stream_kernels but those that take votes: votes.cpp.
#include "trial.h"
#include "votes.h"

namespace selftest {

namespace {

using pack_slot = decltype(&stream_kernels::pack_signed);
using unpack_slot = decltype(&stream_kernels::unpack_signed);

template <pack_slot slot> void pack(trial &t) {
    for (size_t k : sizes)
        each_beta(k, [&](size_t beta) {
            const size_t rows = k % 3 + 1, words = rows * words_of(k);
            const size_t segments = rows * segments_of(k, beta);
            t.begin("rows=%zu k=%zu beta=%zu", rows, k, beta);
            const array<float> x = t.floats(rows * k);
            array<uint64_t> got = t.output<uint64_t>(words), wanted = got;
            array<float> got_scales = t.output<float>(segments), wanted_scales = got_scales;
            (t.tested.stream.*slot)(x.data(), rows, k, beta, got.data(), got_scales.data());
            (t.scalar.stream.*slot)(x.data(), rows, k, beta, wanted.data(), wanted_scales.data());
            t.same("words", got, wanted);
            t.same("scales", got_scales, wanted_scales);
        });
}

template <unpack_slot slot> void unpack(trial &t) {
    for (size_t k : sizes)
        each_beta(k, [&](size_t beta) {
            const size_t rows = k % 3 + 1;
            t.begin("rows=%zu k=%zu beta=%zu", rows, k, beta);
            const array<uint64_t> words = t.packed(rows, k);
            const array<float> scales = t.floats(rows * segments_of(k, beta));
            const packed_matrix m = {words.data(), scales.data(), rows, beta};
            array<float> got = t.output<float>(rows * k), wanted = got;
            (t.tested.stream.*slot)(&m, k, got.data());
            (t.scalar.stream.*slot)(&m, k, wanted.data());
            t.same("out", got, wanted);
        });
}

void carry_binarize(trial &t) {
    for (size_t n : sizes)
        each_beta(n, [&](size_t gamma) {
            t.begin("n=%zu gamma=%zu", n, gamma);
            const array<float> grad = t.floats(n);
            const float weight = (float)(t.below(1000) + 1) * 0.003f;
            array<float> got = t.floats(n), wanted = got;
            array<uint64_t> bits = t.output<uint64_t>(words_of(n)), wanted_bits = bits;
            array<float> means = t.output<float>(segments_of(n, gamma)), wanted_means = means;
            t.tested.stream.carry_binarize(grad.data(), got.data(), n, weight, gamma, bits.data(),
                                           means.data());
            t.scalar.stream.carry_binarize(grad.data(), wanted.data(), n, weight, gamma,
                                           wanted_bits.data(), wanted_means.data());
            t.same("carried", got, wanted);
            t.same("bits", bits, wanted_bits);
            t.same("means", means, wanted_means);
        });
}

void carry_settle(trial &t) {
    for (size_t n : sizes)
        each_beta(n, [&](size_t gamma) {
            t.begin("n=%zu gamma=%zu", n, gamma);
            const array<uint64_t> bits = t.packed(1, n);
            const array<float> scale = t.magnitudes(segments_of(n, gamma));
            array<float> got = t.floats(n), wanted = got;
            t.tested.stream.carry_settle(got.data(), bits.data(), scale.data(), n, gamma);
            t.scalar.stream.carry_settle(wanted.data(), bits.data(), scale.data(), n, gamma);
            t.same("carried", got, wanted);
        });
}

void within(trial &t) {
    for (size_t k : sizes) {
        const size_t rows = k % 3 + 1;
        t.begin("rows=%zu k=%zu", rows, k);
        const array<float> x = t.floats(rows * k), cut = t.magnitudes(1);
        array<uint64_t> got = t.output<uint64_t>(rows * words_of(k)), wanted = got;
        t.tested.stream.within(x.data(), rows, k, cut[0], got.data());
        t.scalar.stream.within(x.data(), rows, k, cut[0], wanted.data());
        t.same("words", got, wanted);
    }
}

void segment_means(trial &t) {
    for (size_t k : sizes)
        each_beta(k, [&](size_t beta) {
            const size_t rows = k % 3 + 1;
            t.begin("rows=%zu k=%zu beta=%zu", rows, k, beta);
            const array<float> x = t.floats(rows * k);
            array<float> got = t.output<float>(rows * segments_of(k, beta)), wanted = got;
            t.tested.stream.segment_means(x.data(), rows, k, beta, got.data());
            t.scalar.stream.segment_means(x.data(), rows, k, beta, wanted.data());
            t.same("means", got, wanted);
        });
}

void feedback_binarize(trial &t) {
    for (size_t n : sizes)
        each_beta(n, [&](size_t gamma) {
            t.begin("n=%zu gamma=%zu", n, gamma);
            const array<float> grad = t.floats(n), scale = t.magnitudes(segments_of(n, gamma));
            const float weight = (float)(t.below(1000) + 1) * 0.003f;
            array<float> got = t.floats(n), wanted = got;
            array<uint64_t> bits = t.output<uint64_t>(words_of(n)), wanted_bits = bits;
            array<float> means = t.output<float>(segments_of(n, gamma)), wanted_means = means;
            t.tested.stream.feedback_binarize(grad.data(), got.data(), n, weight, gamma,
                                              scale.data(), bits.data(), means.data());
            t.scalar.stream.feedback_binarize(grad.data(), wanted.data(), n, weight, gamma,
                                              scale.data(), wanted_bits.data(),
                                              wanted_means.data());
            t.same("carried", got, wanted);
            t.same("bits", bits, wanted_bits);
            t.same("means", means, wanted_means);
        });
}

// Every pair of small numbers of words and planes. Planes of random counters overflow often: the
// status is compared, and the sums modulo 2^count.
template <class Body> void each_plane_shape(Body body) {
    for (size_t words : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33})
        for (size_t count : {0, 1, 2, 3, 4, 5, 8, 16}) body(words, count);
}

// Counters of up to 2^kept - 1, so that some trials overflow and some do not.
array<uint64_t> counters(trial &t, size_t count, size_t words) {
    array<uint64_t> planes = t.packed(count, 64 * words);
    const size_t kept = t.below(count + 1);
    for (size_t i = kept * words; i < planes.size(); ++i) planes[i] = 0;
    return planes;
}

void planes_add(trial &t) {
    each_plane_shape([&](size_t words, size_t count) {
        t.begin("words=%zu count=%zu", words, count);
        const array<uint64_t> bits = t.packed(1, 64 * words);
        array<uint64_t> got = counters(t, count, words), wanted = got;
        t.same("status", t.tested.stream.planes_add(got.data(), count, words, bits.data()),
               t.scalar.stream.planes_add(wanted.data(), count, words, bits.data()));
        t.same("planes", got, wanted);
    });
}

void planes_add_many(trial &t) {
    each_plane_shape([&](size_t words, size_t count) {
        for (size_t voters : {0, 1, 2, 7, 8, 9, 17}) {
            t.begin("words=%zu count=%zu voters=%zu", words, count, voters);
            const array<uint64_t> bits = t.packed(voters, 64 * words);
            array<uint64_t> got = counters(t, count, words), wanted = got;
            t.same("status",
                   t.tested.stream.planes_add_many(got.data(), count, words, bits.data(), voters),
                   t.scalar.stream.planes_add_many(wanted.data(), count, words, bits.data(),
                                                   voters));
            t.same("planes", got, wanted);
        }
    });
}

void planes_sum(trial &t) {
    each_plane_shape([&](size_t words, size_t count) {
        for (size_t others : {0, 1, 2, 3, 5, 16}) {
            t.begin("words=%zu count=%zu others=%zu", words, count, others);
            const array<uint64_t> other = counters(t, others, words);
            array<uint64_t> got = counters(t, count, words), wanted = got;
            t.same("status",
                   t.tested.stream.planes_sum(got.data(), count, words, other.data(), others),
                   t.scalar.stream.planes_sum(wanted.data(), count, words, other.data(), others));
            t.same("planes", got, wanted);
        }
    });
}

constexpr check checks[] = {
    {"stream.pack_signed", pack<&stream_kernels::pack_signed>},
    {"stream.pack_unipolar", pack<&stream_kernels::pack_unipolar>},
    {"stream.within", within},
    {"stream.segment_means", segment_means},
    {"stream.unpack_signed", unpack<&stream_kernels::unpack_signed>},
    {"stream.unpack_unipolar", unpack<&stream_kernels::unpack_unipolar>},
    {"stream.carry_binarize", carry_binarize},
    {"stream.carry_settle", carry_settle},
    {"stream.feedback_binarize", feedback_binarize},
    {"stream.planes_add", planes_add},
    {"stream.planes_add_many", planes_add_many},
    {"stream.planes_sum", planes_sum},
    {"stream.apply_votes", apply_votes},
    {"stream.votes_sgd", votes_sgd},
    {"stream.votes_adam", votes_adam},
};
constexpr size_t count = sizeof checks / sizeof checks[0];
static_assert(count * sizeof(void (*)()) == sizeof(stream_kernels),
              "every slot of stream_kernels needs one check here");

} // namespace

checks_of_a_topic stream_checks() { return {checks, count}; }

} // namespace selftest
