#include "runtime/jit/gather.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "runtime/jit/guest_access.h"
#include "runtime/jit/vector_state.h"

namespace dunebox::runtime {
namespace {

namespace x86 = dune::x86;
using jit::Encoding;
using jit::Instruction;
using jit::Segment;
using Vector = VectorState::Vector;

constexpr unsigned kRexW = 8, kRexR = 4, kRexX = 2, kRexB = 1;

// ---- the instruction ----------------------------------------------------------------------------

bool IsSupported(const Instruction& instruction) {
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  static const bool has_avx512f = __builtin_cpu_supports("avx512f") != 0;
  static const bool has_avx512vl = __builtin_cpu_supports("avx512vl") != 0;
  constexpr std::uint8_t k512 = 2;
  if (instruction.encoding != Encoding::kEvex) return has_avx2;
  return instruction.vector_length == k512 ? has_avx512f : has_avx512vl;
}

unsigned Extended(unsigned field, bool has_rex_bit, bool is_high) {
  return (field & 7) | unsigned{has_rex_bit} << 3 | unsigned{is_high} << 4;
}

// What the fields of the instruction say. [intel/vol2 VGATHERDPS, VPSCATTERDD]
struct Shape {
  bool is_scatter, is_evex;
  std::size_t vector_size, index_size, element_size;
  unsigned elements;
  unsigned data, index, mask;  // registers

  explicit Shape(const Instruction& from)
      : is_scatter(from.opcode >= 0xa0),
        is_evex(from.encoding == Encoding::kEvex),
        vector_size(std::size_t{16} << from.vector_length),
        index_size((from.opcode & 1) != 0 ? 8 : 4),
        element_size((from.rex & kRexW) != 0 ? 8 : 4),
        elements(static_cast<unsigned>(vector_size / std::max(index_size, element_size))),
        data(Extended(from.modrm >> 3, (from.rex & kRexR) != 0, from.high_reg)),
        index(Extended(from.sib >> 3, (from.rex & kRexX) != 0, from.high_vvvv)),
        mask(is_evex ? from.opmask : from.vvvv) {}
};

class Gather {
 public:
  Gather(const Instruction& instruction, jit::Context& context, VectorState state,
         const hostcalls::GuestMemory& memory)
      : instruction_(instruction),
        context_(context),
        shape_(instruction),
        state_(state),
        data_(state_.Read(shape_.data)),
        indices_(state_.Read(shape_.index)),
        base_(Base()),
        access_(memory, IsStackBased()) {}

  std::optional<Fault> Run();

 private:
  std::uint64_t Base() const;
  bool IsStackBased() const;
  std::uint64_t AddressOf(unsigned element) const;
  std::optional<Fault> Access(unsigned element);
  // The elements to be done, a bit for each.
  std::uint64_t ReadMask() const;
  void ClearMask(std::uint64_t elements);
  void ClearMask();
  void ClearDataFrom(std::size_t size);
  void WriteData();
  void StopAt(unsigned element, std::uint64_t mask);
  void Finish();

