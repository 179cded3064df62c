#include "libdune/software/thread_state.h"

#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "dune/page_table.h"

namespace dune::software {
namespace {

constexpr std::size_t kStackSize = 64 << 10;
constexpr std::size_t kDeepest = 4;

class AlternateStack {
 public:
  ~AlternateStack() { Remove(); }
  absl::Status Install();
  void Remove();

 private:
  void* memory_ = nullptr;
  stack_t before_{};
};

absl::Status AlternateStack::Install() {
  if (memory_ != nullptr) return absl::OkStatus();
  void* const memory = mmap(nullptr, kPageSize + kStackSize, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return absl::ResourceExhaustedError("no memory for a handlers' stack");
  stack_t stack{};
  stack.ss_sp = static_cast<char*>(memory) + kPageSize;
  stack.ss_size = kStackSize;
  // EPERM: it runs on an alternate stack just now.
  if (mprotect(memory, kPageSize, PROT_NONE) != 0 || sigaltstack(&stack, &before_) != 0) {
    munmap(memory, kPageSize + kStackSize);
    return absl::FailedPreconditionError("the thread's alternate stack cannot be changed now");
  }
  memory_ = memory;
  return absl::OkStatus();
}

void AlternateStack::Remove() {
  if (memory_ == nullptr) return;
  stack_t current{};
  sigaltstack(nullptr, &current);
  // The program may have put another in its place, which is then not ours to take away.
  if (current.ss_sp == static_cast<char*>(memory_) + kPageSize &&
      sigaltstack(&before_, nullptr) != 0) {
    return;  // in use
  }
  munmap(memory_, kPageSize + kStackSize);
  memory_ = nullptr;
}

thread_local AlternateStack alternate_stack;
thread_local bool has_left = false;
// Plain data: it is reached in signal handlers.
thread_local std::array<std::uintptr_t, kDeepest> running{};
thread_local std::size_t running_count = 0;
thread_local bool are_signals_held = false;

}  // namespace

absl::Status EnterThread() {
  if (absl::Status installed = alternate_stack.Install(); !installed.ok()) return installed;
  has_left = false;
  return absl::OkStatus();
}

void LeaveThread() {
  alternate_stack.Remove();
  has_left = true;
}

bool IsThreadIn() { return !has_left; }

bool BeginHandler(const void* stack) {
  const auto here = reinterpret_cast<std::uintptr_t>(stack);
  while (running_count != 0 && running[running_count - 1] <= here) --running_count;
  if (running_count == kDeepest) return false;
  running[running_count++] = here;
  return true;
}

void EndHandler() {
  // 0 where a handler that changed stacks was taken for one that had been left.
  if (running_count != 0) --running_count;
}

bool AreSignalsHeld() { return are_signals_held; }
void SetSignalsHeld(bool are_held) { are_signals_held = are_held; }

}  // namespace dune::software
