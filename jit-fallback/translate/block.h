// What the translator makes of guest code before any host code exists: the instructions of one
// entry and the way it ends. A block has one entry and may have several exits: it runs on past
// conditional branches, whose taken side leaves it.
//
//   Block block;
//   Translate(pc, bytes, Limits{}, block);
#ifndef DUNEBOX_JIT_FALLBACK_TRANSLATE_BLOCK_H_
#define DUNEBOX_JIT_FALLBACK_TRANSLATE_BLOCK_H_

#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "jit-fallback/decode/instruction.h"

namespace dunebox::jit {

// How a block ends. Addresses are the guest's.
struct JumpTo {  // a direct jump, or the block is long enough and goes on elsewhere
  std::uint64_t target;
};
struct CallTo {
  std::uint64_t target;
  std::uint64_t return_address;
};
struct JumpThrough {};  // the last instruction's operand says where
struct CallThrough {
  std::uint64_t return_address;
};
struct ReturnFrom {
  std::uint16_t extra;  // bytes to drop after the return address
};
struct MakeSystemCall {
  std::uint64_t next;
};
struct EmulateOne {};     // the runtime carries out the last instruction
struct RaiseTrap {};      // the last instruction is an exception
struct FetchFault {       // the first instruction's bytes are not there, or may not be executed
  std::uint64_t address;  // the first byte that is missing
};
using Terminal = std::variant<JumpTo, CallTo, JumpThrough, CallThrough, ReturnFrom, MakeSystemCall,
                              EmulateOne, RaiseTrap, FetchFault>;

struct Step {
  Instruction instruction;
  std::uint16_t offset;  // from the block's start
};

struct Limits {
  unsigned instructions = 64;
  unsigned branches = 4;       // the block ends behind this many conditional branches
  bool ends_at_store = false;  // behind an instruction that may write memory
};

struct Block {
  std::uint64_t pc = 0;
  std::uint32_t length = 0;  // guest bytes translated
  // All of the block, a terminal's own instruction last. Empty only with FetchFault.
  std::vector<Step> steps;
  std::span<const std::uint8_t> bytes;  // the caller's, at least `length`
  Terminal terminal;
  // Nobody watches the guest's bytes: the block compares them with `bytes` when it is entered.
  bool is_self_checking = false;
  // Executed once, for a single step: every way out leads to the runtime, and so do system calls.
  bool is_single = false;

  std::uint64_t PcOf(const Step& step) const { return pc + step.offset; }
  std::uint64_t NextOf(const Step& step) const { return PcOf(step) + step.instruction.length; }
};

// Decodes from `pc` until something ends the block. `bytes` starts at pc; where it ends, the guest
// has no executable byte. Pure. `block` is wholly overwritten (its vector is reused).
void Translate(std::uint64_t pc, std::span<const std::uint8_t> bytes, const Limits& limits,
               Block& block);

// Where a direct jump, branch or call leads.
std::uint64_t TargetOf(const Block& block, const Step& step);

// The number that RAX holds at the system call that ends the block, if the block itself has put a
// constant there; -1 otherwise.
std::int64_t KnownSystemCall(const Block& block);

// Whether the block may read or change anything of the x87 unit, MMX registers included. XSAVE and XRSTOR with a
// mask that the block itself has put together without it do not. XGETBV, which tells whether the unit is in use
// and nothing of what it holds, does not count.
bool MayUseX87(const Block& block);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_TRANSLATE_BLOCK_H_
