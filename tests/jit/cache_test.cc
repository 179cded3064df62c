#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "jit-fallback/cache/code_cache.h"
#include "jit-fallback/dispatch/thread_context.h"
#include "tests/jit/emitted.h"

namespace dunebox::jit {
namespace {

constexpr std::uint64_t kPc = 0x40'1000;
constexpr std::size_t kSize = 1 << 20;

class Cache : public testing::Test {
 protected:
  void SetUp() override {
    auto cache = CodeCache::Create(kSize, kSegmentGsPrefix);
    ASSERT_TRUE(cache.ok());
    cache_ = *std::move(cache);
  }

  std::uint32_t Add(std::uint64_t pc, std::string_view guest, EntryKind kind = EntryKind::kDirect) {
    const Emitted emitted(pc, guest, {}, kind, {}, cache_->NextAddress());
    return cache_->Add(emitted.block, kind, emitted.emitter.emitted());
  }

  // Where the jump at the end of a block goes.
  std::uint64_t JumpOf(std::uint32_t block) const {
    const CodeBlock& code = cache_->block(block);
    const std::uint64_t end = cache_->start() + code.host + code.host_length;
    std::int32_t relative;
    std::memcpy(&relative, reinterpret_cast<const void*>(end - 4), sizeof(relative));
    return end + static_cast<std::uint64_t>(std::int64_t{relative});
  }
  bool GoesToAStub(std::uint32_t block) const { return JumpOf(block) >= cache_->code_end(); }

