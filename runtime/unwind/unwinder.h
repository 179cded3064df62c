// Who called whom: from the registers of a thread that stands still to the places on its stack that it came by.
//
// The caller's registers are got by .eh_frame, which every program on x86-64 has; where code has none, by
// the frame pointer; and when the program jumped to what is no code, as to a null function pointer, by the return address
// that the call has just pushed. The stack is the program's: whatever is there, the end comes after `most` frames.
//
// The libraries for this believe the tables that they read, which here a hostile program may have written.
//
//   for (const Frame& frame : Unwind(read, look_up, innermost, 64)) Print(frame.pc());
#ifndef DUNEBOX_RUNTIME_UNWIND_UNWINDER_H_
#define DUNEBOX_RUNTIME_UNWIND_UNWINDER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "runtime/unwind/expression.h"

namespace dunebox::unwind {

struct Frame {
  Registers registers{};
  // It was interrupted at pc(); else pc() is behind a call.
  bool is_interrupted = false;

  std::uint64_t pc() const { return registers[kReturnAddress]; }
  // An address in the instruction that it is at, or that called.
  std::uint64_t place() const { return is_interrupted ? pc() : pc() - 1; }
};

// What is at an address.
struct Code {
  bool is_code = false;
  std::optional<FrameTable> table{};  // of the file that is mapped there
};
using LookUp = absl::FunctionRef<Code(std::uint64_t address)>;

// From the innermost frame outwards, that one included.
std::vector<Frame> Unwind(ReadMemory read, LookUp look_up, const Frame& innermost, std::size_t most);

}  // namespace dunebox::unwind

#endif  // DUNEBOX_RUNTIME_UNWIND_UNWINDER_H_
