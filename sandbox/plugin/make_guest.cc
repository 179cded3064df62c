#include <utility>

#include "sandbox/plugin/guest.h"
#include "sandbox/plugin/host_files.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/snapshot_file.h"
#include "sandbox/worker/brokered_files.h"
#include "sandbox/worker/remote_guest.h"

namespace dunebox::plugin {
namespace {

absl::StatusOr<std::unique_ptr<Files>> MakeFiles(const Policy& policy) {
  if (policy.file_access == FileAccess::kBroker) return worker::BrokeredFiles::Create(policy);
  return std::make_unique<HostFiles>(policy);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Guest>> MakeGuest(const Policy& policy, std::uint64_t random) {
  if (policy.demand == Demand::kTwoWalls) return worker::RemoteGuest::Create(policy, random);
  absl::StatusOr<std::unique_ptr<Files>> files = MakeFiles(policy);
  if (!files.ok()) return files.status();
  return Instance::Create(policy, random, *std::move(files));
}

absl::StatusOr<std::unique_ptr<Guest>> CloneGuest(const Policy& policy,
                                                  const InstanceSnapshot& snapshot) {
  if (policy.demand == Demand::kTwoWalls) return worker::RemoteGuest::Create(policy, snapshot);
  absl::StatusOr<std::unique_ptr<Files>> files = MakeFiles(policy);
  if (!files.ok()) return files.status();
  return Instance::Create(policy, snapshot, *std::move(files));
}

// Only what another process does can be gone without being this one's end.
absl::StatusOr<std::unique_ptr<Guest>> ReplaceGuest(Guest& gone, const InstanceSnapshot& snapshot) {
  return static_cast<worker::RemoteGuest&>(gone).Successor(snapshot);
}

absl::StatusOr<OpenedGuest> OpenGuest(const Policy& policy, const std::string& path) {
  if (policy.demand == Demand::kTwoWalls) {
    absl::StatusOr<std::shared_ptr<InstanceSnapshot>> saved =
        OpenSnapshot(path, SnapshotEngineOf(policy), nullptr);
    if (!saved.ok()) return saved.status();
    absl::StatusOr<std::unique_ptr<Guest>> guest = worker::RemoteGuest::Create(policy, **saved);
    if (!guest.ok()) return guest.status();
    return OpenedGuest{*std::move(guest), *std::move(saved)};
  }
  absl::StatusOr<std::unique_ptr<Files>> files = MakeFiles(policy);
  if (!files.ok()) return files.status();
  absl::StatusOr<std::shared_ptr<InstanceSnapshot>> saved = OpenSnapshot(path, SnapshotEngineOf(policy), files->get());
  if (!saved.ok()) return saved.status();
  absl::StatusOr<std::unique_ptr<Guest>> guest =
      Instance::CreateFirst(policy, **saved, *std::move(files));
  if (!guest.ok()) return guest.status();
  return OpenedGuest{*std::move(guest), *std::move(saved)};
}

}  // namespace dunebox::plugin
