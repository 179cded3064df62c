#include "runtime/process/guest_thread.h"

#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "hostcalls/errors/message.h"
#include "hostcalls/trace/write_line.h"
#include "runtime/process/crash.h"
#include "runtime/process/futex_notice.h"
#include "runtime/process/process.h"
#include "runtime/process/report.h"
#include "runtime/process/session_state.h"
#include "runtime/process/signal_delivery.h"

namespace dunebox::process {
namespace {

constexpr std::uint64_t kSyscallLength = 2;  // 0f 05

bool SetsLimits(std::uint64_t number) {
  return number == SYS_prlimit64 || number == SYS_setrlimit;
}

// A call that has ended because the thread is to be looked at goes on where it was, and a signal that a
// debugger may still take away has not ended it either. Nor has one of the CPU's kind that the program
// blocks, which the host cannot. What close has done it does not do again.
bool WasOnlyHeld(const GuestThread& thread, const hostcalls::Request& request,
                 const hostcalls::SyscallResult& result) {
  if (result.error() != EINTR || request.number == SYS_close) return false;
  const SignalState& signal = thread.signal;
  if (thread.owner.debugger() != nullptr &&
      (signal.pending.mask() & thread.owner.signal_handlers().handled()) == 0) {
    return true;
  }
  return thread.signal_pending.load(std::memory_order_relaxed) != 0 && !signal.HasDeliverable();
}

// With --posted-writes a call may have to tell of a write before it.
hostcalls::SyscallResult AfterPostedWrites(GuestThread& thread, const hostcalls::Request& request) {
  const std::optional<hostcalls::SyscallResult> late = thread.posted.TakeError(request);
  if (PostedWrites::EndsDescriptors(request)) {
    const std::string lines = thread.posted.TakeUnheard();
    if (!lines.empty()) hostcalls::WriteLine(thread.owner.session().report_fd, lines);
  }
  if (late && request.number != SYS_close) return *late;
  const hostcalls::SyscallResult result = thread.owner.dispatcher().Dispatch(thread, request);
  thread.posted.AfterCall(request, result, thread.owner.space());
  return late && result.ok() ? *late : result;
}

// The first time that the policy refuses a call which it always will: that was told, and the engine can give the
// answer from now on. Where denials are written down one by one nobody does without one.
bool LearnsRefusal(GuestThread& thread, std::uint64_t number) {
  if (thread.guard == nullptr || thread.owner.session().denials_fd >= 0) return false;
  if (number >= thread.refused_calls.size() || thread.refused_calls.test(number)) return false;
  const bool is_refused = RefusesAlways(thread.guard->rules(), number) != 0;
  if (is_refused) thread.refused_calls.set(number);
  return is_refused;
}

void OnSystemCall(GuestThread& thread) {
  runtime::Registers& registers = thread.registers;
  const hostcalls::Request request{.number = registers.rax,
                                   .arguments = {registers.rdi, registers.rsi, registers.rdx,
                                                 registers.r10, registers.r8, registers.r9}};
  const FutexNotice notice(*thread.engine, request);
  thread.pool_use.BeforeCall(thread, request);
  const hostcalls::SyscallResult result =
      thread.posts_writes ? AfterPostedWrites(thread, request)
                          : thread.owner.dispatcher().Dispatch(thread, request);
  thread.pool_use.AfterCall(thread, request);
  const bool learns = !result.ok() && LearnsRefusal(thread, request.number);
  if (learns || ChangesAnswers(request.number)) thread.PublishAnswers();
  if (SetsLimits(request.number)) TakeCrashSignals(thread.owner);
  if (result.is_registers_set()) return;
  if (result.is_restart() || WasOnlyHeld(thread, request, result)) {
    // Executed again, number still in RAX, once the pending signal's handler has returned.
    registers.rip -= kSyscallLength;
    return;
  }
  registers.rax = result.ToRegister();
}

// Job control's signals have effects on each other when they are sent, so they are not sent twice.
constexpr std::uint64_t kJobControl = signals::MaskOf(SIGCONT) | signals::MaskOf(SIGTSTP) |
                                      signals::MaskOf(SIGTTIN) | signals::MaskOf(SIGTTOU);

// What the guest may block while the host does not yet. Such a signal is taken by our handler, which
// stops the engine, and given back to the kernel for this thread: so it has to be one that comes to a
// handler, and no other thread may be there that could have had it. The CPU's own the host never blocks.
std::uint64_t AddableSignals(const Process& owner) {
  if (!owner.HasOneThread()) return signals::kSynchronous;
  return (owner.signal_handlers().handled() & ~kJobControl) | signals::kSynchronous;
}

// What the engine may do about SIGSEGV by itself; nothing while it has no memory to get faults in.
runtime::FaultHandler LentHandler(const GuestThread& thread) {
  // Read before the action: whoever changes that closes the pool.
  const std::uint64_t opening = thread.owner.space().pool_opening();
  if (!thread.owner.space().HasOpenPool() || thread.signal.mask_to_restore) return {};
  const signals::KernelAction action = thread.owner.signal_handlers().Get(SIGSEGV);
  const signals::AlternateStack& stack = thread.signal.alternate_stack;
  if (action.is_default() || action.is_ignore() ||
      (action.flags & signals::kSaResetHand) != 0 || (stack.flags & signals::kAutoDisarm) != 0) {
    return {};
  }
  const bool defers = (action.flags & signals::kSaNoDefer) == 0;
  return {.address = action.handler,
          .opening = opening,
          .restorer = action.restorer,
          .blocks = action.mask | (defers ? signals::MaskOf(SIGSEGV) : 0),
          .alternate_stack = stack,
          .switches_stack = (action.flags & signals::kSaOnStack) != 0 && stack.enabled()};
}

// Only where nobody wants to see each write, or count it, when it is made. A vforked child shares the engine's memory
// with its parent.
bool PostsWrites(const Process& owner, const hostcalls::Caller& caller, runtime::EngineThread& engine) {
  const SessionState& session = owner.session();
  const hostcalls::policy::Guard* const guard = owner.guard();
  return session.posted_writes && engine.posted_writes() != nullptr && owner.trace() == nullptr &&
         session.gdb.fd < 0 && !owner.is_vforked() && caller.limits.output == nullptr &&
         (guard == nullptr || guard->calls().AlwaysAllows(SYS_write));
}

// As a crash that no handler can take.
[[noreturn]] void OnGuestCrash(GuestThread& thread, const runtime::GuestCrash& crash) {
  errors::Say(errors::Id::kRing0Crash, "the program in ring 0 cannot go on: " + crash.reason);
  thread.EndBySignal(SIGSEGV);
}

}  // namespace

GuestThread::GuestThread(Process& guest, std::unique_ptr<runtime::EngineThread> engine_thread)
    : Caller(guest.space().memory(), guest, guest.limits(), guest.reserved()),
      owner(guest),
      engine(std::move(engine_thread)),
      posts_writes(PostsWrites(owner, *this, *engine)) {
  guard = owner.guard();
  session_root = owner.session().root;
  seals_memfds = owner.session().confinement.seals_memfds;
  owner.BeginThread();
  ReplaceEngine(std::move(engine));
  owner.threads().Add(*this);
  Attach();
}

GuestThread::~GuestThread() {
  signals::SetCurrentPending(nullptr);
  owner.threads().Remove(*this);
}

// Only threads share tables: HandleClone makes no processes that do.
pid_t GuestThread::LoneThread() const { return owner.HasOneThread() ? id.load() : 0; }

void GuestThread::Attach() {
  signals::SetCurrentPending(&signal.pending);
  owner.threads().Rename(*this);
  PublishAnswers();
}

void GuestThread::PublishAnswers() {
  const bool is_watched = owner.trace() != nullptr || owner.session().gdb.fd >= 0;
  if (is_watched || !engine->uses_known_answers()) return;
  std::vector<runtime::KnownAnswer> answers = KnownAnswers(guard, refused_calls);
  if (posts_writes) answers.push_back({SYS_write, runtime::Answer::kPostWrite});
  engine->KnowAnswers(answers);
}

runtime::Exit GuestThread::Run() {
  if (!engine->uses_known_answers()) return engine->Run(registers);
  engine->Lend({.signal_mask = signal.mask,
                .addable_signals = AddableSignals(owner),
                .clear_child_tid = clear_child_tid,
                .robust_list = robust_list,
                .fault_handler = LentHandler(*this),
                .lends_actions = LendActions(),
                .alternate_stack = signal.alternate_stack});
  if (posts_writes) posted.Lend(*engine->posted_writes(), owner.HasOneThread());
  runtime::Exit exit = engine->Run(registers);
  const runtime::OwnState own = engine->TakeBack();
  clear_child_tid = own.clear_child_tid;
  robust_list = own.robust_list;
  signal.alternate_stack = own.alternate_stack;
  // Before the mask, which may be followed by a signal.
  if (own.replaced_actions != 0) TakeActions(own.replaced_actions);
  if (own.signal_mask != signal.mask) SetSignalMask(*this, own.signal_mask);
  if (posts_writes && !posted.CarryOut(*engine->posted_writes())) {
    return runtime::EngineFailure{"ring 0 has posted what is no write"};
  }
  return exit;
}

bool GuestThread::LendActions() {
  abi::SignalActions* const shown = engine->signal_actions();
  // A vforked child's are its own, its machine its parent's.
  if (shown == nullptr || owner.is_vforked() || !owner.HasOneThread()) return false;
  const std::uint64_t version = owner.signal_handlers().version();
  if (version == shown_actions) return true;
  owner.signal_handlers().CopyTo(*shown);
  shown_actions = version;
  return true;
}

void GuestThread::TakeActions(std::uint64_t replaced) {
  const abi::SignalActions& shown = *engine->signal_actions();
  for (int number = 1; number <= signals::kSignalCount; ++number) {
    if ((replaced & signals::MaskOf(number)) == 0) continue;
    const signals::KernelAction action = shown.of[number];
    owner.signal_handlers().Replace(number, action);
  }
  shown_actions = 0;  // whatever is there
}

bool GuestThread::RestartsAfterSignal() const {
  const std::uint64_t noted = signal.pending.mask() & ~signal.mask;
  if (noted == 0) return true;  // a kick, no more
  const int first = std::countr_zero(noted) + 1;
  return (owner.signal_handlers().Get(first).flags & signals::kSaRestart) != 0;
}

void GuestThread::EndBySignal(int number) {
  ReportEnd(owner);
  ReleaseRobustFutexes(*this);
  if (owner.debugger() != nullptr) owner.debugger()->OnDeath(number);
  signals::DieBySignal(number);
}

void GuestThread::Die(const siginfo_t& info) {
  OnDeath(*this, info);
  ReleaseRobustFutexes(*this);
  if (owner.debugger() != nullptr) owner.debugger()->OnDeath(info.si_signo);
  signals::DieBySignal(info.si_signo);
}

void EndByEngineFailure(const std::string& reason) {
  errors::Say(errors::Id::kEngineFailure, "engine failure: " + reason);
  _exit(125);
}

void GuestThread::ReplaceEngine(std::unique_ptr<runtime::EngineThread> fresh) {
  engine = std::move(fresh);
  shown_actions = 0;
  signal.pending.Attach(
      &signal_pending, [](void* raw) { static_cast<runtime::EngineThread*>(raw)->Kick(); },
      engine.get());
  PublishAnswers();
}

namespace {

// The next stretch of guest code, and what ended it; a thread that is held parks before.
runtime::Exit RunStretch(GuestThread& thread) {
  if (thread.is_held.load(std::memory_order_relaxed)) thread.owner.threads().Park(thread);
  Debugger* const debugger = thread.owner.debugger();
  return debugger == nullptr ? thread.Run() : debugger->Run(thread);
}

void OnFault(GuestThread& thread, const runtime::Fault& fault) {
  Debugger* const debugger = thread.owner.debugger();
  if (debugger == nullptr || !debugger->Takes(thread, fault)) DeliverFault(thread, fault);
}

}  // namespace

void RunGuest(GuestThread& thread) {
  while (!thread.has_exited) {
    if (thread.signal_pending.load(std::memory_order_relaxed) != 0) DeliverPending(thread);
    std::visit(runtime::Overloaded{
                   [&](const runtime::SystemCall&) { OnSystemCall(thread); },
                   [&](const runtime::Fault& fault) { OnFault(thread, fault); },
                   [](const runtime::Interrupted&) {},
                   [&](const runtime::EngineFailure& failure) { EndByEngineFailure(failure.reason); },
                   [&](const runtime::GuestCrash& crash) { OnGuestCrash(thread, crash); },
               },
               RunStretch(thread));
  }
}

}  // namespace dunebox::process
