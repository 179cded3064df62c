// Jumps to every 8th byte of the ring-0 image's page, and to each entry point its header names.
#include "image.h"
#include "victim.h"

namespace {

void Jump(std::uint64_t target, std::uint64_t lstar) {
  const victim::Outcome outcome = victim::Attempt({.rax = 39, .rcx = target, .rdi = target, .r11 = 0x202}, "\xff\xe7");
  // A jump to LSTAR with its own address as the return address calls getpid for ever or faults; the first return is a jump to LSTAR
  // with RAX = the pid, which is no such call: it never comes back by itself.
  victim::Expect(outcome.signal == SIGSEGV, "jump to 0x%lx%s: signal %d", target, target == lstar ? " (LSTAR)" : "", outcome.signal);
  victim::Expect(outcome.signal != SIGSEGV || outcome.address == target, "jump to 0x%lx: fault at 0x%lx", target, outcome.address);
  victim::ExpectAlive("a jump into the image");
}

}  // namespace

int main(int argc, char** argv) {
  const dunebox::abi::ImageHeader header = victim::ReadImageHeader(argc, argv);
  victim::Begin("jump_to_stub");
  const std::uint64_t lstar = DUNE_ARENA_VIRT + header.syscall_entry;
  for (std::uint64_t offset = 0; offset < 4096; offset += 8) {
    // jump_to_lstar has that one.
    if (DUNE_ARENA_VIRT + offset != lstar) Jump(DUNE_ARENA_VIRT + offset, lstar);
  }
  for (const std::uint64_t offset : {header.vectors, header.trap_out, header.trap_return, header.trap_return + 4, header.trap_return_end - 2,
                                     header.syscall_entry + 1, header.syscall_return, header.syscall_return_end - 3, header.probe_ring0,
                                     header.probe_out, header.probe_sysret, header.probe_user, header.probe_user_end}) {
    if (DUNE_ARENA_VIRT + offset != lstar) Jump(DUNE_ARENA_VIRT + offset, lstar);
  }
  return victim::Verdict();
}
