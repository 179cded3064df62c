#include "runtime/jit/emulate_string.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "runtime/jit/guest_access.h"
#include "runtime/jit/vector_state.h"

namespace dunebox::runtime {
namespace {

namespace x86 = dune::x86;
namespace flag = dune::x86::rflags;
using jit::Instruction;
using jit::kRax;
using jit::kRbx;
using jit::kRcx;
using jit::kRdi;
using jit::kRsi;

constexpr unsigned kRexW = 8, kRexR = 4, kRexB = 1;
constexpr std::uint64_t kLow32 = 0xffff'ffff;

std::uint64_t SegmentBase(const Instruction& instruction, const jit::Context& context) {
  const std::uint64_t bases[] = {0, context.fs_base, context.gs_base};  // by Segment
  return bases[static_cast<unsigned>(instruction.segment)];
}

std::uint64_t Truncated(const Instruction& instruction, std::uint64_t offset) {
  return instruction.address_size ? offset & kLow32 : offset;
}

std::optional<Fault> CheckAlignment(const jit::Context& context, std::uint64_t address,
                                    std::size_t size) {
  const bool is_checked = (context.rflags & flag::kAlignmentCheck) != 0;
  if (!is_checked || address % size == 0) return std::nullopt;
  return FaultWithoutCode(x86::Vector::kAlignmentCheck);
}

// ---- strings [intel/vol2 MOVS, CMPS, LODS, REP] -------------------------------------------------

unsigned ElementSize(const Instruction& instruction) {
  if ((instruction.opcode & 1) == 0) return 1;
  if ((instruction.rex & kRexW) != 0) return 8;
  return instruction.operand_size ? 2 : 4;
}

class String {
 public:
  String(const Instruction& instruction, jit::Context& context,
         const hostcalls::GuestMemory& memory)
      : instruction_(instruction),
        context_(context),
        access_(memory, /*is_stack=*/false),
        base_(SegmentBase(instruction, context)),
        size_(ElementSize(instruction)) {}

  std::optional<Fault> Run();

 private:
  using Element = std::optional<Fault> (*)(String&);
  struct Row {
    std::uint8_t opcode;
    Element element;
  };
  static const Row kRows[];

  // One element; what fails has changed no register.
  std::optional<Fault> Move();
  std::optional<Fault> Compare();
  std::optional<Fault> LoadOne();
  std::optional<Fault> Once(Element element);
  std::optional<Fault> Repeat(Element element);

  std::optional<Fault> Read(std::uint64_t address, std::uint64_t& value) const;
  std::uint64_t Get(unsigned reg) const { return Truncated(instruction_, context_.gpr[reg]); }
  void Add(unsigned reg, std::uint64_t amount) {
    context_.gpr[reg] = Truncated(instruction_, context_.gpr[reg] + amount);
  }
  void Advance(unsigned reg) {
    const bool is_down = (context_.rflags & flag::kDirection) != 0;
    Add(reg, is_down ? std::uint64_t{0} - size_ : size_);
  }
  void SetFlags(std::uint64_t left, std::uint64_t right);
  bool IsRepeated() const { return instruction_.rep || instruction_.repne; }
  bool IsEndedByFlag() const;

