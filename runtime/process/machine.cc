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
  return alias_host_ == nullptr ? absl::OkStatus() : engine_->AliasHostPages(alias_, alias_host_);
}

}  // namespace dunebox::process
