#include "sandbox/plugin/guest.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/worker/remote_guest.h"

namespace dunebox::plugin {

absl::StatusOr<std::unique_ptr<Guest>> MakeGuest(const Policy& policy, std::uint64_t random) {
  if (policy.demand == Demand::kTwoWalls) return worker::RemoteGuest::Create(policy, random);
  return Instance::Create(policy, random);
}

}  // namespace dunebox::plugin
