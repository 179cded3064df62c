#include "runtime/kvm/page_tables.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <vector>

#include "runtime/kvm/layout.h"
#include "tests/fakes/fake_kvm.h"

namespace dunebox::kvm {
namespace {

using dune::x86::PageTableEntry;

constexpr GuestVirt kUser{0x2000'0020'0000};  // at the start of a 2 MiB span
constexpr PageTableEntry kReadWrite =
    PageTableEntry{}.set_user(true).set_writable(true).set_no_execute(true);
constexpr PageTableEntry kReadOnly = PageTableEntry{}.set_user(true).set_no_execute(true);

GuestRange Pages(GuestVirt start, std::uint64_t pages) {
  return {start, start + pages * kPageSize};
}

class PageTablesTest : public ::testing::Test {
 protected:
  PageTablesTest() { EXPECT_EQ(tables_.Initialize(), absl::OkStatus()); }

  // Walks the tables as the CPU does: the entry of each level, 4 first; stops at a hole.
  std::vector<PageTableEntry> Walk(GuestVirt address) const {
    std::vector<PageTableEntry> entries;
    std::uint64_t table = tables_.root().value;
    for (int level = 4; level >= 1; --level) {
      const auto* words = reinterpret_cast<const std::uint64_t*>(kvm_.Memory(GuestPhys{table}));
      entries.emplace_back(words[dune::x86::TableIndex(address.value, level)]);
      if (!entries.back().present() || entries.back().large()) break;
      table = entries.back().frame();
    }
    return entries;
  }
  PageTableEntry Leaf(GuestVirt address) const {
    const auto entries = Walk(address);
    return entries.size() == 4 ? entries.back() : PageTableEntry{};
  }
  std::vector<std::uint64_t> Present(const GuestRange& range) const {
    std::vector<std::uint64_t> pages;
    tables_.ForEachPresent(range, [&](GuestVirt page) { pages.push_back(page.value); });
    return pages;
  }

