#include "runtime/signals/host_signals.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cerrno>

#include "hostcalls/dispatch/host_call.h"
#include "hostcalls/errors/id.h"
#include "hostcalls/memory/guest_memory.h"
#include "jit-fallback/dispatch/thread_context.h"

extern "C" {
void dunebox_host_restorer();
void dunebox_host_handler(int signal, siginfo_t* info, void* context);
}

namespace dunebox::signals {
namespace {

thread_local PendingSignals* current_pending = nullptr;

// As the si_code of Wake. The kernel takes it from the process itself alone; a guest that says it only
// makes one of its threads look up.
constexpr int kWakeCode = -0x6462;

// Signals with this number and higher ones are all delivered, each with what it brings. [POSIX, SIGRTMIN]
constexpr int kFirstQueued = 32;

// Async-signal-safe. False: the kernel has no room for it.
bool GiveBackOne(int signal, const siginfo_t& info) {
  siginfo_t copy = info;
  const int error = errno;
  const bool done = syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), signal, &copy) == 0;
  errno = error;
  return done;
}

bool IsWake(int signal, const siginfo_t& info) {
  return signal == SIGTRAP && info.si_code == kWakeCode && info.si_pid == getpid();
}

void RawAction(int signal, const KernelAction* action, KernelAction* old) {
  syscall(SYS_rt_sigaction, signal, action, old, sizeof(action->mask));
}

// Unlike libc's sigset_t, exactly the kernel's 64 bits. What is blocked there stays so: it may be the
// handler of a synchronous signal that was interrupted by another one. Were its own signal let in
// again, the two could nest until the signal stack is full.
void BlockAllIn(ucontext_t& context) {
  std::uint64_t mask = 0;
  memcpy(&mask, &context.uc_sigmask, sizeof(mask));
  mask |= ~kSynchronous;
  memcpy(&context.uc_sigmask, &mask, sizeof(mask));
}

[[noreturn]] void RuntimeFault(int signal, const siginfo_t& info, std::uint64_t rip) {
  char text[160];
  const int length =
      snprintf(text, sizeof(text),
               "dunebox: internal error: signal %d (code %d) at rip 0x%llx, address %p [%s]\n",
               signal, info.si_code, static_cast<unsigned long long>(rip), info.si_addr,
               errors::CodeOf(errors::Id::kInternal).data());
  [[maybe_unused]] const ssize_t ignored =
      write(STDERR_FILENO, text, static_cast<std::size_t>(length));
  _exit(125);
}

void OnHostSignal(int signal, siginfo_t* info, void* raw_context) {
  auto& context = *static_cast<ucontext_t*>(raw_context);
  auto& rip = context.uc_mcontext.gregs[REG_RIP];
  // si_code > 0: the kernel raised it for an instruction of ours, nobody sent it.
  jit::Context* translated = jit::CurrentContext();
  if (IsSynchronous(signal) && info->si_code > 0) {
    if (translated != nullptr && jit::TakeGuestFault(*translated, *info, context)) return;
    const std::uint64_t fixup = hostcalls::CopyFixupFor(static_cast<std::uint64_t>(rip));
    if (fixup == 0) RuntimeFault(signal, *info, static_cast<std::uint64_t>(rip));
    rip = static_cast<greg_t>(fixup);
    return;
  }
  if (current_pending == nullptr) return;
  if (IsWake(signal, *info)) {
    current_pending->Interrupt();
  } else if (!current_pending->Add(signal, *info)) {
    // The guest's mask was set before the first one could be delivered: the kernel keeps this one until then.
    GiveBackOne(signal, *info);
  }
  if (translated != nullptr) jit::LeaveTranslatedCode(*translated, context);
  rip = static_cast<greg_t>(hostcalls::HostCallRewind(static_cast<std::uint64_t>(rip)));
  BlockAllIn(context);
}

}  // namespace

// From the assembly entry, with the host's FS base.
extern "C" void dunebox_host_handler_body(int signal, siginfo_t* info, void* context) {
  OnHostSignal(signal, info, context);
}

