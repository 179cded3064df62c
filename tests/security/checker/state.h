// What is known of the general registers at a place in the code, whatever they hold when the block
// is entered.
#ifndef DUNEBOX_TESTS_SECURITY_CHECKER_STATE_H_
#define DUNEBOX_TESTS_SECURITY_CHECKER_STATE_H_

#include <array>
#include <cstdint>
#include <optional>

namespace dunebox::checker {

inline constexpr std::uint64_t kUserHalfEnd = std::uint64_t{1} << 46;
// Between blocks RSP is no further from where it may point than this.
inline constexpr std::uint64_t kStackDrift = 128 << 10;
// Drift, displacement and size of an operand stay below this.
inline constexpr std::uint64_t kReach = std::uint64_t{16} << 30;

// `seg`: an access through RSP stays this near to the window, whose guards are wider.
inline constexpr std::uint64_t kWindowReach = 256 << 10;

struct Value {
  // Confined: at most so far away from an address of the user half, or from a non-canonical one
  // that PDEP has made; under `seg` from an address of the window.
  std::optional<std::uint64_t> drift;
  // Below 2 to the power of this.
  unsigned bits = 64;
  // `seg`: the base of the window.
  bool is_window_base = false;

  bool operator==(const Value&) const = default;
  static Value Confined(std::uint64_t drift);
  static Value Constant(std::uint64_t value);
  static Value Below(unsigned bits);
  Value Moved(std::uint64_t by) const;  // by an unknown distance up to this
};

struct State {
  std::array<Value, 16> general;
  // Of SpillSlots(), in their order: only emitted code writes them, and it by MOV.
  std::array<Value, 4> slots;

  bool operator==(const State&) const = default;
  static State AtEntry(bool rsp_is_confined);
};

// What holds on both ways to a place.
Value Join(const Value& a, const Value& b);
State Join(const State& a, const State& b);

}  // namespace dunebox::checker

#endif  // DUNEBOX_TESTS_SECURITY_CHECKER_STATE_H_
