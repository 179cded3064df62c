// Signal frames that ask for more than a program has: selectors, flags, vector state; and frames at places that are none.
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "victim.h"

namespace {

using victim::Attempt;
using victim::Expect;
using victim::Outcome;
using Change = void (*)(ucontext_t& context, unsigned char* area, std::uint64_t value);

Change change;
std::uint64_t change_value;

void Forge(int, siginfo_t*, void* opaque) {
  auto& context = *static_cast<ucontext_t*>(opaque);
  change(context, reinterpret_cast<unsigned char*>(context.uc_mcontext.fpregs), change_value);
}

struct Forgery {
  const char* name;
  Change change;
  bool must_be_refused;  // as the kernel does
};

template <int kRegister>
void Set(ucontext_t& context, unsigned char*, std::uint64_t value) {
  context.uc_mcontext.gregs[kRegister] = static_cast<greg_t>(value);
}

void SetCodeSelector(ucontext_t& context, unsigned char*, std::uint64_t value) {
  greg_t& word = context.uc_mcontext.gregs[REG_CSGSFS];
  word = static_cast<greg_t>((static_cast<std::uint64_t>(word) & ~0xfffful) | value);
}

void SetStackSelector(ucontext_t& context, unsigned char*, std::uint64_t value) {
  greg_t& word = context.uc_mcontext.gregs[REG_CSGSFS];
  word = static_cast<greg_t>((static_cast<std::uint64_t>(word) & ~(0xfffful << 48)) | value << 48);
}

template <int kOffset>
void SetWord(ucontext_t&, unsigned char* area, std::uint64_t value) {
  std::memcpy(area + kOffset, &value, 8);
}

void SetMxcsr(ucontext_t&, unsigned char* area, std::uint64_t value) { std::memcpy(area + 24, &value, 4); }

void SetAreaPointer(ucontext_t& context, unsigned char*, std::uint64_t value) {
  context.uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(value);
}

void SetAreaSize(ucontext_t&, unsigned char* area, std::uint64_t value) {
  const auto size = static_cast<std::uint32_t>(value);
  std::memcpy(area + 464 + 16, &size, 4);  // xstate_size
}

void RemoveMagic(ucontext_t&, unsigned char* area, std::uint64_t) { std::memset(area + 464, 0, 4); }

Outcome Raise() {
  // SYSCALL, then the flags into RAX.
  return Attempt({.rax = SYS_kill, .rsi = SIGUSR1, .rdi = static_cast<std::uint64_t>(getpid())}, "\x0f\x05\x9c\x58");
}

void Try(const char* name, Change what, std::uint64_t value, bool must_be_refused) {
  change = what;
  change_value = value;
  const Outcome outcome = Raise();
  if (must_be_refused) {
    Expect(outcome.refused(), "%s 0x%lx: signal %d", name, value, outcome.signal);
  } else {
    Expect(outcome.refused() || outcome.signal == 0, "%s 0x%lx: signal %d", name, value, outcome.signal);
  }
  if (outcome.signal == 0) Expect((outcome.rax & 0x3000) == 0, "%s 0x%lx: flags 0x%lx", name, value, outcome.rax);
  // What the frame broke must not stay broken for the victim's own code.
  __asm__ volatile("fninit; ldmxcsr %0" ::"m"(*reinterpret_cast<const unsigned*>("\x80\x1f\0\0")));
  victim::ExpectAlive(name);
}

void Selectors() {
  for (const std::uint64_t selector : {0x0ul, 0x8ul, 0xbul, 0x10ul, 0x13ul, 0x23ul, 0x2bul, 0x40ul, 0x43ul, 0x7ul, 0xfffful}) {
    Try("code selector", SetCodeSelector, selector, false);
    Try("stack selector", SetStackSelector, selector, false);
  }
}

void Flags() {
  for (const std::uint64_t flags : {0x3202ul, 0x4202ul, 0x20202ul, 0x80202ul, 0x180202ul, 0x2ul, 0x302ul, 0x40602ul, ~0ul & ~0x100ul}) {
    Try("flags", Set<REG_EFL>, flags, false);
  }
}

void ExtendedState() {
  for (const std::uint64_t bits : {1ul << 63, 1ul << 8, 1ul << 9, 0x700ul, 1ul << 17 | 1ul << 18, 1ul << 62, ~0ul}) {
    Try("XSTATE_BV", SetWord<512>, bits, false);
  }
  // A compacted state the CPU itself may accept.
  for (const std::uint64_t bits : {1ul << 63, 1ul << 63 | 7, 1ul, ~0ul}) Try("XCOMP_BV", SetWord<520>, bits, bits != (1ul << 63 | 7));
  Try("reserved header bytes", SetWord<528>, ~0ul, true);
  for (const std::uint64_t mxcsr : {0xffff0000ul, 0xfffffffful, 0x40000ul, 0x80001f80ul}) Try("MXCSR", SetMxcsr, mxcsr, true);
  for (const std::uint64_t size : {0ul, 1ul, 511ul, 577ul, 0x1000ul, 0x10000ul, 0x7ffffffful, 0xfffffffful}) {
    Try("size of the state", SetAreaSize, size, false);
  }
  Try("no magic", RemoveMagic, 0, false);
}

void Pointers() {
  std::uint64_t addresses[32];
  const std::size_t count = victim::ForbiddenAddresses(addresses, 32);
  for (std::size_t i = 0; i < count; ++i) {
    Try("pointer to the state", SetAreaPointer, addresses[i] & ~63ul, true);
    Try("odd pointer to the state", SetAreaPointer, addresses[i] | 1, true);
    // sigreturn with the stack pointer there: mov %rdi, %rsp; syscall.
    const Outcome outcome = Attempt({.rax = SYS_rt_sigreturn, .rdi = addresses[i]}, "\x48\x89\xfc\x0f\x05");
    Expect(outcome.refused(), "sigreturn from 0x%lx: signal %d", addresses[i], outcome.signal);
    // A signal that has no room for its frame there: mov %r8, %rsp; syscall (kill).
    const Outcome frame = Attempt({.rax = SYS_kill, .rsi = SIGUSR2, .rdi = static_cast<std::uint64_t>(getpid()), .r8 = addresses[i]},
                                  "\x4c\x89\xc4\x0f\x05");
    Expect(frame.refused() || addresses[i] == victim::kRuntimeHalf, "a frame below 0x%lx: signal %d", addresses[i], frame.signal);
    victim::ExpectAlive("a frame at a forbidden place");
  }
  for (const std::uint64_t address : {0ul, 8ul, 0x1000ul}) {
    const Outcome outcome = Attempt({.rax = SYS_rt_sigreturn, .rdi = address}, "\x48\x89\xfc\x0f\x05");
    Expect(outcome.refused(), "sigreturn from 0x%lx: signal %d", address, outcome.signal);
  }
}

// A frame of nothing but ones, and of zeros.
void WildFrames() {
  alignas(64) static unsigned char stack[8192];
  for (const int fill : {0x00, 0xff, 0x41, 0x80}) {
    std::memset(stack, fill, sizeof(stack));
    // But for the signal mask: a forced signal that is blocked kills, as it should.
    std::memset(stack + 1024 + offsetof(ucontext_t, uc_sigmask), 0, 8);
    const Outcome outcome = Attempt({.rax = SYS_rt_sigreturn, .rdi = reinterpret_cast<std::uint64_t>(stack + 1024)}, "\x48\x89\xfc\x0f\x05");
    Expect(outcome.refused(), "a frame of 0x%x: signal %d", fill, outcome.signal);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    victim::ExpectAlive("a wild frame");
  }
}

void Ignore(int) {}

}  // namespace

int main() {
  victim::Begin("forged_sigreturn");
  struct sigaction action {};
  action.sa_sigaction = Forge;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &action, nullptr);
  action.sa_handler = Ignore;
  action.sa_flags = 0;
  sigaction(SIGUSR2, &action, nullptr);
  Selectors();
  Flags();
  ExtendedState();
  Pointers();
  WildFrames();
  return victim::Verdict();
}