  const Instruction& instruction_;
  jit::Context& context_;
  const GuestAccess access_;
  const std::uint64_t base_;
  const unsigned size_;
};

constexpr std::uint8_t kCompare = 0xa6;
constexpr String::Row String::kRows[] = {
    {0xa4, [](String& string) { return string.Move(); }},
    {kCompare, [](String& string) { return string.Compare(); }},
    {0xac, [](String& string) { return string.LoadOne(); }}};

std::optional<Fault> String::Read(std::uint64_t address, std::uint64_t& value) const {
  value = 0;
  if (auto fault = CheckAlignment(context_, address, size_)) return fault;
  return access_.Load(address, std::as_writable_bytes(std::span(&value, 1)).first(size_));
}

std::optional<Fault> String::Move() {
  std::uint64_t value;
  if (auto fault = Read(base_ + Get(kRsi), value)) return fault;
  const std::uint64_t to = Get(kRdi);
  if (auto fault = CheckAlignment(context_, to, size_)) return fault;
  const auto bytes = std::as_bytes(std::span(&value, 1)).first(size_);
  if (auto fault = access_.Store(to, bytes)) return fault;
  Advance(kRsi);
  Advance(kRdi);
  return std::nullopt;
}

std::optional<Fault> String::Compare() {
  std::uint64_t left, right;
  // Which is first shows when both fail: mostly this one on Zen.
  if (auto fault = Read(Get(kRdi), right)) return fault;
  if (auto fault = Read(base_ + Get(kRsi), left)) return fault;
  SetFlags(left, right);
  Advance(kRsi);
  Advance(kRdi);
  return std::nullopt;
}

std::optional<Fault> String::LoadOne() {
  std::uint64_t value;
  if (auto fault = Read(base_ + Get(kRsi), value)) return fault;
  const std::uint64_t kept = size_ < 4 ? ~std::uint64_t{0} << (8 * size_) : 0;
  std::uint64_t& rax = context_.gpr[kRax];
  rax = (rax & kept) | value;
  Advance(kRsi);
  return std::nullopt;
}

// Of left - right.
void String::SetFlags(std::uint64_t left, std::uint64_t right) {
  const std::uint64_t difference = left - right;
  const std::uint64_t borrows = (~left & right) | (~(left ^ right) & difference);
  const std::uint64_t overflows = (left ^ right) & (left ^ difference);
  const unsigned sign = 8 * size_ - 1;
  const bool is_even = std::popcount(difference & 0xff) % 2 == 0;
  const bool is_zero = left == right;
  const auto put = [](bool value, std::uint64_t bit) { return value ? bit : 0; };
  const auto bit_of = [](std::uint64_t word, unsigned at) { return ((word >> at) & 1) != 0; };
  constexpr std::uint64_t kArithmetic =
      flag::kCarry | flag::kParity | flag::kAdjust | flag::kZero | flag::kSign | flag::kOverflow;
  context_.rflags = (context_.rflags & ~kArithmetic) | put(bit_of(borrows, sign), flag::kCarry) |
                    put(is_even, flag::kParity) | put(bit_of(borrows, 3), flag::kAdjust) |
                    put(is_zero, flag::kZero) | put(bit_of(difference, sign), flag::kSign) |
                    put(bit_of(overflows, sign), flag::kOverflow);
}

// REPE goes on while elements are equal, REPNE while they are not.
bool String::IsEndedByFlag() const {
  const bool is_equal = (context_.rflags & flag::kZero) != 0;
  return (instruction_.opcode & 0xfe) == kCompare && is_equal != instruction_.rep;
}

std::optional<Fault> String::Repeat(Element element) {
  unsigned left = (context_.rflags & flag::kTrap) != 0 ? 1 : kMostElements;
  for (; Get(kRcx) != 0; --left) {
    if (left == 0) return std::nullopt;
    if (auto fault = element(*this)) return fault;
    Add(kRcx, ~std::uint64_t{0});
    if (IsEndedByFlag()) break;
  }
  context_.rip += instruction_.length;
  return std::nullopt;
}

std::optional<Fault> String::Once(Element element) {
  std::optional<Fault> fault = element(*this);
  if (!fault) context_.rip += instruction_.length;
  return fault;
}

std::optional<Fault> String::Run() {
  for (const Row& row : kRows) {
    if (row.opcode != (instruction_.opcode & 0xfe)) continue;
    return IsRepeated() ? Repeat(row.element) : Once(row.element);
  }
  return FaultWithoutCode(x86::Vector::kInvalidOpcode);
}

// ---- MASKMOVQ, MASKMOVDQU [intel/vol2] ----------------------------------------------------------

class MaskMove {
 public:
  MaskMove(const Instruction& instruction, const jit::Context& context, VectorState state,
           const hostcalls::GuestMemory& memory)
      : context_(context),
        is_mmx_(instruction.encoding == jit::Encoding::kLegacy && !instruction.operand_size),
        address_(SegmentBase(instruction, context) + Truncated(instruction, context.gpr[kRdi])),
        access_(memory, /*is_stack=*/false),
        state_(state),
        data_(Read(Number(instruction.modrm >> 3, instruction.rex & kRexR))),
        selected_(SelectedBy(Read(Number(instruction.modrm, instruction.rex & kRexB)))) {}

