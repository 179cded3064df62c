#include "sandbox/ring3/runner.h"

#include <unistd.h>

#include <optional>
#include <utility>
#include <variant>

#include "hostcalls/asymmetric_fence.h"
#include "jit-fallback/dispatch/thread_context.h"
#include "libdune/extended_area.h"
#include "libdune/general_registers.h"
#include "sandbox/plugin/host_signals.h"

namespace dunebox::ring3 {
namespace {

using dune::Stop;
using dune::StopReason;

runtime::Registers RegistersOf(const dune::UserContext& context) {
  runtime::Registers registers;
  dune::CopyGeneralRegisters(context, registers);
  registers.fs_base = context.fs_base, registers.gs_base = context.gs_base;
  return registers;
}

void Store(const runtime::Registers& registers, dune::UserContext& context) {
  dune::CopyGeneralRegisters(registers, context);
  context.fs_base = registers.fs_base, context.gs_base = registers.gs_base;
}

std::uint64_t DeadlineIn(absl::Duration time) {
  if (time == absl::InfiniteDuration()) return plugin::kNoDeadline;
  const std::int64_t nanoseconds = absl::ToInt64Nanoseconds(time);
  return plugin::CoarseNow() + (nanoseconds > 0 ? static_cast<std::uint64_t>(nanoseconds) : 0);
}

// The host thread's own state, put back at the end.
class Borrowed {
 public:
  explicit Borrowed(jit::ThreadContext& context) : context_(context) { context_.Borrow(); }
  ~Borrowed() { context_.GiveBack(); }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

 private:
  jit::ThreadContext& context_;
};

}  // namespace

Runner::Runner(std::unique_ptr<runtime::EngineThread> thread)
    : thread_(static_cast<runtime::JitThread*>(thread.release())),
      watch_(plugin::Watchdog::Instance(), [this] { Kick(); }) {}

// In this order: who has not been seen here as the one that runs sees the engine's flag.
void Runner::Kick() {
  thread_->Kick();
  HeavyFence();
  const pid_t host = host_thread_.load(std::memory_order_seq_cst);
  if (host != 0) plugin::SendKick(host);
}

absl::StatusOr<Stop> Runner::RunUntilStop(runtime::Registers& registers, std::uint64_t handlers) {
  for (;;) {
    // Taken back before anybody looks why it came: a kick from here on is seen by the run.
    thread_->Unkick();
    if (watch_.HasPassed()) return Stop{.reason = StopReason::kTime};
    if (plugin::HandlersRun() != handlers) return Stop{.reason = StopReason::kInterrupted};
    const runtime::Exit exit = thread_->Run(registers);
    std::optional<absl::StatusOr<Stop>> stop = std::visit(
        runtime::Overloaded{
            [](const runtime::SystemCall&) -> std::optional<absl::StatusOr<Stop>> {
              return Stop{.reason = StopReason::kSystemCall};
            },
            [](const runtime::Fault& fault) -> std::optional<absl::StatusOr<Stop>> {
              return Stop{.reason = StopReason::kFault,
                          .vector = static_cast<std::uint8_t>(fault.vector),
                          .error = fault.error_code,
                          .address = fault.address};
            },
            [](const runtime::Interrupted&) -> std::optional<absl::StatusOr<Stop>> {
              return std::nullopt;
            },
            [](const runtime::EngineFailure& failure) -> std::optional<absl::StatusOr<Stop>> {
              return absl::StatusOr<Stop>(absl::InternalError(failure.reason));
            },
            [](const runtime::GuestCrash& crash) -> std::optional<absl::StatusOr<Stop>> {
              return absl::StatusOr<Stop>(absl::InternalError(crash.reason));
            }},
        exit);
    if (stop) return *std::move(stop);
  }
}

absl::StatusOr<Stop> Runner::Run(dune::UserContext& context, absl::Duration time) {
  dune::MakeRestorable(context.extended, thread_->extended_features());
  if (absl::Status loaded = thread_->LoadExtendedState(context.extended); !loaded.ok()) return loaded;
  runtime::Registers registers = RegistersOf(context);
  absl::StatusOr<Stop> stop = Stop{};
  host_thread_.store(gettid(), std::memory_order_seq_cst);
  watch_.Set(DeadlineIn(time));
  const std::uint64_t handlers = plugin::KickAfterHandlers(thread_.get());
  {
    const Borrowed borrowed(thread_->context());
    stop = RunUntilStop(registers, handlers);
  }
  plugin::KickAfterHandlers(nullptr);
  watch_.Set(plugin::kNoDeadline);
  host_thread_.store(0, std::memory_order_seq_cst);
  Store(registers, context);
  if (absl::Status saved = thread_->SaveExtendedState(context.extended); !saved.ok()) return saved;
  return stop;
}

}  // namespace dunebox::ring3
