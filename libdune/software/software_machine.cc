#include "libdune/software/software_machine.h"

#include <pthread.h>

#include "libdune/software/address_space.h"
#include "libdune/software/faults.h"
#include "libdune/software/thread_state.h"

namespace dune::software {
namespace {

class SoftwareMachine final : public Machine {
 public:
  explicit SoftwareMachine(std::unique_ptr<AddressSpace> table);

  Backend backend() const override { return Backend::kSoftware; }
  const Capabilities& capabilities() const override { return capabilities_; }

  absl::Status EnterThread() override { return software::EnterThread(); }
  absl::Status LeaveThread() override {
    software::LeaveThread();
    return absl::OkStatus();
  }
  bool IsThreadIn() const override { return software::IsThreadIn(); }

  PageTable::Implementation& current_table() override { return *table_; }

  absl::Status SetTrapHandler(unsigned vector, TrapHandler handler, HandlerKind /*kind*/) override {
    return faults::SetTrapHandler(vector, handler);
  }
  absl::Status SetPageFaultHandler(PageFaultHandler handler, HandlerKind /*kind*/) override {
    return faults::SetPageFaultHandler(handler);
  }

 private:
  std::unique_ptr<AddressSpace> table_;
  Capabilities capabilities_;
};

// For handlers of signals and forks, which take no argument.
AddressSpace* address_space = nullptr;

SoftwareMachine::SoftwareMachine(std::unique_ptr<AddressSpace> table) : table_(std::move(table)) {
  capabilities_.protect = true;
  capabilities_.dirty = true;
  capabilities_.dirty_system_calls = table_->sees_system_calls();
  capabilities_.page_fault_handler = true;
  capabilities_.trap_vectors = faults::SettableVectors();
  address_space = table_.get();
}

void BeforeFork() {
  address_space->BeforeFork();
  faults::Lock();
}

void AfterForkInParent() {
  faults::Unlock();
  address_space->AfterForkInParent();
}

void AfterForkInChild() {
  faults::Unlock();
  address_space->AfterForkInChild();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Machine>> MakeMachine(const EnterOptions& options) {
  absl::StatusOr<std::unique_ptr<AddressSpace>> table = AddressSpace::Create(options.dirty_method);
  if (!table.ok()) return table.status();
  auto machine = std::make_unique<SoftwareMachine>(*std::move(table));
  if (!machine->capabilities().dirty_system_calls) {
    faults::SetResolver([](std::uintptr_t address, Rights wanted) {
      return address_space->Resolve(address, wanted);
    });
  }
  // Last: the lock that the first Enter holds is taken after these handlers' locks in a fork.
  if (pthread_atfork(BeforeFork, AfterForkInParent, AfterForkInChild) != 0) {
    return absl::ResourceExhaustedError("no memory for the handlers of a fork");
  }
  return machine;
}

}  // namespace dune::software