  const Instruction& instruction_;
  jit::Context& context_;
  const Shape shape_;
  VectorState state_;
  Vector data_;
  const Vector indices_;
  const std::uint64_t base_;
  const GuestAccess access_;
};

unsigned BaseRegister(const Instruction& instruction) {
  return Extended(instruction.sib, (instruction.rex & kRexB) != 0, false);
}

bool HasBase(const Instruction& instruction) {
  return instruction.modrm >= 0x40 || (instruction.sib & 7) != 5;
}

// What all addresses have in common. An 8-bit displacement of EVEX counts elements.
std::uint64_t Gather::Base() const {
  const bool is_scaled = shape_.is_evex && instruction_.displacement_size == 1;
  const auto displacement = static_cast<std::uint64_t>(std::int64_t{instruction_.displacement}) *
                            (is_scaled ? shape_.element_size : 1);
  return displacement + (HasBase(instruction_) ? context_.gpr[BaseRegister(instruction_)] : 0);
}

bool Gather::IsStackBased() const {
  const unsigned base = BaseRegister(instruction_);
  return HasBase(instruction_) && (base == jit::kRsp || base == jit::kRbp) &&
         instruction_.segment == Segment::kNone;
}

std::uint64_t Gather::AddressOf(unsigned element) const {
  const std::byte* const from = indices_.data() + element * shape_.index_size;
  std::int64_t index = 0;
  if (shape_.index_size == 8) {
    std::memcpy(&index, from, 8);
  } else {
    std::int32_t narrow;
    std::memcpy(&narrow, from, 4);
    index = narrow;
  }
  std::uint64_t address = base_ + (static_cast<std::uint64_t>(index) << (instruction_.sib >> 6));
  if (instruction_.address_size) address &= 0xffff'ffff;
  const std::uint64_t segments[] = {0, context_.fs_base, context_.gs_base};  // by Segment
  return address + segments[static_cast<unsigned>(instruction_.segment)];
}

std::optional<Fault> Gather::Access(unsigned element) {
  const std::uint64_t address = AddressOf(element);
  const auto bytes = std::span(data_).subspan(element * shape_.element_size, shape_.element_size);
  return shape_.is_scatter ? access_.Store(address, bytes) : access_.Load(address, bytes);
}

// VEX: the sign bit of each element of a vector.
std::uint64_t Gather::ReadMask() const {
  if (shape_.is_evex) return state_.ReadOpmask(shape_.mask) & (x86::Bit(shape_.elements) - 1);
  const Vector signs = state_.Read(shape_.mask);
  std::uint64_t mask = 0;
  for (unsigned element = 0; element < shape_.elements; ++element) {
    const auto high = std::to_integer<unsigned>(signs[(element + 1) * shape_.element_size - 1]);
    mask |= std::uint64_t{high >> 7} << element;
  }
  return mask;
}

// All else stays as it is.
void Gather::ClearMask(std::uint64_t elements) {
  if (shape_.is_evex) {
    return state_.WriteOpmask(shape_.mask, state_.ReadOpmask(shape_.mask) & ~elements);
  }
  Vector signs = state_.Read(shape_.mask);
  for (unsigned element = 0; element < shape_.elements; ++element) {
    if ((elements & x86::Bit(element)) == 0) continue;
    std::fill_n(signs.begin() + element * shape_.element_size, shape_.element_size, std::byte{0});
  }
  state_.Write(shape_.mask, signs);
}

void Gather::ClearMask() {
  if (shape_.is_evex) {
    state_.WriteOpmask(shape_.mask, 0);
  } else {
    state_.Write(shape_.mask, {});
  }
}

void Gather::WriteData() {
  if (!shape_.is_scatter) state_.Write(shape_.data, data_);
}

void Gather::ClearDataFrom(std::size_t size) {
  std::ranges::fill(std::span(data_).subspan(size), std::byte{0});
}

// For the instruction to be executed again. The details are Zen's; the manuals leave open how much
// of the mask's unused bits and of the data's upper part has changed.
void Gather::StopAt(unsigned element, std::uint64_t mask) {
  const std::uint64_t before = x86::Bit(element) - 1;
  if (shape_.is_evex && (mask & before) != 0) ClearDataFrom(shape_.vector_size);
  WriteData();
  ClearMask(before);
}

void Gather::Finish() {
  ClearDataFrom(shape_.elements * shape_.element_size);
  WriteData();
  ClearMask();
  context_.rip += instruction_.length;
}

std::optional<Fault> Gather::Run() {
  const std::uint64_t mask = ReadMask();
  for (unsigned element = 0; element < shape_.elements; ++element) {
    if ((mask & x86::Bit(element)) == 0) continue;
    if (auto fault = Access(element)) {
      StopAt(element, mask);
      return fault;
    }
  }
  Finish();
  return std::nullopt;
}

}  // namespace

std::optional<Fault> EmulateGather(const Instruction& instruction, jit::Context& context,
                                   std::span<std::byte> extended_area,
                                   const jit::ExtendedLayout& layout,
                                   const hostcalls::GuestMemory& memory) {
  if (!IsSupported(instruction)) return FaultWithoutCode(x86::Vector::kInvalidOpcode);
  return Gather(instruction, context, VectorState(extended_area, layout), memory).Run();
}

}  // namespace dunebox::runtime
