#include "tests/security/checker/state.h"

#include <algorithm>
#include <bit>

#include "tests/security/checker/instruction.h"

namespace dunebox::checker {

Value Value::Confined(std::uint64_t drift) {
  Value value;
  if (drift < kReach) value.drift = drift;
  return value;
}

Value Value::Constant(std::uint64_t value) {
  Value result;
  if (value < kUserHalfEnd) result.drift = 0;
  result.bits = static_cast<unsigned>(std::bit_width(value));
  return result;
}

Value Value::Below(unsigned bits) {
  Value value;
  value.bits = bits;
  return value;
}

Value Value::Moved(std::uint64_t by) const {
  if (!drift || by >= kReach) return {};
  return Confined(*drift + by);
}

State State::AtEntry(bool rsp_is_confined) {
  State state;
  if (rsp_is_confined) state.general[kRspNumber] = Value::Confined(kStackDrift);
  return state;
}

Value Join(const Value& a, const Value& b) {
  Value joined;
  if (a.drift && b.drift) joined.drift = std::max(*a.drift, *b.drift);
  joined.bits = std::max(a.bits, b.bits);
  joined.is_window_base = a.is_window_base && b.is_window_base;
  return joined;
}

State Join(const State& a, const State& b) {
  State joined;
  for (std::size_t i = 0; i < joined.general.size(); ++i) {
    joined.general[i] = Join(a.general[i], b.general[i]);
  }
  for (std::size_t i = 0; i < joined.slots.size(); ++i) {
    joined.slots[i] = Join(a.slots[i], b.slots[i]);
  }
  return joined;
}

}  // namespace dunebox::checker
