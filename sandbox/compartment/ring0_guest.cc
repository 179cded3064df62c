#include "sandbox/compartment/ring0_guest.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <mutex>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "dune/dune.h"
#include "runtime/process/signal_delivery.h"
#include "sandbox/compartment/outside_ring0.h"
#include "sandbox/compartment/ring0_thread.h"
#include "sandbox/plugin/call_protocol.h"
#include "sandbox/plugin/engine_cpu.h"
#include "sandbox/plugin/host_files.h"
#include "sandbox/plugin/host_signals.h"
#include "sandbox/plugin/instance_parts.h"
#include "sandbox/plugin/original_process.h"
#include "sandbox/plugin/saved_guest.h"
#include "sandbox/plugin/warded_call.h"

namespace dunebox::compartment {

using hostcalls::Errno;
using hostcalls::SyscallResult;
using internal::CallFrame;
using internal::CallResult;
using plugin::DeadlineIn;
using plugin::HostThread;
using plugin::kNoDeadline;

namespace {

constexpr std::uint64_t kSyscallLength = 2;  // 0f 05

absl::Status CheckInRing0() {
  if (dune::CurrentBackend() == dune::Backend::kRing0) return absl::OkStatus();
  return absl::FailedPreconditionError("a compartment of ring 0's, and this thread is not in ring 0: dune::Enter");
}

// Gives a call its deadline, if that is before the one of the call that it comes from, and the host thread to be
// kicked.
class Running {
 public:
  Running(plugin::PluginThread& thread, std::uint64_t deadline)
      : thread_(thread), outer_(thread.watch.deadline()), is_set_(deadline < outer_) {
    thread_.host_thread.store(HostThread(), std::memory_order_relaxed);
    if (is_set_) thread_.watch.Set(deadline);
    ++thread_.depth;
  }
  ~Running() {
    if (--thread_.depth == 0) thread_.host_thread.store(0, std::memory_order_relaxed);
    if (is_set_) thread_.watch.Set(outer_);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  plugin::PluginThread& thread_;
  const std::uint64_t outer_;
  const bool is_set_;
};

}  // namespace

// ---- beginning and end --------------------------------------------------------------------------

absl::Status Ring0Origin::Check(const Policy& policy) {
  if (dune::CurrentBackend() != dune::Backend::kRing0) {
    return absl::UnavailableError("compartments by ring 0: this thread is not in ring 0 (dune::Enter with Wanted::kRing0)");
  }
  if (!dune::GetCapabilities().user_mode || !dune::GetCapabilities().separate_tables) {
    return absl::UnavailableError("compartments by ring 0: this machine has no ring 3 for libdune");
  }
  if (policy.instruction_budget != 0 || policy.cpu_budget != absl::InfiniteDuration()) {
    return absl::UnimplementedError("compartments by ring 0 have a deadline, and no budgets");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const Ring0Origin>> Ring0Origin::Of(
    plugin::Instance& instance, std::shared_ptr<const plugin::InstanceSnapshot> snapshot, Policy policy) {
  if (absl::Status able = Check(policy); !able.ok()) return able;
  const memory::Layout layout =
      memory::Layout::FromRandom(snapshot->random, policy.stack, memory::Images::kSmall);
  absl::StatusOr<PagedOrigin> origin = PagedOrigin::Of(snapshot->memory, layout);
  if (!origin.ok()) return origin.status();
  return std::unique_ptr<const Ring0Origin>(new Ring0Origin{.snapshot = std::move(snapshot),
                                                            .policy = std::move(policy),
                                                            .memory = *std::move(origin),
                                                            .instance = instance});
}

absl::StatusOr<std::unique_ptr<Ring0Guest>> Ring0Guest::Create(const Ring0Origin& origin) {
  if (absl::Status in = CheckInRing0(); !in.ok()) return in;
  std::unique_ptr<Ring0Guest> guest(new Ring0Guest(origin));
  if (absl::Status begun = guest->Begin(); !begun.ok()) return begun;
  return guest;
}

Ring0Guest::Ring0Guest(const Ring0Origin& origin)
    : origin_(origin),
      space_(origin.memory, origin.policy.memory_limit),
      memory_(hostcalls::Window::Embedded(0), space_),
      thread_(plugin::kVirtualPid,
              std::make_unique<plugin::EngineCpu>(std::make_unique<Ring0Thread>(space_))) {}

absl::Status Ring0Guest::Begin() {
  if (absl::Status begun = space_.Begin(); !begun.ok()) return begun;
  const plugin::ThreadState& state = origin_.snapshot->threads.front();
  thread_.watch.Set(kNoDeadline);
  thread_.engine->Unkick();
  thread_.kicked.store(0);
  thread_.registers = {.rsp = state.stack_pointer, .fs_base = state.fs_base, .gs_base = state.gs_base};
  thread_.signal_mask = state.signal_mask;
  thread_.alternate_stack = state.alternate_stack;
  thread_.clear_child_tid = state.clear_child_tid;
  thread_.has_exited = false;
  thread_.depth = 0;
  return thread_.cpu->Restart({.mxcsr = state.mxcsr, .x87_control = state.x87_control});
}

absl::Status Ring0Guest::Recycle() {
  if (absl::Status in = CheckInRing0(); !in.ok()) return in;
  const std::unique_lock use(in_use_, std::try_to_lock);
  if (!use.owns_lock() || thread_.depth != 0) return absl::FailedPreconditionError("a call is under way");
  absl::Status begun = Begin();
  const std::lock_guard lock(mutex_);
  kernel_.reset();
  failure_.reset();
  if (!begun.ok()) failure_ = Failure{.kind = Failure::Kind::kMismatch};
  has_ended_.store(!begun.ok(), std::memory_order_seq_cst);
  return begun;
}

void Ring0Guest::End(Failure failure) {
  const std::lock_guard lock(mutex_);
  if (failure_) return;
  failure.reached_memory_limit = thread_.was_refused_memory;
  failure_ = std::move(failure);
  has_ended_.store(true, std::memory_order_seq_cst);
  thread_.Kick();
}

std::optional<Failure> Ring0Guest::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

absl::Status Ring0Guest::EndedStatus() const {
  const std::optional<Failure> why = failure();
  return why ? ToStatus(*why) : absl::InternalError("a compartment has stopped for no reason");
}

// Libraries lie where they lie in what it is a clone of.
std::string Ring0Guest::SymbolAt(std::uint64_t address) { return origin_.instance.SymbolAt(address); }

plugin::PluginKernel& Ring0Guest::kernel() {
  const std::lock_guard lock(mutex_);
  if (kernel_ == nullptr) {
    auto made = std::make_unique<plugin::PluginKernel>(origin_.policy, memory_, space_, *this,
                                                       std::make_unique<plugin::HostFiles>(origin_.policy));
    const absl::Status restored =
        made->Restore(origin_.snapshot->kernel, plugin::PluginKernel::OpenFiles::kReopened);
    if (!restored.ok() && !failure_) {
      failure_ = Failure{.kind = Failure::Kind::kMismatch};
      has_ended_.store(true, std::memory_order_seq_cst);
    }
    kernel_ = std::move(made);
  }
  return *kernel_;
}

// ---- calls --------------------------------------------------------------------------------------

absl::StatusOr<CallResult> Ring0Guest::Call(std::uint64_t function, const CallFrame& frame) {
  if (absl::Status same = plugin::CheckOriginalProcess(); !same.ok()) return same;
  if (absl::Status in = CheckInRing0(); !in.ok()) return in;
  std::unique_lock use(in_use_, std::defer_lock);
  if (origin_.policy.deadline == absl::InfiniteDuration()) {
    use.lock();
  } else if (!use.try_lock_for(absl::ToChronoNanoseconds(origin_.policy.deadline))) {
    return absl::DeadlineExceededError("another thread is in the compartment");
  }
  if (thread_.depth > origin_.policy.nesting) {
    return absl::ResourceExhaustedError("calls and callbacks are nested too deep");
  }
  plugin::PrepareThread();
  if (thread_.depth == 0) thread_.was_refused_memory = false;
  const Running running(thread_, DeadlineIn(origin_.policy.deadline));
  return CallLocked(function, frame);
}

absl::StatusOr<CallResult> Ring0Guest::CallLocked(std::uint64_t function, const CallFrame& frame) {
  if (has_ended_.load()) return EndedStatus();
  std::uint64_t stack = thread_.registers.rsp;
  if (const plugin::StackFault fault =
          plugin::LayOutCall(memory_, frame, origin_.snapshot->table.return_gate, stack)) {
    EndBySignal(thread_, SIGSEGV, *fault);
    return EndedStatus();
  }
  if (frame.vector_count != 0) {
    if (absl::Status written = thread_.cpu->WriteVectors(frame.vectors); !written.ok()) return Fail(written);
  }
  const std::uint64_t stack_after = stack + sizeof(std::uint64_t);
  plugin::GuestCpu::Returned returned;
  const plugin::GuestCpu::Left left = thread_.cpu->RunFunction({.function = function,
                                                                .stack_pointer = stack,
                                                                .frame = frame,
                                                                .fs_base = thread_.registers.fs_base,
                                                                .gs_base = thread_.registers.gs_base},
                                                               returned);
  if (left == plugin::GuestCpu::Left::kByReturn) {
    absl::StatusOr<CallResult> result = plugin::ResultOfCall(*thread_.cpu, frame, returned);
    return result.ok() ? result : Fail(result.status());
  }
  const runtime::Registers before = thread_.registers;
  absl::StatusOr<CallResult> result = Finish(frame, stack_after);
  if (result.ok()) thread_.registers = before;
  return result;
}

absl::StatusOr<CallResult> Ring0Guest::Finish(const CallFrame& frame, std::uint64_t stack_after) {
  thread_.cpu->TakeRegisters(thread_.registers);
  runtime::Exit exit = thread_.cpu->TakeExit();
  for (;;) {
    if (std::holds_alternative<runtime::SystemCall>(exit)) {
      if (auto end = OnSystemCall(frame, stack_after)) return *std::move(end);
    } else if (const auto* fault = std::get_if<runtime::Fault>(&exit)) {
      OnFault(*fault);
    } else if (const auto* broken = std::get_if<runtime::EngineFailure>(&exit)) {
      return Fail(absl::InternalError(broken->reason));
    }
    if (thread_.kicked.load(std::memory_order_relaxed) != 0) LookWhyKicked();
    if (has_ended_.load(std::memory_order_seq_cst)) return EndedStatus();
    exit = thread_.engine->Run(thread_.registers);
  }
}

std::optional<absl::StatusOr<CallResult>> Ring0Guest::OnSystemCall(const CallFrame& frame,
                                                                   std::uint64_t stack_after) {
  runtime::Registers& registers = thread_.registers;
  const std::uint64_t number = registers.rax;
  if (number == DUNEBOX_GATE_RETURN && registers.rsp == stack_after) {
    absl::StatusOr<CallResult> result = plugin::ResultOfCall(
        *thread_.cpu, frame, {.integer = registers.rdi, .second_integer = registers.rdx});
    return result.ok() ? result : absl::StatusOr<CallResult>(Fail(result.status()));
  }
  if (number >= DUNEBOX_GATE_CALLBACK && number < DUNEBOX_GATE_CALLBACK + DUNEBOX_MOST_CALLBACKS) {
    OnCallback(number - DUNEBOX_GATE_CALLBACK);
    return std::nullopt;
  }
  if (number == DUNEBOX_GATE_RETURN || number == DUNEBOX_GATE_READY) {
    End({.kind = Failure::Kind::kMismatch});
    return std::nullopt;
  }
  const SyscallResult result = plugin::MakeWardedCall(
      kernel(), thread_,
      {.number = number,
       .arguments = {registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9}});
  // There is no other thread that could go on.
  if (thread_.has_exited) End({.kind = Failure::Kind::kMismatch});
  if (result.is_registers_set()) return std::nullopt;
  if (result.is_restart()) {
    registers.rip -= kSyscallLength;
  } else {
    registers.rax = result.ToRegister();
  }
  return std::nullopt;
}

void Ring0Guest::OnCallback(std::uint64_t number) {
  const std::shared_ptr<const internal::Callback> callback = CallbackAt(number);
  if (callback == nullptr) return EndBySignal(thread_, SIGSEGV, 0);
  const absl::StatusOr<plugin::StackFault> served =
      plugin::ServeCallback(memory_, *thread_.cpu, thread_.registers, *callback);
  if (!served.ok()) {
    End({.kind = Failure::Kind::kTrap});
  } else if (*served) {
    EndBySignal(thread_, SIGSEGV, **served);
  }
}

void Ring0Guest::OnFault(const runtime::Fault& fault) {
  if (fault.vector == dune::x86::Vector::kPageFault) {
    const absl::StatusOr<bool> filled = space_.Fill(fault.address, plugin::AccessOf(fault));
    if (!filled.ok()) {
      return End({.kind = Failure::Kind::kTrap, .signal = SIGBUS, .instruction = thread_.registers.rip,
                  .fault_address = fault.address});
    }
    if (*filled) return;
  }
  std::optional<std::string> missing = plugin::MendFault(warden_, fault, thread_.registers.rip);
  if (!missing) return;
  const siginfo_t info = process::SignalOfFault(fault, thread_.registers.rip, {});
  EndBySignal(thread_, info.si_signo, fault.address, *std::move(missing));
}

void Ring0Guest::LookWhyKicked() {
  thread_.kicked.store(0, std::memory_order_seq_cst);
  thread_.engine->Unkick();
  if (!thread_.watch.HasPassed()) return;
  End({.kind = Failure::Kind::kTimeout,
       .instruction = thread_.registers.rip,
       .symbol = SymbolAt(thread_.registers.rip)});
}

// ---- what system calls do -----------------------------------------------------------------------

SyscallResult Ring0Guest::StartThread(plugin::PluginThread&, const plugin::NewThread&) {
  return Errno{EAGAIN};
}

// Nothing handles one here; what is left is its default action.
SyscallResult Ring0Guest::SendSignal(plugin::PluginThread&, pid_t target, int signal) {
  if (target != 0 && target != plugin::kVirtualPid) return Errno{ESRCH};
  if (signal != 0) EndBySignal(thread_, signal, 0);
  return hostcalls::kSuccess;
}

// ---- memory and what else the host asks for -----------------------------------------------------

absl::Status Ring0Guest::CheckThread() const { return CheckInRing0(); }

absl::Status Ring0Guest::Put(const Region& region, std::optional<RegionAccess> access) {
  return space_.Put(region, access);
}

std::shared_ptr<const internal::Callback> Ring0Guest::CallbackAt(std::uint64_t number) const {
  const std::lock_guard lock(mutex_);
  return number < callbacks_.size() ? callbacks_[number] : nullptr;
}

absl::StatusOr<std::uint64_t> Ring0Guest::AddCallback(std::shared_ptr<const internal::Callback> callback) {
  const std::lock_guard lock(mutex_);
  if (callbacks_.size() == DUNEBOX_MOST_CALLBACKS) {
    return absl::ResourceExhaustedError("a compartment has no room for more callbacks");
  }
  callbacks_.push_back(std::move(callback));
  return origin_.snapshot->table.callbacks + (callbacks_.size() - 1) * DUNEBOX_CALLBACK_SIZE;
}

bool Ring0Guest::IsCalledByThisThread() const {
  return thread_.host_thread.load(std::memory_order_relaxed) == gettid();
}

absl::StatusOr<internal::Block> Ring0Guest::Allocate(std::size_t size) {
  if (absl::Status in = CheckInRing0(); !in.ok()) return in;
  std::shared_ptr<plugin::Arena> arena;
  {
    const std::lock_guard lock(mutex_);
    if (arena_ == nullptr) {
      if (absl::Status reserved = space_.ReserveArena(); !reserved.ok()) return reserved;
      arena_ = std::make_shared<plugin::Arena>(space_.arena_memory(), space_.arena_host_offset());
    }
    arena = arena_;
  }
  const absl::StatusOr<std::uint64_t> address =
      arena->Allocate(size, [this](std::uint64_t bytes) { return space_.ExtendArena(bytes); });
  if (!address.ok()) return address.status();
  return internal::Block(std::move(arena), *address, size);
}

bool Ring0Guest::Read(std::uint64_t from, std::span<std::byte> to) const {
  return CheckInRing0().ok() && memory_.Read(from, to);
}
bool Ring0Guest::Write(std::uint64_t to, std::span<const std::byte> from) {
  return CheckInRing0().ok() && memory_.Write(to, from);
}
absl::StatusOr<std::string> Ring0Guest::ReadString(std::uint64_t from, std::size_t most) const {
  if (absl::Status in = CheckInRing0(); !in.ok()) return in;
  hostcalls::CopyResult<std::string> text = memory_.CopyInString(from, most, Errno{E2BIG});
  if (text.ok()) return *std::move(text);
  return absl::OutOfRangeError(text.error().value == E2BIG
                                   ? "a string of the compartment's is longer than the host accepts"
                                   : "the compartment points to what is not its memory");
}

std::string Ring0Guest::TakeOutput() {
  const std::lock_guard lock(mutex_);
  return kernel_ == nullptr ? std::string() : kernel_->TakeOutput();
}
std::vector<std::string> Ring0Guest::Denials() const {
  const std::lock_guard lock(mutex_);
  return kernel_ == nullptr ? std::vector<std::string>() : kernel_->Denials();
}

// What only the original does, which the translator keeps.
absl::Status Ring0Guest::Load(const std::string&) {
  return absl::UnimplementedError("a compartment's code is loaded once, by CompartmentCode::Load");
}
absl::StatusOr<std::uint64_t> Ring0Guest::FindSymbol(const std::string& name) {
  const OutsideRing0 outside;
  if (!outside.status().ok()) return outside.status();
  return origin_.instance.FindSymbol(name);
}
absl::StatusOr<std::shared_ptr<const plugin::InstanceSnapshot>> Ring0Guest::Snapshot() {
  return absl::UnimplementedError("a compartment by ring 0 is no snapshot's origin");
}
absl::Status Ring0Guest::ReturnTo(const plugin::InstanceSnapshot&) { return Recycle(); }
absl::StatusOr<internal::Block> Ring0Guest::Claim(std::uint64_t, std::size_t) {
  return absl::NotFoundError("no such memory");
}

}  // namespace dunebox::compartment
