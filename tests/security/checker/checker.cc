#include "tests/security/checker/checker.h"

#include <algorithm>
#include <optional>

#include "tests/security/checker/effects.h"
#include "tests/security/checker/instruction.h"
#include "tests/security/checker/operands.h"
#include "tests/security/checker/rules.h"
#include "tests/security/checker/state.h"

namespace dunebox::checker {
namespace {

constexpr std::size_t kNowhere = ~std::size_t{0};
constexpr std::uint32_t kPatchSize = 4, kAtomic = 16;

// Where an instruction leads besides the next one.
struct Flow {
  enum class Kind : std::uint8_t {
    kOn,    // nowhere
    kJump,  // to another instruction of this code
    kExit,  // out, by a jump that the cache sets
    kLeave  // out, through the Context
  };
  Kind kind = Kind::kOn;
  bool falls_through = true;
  std::size_t target = kNowhere;  // of kJump
};

class BlockCheck {
 public:
  explicit BlockCheck(const Code& code)
      : code_(code),
        isolation_(code.header.isolation),
        confines_rsp_(IsMask(isolation_) || isolation_ == Isolation::kSeg),
        used_exits_(code.exits.size()) {}

  Checked Run();

 private:
  bool Decode();
  void FindTargets();
  void CheckShape();
  Flow FlowOf(std::size_t index);
  Flow DirectJump(std::size_t index);
  Flow IndirectJump(std::size_t index);
  void CheckSystemCall(std::size_t index);
  void CheckRestore(std::size_t index);
  void CheckExits();
  void Interpret();
  void CheckJumpBack(const Instruction& from, std::size_t target, const State& state);
  void CheckStackPointer(const Instruction& at, const State& state);
  void Arrive(std::size_t index, const State& state);

  std::size_t IndexAt(std::uint64_t offset) const;
  // The instruction in front that this one is always executed behind; null: none.
  const Instruction* Before(std::size_t index) const;
  std::optional<std::size_t> ExitAt(std::uint32_t offset) const;
  void Blame(std::uint32_t offset, std::string_view rule, std::string detail,
             const Instruction* instruction = nullptr);
  void Blame(const Instruction& instruction, std::string_view rule, std::string detail) {
    Blame(instruction.offset, rule, std::move(detail), &instruction);
  }

