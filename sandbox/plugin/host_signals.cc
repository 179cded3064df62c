#include "sandbox/plugin/host_signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>
#include <optional>

#include "hostcalls/dispatch/host_call.h"
#include "hostcalls/memory/guest_memory.h"
#include "jit-fallback/dispatch/thread_context.h"
#include "runtime/engine.h"
#include "runtime/signals/action.h"
#include "sandbox/plugin/wanted_action.h"

extern "C" {
void dunebox_host_restorer();
void dunebox_plugin_handler(int signal, siginfo_t* info, void* context);
// The C library's own, by the name under which nobody interposes it.
// NOLINTNEXTLINE(readability-identifier-naming,bugprone-reserved-identifier)
int __sigaction(int signal, const struct sigaction* action, struct sigaction* old);
}

namespace dunebox::plugin {
namespace {

using signals::IsSynchronous;
using signals::KernelAction;
using signals::kSignalCount;
using signals::MaskOf;

// The C library uses two of the kernel's real-time signals itself. [glibc]
constexpr int kFirstOfKernel = 32;

std::atomic<bool> taken_over{false};
int kick_signal = 0;

// Plain data: handlers use it.
thread_local runtime::EngineThread* kicked_after_handlers = nullptr;
thread_local volatile std::uint64_t handlers_run = 0;

// What the application wants of each signal that has our handler. Changed by who holds Changing.
constinit std::array<WantedAction, kSignalCount + 1> wanted{};

void RawAction(int signal, const KernelAction* action, KernelAction* old) {
  syscall(SYS_rt_sigaction, signal, action, old, sizeof(action->mask));
}

// sigaction may be called by handlers: held with all signals blocked.
std::atomic_flag changing = ATOMIC_FLAG_INIT;

class Changing {
 public:
  Changing() {
    const std::uint64_t all = ~signals::kSynchronous;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before_, sizeof(before_));
    while (changing.test_and_set(std::memory_order_acquire)) {
    }
  }
  ~Changing() {
    changing.clear(std::memory_order_release);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before_, nullptr, sizeof(before_));
  }
  Changing(const Changing&) = delete;
  Changing& operator=(const Changing&) = delete;

 private:
  std::uint64_t before_ = 0;
};

bool HasHandler(const KernelAction& action) { return !action.is_default() && !action.is_ignore(); }

bool IsOurs(const KernelAction& action) {
  return action.handler == reinterpret_cast<std::uint64_t>(&dunebox_plugin_handler);
}

// Ours in front of `action`. Flags and mask are the application's; the kick waits until a handler is
// done: what it interrupted is not guest code.
void PutInFront(int signal, const KernelAction& action) {
  wanted[static_cast<std::size_t>(signal)].Set(action);
  const KernelAction ours{
      .handler = reinterpret_cast<std::uint64_t>(&dunebox_plugin_handler),
      .flags = (action.flags & ~signals::kSaResetHand) | signals::kSaSigInfo |
               signals::kSaRestorer | signals::kSaOnStack,
      .restorer = reinterpret_cast<std::uint64_t>(&dunebox_host_restorer),
      .mask = action.mask | MaskOf(kick_signal)};
  RawAction(signal, &ours, nullptr);
}

// As if we had not been there. A fault with the default action happens again, and ends the process.
void PassOn(int signal, siginfo_t* info, void* context) {
  const std::optional<KernelAction> action = wanted[static_cast<std::size_t>(signal)].Get();
  const bool is_fault = IsSynchronous(signal) && info->si_code > 0;
  if (!action || !HasHandler(*action)) {
    if (!is_fault && action && action->is_ignore()) return;
    constexpr KernelAction kDefault;
    RawAction(signal, &kDefault, nullptr);
    if (!is_fault) syscall(SYS_tgkill, getpid(), gettid(), signal);
    return;
  }
  if ((action->flags & signals::kSaResetHand) != 0) {
    const Changing hold;
    wanted[static_cast<std::size_t>(signal)].Clear();
    if (!IsSynchronous(signal)) {
      constexpr KernelAction kDefault;
      RawAction(signal, &kDefault, nullptr);
    }
  }
  if ((action->flags & signals::kSaSigInfo) != 0) {
    reinterpret_cast<void (*)(int, siginfo_t*, void*)>(action->handler)(signal, info, context);
  } else {
    reinterpret_cast<void (*)(int)>(action->handler)(signal);
  }
}

