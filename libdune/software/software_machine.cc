#include "libdune/software/software_machine.h"

namespace dune::software {
namespace {

// A thread is in because it, or the one that made it, called Enter: in this backend that is every thread of the
// process that has not left.
thread_local bool has_left = false;

class SoftwareMachine final : public Machine {
 public:
  Backend backend() const override { return Backend::kSoftware; }
  const Capabilities& capabilities() const override { return capabilities_; }

  absl::Status EnterThread() override {
    has_left = false;
    return absl::OkStatus();
  }
  absl::Status LeaveThread() override {
    has_left = true;
    return absl::OkStatus();
  }
  bool IsThreadIn() const override { return !has_left; }

  PageTable::Implementation& current_table() override { return table_; }

 private:
  Capabilities capabilities_;
  PageTable::Implementation table_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Machine>> MakeMachine(const EnterOptions& /*options*/) {
  return std::make_unique<SoftwareMachine>();
}

}  // namespace dune::software
