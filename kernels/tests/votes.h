/* The checks of the slots of stream_kernels that take votes. */
#ifndef MESHD_TESTS_VOTES_H
#define MESHD_TESTS_VOTES_H

#include "trial.h"

namespace selftest {

void apply_votes(trial &t);
void votes_sgd(trial &t);
void votes_adam(trial &t);

} // namespace selftest

#endif
