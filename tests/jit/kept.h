// Blocks of real code, translated here or there, for tests of what keeps them.
#ifndef DUNEBOX_TESTS_JIT_KEPT_H_
#define DUNEBOX_TESTS_JIT_KEPT_H_

#include <gtest/gtest.h>
#include <link.h>

#include <algorithm>
#include <cstdint>
#include <span>

#include "jit-fallback/cache/block_store.h"
#include "jit-fallback/translate/block.h"

namespace dunebox::jit {

using Bytes = std::span<const std::uint8_t>;

inline constexpr std::uint64_t kHere = 0x1230'0000, kElsewhere = 0x5678'9000, kHost = 0x7f00'0000'0000;
inline constexpr std::size_t kMost = 512;

inline EmitterOptions Windowed(bool counts_instructions = false, bool check_by_loop = false) {
  EmitterOptions options;
  options.isolation = Isolation::kSeg;
  options.counts_instructions = counts_instructions;
  options.check_by_loop = check_by_loop;
  return options;
}

// The C library's code, as an example of all code: some hundred thousand instructions.
inline Bytes SomeCode() {
  Bytes code;
  dl_iterate_phdr(
      [](dl_phdr_info* object, std::size_t, void* result) {
        for (const ElfW(Phdr) & segment : std::span(object->dlpi_phdr, object->dlpi_phnum)) {
          const bool is_code = segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0;
          auto& largest = *static_cast<Bytes*>(result);
          if (!is_code || segment.p_memsz <= largest.size()) continue;
          largest = {reinterpret_cast<const std::uint8_t*>(object->dlpi_addr + segment.p_vaddr),
                     segment.p_memsz};
        }
        return 0;
      },
      &code);
  return code;
}

struct Made {
  Block block;
  Emitter emitter;

  Made(std::uint64_t pc, Bytes bytes, EntryKind kind, const EmitterOptions& options)
      : emitter(options) {
    Translate(pc, bytes, {}, block);
    emitter.Emit(block, kind, kHost);
  }
};

inline void Keep(BlockStore& store, const Made& made, EntryKind kind) {
  store.Add(made.block, kind, made.emitter, MayUseX87(made.block));
}

template <typename T, typename Same>
bool AreEqual(std::span<const T> left, std::span<const T> right, Same same) {
  return std::ranges::equal(left, right, same);
}

inline void ExpectSame(const EmittedCode& found, const EmittedCode& made, std::size_t at) {
  EXPECT_EQ(found.entry, made.entry);
  EXPECT_TRUE(std::ranges::equal(found.code, made.code)) << "the block at " << at;
  EXPECT_TRUE(AreEqual(found.exits, made.exits,
                       [](const ExitSite& left, const ExitSite& right) {
                         return left.offset == right.offset && left.target == right.target;
                       }))
      << "the block at " << at;
  EXPECT_TRUE(AreEqual(found.recovery, made.recovery,
                       [](const Recovery& left, const Recovery& right) {
                         return left.host == right.host && left.guest == right.guest &&
                                left.kind == right.kind && left.in_slot == right.in_slot &&
                                left.scratch == right.scratch && left.confined == right.confined;
                       }))
      << "the block at " << at;
}

inline EmitterOptions Isolated(Isolation isolation) {
  EmitterOptions options;
  options.isolation = isolation;
  return options;
}

}  // namespace dunebox::jit

#endif  // DUNEBOX_TESTS_JIT_KEPT_H_
