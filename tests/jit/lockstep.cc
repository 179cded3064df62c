#include "tests/jit/lockstep.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace dunebox::jit {
namespace {

constexpr std::uint64_t kArithmeticFlags = 0x8d5;

}  // namespace

bool TraceFollower::AreFlagsSpent(std::uint64_t pc) const {
  bool spent = false;
  arena_.WithCode(pc, 64, CodeSource::Purpose::kLook, [&](const CodeSource::Code& code) {
    for (std::size_t at = 0; at < code.bytes.size();) {
      Instruction instruction;
      if (Decode(code.bytes.subspan(at), instruction) != DecodeStatus::kOk ||
          instruction.klass != Class::kCopy || instruction.reads_flags) {
        return;
      }
      if (instruction.overwrites_flags) {
        spent = true;
        return;
      }
      at += instruction.length;
    }
  });
  return spent;
}

bool TraceFollower::IsAt(const Snapshot& seen, const Snapshot& expected) const {
  if (seen.rip != expected.rip) return false;
  for (unsigned reg = 0; reg < seen.gpr.size(); ++reg) {
    // Isolation by mask loses bits 62 and 63 of a stack pointer that is none.
    const bool is_same = seen.gpr[reg] == expected.gpr[reg] ||
                         (reg == kRsp && seen.gpr[reg] == Unconfine(Confine(expected.gpr[reg])));
    if (!is_same) return false;
  }
  const std::uint64_t differs = seen.rflags ^ expected.rflags;
  return differs == 0 || ((differs & ~kArithmeticFlags) == 0 && AreFlagsSpent(seen.rip));
}

void TraceFollower::See(const Snapshot& seen, std::uint64_t host) {
  ++seen_;
  if (!complaint_.empty()) return;
  const std::size_t end = std::min(trace_.size(), position_ + stride_ + 1);
  for (std::size_t i = position_; i < end; ++i) {
    if (!IsAt(seen, trace_[i])) continue;
    position_ = i;
    return;
  }
  complaint_ = absl::StrCat("at host ", absl::Hex(host), ": ", Describe(seen), "\n");
  for (std::size_t i = position_; i < std::min(trace_.size(), position_ + 3); ++i) {
    absl::StrAppend(&complaint_, "  step ", i, " natively: ", Describe(trace_[i]), "\n");
  }
}

std::string CompareSteps(Runner& runner, const Machine& start, const std::vector<std::byte>& memory,
                         std::uint64_t& host_instructions) {
  Arena& arena = runner.arena();
  std::vector<Snapshot> trace;
  Machine native = start, translated = start;
  arena.Restore(memory);
  const Ending native_end = runner.TraceNative(native, trace);
  arena.Restore(memory);
  TraceFollower follower(arena, trace);
  const Ending translated_end = runner.StepTranslated(
      translated, [&](const Snapshot& seen, std::uint64_t host) { follower.See(seen, host); });
  host_instructions += follower.seen();
  if (!follower.complaint().empty()) return follower.complaint();
  native.rflags &= ~std::uint64_t{0x100};
  return Difference(native_end, translated_end) + Difference(native, translated);
}

}  // namespace dunebox::jit
