// Reads, writes and executes the supervisor's pages and those around: the image, the IDT, the vCPU blocks, page tables, the rest
// of the kernel half, and the runtime's own mappings.
#include "image.h"
#include "victim.h"

namespace {

using victim::Attempt;
using victim::Expect;

void Touch(std::uint64_t address) {
  const struct {
    const char* name;
    std::string_view code;
  } accesses[] = {{"read", {"\x48\x8b\x07", 3}},           // mov (%rdi), %rax
                  {"write", {"\x48\x89\x07", 3}},          // mov %rax, (%rdi)
                  {"execution", {"\xff\xe7", 2}},          // jmp *%rdi
                  {"locked add", {"\xf0\x48\x01\x07", 4}},  // lock add %rax, (%rdi)
                  {"prefetched store", {"\x0f\x0d\x0f\x88\x07", 5}}};
  for (const auto& access : accesses) {
    const victim::Outcome outcome = Attempt({.rdi = address}, access.code);
    const bool canonical = (address >> 47) == 0 || (address >> 47) == 0x1ffff;
    Expect(outcome.signal == SIGSEGV, "%s of 0x%lx: signal %d", access.name, address, outcome.signal);
    if (canonical) Expect(outcome.address == address, "%s of 0x%lx: reported at 0x%lx", access.name, address, outcome.address);
  }
  victim::ExpectAlive("an access to the supervisor's pages");
}

}  // namespace

int main() {
  victim::Begin("read_supervisor");
  // Image, IDT, the first vCPU blocks, and further on: tables are in arena memory that has no guest-virtual address.
  for (std::uint64_t page = 0; page < 16; ++page) Touch(DUNE_ARENA_VIRT + page * 4096 + 64);
  for (const std::uint64_t offset : {0x400000ul, 0x402000ul, 0x403000ul, 0x4000000ul, 0x3ffff000ul, 0x40000000ul, 0x40001000ul}) {
    Touch(DUNE_ARENA_VIRT + offset);
    Touch(DUNE_ARENA_VIRT - offset);
  }
  for (const std::uint64_t address : {0xffff800000000000ul, 0xffff888000000000ul, 0xffffffff80000000ul, 0xffffffff81000000ul,
                                      0xfffffffffffff000ul, 0xffffffffffffe000ul, 0xffff800000000000ul - 8, 0x800000000000ul}) {
    Touch(address);
  }
  for (const victim::Range& range : victim::RuntimeRanges()) {
    Touch(range.start);
    Touch(range.end - 8);
  }
  Touch(victim::kRuntimeHalf);
  return victim::Verdict();
}
