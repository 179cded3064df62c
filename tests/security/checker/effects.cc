#include "tests/security/checker/effects.h"

#include <algorithm>
#include <bit>

#include "tests/security/checker/rules.h"

namespace dunebox::checker {
namespace {

constexpr std::uint64_t kPushedSize = 8;

// Those of which it is sure: some others leave a register as it is.
constexpr ZydisMnemonic kAlwaysWriting[] = {
    ZYDIS_MNEMONIC_MOV, ZYDIS_MNEMONIC_MOVZX, ZYDIS_MNEMONIC_LEA, ZYDIS_MNEMONIC_AND,
    ZYDIS_MNEMONIC_ADD, ZYDIS_MNEMONIC_SUB,   ZYDIS_MNEMONIC_XOR, ZYDIS_MNEMONIC_OR,
};

class Effect {
 public:
  Effect(const Instruction& instruction, const State& before, Isolation isolation)
      : instruction_(instruction), before_(before), isolation_(isolation) {}

  State Apply() const;

 private:
  using Rule = Value (Effect::*)() const;
  struct Row {
    ZydisMnemonic mnemonic;
    Rule rule;  // of the value that the first operand, a 64-bit register, has behind it
  };
  static const Row kRules[];

  Value Pdep() const;
  Value Pext() const;
  Value Move() const;
  Value Address() const;
  Value Add() const;
  Value Step() const;
  Value And() const;

  const Operand& first() const { return instruction_.all[0]; }
  const Operand& second() const { return instruction_.all[1]; }
  bool IsLoadOfConstant() const {
    return instruction_.mnemonic() == ZYDIS_MNEMONIC_MOV && IsImmediate(second());
  }
  Value Of(Register reg) const {
    const std::optional<unsigned> number = GeneralNumber(reg);
    return number ? before_.general[*number] : Value();
  }
  Value Constant(std::uint64_t value) const {
    // Under `seg` a constant is an offset in the window, not a place in it.
    Value result = Value::Constant(value);
    if (!IsMask(isolation_)) result.drift.reset();
    return result;
  }
  bool LoadsSlot(const Operand& operand, std::int64_t offset) const {
    return IsSlot(instruction_, operand, isolation_) && Displacement(operand) == offset;
  }
  // Nothing for what is not exactly one of them.
  std::optional<std::size_t> SpillSlotOf(const Operand& operand) const;
  void StoreToSlot(State& state) const;
  void ForgetWritten(State& state) const;
  void MoveStackPointer(State& state) const;
  void LearnFromAccess(State& state) const;

