// Named bit fields of a hardware word, high bit first as in the manuals.
//
//   struct Entry { std::uint64_t word; using Present = BitField<0, 0>; };
//   word = Present::Set(word, 1);
#ifndef DUNEBOX_LIBDUNE_X86_BIT_FIELD_H_
#define DUNEBOX_LIBDUNE_X86_BIT_FIELD_H_

#include <cstdint>

namespace dune::x86 {

template <unsigned High, unsigned Low>
struct BitField {
  static_assert(High >= Low && High < 64);
  static constexpr unsigned kWidth = High - Low + 1;
  static constexpr std::uint64_t kMax =
      kWidth == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << kWidth) - 1;
  static constexpr std::uint64_t kMask = kMax << Low;

  static constexpr std::uint64_t Get(std::uint64_t word) { return (word >> Low) & kMax; }
  static constexpr std::uint64_t Set(std::uint64_t word, std::uint64_t value) {
    return (word & ~kMask) | ((value << Low) & kMask);
  }
};

}  // namespace dune::x86

#endif  // DUNEBOX_LIBDUNE_X86_BIT_FIELD_H_
