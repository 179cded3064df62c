// What .eh_frame says of a place in the code: how the caller's registers are got from those there.
// [DWARF 4 §6.4] [LSB core generic §10.6]
//
// The tables are read from the program's memory, so they may say anything. They are believed in nothing
// but which of its own memory the unwinder looks at next; their size and the number of their steps are bounded.
//
//   std::optional<FrameRules> rules = FindRules(read, table, pc);   // nothing: the table does not have this place
#ifndef DUNEBOX_RUNTIME_UNWIND_FRAME_RULES_H_
#define DUNEBOX_RUNTIME_UNWIND_FRAME_RULES_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/unwind/table_reader.h"

namespace dunebox::unwind {

// By their numbers in DWARF. [abi §3.6.2]
enum Register : std::uint8_t { kRax, kRdx, kRcx, kRbx, kRsi, kRdi, kRbp, kRsp, kReturnAddress = 16 };
inline constexpr std::size_t kRegisters = 17;

struct Rule {
  enum class Kind : std::uint8_t {
    kSame,
    kUndefined,
    kAt,               // in memory at CFA + value
    kOffset,           // CFA + value
    kRegister,         // in register `value`
    kAtExpression,     // in memory where the expression says
    kExpression,       // what the expression says
  };
  Kind kind = Kind::kSame;
  std::int64_t value = 0;
  std::vector<std::byte> expression{};
};

struct FrameRules {
  // The canonical frame address: the stack pointer before the call.
  std::uint8_t cfa_register = kRsp;
  std::int64_t cfa_offset = 0;
  std::vector<std::byte> cfa_expression{};  // instead, when not empty
  std::array<Rule, kRegisters> rules{};
  bool is_signal_frame = false;  // the caller was interrupted and did not call
};

// The table of a file, as it lies in memory.
struct FrameTable {
  std::uint64_t address = 0;
  // Of .eh_frame itself, which is looked through from its beginning; 0: it is .eh_frame_hdr, which is sorted. Linkers leave
  // that out of static programs.
  std::uint64_t size = 0;
};

// `pc` is in the function, and not behind a call that is its last instruction.
std::optional<FrameRules> FindRules(ReadMemory read, const FrameTable& table, std::uint64_t pc);

}  // namespace dunebox::unwind

#endif  // DUNEBOX_RUNTIME_UNWIND_FRAME_RULES_H_
