// The memory that one step of a thread accesses. Looked at before the step, when the instruction and its registers are
// there; told after it, when it is known how far a repeated string instruction came.
//
//   const auto step = StepAccesses::Before(thread, memory);
//   ... the step ...
//   if (step) for (const AccessedRange& range : step->After(thread.registers)) ...
#ifndef DUNEBOX_RUNTIME_DEBUGGER_STEP_ACCESSES_H_
#define DUNEBOX_RUNTIME_DEBUGGER_STEP_ACCESSES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jit-fallback/decode/instruction.h"
#include "runtime/debugger/memory_patches.h"
#include "runtime/process/guest_thread.h"

namespace dunebox::debugger {

class StepAccesses {
 public:
  // Nothing where there is no instruction.
  static std::optional<StepAccesses> Before(process::GuestThread& thread, const MemoryPatches& memory);
  std::vector<AccessedRange> After(const runtime::Registers& after) const;

 private:
  jit::Instruction instruction_;
  std::string bytes_;  // all of it
  runtime::Registers before_;
  std::uint64_t extended_size_ = 0;  // of an XSAVE area
};

}  // namespace dunebox::debugger

#endif  // DUNEBOX_RUNTIME_DEBUGGER_STEP_ACCESSES_H_
