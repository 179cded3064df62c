// Instruction pointers that are no addresses: by jump, call, return, sigreturn, and by SYSCALL as the last instruction before one.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstring>

#include "victim.h"

namespace {

using victim::Attempt;
using victim::Expect;
using victim::Outcome;

std::uint64_t forged_rip, forged_rsp;

void Forge(int, siginfo_t*, void* opaque) {
  greg_t* registers = static_cast<ucontext_t*>(opaque)->uc_mcontext.gregs;
  registers[REG_RIP] = static_cast<greg_t>(forged_rip);
  if (forged_rsp != 0) registers[REG_RSP] = static_cast<greg_t>(forged_rsp);
}

void Raise() {
  // mov getpid's result, rdi; kill(rdi, SIGUSR1)
  const Outcome outcome = Attempt({.rax = SYS_kill, .rsi = SIGUSR1, .rdi = static_cast<std::uint64_t>(getpid())}, "\x0f\x05");
  Expect(outcome.refused(), "sigreturn to rip 0x%lx, rsp 0x%lx: signal %d", forged_rip, forged_rsp, outcome.signal);
  victim::ExpectAlive("a sigreturn to no address");
}

// The two bytes of SYSCALL end exactly where the guest's addresses end.
void SyscallAtTheEnd(std::uint64_t end) {
  auto* page = static_cast<char*>(mmap(reinterpret_cast<void*>(end - 4096), 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
  if (page == MAP_FAILED) {
    victim::Note("the page before 0x%lx cannot be mapped", end);
    return;
  }
  std::memset(page, 0x90, 4094);
  constexpr std::uint8_t kSyscall[] = {0x0f, 0x05};
  std::memcpy(page + 4094, kSyscall, sizeof(kSyscall));
  for (const long number : {static_cast<long>(SYS_getpid), static_cast<long>(SYS_sched_yield), 100000l}) {
    const Outcome outcome = victim::AttemptAt({.rax = static_cast<std::uint64_t>(number)}, end - 2);
    Expect(outcome.signal == SIGSEGV, "SYSCALL before 0x%lx: signal %d at 0x%lx", end, outcome.signal, outcome.rip);
    victim::ExpectAlive("a SYSCALL at the end of the address space");
  }
  // And an instruction that straddles the end.
  page[4095] = '\x0f';
  const Outcome outcome = victim::AttemptAt({}, end - 1);
  Expect(outcome.signal == SIGSEGV, "an instruction across 0x%lx: signal %d", end, outcome.signal);
  munmap(page, 4096);
}

}  // namespace

int main() {
  victim::Begin("noncanonical_rip");
  std::uint64_t addresses[32];
  const std::size_t count = victim::ForbiddenAddresses(addresses, 32);
  struct sigaction action {};
  action.sa_sigaction = Forge;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGUSR1, &action, nullptr);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t address = addresses[i];
    for (const std::string_view code : {std::string_view("\xff\xe7"), std::string_view("\x57\xc3"), std::string_view("\xff\xd7")}) {
      const Outcome outcome = Attempt({.rdi = address}, code);  // jmp, push + ret, call
      Expect(outcome.refused(), "transfer to 0x%lx: signal %d", address, outcome.signal);
    }
    victim::ExpectAlive("a transfer to no address");
    forged_rip = address;
    forged_rsp = 0;
    Raise();
    forged_rip = victim::Landing();
    forged_rsp = address;
    Raise();
    // A system call, then a push, with such a stack pointer: mov %rdi, %rsp; syscall; push %rax.
    const Outcome stack = Attempt({.rax = SYS_getpid, .rdi = address}, "\x48\x89\xfc\x0f\x05\x50");
    Expect(stack.refused() || address == victim::kRuntimeHalf, "stack at 0x%lx: signal %d", address, stack.signal);
  }
  SyscallAtTheEnd(victim::kRuntimeHalf);
  SyscallAtTheEnd(0x7ffffffff000);
  SyscallAtTheEnd(0x800000000000);
  return victim::Verdict();
}