// The C library sets its own handlers when it first needs them, without asking sigaction: it does so
// here, before ours go in front. Those of pthread_create and of pthread_cancel.
void HaveLibraryHandlersSet() {
  pthread_t thread;
  const auto main = [](void*) -> void* {
    // By a thread that does not take it.
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
    pthread_cancel(pthread_self());
    return nullptr;
  };
  if (pthread_create(&thread, nullptr, main, nullptr) == 0) pthread_join(thread, nullptr);
}

// The highest real-time signal that nobody handles.
int FreeSignal() {
  for (int signal = SIGRTMAX; signal >= SIGRTMIN; --signal) {
    KernelAction action;
    RawAction(signal, nullptr, &action);
    if (!HasHandler(action)) return signal;
  }
  return 0;
}

absl::Status TakeOverNow() {
  HaveLibraryHandlersSet();
  kick_signal = FreeSignal();
  if (kick_signal == 0) {
    return absl::UnavailableError("no real-time signal is free for sandboxes to be stopped with");
  }
  // A child whose parent's thread was changing one goes on without that thread.
  if (pthread_atfork(nullptr, nullptr, [] { changing.clear(std::memory_order_release); }) != 0) {
    return absl::ResourceExhaustedError("no memory for the handlers of a fork");
  }
  // Whoever sees that it is so waits until all of them are taken over.
  const Changing hold;
  taken_over = true;
  PutInFront(kick_signal, KernelAction{});
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    if (signal == SIGKILL || signal == SIGSTOP || signal == kick_signal) continue;
    KernelAction action;
    RawAction(signal, nullptr, &action);
    if (IsSynchronous(signal) || HasHandler(action)) PutInFront(signal, action);
  }
  return absl::OkStatus();
}

// ---- sigaction and signal of the application ----------------------------------------------------

KernelAction FromLibrary(const struct sigaction& action) {
  KernelAction result{.handler = reinterpret_cast<std::uint64_t>(action.sa_handler),
                      .flags = static_cast<std::uint64_t>(static_cast<unsigned>(action.sa_flags))};
  memcpy(&result.mask, &action.sa_mask, sizeof(result.mask));
  return result;
}

struct sigaction ToLibrary(const KernelAction& action) {
  struct sigaction result{};
  result.sa_handler = reinterpret_cast<void (*)(int)>(action.handler);
  result.sa_flags = static_cast<int>(action.flags & ~signals::kSaRestorer);
  memcpy(&result.sa_mask, &action.mask, sizeof(action.mask));
  return result;
}

// What the application had asked for.
KernelAction Wanted(int signal) {
  const std::optional<KernelAction> action = wanted[static_cast<std::size_t>(signal)].Get();
  if (action) return *action;
  KernelAction real;
  RawAction(signal, nullptr, &real);
  return IsOurs(real) ? KernelAction{} : real;
}

int SetAction(int signal, const struct sigaction* action, struct sigaction* old) {
  const bool is_librarys = signal >= kFirstOfKernel && signal < SIGRTMIN;
  const bool may_be_ours =
      signal > 0 && signal <= kSignalCount && !is_librarys && signal != SIGKILL && signal != SIGSTOP;
  if (!may_be_ours) return __sigaction(signal, action, old);
  // Read before anything is written: the two may be the same object.
  const KernelAction fresh = action != nullptr ? FromLibrary(*action) : KernelAction{};
  const bool is_late = !taken_over;
  if (is_late) {
    const int result = __sigaction(signal, action, old);
    // Else another thread has taken over meanwhile, and perhaps has looked before this was set: so it is set once more.
    if (!taken_over || result != 0) return result;
  }
  const Changing hold;
  if (signal == kick_signal) {
    if (is_late) PutInFront(kick_signal, KernelAction{});
    errno = EINVAL;
    return -1;
  }
  if (old != nullptr && (!is_late || IsOurs(FromLibrary(*old)))) *old = ToLibrary(Wanted(signal));
  if (action == nullptr) return 0;
  if (IsSynchronous(signal) || HasHandler(fresh)) {
    PutInFront(signal, fresh);
    return 0;
  }
  RawAction(signal, &fresh, nullptr);
  wanted[static_cast<std::size_t>(signal)].Clear();
  return 0;
}

