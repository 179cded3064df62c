// Guest memory for tests, mapped where the guest would have it: code (executable at its address,
// written through another mapping), data, a page of constants, counters, a stack. Pages between
// them cannot be accessed.
//
// In a window (isolation `seg`) all of it is mapped twice, where the bare processor finds it and at
// the same offset in the window; around the window are guards, and canaries behind them.
//
//   std::unique_ptr<Arena> arena = Arena::Map(kLayouts[0]);  // null: the place is taken
//   arena->WriteCode(arena->code(), bytes);
#ifndef DUNEBOX_TESTS_JIT_ARENA_H_
#define DUNEBOX_TESTS_JIT_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "jit-fallback/dispatch/translator.h"
#include "tests/jit/machine.h"

namespace dunebox::jit {

struct Layout {
  const char* name;
  std::uint64_t code, data;
};

// Below 2 GiB [disp32] and push imm32 reach everything; between 2 and 4 GiB only 32-bit addresses
// do.
inline constexpr Layout kLayouts[] = {
    {"low", 0x1000'0000, 0x1010'0000},
    {"code below 2 GiB, data above", 0x7ff0'0000, 0x8000'0000},
    {"code above 2 GiB, data below", 0x9000'0000, 0x7ff0'0000},
    {"code across 2 GiB", 0x7ffe'0000, 0x7fe0'0000},
    {"code across 4 GiB", 0xffff'0000, 0x1'0010'0000},
    {"high", 0x2000'0000'0000, 0x2000'0100'0000},
};

// Of a window.
inline constexpr Layout kWindowLayouts[] = {
    kLayouts[0],
    kLayouts[1],
    kLayouts[2],
    kLayouts[3],
    {"the window's start", 0x1'0000, 0x6'0000},
    {"the window's end", 0xfff8'0000, 0xfffe'e000},
};

class Arena final : public CodeSource {
 public:
  static constexpr std::uint64_t kWindowBase = 0x2100'0000'0000;
  static constexpr std::size_t kCodeSize = 0x4'0000;
  static constexpr std::size_t kMemorySize = 0x8000, kStackSize = 0x4000, kPage = 0x1000;

  static std::unique_ptr<Arena> Map(const Layout& layout);
  static std::unique_ptr<Arena> MapInWindow(const Layout& layout);
  ~Arena() override;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  bool is_windowed() const { return base_ != 0; }
  // The host's address of one of the guest's.
  std::uint64_t HostAddress(std::uint64_t address) const { return base_ + address; }
  // Of a window: whether the bare processor finds anything below 4 GiB.
  void SetNativeAccess(bool accessible) const;
  // Of a window: nothing behind the guards has been written.
  bool AreCanariesAlive() const;

  const char* name() const { return layout_.name; }
  std::uint64_t code() const { return layout_.code; }
  std::uint64_t code_end() const { return layout_.code + kCodeSize; }
  bool IsCode(std::uint64_t address) const { return address >= code() && address < code_end(); }
  bool IsMapped(std::uint64_t address) const {
    return IsCode(address) || address - layout_.data < data_size();
  }
  // May be read and written; a page that may only be read lies behind it, then one with no access.
  std::uint64_t memory() const { return layout_.data + 3 * kPage; }
  std::uint64_t constants() const { return memory() + kMemorySize; }
  std::uint64_t forbidden() const { return constants() + kPage; }
  std::uint64_t counters() const { return layout_.data + kPage; }
  std::uint64_t stack() const { return forbidden() + kPage; }
  std::uint64_t stack_top() const { return stack() + kStackSize; }

  void WriteCode(std::uint64_t address, std::span<const std::uint8_t> bytes);
  // What the guest may write: memory, stack; counters are zero at first.
  void Fill(Random& random);
  std::vector<std::byte> Save() const;
  void Restore(const std::vector<std::byte>& saved);
  // The first address whose contents differ from `saved`; 0: none.
  std::uint64_t FirstDifference(const std::vector<std::byte>& saved) const;

  // False: the translator is told that it will not hear of changes.
  void set_is_watched(bool is_watched) { is_watched_ = is_watched; }
  void WithCode(std::uint64_t pc, std::size_t most, Purpose purpose, Use use) override;
  // Nobody is ever told to leave one.
  std::shared_ptr<Translator> CurrentTranslator() override { return nullptr; }

 private:
  Arena(const Layout& layout, std::uint64_t base) : layout_(layout), base_(base) {}
  static std::unique_ptr<Arena> MapAtBase(const Layout& layout, std::uint64_t base);
  bool MapParts(std::uint64_t base, int code, int data);
  void ProtectData(std::uint64_t base) const;
  std::vector<std::span<std::byte>> Writable() const { return WritableAt(base_); }
  std::vector<std::span<std::byte>> WritableAt(std::uint64_t base) const;
  std::size_t data_size() const { return stack_top() + kPage - layout_.data; }

  const Layout layout_;
  const std::uint64_t base_;
  // What is mapped, to be unmapped again.
  std::vector<std::span<std::byte>> mapped_;
  std::uint8_t* code_writable_ = nullptr;
  bool is_watched_ = true;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_TESTS_JIT_ARENA_H_