  std::optional<Fault> Run();

 private:
  using Bytes = std::array<std::byte, 16>;

  unsigned Number(unsigned field, unsigned rex_bit) const {
    return (field & 7) | (!is_mmx_ && rex_bit != 0 ? 8U : 0U);
  }
  Bytes Read(unsigned number) const;
  static unsigned SelectedBy(const Bytes& mask);
  std::optional<Fault> Check() const;

  const jit::Context& context_;
  const bool is_mmx_;
  const std::uint64_t address_;
  const GuestAccess access_;
  VectorState state_;
  const Bytes data_;
  const unsigned selected_;  // a bit for each byte
};

MaskMove::Bytes MaskMove::Read(unsigned number) const {
  Bytes bytes{};
  if (is_mmx_) {
    const std::uint64_t value = state_.ReadMmx(number);
    std::memcpy(bytes.data(), &value, sizeof(value));
  } else {
    std::memcpy(bytes.data(), state_.Read(number).data(), bytes.size());
  }
  return bytes;
}

unsigned MaskMove::SelectedBy(const Bytes& mask) {
  unsigned selected = 0;
  for (std::size_t i = 0; i < mask.size(); ++i) {
    selected |= (std::to_integer<unsigned>(mask[i]) >> 7) << i;
  }
  return selected;
}

// All bytes are stored or none. A fault is all of the operand's.
std::optional<Fault> MaskMove::Check() const {
  if (selected_ == 0) return std::nullopt;
  const std::size_t all = is_mmx_ ? 8 : 16;
  constexpr std::size_t kAlignment = 8;
  if (auto fault = CheckAlignment(context_, address_, kAlignment)) return fault;
  const auto first = static_cast<unsigned>(std::countr_zero(selected_));
  const auto size = static_cast<std::size_t>(std::bit_width(selected_ >> first));
  if (!access_.CheckStore(address_ + first, size)) return std::nullopt;
  return access_.CheckStore(address_, all);
}

std::optional<Fault> MaskMove::Run() {
  if (is_mmx_ && state_.IsX87ExceptionPending()) {
    return FaultWithoutCode(x86::Vector::kFloatingPoint);
  }
  if (is_mmx_) state_.EnterMmx();
  if (auto fault = Check()) return fault;
  for (unsigned i = 0; i < data_.size(); ++i) {
    if (((selected_ >> i) & 1) == 0) continue;
    if (auto fault = access_.Store(address_ + i, std::span(data_).subspan(i, 1))) return fault;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Fault> EmulateString(const Instruction& instruction, jit::Context& context,
                                   std::span<std::byte>, const jit::ExtendedLayout&,
                                   const hostcalls::GuestMemory& memory) {
  return String(instruction, context, memory).Run();
}

std::optional<Fault> EmulateXlat(const Instruction& instruction, jit::Context& context,
                                 std::span<std::byte>, const jit::ExtendedLayout&,
                                 const hostcalls::GuestMemory& memory) {
  constexpr std::uint64_t kLow8 = 0xff;
  std::uint64_t& rax = context.gpr[kRax];
  const std::uint64_t offset = Truncated(instruction, context.gpr[kRbx] + (rax & kLow8));
  const GuestAccess access(memory, /*is_stack=*/false);
  std::byte value;
  if (auto fault = access.Load(SegmentBase(instruction, context) + offset, std::span(&value, 1))) {
    return fault;
  }
  rax = (rax & ~kLow8) | std::to_integer<std::uint64_t>(value);
  context.rip += instruction.length;
  return std::nullopt;
}

std::optional<Fault> EmulateMaskMove(const Instruction& instruction, jit::Context& context,
                                     std::span<std::byte> extended_area,
                                     const jit::ExtendedLayout& layout,
                                     const hostcalls::GuestMemory& memory) {
  const VectorState state(extended_area, layout);
  if (auto fault = MaskMove(instruction, context, state, memory).Run()) return fault;
  context.rip += instruction.length;
  return std::nullopt;
}

}  // namespace dunebox::runtime
