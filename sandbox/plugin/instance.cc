#include "sandbox/plugin/instance.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/asymmetric_fence.h"
#include "sandbox/plugin/call_protocol.h"
#include "sandbox/plugin/gate_pages.h"
#include "sandbox/plugin/guest_program.h"
#include "sandbox/plugin/host_signals.h"
#include "sandbox/plugin/instance_parts.h"
#include "sandbox/plugin/original_process.h"
#include "sandbox/plugin/saved_guest.h"

namespace dunebox::plugin {

using hostcalls::Errno;

namespace {

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

// What runs guests lends them segment bases, which in ring 0 are libdune's to keep.
absl::Status CheckNotInRing0() {
  std::uint16_t selector = 0;
  asm("mov %%cs, %0" : "=r"(selector));
  if ((selector & 3) != 0) return absl::OkStatus();
  return absl::FailedPreconditionError("a sandbox cannot be made by a thread in ring 0: dune::Leave first");
}

// Whether there is something to be done before the thread goes on.
bool HasNews(const PluginThread& thread) {
  return thread.kicked.load(std::memory_order_relaxed) != 0 ||
         (thread.pending_signals.load(std::memory_order_relaxed) & ~thread.signal_mask) != 0;
}

}  // namespace

constinit thread_local Instance::Borrowed* Instance::Borrowed::innermost_ = nullptr;

// ---- beginning and end --------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<Instance>> Instance::Reserve(const Policy& policy,
                                                            std::uint64_t random,
                                                            std::unique_ptr<Files> files) {
  NoteOriginalProcess();
  if (absl::Status status = CheckOriginalProcess(); !status.ok()) return status;
  if (absl::Status status = CheckNotInRing0(); !status.ok()) return status;
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
  // Whoever opens its files starts meanwhile. Where that cannot be, `Load` tells why.
  (void)(*instance)->kernel_.files().Begin();
  if (absl::Status status = (*instance)->Start(before_guest); !status.ok()) return status;
  return instance;
}

Instance::Instance(const Policy& policy, std::shared_ptr<const ReservedWindow> window,
                   std::uint64_t random, std::unique_ptr<Files> files)
    : policy_(policy),
      limits_{.time = policy.deadline,
              .budget = {.processor_time = policy.cpu_budget,
                         .instructions = policy.instruction_budget}},
      is_limited_(!limits_.IsNone() || policy.instruction_budget != 0),
      random_(random),
      window_(std::move(window)),
      memory_(window_->window()),
      space_(memory_, memory::Layout::FromRandom(random, policy.stack, memory::Images::kSmall)),
      arena_(std::make_shared<Arena>(window_, window_->window().base)),
      kernel_(policy, memory_, space_, *this, std::move(files)) {}

Instance::~Instance() {
  EndNow();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return running_by_themselves_ == 0; });
}

absl::Status Instance::SetUpEngine(std::shared_ptr<const runtime::SharedCode> shared) {
  PrepareAsymmetricFences();
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
  space_.LimitData(policy_.memory_limit);
  const absl::StatusOr<PluginTable> gates = PutGates(space_);
  if (!gates.ok()) return gates.status();
  gates_ = *gates;
  SetFunctions({.table = gates_});
  return absl::OkStatus();
}

Instance::Functions Instance::GetFunctions() const {
  const std::lock_guard lock(mutex_);
  return functions_;
}

void Instance::SetFunctions(const Functions& functions) {
  const std::lock_guard lock(mutex_);
  functions_ = functions;
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
  const PluginThread* const caller = Borrowed::Of(*this);
  failure.reached_memory_limit = caller != nullptr && caller->was_refused_memory;
  failure_ = std::move(failure);
  has_ended_.store(true, std::memory_order_seq_cst);
  for (PluginThread* thread : threads_) thread->Kick();
  changed_.notify_all();
}

// ---- calls --------------------------------------------------------------------------------------

absl::Status Instance::RunCallback(PluginThread& thread, runtime::Registers& registers,
                                   std::uint64_t number) {
  const Callback* const callback = callback_of_[number].load(std::memory_order_acquire);
  if (callback == nullptr) {
    EndBySignal(thread, SIGSEGV, 0);
    return EndedStatus();
  }
  const absl::StatusOr<StackFault> served = ServeCallback(memory_, *thread.cpu, registers, *callback);
  if (!served.ok()) return Fail(served.status());
  if (!*served) return absl::OkStatus();
  EndBySignal(thread, SIGSEGV, **served);
  return EndedStatus();
}

absl::StatusOr<CallResult> Instance::ResultOf(PluginThread& thread, const CallFrame& frame,
                                              const GuestCpu::Returned& returned) {
  absl::StatusOr<CallResult> result = ResultOfCall(*thread.cpu, frame, returned);
  return result.ok() ? result : Fail(result.status());
}

