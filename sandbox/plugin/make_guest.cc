#include "sandbox/plugin/guest.h"
#include "sandbox/plugin/instance.h"

namespace dunebox::plugin {

absl::StatusOr<std::unique_ptr<Guest>> MakeGuest(const Policy& policy, std::uint64_t random) {
  return Instance::Create(policy, random);
}

}  // namespace dunebox::plugin
