#include <utility>

#include "sandbox/plugin/guest.h"
#include "sandbox/plugin/host_files.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/worker/brokered_files.h"
#include "sandbox/worker/remote_guest.h"

namespace dunebox::plugin {

absl::StatusOr<std::unique_ptr<Guest>> MakeGuest(const Policy& policy, std::uint64_t random) {
  if (policy.demand == Demand::kTwoWalls) return worker::RemoteGuest::Create(policy, random);
  if (policy.file_access == FileAccess::kDirect) {
    return Instance::Create(policy, random, std::make_unique<HostFiles>(policy));
  }
  absl::StatusOr<std::unique_ptr<Files>> files = worker::BrokeredFiles::Create(policy);
  if (!files.ok()) return files.status();
  return Instance::Create(policy, random, *std::move(files));
}

absl::StatusOr<std::unique_ptr<Guest>> CloneGuest(const Policy& policy,
                                                  const InstanceSnapshot& snapshot) {
  return Instance::Create(policy, snapshot);
}

absl::StatusOr<std::unique_ptr<Guest>> FirstGuest(const Policy& policy, InstanceSnapshot& snapshot) {
  return Instance::CreateFirst(policy, snapshot);
}

}  // namespace dunebox::plugin
