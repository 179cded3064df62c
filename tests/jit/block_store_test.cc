// Blocks that are kept for other translators: what is found at another address is what translating
// again makes there.
#include "jit-fallback/cache/block_store.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "tests/jit/kept.h"

namespace dunebox::jit {
namespace {

class KeptBlocks : public testing::TestWithParam<EmitterOptions> {};

TEST_P(KeptBlocks, AreElsewhereWhatTranslatingThemThereMakes) {
  const Bytes code = SomeCode();
  constexpr std::size_t kBlocks = 12'000;
  for (const EntryKind kind : {EntryKind::kDirect, EntryKind::kIndirect}) {
    BlockStore store;
    std::size_t blocks = 0, found = 0;
    for (std::size_t at = 0; at + kMost < code.size() && blocks < kBlocks; ++blocks) {
      const Bytes bytes = code.subspan(at, kMost);
      const Made here(kHere + at, bytes, kind, GetParam());
      Keep(store, here, kind);
      MovedCode moved;
      if (const auto kept = store.Find(kElsewhere + at, bytes, kind, moved)) {
        ++found;
        const Made there(kElsewhere + at, bytes, kind, GetParam());
        EXPECT_EQ(kept->length, there.block.length);
        EXPECT_EQ(kept->may_use_x87, MayUseX87(there.block));
        ExpectSame(kept->emitted, there.emitter.emitted(), at);
        if (HasFailure()) return;
      }
      at += here.block.length;
    }
    // There are some that cannot be moved, and too many that begin alike.
    EXPECT_GT(found, blocks * 9 / 10) << blocks << " blocks";
  }
}

INSTANTIATE_TEST_SUITE_P(OfAnyKind, KeptBlocks,
                         testing::Values(Windowed(), Windowed(true), Windowed(false, true),
                                         Isolated(Isolation::kNone), Isolated(Isolation::kPku),
                                         Isolated(Isolation::kMask),
                                         Isolated(Isolation::kMaskWrites)));

// mov eax, 1 eight times over; ret
std::vector<std::uint8_t> Example() {
  std::vector<std::uint8_t> bytes;
  for (int i = 0; i < 8; ++i) bytes.insert(bytes.end(), {0xb8, 1, 0, 0, 0});
  bytes.push_back(0xc3);
  return bytes;
}

TEST(BlockStore, FindsNothingOfWhichAByteDiffers) {
  std::vector<std::uint8_t> bytes = Example();
  BlockStore store;
  Keep(store, Made(kHere, bytes, EntryKind::kDirect, Windowed()), EntryKind::kDirect);
  MovedCode moved;
  EXPECT_TRUE(store.Find(kHere, bytes, EntryKind::kDirect, moved).has_value());
  EXPECT_FALSE(store.Find(kHere, bytes, EntryKind::kIndirect, moved).has_value());
  EXPECT_FALSE(
      store.Find(kHere, std::span(bytes).first(bytes.size() - 1), EntryKind::kDirect, moved)
          .has_value());
  for (std::uint8_t& byte : bytes) {
    byte ^= 1;
    EXPECT_FALSE(store.Find(kHere, bytes, EntryKind::kDirect, moved).has_value());
    byte ^= 1;
  }
}

TEST(BlockStore, MovesNothingToWhereItsAddressesDoNotFit) {
  // lea rax, [rip + 0x1000]; ret, and what follows it
  std::vector<std::uint8_t> bytes = {0x48, 0x8d, 0x05, 0, 0x10, 0, 0, 0xc3};
  bytes.resize(kMost);
  constexpr std::uint64_t kLimit = std::uint64_t{1} << 31;
  BlockStore store;
  Keep(store, Made(kHere, bytes, EntryKind::kDirect, Windowed()), EntryKind::kDirect);
  MovedCode moved;
  EXPECT_TRUE(store.Find(kLimit - 0x1008, bytes, EntryKind::kDirect, moved).has_value());
  EXPECT_FALSE(store.Find(kLimit - 0x1007, bytes, EntryKind::kDirect, moved).has_value());
  EXPECT_FALSE(store.Find(kLimit, bytes, EntryKind::kDirect, moved).has_value());
  // lea rax, [rip - 0x1000]
  bytes[3] = 0, bytes[4] = 0xf0, bytes[5] = bytes[6] = 0xff;
  Keep(store, Made(kHere, bytes, EntryKind::kDirect, Windowed()), EntryKind::kDirect);
  EXPECT_TRUE(store.Find(0xff9, bytes, EntryKind::kDirect, moved).has_value());
  EXPECT_FALSE(store.Find(0xff8, bytes, EntryKind::kDirect, moved).has_value());
}

TEST(BlockStore, DoesNotKeepWhatCannotBeMoved) {
  const std::vector<std::uint8_t> bytes = Example();
  MovedCode moved;
  BlockStore store;
  constexpr std::uint64_t kHigh = 0x8000'0000;
  Keep(store, Made(kHigh, bytes, EntryKind::kDirect, Windowed()), EntryKind::kDirect);
  EXPECT_FALSE(store.Find(kHere, bytes, EntryKind::kDirect, moved).has_value());
}

// A guest chooses its bytes, and so how many blocks begin alike.
TEST(BlockStore, LooksThroughFewBlocksThatBeginAlike) {
  std::vector<std::uint8_t> bytes = Example();
  BlockStore store;
  MovedCode moved;
  unsigned found = 0;
  constexpr unsigned kAlike = 100;
  for (unsigned i = 0; i < kAlike; ++i) {
    bytes[36] = static_cast<std::uint8_t>(i);  // of the last constant
    Keep(store, Made(kHere, bytes, EntryKind::kDirect, Windowed()), EntryKind::kDirect);
    found += store.Find(kHere, bytes, EntryKind::kDirect, moved).has_value() ? 1 : 0;
  }
  EXPECT_GT(found, 1U);
  EXPECT_LT(found, 10U);
}

TEST(BlockStore, KeepsNothingMoreWhenItIsFull) {
  std::vector<std::uint8_t> bytes = Example();
  BlockStore store;
  MovedCode moved;
  unsigned found = 0;
  constexpr unsigned kMany = 40'000;
  for (unsigned i = 0; i < kMany; ++i) {
    std::memcpy(&bytes[1], &i, sizeof(i));
    Keep(store, Made(kHere, bytes, EntryKind::kDirect, Windowed()), EntryKind::kDirect);
    found += store.Find(kHere, bytes, EntryKind::kDirect, moved).has_value() ? 1 : 0;
  }
  EXPECT_GT(found, kMany / 4);
  EXPECT_LT(found, kMany);
}

TEST(BlockStore, IsOneForAllThatEmitAlikeButTheFirstToAsk) {
  EXPECT_EQ(BlockStore::ForProcess(Windowed()), nullptr);
  BlockStore* const store = BlockStore::ForProcess(Windowed());
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(BlockStore::ForProcess(Windowed()), store);
  EXPECT_NE(BlockStore::ForProcess(Windowed(true)), store);
  EmitterOptions other = Windowed();
  other.isolation = Isolation::kMask;
  EXPECT_EQ(BlockStore::ForProcess(other), nullptr);
  other = Windowed();
  other.runs_in_place = [](std::int64_t) { return true; };
  EXPECT_EQ(BlockStore::ForProcess(other), nullptr);
}

}  // namespace
}  // namespace dunebox::jit
