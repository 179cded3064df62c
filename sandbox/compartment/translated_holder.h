// A compartment that the translator keeps: a sandbox in a window of this process's addresses, where regions are
// mappings in a part that is sealed.
#ifndef DUNEBOX_SANDBOX_COMPARTMENT_TRANSLATED_HOLDER_H_
#define DUNEBOX_SANDBOX_COMPARTMENT_TRANSLATED_HOLDER_H_

#include "dunebox/sandbox.h"
#include "sandbox/compartment/holder.h"
#include "sandbox/plugin/instance.h"

namespace dunebox::compartment {

class TranslatedHolder final : public Holder {
 public:
  // The instance is the sandbox's, which outlives this.
  TranslatedHolder(Sandbox& sandbox, plugin::Instance& instance) : sandbox_(sandbox), instance_(instance) {}

  absl::Status Put(const Region& region, std::optional<RegionAccess> access) override;
  plugin::PluginKernel& kernel() override { return instance_.kernel(); }
  void End(Failure failure) override { instance_.End(std::move(failure)); }
  absl::Status Recycle() override { return sandbox_.Reset(); }

 private:
  Sandbox& sandbox_;
  plugin::Instance& instance_;
};

}  // namespace dunebox::compartment

#endif  // DUNEBOX_SANDBOX_COMPARTMENT_TRANSLATED_HOLDER_H_
