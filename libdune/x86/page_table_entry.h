// A 4-level page-table entry, any level. [intel/vol3 §4.5]
//
//   auto leaf = PageTableEntry{}.set_present(true).set_user(true).set_frame(phys);
#ifndef DUNEBOX_LIBDUNE_X86_PAGE_TABLE_ENTRY_H_
#define DUNEBOX_LIBDUNE_X86_PAGE_TABLE_ENTRY_H_

#include <cstdint>

#include "libdune/x86/bit_field.h"

namespace dune::x86 {

//  63  62..52   51..12   11..9  8  7   6 5 4   3   2   1   0
//  NX  ignored  frame    ign    G  PS  D A PCD PWT U/S R/W P
class PageTableEntry {
  // In front of their uses: clang evaluates the assertions below only then.
  using NoExecute = BitField<63, 63>;
  using Frame = BitField<51, 12>;
  using Large = BitField<7, 7>;
  using Dirty = BitField<6, 6>;
  using Accessed = BitField<5, 5>;
  using User = BitField<2, 2>;
  using Writable = BitField<1, 1>;
  using Present = BitField<0, 0>;

  template <typename Field>
  constexpr PageTableEntry With(bool on) const {
    return PageTableEntry(Field::Set(word_, on ? 1 : 0));
  }

 public:
  constexpr PageTableEntry() = default;
  constexpr explicit PageTableEntry(std::uint64_t word) : word_(word) {}

  constexpr std::uint64_t word() const { return word_; }
  constexpr bool no_execute() const { return NoExecute::Get(word_) != 0; }
  constexpr std::uint64_t frame() const { return word_ & Frame::kMask; }
  constexpr bool large() const { return Large::Get(word_) != 0; }
  constexpr bool dirty() const { return Dirty::Get(word_) != 0; }
  constexpr bool accessed() const { return Accessed::Get(word_) != 0; }
  constexpr bool user() const { return User::Get(word_) != 0; }
  constexpr bool writable() const { return Writable::Get(word_) != 0; }
  constexpr bool present() const { return Present::Get(word_) != 0; }

  constexpr PageTableEntry set_no_execute(bool on) const { return With<NoExecute>(on); }
  // `physical` is page-aligned and below 2^52.
  constexpr PageTableEntry set_frame(std::uint64_t physical) const {
    return PageTableEntry((word_ & ~Frame::kMask) | (physical & Frame::kMask));
  }
  constexpr PageTableEntry set_large(bool on) const { return With<Large>(on); }
  constexpr PageTableEntry set_dirty(bool on) const { return With<Dirty>(on); }
  constexpr PageTableEntry set_accessed(bool on) const { return With<Accessed>(on); }
  constexpr PageTableEntry set_user(bool on) const { return With<User>(on); }
  constexpr PageTableEntry set_writable(bool on) const { return With<Writable>(on); }
  constexpr PageTableEntry set_present(bool on) const { return With<Present>(on); }

  constexpr bool operator==(const PageTableEntry&) const = default;

 private:
  std::uint64_t word_ = 0;
};
static_assert(sizeof(PageTableEntry) == 8);
static_assert(PageTableEntry{}.set_present(true).set_writable(true).set_user(true).set_frame(
                  0x1234'5000).word() == 0x1234'5007);
static_assert(PageTableEntry{}.set_no_execute(true).word() == 0x8000'0000'0000'0000);

inline constexpr unsigned kEntriesPerTable = 512;

// Index into the table of `level` (4 = PML4 ... 1 = page table) for a virtual address.
constexpr unsigned TableIndex(std::uint64_t virtual_address, int level) {
  return static_cast<unsigned>(virtual_address >> (12 + 9 * (level - 1))) & (kEntriesPerTable - 1);
}
// Bytes that one entry of `level` maps.
constexpr std::uint64_t EntrySpan(int level) { return std::uint64_t{1} << (12 + 9 * (level - 1)); }
static_assert(EntrySpan(1) == 4096 && EntrySpan(2) == 2 * 1024 * 1024);

}  // namespace dune::x86

#endif  // DUNEBOX_LIBDUNE_X86_PAGE_TABLE_ENTRY_H_
