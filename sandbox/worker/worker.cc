#include "sandbox/worker/worker.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "runtime/signals/action.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/worker/confine.h"
#include "sandbox/worker/server.h"
#include "sandbox/worker/shared_memory.h"

namespace dunebox::worker {
namespace {

using plugin::Instance;

absl::Status Start(const StartOrder& order, int namespaces, std::unique_ptr<Instance>& instance,
                   Writer& answer) {
  std::vector<std::string> confinement;
  const auto confine = [&]() -> absl::Status {
    absl::StatusOr<std::vector<std::string>> confined = Confine(order.policy, namespaces);
    if (confined.ok()) confinement = *std::move(confined);
    return confined.status();
  };
  absl::StatusOr<std::unique_ptr<Instance>> made =
      Instance::Create(order.policy, order.random, confine);
  if (!made.ok()) return made.status();
  instance = *std::move(made);
  const absl::StatusOr<GuestRange> shared = instance->MapHostMemory(kArenaFd, order.arena_size);
  if (!shared.ok()) return shared.status();
  close(kArenaFd);
  answer.Put(shared->start.value);
  PutTexts(answer, confinement);
  return absl::OkStatus();
}

}  // namespace

void ResetSignals() {
  for (int signal = 1; signal <= signals::kSignalCount; ++signal) {
    constexpr signals::KernelAction kDefault;
    syscall(SYS_rt_sigaction, signal, &kDefault, nullptr, sizeof(kDefault.mask));
  }
  constexpr std::uint64_t kNone = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &kNone, nullptr, sizeof(kNone));
}

int WorkerMain(const char* namespaces) {
  // Of the fork server: the kernel has forgotten it if this program's rights are others.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  absl::StatusOr<SharedMemory> control = SharedMemory::Map(runtime::FileDescriptor(kControlFd));
  if (!control.ok()) return 1;
  const std::span<Slot> slots(control->As<Slot>(), control->bytes().size() / sizeof(Slot));
  Channel manager(slots[0].to_host, slots[0].to_worker);
  const std::atomic<bool> never_ends{false};
  Message message;
  manager.Receive(message, kNever, never_ends);
  const std::optional<StartOrder> order = ParseStartOrder(message.bytes);
  if (!order) return 1;
  // For good: what refers to them runs until the process is killed.
  static std::unique_ptr<Instance> instance;
  static const StartOrder& kept = *new StartOrder(*order);
  Writer answer, reply;
  const absl::Status started = Start(kept, std::atoi(namespaces), instance, answer);
  PutStatus(reply, started);
  if (started.ok()) reply.PutBytes(answer.bytes());
  manager.Send(Operation::kDone, reply.bytes());
  // The host ends it when it has read that.
  while (!started.ok()) manager.Receive(message, kNever, never_ends);
  const auto host_threads = static_cast<std::uint32_t>(kept.policy.host_threads);
  Server server(*instance, slots,
                {.host_threads = host_threads,
                 .plugin_threads = static_cast<std::uint32_t>(slots.size()) - 1 - host_threads});
  server.Run(manager);
}

}  // namespace dunebox::worker
