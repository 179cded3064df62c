#include "runtime/process/machine.h"

#include <utility>

namespace dunebox::process {

absl::StatusOr<std::unique_ptr<Machine>> Machine::Create(EngineFactory make_engine,
                                                         memory::AddressSpace& space) {
  std::unique_ptr<Machine> machine(new Machine(std::move(make_engine), space));
  if (absl::Status status = machine->Rebuild(); !status.ok()) return status;
  return machine;
}

absl::Status Machine::AliasHostPages(const GuestRange& at, const void* host) {
  alias_ = at;
  alias_host_ = host;
  return engine_->AliasHostPages(at, host);
}

absl::Status Machine::TakeClock(std::vector<std::byte> code, std::uint64_t entry) {
  clock_code_ = std::move(code);
  clock_entry_ = entry;
  return engine_->TakeClock(clock_code_, clock_entry_);
}

// Lock order: address space, then the engine's own locks.
void Machine::LockForFork() {
  space_.LockForFork();
  engine_->LockForFork();
}

void Machine::UnlockInParent() {
  engine_->UnlockAfterFork();
  space_.UnlockInParent();
}

void Machine::UnlockInChild() {
  engine_->UnlockAfterFork();
  space_.UnlockInChild();
}

absl::Status Machine::Rebuild() {
  engine_.reset();
  absl::StatusOr<std::unique_ptr<runtime::ExecutionEngine>> engine = make_engine_();
  if (!engine.ok()) return engine.status();
  engine_ = *std::move(engine);
  if (alias_host_ == nullptr) return absl::OkStatus();
  absl::Status status = engine_->AliasHostPages(alias_, alias_host_);
  if (!status.ok() || clock_code_.empty()) return status;
  return engine_->TakeClock(clock_code_, clock_entry_);
}

}  // namespace dunebox::process
