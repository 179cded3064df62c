// What one compartment has been granted, in force: region by region behind its window, descriptors
// in its table, groups of calls, gates. The only thing that turns a grant into access; it knows no
// way to have more than the grants that it was made with, and says what was asked for beyond them.
//
//   Rights rights(holder, grants, Rights::Learns::kNo);
//   absl::Status in_force = rights.Install();
//
// Thread-safe. Its lock is taken before those of what holds the compartment.
#ifndef DUNEBOX_SANDBOX_COMPARTMENT_RIGHTS_H_
#define DUNEBOX_SANDBOX_COMPARTMENT_RIGHTS_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "dunebox/compartment.h"
#include "dunebox/grants.h"
#include "sandbox/compartment/holder.h"
#include "sandbox/compartment/region_area.h"
#include "sandbox/plugin/descriptors.h"
#include "sandbox/plugin/warden.h"

namespace dunebox::compartment {

class Rights final : public plugin::Warden {
 public:
  enum class Learns : bool { kNo, kYes };

  // `holder` outlives it.
  Rights(Holder& holder, Grants grants, Learns learns);

  // Once, in a compartment that has no regions.
  absl::Status Install();
  // No more than these from now on, which are less. A compartment that they cannot be taken away from ends.
  void Narrow(const Grants& grants);
  // After the compartment was recycled: its own copies of pages go, descriptors come
  // back. `grants` are the same but for descriptors.
  absl::Status Renew(Grants grants);
  // Whether a gate may be used; if not, the compartment ends.
  bool MayPass(const std::string& gate);

  Grants granted() const;
  Grants learned() const;
  std::vector<AccessFault> faults() const;

  // ---- plugin::Warden
  std::optional<std::string> Mend(const plugin::MemoryFault& fault) override;
  bool MendArgument(const plugin::MemoryFault& fault) override;
  bool Permits(const hostcalls::Row& call, std::uint64_t instruction) override;

 private:
  absl::Status InstallDescriptorsLocked();
  void NarrowDescriptorsLocked(const Grants& grants);
  std::optional<RegionAccess> AccessLocked(const Region* region) const;
  bool LearnLocked(const RegionPlace& place, plugin::MemoryFault::Access access);
  AccessFault NoteLocked(const plugin::MemoryFault& fault, const std::optional<RegionPlace>& place);
  void NoteOnceLocked(AccessFault fault);

  Holder& holder_;
  const bool learns_;
  std::atomic<std::uint32_t> groups_{0}, learned_groups_{0};  // a bit a CallGroup

  mutable std::mutex mutex_;  // guards what follows
  Grants granted_;
  std::map<const Region*, RegionAccess> mapped_;  // granted ones
  std::map<std::shared_ptr<const Region>, std::optional<RegionAccess>>
      unsettled_;  // rights that could not be taken away, and what is to be left of them
  std::map<int, std::shared_ptr<const plugin::OpenFile>>
      open_;  // by number: what stands for each descriptor
  std::map<int, std::shared_ptr<std::atomic<unsigned>>> descriptor_uses_;  // while it learns: by number, OpenFile::Use
  std::vector<std::string> learned_gates_;
  std::vector<AccessFault> faults_;
};

}  // namespace dunebox::compartment

#endif  // DUNEBOX_SANDBOX_COMPARTMENT_RIGHTS_H_
