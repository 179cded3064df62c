// The kernel's clock pages ([vvar] and its kind), which translated vDSO code reads in place.
#ifndef DUNEBOX_RUNTIME_JIT_CLOCK_PAGES_H_
#define DUNEBOX_RUNTIME_JIT_CLOCK_PAGES_H_

#include "absl/status/status.h"

namespace dunebox::runtime {

// Gives them the protection key that guest code may read.
absl::Status OpenClockPages();

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_CLOCK_PAGES_H_
