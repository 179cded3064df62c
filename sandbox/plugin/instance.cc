#include "sandbox/plugin/instance.h"

#include <cpuid.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "hostcalls/services/separate_descriptors.h"
#include "runtime/loader/program.h"
#include "runtime/loader/symbols.h"
#include "runtime/process/signal_delivery.h"
#include "sandbox/plugin/guest_program.h"
#include "sandbox/plugin/host_signals.h"
#include "sandbox/plugin/original_process.h"
#include "sandbox/plugin/saved_guest.h"

namespace dunebox::plugin {

using hostcalls::Errno;
using hostcalls::kSuccess;
using hostcalls::SyscallResult;
using signals::MaskOf;

namespace {

constexpr std::uint64_t kSyscallLength = 2;        // 0f 05
constexpr std::uint64_t kRedZone = 128;            // [abi §3.2.2]
constexpr std::uint64_t kHwcap2Fsgsbase = 1 << 1;  // [linux]

// [linux] SIG_KERNEL_IGNORE_MASK
constexpr std::uint64_t kIgnoredByDefault =
    MaskOf(SIGCONT) | MaskOf(SIGCHLD) | MaskOf(SIGWINCH) | MaskOf(SIGURG);

pid_t HostThread() {
  static thread_local const pid_t id = gettid();
  return id;
}

std::uint64_t DeadlineIn(absl::Duration time) {
  if (time == absl::InfiniteDuration()) return kNoDeadline;
  // At most 292 years.
  return CoarseNow() + static_cast<std::uint64_t>(absl::ToInt64Nanoseconds(time));
}

absl::StatusOr<loader::StartState> LoadInto(memory::AddressSpace& space, const Policy& policy,
                                            const runtime::EngineThread& engine) {
  const hostcalls::Window& window = space.memory().window();
  absl::StatusOr<loader::Program> program =
      OpenGuestProgram({GuestVirt{window.lowest}, GuestVirt{window.limit}});
  if (!program.ok()) return program.status();
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  __get_cpuid(1, &eax, &ebx, &ecx, &edx);
  const loader::HostFacts facts{
      .vdso = {},
      .hardware_capabilities = edx,  // AT_HWCAP [linux]
      .hardware_capabilities2 = getauxval(AT_HWCAP2) & kHwcap2Fsgsbase,
      .minimum_signal_stack = signals::MinimumSignalStack(engine.extended_state_size()),
      .stack_limit = policy.stack};
  return loader::Load(*program, policy.environment, space, facts);
}

std::uint64_t BudgetFromNow(pid_t thread, absl::Duration time) {
  if (time == absl::InfiniteDuration()) return kNoDeadline;
  return CpuTimeOf(thread) + static_cast<std::uint64_t>(absl::ToInt64Nanoseconds(time));
}

// Gives a call its deadline, if that is before the one of the call that it comes from.
class Timed {
 public:
  Timed(Watch& watch, std::uint64_t deadline)
      : watch_(watch), outer_(watch.deadline()), is_set_(deadline < outer_) {
    if (is_set_) watch_.Set(deadline);
  }
  ~Timed() {
    if (is_set_) watch_.Set(outer_);
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  Watch& watch_;
  const std::uint64_t outer_;
  const bool is_set_;
};

// Gives a call its budget, within that of the call that it comes from.
class Budgeted {
 public:
  Budgeted(Watch& watch, absl::Duration time) : watch_(watch), outer_(watch.budget()) {
    if (time == absl::InfiniteDuration()) return;
    is_set_ = true;
    watch_.SetBudget(HostThread(), std::min(BudgetFromNow(HostThread(), time), outer_));
  }
  ~Budgeted() {
    if (is_set_) watch_.SetBudget(HostThread(), outer_);
  }
  Budgeted(const Budgeted&) = delete;
  Budgeted& operator=(const Budgeted&) = delete;

