#include "runtime/process/guest_thread.h"

#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <utility>

#include "hostcalls/errors/message.h"
#include "runtime/process/crash.h"
#include "runtime/process/futex_notice.h"
#include "runtime/process/known_answers.h"
#include "runtime/process/process.h"
#include "runtime/process/report.h"
#include "runtime/process/signal_delivery.h"

namespace dunebox::process {
namespace {

constexpr std::uint64_t kSyscallLength = 2;  // 0f 05

bool SetsLimits(std::uint64_t number) {
  return number == SYS_prlimit64 || number == SYS_setrlimit;
}

// A call that has ended because the thread is to be looked at goes on where it was, and a signal that a
// debugger may still take away has not ended it either. What close has done it does not do again.
bool WasOnlyHeld(const GuestThread& thread, const hostcalls::Request& request,
                 const hostcalls::SyscallResult& result) {
  return result.error() == EINTR && thread.owner.debugger() != nullptr &&
         (thread.signal.pending.mask() & thread.owner.signal_handlers().handled()) == 0 &&
         request.number != SYS_close;
}

void OnSystemCall(GuestThread& thread) {
  runtime::Registers& registers = thread.registers;
  const hostcalls::Request request{.number = registers.rax,
                                   .arguments = {registers.rdi, registers.rsi, registers.rdx,
                                                 registers.r10, registers.r8, registers.r9}};
  const FutexNotice notice(*thread.engine, request);
  thread.pool_use.BeforeCall(thread, request);
  const hostcalls::SyscallResult result = thread.owner.dispatcher().Dispatch(thread, request);
  thread.pool_use.AfterCall(thread, request);
  if (ChangesAnswers(request.number)) thread.PublishAnswers();
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

[[noreturn]] void OnEngineFailure(const runtime::EngineFailure& failure) {
  errors::Say(errors::Id::kEngineFailure, "engine failure: " + failure.reason);
  _exit(125);
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
      engine(std::move(engine_thread)) {
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

void GuestThread::Attach() {
  signals::SetCurrentPending(&signal.pending);
  owner.threads().Rename(*this);
  PublishAnswers();
}

void GuestThread::PublishAnswers() {
  const bool is_watched = owner.trace() != nullptr || owner.session().gdb.fd >= 0;
  if (is_watched || !engine->uses_known_answers()) return;
  engine->KnowAnswers(KnownAnswers(guard));
}

runtime::Exit GuestThread::Run() {
  if (!engine->uses_known_answers()) return engine->Run(registers);
  engine->Lend({.signal_mask = signal.mask,
                .addable_signals = AddableSignals(owner),
                .clear_child_tid = clear_child_tid,
                .robust_list = robust_list,
                .fault_handler = LentHandler(*this)});
  runtime::Exit exit = engine->Run(registers);
  const runtime::OwnState own = engine->TakeBack();
  clear_child_tid = own.clear_child_tid;
  robust_list = own.robust_list;
  if (own.signal_mask != signal.mask) SetSignalMask(*this, own.signal_mask);
  return exit;
}

bool GuestThread::RestartsAfterSignal() const {
  const std::uint64_t noted = signal.pending.mask();
  if (noted == 0) return true;  // a kick, no more
  const int first = std::countr_zero(noted) + 1;
  return (owner.signal_handlers().Get(first).flags & signals::kSaRestart) != 0;
}

void GuestThread::EndBySignal(int number) {
  ReportEnd(owner);
  if (owner.debugger() != nullptr) owner.debugger()->OnDeath(number);
  signals::DieBySignal(number);
}

void GuestThread::Die(const siginfo_t& info) {
  OnDeath(*this, info);
  if (owner.debugger() != nullptr) owner.debugger()->OnDeath(info.si_signo);
  signals::DieBySignal(info.si_signo);
}

void GuestThread::ReplaceEngine(std::unique_ptr<runtime::EngineThread> fresh) {
  engine = std::move(fresh);
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
                   [](const runtime::EngineFailure& failure) { OnEngineFailure(failure); },
                   [&](const runtime::GuestCrash& crash) { OnGuestCrash(thread, crash); },
               },
               RunStretch(thread));
  }
}

}  // namespace dunebox::process