  const Instruction& instruction_;
  const State& before_;
  const Isolation isolation_;
};

const Effect::Row Effect::kRules[] = {
    {ZYDIS_MNEMONIC_PDEP, &Effect::Pdep}, {ZYDIS_MNEMONIC_PEXT, &Effect::Pext},
    {ZYDIS_MNEMONIC_MOV, &Effect::Move},  {ZYDIS_MNEMONIC_LEA, &Effect::Address},
    {ZYDIS_MNEMONIC_ADD, &Effect::Add},   {ZYDIS_MNEMONIC_SUB, &Effect::Add},
    {ZYDIS_MNEMONIC_INC, &Effect::Step},  {ZYDIS_MNEMONIC_DEC, &Effect::Step},
    {ZYDIS_MNEMONIC_AND, &Effect::And},
};

Value Effect::Pdep() const {
  const bool confines = IsMask(isolation_) && LoadsSlot(instruction_.all[2], JIT_CONFINING_MASK);
  return confines ? Value::Confined(0) : Value();
}

Value Effect::Pext() const {
  const Operand& mask = instruction_.all[2];
  if (!IsSlot(instruction_, mask, isolation_)) return {};
  const std::optional<unsigned> bits = BitsExtractedBy(Displacement(mask));
  return bits ? Value::Below(*bits) : Value();
}

Value Effect::Move() const {
  if (IsRegister(second())) return Of(second().reg.value);
  if (IsImmediate(second())) return Constant(second().imm.value.u);
  if (const std::optional<std::size_t> slot = SpillSlotOf(second())) return before_.slots[*slot];
  if (LoadsSlot(second(), JIT_WINDOW_BASE)) {
    Value base;
    base.is_window_base = true;
    return base;
  }
  return {};
}

Value Effect::Address() const {
  const auto& memory = second().mem;
  const std::int64_t displacement = Displacement(second());
  if (instruction_.has_32_bit_address()) return Value::Below(32);
  if (memory.base == ZYDIS_REGISTER_RIP) return {};
  if (memory.base == ZYDIS_REGISTER_NONE && memory.index == ZYDIS_REGISTER_NONE) {
    return Constant(static_cast<std::uint64_t>(displacement));
  }
  if (memory.index == ZYDIS_REGISTER_NONE) return Of(memory.base).Moved(Distance(displacement));
  // `seg`: base of the window and an offset in it.
  if (memory.base == ZYDIS_REGISTER_NONE || memory.scale != 1) return {};
  const Value base = Of(memory.base), index = Of(memory.index);
  const bool is_place =
      (base.is_window_base && index.bits <= 32) || (index.is_window_base && base.bits <= 32);
  return is_place ? Value::Confined(Distance(displacement)) : Value();
}

Value Effect::Add() const {
  if (IsImmediate(second())) return Of(first().reg.value).Moved(Distance(second().imm.value.s));
  const bool is_place = instruction_.mnemonic() == ZYDIS_MNEMONIC_ADD &&
                        LoadsSlot(second(), JIT_WINDOW_BASE) && Of(first().reg.value).bits <= 32;
  if (is_place) return Value::Confined(0);
  return {};
}

Value Effect::Step() const { return Of(first().reg.value).Moved(1); }

// Clears bits: goes down, by the value of the bits at most; or to what the constant has.
Value Effect::And() const {
  if (!IsImmediate(second())) return {};
  const std::int64_t mask = second().imm.value.s;
  if (mask < 0) return Of(first().reg.value).Moved(~static_cast<std::uint64_t>(mask));
  return Constant(static_cast<std::uint64_t>(mask));
}

std::optional<std::size_t> Effect::SpillSlotOf(const Operand& operand) const {
  if (!IsSlot(instruction_, operand, isolation_) || operand.size != 64) return std::nullopt;
  const auto slots = SpillSlots();
  const auto found = std::ranges::find(slots, Displacement(operand));
  if (found == slots.end()) return std::nullopt;
  return static_cast<std::size_t>(found - slots.begin());
}

// CheckSlots has seen to it that it is a MOV.
void Effect::StoreToSlot(State& state) const {
  const Operand& to = first();
  if (!IsMemory(to) || to.mem.segment != ContextSegment(isolation_) || !MayWrite(to)) return;
  if (const std::optional<std::size_t> slot = SpillSlotOf(to)) {
    state.slots[*slot] = IsRegister(second()) ? Of(second().reg.value) : Value();
    return;
  }
  const auto slots = SpillSlots();
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const std::int64_t distance = Displacement(to) - slots[i];
    if (distance > -8 && distance < 8) state.slots[i] = Value();
  }
}

// What nobody says more of: parts of registers, implicit operands, conditional writes.
void Effect::ForgetWritten(State& state) const {
  for (const Operand& operand : instruction_.operands()) {
    if (!IsRegister(operand) || !MayWrite(operand)) continue;
    const std::optional<unsigned> number = GeneralNumber(operand.reg.value);
    if (!number) continue;
    // A 32-bit result has zeros above it.
    const bool is_cut =
        ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, operand.reg.value) == 32 &&
        std::ranges::find(kAlwaysWriting, instruction_.mnemonic()) != std::end(kAlwaysWriting);
    state.general[*number] = !is_cut              ? Value()
                             : IsLoadOfConstant() ? Constant(second().imm.value.u & 0xffff'ffff)
                                                  : Value::Below(32);
  }
}

struct StackRow {
  ZydisMnemonic mnemonic;
  bool pushes;
};
constexpr StackRow kStack[] = {
    {ZYDIS_MNEMONIC_PUSH, true}, {ZYDIS_MNEMONIC_PUSHF, true}, {ZYDIS_MNEMONIC_PUSHFQ, true},
    {ZYDIS_MNEMONIC_POP, false}, {ZYDIS_MNEMONIC_POPF, false}, {ZYDIS_MNEMONIC_POPFQ, false},
};

// PUSH and POP have accessed [rsp]: in front of it for a POP, behind it for a PUSH.
void Effect::MoveStackPointer(State& state) const {
  Value& rsp = state.general[kRspNumber];
  const bool was_confined = before_.general[kRspNumber].drift.has_value();
  for (const StackRow& row : kStack) {
    if (row.mnemonic != instruction_.mnemonic() || !was_confined) continue;
    const bool is_target =
        !instruction_.visible().empty() &&
        (IsRegister(first(), ZYDIS_REGISTER_RSP) || IsRegister(first(), ZYDIS_REGISTER_SP));
    if (!row.pushes && is_target) return;
    rsp = Value::Confined(row.pushes ? 0 : kPushedSize);
  }
  if (instruction_.mnemonic() == ZYDIS_MNEMONIC_LEAVE &&
      before_.general[kRbpNumber].drift.has_value()) {
    rsp = Value::Confined(kPushedSize);
  }
  if (instruction_.mnemonic() == ZYDIS_MNEMONIC_ENTER && was_confined) {
    rsp = Value::Confined(instruction_.decoded.raw.imm[0].value.u);
    state.general[kRbpNumber] = Value::Confined(0);
  }
}

// An access at [rsp + disp] that was made proves where RSP points.
void Effect::LearnFromAccess(State& state) const {
  Value& rsp = state.general[kRspNumber];
  const bool is_prefixed_move = instruction_.has_32_bit_address() || !rsp.drift;
  if (is_prefixed_move || !SurelyAccesses(instruction_)) return;
  if (rsp != before_.general[kRspNumber]) return;  // the address was of another RSP
  for (const Operand& operand : instruction_.visible()) {
    const bool is_at_rsp =
        IsMemory(operand) && operand.mem.type == ZYDIS_MEMOP_TYPE_MEM &&
        operand.mem.segment != ZYDIS_REGISTER_FS && operand.mem.segment != ZYDIS_REGISTER_GS &&
        operand.mem.base == ZYDIS_REGISTER_RSP && operand.mem.index == ZYDIS_REGISTER_NONE;
    if (is_at_rsp) rsp.drift = std::min(*rsp.drift, Distance(Displacement(operand)));
  }
}

State Effect::Apply() const {
  State state = before_;
  ForgetWritten(state);
  const bool is_wide_register = IsRegister(first()) && MayWrite(first()) && first().size == 64;
  const auto* row = std::ranges::find(kRules, instruction_.mnemonic(), &Row::mnemonic);
  if (is_wide_register && row != std::end(kRules)) {
    if (const std::optional<unsigned> number = GeneralNumber(first().reg.value)) {
      state.general[*number] = (this->*row->rule)();
    }
  }
  StoreToSlot(state);
  MoveStackPointer(state);
  LearnFromAccess(state);
  return state;
}

}  // namespace

State StateBehind(const Instruction& instruction, const State& state, Isolation isolation) {
  return Effect(instruction, state, isolation).Apply();
}

}  // namespace dunebox::checker
