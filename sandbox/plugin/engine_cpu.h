// A guest thread whose registers are a virtual processor's: nothing of the host thread's is lent to the guest, so any
// EngineThread does.
//
//   return std::make_unique<EngineCpu>(*std::move(thread));
#ifndef DUNEBOX_SANDBOX_PLUGIN_ENGINE_CPU_H_
#define DUNEBOX_SANDBOX_PLUGIN_ENGINE_CPU_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "sandbox/plugin/guest_engine.h"

namespace dunebox::plugin {

class EngineCpu final : public GuestCpu {
 public:
  explicit EngineCpu(std::unique_ptr<runtime::EngineThread> thread) : thread_(std::move(thread)) {}

  runtime::EngineThread& thread() override { return *thread_; }
  Left RunFunction(const Entry& entry, Returned& returned) override;
  void TakeRegisters(runtime::Registers& registers) override { registers = left_; }
  Left Continue(const runtime::Registers& registers, std::uint64_t stack_after, Returned& returned) override;
  runtime::Exit TakeExit() override { return exit_; }
  void Enter() override;
  void Leave() override {}
  std::int64_t instructions_left() const override { return thread_->instructions_left(); }
  void set_instructions_left(std::int64_t number) override { thread_->set_instructions_left(number); }
  absl::StatusOr<Control> control() const override;
  absl::Status Restart(const Control& control) override;
  absl::StatusOr<Vectors> ReadVectors() override;
  absl::Status WriteVectors(const Vectors& values) override;

 private:
  absl::StatusOr<std::vector<std::byte>> State() const;

  const std::unique_ptr<runtime::EngineThread> thread_;
  runtime::Registers left_;
  runtime::Exit exit_;
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_ENGINE_CPU_H_
