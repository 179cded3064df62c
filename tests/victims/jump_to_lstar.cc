// Jumps to the address that SYSCALL enters. Where SYSCALL does not enter ring 0 that is how a system call looks, so an ordinary
// system call is a fine outcome, as is SIGSEGV. What the registers claim about the caller must not be believed.
#include <sys/syscall.h>
#include <unistd.h>

#include "image.h"
#include "victim.h"

namespace {

using victim::Expect;
using victim::Outcome;

constexpr std::string_view kJump = "\xff\xe7";  // jmp *%rdi
// lea 2(%rip), %rcx; jmp *%rdi; ret: as SYSCALL would, with the address of RET in RCX.
constexpr std::string_view kJumpAsSyscall{"\x48\x8d\x0d\x02\x00\x00\x00\xff\xe7", 9};

void AsSystemCall(std::uint64_t lstar) {
  for (const std::uint64_t flags : {0x202ul, 0x3202ul, 0x24202ul, 0x10202ul, 0x0ul, 0xfffffffffffffffful, 0x602ul}) {
    const Outcome outcome = victim::Attempt({.rax = SYS_getppid, .rdi = lstar, .r11 = flags}, kJumpAsSyscall);
    const bool called = outcome.signal == 0 && outcome.rax == static_cast<std::uint64_t>(getppid());
    Expect(called || outcome.signal == SIGSEGV || (outcome.signal == SIGTRAP && (flags & 0x100) != 0),
           "flags 0x%lx: signal %d, rax 0x%lx", flags, outcome.signal, outcome.rax);
    victim::ExpectAlive("a jump to LSTAR");
  }
}

// The return address is anything: the runtime, the kernel, no address at all.
void WithOddReturn(std::uint64_t lstar) {
  std::uint64_t addresses[32];
  const std::size_t count = victim::ForbiddenAddresses(addresses, 32);
  for (std::size_t i = 0; i < count; ++i) {
    const Outcome outcome = victim::Attempt({.rax = SYS_getppid, .rcx = addresses[i], .rdi = lstar, .r11 = 0x202}, kJump);
    Expect(outcome.refused(), "return to 0x%lx: signal %d", addresses[i], outcome.signal);
    victim::ExpectAlive("a jump to LSTAR with an odd return address");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const dunebox::abi::ImageHeader header = victim::ReadImageHeader(argc, argv);
  victim::Begin("jump_to_lstar");
  const std::uint64_t lstar = DUNE_ARENA_VIRT + header.syscall_entry;
  AsSystemCall(lstar);
  WithOddReturn(lstar);
  const Outcome call = victim::Attempt({.rdi = lstar + 1}, kJump);
  Expect(call.signal == SIGSEGV, "a jump into the middle of the entry: signal %d", call.signal);
  return victim::Verdict();
}