// As pthread_sigmask, but that the C library's own two signals and ours are never blocked.
int SetMask(int how, const sigset_t* set, sigset_t* old) {
  std::uint64_t mask = 0;
  if (set != nullptr) {
    memcpy(&mask, set, sizeof(mask));
    if (how != SIG_UNBLOCK) {
      for (int signal = kFirstOfKernel; signal < SIGRTMIN; ++signal) mask &= ~MaskOf(signal);
      if (taken_over) mask &= ApplicationSignals();
    }
  }
  const long result = syscall(SYS_rt_sigprocmask, how, set == nullptr ? nullptr : &mask, old,
                              sizeof(mask));
  return result == 0 ? 0 : errno;
}

// ---- the older functions of the C library, which go past its newer ones

bool IsNumber(int signal) { return signal > 0 && signal < NSIG; }

// As `signal` does it, but for flags and mask.
sighandler_t SetHandler(int signal, sighandler_t handler, unsigned flags, bool blocks_itself) {
  if (!IsNumber(signal) || handler == SIG_ERR) {
    errno = EINVAL;
    return SIG_ERR;
  }
  struct sigaction action{}, old{};
  action.sa_handler = handler;
  action.sa_flags = static_cast<int>(flags);
  sigemptyset(&action.sa_mask);
  if (blocks_itself) sigaddset(&action.sa_mask, signal);
  return sigaction(signal, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

// One signal more or less in the thread's mask. Whether it was blocked; -1 with errno: no such signal.
int ChangeMask(int how, int signal) {
  if (!IsNumber(signal)) {
    errno = EINVAL;
    return -1;
  }
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, signal);
  const int error = SetMask(how, &set, &old);
  errno = error != 0 ? error : errno;
  return error != 0 ? -1 : sigismember(&old, signal);
}

// [susv2] sigset: SIG_HOLD for what is blocked.
sighandler_t SetAndUnblock(int signal, sighandler_t handler) {
  if (handler == SIG_HOLD) {
    struct sigaction old{};
    const int was_blocked = ChangeMask(SIG_BLOCK, signal);
    if (was_blocked < 0 || sigaction(signal, nullptr, &old) != 0) return SIG_ERR;
    return was_blocked != 0 ? SIG_HOLD : old.sa_handler;
  }
  const sighandler_t before = SetHandler(signal, handler, 0, /*blocks_itself=*/false);
  if (before == SIG_ERR) return SIG_ERR;
  const int was_blocked = ChangeMask(SIG_UNBLOCK, signal);
  if (was_blocked < 0) return SIG_ERR;
  return was_blocked != 0 ? SIG_HOLD : before;
}

// Masks of the first 32 signals. [4.3BSD]
int SetOldMask(int how, int mask) {
  sigset_t set, old;
  sigemptyset(&set);
  sigemptyset(&old);
  const auto bits = static_cast<std::uint32_t>(mask);
  memcpy(&set, &bits, sizeof(bits));
  if (const int error = SetMask(how, &set, &old); error != 0) {
    errno = error;
    return -1;
  }
  std::uint32_t before;
  memcpy(&before, &old, sizeof(before));
  return static_cast<int>(before);
}

int SetAlternateStack(const stack_t* stack, stack_t* old) {
  const bool is_off = stack != nullptr && (stack->ss_flags & SS_DISABLE) != 0;
  const bool is_small = stack != nullptr && !is_off && stack->ss_size < jit::kLeastHostStack;
  if (is_small && jit::IsHostThreadReady()) {
    errno = ENOMEM;
    return -1;
  }
  const long result = syscall(SYS_sigaltstack, stack, old);
  if (result == 0 && is_off && jit::IsHostThreadReady()) jit::RenewHostThreadStack();
  return static_cast<int>(result);
}

}  // namespace

