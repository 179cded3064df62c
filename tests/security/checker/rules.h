// The tables of docs/isolation.md: which instructions, slots and system calls emitted code may use.
#ifndef DUNEBOX_TESTS_SECURITY_CHECKER_RULES_H_
#define DUNEBOX_TESTS_SECURITY_CHECKER_RULES_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "jit-fallback/dispatch/context_offsets.h"
#include "tests/security/checker/instruction.h"

namespace dunebox::checker {

// A field of the Context.
struct Slot {
  std::int64_t offset;
  std::int64_t size;
};
std::span<const Slot> LoadableSlots();
std::span<const Slot> StorableSlots();
std::span<const std::int64_t, 4> SpillSlots();
// JIT_TO_*.
bool IsExitPointer(std::int64_t displacement);

// How many bits PEXT leaves with the mask of that slot; nothing: not known.
std::optional<unsigned> BitsExtractedBy(std::int64_t displacement);

bool RunsInPlace(std::uint64_t number);

// Why an instruction that is neither a jump nor SYSCALL may not stand in emitted code; empty: it
// may.
std::string_view WhyRefused(const Instruction& instruction, Isolation isolation);

// Jumps to a constant distance, and no other instruction.
bool IsDirectJump(const Instruction& instruction);
bool IsConditional(const Instruction& instruction);

// The operand is an address that nobody reads or writes.
bool IsNotAccessed(const Instruction& instruction, const Operand& operand);

// A register through which an instruction accesses memory although Zydis lists no such operand.
struct HiddenAccess {
  ZydisMnemonic mnemonic;
  Register base;  // ZYDIS_REGISTER_NONE: the instruction's first operand
  bool writes;
};
std::span<const HiddenAccess> HiddenAccesses();

bool HasDwordIndices(const Instruction& instruction);  // of a gather or scatter
// bt, bts, btr, btc with a bit number in a register, which adds to the address.
bool IsBitString(const Instruction& instruction);
// One that is not masked, repeated or skipped: a memory operand has been accessed when it is done.
bool SurelyAccesses(const Instruction& instruction);

}  // namespace dunebox::checker

#endif  // DUNEBOX_TESTS_SECURITY_CHECKER_RULES_H_
