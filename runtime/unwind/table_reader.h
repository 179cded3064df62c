// Reads the tables that compilers write about call frames, in memory that is not to be trusted: whatever they
// say, a read stays within the bytes that were fetched, and what does not fit makes the reader fail for good.
//
//   TableReader reader(fetched, address_of_its_first_byte);
//   const std::uint64_t alignment = reader.Unsigned();
//   if (!reader.ok()) return std::nullopt;
#ifndef DUNEBOX_RUNTIME_UNWIND_TABLE_READER_H_
#define DUNEBOX_RUNTIME_UNWIND_TABLE_READER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "absl/functional/function_ref.h"

namespace dunebox::unwind {

// False when a part of it cannot be read.
using ReadMemory = absl::FunctionRef<bool(std::uint64_t from, std::span<std::byte> to)>;

// How a pointer is written. [LSB core generic §10.5.1]
enum class PointerFormat : std::uint8_t {
  kAddress = 0x0,
  kUnsigned2 = 0x2,
  kUnsigned4 = 0x3,
  kUnsigned8 = 0x4,
  kSigned2 = 0xa,
  kSigned4 = 0xb,
  kSigned8 = 0xc,
};
inline constexpr std::uint8_t kFormatMask = 0x0f;
inline constexpr std::uint8_t kRelativeMask = 0x70;
inline constexpr std::uint8_t kRelativeToPlace = 0x10;
inline constexpr std::uint8_t kRelativeToData = 0x30;
inline constexpr std::uint8_t kIndirect = 0x80;

class TableReader {
 public:
  TableReader(std::span<const std::byte> bytes, std::uint64_t address) : bytes_(bytes), address_(address) {}

  bool ok() const { return ok_; }
  bool at_end() const { return !ok_ || at_ == bytes_.size(); }
  std::uint64_t address() const { return address_ + at_; }

  template <typename T>
  T Fixed() {
    static_assert(std::is_integral_v<T>);
    T value = 0;
    const std::span<const std::byte> from = Block(sizeof(T));
    if (ok_) std::memcpy(&value, from.data(), sizeof(T));
    return value;
  }
  std::uint8_t Byte() { return Fixed<std::uint8_t>(); }

  // LEB128.
  std::uint64_t Unsigned() { return Leb(false); }
  std::int64_t Signed() { return static_cast<std::int64_t>(Leb(true)); }

  // `data`: what kRelativeToData means. Indirect ones are refused: nothing that is needed here is.
  std::uint64_t Pointer(std::uint8_t encoding, std::uint64_t data = 0) {
    const std::uint64_t place = address();
    const std::uint64_t value = Plain(static_cast<PointerFormat>(encoding & kFormatMask));
    if ((encoding & kIndirect) != 0) return Fail();
    switch (encoding & kRelativeMask) {
      case 0:
        return value;
      case kRelativeToPlace:
        return place + value;
      case kRelativeToData:
        return data + value;
      default:
        return Fail();
    }
  }
  void SkipPointer(std::uint8_t encoding) { Plain(static_cast<PointerFormat>(encoding & kFormatMask)); }

  // Empty when there are not as many left.
  std::span<const std::byte> Block(std::uint64_t size) {
    if (!ok_ || size > bytes_.size() - at_) {
      Fail();
      return {};
    }
    const auto block = bytes_.subspan(at_, size);
    at_ += size;
    return block;
  }

 private:
  std::uint64_t Fail() {
    ok_ = false;
    return 0;
  }

  std::uint64_t Plain(PointerFormat format) {
    switch (format) {
      case PointerFormat::kAddress:
      case PointerFormat::kUnsigned8:
      case PointerFormat::kSigned8:
        return Fixed<std::uint64_t>();
      case PointerFormat::kUnsigned2:
        return Fixed<std::uint16_t>();
      case PointerFormat::kUnsigned4:
        return Fixed<std::uint32_t>();
      case PointerFormat::kSigned2:
        return static_cast<std::uint64_t>(std::int64_t{Fixed<std::int16_t>()});
      case PointerFormat::kSigned4:
        return static_cast<std::uint64_t>(std::int64_t{Fixed<std::int32_t>()});
    }
    return Fail();
  }

  std::uint64_t Leb(bool is_signed) {
    constexpr unsigned kBits = 64;
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < kBits; shift += 7) {
      const std::uint8_t byte = Byte();
      value |= std::uint64_t{byte & 0x7fU} << shift;
      if ((byte & 0x80) != 0) continue;
      const bool is_negative = is_signed && (byte & 0x40) != 0;
      return is_negative && shift + 7 < kBits ? value | (~std::uint64_t{0} << (shift + 7)) : value;
    }
    return Fail();
  }

  std::span<const std::byte> bytes_;
  std::uint64_t address_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace dunebox::unwind

#endif  // DUNEBOX_RUNTIME_UNWIND_TABLE_READER_H_