void PendingSignals::Attach(std::atomic<std::uint32_t>* flag, void (*kick)(void*),
                            void* kick_argument) {
  flag_ = flag;
  kick_ = kick;
  kick_argument_ = kick_argument;
}

bool PendingSignals::Add(int signal, const siginfo_t& info) {
  if (signal >= kFirstQueued && (mask() & MaskOf(signal)) != 0) return false;
  info_[static_cast<std::size_t>(signal)] = info;
  mask_.fetch_or(MaskOf(signal), std::memory_order_relaxed);
  Interrupt();
  return true;
}

void PendingSignals::Interrupt() {
  flag_->store(1, std::memory_order_relaxed);
  kick_(kick_argument_);
}

int PendingSignals::Take(std::uint64_t blocked, siginfo_t& info) {
  const std::uint64_t ready = mask() & ~blocked;
  if (ready == 0) return 0;
  const std::uint64_t first = (ready & kSynchronous) != 0 ? ready & kSynchronous : ready;
  const int signal = __builtin_ctzll(first) + 1;
  info = info_[static_cast<std::size_t>(signal)];
  mask_.fetch_and(~MaskOf(signal), std::memory_order_relaxed);
  return signal;
}

void PendingSignals::GiveBack(std::uint64_t blocked) {
  for (std::uint64_t left = mask() & blocked; left != 0; left &= left - 1) {
    const int signal = __builtin_ctzll(left) + 1;
    if (!GiveBackOne(signal, info_[static_cast<std::size_t>(signal)])) continue;
    mask_.fetch_and(~MaskOf(signal), std::memory_order_relaxed);
  }
}

// By its GS base, which is its maker's, the handler would take it for that.
void BeginHostThread() { jit::ForgetContext(); }

void SetCurrentPending(PendingSignals* pending) { current_pending = pending; }

void InstallHostHandler(int signal, std::uint64_t guest_flags) {
  const KernelAction action{
      .handler = reinterpret_cast<std::uint64_t>(&dunebox_host_handler),
      .flags = kSaSigInfo | kSaRestorer | kSaOnStack |
               (guest_flags & kSaHosts),
      .restorer = reinterpret_cast<std::uint64_t>(&dunebox_host_restorer),
      // Nothing nests: the next signal waits in the kernel until this one is delivered.
      .mask = ~kSynchronous};
  RawAction(signal, &action, nullptr);
}

void InstallHostDisposition(int signal, std::uint64_t default_or_ignore) {
  const KernelAction action{.handler = default_or_ignore,
                            .flags = kSaRestorer,
                            .restorer = reinterpret_cast<std::uint64_t>(&dunebox_host_restorer)};
  RawAction(signal, &action, nullptr);
}

KernelAction HostDisposition(int signal) {
  KernelAction action;
  RawAction(signal, nullptr, &action);
  return action;
}

void InstallFaultHandlers() {
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    if (IsSynchronous(signal)) InstallHostHandler(signal, 0);
  }
}

void SetHostMask(std::uint64_t mask) {
  const std::uint64_t allowed = mask & ~kSynchronous;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &allowed, nullptr, sizeof(allowed));
}

std::uint64_t HostMask() {
  std::uint64_t mask = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, &mask, sizeof(mask));
  return mask;
}

void Wake(pid_t thread) {
  siginfo_t info{};
  info.si_signo = SIGTRAP;
  info.si_code = kWakeCode;
  info.si_pid = getpid();
  syscall(SYS_rt_tgsigqueueinfo, getpid(), thread, SIGTRAP, &info);
}

void LeaveToKernel(int signal) {
  const std::uint64_t others = ~MaskOf(signal);
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &others, nullptr, sizeof(others));
  syscall(SYS_tgkill, getpid(), gettid(), signal);
}

void DieBySignal(int signal) {
  InstallHostDisposition(signal, reinterpret_cast<std::uint64_t>(SIG_DFL));
  LeaveToKernel(signal);
  _exit(128 + signal);  // the default action of `signal` is not to end the process: never here
}

}  // namespace dunebox::signals