// A thread of an instance that has ended keeps whatever it has: it is not used again. One that has
// returned has the registers with which it was parked, or has called back.
[[gnu::always_inline]] inline absl::StatusOr<CallResult> Instance::CallNow(PluginThread& thread,
                                                                           std::uint64_t function,
                                                                           const CallFrame& frame) {
  // The thread may be one whose last call has ended the instance.
  if (has_ended_.load()) return EndedStatus();
  std::uint64_t stack = thread.registers.rsp;
  if (const StackFault fault = LayOutCall(memory_, frame, gates_.return_gate, stack)) {
    EndBySignal(thread, SIGSEGV, *fault);
    return EndedStatus();
  }
  if (frame.vector_count != 0) {
    if (absl::Status written = thread.cpu->WriteVectors(frame.vectors); !written.ok()) return Fail(written);
  }
  thread.calls.store(thread.calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  GuestCpu::Returned returned;
  const GuestCpu::Left left = thread.cpu->RunFunction({.function = function,
                                                       .stack_pointer = stack,
                                                       .frame = frame,
                                                       .fs_base = thread.registers.fs_base,
                                                       .gs_base = thread.registers.gs_base},
                                                      returned);
  if (left == GuestCpu::Left::kByReturn && !frame.wants_vector_result) {
    return CallResult{.integer = returned.integer, .second_integer = returned.second_integer};
  }
  return LeaveFunction(thread, frame, left, returned, stack + sizeof(std::uint64_t));
}

// What comes before a function's end: callbacks mostly, which need nothing of RunThread's.
absl::StatusOr<CallResult> Instance::LeaveFunction(PluginThread& thread, const CallFrame& frame,
                                                   GuestCpu::Left left, GuestCpu::Returned& returned,
                                                   std::uint64_t stack_after) {
  using Left = GuestCpu::Left;
  runtime::Registers& own = thread.registers;
  const std::uint64_t rsp = own.rsp, rip = own.rip, fs_base = own.fs_base, gs_base = own.gs_base;
  runtime::Registers registers;
  bool has_news = false;
  while (left == Left::kByCall) {
    thread.cpu->TakeRegisters(registers);
    if (!IsCallback(registers.rax)) break;
    // For calls from the callback, and what failures tell.
    own.rsp = registers.rsp, own.rip = registers.rip;
    own.fs_base = registers.fs_base, own.gs_base = registers.gs_base;
    const absl::Status done = RunCallback(thread, registers, registers.rax - DUNEBOX_GATE_CALLBACK);
    if (!done.ok()) return done;
    if ((has_news = HasNews(thread))) break;
    left = thread.cpu->Continue(registers, stack_after, returned);
  }
  own.rsp = rsp, own.rip = rip, own.fs_base = fs_base, own.gs_base = gs_base;
  if (left == Left::kByReturn) return ResultOf(thread, frame, returned);
  std::optional<runtime::Exit> first;
  if (left == Left::kOtherwise) {
    thread.cpu->TakeRegisters(registers);
    first = thread.cpu->TakeExit();
  } else if (!has_news) {
    first = runtime::SystemCall{};
  }
  const runtime::Registers before = std::exchange(own, registers);
  absl::StatusOr<CallResult> result = FinishCall(thread, frame, std::move(first), stack_after);
  if (result.ok()) own = before;
  return result;
}

absl::StatusOr<CallResult> Instance::CallOn(PluginThread& thread, std::uint64_t function,
                                            const CallFrame& frame, std::uint64_t deadline,
                                            const Budget& budget) {
  const Timed timed(thread.watch, deadline);
  const Budgeted budgeted(thread.watch, budget.processor_time);
  std::optional<Counted> counted;
  if (policy_.instruction_budget != 0) counted.emplace(*thread.cpu, budget.instructions);
  return CallNow(thread, function, frame);
}

absl::Status Instance::EndByMismatch() {
  End({.kind = Failure::Kind::kMismatch});
  return EndedStatus();
}

// From the thread's registers, behind what `first` says.
absl::StatusOr<CallResult> Instance::FinishCall(PluginThread& thread, const CallFrame& frame,
                                                std::optional<runtime::Exit> first, std::uint64_t stack_after) {
  runtime::Registers& registers = thread.registers;
  for (;;) {
    Stop stop = Ended{};
    {
      const Entered entered(thread);
      stop = RunThread(thread, std::exchange(first, std::nullopt));
    }
    if (std::holds_alternative<Ended>(stop)) return EndedStatus();
    if (const auto* broken = std::get_if<Broken>(&stop)) {
      return Fail(absl::InternalError(broken->reason));
    }
    if (const auto* called = std::get_if<CallbackCalled>(&stop)) {
      if (absl::Status done = RunCallback(thread, registers, called->number); !done.ok()) return done;
      continue;
    }
    if (!std::holds_alternative<Returned>(stop) || registers.rsp != stack_after) return EndByMismatch();
    return ResultOf(thread, frame, {.integer = registers.rdi, .second_integer = registers.rdx});
  }
}

[[gnu::always_inline]] inline LentPlace* Instance::TakeFree() {
  for (LentPlace& place : lent_) {
    if (!place.Take()) continue;
    if (place.thread != nullptr) return &place;
    place.GiveBack();
  }
  return nullptr;
}

LentPlace* Instance::TakeParked() {
  if (LentPlace* const place = TakeFree()) return place;
  LentPlace* place = nullptr;
  std::unique_lock lock(mutex_);
  waiting_.fetch_add(1, std::memory_order_relaxed);
  HeavyFence();
  changed_.wait(lock, [&] { return failure_ || (place = TakeFree()) != nullptr; });
  waiting_.fetch_sub(1, std::memory_order_relaxed);
  return place;
}

void Instance::Park(LentPlace& place) {
  place.GiveBack();
  LightFence();
  if (waiting_.load(std::memory_order_relaxed) == 0) return;
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

// One of the parked threads, which has been taken, until the end of a call.
class Instance::Lent {
 public:
  Lent(Instance& instance, LentPlace& place) : instance_(instance), place_(place) {}
  ~Lent() { instance_.Park(place_); }
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;
  PluginThread& thread() const { return *place_.thread; }

 private:
  Instance& instance_;
  LentPlace& place_;
};

// Most calls have no limits, come from no callback, and find a thread that is parked.
absl::StatusOr<CallResult> Instance::Call(std::uint64_t function, const CallFrame& frame) {
  const bool is_plain = !is_limited_ && IsOriginalProcess() && jit::IsHostThreadReady() && Borrowed::IsNone();
  LentPlace* const place = is_plain ? TakeFree() : nullptr;
  if (place == nullptr) return CallWithin(limits_, function, frame);
  const Lent lent(*this, *place);
  const Borrowed borrowed(*this, lent.thread());
  return CallNow(lent.thread(), function, frame);
}

absl::StatusOr<CallResult> Instance::CallWithin(const Limits& limits, std::uint64_t function,
                                                const CallFrame& frame) {
  if (!IsOriginalProcess()) return CheckOriginalProcess();
  // Where there is no reason any more another thread has reset it meanwhile.
  if (has_ended_.load(std::memory_order_relaxed)) {
    if (const std::optional<Failure> why = failure()) return ToStatus(*why);
  }
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
  if (absl::Status status = EnsureStarted(); !status.ok()) return status;
  PrepareThread();
  LentPlace* place = nullptr;
  while ((place = TakeParked()) == nullptr) {
    if (const std::optional<Failure> why = failure()) return ToStatus(*why);
  }
  const Lent lent(*this, *place);
  const Borrowed borrowed(*this, lent.thread());
  return CallOn(lent.thread(), function, frame, deadline, limits.budget);
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

bool Instance::IsCalledByThisThread() const { return Borrowed::Of(*this) != nullptr; }

bool Instance::MustCallerStop() {
  const Borrowed* const borrowed = Borrowed::Innermost();
  if (borrowed == nullptr) return false;
  // Before the kick comes it would go on.
  const PluginThread& thread = borrowed->thread();
  return borrowed->instance().has_ended_.load() || (thread.kicked.load() != 0 && thread.watch.HasPassed());
}

std::uint64_t Instance::CallbackAddress(std::size_t number) const {
  return gates_.callbacks + number * DUNEBOX_CALLBACK_SIZE;
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

// A thread that blocks what a copy from nowhere raises would be ended by it.
bool Instance::Read(std::uint64_t from, std::span<std::byte> to) const {
  PrepareThread();
  return memory_.Read(from, to);
}

bool Instance::Write(std::uint64_t to, std::span<const std::byte> from) {
  PrepareThread();
  return memory_.Write(to, from);
}

absl::StatusOr<std::string> Instance::ReadString(std::uint64_t from, std::size_t most) const {
  PrepareThread();
  hostcalls::CopyResult<std::string> text = memory_.CopyInString(from, most, Errno{E2BIG});
  if (text.ok()) return *std::move(text);
  return absl::OutOfRangeError(text.error().value == E2BIG
                                   ? "a string of the plugin's is longer than the host accepts"
                                   : "the plugin points to what is not its memory");
}

std::string Instance::TakeOutput() { return kernel_.TakeOutput(); }
std::vector<std::string> Instance::Denials() const { return kernel_.Denials(); }

}  // namespace dunebox::plugin
