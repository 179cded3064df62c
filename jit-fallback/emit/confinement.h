// What is known of the guest's registers inside a block under isolation `mask`: which of them hold
// an address of the user half, give or take a few bytes. docs/isolation.md has the rules.
#ifndef DUNEBOX_JIT_FALLBACK_EMIT_CONFINEMENT_H_
#define DUNEBOX_JIT_FALLBACK_EMIT_CONFINEMENT_H_

#include <array>
#include <cstdint>
#include <span>

#include "jit-fallback/decode/instruction.h"

namespace dunebox::jit {

// The user half, where a whole program lives. [DESIGN D2]
inline constexpr std::uint64_t kUserHalfEnd = std::uint64_t{1} << 46;
// Nothing is mapped in so many bytes above it.
inline constexpr std::uint64_t kGuardSize = std::uint64_t{64} << 30;

// All bits but 46 and 47: depositing an address of the user half into it changes nothing, depositing
// any other gives one that is not canonical.
inline constexpr std::uint64_t kConfiningMask = ~(std::uint64_t{3} << 46);

// What PDEP with the mask makes of an address, and what it was before (of bits 62 and 63, which are
// lost, those that a canonical address has). Drift is kept.
std::uint64_t Confine(std::uint64_t address);
std::uint64_t Unconfine(std::uint64_t confined);

class Confinement {
 public:
  // Drift of RSP at every entry and, at most, at every exit.
  static constexpr std::int64_t kStackDrift = 128 << 10;
  // How far an operand may be from the register that was confined for it. No operand that works
  // natively is so near below 0, nor above the user half.
  static constexpr std::int32_t kNear = 64 << 10;

  void Enter();

  bool IsConfined(unsigned reg) const { return drift_[reg] >= 0; }
  bool IsStackSettled() const { return IsConfined(kRsp) && drift_[kRsp] <= kStackDrift; }
  void Set(unsigned reg) { drift_[reg] = 0; }
  void Clear(unsigned reg) { drift_[reg] = kUnknown; }

  // Takes note of what the guest's own instruction, of which `bytes` are all, does to the
  // registers. RSP may be unconfined behind it.
  void After(const Instruction& instruction, std::span<const std::uint8_t> bytes);

 private:
  static constexpr std::int64_t kUnknown = -1;
  void Move(unsigned to, std::int64_t from, std::int64_t by);
  bool AfterStack(const Instruction& instruction);
  bool AfterArithmetic(const Instruction& instruction, std::span<const std::uint8_t> bytes);
  void TouchStack(const Instruction& instruction);

  std::array<std::int64_t, 16> drift_{};
};

// The operand's base register when it is base + displacement and nothing else; -1 otherwise.
int PlainBase(const Instruction& instruction);
// The operand is accessed whenever the instruction completes: it is neither masked away nor counted.
bool SurelyAccesses(const Instruction& instruction, std::span<const std::uint8_t> bytes);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_EMIT_CONFINEMENT_H_