  std::unique_ptr<CodeCache> cache_;
};

constexpr std::string_view kJumpOn = "eb 0e";  // to kPc + 16 when at kPc

TEST_F(Cache, FindsABlockByAddressAndKind) {
  const std::uint32_t direct = Add(kPc, "c3");
  const std::uint32_t indirect = Add(kPc, "c3", EntryKind::kIndirect);
  EXPECT_EQ(cache_->Find(kPc, EntryKind::kDirect), direct);
  EXPECT_EQ(cache_->Find(kPc, EntryKind::kIndirect), indirect);
  EXPECT_EQ(cache_->Find(kPc + 1, EntryKind::kDirect), kNone);
}

TEST_F(Cache, AnExitGoesToItsStubUntilItsTargetIsThere) {
  const std::uint32_t from = Add(kPc, kJumpOn);
  EXPECT_TRUE(GoesToAStub(from));
  const std::uint32_t to = Add(kPc + 16, "c3");
  EXPECT_TRUE(GoesToAStub(from)) << "whoever comes by links it";
  cache_->LinkTo(0, to);
  EXPECT_EQ(JumpOf(from), cache_->AddressOf(to));
  EXPECT_EQ(cache_->TargetOfLink(0), kPc + 16);
}

TEST_F(Cache, AnExitToABlockThatIsThereIsLinkedAtOnce) {
  const std::uint32_t to = Add(kPc + 16, "c3");
  EXPECT_EQ(JumpOf(Add(kPc, kJumpOn)), cache_->AddressOf(to));
}

TEST_F(Cache, ABlockMayBeLinkedToItself) {
  const std::uint32_t loop = Add(kPc, "eb fe");
  EXPECT_EQ(JumpOf(loop), cache_->AddressOf(loop));
  cache_->Kill(loop);
  EXPECT_TRUE(GoesToAStub(loop));
}

TEST_F(Cache, LinkingTwiceIsLinkingOnce) {
  const std::uint32_t from = Add(kPc, kJumpOn);
  const std::uint32_t to = Add(kPc + 16, "c3");
  cache_->LinkTo(0, to);
  cache_->LinkTo(0, to);
  cache_->Kill(to);  // would not end if the link were in its list twice
  EXPECT_TRUE(GoesToAStub(from));
}

TEST_F(Cache, ADeadBlockIsNotFoundAndNobodyJumpsToIt) {
  const std::uint32_t to = Add(kPc + 16, "c3");
  const std::uint32_t first = Add(kPc, kJumpOn), second = Add(kPc + 8, "eb 06");
  cache_->Kill(to);
  EXPECT_EQ(cache_->Find(kPc + 16, EntryKind::kDirect), kNone);
  EXPECT_TRUE(GoesToAStub(first));
  EXPECT_TRUE(GoesToAStub(second));
  EXPECT_TRUE(cache_->BlocksIn(kPc + 16, kPc + 17).empty());
  EXPECT_EQ(cache_->BlockAt(cache_->AddressOf(to)), to) << "a thread may be in it still";
  cache_->Kill(to);
  EXPECT_EQ(cache_->counters().invalidated, 1u);
}

TEST_F(Cache, ADeadBlockIsNotLinkedOn) {
  const std::uint32_t from = Add(kPc, kJumpOn);
  cache_->Kill(from);
  cache_->LinkTo(0, Add(kPc + 16, "c3"));
  EXPECT_TRUE(GoesToAStub(from));
}

TEST_F(Cache, ANewBlockTakesADeadOnesPlace) {
  const std::uint32_t from = Add(kPc, kJumpOn);
  const std::uint32_t old = Add(kPc + 16, "c3");
  cache_->LinkTo(0, old);
  cache_->Kill(old);
  const std::uint32_t fresh = Add(kPc + 16, "f4");
  cache_->LinkTo(0, fresh);
  EXPECT_EQ(cache_->Find(kPc + 16, EntryKind::kDirect), fresh);
  EXPECT_EQ(JumpOf(from), cache_->AddressOf(fresh));
}

TEST_F(Cache, UnlinkingAllSendsEveryJumpToItsStub) {
  const std::uint32_t to = Add(kPc + 16, "c3");
  const std::uint32_t first = Add(kPc, kJumpOn), second = Add(kPc + 8, "eb 06");
  cache_->UnlinkAll();
  EXPECT_TRUE(GoesToAStub(first));
  EXPECT_TRUE(GoesToAStub(second));
  EXPECT_NE(JumpOf(first), JumpOf(second));
  EXPECT_EQ(cache_->Find(kPc + 16, EntryKind::kDirect), to);
}

TEST_F(Cache, JumpsThatWereUnlinkedAndLinkedAgainAreAllSentBackWhenTheirTargetDies) {
  const std::uint32_t to = Add(kPc + 16, "c3");
  const std::uint32_t first = Add(kPc, kJumpOn), second = Add(kPc + 8, "eb 06");
  cache_->UnlinkAll();
  cache_->LinkTo(0, to);
  cache_->LinkTo(1, to);
  EXPECT_EQ(JumpOf(first), cache_->AddressOf(to));
  EXPECT_EQ(JumpOf(second), cache_->AddressOf(to));
  cache_->Kill(to);
  EXPECT_TRUE(GoesToAStub(first));
  EXPECT_TRUE(GoesToAStub(second));
}

TEST_F(Cache, ARangeFindsBlocksThatHaveAByteInIt) {
  const std::uint32_t one = Add(0x40'0ffd, "48 01 c8 48 01 c8 c3");  // over a page's end
  const std::uint32_t two = Add(0x40'2000, "90 c3");
  EXPECT_EQ(cache_->BlocksIn(0x40'1003, 0x40'1004), std::vector{one});
  EXPECT_TRUE(cache_->BlocksIn(0x40'1004, 0x40'2000).empty());
  EXPECT_TRUE(cache_->BlocksIn(0x40'0000, 0x40'0ffd).empty());
  EXPECT_EQ(cache_->BlocksIn(0x40'0000, 0x40'2001), (std::vector{one, two}));
  EXPECT_EQ(cache_->BlocksIn(0, ~std::uint64_t{0}), (std::vector{one, two}));
  EXPECT_TRUE(cache_->BlocksIn(0x40'1000, 0x40'1000).empty());
}

TEST_F(Cache, AFullCacheTakesNothingAndIsUsableWhenCleared) {
  std::uint32_t blocks = 0;
  while (Add(kPc + 16 * blocks, kJumpOn) != kNone) ++blocks;
  EXPECT_GT(blocks, kSize / 128);
  EXPECT_EQ(Add(kPc + 16 * blocks, kJumpOn), kNone);
  EXPECT_LE(cache_->NextAddress(), cache_->code_end());
  cache_->UnlinkAll();
  ASSERT_TRUE(cache_->Clear().ok());
  EXPECT_EQ(cache_->Find(kPc, EntryKind::kDirect), kNone);
  EXPECT_EQ(cache_->size(), 0u);
  EXPECT_EQ(cache_->NextAddress(), cache_->start());
  EXPECT_EQ(cache_->counters().flushes, 1u);
  EXPECT_EQ(Add(kPc, kJumpOn), 0u);
  EXPECT_TRUE(GoesToAStub(0));
}

TEST_F(Cache, OnlyAddressesInCodeAreRecovered) {
  const std::uint32_t block = Add(kPc, "48 01 c8 48 01 c8 c3");
  const std::uint64_t host = cache_->AddressOf(block);
  EXPECT_EQ(cache_->Recover(host)->pc, kPc);
  EXPECT_EQ(cache_->Recover(host + 3)->pc, kPc + 3);
  EXPECT_EQ(cache_->Recover(host + 6)->pc, kPc + 6);
  EXPECT_FALSE(cache_->Recover(host - 1).has_value());
  EXPECT_FALSE(cache_->Recover(host + cache_->block(block).host_length).has_value());
  EXPECT_FALSE(cache_->Recover(cache_->code_end()).has_value());
}

// The kernel puts the address behind SYSCALL into RCX, which is not the guest's there.
TEST(Recovery, BehindASystemCallInPlaceRcxIsTheGuestsNextAddress) {
  EmitterOptions options;
  options.runs_in_place = [](std::int64_t) { return true; };
  const Emitted emitted(kPc, "b8 6e 00 00 00 0f 05", options);
  auto cache = CodeCache::Create(kSize, kSegmentGsPrefix);
  ASSERT_TRUE(cache.ok());
  const std::uint32_t block = (*cache)->Add(emitted.block, EntryKind::kDirect, emitted.emitter.emitted());
  const std::string code = ToHex(emitted.emitter.code());
  const std::size_t behind = code.find("0f 05") / 3 + 2;
  const auto recovered = (*cache)->Recover((*cache)->AddressOf(block) + behind);
  ASSERT_TRUE(recovered.has_value());
  EXPECT_EQ(recovered->kind, RecoveryKind::kAfterSystemCall);
  EXPECT_EQ(recovered->pc, kPc + 7);
}

const std::uint64_t* FirstTableOf(ThreadContext& context) {
  return reinterpret_cast<const std::uint64_t*>(reinterpret_cast<const std::byte*>(&context.context()) + JIT_TABLE);
}

TEST(ThreadContextTables, ATargetIsSetAndCleared) {
  auto context = ThreadContext::Create(ExtendedLayout::OfHost(7));
  ASSERT_TRUE(context.ok());
  const std::uint64_t* const table = FirstTableOf(**context);
  const std::uint64_t empty = table[0];
  (*context)->SetTarget(kPc, 0x1234);
  EXPECT_EQ(table[kPc % JIT_TABLE_ENTRIES], 0x1234u);
  // Another one that shares the entry takes it; clearing either empties it.
  (*context)->SetTarget(kPc + JIT_TABLE_ENTRIES, 0x5678);
  EXPECT_EQ(table[kPc % JIT_TABLE_ENTRIES], 0x5678u);
  (*context)->ClearTarget(kPc);
  EXPECT_EQ(table[kPc % JIT_TABLE_ENTRIES], empty);
  (*context)->SetTarget(kPc, 0x1234);
  (*context)->ClearTargets();
  for (std::size_t i = 0; i < JIT_TABLE_ENTRIES; ++i) ASSERT_EQ(table[i], empty) << i;
}

TEST(ThreadContextTables, OneOfAFewTargetsIsFoundAtEveryAddressThatSharesItsEntry) {
  auto context = ThreadContext::Create(ExtendedLayout::OfHost(7));
  ASSERT_TRUE(context.ok());
  const std::uint64_t* const table = FirstTableOf(**context);
  (*context)->SetTarget(kPc, 0x1234);
  for (std::size_t i = kPc % JIT_FOLDED_ENTRIES; i < JIT_TABLE_ENTRIES; i += JIT_FOLDED_ENTRIES) {
    EXPECT_EQ(table[i], 0x1234u) << i;
  }
}

TEST(ThreadContextTables, ManyTargetsThatShareEntriesGetAWholeTable) {
  auto context = ThreadContext::Create(ExtendedLayout::OfHost(7));
  ASSERT_TRUE(context.ok());
  const std::uint64_t* const table = FirstTableOf(**context);
  const std::uint64_t empty = table[(kPc + 1) % JIT_TABLE_ENTRIES];
  for (std::uint64_t host = 1; host <= 100; ++host) (*context)->SetTarget(kPc, host);
  (*context)->SetTarget(kPc + JIT_FOLDED_ENTRIES, 0x5678);
  EXPECT_EQ(table[kPc % JIT_TABLE_ENTRIES], 100u);
  EXPECT_EQ(table[(kPc + JIT_FOLDED_ENTRIES) % JIT_TABLE_ENTRIES], 0x5678u);
  EXPECT_EQ(table[(kPc + 1) % JIT_TABLE_ENTRIES], empty);
  (*context)->ClearTargets();
  for (std::size_t i = 0; i < JIT_TABLE_ENTRIES; ++i) ASSERT_EQ(table[i], empty) << i;
}

TEST(ThreadContextTables, AForkedChildsTargetsAreNotItsParents) {
  auto context = ThreadContext::Create(ExtendedLayout::OfHost(7));
  ASSERT_TRUE(context.ok());
  const std::uint64_t* const table = FirstTableOf(**context);
  const std::uint64_t empty = table[0];
  (*context)->SetTarget(kPc, 0x1234);
  const pid_t child = fork();
  if (child == 0) {
    const bool is_ready = (*context)->ContinueAfterFork().ok();
    const bool is_empty = table[kPc % JIT_TABLE_ENTRIES] == empty;
    (*context)->SetTarget(kPc, 0x5678);
    (*context)->ClearTarget(kPc + 1);
    _exit(is_ready && is_empty && table[kPc % JIT_TABLE_ENTRIES] == 0x5678 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(table[kPc % JIT_TABLE_ENTRIES], 0x1234u);
}

// What tests/security/checker relies on: it looks at a block's bytes as they were emitted, and
// takes the cache's word for what it makes of the exits.
class RecordedCache : public Cache {
 protected:
  struct Seen {
    CodeKind kind;
    std::uint64_t pc, start, entry;
    std::vector<std::uint8_t> bytes;
    std::vector<ExitSite> exits;
  };
  void SetUp() override {
    Cache::SetUp();
    cache_->SetListener([this](const NewCode& code) {
      seen_.push_back({code.kind,
                       code.pc,
                       code.host,
                       code.host + code.entry,
                       {code.bytes.begin(), code.bytes.end()},
                       {code.exits.begin(), code.exits.end()}});
    });
  }

  bool IsPlaceFor(std::uint64_t target, std::uint64_t address) const {
    return std::ranges::any_of(seen_, [&](const Seen& code) {
      const bool is_way_on =
          code.kind == CodeKind::kDirectBlock || code.kind == CodeKind::kExitStub;
      return is_way_on && code.pc == target && code.entry == address;
    });
  }
  static std::uint64_t TargetAt(std::uint64_t patch) {
    std::int32_t relative;
    std::memcpy(&relative, reinterpret_cast<const void*>(patch), sizeof(relative));
    return patch + sizeof(relative) + static_cast<std::uint64_t>(std::int64_t{relative});
  }
  // Every byte is as recorded, but those of the exits, which lead to the block that is meant or to
  // a stub that is.
  void ExpectAsRecorded() const {
    for (const Seen& code : seen_) {
      std::vector<std::uint8_t> now(code.bytes.size());
      std::memcpy(now.data(), reinterpret_cast<const void*>(code.start), now.size());
      for (const ExitSite& exit : code.exits) {
        EXPECT_TRUE(IsPlaceFor(exit.target, TargetAt(code.start + exit.offset)));
        std::copy_n(code.bytes.begin() + exit.offset, 4, now.begin() + exit.offset);
      }
      EXPECT_EQ(now, code.bytes);
    }
  }

  std::vector<Seen> seen_;
};

TEST_F(RecordedCache, ExitsLeadToTheirBlockOrToTheirStubWhateverHappens) {
  std::mt19937 random(1);
  const auto below = [&](unsigned bound) { return static_cast<std::uint32_t>(random() % bound); };
  for (unsigned round = 0; round < 400; ++round) {
    const std::uint64_t pc = kPc + 8 * below(16);
    const EntryKind kind = below(4) == 0 ? EntryKind::kIndirect : EntryKind::kDirect;
    constexpr std::string_view kCode[] = {"eb 0e", "74 06 eb 16", "c3", "e2 0e 75 14 f4", "eb fe"};
    const std::uint32_t id = Add(pc, kCode[below(5)], kind);
    ASSERT_NE(id, kNone);
    const auto links = static_cast<std::uint32_t>(cache_->counters().links);
    if (links != 0 && below(2) == 0) {
      const std::uint32_t link = below(links);
      const std::uint32_t to = cache_->Find(cache_->TargetOfLink(link), EntryKind::kDirect);
      if (to != kNone) cache_->LinkTo(link, to);
    }
    if (below(4) == 0) cache_->Kill(below(id + 1));
    if (below(50) == 0) cache_->UnlinkAll();
    if (below(100) == 0) {
      ASSERT_TRUE(cache_->TakeOwnMemory().ok());
    }
    if (round % 20 == 0) ExpectAsRecorded();
  }
  ExpectAsRecorded();
}

}  // namespace
}  // namespace dunebox::jit
