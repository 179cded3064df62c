#include "tests/jit/emulated.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "runtime/jit/emulation.h"

namespace dunebox::jit {

std::string Text(const Outcome& outcome) {
  if (outcome.vector == kNoException) return "done";
  return absl::StrCat("vector ", outcome.vector, " error ", outcome.error, " address ",
                      absl::Hex(outcome.address));
}

std::string Unequal(const std::string& native, const std::string& emulated) {
  return native == emulated ? "" : absl::StrCat("native ", native, "\nemulated ", emulated, "\n");
}

void WriteInstruction(Arena& arena, const Machine& machine, std::span<const std::uint8_t> bytes) {
  constexpr std::uint8_t kHlt = 0xf4;
  std::vector<std::uint8_t> code(bytes.begin(), bytes.end());
  code.push_back(kHlt);
  arena.WriteCode(machine.rip, code);
}

Outcome RunNative(Runner& runner, Machine& machine) {
  const std::uint64_t start = machine.rip;
  const Ending ending = runner.RunNative(machine);
  if (machine.rip != start) return {};
  const bool is_page_fault = ending.vector == kPageFault;
  return {ending.vector, ending.error, is_page_fault ? ending.address : 0};
}

Outcome Emulate(std::span<const std::uint8_t> bytes, Machine& machine) {
  static const hostcalls::GuestMemory memory(hostcalls::Window::WholeProgram());
  constexpr std::uint64_t kInvalidOpcode = 6;
  Instruction instruction;
  if (Decode(bytes, instruction) != DecodeStatus::kOk) return {.vector = kInvalidOpcode};
  Context context{};
  context.gpr = machine.gpr;
  context.rip = machine.rip;
  context.rflags = machine.rflags;
  context.fs_base = machine.fs_base;
  context.gs_base = machine.gs_base;
  std::optional<runtime::Fault> fault;
  while (!fault && context.rip == machine.rip) {
    fault = runtime::EmulationOf(instruction)(instruction, context, std::span(machine.extended),
                                              VectorLayout(), memory);
  }
  machine.gpr = context.gpr;
  machine.rip = context.rip;
  machine.rflags = context.rflags;
  if (!fault) return {};
  return {static_cast<std::uint64_t>(fault->vector), fault->error_code, fault->address};
}

void GuardedMemory::Allow(bool all) const {
  constexpr int kAll = PROT_READ | PROT_WRITE;
  mprotect(reinterpret_cast<void*>(arena_.constants()), Arena::kPage, all ? kAll : PROT_READ);
  mprotect(reinterpret_cast<void*>(arena_.forbidden()), Arena::kPage, all ? kAll : PROT_NONE);
}

void GuardedMemory::Restore(const std::vector<std::byte>& saved) const {
  std::ranges::copy(saved, All().begin());
}

std::vector<std::byte> GuardedMemory::TakeAll() const {
  Allow(true);
  std::vector<std::byte> saved = Save();
  Allow(false);
  return saved;
}

void GuardedMemory::PutAll(const std::vector<std::byte>& saved) const {
  Allow(true);
  Restore(saved);
  Allow(false);
}

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

}  // namespace dunebox::jit
