// Every slot of stream_kernels.
#include "trial.h"

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

// Planes of random counters overflow often: the status is compared, and the sums modulo 2^count.
void planes_add(trial &t) {
    for (size_t words : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33})
        for (size_t count : {0, 1, 2, 3, 4, 5, 8, 16}) {
            t.begin("words=%zu count=%zu", words, count);
            const array<uint64_t> bits = t.packed(1, 64 * words);
            array<uint64_t> got = t.packed(count, 64 * words);
            for (size_t i = 0; t.below(2) && i < got.size(); ++i) got[i] &= ~bits[i % words];
            array<uint64_t> wanted = got;
            t.same("status",
                   t.tested.stream.planes_add(got.data(), count, words, bits.data()),
                   t.scalar.stream.planes_add(wanted.data(), count, words, bits.data()));
            t.same("planes", got, wanted);
        }
}

// Counters up to members are applied; one trial of four has others, which must be refused.
void apply_votes(trial &t) {
    for (size_t n : sizes)
        for (size_t members : {1, 2, 3, 7, 8, 20, 255, 65535})
            each_beta(n, [&](size_t gamma) {
                t.begin("n=%zu members=%zu gamma=%zu", n, members, gamma);
                size_t count = 0;
                while (members >> count) ++count;
                const size_t words = words_of(n), most = t.below(4) ? members + 1 : 2 * members;
                array<uint64_t> planes = t.packed(count, n);
                for (size_t i = 0; i < n; ++i) {
                    const size_t votes = t.below(most);
                    const uint64_t at = (uint64_t)1 << i % 64;
                    for (size_t p = 0; p < count; ++p)
                        if (votes >> p & 1)
                            planes[p * words + i / 64] |= at;
                        else
                            planes[p * words + i / 64] &= ~at;
                }
                const array<float> scale = t.magnitudes(segments_of(n, gamma));
                array<float> got = t.output<float>(n), wanted = got;
                const int status = t.tested.stream.apply_votes(planes.data(), count, members,
                                                               scale.data(), n, gamma, got.data());
                t.same("status", status,
                       t.scalar.stream.apply_votes(planes.data(), count, members, scale.data(), n,
                                                   gamma, wanted.data()));
                if (status == MESHD_OK) t.same("out", got, wanted);
            });
}

constexpr check checks[] = {
    {"stream.pack_signed", pack<&stream_kernels::pack_signed>},
    {"stream.pack_unipolar", pack<&stream_kernels::pack_unipolar>},
    {"stream.unpack_signed", unpack<&stream_kernels::unpack_signed>},
    {"stream.unpack_unipolar", unpack<&stream_kernels::unpack_unipolar>},
    {"stream.carry_binarize", carry_binarize},
    {"stream.carry_settle", carry_settle},
    {"stream.planes_add", planes_add},
    {"stream.apply_votes", apply_votes},
};
constexpr size_t count = sizeof checks / sizeof checks[0];
static_assert(count * sizeof(void (*)()) <= sizeof(stream_kernels),
              "a slot of stream_kernels has one check here");

} // namespace

checks_of_a_topic stream_checks() { return {checks, count}; }

} // namespace selftest
