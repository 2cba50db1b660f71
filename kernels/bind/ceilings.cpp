// The extension module meshd.bench._ceilings: bench/meshd_ceilings.h for Python. Loops are timed here,
// by the steady clock, so that no call of Python's is inside.
#include <chrono>

#include "arguments.h"
#include "meshd_ceilings.h"

namespace {

template <class F> double seconds(F body) {
    nb::gil_scoped_release others_run;
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

const meshd_plain &plain_of(nb::str isa_arg) {
    const std::string isa = isa_arg.c_str();
    std::string known;
    for (size_t i = 0; const meshd_plain *set = meshd_plain_at(i); ++i) {
        if (isa == set->isa) return *set;
        known += std::string(i ? ", " : "") + set->isa;
    }
    value_error("isa: '" + isa + "' does not run here: choose one of " + known);
}

nb::list ceilings() {
    nb::list found;
    for (size_t i = 0; const meshd_ceiling *c = meshd_ceiling_at(i); ++i)
        found.append(nb::make_tuple(c->name, c->isa, c->work));
    return found;
}

double run(nb::str name_arg, nb::handle rounds_arg) {
    const std::string name = name_arg.c_str();
    const uint64_t rounds = bounded(rounds_arg, 1, INT64_MAX, "rounds");
    for (size_t i = 0; const meshd_ceiling *c = meshd_ceiling_at(i); ++i)
        if (name == c->name) return seconds([c, rounds] { c->run(rounds); });
    value_error("name: no ceiling '" + name + "' runs here");
}

nb::list isas() {
    nb::list found;
    for (size_t i = 0; const meshd_plain *set = meshd_plain_at(i); ++i) found.append(set->isa);
    return found;
}

void multiply(nb::str isa, nb::handle a_arg, nb::handle b_arg, nb::handle out_arg) {
    const meshd_plain &plain = plain_of(isa);
    const array<const float, 2> a(a_arg, "a");
    const array<const float, 2> b(b_arg, "b");
    const array<float, 2> out(out_arg, "out");
    const size_t m = a.shape(0), k = a.shape(1), n = b.shape(1);
    b.require_shape({k, n});
    out.require_shape({m, n});
    nb::gil_scoped_release others_run;
    plain.multiply(a.data(), b.data(), out.data(), m, k, n);
}

double read_all(nb::str isa, nb::handle x_arg) {
    const meshd_plain &plain = plain_of(isa);
    const array<const float, 1> x(x_arg, "x");
    nb::gil_scoped_release others_run;
    return plain.read(x.data(), x.shape(0));
}

void rescale(nb::str isa, nb::handle y_arg, nb::handle factor_arg) {
    const meshd_plain &plain = plain_of(isa);
    const array<float, 1> y(y_arg, "y");
    const float factor = (float)number(factor_arg, "factor");
    nb::gil_scoped_release others_run;
    plain.rescale(y.data(), factor, y.shape(0));
}

void update(nb::str isa, nb::handle x_arg, nb::handle y_arg, nb::handle factor_arg) {
    const meshd_plain &plain = plain_of(isa);
    const array<const float, 1> x(x_arg, "x");
    const array<float, 1> y(y_arg, "y");
    const float factor = (float)number(factor_arg, "factor");
    y.require_shape({x.shape(0)});
    nb::gil_scoped_release others_run;
    plain.update(x.data(), y.data(), factor, x.shape(0));
}

} // namespace

NB_MODULE(_ceilings, m) {
    m.doc() = "Limits of this processor and a plain float product; use through meshd.bench.ceilings.";
    m.def("ceilings", ceilings);
    m.def("run", run);
    m.def("isas", isas);
    m.def("multiply", multiply);
    m.def("read", read_all);
    m.def("rescale", rescale);
    m.def("update", update);
}