// From the assembly entry, with the host's FS base.
extern "C" void dunebox_plugin_handler_body(int signal, siginfo_t* info, void* raw_context,
                                            jit::Context* translated) {
  auto& context = *static_cast<ucontext_t*>(raw_context);
  auto& rip = context.uc_mcontext.gregs[REG_RIP];
  if (IsSynchronous(signal) && info->si_code > 0) {
    if (translated != nullptr && jit::TakeGuestFault(*translated, *info, context)) return;
    const std::uint64_t fixup = hostcalls::CopyFixupFor(static_cast<std::uint64_t>(rip));
    if (fixup != 0) {
      rip = static_cast<greg_t>(fixup);
      return;
    }
  }
  if (signal == kick_signal) {
    if (translated != nullptr) jit::LeaveTranslatedCode(*translated, context);
    rip = static_cast<greg_t>(hostcalls::HostCallRewind(static_cast<std::uint64_t>(rip)));
    return;
  }
  const int error = errno;
  PassOn(signal, info, raw_context);
  handlers_run = handlers_run + 1;
  if (kicked_after_handlers != nullptr) {
    kicked_after_handlers->Kick();
    if (translated != nullptr) jit::LeaveTranslatedCode(*translated, context);
  }
  errno = error;
}

absl::Status TakeOverSignals() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  return taken_over ? absl::OkStatus() : TakeOverNow();
}

void PrepareThreadNow() {
  if (!jit::PrepareHostThread()) return;
  const std::uint64_t needed = ~ApplicationSignals();
  syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &needed, nullptr, sizeof(needed));
}

void SendKick(pid_t thread) { syscall(SYS_tgkill, getpid(), thread, kick_signal); }

std::uint64_t KickAfterHandlers(runtime::EngineThread* thread) {
  kicked_after_handlers = thread;
  return handlers_run;
}

std::uint64_t HandlersRun() { return handlers_run; }

std::uint64_t ApplicationSignals() { return ~(signals::kSynchronous | MaskOf(kick_signal)); }

}  // namespace dunebox::plugin

extern "C" int sigaction(int signal, const struct sigaction* action, struct sigaction* old) {
  return dunebox::plugin::SetAction(signal, action, old);
}

extern "C" sighandler_t signal(int number, sighandler_t handler) {
  return dunebox::plugin::SetHandler(number, handler, SA_RESTART, /*blocks_itself=*/true);
}

extern "C" sighandler_t bsd_signal(int number, sighandler_t handler) {
  return dunebox::plugin::SetHandler(number, handler, SA_RESTART, /*blocks_itself=*/true);
}

extern "C" sighandler_t ssignal(int number, sighandler_t handler) noexcept {
  return dunebox::plugin::SetHandler(number, handler, SA_RESTART, /*blocks_itself=*/true);
}

extern "C" sighandler_t sysv_signal(int number, sighandler_t handler) noexcept {
  return dunebox::plugin::SetHandler(number, handler, SA_RESETHAND | SA_NODEFER,
                                     /*blocks_itself=*/false);
}

// What `signal` is to programs that ask for the standard of X/Open.
extern "C" sighandler_t __sysv_signal(int number, sighandler_t handler) noexcept {
  return sysv_signal(number, handler);
}

extern "C" sighandler_t sigset(int number, sighandler_t handler) noexcept {
  return dunebox::plugin::SetAndUnblock(number, handler);
}

extern "C" int sigignore(int number) noexcept {
  return dunebox::plugin::SetHandler(number, SIG_IGN, 0, /*blocks_itself=*/false) == SIG_ERR ? -1 : 0;
}

extern "C" int sighold(int number) noexcept {
  return dunebox::plugin::ChangeMask(SIG_BLOCK, number) < 0 ? -1 : 0;
}

extern "C" int sigblock(int mask) noexcept { return dunebox::plugin::SetOldMask(SIG_BLOCK, mask); }

extern "C" int sigsetmask(int mask) noexcept {
  return dunebox::plugin::SetOldMask(SIG_SETMASK, mask);
}

extern "C" int pthread_sigmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  return dunebox::plugin::SetMask(how, set, old);
}

extern "C" int sigprocmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  const int error = dunebox::plugin::SetMask(how, set, old);
  if (error == 0) return 0;
  errno = error;
  return -1;
}

extern "C" int sigaltstack(const stack_t* stack, stack_t* old) noexcept {
  return dunebox::plugin::SetAlternateStack(stack, old);
}
