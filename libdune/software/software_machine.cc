#include "libdune/software/software_machine.h"

#include <pthread.h>

#include "libdune/loader/load_program.h"
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

  absl::StatusOr<std::unique_ptr<PageTable::Implementation>> CreateTable(
      PageTable::Contents contents) override;
  absl::StatusOr<Stop> RunUser(UserContext& context, PageTable::Implementation& table,
                               const RunOptions& options) override;
  absl::Status LoadProgram(const std::string& path, std::span<const std::string> arguments,
                           std::span<const std::string> environment,
                           PageTable::Implementation& table, UserContext& context,
                           std::uintptr_t& heap) override;
  absl::Status CopyFromUser(PageTable::Implementation& table, void* to, std::uintptr_t from,
                            std::size_t size) override;
  absl::Status CopyToUser(PageTable::Implementation& table, std::uintptr_t to, const void* from,
                          std::size_t size) override;

  absl::Status SetTrapHandler(unsigned vector, TrapHandler handler, HandlerKind kind) override {
    return faults::SetTrapHandler(vector, handler, kind);
  }
  absl::Status SetPageFaultHandler(PageFaultHandler handler, HandlerKind kind) override {
    return faults::SetPageFaultHandler(handler, kind);
  }

 private:
  // Whether there is a ring 3, and `table` is one of its tables.
  absl::Status CheckUser(const PageTable::Implementation& table) const;

  UserMode* const user_ = GivenUserMode();
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
  capabilities_.user_mode = user_ != nullptr;
  address_space = table_.get();
}

absl::StatusOr<std::unique_ptr<PageTable::Implementation>> SoftwareMachine::CreateTable(
    PageTable::Contents contents) {
  if (user_ == nullptr || contents != PageTable::Contents::kEmpty) return Machine::CreateTable(contents);
  return user_->CreateTable();
}

absl::Status SoftwareMachine::CheckUser(const PageTable::Implementation& table) const {
  if (user_ == nullptr) return absl::UnimplementedError("nobody has given this backend a ring 3");
  if (&table != table_.get()) return absl::OkStatus();
  return absl::InvalidArgumentError("Current() has nothing of ring 3's");
}

absl::StatusOr<Stop> SoftwareMachine::RunUser(UserContext& context, PageTable::Implementation& table,
                                              const RunOptions& options) {
  if (absl::Status checked = CheckUser(table); !checked.ok()) return checked;
  return user_->RunUser(context, table, options);
}

absl::Status SoftwareMachine::LoadProgram(const std::string& path,
                                          std::span<const std::string> arguments,
                                          std::span<const std::string> environment,
                                          PageTable::Implementation& table, UserContext& context,
                                          std::uintptr_t& heap) {
  if (absl::Status checked = CheckUser(table); !checked.ok()) return checked;
  return LoadStaticProgram(path, arguments, environment, user_->places(), table, context, heap);
}

absl::Status SoftwareMachine::CopyFromUser(PageTable::Implementation& table, void* to,
                                           std::uintptr_t from, std::size_t size) {
  if (absl::Status checked = CheckUser(table); !checked.ok()) return checked;
  return user_->CopyFromUser(table, to, from, size);
}

absl::Status SoftwareMachine::CopyToUser(PageTable::Implementation& table, std::uintptr_t to,
                                         const void* from, std::size_t size) {
  if (absl::Status checked = CheckUser(table); !checked.ok()) return checked;
  return user_->CopyToUser(table, to, from, size);
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
