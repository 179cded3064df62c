// What the debugger does in the threads of the program: steps, stops, signals, the end.
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "libdune/x86/control.h"
#include "runtime/debugger/gdb_server.h"
#include "runtime/debugger/signal_numbers.h"
#include "runtime/debugger/step_accesses.h"
#include "runtime/process/signal_delivery.h"
#include "runtime/signals/host_signals.h"

namespace dunebox::debugger {
namespace {

using process::DebugState;
using process::GuestThread;
namespace x86 = dune::x86;

constexpr std::uint64_t kTrap = x86::rflags::kTrap;

// Is the instruction at `rip` PUSHF? It would show the program our trap flag.
bool IsPushFlags(const hostcalls::GuestMemory& memory, std::uint64_t rip) {
  constexpr std::uint8_t kPushFlags = 0x9c, kOperandSize = 0x66;
  const auto first = memory.CopyIn(GuestPtr<std::uint8_t>{rip});
  if (!first.ok()) return false;
  if (*first == kPushFlags) return true;
  const bool is_prefix = *first == kOperandSize || (*first & 0xf0) == 0x40;
  if (!is_prefix) return false;
  const auto second = memory.CopyIn(GuestPtr<std::uint8_t>{rip + 1});
  return second.ok() && *second == kPushFlags;
}

process::StopReason::Kind KindOf(WatchKind kind) {
  switch (kind) {
    case WatchKind::kChange:
      return process::StopReason::Kind::kWatchpoint;
    case WatchKind::kRead:
      return process::StopReason::Kind::kReadWatchpoint;
    case WatchKind::kAccess:
      return process::StopReason::Kind::kAccessWatchpoint;
  }
  return process::StopReason::Kind::kWatchpoint;
}

void HideTrapOnStack(GuestThread& thread) {
  const GuestPtr<std::uint16_t> pushed{thread.registers.rsp};
  const auto flags = thread.memory.CopyIn(pushed);
  if (!flags.ok()) return;
  (void)thread.memory.CopyOut(pushed, static_cast<std::uint16_t>(*flags & ~kTrap));
}

}  // namespace

void GdbServer::Stop(GuestThread& thread, const StopReason& reason) {
  thread.debug.stop = reason;
  thread.is_held = true;
  has_news_ = true;
  if (const pid_t server = server_id_; server != 0) signals::Wake(server);
  owner_.threads().Park(thread);
}

runtime::Exit GdbServer::StepOnce(GuestThread& thread) {
  runtime::Registers& registers = thread.registers;
  const bool own_trap = (registers.rflags & kTrap) != 0;
  const bool pushes_flags = !own_trap && IsPushFlags(thread.memory, registers.rip);
  registers.rflags |= kTrap;
  runtime::Exit exit = thread.Run();
  if (own_trap) return exit;
  registers.rflags &= ~kTrap;
  if (std::holds_alternative<runtime::SystemCall>(exit)) {
    registers.r11 &= ~kTrap;
    thread.debug.is_step_done = true;  // when the call is
  }
  const auto* const fault = std::get_if<runtime::Fault>(&exit);
  if (fault == nullptr || fault->vector != x86::Vector::kDebug) return exit;
  if (pushes_flags) HideTrapOnStack(thread);
  thread.debug.is_step_done = true;
  return runtime::Interrupted{};
}

runtime::Exit GdbServer::Run(GuestThread& thread) {
  DebugState& debug = thread.debug;
  if (const int signal = std::exchange(debug.signal_to_deliver, 0); signal != 0) {
    process::DeliverInjected(thread, signal);
  }
  const bool watches = is_stepping_all_;
  if (!debug.steps && !watches && !debug.is_step_done) return thread.Run();
  std::unique_lock<TurnLock> turn(turns_, std::defer_lock);
  if (watches) turn.lock();
  runtime::Exit exit = runtime::Interrupted{};
  std::optional<StepAccesses> accesses;
  if (!debug.is_step_done) {
    // Whoever waited for its turn may have to stand still meanwhile.
    if (thread.is_held) return exit;
    if (watches && memory_.is_watching_accesses()) accesses = StepAccesses::Before(thread, memory_);
    exit = StepOnce(thread);
  }
  if (std::holds_alternative<runtime::SystemCall>(exit) || !debug.is_step_done) return exit;
  debug.is_step_done = false;
  std::vector<AccessedRange> accessed;
  if (accesses) accessed = accesses->After(thread.registers);
  const std::optional<WatchHit> hit = watches ? memory_.Hit(accessed) : std::nullopt;
  if (watches) turn.unlock();
  const std::uint64_t rip = thread.registers.rip;
  if (hit) {
    Stop(thread, {.kind = KindOf(hit->kind), .address = hit->address});
  } else if (debug.steps && (rip < debug.step_start || rip >= debug.step_end)) {
    Stop(thread, {.kind = StopReason::Kind::kStep});
  }
  return exit;
}

bool GdbServer::Takes(GuestThread& thread, const runtime::Fault& fault) {
  if (fault.vector != x86::Vector::kBreakpoint || !is_attached_) return false;
  const std::uint64_t address = thread.registers.rip - 1;
  if (!memory_.HasBreakpoint(address)) return false;
  thread.registers.rip = address;
  Stop(thread, {.kind = StopReason::Kind::kBreakpoint});
  return true;
}

int GdbServer::OnSignal(GuestThread& thread, const siginfo_t& info) {
  const int signal = info.si_signo;
  if (!is_attached_ || passed_[static_cast<std::size_t>(signal)]) return signal;
  thread.debug.signal_info = info;
  Stop(thread, {.kind = StopReason::Kind::kSignal, .signal = signal});
  return std::exchange(thread.debug.signal_to_deliver, 0);
}

void GdbServer::End(const std::string& packet) {
  if (!is_attached_) return;
  signals::SetHostMask(~std::uint64_t{0});  // a broken connection is not the program's SIGPIPE
  const std::lock_guard lock(wire_mutex_);
  if (std::exchange(is_over_, true)) return;
  SendRaw(Frame(packet));
}

void GdbServer::OnExit(int status) {
  End(absl::StrCat(absl::StrFormat("W%02x", static_cast<unsigned>(status) & 0xff),
                   connection_.multiprocess ? absl::StrFormat(";process:%x", getpid()) : ""));
}

void GdbServer::OnDeath(int signal) {
  End(absl::StrCat(absl::StrFormat("X%02x", ToGdbSignal(signal)),
                   connection_.multiprocess ? absl::StrFormat(";process:%x", getpid()) : ""));
}

void GdbServer::BeforeVfork(GuestThread&) { memory_.Lift(); }

void GdbServer::AfterVfork(GuestThread&) { memory_.PutBack(); }

void GdbServer::ForgetInChild() {
  is_attached_ = false;
  owner_.SetDebugger(nullptr);
  close(connection_.fd);
  memory_.ClearInChild(owner_.machine().engine());
}

process::GdbConnection GdbServer::Connection() {
  return is_attached_ ? connection_ : process::GdbConnection{};
}

}  // namespace dunebox::debugger
