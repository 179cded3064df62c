// Whether isolation pku works here. The kernel has to deliver signals while key 0 is shut (Linux
// 6.12), which nothing but a try tells, and the try kills the process where it fails.
#ifndef DUNEBOX_RUNTIME_JIT_KEY_PROBE_H_
#define DUNEBOX_RUNTIME_JIT_KEY_PROBE_H_

#include "absl/status/status.h"

namespace dunebox::runtime {

// Forks a child that tries.
absl::Status ProbeKeys();

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_KEY_PROBE_H_
