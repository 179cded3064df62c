// The engine of a process and how to make another one: a forked child cannot use its parent's
// (a KVM descriptor belongs to the mm that made it), so it builds its own from the memory map.
//
// Shared by processes that share memory (vfork): they run vCPUs of one VM.
#ifndef DUNEBOX_RUNTIME_PROCESS_MACHINE_H_
#define DUNEBOX_RUNTIME_PROCESS_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/engine.h"
#include "runtime/memory/address_space.h"

namespace dunebox::process {

using EngineFactory = std::function<absl::StatusOr<std::unique_ptr<runtime::ExecutionEngine>>()>;

class Machine {
 public:
  // `make_engine` attaches what it makes to `space`; both outlive this.
  static absl::StatusOr<std::unique_ptr<Machine>> Create(EngineFactory make_engine,
                                                         memory::AddressSpace& space);

  runtime::ExecutionEngine& engine() { return *engine_; }
  memory::AddressSpace& space() { return space_; }

  // ExecutionEngine::AliasHostPages, remembered for engines made later.
  absl::Status AliasHostPages(const GuestRange& at, const void* host);
  // ExecutionEngine::TakeClock, the same.
  absl::Status TakeClock(std::vector<std::byte> code, std::uint64_t entry);

  void LockForFork();
  void UnlockInParent();
  void UnlockInChild();
  // In a forked child, after UnlockInChild: a fresh engine in place of the parent's.
  absl::Status Rebuild();

 private:
  Machine(EngineFactory make_engine, memory::AddressSpace& space)
      : make_engine_(std::move(make_engine)), space_(space) {}

  const EngineFactory make_engine_;
  memory::AddressSpace& space_;
  std::unique_ptr<runtime::ExecutionEngine> engine_;
  GuestRange alias_;
  const void* alias_host_ = nullptr;
  std::vector<std::byte> clock_code_;
  std::uint64_t clock_entry_ = 0;
};

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_MACHINE_H_
