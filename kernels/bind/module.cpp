// The extension module meshd.bits._kernels. Law: this folder is the only place that knows Python. Each
// function checks its arguments, lets other Python threads run, and calls the table in use; outputs
// are the caller's arrays. What a function computes stands in include/.
#include <cstdlib>

#include "meshd_kernels.h"
#include "packed.h"

namespace {

std::string runnable_isas() {
    std::string names;
    for (size_t i = 0; meshd_list_isa(i); ++i)
        names += std::string(i ? ", " : "") + meshd_list_isa(i);
    return names;
}

void use_isa(const std::string &name) {
    const int status = meshd_use_isa(name.c_str());
    if (status == MESHD_OK) return;
    const char *why = status == MESHD_UNKNOWN_ISA ? "is not in this build"
                                                  : "does not run on this machine";
    value_error("instruction set '" + name + "' " + why + ": choose one of " + runnable_isas());
}

} // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "Native kernels over packed bits; use them through meshd.bits.ops.";
    const char *forced = std::getenv("MESHD_FORCE_ISA");
    if (forced && *forced) {
        try {
            use_isa(forced);
        } catch (const nb::builtin_exception &e) {
            value_error(std::string("MESHD_FORCE_ISA: ") + e.what());
        }
    }
    bind_stream(m);
    bind_votes(m);
    bind_product(m);
    bind_backward(m);
    bind_conv(m);
    m.def("isa", [] { return meshd_kernels()->isa; });
    m.def("list_isas", [] {
        nb::list names;
        for (size_t i = 0; meshd_list_isa(i); ++i) names.append(meshd_list_isa(i));
        return names;
    });
    m.def("use_isa", [](nb::str name) { use_isa(name.c_str()); });
}
