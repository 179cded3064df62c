// Guest code runs: why it stops, system calls, faults, signals.
#include "sandbox/plugin/instance.h"

#include <signal.h>

#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/loader/symbols.h"
#include "runtime/process/signal_delivery.h"
#include "sandbox/plugin/instance_parts.h"
#include "sandbox/plugin/shown_text.h"
#include "sandbox/plugin/warded_call.h"

namespace dunebox::plugin {

using hostcalls::Errno;
using hostcalls::kSuccess;
using hostcalls::SyscallResult;
using signals::MaskOf;

namespace {

constexpr std::uint64_t kSyscallLength = 2;  // 0f 05

// [linux] SIG_KERNEL_IGNORE_MASK
constexpr std::uint64_t kIgnoredByDefault =
    MaskOf(SIGCONT) | MaskOf(SIGCHLD) | MaskOf(SIGWINCH) | MaskOf(SIGURG);

}  // namespace

bool Instance::LookWhyKicked(PluginThread& thread) {
  thread.kicked.store(0, std::memory_order_seq_cst);
  thread.engine->Unkick();
  if (has_ended_.load(std::memory_order_seq_cst)) return false;
  Failure::Kind kind = Failure::Kind::kTimeout;
  if (!thread.watch.HasPassed()) {
    if (!thread.watch.IsBudgetUsed() || MayGoOnIdle(thread)) return true;
    kind = Failure::Kind::kCpuBudget;
  }
  End({.kind = kind,
       .instruction = thread.registers.rip,
       .symbol = SymbolAt(thread.registers.rip)});
  return false;
}

std::uint64_t Instance::CallsSeen(bool& is_called) const {
  const std::lock_guard lock(mutex_);
  std::uint64_t calls = 0;
  is_called = false;
  for (const PluginThread* thread : threads_) {
    calls += thread->calls.load(std::memory_order_relaxed);
    if (!thread->runs_by_itself && thread->host_thread.load(std::memory_order_relaxed) != 0) {
      is_called = true;
    }
  }
  return calls;
}

void Instance::BeginIdleBudget(PluginThread& thread) {
  bool is_called = false;
  thread.calls_seen = CallsSeen(is_called);
  thread.watch.SetBudget(HostThread(), BudgetFromNow(HostThread(), policy_.idle_cpu_budget));
}

bool Instance::MayGoOnIdle(PluginThread& thread) {
  if (!thread.runs_by_itself) return false;
  bool is_called = false;
  if (CallsSeen(is_called) == thread.calls_seen && !is_called) return false;
  BeginIdleBudget(thread);
  return true;
}

Instance::Stop Instance::RunThread(PluginThread& thread, std::optional<runtime::Exit> first) {
  for (;;) {
    if (first) {
      if (std::optional<Stop> stop = OnExit(thread, *std::exchange(first, std::nullopt))) {
        return *std::move(stop);
      }
    }
    if (thread.kicked.load(std::memory_order_relaxed) != 0 && !LookWhyKicked(thread)) {
      return Ended{};
    }
    if ((thread.pending_signals.load(std::memory_order_relaxed) & ~thread.signal_mask) != 0) {
      DeliverSignals(thread);
    }
    first = thread.engine->Run(thread.registers);
  }
}

std::optional<Instance::Stop> Instance::OnExit(PluginThread& thread, const runtime::Exit& exit) {
  if (std::holds_alternative<runtime::SystemCall>(exit)) return OnSystemCall(thread);
  if (const auto* fault = std::get_if<runtime::Fault>(&exit)) {
    if (thread.stops_at == thread.registers.rip) return Ready{.table = 0};
    OnFault(thread, *fault);
  } else if (const auto* broken = std::get_if<runtime::EngineFailure>(&exit)) {
    return Broken{broken->reason};
  } else if (thread.cpu->instructions_left() < 0) {
    End({.kind = Failure::Kind::kInstructionBudget,
         .instruction = thread.registers.rip,
         .symbol = SymbolAt(thread.registers.rip)});
    return Ended{};
  }
  return std::nullopt;
}

std::optional<Instance::Stop> Instance::OnSystemCall(PluginThread& thread) {
  runtime::Registers& registers = thread.registers;
  const std::uint64_t number = registers.rax;
  if (number == DUNEBOX_GATE_RETURN) return Returned{registers.rdi};
  if (IsCallback(number)) return CallbackCalled{number - DUNEBOX_GATE_CALLBACK};
  if (number == DUNEBOX_GATE_READY) return Ready{registers.rdi};
  const SyscallResult result =
      MakeWardedCall(kernel_, thread,
                     {.number = number,
                      .arguments = {registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8,
                                    registers.r9}});
  if (thread.has_exited) return ThreadExited{};
  if (result.is_registers_set()) return std::nullopt;
  if (result.is_restart()) {
    registers.rip -= kSyscallLength;
    return std::nullopt;
  }
  registers.rax = result.ToRegister();
  return std::nullopt;
}

bool Instance::EnterHandler(PluginThread& thread, const siginfo_t& info,
                            const signals::TrapInfo& trap) {
  const int signal = info.si_signo;
  const signals::KernelAction action = kernel_.ActionOf(signal);
  const absl::StatusOr<bool> pushed =
      signals::PushFrame({.registers = &thread.registers,
                          .engine = thread.engine,
                          .memory = &memory_,
                          .alternate_stack = &thread.alternate_stack,
                          .mask = thread.signal_mask},
                         action, info, trap);
  if (!pushed.value_or(false)) return false;
  thread.signal_mask |= action.mask;
  if ((action.flags & signals::kSaNoDefer) == 0) thread.signal_mask |= MaskOf(signal);
  if ((action.flags & signals::kSaResetHand) != 0) kernel_.SetAction(signal, {});
  return true;
}

void Instance::OnFault(PluginThread& thread, const runtime::Fault& fault) {
  std::optional<std::string> missing_grant = MendFault(warden_, fault, thread.registers.rip);
  if (!missing_grant) return;
  std::vector<std::byte> extended(thread.engine->extended_state_size());
  if (!thread.engine->SaveExtendedState(extended).ok()) extended.clear();
  const siginfo_t info = process::SignalOfFault(fault, thread.registers.rip, extended);
  const int signal = info.si_signo;
  const signals::KernelAction action = kernel_.ActionOf(signal);
  const bool is_handled =
      !action.is_default() && !action.is_ignore() && (thread.signal_mask & MaskOf(signal)) == 0;
  const signals::TrapInfo trap{.vector = static_cast<std::uint64_t>(fault.vector),
                               .error_code = fault.error_code,
                               .address = fault.address};
  if (!is_handled || !EnterHandler(thread, info, trap)) {
    EndBySignal(thread, signal, fault.address, *std::move(missing_grant));
  }
}

void Instance::DeliverSignals(PluginThread& thread) {
  for (;;) {
    const std::uint64_t ready = thread.pending_signals.load() & ~thread.signal_mask;
    if (ready == 0) return;
    const int signal = __builtin_ctzll(ready) + 1;
    thread.pending_signals.fetch_and(~MaskOf(signal));
    const signals::KernelAction action = kernel_.ActionOf(signal);
    if (action.is_ignore()) continue;
    siginfo_t info{};
    info.si_signo = signal;
    info.si_code = SI_TKILL;
    info.si_pid = kVirtualPid;
    if (action.is_default()) {
      if ((kIgnoredByDefault & MaskOf(signal)) != 0) continue;
      return EndBySignal(thread, signal, 0);
    }
    if (!EnterHandler(thread, info, {})) return EndBySignal(thread, SIGSEGV, 0);
  }
}

SyscallResult Instance::SendSignal(PluginThread& sender, pid_t target, int signal) {
  const std::lock_guard lock(mutex_);
  PluginThread* receiver = target == 0 ? &sender : nullptr;
  for (PluginThread* thread : threads_) {
    if (thread->id == target) receiver = thread;
  }
  if (receiver == nullptr) return Errno{ESRCH};
  if (signal == 0) return kSuccess;
  receiver->pending_signals.fetch_or(MaskOf(signal));
  if (receiver != &sender) receiver->Kick();
  return kSuccess;
}

std::string Instance::SymbolAt(std::uint64_t address) {
  std::string file;
  std::uint64_t offset = 0;
  space_.WithVma(GuestVirt{address}, [&](const memory::Vma* vma) {
    if (vma == nullptr || !vma->file_backed || vma->backing == nullptr) return;
    file = vma->backing->name;
    offset = vma->offset + (address - vma->range.start.value);
  });
  if (file.empty()) return {};
  const std::string name = file.substr(file.rfind('/') + 1);
  const hostcalls::CopyResult<OpenFile> open = kernel_.files().Open(file, LastLink::kKept);
  std::optional<std::string> symbol;
  if (open.ok()) symbol = loader::ReadSymbolsHere((*open).host.get()).NameAt(offset);
  return ShownLine(absl::StrCat(name, ": ", symbol ? *symbol : absl::StrFormat("0x%x", offset)));
}

}  // namespace dunebox::plugin
