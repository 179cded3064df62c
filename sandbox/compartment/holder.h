// What keeps one compartment, as its rights see it: a sandbox of the translator's (translated_holder), or a page table
// in ring 3 (ring0_guest.h).
#ifndef DUNEBOX_SANDBOX_COMPARTMENT_HOLDER_H_
#define DUNEBOX_SANDBOX_COMPARTMENT_HOLDER_H_

#include <optional>

#include "absl/status/status.h"
#include "dunebox/failure.h"
#include "dunebox/grants.h"
#include "sandbox/plugin/kernel.h"
#include "sandbox/plugin/warden.h"

namespace dunebox::compartment {

class Holder {
 public:
  virtual ~Holder() = default;

  // Whether the calling thread may change anything here.
  virtual absl::Status CheckThread() const { return absl::OkStatus(); }
  // Nothing: the compartment has no access any more.
  virtual absl::Status Put(const Region& region, std::optional<RegionAccess> access) = 0;
  virtual plugin::PluginKernel& kernel() = 0;
  virtual void End(Failure failure) = 0;
  // As it was when it was made, but for regions that are shared.
  virtual absl::Status Recycle() = 0;
};

}  // namespace dunebox::compartment

#endif  // DUNEBOX_SANDBOX_COMPARTMENT_HOLDER_H_
