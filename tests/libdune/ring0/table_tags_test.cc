// PCIDs of page tables, by a processor that remembers all it may: it must never use what has changed.
#include "libdune/ring0_backend/table_tags.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <utility>

namespace dune::ring0 {
namespace {

constexpr std::uint64_t kPages = 4;
constexpr std::uint64_t kTables = 9;  // more than there are tags

constexpr std::uint64_t RootOfTable(std::uint64_t table) { return (table + 1) << 12; }

// What it has looked up stays until CR3 is loaded without kKeep under the same PCID, or INVLPG for the active one.
class Processor {
 public:
  std::array<std::array<unsigned, kPages>, kTables> tables{};

  void Load(std::uint64_t word) {
    if ((word & TableTags::kKeep) == 0) {
      std::erase_if(known_, [&](const auto& one) { return one.first.first == (word & TableTags::kTag); });
    } else {
      ++kept_;
    }
    cr3_ = word & ~TableTags::kKeep;
  }
  void Invalidate(std::uint64_t page) { known_.erase({cr3_ & TableTags::kTag, page}); }
  void ForgetAll() { known_.clear(); }
  std::uint64_t active() const { return TableTags::RootOf(cr3_); }
  unsigned kept() const { return kept_; }
  // Every page is what the active table says.
  void LookAtAll() {
    for (std::uint64_t page = 0; page < kPages; ++page) {
      const unsigned value = tables[(active() >> 12) - 1][page];
      const auto known = known_.try_emplace({cr3_ & TableTags::kTag, page}, value).first;
      ASSERT_EQ(known->second, value) << "page " << page << " of table " << (active() >> 12) - 1;
    }
  }

 private:
  std::uint64_t cr3_ = 0;
  unsigned kept_ = 0;
  std::map<std::pair<std::uint64_t, std::uint64_t>, unsigned> known_;
};

// One vCPU as flush.cc, user_mode.cc and ring0_entry.S have it.
class Vcpu {
 public:
  Vcpu() {
    tags.Reset(RootOfTable(0), /*has_tags=*/true);
    processor.Load(RootOfTable(0));
  }

  // Its own change: INVLPG, then the tags.
  void Change(std::uint64_t table, std::uint64_t page) {
    ++processor.tables[table][page];
    processor.Invalidate(page);
    tags.OnChange(processor.active());
  }
  // A table is gone, and another in its place; neither is active.
  void Replace(std::uint64_t table) {
    for (unsigned& page : processor.tables[table]) page += 100;
    ++retired;
  }
  template <typename Handler>
  void UseTable(std::uint64_t table, Handler handler) {
    const TableTags::Use use = tags.Prepare(RootOfTable(table), retired);
    tags.process_load = use.word | TableTags::kKeep;
    const std::uint64_t load = tags.MayKeep(use) ? use.word | TableTags::kKeep : use.word;
    handler();
    processor.Load(load);
    if (load != use.word && !tags.MayKeep(use)) processor.Load(use.word);
    tags.Loaded(use);
  }
  template <typename Handler>
  void RunUser(std::uint64_t table, Handler handler) {
    const TableTags::Use use = tags.Prepare(RootOfTable(table), retired);
    tags.user_keep = tags.MayKeep(use) ? TableTags::kKeep : 0;
    handler();
    processor.Load(use.word | tags.user_keep);
    processor.LookAtAll();
    processor.Load(tags.process_load);
    tags.user_keep = 0;
    tags.Loaded(use);
  }

  TableTags tags;
  Processor processor;
  std::uint64_t retired = 0;
};

constexpr auto kNobody = [] {};

TEST(TableTags, ATableThatComesBackKeepsItsTranslations) {
  Vcpu vcpu;
  vcpu.RunUser(1, kNobody);
  EXPECT_EQ(vcpu.processor.kept(), 1u) << "only ring 0's";
  vcpu.RunUser(1, kNobody);
  EXPECT_EQ(vcpu.processor.kept(), 3u);
  vcpu.UseTable(2, kNobody);
  EXPECT_EQ(vcpu.processor.kept(), 3u);
  vcpu.UseTable(0, kNobody);
  vcpu.UseTable(2, kNobody);
  EXPECT_EQ(vcpu.processor.kept(), 4u);
}

TEST(TableTags, AChangeIsForgottenInEveryOtherTable) {
  Vcpu vcpu;
  vcpu.RunUser(1, kNobody);
  vcpu.Change(1, 2);
  vcpu.RunUser(1, kNobody);
  vcpu.UseTable(1, kNobody);
  vcpu.Change(1, 3);  // active: the INVLPG is enough
  const unsigned kept = vcpu.processor.kept();
  vcpu.RunUser(1, kNobody);
  EXPECT_EQ(vcpu.processor.kept(), kept + 2);
}

TEST(TableTags, AHandlerMayChangeTablesBeforeTheLoad) {
  Vcpu vcpu;
  vcpu.RunUser(1, kNobody);
  vcpu.RunUser(1, [&] { vcpu.Change(1, 0); });
  vcpu.UseTable(1, [&] { vcpu.Change(1, 1); });
  vcpu.processor.LookAtAll();
  // Or run ring 3 itself, until the tag is another's.
  vcpu.RunUser(2, [&] {
    for (std::uint64_t table = 3; table < kTables; ++table) vcpu.RunUser(table, kNobody);
  });
  for (std::uint64_t table = 0; table < kTables; ++table) vcpu.RunUser(table, kNobody);
}

TEST(TableTags, AnotherTableInTheSameFrameIsAnother) {
  Vcpu vcpu;
  vcpu.RunUser(1, kNobody);
  vcpu.Replace(1);
  vcpu.RunUser(1, kNobody);
}

TEST(TableTags, NeverAStaleTranslation) {
  std::mt19937 random(20261122);
  const auto below = [&](std::uint64_t limit) { return random() % limit; };
  for (int vcpus = 0; vcpus < 50; ++vcpus) {
    Vcpu vcpu;
    std::uint64_t process = 0;
    const auto handler = [&] {
      const auto what = below(12);
      if (what == 0) vcpu.Change(below(kTables), below(kPages));
      if (what == 1) vcpu.RunUser(below(kTables), kNobody);
    };
    for (int step = 0; step < 2000 && !HasFatalFailure(); ++step) {
      const std::uint64_t table = below(kTables);
      switch (below(8)) {
        case 0:
          vcpu.Change(table, below(kPages));
          break;
        case 1:
          if (table != process) vcpu.Replace(table);
          break;
        case 2:
          process = table;
          vcpu.UseTable(table, handler);
          break;
        case 3:  // another vCPU's change, with KVM's help
          ++vcpu.processor.tables[table][below(kPages)];
          vcpu.processor.ForgetAll();
          break;
        default:
          vcpu.RunUser(table, handler);
      }
      vcpu.processor.LookAtAll();
    }
    EXPECT_GT(vcpu.processor.kept(), 1000u);
  }
}

}  // namespace
}  // namespace dune::ring0
