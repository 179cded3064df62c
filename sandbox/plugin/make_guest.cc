#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/memory/vma_map.h"
#include "sandbox/plugin/guest.h"
#include "sandbox/plugin/host_files.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/snapshot_file.h"
#include "sandbox/worker/brokered_files.h"
#include "sandbox/worker/remote_guest.h"

namespace dunebox::plugin {
namespace {

#ifdef DUNEBOX_NO_WORKERS
constexpr bool kHasBrokers = false;  // only tests of this library are built so
#else
constexpr bool kHasBrokers = true;
#endif

std::unique_ptr<Files> MakeFiles(const Policy& policy) {
  if (kHasBrokers && policy.file_access == FileAccess::kBroker) return std::make_unique<worker::BrokeredFiles>(policy);
  return std::make_unique<HostFiles>(policy);
}

// A saved sandbox may be a stranger's, or of another policy: what the plugin can fill is counted as if it asked for it
// now. For memory of the host's, which is counted apart behind two walls, there is as much room again.
absl::Status CheckRoom(const Policy& policy, const std::string& path, const InstanceSnapshot& saved) {
  const memory::MemoryImage::State& memory = saved.memory->state();
  std::uint64_t stack = 0, sealed = 0;
  memory.map.ForEach([&](const memory::Vma& vma) {
    if (!vma.protection.write || memory::IsData(vma) || memory::IsSharedByHost(vma)) return true;
    (vma.sealed ? sealed : stack) += vma.range.size();
    return true;
  });
  const std::uint64_t plugins = memory.data.size() + stack - std::min(stack, policy.stack);
  if (plugins <= policy.memory_limit && (plugins + sealed) / 2 <= policy.memory_limit) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": has more memory than the policy allows (memory_limit)"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Guest>> MakeGuest(const Policy& policy, std::uint64_t random) {
  if (policy.demand == Demand::kTwoWalls) return worker::RemoteGuest::Create(policy, random);
  return Instance::Create(policy, random, MakeFiles(policy));
}

absl::StatusOr<std::unique_ptr<Guest>> CloneGuest(const Policy& policy,
                                                  const InstanceSnapshot& snapshot) {
  if (policy.demand == Demand::kTwoWalls) return worker::RemoteGuest::Create(policy, snapshot);
  return Instance::Create(policy, snapshot, MakeFiles(policy));
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
    if (absl::Status room = CheckRoom(policy, path, **saved); !room.ok()) return room;
    absl::StatusOr<std::unique_ptr<Guest>> guest = worker::RemoteGuest::Create(policy, **saved);
    if (!guest.ok()) return guest.status();
    return OpenedGuest{*std::move(guest), *std::move(saved)};
  }
  std::unique_ptr<Files> files = MakeFiles(policy);
  absl::StatusOr<std::shared_ptr<InstanceSnapshot>> saved = OpenSnapshot(path, SnapshotEngineOf(policy), files.get());
  if (!saved.ok()) return saved.status();
  if (absl::Status room = CheckRoom(policy, path, **saved); !room.ok()) return room;
  absl::StatusOr<std::unique_ptr<Guest>> guest =
      Instance::CreateFirst(policy, **saved, std::move(files));
  if (!guest.ok()) return guest.status();
  return OpenedGuest{*std::move(guest), *std::move(saved)};
}

}  // namespace dunebox::plugin