  const Code& code_;
  const Isolation isolation_;
  const bool confines_rsp_;
  std::vector<Instruction> instructions_;
  std::vector<Flow> flows_;
  std::vector<bool> is_target_;
  std::vector<bool> used_exits_;
  std::vector<std::optional<State>> states_;
  std::vector<Violation> violations_;
};

void BlockCheck::Blame(std::uint32_t offset, std::string_view rule, std::string detail,
                       const Instruction* instruction) {
  violations_.push_back(
      {.offset = offset,
       .rule = rule,
       .detail = std::move(detail),
       .instruction = instruction == nullptr ? "" : Disassemble(*instruction, code_.header.host)});
}

std::size_t BlockCheck::IndexAt(std::uint64_t offset) const {
  const auto found = std::ranges::lower_bound(instructions_, offset, {}, &Instruction::offset);
  if (found == instructions_.end() || found->offset != offset) return kNowhere;
  return static_cast<std::size_t>(found - instructions_.begin());
}

const Instruction* BlockCheck::Before(std::size_t index) const {
  const bool is_entered = instructions_[index].offset == code_.header.entry;
  if (index == 0 || is_target_[index] || is_entered) return nullptr;
  return &instructions_[index - 1];
}

std::optional<std::size_t> BlockCheck::ExitAt(std::uint32_t offset) const {
  const auto found = std::ranges::find(code_.exits, offset, &record::Exit::offset);
  if (found == code_.exits.end()) return std::nullopt;
  return static_cast<std::size_t>(found - code_.exits.begin());
}

// One decoding of all bytes: a jump to anything but one of its instructions is refused, so there is
// no other.
bool BlockCheck::Decode() {
  if (code_.bytes.empty()) {
    Blame(0, "decode", "no code");
    return false;
  }
  for (std::uint32_t at = 0; at < code_.bytes.size();) {
    std::optional<Instruction> instruction = DecodeAt(code_.bytes, at);
    if (!instruction) {
      Blame(at, "decode", "no instruction");
      return false;
    }
    at = instruction->end();
    instructions_.push_back(*instruction);
  }
  return true;
}

std::int64_t TargetOf(const Instruction& jump) {
  return std::int64_t{jump.end()} + jump.decoded.raw.imm[0].value.s;
}

std::uint32_t PatchOf(const Instruction& jump) {
  return jump.offset + jump.decoded.raw.imm[0].offset;
}

void BlockCheck::FindTargets() {
  is_target_.assign(instructions_.size(), false);
  for (const Instruction& instruction : instructions_) {
    if (!IsDirectJump(instruction) || ExitAt(PatchOf(instruction))) continue;
    const std::int64_t target = TargetOf(instruction);
    const std::size_t index = target < 0 ? kNowhere : IndexAt(static_cast<std::uint64_t>(target));
    if (index != kNowhere) is_target_[index] = true;
  }
}

// Only what means nothing (2E) or the width of the counter (67): others change how processors of
// different makers read the rest.
bool HasOddPrefix(const Instruction& instruction) {
  const bool counts = instruction.mnemonic() == ZYDIS_MNEMONIC_JECXZ ||
                      instruction.mnemonic() == ZYDIS_MNEMONIC_LOOP ||
                      instruction.mnemonic() == ZYDIS_MNEMONIC_LOOPE ||
                      instruction.mnemonic() == ZYDIS_MNEMONIC_LOOPNE;
  for (unsigned i = 0; i < instruction.decoded.raw.prefix_count; ++i) {
    const std::uint8_t prefix = instruction.decoded.raw.prefixes[i].value;
    if (prefix != 0x2e && !(counts && prefix == 0x67)) return true;
  }
  return false;
}

Flow BlockCheck::DirectJump(std::size_t index) {
  const Instruction& jump = instructions_[index];
  Flow flow{.falls_through = IsConditional(jump)};
  if (HasOddPrefix(jump)) Blame(jump, "jump-prefix", "a prefix that a jump must not have");
  if (const auto exit = ExitAt(PatchOf(jump))) {
    flow.kind = Flow::Kind::kExit;
    if (jump.decoded.raw.imm[0].size != 32) Blame(jump, "exit-site", "the exit has not four bytes");
    if (used_exits_[*exit]) Blame(jump, "exit-site", "two jumps at one exit");
    used_exits_[*exit] = true;
    return flow;
  }
  flow.kind = Flow::Kind::kJump;
  const std::int64_t target = TargetOf(jump);
  if (target < 0 || target >= static_cast<std::int64_t>(code_.bytes.size())) {
    Blame(jump, "jump-target", "leaves the code and is no exit");
  } else if (flow.target = IndexAt(static_cast<std::uint64_t>(target)); flow.target == kNowhere) {
    Blame(jump, "jump-target", "leads into an instruction");
  }
  return flow;
}

// jmp [context:JIT_TO_*], or movzx ecx, r11w; jmp [context:rcx*8 + JIT_TABLE].
Flow BlockCheck::IndirectJump(std::size_t index) {
  const Instruction& jump = instructions_[index];
  const Flow flow{.kind = Flow::Kind::kLeave, .falls_through = false};
  const Operand& to = jump.all[0];
  const bool is_context = IsMemory(to) && to.mem.segment == ContextSegment(isolation_) &&
                          !jump.has_32_bit_address() && to.size == 64 &&
                          jump.decoded.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR;
  if (is_context && IsSlot(jump, to, isolation_) && IsExitPointer(Displacement(to))) return flow;
  const bool is_table = is_context && to.mem.base == ZYDIS_REGISTER_NONE &&
                        to.mem.index == ZYDIS_REGISTER_RCX && to.mem.scale == 8 &&
                        Displacement(to) == JIT_TABLE;
  const Instruction* const before = Before(index);
  const bool has_index = before != nullptr && before->mnemonic() == ZYDIS_MNEMONIC_MOVZX &&
                         IsRegister(before->all[0], ZYDIS_REGISTER_ECX) &&
                         IsRegister(before->all[1], ZYDIS_REGISTER_R11W);
  if (is_table && !has_index) Blame(jump, "indirect-jump", "RCX is not just R11's low 16 bits");
  if (!is_table) Blame(jump, "indirect-jump", "neither an exit nor the lookup table");
  return flow;
}

// mov eax, NUMBER; syscall.
void BlockCheck::CheckSystemCall(std::size_t index) {
  const Instruction& call = instructions_[index];
  const Instruction* const before = Before(index);
  const bool has_number = before != nullptr && before->mnemonic() == ZYDIS_MNEMONIC_MOV &&
                          IsRegister(before->all[0], ZYDIS_REGISTER_EAX) &&
                          IsImmediate(before->all[1]);
  if (!has_number) return Blame(call, "syscall", "its number is not set right in front of it");
  if (!RunsInPlace(before->all[1].imm.value.u)) Blame(call, "syscall", "its number is not listed");
  if ((code_.header.flags & record::kIsSingle) != 0) {
    Blame(call, "syscall", "this code was to leave for every system call");
  }
}

// Under `pku` XRSTOR must not load PKRU, component 9.
void BlockCheck::CheckRestore(std::size_t index) {
  constexpr std::uint64_t kPkru = 1 << 9;
  const Instruction& restore = instructions_[index];
  const bool is_restore =
      restore.mnemonic() == ZYDIS_MNEMONIC_XRSTOR || restore.mnemonic() == ZYDIS_MNEMONIC_XRSTOR64;
  if (!is_restore || isolation_ != Isolation::kPku) return;
  const Instruction* const before = Before(index);
  const bool is_masked =
      before != nullptr &&
      (before->mnemonic() == ZYDIS_MNEMONIC_AND || before->mnemonic() == ZYDIS_MNEMONIC_MOV) &&
      IsRegister(before->all[0], ZYDIS_REGISTER_EAX) && IsImmediate(before->all[1]) &&
      (before->all[1].imm.value.u & kPkru) == 0;
  if (!is_masked) Blame(restore, "pkru", "may load PKRU");
}

Flow BlockCheck::FlowOf(std::size_t index) {
  const Instruction& instruction = instructions_[index];
  if (IsDirectJump(instruction)) return DirectJump(index);
  if (instruction.mnemonic() == ZYDIS_MNEMONIC_JMP) return IndirectJump(index);
  if (instruction.mnemonic() == ZYDIS_MNEMONIC_SYSCALL) {
    CheckSystemCall(index);
    return {};
  }
  if (const std::string_view why = WhyRefused(instruction, isolation_); !why.empty()) {
    Blame(instruction, "instruction", std::string(why));
  }
  CheckRestore(index);
  if (const auto complaint = CheckSlots(instruction, isolation_)) {
    Blame(instruction, complaint->rule, complaint->detail);
  }
  return {};
}

// Every exit is a jump here, and four bytes that one store sets at once.
void BlockCheck::CheckExits() {
  for (std::size_t i = 0; i < code_.exits.size(); ++i) {
    const std::uint32_t offset = code_.exits[i].offset;
    if (!used_exits_[i]) Blame(offset, "exit-site", "no jump has its target here");
    if ((code_.header.host + offset) % kAtomic > kAtomic - kPatchSize) {
      Blame(offset, "exit-site", "straddles 16 bytes");
    }
  }
  if (code_.header.kind == record::Kind::kExitStub && !code_.exits.empty()) {
    Blame(0, "exit-site", "an exit stub with exits");
  }
}

void BlockCheck::CheckShape() {
  for (std::size_t i = 0; i < instructions_.size(); ++i) flows_.push_back(FlowOf(i));
  CheckExits();
  if (IndexAt(code_.header.entry) == kNowhere) {
    Blame(code_.header.entry, "entry", "is no instruction");
  }
}

void BlockCheck::Arrive(std::size_t index, const State& state) {
  std::optional<State>& known = states_[index];
  known = known ? Join(*known, state) : state;
}

void BlockCheck::CheckStackPointer(const Instruction& at, const State& state) {
  const std::optional<std::uint64_t> drift = state.general[kRspNumber].drift;
  if (!confines_rsp_ || (drift && *drift <= kStackDrift)) return;
  Blame(at, "rsp", drift ? "RSP may be too far away here" : "RSP is not confined here");
}

// Each instruction is looked at once, so what a jump back leads to must need no state: a way out.
void BlockCheck::CheckJumpBack(const Instruction& from, std::size_t target, const State& state) {
  if (flows_[target].kind != Flow::Kind::kLeave) {
    return Blame(from, "jump-target", "leads back to more than a way out");
  }
  // Its RCX would be another one.
  if (instructions_[target].all[0].mem.index != ZYDIS_REGISTER_NONE) {
    return Blame(from, "jump-target", "leads back to a lookup");
  }
  CheckStackPointer(from, state);
}

// What cannot be reached is judged by its shape only.
void BlockCheck::Interpret() {
  states_.assign(instructions_.size(), std::nullopt);
  const std::size_t entry = IndexAt(code_.header.entry);
  if (entry != kNowhere) states_[entry] = State::AtEntry(confines_rsp_);
  for (std::size_t i = 0; i < instructions_.size(); ++i) {
    if (!states_[i]) continue;
    const Instruction& instruction = instructions_[i];
    const State& before = *states_[i];
    const Flow& flow = flows_[i];
    // A jump through the Context is judged by its shape.
    if (flow.kind != Flow::Kind::kLeave) {
      if (const auto complaint = CheckOperands(instruction, before, isolation_)) {
        Blame(instruction, complaint->rule, complaint->detail);
      }
    }
    const State behind = StateBehind(instruction, before, isolation_);
    const bool leaves = flow.kind == Flow::Kind::kExit || flow.kind == Flow::Kind::kLeave;
    if (leaves) CheckStackPointer(instruction, behind);
    if (flow.target != kNowhere) {
      flow.target > i ? Arrive(flow.target, behind)
                      : CheckJumpBack(instruction, flow.target, behind);
    }
    if (!flow.falls_through) continue;
    if (i + 1 == instructions_.size()) {
      Blame(instruction, "fall-out", "execution goes on behind the code");
    } else {
      Arrive(i + 1, behind);
    }
  }
}

Checked BlockCheck::Run() {
  if (Decode()) {
    FindTargets();
    CheckShape();
    Interpret();
  }
  return {.violations = std::move(violations_), .instructions = instructions_.size()};
}

}  // namespace

Checked Check(const Code& code) { return BlockCheck(code).Run(); }

}  // namespace dunebox::checker
