#include "runtime/debugger/step_accesses.h"

#include <array>
#include <span>

#include "jit-fallback/dispatch/memory_accesses.h"
#include "libdune/x86/control.h"

namespace dunebox::debugger {
namespace {

constexpr std::uint64_t kLongestInstruction = 15;

std::span<const std::uint8_t> BytesOf(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// How often a string instruction was carried out.
std::uint64_t Rounds(const jit::Instruction& instruction, const runtime::Registers& before,
                     const runtime::Registers& after) {
  if (instruction.operation != jit::Operation::kStringRep) return 1;
  const std::uint64_t done = before.rcx - after.rcx;
  return instruction.address_size ? done & 0xffff'ffff : done;
}

}  // namespace

std::optional<StepAccesses> StepAccesses::Before(process::GuestThread& thread, const MemoryPatches& memory) {
  StepAccesses step;
  if (!thread.engine->FetchBases(thread.registers).ok()) return std::nullopt;
  step.before_ = thread.registers;
  step.bytes_ = memory.Read(step.before_.rip, kLongestInstruction);
  if (jit::Decode(BytesOf(step.bytes_), step.instruction_) != jit::DecodeStatus::kOk) return std::nullopt;
  step.bytes_.resize(step.instruction_.length);
  step.extended_size_ = thread.engine->extended_state_size();
  return step;
}

std::vector<AccessedRange> StepAccesses::After(const runtime::Registers& after) const {
  const runtime::Registers& r = before_;
  const std::array<std::uint64_t, 16> gpr = {r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi,
                                             r.r8,  r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15};
  const jit::MemoryAccesses accesses = jit::MemoryAccessesOf(
      instruction_, BytesOf(bytes_), {.gpr = gpr, .rip = r.rip, .fs_base = r.fs_base, .gs_base = r.gs_base});
  const std::uint64_t rounds = Rounds(instruction_, before_, after);
  const bool goes_down = (r.rflags & dune::x86::rflags::kDirection) != 0;
  std::vector<AccessedRange> result;
  for (const jit::MemoryAccess& access : accesses.all()) {
    const bool is_state = instruction_.operation == jit::Operation::kXsaveFamily && access.size == 0;
    const std::uint64_t one = is_state ? extended_size_ : access.size;
    const std::uint64_t size = one * rounds;
    if (size == 0) continue;
    const std::uint64_t start = goes_down && rounds > 1 ? access.address - (size - one) : access.address;
    result.push_back({.address = start, .size = size, .reads = access.reads, .writes = access.writes});
  }
  return result;
}

}  // namespace dunebox::debugger
