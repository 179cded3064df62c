// A thread of a compartment's in ring 3 (dune::RunUser). Its vector state lies here between two runs; the calling host
// thread is in ring 0.
//
//   auto cpu = std::make_unique<plugin::EngineCpu>(std::make_unique<Ring0Thread>(space));
#ifndef DUNEBOX_SANDBOX_COMPARTMENT_RING0_THREAD_H_
#define DUNEBOX_SANDBOX_COMPARTMENT_RING0_THREAD_H_

#include <atomic>

#include "dune/user.h"
#include "runtime/engine.h"
#include "sandbox/compartment/paged_space.h"

namespace dunebox::compartment {

class Ring0Thread final : public runtime::EngineThread {
 public:
  // `space` outlives it.
  explicit Ring0Thread(PagedSpace& space) : space_(space) {}

  runtime::Exit Run(runtime::Registers& registers) override;
  // A signal to the host thread has to follow, again and again until it is heard: one may come between the look at this
  // and ring 3.
  void Kick() override { is_kicked_.store(true, std::memory_order_seq_cst); }
  void Unkick() override { is_kicked_.store(false, std::memory_order_seq_cst); }

  std::size_t extended_state_size() const override;
  absl::Status SaveExtendedState(std::span<std::byte> area) override;
  absl::Status LoadExtendedState(std::span<const std::byte> area) override;
  std::uint64_t extended_features() const override;

 private:
  PagedSpace& space_;
  std::atomic<bool> is_kicked_{false};
  dune::UserContext context_;
};

}  // namespace dunebox::compartment

#endif  // DUNEBOX_SANDBOX_COMPARTMENT_RING0_THREAD_H_
