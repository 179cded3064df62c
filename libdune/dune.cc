#include "dune/dune.h"

#include <pthread.h>

#include <atomic>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "libdune/backend.h"

namespace dune {
namespace {

std::atomic<Machine*> machine{nullptr};
std::atomic<UserMode*> given_user_mode{nullptr};

// Of the making of the machine. A fork in the middle of it leaves no child with a lock that nobody gives back.
constinit std::mutex making;

// Before main, as nothing else is: a thread that did it later could be stopped in the middle by a fork, too. Only memory
// can be missing, and then the program does not get far.
[[maybe_unused]] const int kRegistered = pthread_atfork([] { making.lock(); }, [] { making.unlock(); },
                                                        [] { making.unlock(); });

constexpr std::size_t kSmallestPool = std::size_t{1} << 20;
constexpr std::size_t kLargestPool = std::size_t{1} << 40;

absl::StatusOr<std::unique_ptr<Machine>> MakeMachine(const EnterOptions& options) {
  std::string reasons;
  for (const BackendRow& row : Backends()) {
    if (options.backend != Wanted::kBest && options.backend != row.wanted) continue;
    absl::StatusOr<std::unique_ptr<Machine>> made = row.make(options);
    if (made.ok() || options.backend != Wanted::kBest || !absl::IsUnavailable(made.status())) {
      return made;
    }
    absl::StrAppend(&reasons, reasons.empty() ? "" : "; ", made.status().message());
  }
  return absl::UnavailableError(reasons.empty() ? "this libdune has no such backend" : reasons);
}

bool IsWanted(Wanted wanted, Backend backend) {
  switch (wanted) {
    case Wanted::kBest: return true;
    case Wanted::kRing0: return backend == Backend::kRing0;
    case Wanted::kSoftware: return backend == Backend::kSoftware;
  }
  return false;
}

}  // namespace

Machine* CurrentMachine() { return machine.load(std::memory_order_acquire); }

UserMode* GivenUserMode() { return given_user_mode.load(std::memory_order_acquire); }

absl::Status GiveUserMode(UserMode& user_mode) {
  const std::lock_guard lock(making);
  if (GivenUserMode() == &user_mode) return absl::OkStatus();
  if (CurrentMachine() != nullptr || GivenUserMode() != nullptr) {
    return absl::FailedPreconditionError("dune::Enter has been called already, or there is a ring 3");
  }
  given_user_mode.store(&user_mode, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status NotEntered() {
  return absl::FailedPreconditionError("dune::Enter has not been called in this process");
}

absl::Status Enter(const EnterOptions& options) {
  if (options.frame_pool < kSmallestPool || options.frame_pool > kLargestPool) {
    return absl::InvalidArgumentError("frame_pool must be from 1 MiB to 1 TiB");
  }
  {
    const std::lock_guard lock(making);
    if (CurrentMachine() == nullptr) {
      absl::StatusOr<std::unique_ptr<Machine>> made = MakeMachine(options);
      if (!made.ok()) return made.status();
      machine.store(made->release(), std::memory_order_release);
    }
  }
  // Not under the lock: a backend may come back from this call on other ground than it went in on.
  if (!IsWanted(options.backend, CurrentMachine()->backend())) {
    return absl::FailedPreconditionError("this process is in another backend");
  }
  return CurrentMachine()->EnterThread();
}

absl::Status Leave() {
  if (CurrentBackend() == Backend::kNone) {
    return absl::FailedPreconditionError("this thread is not in");
  }
  return CurrentMachine()->LeaveThread();
}

Backend CurrentBackend() {
  const Machine* const current = CurrentMachine();
  return current != nullptr && current->IsThreadIn() ? current->backend() : Backend::kNone;
}

const Capabilities& GetCapabilities() {
  static constexpr Capabilities kNothing;
  const Machine* const current = CurrentMachine();
  return current == nullptr ? kNothing : current->capabilities();
}

}  // namespace dune
