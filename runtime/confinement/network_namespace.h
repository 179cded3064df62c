// A network namespace begins with a loopback interface that is down; this takes it up.
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_NETWORK_NAMESPACE_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_NETWORK_NAMESPACE_H_

#include "absl/status/status.h"

namespace dunebox::confinement {

absl::Status RaiseLoopback();

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_NETWORK_NAMESPACE_H_
