#include "runtime/process/clock_code.h"

#include <algorithm>
#include <array>
#include <set>

#include "jit-fallback/decode/instruction.h"

namespace dunebox::process {
namespace {

using jit::Class;
using jit::Instruction;
using jit::Operation;

// neg %eax, as long as SYSCALL. EAX is the call's number there, and what the function returns then.
constexpr std::array<std::uint8_t, 2> kInsteadOfSyscall = {0xf7, 0xd8};
// More than any vDSO has in one function and what it calls.
constexpr std::size_t kMostInstructions = 4096;

struct OpcodeRange {
  std::uint8_t first, last;
};
// Of 0F: general registers and memory only. [intel/vol2 appendix A]
constexpr OpcodeRange kPlainTwoByte[] = {
    {0x1e, 0x1f},  // ENDBR64, NOP
    {0x31, 0x31},  // RDTSC
    {0x40, 0x4f},  // CMOVcc
    {0x90, 0x9f},  // SETcc
    {0xa3, 0xa5},  // BT, SHLD
    {0xab, 0xad},  // BTS, SHRD
    {0xaf, 0xaf},  // IMUL
    {0xb3, 0xb3},  // BTR
    {0xb6, 0xb7},  // MOVZX
    {0xba, 0xbf},  // BT and its like, BSF, BSR, MOVSX
    {0xc8, 0xcf},  // BSWAP
};

bool IsFence(const Instruction& instruction) {
  return instruction.opcode == 0xae && instruction.modrm >= 0xe8;
}

bool IsPlain(const Instruction& instruction) {
  if (instruction.encoding != jit::Encoding::kLegacy ||
      instruction.segment != jit::Segment::kNone || instruction.address_size) {
    return false;
  }
  switch (instruction.operation) {
    case Operation::kRdtsc:
    case Operation::kRdtscp:
    case Operation::kLea:
    case Operation::kLeave:
      return true;
    case Operation::kOther:
      break;
    default:
      return false;
  }
  // Below 0F: all but x87.
  if (instruction.opcode_map == 0) return instruction.opcode < 0xd8 || instruction.opcode > 0xdf;
  if (instruction.opcode_map != 1) return false;
  return IsFence(instruction) || std::ranges::any_of(kPlainTwoByte, [&](OpcodeRange range) {
           return instruction.opcode >= range.first && instruction.opcode <= range.last;
         });
}

// Follows the code from its entry, each place once.
class Walk {
 public:
  Walk(std::span<const std::byte> image, std::uint64_t clock_data_size)
      : image_(image), clock_data_size_(clock_data_size) {}

  // Whether all of it is fit. Then `system_calls` are the places of its SYSCALLs.
  bool From(std::uint64_t entry) {
    if (!Reach(entry)) return false;
    while (!open_.empty()) {
      const std::uint64_t at = *open_.begin();
      open_.erase(open_.begin());
      if (!Visit(at)) return false;
    }
    return true;
  }
  const std::vector<std::uint64_t>& system_calls() const { return system_calls_; }

 private:
  bool Reach(std::uint64_t at) {
    if (at >= image_.size()) return false;
    if (seen_.insert(at).second) open_.insert(at);
    return seen_.size() <= kMostInstructions;
  }

  bool Visit(std::uint64_t at) {
    const std::span bytes(reinterpret_cast<const std::uint8_t*>(image_.data()) + at,
                          image_.size() - at);
    Instruction instruction;
    if (jit::Decode(bytes, instruction) != jit::DecodeStatus::kOk) return false;
    const std::uint64_t next = at + instruction.length;
    // What lies before the image wraps, and is no place in it.
    const std::uint64_t target =
        next + static_cast<std::uint64_t>(std::int64_t{instruction.relative});
    switch (instruction.klass) {
      case Class::kCopy:
        return IsPlain(instruction) && FindsItsData(instruction, next) && Reach(next);
      case Class::kJump:
        return Reach(target);
      case Class::kBranch:
      case Class::kCall:
        return Reach(target) && Reach(next);
      case Class::kReturn:
        return true;
      case Class::kSystemCall:
        system_calls_.push_back(at);
        return instruction.length == kInsteadOfSyscall.size() && Reach(next);
      case Class::kJumpIndirect:
      case Class::kCallIndirect:
      case Class::kEmulate:
      case Class::kTrap:
      case Class::kRefuse:
        break;
    }
    return false;
  }

  bool FindsItsData(const Instruction& instruction, std::uint64_t next) const {
    if (!instruction.rip_relative) return true;
    const auto at = static_cast<std::int64_t>(next) + instruction.displacement;
    return at >= -static_cast<std::int64_t>(clock_data_size_) &&
           at < static_cast<std::int64_t>(image_.size());
  }

  const std::span<const std::byte> image_;
  const std::uint64_t clock_data_size_;
  std::set<std::uint64_t> seen_, open_;
  std::vector<std::uint64_t> system_calls_;
};

}  // namespace

std::optional<std::vector<std::byte>> ClockCode(std::span<const std::byte> image,
                                                std::uint64_t entry,
                                                std::uint64_t clock_data_size) {
  Walk walk(image, clock_data_size);
  if (!walk.From(entry)) return std::nullopt;
  std::vector<std::byte> code(image.begin(), image.end());
  for (const std::uint64_t at : walk.system_calls()) {
    std::ranges::copy(std::as_bytes(std::span(kInsteadOfSyscall)),
                      code.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return code;
}

}  // namespace dunebox::process