  fakes::FakeKvm kvm_;
  std::unique_ptr<Vm> vm_ = std::move(*Vm::Create(kvm_));
  PageTables tables_{*vm_};
};

TEST_F(PageTablesTest, ALeafHasExactlyTheRightsItWasGiven) {
  for (const bool writable : {false, true}) {
    for (const bool no_execute : {false, true}) {
      const PageTableEntry rights =
          PageTableEntry{}.set_user(true).set_writable(writable).set_no_execute(no_execute);
      ASSERT_EQ(tables_.MapSpan(Pages(kUser, 1), GuestPhys{0x1'2345'6000}, rights),
                absl::OkStatus());
      // Present and accessed; dirty only where a write is allowed.
      EXPECT_EQ(
          Leaf(kUser),
          rights.set_frame(0x1'2345'6000).set_present(true).set_accessed(true).set_dirty(writable));
    }
  }
}

TEST_F(PageTablesTest, UpperLevelsAllowWhatLeavesDecide) {
  ASSERT_TRUE(tables_.MapSpan(Pages(kUser, 1), GuestPhys{0x1000}, kReadOnly).ok());
  const auto entries = Walk(kUser);
  ASSERT_EQ(entries.size(), 4u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(entries[i].user() && entries[i].writable() && !entries[i].no_execute());
    EXPECT_FALSE(entries[i].large());
  }
}

TEST_F(PageTablesTest, ASpanMapsConsecutiveFrames) {
  const GuestRange span = Pages(kUser, 512);
  ASSERT_TRUE(tables_.MapSpan(span, GuestPhys{0x4000'0000}, kReadWrite).ok());
  for (std::uint64_t i = 0; i < 512; ++i) {
    EXPECT_EQ(Leaf(kUser + i * kPageSize).frame(), 0x4000'0000 + i * kPageSize);
  }
  EXPECT_FALSE(Leaf(kUser + 512 * kPageSize).present());
  EXPECT_FALSE(Leaf(kUser - kPageSize).present());
}

TEST_F(PageTablesTest, AWholeSpanCanBeOneLeaf) {
  ASSERT_TRUE(tables_.MapLargeSpan(kUser, GuestPhys{0x4000'0000}, kReadOnly));
  EXPECT_EQ(tables_.large_spans(), 1u);
  EXPECT_EQ(tables_.entries_written(), 1u);
  const auto entries = Walk(kUser + 3 * kPageSize);
  ASSERT_GE(entries.size(), 3u);
  EXPECT_EQ(entries[2], kReadOnly.set_frame(0x4000'0000).set_present(true).set_large(true).set_accessed(
                            true));
  EXPECT_EQ(Present(Pages(kUser - kPageSize, 3)),
            (std::vector<std::uint64_t>{kUser.value, (kUser + kPageSize).value}));
  // The same again writes nothing; other rights are written.
  ASSERT_TRUE(tables_.MapLargeSpan(kUser, GuestPhys{0x4000'0000}, kReadOnly));
  EXPECT_EQ(tables_.entries_written(), 1u);
  ASSERT_TRUE(tables_.MapLargeSpan(kUser, GuestPhys{0x4000'0000}, kReadWrite));
  EXPECT_TRUE(Walk(kUser)[2].writable() && Walk(kUser)[2].dirty());
}

TEST_F(PageTablesTest, ALargeLeafGoesWhole) {
  for (const GuestRange& range : {Pages(kUser, 1), Pages(kUser + 511 * kPageSize, 1),
                                  Pages(kUser - kPageSize, 2), Pages(kUser - kPageSize, 1000)}) {
    ASSERT_TRUE(tables_.MapLargeSpan(kUser, GuestPhys{0x4000'0000}, kReadWrite));
    ASSERT_TRUE(tables_.MapLargeSpan(kUser + 512 * kPageSize, GuestPhys{0x4020'0000}, kReadWrite));
    tables_.Clear(range);
    EXPECT_FALSE(Walk(kUser)[2].present());
    EXPECT_EQ(Walk(kUser + 512 * kPageSize)[2].present(), range.size() < 500 * kPageSize);
  }
  tables_.Clear(Pages(kUser, 1024));
  EXPECT_EQ(tables_.large_spans(), 0u);
  // A range that ends where it begins has none.
  ASSERT_TRUE(tables_.MapLargeSpan(kUser, GuestPhys{0x4000'0000}, kReadWrite));
  tables_.Clear(Pages(kUser + 5 * kPageSize, 0));
  tables_.Clear(Pages(kUser - 2 * kPageSize, 2));
  EXPECT_TRUE(Walk(kUser)[2].present());
}

// Memory that grows, as heaps do, has a table at first.
TEST_F(PageTablesTest, ALeafTakesATablesPlaceAndGivesItBack) {
  ASSERT_TRUE(tables_.MapSpan(Pages(kUser, 300), GuestPhys{0x4000'0000}, kReadWrite).ok());
  const std::uint64_t table = Walk(kUser)[2].frame();
  ASSERT_TRUE(tables_.MapLargeSpan(kUser, GuestPhys{0x4000'0000}, kReadWrite));
  EXPECT_TRUE(Walk(kUser)[2].large());
  EXPECT_EQ(tables_.large_spans(), 1u);
  EXPECT_EQ(Present(Pages(kUser, 512)).size(), 512u);
  tables_.Clear(Pages(kUser + 5 * kPageSize, 1));
  EXPECT_EQ(Walk(kUser)[2].frame(), table);
  EXPECT_TRUE(Present(Pages(kUser, 512)).empty());
  EXPECT_EQ(tables_.large_spans(), 0u);

  ASSERT_TRUE(tables_.MapLargeSpan(kUser, GuestPhys{0x4000'0000}, kReadWrite));
  ASSERT_TRUE(tables_.MapSpan(Pages(kUser + kPageSize, 1), GuestPhys{0x4000'1000}, kReadOnly).ok());
  EXPECT_EQ(Walk(kUser)[2].frame(), table);
  EXPECT_EQ(Present(Pages(kUser, 512)), std::vector<std::uint64_t>{(kUser + kPageSize).value});
  ASSERT_TRUE(tables_.MapLargeSpan(kUser, GuestPhys{0x4000'0000}, kReadWrite));
  tables_.Detach();
  tables_.Reuse();
  ASSERT_TRUE(tables_.MapSpan(Pages(kUser, 1), GuestPhys{0x4000'0000}, kReadWrite).ok());
  EXPECT_EQ(Present(Pages(kUser, 512)).size(), 1u);
}

TEST_F(PageTablesTest, ATableThatRing0IsShownStaysATable) {
  ASSERT_TRUE(tables_.ShowLeafTable(kUser, layout::ArenaVirt(layout::kPoolTablesOffset)).ok());
  EXPECT_FALSE(tables_.MapLargeSpan(kUser, GuestPhys{0x4000'0000}, kReadOnly));
  // Not even where there was a leaf.
  const GuestVirt next = kUser + 512 * kPageSize;
  ASSERT_TRUE(tables_.MapLargeSpan(next, GuestPhys{0x4020'0000}, kReadOnly));
  ASSERT_TRUE(tables_.ShowLeafTable(next, layout::ArenaVirt(layout::kPoolTablesOffset)).ok());
  EXPECT_EQ(tables_.large_spans(), 0u);
  EXPECT_FALSE(Leaf(next).present());
  EXPECT_FALSE(tables_.MapLargeSpan(next, GuestPhys{0x4020'0000}, kReadOnly));
}

TEST_F(PageTablesTest, ATableTakesALeafsPlace) {
  const GuestVirt next = kUser + 512 * kPageSize;
  ASSERT_TRUE(tables_.MapLargeSpan(next, GuestPhys{0x4020'0000}, kReadWrite));
  ASSERT_TRUE(tables_.MapSpan(Pages(next + kPageSize, 1), GuestPhys{0x4020'1000}, kReadOnly).ok());
  EXPECT_EQ(tables_.large_spans(), 0u);
  EXPECT_FALSE(Leaf(next).present());
  EXPECT_EQ(Leaf(next + kPageSize).frame(), 0x4020'1000u);
}

TEST_F(PageTablesTest, StartingOverForgetsLargeLeaves) {
  ASSERT_TRUE(tables_.MapLargeSpan(kUser, GuestPhys{0x4000'0000}, kReadWrite));
  tables_.Detach();
  tables_.Reuse();
  EXPECT_EQ(tables_.large_spans(), 0u);
  EXPECT_EQ(Walk(kUser).size(), 1u);
  tables_.Clear(Pages(kUser, 512));
  ASSERT_TRUE(tables_.MapLargeSpan(kUser, GuestPhys{0x4000'0000}, kReadWrite));
  EXPECT_TRUE(Walk(kUser)[2].large());
}

TEST_F(PageTablesTest, SupervisorPagesAreOutOfReachOfRing3AtEveryLevel) {
  const GuestVirt at = layout::ArenaVirt(layout::kVcpuBlocksOffset);
  for (const bool writable : {false, true}) {
    for (const bool execute : {false, true}) {
      ASSERT_TRUE(tables_.MapSupervisor(at, GuestPhys{0x5000}, writable, execute).ok());
      const auto entries = Walk(at);
      ASSERT_EQ(entries.size(), 4u);
      for (const PageTableEntry& entry : entries) EXPECT_FALSE(entry.user());
      EXPECT_EQ(entries[3].writable(), writable);
      EXPECT_EQ(entries[3].no_execute(), !execute);
      EXPECT_EQ(entries[3].frame(), 0x5000u);
    }
  }
}

TEST_F(PageTablesTest, EverySupervisorPageHasItsTableFromTheStart) {
  const int before = kvm_.calls();
  std::vector<std::uint64_t> tables;
  for (unsigned vcpu = 0; vcpu < layout::kMostVcpus; ++vcpu) {
    const std::uint64_t offset = layout::kVcpuBlocksOffset + vcpu * kPageSize;
    ASSERT_TRUE(
        tables_.MapSupervisor(layout::ArenaVirt(offset), GuestPhys{offset}, true, false).ok());
  }
  // A user table made now and dropped again does not take them along.
  ASSERT_TRUE(tables_.MapSpan(Pages(kUser, 1), GuestPhys{0x1000}, kReadOnly).ok());
  tables_.Detach();
  tables_.Reuse();
  for (unsigned vcpu = 0; vcpu < layout::kMostVcpus; ++vcpu) {
    const std::uint64_t offset = layout::kVcpuBlocksOffset + vcpu * kPageSize;
    ASSERT_EQ(Leaf(layout::ArenaVirt(offset)).frame(), offset) << vcpu;
  }
  EXPECT_EQ(kvm_.calls(), before);  // no more memory was needed
}

TEST_F(PageTablesTest, ClearTakesThePagesOfTheRangeOnly) {
  ASSERT_TRUE(tables_.MapSpan(Pages(kUser, 16), GuestPhys{0x10'0000}, kReadWrite).ok());
  tables_.Clear({kUser + 4 * kPageSize, kUser + 6 * kPageSize});
  for (std::uint64_t i = 0; i < 16; ++i) {
    EXPECT_EQ(Leaf(kUser + i * kPageSize).word() != 0, i < 4 || i >= 6) << i;
  }
  tables_.Clear({GuestVirt{0}, GuestVirt{std::uint64_t{1} << 47}});
  EXPECT_TRUE(Present({GuestVirt{0}, GuestVirt{std::uint64_t{1} << 47}}).empty());
}

TEST_F(PageTablesTest, NothingDoneToUserRangesTouchesTheSupervisor) {
  const GuestVirt at = layout::ArenaVirt(layout::kImageOffset);
  ASSERT_TRUE(tables_.MapSupervisor(at, GuestPhys{0}, false, true).ok());
  const PageTableEntry before = Leaf(at);
  const GuestRange everything{GuestVirt{0}, GuestVirt{~std::uint64_t{0}}};
  EXPECT_TRUE(Present(everything).empty());
  tables_.Clear(everything);
  EXPECT_EQ(Leaf(at), before);
  tables_.Detach();
  tables_.Reuse();
  EXPECT_EQ(Leaf(at), before);
}

TEST_F(PageTablesTest, ResetForgetsAndReusesTheMemory) {
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t i = 0; i < 64; ++i) {
      const GuestVirt at{0x2000'0000'0000 + i * dune::x86::EntrySpan(3)};
      ASSERT_FALSE(Leaf(at).present());
      ASSERT_TRUE(tables_.MapSpan(Pages(at, 1), GuestPhys{0x1000}, kReadOnly).ok());
      ASSERT_TRUE(Leaf(at).present());
    }
    tables_.Detach();
    tables_.Reuse();
  }
  EXPECT_EQ(kvm_.slots().size(), 1u);  // the arena's first chunk was always enough
}

TEST_F(PageTablesTest, RunningOutOfTableMemoryIsSaidAndCuredByReset) {
  // Each of these needs three tables; the arena has room for 2^18 of them.
  absl::Status status;
  std::uint64_t mapped = 0;
  for (std::uint64_t i = 0; status.ok(); ++i) {
    const GuestVirt at{0x1'0000 + i * dune::x86::EntrySpan(2)};
    status = tables_.MapSpan(Pages(at, 1), GuestPhys{0x1000}, kReadOnly);
    ++mapped;
    ASSERT_LT(mapped, std::uint64_t{1} << 20);
    if (i == 4096) {  // do not make 2^18 of them: take the memory away instead
      kvm_.FailFrom(1, ENOMEM);
    }
  }
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  tables_.Detach();
  tables_.Reuse();
  EXPECT_TRUE(tables_.MapSpan(Pages(kUser, 1), GuestPhys{0x1000}, kReadOnly).ok());
}

// A program in ring 0 can write its page tables: entries that lead outside the arena, or round in
// circles, must neither be followed nor take for ever.
TEST_F(PageTablesTest, ForgedTablesDoNotLeadTheHostAstray) {
  ASSERT_TRUE(tables_.MapSpan(Pages(kUser, 4), GuestPhys{0x10'0000}, kReadWrite).ok());
  const std::vector<PageTableEntry> before = Walk(kUser);
  ASSERT_EQ(before.size(), 4u);
  const std::uint64_t tables[] = {tables_.root().value, before[0].frame(), before[1].frame()};
  for (const std::uint64_t forged : {std::uint64_t{0xf'ffff'ffff'f007}, tables_.root().value | 7,
                                     std::uint64_t{0x4000'0087}, std::uint64_t{0}}) {
    for (const std::uint64_t table : tables) {
      auto* words = reinterpret_cast<std::uint64_t*>(vm_->arena(table));
      for (unsigned i = 0; i < dune::x86::kEntriesPerTable / 2; ++i) words[i] = forged;
    }
    EXPECT_EQ(Present({GuestVirt{0}, GuestVirt{std::uint64_t{1} << 47}}).size(), 4u);
    const GuestVirt elsewhere = kUser + 8 * kPageSize;
    EXPECT_TRUE(tables_.MapSpan(Pages(elsewhere, 1), GuestPhys{0x20'0000}, kReadWrite).ok());
    EXPECT_TRUE(tables_.MapSpan(Pages(GuestVirt{0x1000'0000'0000}, 1), GuestPhys{0}, kReadOnly).ok());
    tables_.Clear({elsewhere, GuestVirt{std::uint64_t{1} << 47}});
    tables_.Clear({GuestVirt{0}, kUser});
    // The leaves are where they were, whatever the tables above say.
    const auto* leaves = reinterpret_cast<const std::uint64_t*>(vm_->arena(before[2].frame()));
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(PageTableEntry(leaves[i]).present());
  }
}

TEST_F(PageTablesTest, WhatIsThereAlreadyIsNotWritten) {
  ASSERT_TRUE(tables_.MapSpan(Pages(kUser, 4), GuestPhys{0x10'0000}, kReadWrite).ok());
  EXPECT_EQ(tables_.entries_written(), 4u);
  ASSERT_TRUE(tables_.MapSpan(Pages(kUser, 5), GuestPhys{0x10'0000}, kReadWrite).ok());
  EXPECT_EQ(tables_.entries_written(), 5u);
}

TEST_F(PageTablesTest, AgreesWithAModelUnderRandomChanges) {
  std::mt19937_64 random(20'240'601);
  std::map<std::uint64_t, std::uint64_t> model;  // page -> frame
  const std::uint64_t bases[] = {0x1'0000, 0x7fe0'0000, 0x2000'0000'0000, 0x3fff'ff80'0000};
  for (int step = 0; step < 3000; ++step) {
    const std::uint64_t base = bases[random() % std::size(bases)];
    const std::uint64_t first = base + (random() % 2048) * kPageSize;
    const std::uint64_t span_end = (first / dune::x86::EntrySpan(2) + 1) * dune::x86::EntrySpan(2);
    if (random() % 3 != 0) {
      const std::uint64_t end = std::min(first + (random() % 64 + 1) * kPageSize, span_end);
      const std::uint64_t frame = (random() % 1024) * kPageSize;
      ASSERT_TRUE(
          tables_.MapSpan({GuestVirt{first}, GuestVirt{end}}, GuestPhys{frame}, kReadOnly).ok());
      for (std::uint64_t page = first; page < end; page += kPageSize) {
        model[page] = frame + (page - first);
      }
    } else {
      const std::uint64_t end = first + (random() % 1024 + 1) * kPageSize;
      tables_.Clear({GuestVirt{first}, GuestVirt{end}});
      model.erase(model.lower_bound(first), model.lower_bound(end));
    }
    if (step % 100 != 0) continue;
    const std::vector<std::uint64_t> present =
        Present({GuestVirt{0}, GuestVirt{std::uint64_t{1} << 47}});
    ASSERT_EQ(present.size(), model.size());
    std::size_t i = 0;
    for (const auto& [page, frame] : model) {
      ASSERT_EQ(present[i++], page);
      ASSERT_EQ(Leaf(GuestVirt{page}).frame(), frame);
    }
  }
}

}  // namespace
}  // namespace dunebox::kvm