 private:
  Watch& watch_;
  const std::uint64_t outer_;
  bool is_set_ = false;
};

// Gives a call its budget of instructions, within what is left of that of the call that it comes from. A call
// without one uses up nothing of the other's.
class Counted {
 public:
  Counted(GuestCpu& cpu, std::uint64_t budget)
      : cpu_(cpu),
        outer_(cpu.instructions_left()),
        granted_(budget == 0 ? kNoInstructionLimit
                             : std::min(outer_, static_cast<std::int64_t>(std::min(
                                                    budget, std::uint64_t{kNoInstructionLimit})))),
        is_limited_(budget != 0) {
    cpu_.set_instructions_left(granted_);
  }
  ~Counted() {
    cpu_.set_instructions_left(is_limited_ ? outer_ - (granted_ - cpu_.instructions_left()) : outer_);
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  GuestCpu& cpu_;
  const std::int64_t outer_, granted_;
  const bool is_limited_;
};

// Takes a guest thread over for a stretch of guest code, with what the host expects to find again.
class Entered {
 public:
  explicit Entered(PluginThread& thread) : cpu_(*thread.cpu) { cpu_.Enter(); }
  ~Entered() { cpu_.Leave(); }
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;

 private:
  GuestCpu& cpu_;
};

}  // namespace

// A guest thread in the hands of the calling host thread, for a call and what is called from its
// callbacks.
class Instance::Borrowed {
 public:
  Borrowed(Instance& instance, PluginThread& thread)
      : instance_(instance), thread_(thread), outer_(innermost_) {
    innermost_ = this;
    // GuestCpu::Enter is the barrier behind this.
    thread_.host_thread.store(HostThread(), std::memory_order_relaxed);
  }
  ~Borrowed() {
    thread_.host_thread.store(0, std::memory_order_relaxed);
    innermost_ = outer_;
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  // The guest thread of `instance` that the calling host thread has; null: none.
  static PluginThread* Of(const Instance& instance) {
    for (const Borrowed* entry = innermost_; entry != nullptr; entry = entry->outer_) {
      if (&entry->instance_ == &instance) return &entry->thread_;
    }
    return nullptr;
  }

 private:
  static thread_local Borrowed* innermost_;
  Instance& instance_;
  PluginThread& thread_;
  Borrowed* const outer_;
};

thread_local Instance::Borrowed* Instance::Borrowed::innermost_ = nullptr;

// ---- beginning and end --------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<Instance>> Instance::Reserve(const Policy& policy,
                                                            std::uint64_t random,
                                                            std::unique_ptr<Files> files) {
  NoteOriginalProcess();
  if (absl::Status status = CheckOriginalProcess(); !status.ok()) return status;
  if (absl::Status status = CheckOutputs(policy); !status.ok()) return status;
  absl::StatusOr<ReservedWindow> window = ReservedWindow::Create();
  if (!window.ok()) return window.status();
  return std::unique_ptr<Instance>(new Instance(
      policy, std::make_shared<const ReservedWindow>(*std::move(window)), random,
      std::move(files)));
}

absl::StatusOr<std::unique_ptr<Instance>> Instance::Create(
    const Policy& policy, std::uint64_t random, std::unique_ptr<Files> files,
    absl::FunctionRef<absl::Status()> before_guest) {
  absl::StatusOr<std::unique_ptr<Instance>> instance = Reserve(policy, random, std::move(files));
  if (!instance.ok()) return instance.status();
  if (absl::Status status = (*instance)->Start(before_guest); !status.ok()) return status;
  return instance;
}

Instance::Instance(const Policy& policy, std::shared_ptr<const ReservedWindow> window,
                   std::uint64_t random, std::unique_ptr<Files> files)
    : policy_(policy),
      random_(random),
      window_(std::move(window)),
      memory_(window_->window()),
      space_(memory_, memory::Layout::FromRandom(random, policy.stack, memory::Images::kSmall)),
      arena_(std::make_shared<Arena>(window_, window_->window().base)),
      kernel_(policy, space_, *this, std::move(files)) {}

Instance::~Instance() {
  End({.kind = Failure::Kind::kExited});
  delete spare_.load();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return running_by_themselves_ == 0; });
}

absl::Status Instance::SetUpEngine(std::shared_ptr<const runtime::SharedCode> shared) {
  absl::StatusOr<std::unique_ptr<GuestEngine>> engine =
      GuestEngine::Create(policy_, space_, std::move(shared));
  if (!engine.ok()) return engine.status();
  engine_ = *std::move(engine);
  engine_->SetKick([this] { KickAll(); });
  return absl::OkStatus();
}

absl::Status Instance::Start(absl::FunctionRef<absl::Status()> before_guest) {
  if (absl::Status status = SetUpEngine(nullptr); !status.ok()) return status;
  if (absl::Status status = MakeGuestProgram(); !status.ok()) return status;
  if (absl::Status status = before_guest(); !status.ok()) return status;
  if (absl::Status status = TakeOverSignals(); !status.ok()) return status;
  PrepareThread();
  if (absl::Status status = StartMain(); !status.ok()) return status;
  for (unsigned made = 1; made < policy_.host_threads; ++made) {
    if (absl::Status status = MakeLentThread(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

void Instance::KickAll() {
  const std::lock_guard lock(mutex_);
  for (PluginThread* thread : threads_) thread->Kick();
}

void Instance::Enlist(PluginThread& thread) {
  const std::lock_guard lock(mutex_);
  threads_.push_back(&thread);
}

void Instance::Dismiss(PluginThread& thread) {
  const std::lock_guard lock(mutex_);
  std::erase(threads_, &thread);
}

absl::Status Instance::StartMain() {
  absl::StatusOr<std::unique_ptr<GuestCpu>> cpu = engine_->CreateCpu();
  if (!cpu.ok()) return cpu.status();
  auto thread = std::make_unique<PluginThread>(next_id_++, *std::move(cpu));
  absl::StatusOr<loader::StartState> start = absl::UnknownError("not loaded");
  hostcalls::WithSeparateDescriptors([&] { start = LoadInto(space_, policy_, *thread->engine); });
  if (!start.ok()) return start.status();
  space_.LimitData(policy_.memory_limit);
  thread->registers.rip = start->entry.value;
  thread->registers.rsp = start->stack_pointer.value;
  Enlist(*thread);
  Stop stop = Ended{};
  {
    const Borrowed borrowed(*this, *thread);
    thread->watch.Set(DeadlineIn(policy_.load_deadline));
    {
      const Entered entered(*thread);
      stop = RunThread(*thread);
    }
    thread->watch.Set(kNoDeadline);
  }
  const Ready* const ready = std::get_if<Ready>(&stop);
  const hostcalls::CopyResult<PluginTable> table =
      ready == nullptr ? hostcalls::CopyResult<PluginTable>(Errno{EFAULT})
                       : memory_.CopyIn(GuestPtr<PluginTable>{ready->table});
  if (!table.ok()) {
    std::string text = "the plugin's C library did not start";
    if (const std::optional<Failure> why = failure()) {
      absl::StrAppend(&text, ": ", ToStatus(*why).message());
    }
    if (const std::string output = kernel_.TakeOutput(); !output.empty()) {
      absl::StrAppend(&text, ": ", output);
    }
    Dismiss(*thread);
    return absl::UnavailableError(text);
  }
  table_ = *table;
  const std::lock_guard lock(mutex_);
  parked_.push_back(std::move(thread));
  return absl::OkStatus();
}

// The main thread has the plugin's C library make it, and it runs here until it parks.
absl::Status Instance::MakeLentThread() {
  const absl::Status failed =
      absl::ResourceExhaustedError("no more threads for a sandbox's callers");
  std::unique_ptr<PluginThread> made;
  PluginThread& main = *parked_.front();
  {
    const Borrowed borrowed(*this, main);
    main.made = &made;
    const absl::StatusOr<CallResult> result =
        CallOn(main, table_.make_thread, {}, DeadlineIn(policy_.load_deadline), {});
    main.made = nullptr;
    if (!result.ok()) return result.status();
    if (result->integer != 0 || made == nullptr) return failed;
  }
  Stop stop = Ended{};
  {
    const Borrowed borrowed(*this, *made);
    const Entered entered(*made);
    stop = RunThread(*made);
  }
  if (!std::holds_alternative<Ready>(stop)) {
    Dismiss(*made);
    return failed;
  }
  const std::lock_guard lock(mutex_);
  parked_.push_back(std::move(made));
  return absl::OkStatus();
}

std::optional<Failure> Instance::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

absl::Status Instance::EndedStatus() const {
  const std::optional<Failure> why = failure();
  return why ? ToStatus(*why) : absl::InternalError("a sandbox has stopped for no reason");
}

void Instance::End(Failure failure) {
  const std::lock_guard lock(mutex_);
  if (failure_) return;
  failure_ = std::move(failure);
  has_ended_.store(true, std::memory_order_seq_cst);
  for (PluginThread* thread : threads_) thread->Kick();
  changed_.notify_all();
}

// ---- running guest code -------------------------------------------------------------------------

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
  if (number >= DUNEBOX_GATE_CALLBACK && number < DUNEBOX_GATE_CALLBACK + DUNEBOX_MOST_CALLBACKS) {
    return CallbackCalled{number - DUNEBOX_GATE_CALLBACK};
  }
  if (number == DUNEBOX_GATE_READY) return Ready{registers.rdi};
  const SyscallResult result =
      MakeCall(thread, {.number = number,
                        .arguments = {registers.rdi, registers.rsi, registers.rdx, registers.r10,
                                      registers.r8, registers.r9}});
  if (thread.has_exited) return ThreadExited{};
  if (result.is_registers_set()) return std::nullopt;
  if (result.is_restart()) {
    registers.rip -= kSyscallLength;
    return std::nullopt;
  }
  registers.rax = result.ToRegister();
  return std::nullopt;
}

void Instance::EndBySignal(PluginThread& thread, int signal, std::uint64_t fault_address,
                           std::string missing_grant) {
  const std::uint64_t instruction = thread.registers.rip;
  End({.kind = Failure::Kind::kTrap,
       .signal = signal,
       .instruction = instruction,
       .fault_address = fault_address,
       .symbol = SymbolAt(instruction),
       .missing_grant = std::move(missing_grant)});
}

bool Instance::EnterHandler(PluginThread& thread, const siginfo_t& info,
                            const signals::TrapInfo& trap) {
  const int signal = info.si_signo;
  const signals::KernelAction action = kernel_.ActionOf(signal);
  if (!signals::PushFrame({.registers = &thread.registers,
                           .engine = thread.engine,
                           .memory = &memory_,
                           .alternate_stack = &thread.alternate_stack,
                           .mask = thread.signal_mask},
                          action, info, trap)) {
    return false;
  }
  thread.signal_mask |= action.mask;
  if ((action.flags & signals::kSaNoDefer) == 0) thread.signal_mask |= MaskOf(signal);
  if ((action.flags & signals::kSaResetHand) != 0) kernel_.SetAction(signal, {});
  return true;
}

void Instance::OnFault(PluginThread& thread, const runtime::Fault& fault) {
  std::optional<std::string> missing_grant = MendFault(thread, fault);
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
  if (open.ok()) symbol = loader::NameAt(loader::ReadSymbolsHere((*open).host.get()), offset);
  return absl::StrCat(name, ": ", symbol ? *symbol : absl::StrFormat("0x%x", offset));
}

// ---- threads of the plugin's own ----------------------------------------------------------------

SyscallResult Instance::StartThread(PluginThread& parent, const NewThread& request) {
  if (request.thread_pointer && !memory_.window().AllowsSegmentBase(*request.thread_pointer)) {
    return Errno{EPERM};
  }
  absl::StatusOr<std::unique_ptr<GuestCpu>> cpu = engine_->CreateCpu();
  std::vector<std::byte> extended(parent.engine->extended_state_size());
  if (!cpu.ok() || !parent.engine->FetchBases(parent.registers).ok() ||
      !parent.engine->SaveExtendedState(extended).ok() ||
      !(*cpu)->thread().LoadExtendedState(extended).ok()) {
    return Errno{EAGAIN};
  }
  auto thread = std::make_unique<PluginThread>(next_id_++, *std::move(cpu));
  thread->registers = parent.registers;
  thread->registers.rax = 0;
  thread->registers.rsp = request.stack;
  if (request.thread_pointer) thread->registers.fs_base = *request.thread_pointer;
  thread->clear_child_tid = request.clear_tid;
  thread->signal_mask = parent.signal_mask;
  thread->runs_by_itself = parent.made == nullptr;
  const pid_t id = thread->id;
  for (const std::optional<std::uint64_t>& address : {request.parent_tid, request.child_tid}) {
    // A bad address is not reported, as on Linux.
    if (address) (void)memory_.CopyOut(GuestPtr<pid_t>{*address}, id);
  }
  if (parent.made != nullptr) {
    Enlist(*thread);
    *parent.made = std::move(thread);
    return SyscallResult(id);
  }
  {
    const std::lock_guard lock(mutex_);
    if (failure_ || running_by_themselves_ >= policy_.plugin_threads) return Errno{EAGAIN};
    ++running_by_themselves_;
    threads_.push_back(thread.get());
  }
  RunByItself(std::move(thread));
  return SyscallResult(id);
}

// On a host thread of its own, which the application's signals do not go to.
void Instance::RunByItself(std::unique_ptr<PluginThread> owned) {
  const std::uint64_t mask = ApplicationSignals();
  std::uint64_t before = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &before, sizeof(before));
  std::thread([this, thread = std::move(owned)]() mutable {
    PrepareThread();
    {
      const Borrowed borrowed(*this, *thread);
      BeginIdleBudget(*thread);
      for (;;) {
        Stop stop = Ended{};
        {
          const Entered entered(*thread);
          stop = RunThread(*thread);
        }
        const CallbackCalled* const called = std::get_if<CallbackCalled>(&stop);
        if (called != nullptr && RunCallback(*thread, called->number).ok()) continue;
        if (std::holds_alternative<ThreadExited>(stop)) {
          Finish(*thread);
        } else {
          End({.kind = Failure::Kind::kMismatch});
        }
        break;
      }
    }
    Dismiss(*thread);
    thread.reset();
    const std::lock_guard lock(mutex_);
    --running_by_themselves_;
    changed_.notify_all();
  }).detach();
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, sizeof(before));
}

// What Linux does for an ending thread.
void Instance::Finish(PluginThread& thread) {
  constexpr std::uint32_t kNobody = 0;
  if (thread.clear_child_tid == 0) return;
  void* const word = memory_.HostAddress(thread.clear_child_tid, sizeof(kNobody));
  if (word == nullptr ||
      !memory_.CopyOut(GuestPtr<std::uint32_t>{thread.clear_child_tid}, kNobody).ok()) {
    return;
  }
  syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
}

// ---- calls --------------------------------------------------------------------------------------

absl::Status Instance::Fail(const absl::Status& status) {
  End({.kind = Failure::Kind::kTrap});
  return absl::InternalError(absl::StrCat("engine failure: ", status.message()));
}

// The stack as a function finds it.
absl::StatusOr<GuestCpu::Entry> Instance::PrepareFunction(PluginThread& thread,
                                                          std::uint64_t function,
                                                          const CallFrame& frame) {
  const runtime::Registers& registers = thread.registers;
  const std::uint64_t words = frame.stack_count;
  const std::uint64_t arguments =
      (registers.rsp - kRedZone - words * sizeof(std::uint64_t)) & ~std::uint64_t{15};
  const std::uint64_t stack = arguments - sizeof(std::uint64_t);
  const std::uint64_t back = table_.return_gate;
  if (!memory_.WriteAtOnce(stack, std::as_bytes(std::span(&back, 1))) ||
      (words != 0 &&
       !memory_.Write(arguments, std::as_bytes(std::span(frame.stack).first(words))))) {
    EndBySignal(thread, SIGSEGV, stack);
    return EndedStatus();
  }
  if (frame.vector_count != 0) {
    const absl::Status written = thread.cpu->WriteVectors(frame.vectors);
    if (!written.ok()) return Fail(written);
  }
  return GuestCpu::Entry{.function = function,
                         .stack_pointer = stack,
                         .frame = frame,
                         .fs_base = registers.fs_base,
                         .gs_base = registers.gs_base};
}

absl::Status Instance::RunCallback(PluginThread& thread, std::uint64_t number) {
  const Callback* const callback = callback_of_[number].load(std::memory_order_acquire);
  runtime::Registers& registers = thread.registers;
  if (callback == nullptr) {
    EndBySignal(thread, SIGSEGV, 0);
    return EndedStatus();
  }
  CallbackFrame frame;
  frame.integers = {registers.rdi, registers.rsi, registers.rdx,
                    registers.r10, registers.r8,  registers.r9};
  if (callback->uses_vectors) {
    const absl::StatusOr<Vectors> vectors = thread.cpu->ReadVectors();
    if (!vectors.ok()) return Fail(vectors.status());
    frame.vectors = *vectors;
  }
  const std::uint64_t arguments = registers.rsp + sizeof(std::uint64_t);
  if (callback->stack_words != 0 &&
      !memory_.Read(arguments,
                    std::as_writable_bytes(std::span(frame.stack).first(callback->stack_words)))) {
    EndBySignal(thread, SIGSEGV, arguments);
    return EndedStatus();
  }
  callback->run(frame);
  if (callback->has_large_result) {
    // Returned, as it was given. [abi §3.2.3]
    frame.result.integer = frame.integers[0];
    if (!memory_.Write(frame.integers[0], frame.large_result)) {
      EndBySignal(thread, SIGSEGV, frame.integers[0]);
      return EndedStatus();
    }
  }
  registers.rax = frame.result.integer;
  registers.rdx = frame.result.second_integer;
  if (!callback->uses_vectors) return absl::OkStatus();
  const absl::Status written =
      thread.cpu->WriteVectors({frame.result.vector, frame.result.second_vector});
  return written.ok() ? written : Fail(written);
}

absl::StatusOr<CallResult> Instance::ResultOf(PluginThread& thread, const CallFrame& frame,
                                              const GuestCpu::Returned& returned) {
  CallResult result{.integer = returned.integer, .second_integer = returned.second_integer};
  if (!frame.wants_vector_result) return result;
  const absl::StatusOr<Vectors> vectors = thread.cpu->ReadVectors();
  if (!vectors.ok()) return Fail(vectors.status());
  result.vector = (*vectors)[0];
  result.second_vector = (*vectors)[1];
  return result;
}

// A thread of an instance that has ended keeps whatever it has: it is not used again. One that has
// returned has the registers with which it was parked, or has called back.
absl::StatusOr<CallResult> Instance::CallOn(PluginThread& thread, std::uint64_t function,
                                            const CallFrame& frame, std::uint64_t deadline,
                                            const Budget& budget) {
  // The thread may be one whose last call has ended the instance.
  if (has_ended_.load()) return EndedStatus();
  const absl::StatusOr<GuestCpu::Entry> entry = PrepareFunction(thread, function, frame);
  if (!entry.ok()) return entry.status();
  const std::uint64_t stack_after = entry->stack_pointer + sizeof(std::uint64_t);
  thread.calls.store(thread.calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  const Timed timed(thread.watch, deadline);
  const Budgeted budgeted(thread.watch, budget.processor_time);
  std::optional<Counted> counted;
  if (policy_.instruction_budget != 0) counted.emplace(*thread.cpu, budget.instructions);
  GuestCpu::Returned returned;
  if (thread.cpu->RunFunction(*entry, returned)) {
    if (returned.stack_pointer != stack_after) return EndByMismatch();
    return ResultOf(thread, frame, returned);
  }
  const runtime::Registers before = thread.registers;
  absl::StatusOr<CallResult> result =
      FinishCall(thread, frame, thread.cpu->TakeExit(thread.registers), stack_after);
  if (result.ok()) thread.registers = before;
  return result;
}

absl::Status Instance::EndByMismatch() {
  End({.kind = Failure::Kind::kMismatch});
  return EndedStatus();
}

// What is left of a call when something has come before its end.
absl::StatusOr<CallResult> Instance::FinishCall(PluginThread& thread, const CallFrame& frame,
                                                std::optional<runtime::Exit> first,
                                                std::uint64_t stack_after) {
  for (;;) {
    Stop stop = Ended{};
    {
      const Entered entered(thread);
      stop = RunThread(thread, std::exchange(first, std::nullopt));
    }
    if (const auto* called = std::get_if<CallbackCalled>(&stop)) {
      const absl::Status done = RunCallback(thread, called->number);
      if (!done.ok()) return done;
      continue;
    }
    if (const auto* returned = std::get_if<Returned>(&stop)) {
      if (thread.registers.rsp != stack_after) break;
      return ResultOf(thread, frame,
                      {.stack_pointer = stack_after,
                       .integer = returned->value,
                       .second_integer = thread.registers.rdx});
    }
    if (std::holds_alternative<Ended>(stop)) return EndedStatus();
    if (const auto* broken = std::get_if<Broken>(&stop)) {
      return Fail(absl::InternalError(broken->reason));
    }
    break;
  }
  return EndByMismatch();
}

std::unique_ptr<PluginThread> Instance::TakeParked() {
  if (PluginThread* const spare = spare_.exchange(nullptr)) {
    return std::unique_ptr<PluginThread>(spare);
  }
  std::unique_ptr<PluginThread> thread;
  std::unique_lock lock(mutex_);
  ++waiting_;
  changed_.wait(lock, [&] {
    if (failure_) return true;
    // Whoever parks one looks after that whether somebody waits.
    thread.reset(spare_.exchange(nullptr));
    if (thread == nullptr && !parked_.empty()) {
      thread = std::move(parked_.back());
      parked_.pop_back();
    }
    return thread != nullptr;
  });
  --waiting_;
  return thread;
}

void Instance::Park(std::unique_ptr<PluginThread> thread) {
  PluginThread* none = nullptr;
  if (spare_.compare_exchange_strong(none, thread.get())) {
    (void)thread.release();
    if (waiting_.load() == 0) return;
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
    return;
  }
  const std::lock_guard lock(mutex_);
  parked_.push_back(std::move(thread));
  changed_.notify_all();
}

// One of the parked threads, until the end of a call.
class Instance::Lent {
 public:
  explicit Lent(Instance& instance) : instance_(instance), thread_(instance.TakeParked()) {}
  ~Lent() {
    if (thread_ != nullptr) instance_.Park(std::move(thread_));
  }
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;
  // Null: the instance has ended.
  PluginThread* get() const { return thread_.get(); }

 private:
  Instance& instance_;
  std::unique_ptr<PluginThread> thread_;
};

absl::StatusOr<CallResult> Instance::Call(std::uint64_t function, const CallFrame& frame) {
  return CallWithin(
      {.time = policy_.deadline,
       .budget = {.processor_time = policy_.cpu_budget, .instructions = policy_.instruction_budget}},
      function, frame);
}

absl::StatusOr<CallResult> Instance::CallWithin(const Limits& limits, std::uint64_t function,
                                                const CallFrame& frame) {
  if (absl::Status status = CheckOriginalProcess(); !status.ok()) return status;
  if (has_ended_.load(std::memory_order_relaxed)) return EndedStatus();
  const std::uint64_t deadline = DeadlineIn(limits.time);
  if (PluginThread* const thread = Borrowed::Of(*this)) {
    if (thread->depth >= policy_.nesting) {
      return absl::ResourceExhaustedError("calls and callbacks are nested too deep");
    }
    ++thread->depth;
    absl::StatusOr<CallResult> result =
        CallOn(*thread, function, frame, deadline, limits.budget);
    --thread->depth;
    return result;
  }
  PrepareThread();
  const Lent thread(*this);
  if (thread.get() == nullptr) return EndedStatus();
  const Borrowed borrowed(*this, *thread.get());
  return CallOn(*thread.get(), function, frame, deadline, limits.budget);
}

absl::StatusOr<std::uint64_t> Instance::AddCallback(std::shared_ptr<const Callback> callback) {
  const std::lock_guard lock(mutex_);
  const std::size_t number = callbacks_.size();
  if (number == DUNEBOX_MOST_CALLBACKS) {
    return absl::ResourceExhaustedError("a sandbox has no room for more callbacks");
  }
  callback_of_[number].store(callback.get(), std::memory_order_release);
  callbacks_.push_back(std::move(callback));
  return CallbackAddress(number);
}

std::uint64_t Instance::CallbackAddress(std::size_t number) const {
  return table_.callbacks + number * DUNEBOX_CALLBACK_SIZE;
}

// ---- memory and what else the host asks for ------------------------------------------------------

absl::StatusOr<GuestRange> Instance::MapHostMemory(int fd, std::uint64_t bytes) {
  GuestRange part;
  space_.WithMap([&](const memory::VmaMap& map) { part = SharedPart(map); });
  if (part.empty()) return MapShared(space_, fd, bytes);
  void* const wanted = memory_.HostAddress(part.start.value, part.size());
  if (part.size() != bytes || mmap(wanted, bytes, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED) {
    return absl::ResourceExhaustedError("the memory of both sides cannot be mapped");
  }
  return part;
}

absl::StatusOr<internal::Block> Instance::Allocate(std::size_t size) {
  absl::StatusOr<std::uint64_t> address =
      arena_->Allocate(size, [this](std::uint64_t bytes) { return MapPrivate(space_, bytes); });
  if (!address.ok()) return address.status();
  return internal::Block(arena_, *address, size);
}

bool Instance::Read(std::uint64_t from, std::span<std::byte> to) const {
  return memory_.Read(from, to);
}

bool Instance::Write(std::uint64_t to, std::span<const std::byte> from) {
  return memory_.Write(to, from);
}

absl::StatusOr<std::string> Instance::ReadString(std::uint64_t from, std::size_t most) const {
  hostcalls::CopyResult<std::string> text = memory_.CopyInString(from, most, Errno{E2BIG});
  if (text.ok()) return *std::move(text);
  return absl::OutOfRangeError(text.error().value == E2BIG
                                   ? "a string of the plugin's is longer than the host accepts"
                                   : "the plugin points to what is not its memory");
}

std::string Instance::TakeOutput() { return kernel_.TakeOutput(); }
std::vector<std::string> Instance::Denials() const { return kernel_.Denials(); }

// ---- libraries ----------------------------------------------------------------------------------

absl::StatusOr<internal::Block> Instance::Share(const std::string& text) {
  absl::StatusOr<internal::Block> block = Allocate(text.size() + 1);
  if (block.ok()) std::memcpy(block->host(), text.c_str(), text.size() + 1);
  return block;
}

namespace {

CallFrame WithArgument(std::uint64_t argument) {
  CallFrame frame;
  frame.AddInteger(argument);
  return frame;
}

}  // namespace

absl::Status Instance::Load(const std::string& path) {
  kernel_.files().Allow(path);
  const absl::StatusOr<internal::Block> text = Share(path);
  if (!text.ok()) return text.status();
  const absl::StatusOr<CallResult> handle = CallWithin(
      {.time = policy_.load_deadline, .budget = {}}, table_.open_library, WithArgument(text->address()));
  if (!handle.ok()) return handle.status();
  if (handle->integer != 0) return absl::OkStatus();
  const absl::StatusOr<CallResult> error = Call(table_.last_error, {});
  if (!error.ok()) return error.status();
  constexpr std::size_t kMostText = 1000;
  const hostcalls::CopyResult<std::string> message =
      memory_.CopyInString(error->integer, kMostText, Errno{EFAULT});
  return absl::NotFoundError(message.ok() ? *message : absl::StrCat(path, ": cannot be loaded"));
}

absl::StatusOr<std::uint64_t> Instance::FindSymbol(const std::string& name) {
  const absl::StatusOr<internal::Block> text = Share(name);
  if (!text.ok()) return text.status();
  const absl::StatusOr<CallResult> address = CallWithin(
      {.time = policy_.load_deadline, .budget = {}}, table_.find_symbol, WithArgument(text->address()));
  if (!address.ok()) return address.status();
  if (address->integer == 0) return absl::NotFoundError(absl::StrCat("no library has ", name));
  return address->integer;
}

}  // namespace dunebox::plugin
