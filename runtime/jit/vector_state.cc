#include "runtime/jit/vector_state.h"

#include <algorithm>
#include <cstring>

#include "libdune/x86/control.h"

namespace dunebox::runtime {
namespace {

namespace x86 = dune::x86;

constexpr unsigned kX87 = 0, kSse = 1, kAvx = 2, kOpmask = 5, kUpperHalves = 6, kUpperRegisters = 7;

// In the legacy region and the header.
constexpr std::size_t kControlWord = 0, kStatusWord = 2, kTagWord = 4, kX87Registers = 32,
                      kXmmRegisters = 160, kPresent = 512;
constexpr std::size_t kX87RegisterSize = 16, kX87RegisterCount = 8;
constexpr unsigned kTopShift = 11, kTopMask = 7;

}  // namespace

constexpr VectorState::Part VectorState::kPartsOfLow[] = {
    {kSse, 0, 0, 16}, {kAvx, 0, 16, 16}, {kUpperHalves, 0, 32, 32}};
constexpr VectorState::Part VectorState::kPartsOfHigh[] = {{kUpperRegisters, 16, 0, 64}};
constexpr VectorState::Part VectorState::kPartOfOpmask = {kOpmask, 0, 0, 8};

VectorState::Vector VectorState::Read(unsigned number) const {
  Vector value;
  for (const Part& part : PartsOf(number)) ReadPart(part, number, BytesOf(value, part));
  return value;
}

void VectorState::Write(unsigned number, Vector value) {
  for (const Part& part : PartsOf(number)) WritePart(part, number, BytesOf(value, part));
}

std::uint64_t VectorState::ReadOpmask(unsigned number) const {
  std::uint64_t value;
  ReadPart(kPartOfOpmask, number, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

void VectorState::WriteOpmask(unsigned number, std::uint64_t value) {
  WritePart(kPartOfOpmask, number, std::as_bytes(std::span(&value, 1)));
}

// The area has the registers in the order of the stack. [intel/vol1 §9.5.1, §10.5.1]
std::uint64_t VectorState::ReadMmx(unsigned number) const {
  if (!IsPresent(kX87)) return 0;
  const std::size_t place = (number - X87Top()) % kX87RegisterCount;
  return Load<std::uint64_t>(kX87Registers + kX87RegisterSize * place);
}

void VectorState::EnterMmx() {
  constexpr std::uint8_t kAllInUse = 0xff;
  const unsigned top = X87Top();
  MakePresent(kX87);
  const std::span<std::byte> registers =
      area_.subspan(kX87Registers, kX87RegisterSize * kX87RegisterCount);
  const auto first = (kX87RegisterCount - top) % kX87RegisterCount * kX87RegisterSize;
  std::rotate(registers.begin(), registers.begin() + static_cast<std::ptrdiff_t>(first), registers.end());
  const auto status = Load<std::uint16_t>(kStatusWord);
  Store(kStatusWord, static_cast<std::uint16_t>(status & ~(kTopMask << kTopShift)));
  Store(kTagWord, kAllInUse);
}

bool VectorState::IsX87ExceptionPending() const {
  constexpr unsigned kExceptions = 0x3f;
  if (!IsPresent(kX87)) return false;
  const unsigned unmasked = ~unsigned{Load<std::uint16_t>(kControlWord)} & kExceptions;
  return (Load<std::uint16_t>(kStatusWord) & unmasked) != 0;
}

std::span<const VectorState::Part> VectorState::PartsOf(unsigned number) {
  if (number < 16) return kPartsOfLow;
  return kPartsOfHigh;
}

std::span<std::byte> VectorState::BytesOf(Vector& value, const Part& part) {
  return std::span(value).subspan(part.first_byte, part.size);
}

template <typename T>
T VectorState::Load(std::size_t offset) const {
  T value;
  std::memcpy(&value, area_.data() + offset, sizeof(value));
  return value;
}

template <typename T>
void VectorState::Store(std::size_t offset, T value) {
  std::memcpy(area_.data() + offset, &value, sizeof(value));
}

bool VectorState::IsPresent(unsigned component) const {
  return (Load<std::uint64_t>(kPresent) & layout_.mask & x86::Bit(component)) != 0;
}

void VectorState::MakePresent(unsigned component) {
  if (IsPresent(component)) return;
  layout_.Initialize(x86::Bit(component), area_.data());
  Store(kPresent, Load<std::uint64_t>(kPresent) | x86::Bit(component));
}

std::span<std::byte> VectorState::PlaceOf(const Part& part, unsigned number) const {
  const std::size_t start =
      part.component == kSse ? kXmmRegisters : layout_.places[part.component].offset;
  return area_.subspan(start + (number - part.first_register) * part.size, part.size);
}

void VectorState::ReadPart(const Part& part, unsigned number, std::span<std::byte> to) const {
  if (IsPresent(part.component)) {
    std::ranges::copy(PlaceOf(part, number), to.begin());
  } else {
    std::ranges::fill(to, std::byte{0});
  }
}

void VectorState::WritePart(const Part& part, unsigned number, std::span<const std::byte> from) {
  if ((layout_.mask & x86::Bit(part.component)) == 0) return;
  // Zeros leave it initial: the guest's vector state stays as small as it was.
  const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
  if (!IsPresent(part.component) && std::ranges::all_of(from, is_zero)) return;
  MakePresent(part.component);
  std::ranges::copy(from, PlaceOf(part, number).begin());
}

unsigned VectorState::X87Top() const {
  if (!IsPresent(kX87)) return 0;
  return unsigned{Load<std::uint16_t>(kStatusWord)} >> kTopShift & kTopMask;
}

}  // namespace dunebox::runtime
