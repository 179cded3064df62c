#include "runtime/memory/vma_map.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <random>
#include <vector>

namespace dunebox::memory {
namespace {

constexpr std::uint64_t kBase = 0x10'0000;

GuestRange Pages(std::uint64_t first, std::uint64_t end) {
  return {GuestVirt{kBase + first * kPageSize}, GuestVirt{kBase + end * kPageSize}};
}
GuestVirt Page(std::uint64_t index) { return GuestVirt{kBase + index * kPageSize}; }

Vma Anonymous(std::uint64_t first, std::uint64_t end, Protection protection = {.read = true}) {
  return {.range = Pages(first, end), .protection = protection};
}
Vma OfFile(std::uint64_t first, std::uint64_t end, std::uint64_t offset_pages,
           const char* name = "/file") {
  auto backing = std::make_shared<Backing>();
  backing->name = name;
  return {.range = Pages(first, end),
          .protection = {.read = true},
          .file_backed = true,
          .offset = offset_pages * kPageSize,
          .backing = std::move(backing)};
}

TEST(Protection, RoundTripsAndNeverExecutesOnTheHost) {
  for (int prot = 0; prot < 8; ++prot) {
    const Protection protection = Protection::FromProt(prot);
    EXPECT_EQ(protection.ToProt(), prot);
    EXPECT_EQ(protection.ToHostProt() & PROT_EXEC, 0);
    EXPECT_EQ((protection.ToHostProt() & PROT_WRITE) != 0, protection.write);
    EXPECT_EQ((protection.ToHostProt() & PROT_READ) != 0, prot != 0);
  }
}

TEST(VmaMap, NeighboursThatDifferInNothingAreOne) {
  VmaMap map;
  map.Replace(Anonymous(0, 1));
  map.Replace(Anonymous(2, 3));
  EXPECT_EQ(map.size(), 2u);
  map.Replace(Anonymous(1, 2));
  ASSERT_EQ(map.size(), 1u);
  EXPECT_EQ(map.Find(Page(1))->range.size(), 3 * kPageSize);
}

TEST(VmaMap, NeighboursStayApartWhenAnythingDiffers) {
  const Vma left = OfFile(0, 4, 0);
  Vma shared = OfFile(4, 8, 4);
  shared.sharing = Sharing::kShared;
  Vma sealed = OfFile(4, 8, 4);
  sealed.sealed = true;
  Vma rights = OfFile(4, 8, 4);
  rights.protection.write = true;
  const Vma others[] = {shared,         sealed, rights, OfFile(4, 8, 5), OfFile(4, 8, 4, "/other"),
                        Anonymous(4, 8)};
  for (const Vma& other : others) {
    VmaMap map;
    map.Replace(left);
    map.Replace(other);
    EXPECT_EQ(map.size(), 2u);
  }
  VmaMap map;
  map.Replace(left);
  map.Replace(OfFile(4, 8, 4));  // the same file, continued
  EXPECT_EQ(map.size(), 1u);
}

TEST(VmaMap, ASplitFileMappingKeepsItsOffsets) {
  VmaMap map;
  map.Replace(OfFile(0, 10, 100));
  map.Erase(Pages(3, 5));
  ASSERT_EQ(map.size(), 2u);
  EXPECT_EQ(map.Find(Page(0))->offset, 100 * kPageSize);
  EXPECT_EQ(map.Find(Page(5))->offset, 105 * kPageSize);
  map.SetProtection(Pages(7, 8), {});
  ASSERT_EQ(map.size(), 4u);
  EXPECT_EQ(map.Find(Page(7))->offset, 107 * kPageSize);
  map.SetProtection(Pages(7, 8), {.read = true});
  EXPECT_EQ(map.size(), 2u);
}

TEST(VmaMap, AnEmptyRangeChangesNothing) {
  VmaMap map;
  map.Replace(Anonymous(0, 10));
  map.Erase(Pages(5, 5));
  map.SetProtection(Pages(5, 5), {});
  EXPECT_EQ(map.size(), 1u);
  EXPECT_EQ(map.Find(Page(5))->protection.ToProt(), PROT_READ);
}

TEST(VmaMap, FindsNothingInHoles) {
  VmaMap map;
  EXPECT_EQ(map.Find(GuestVirt{0}), nullptr);
  EXPECT_EQ(map.FindFrom(GuestVirt{0}), nullptr);
  map.Replace(Anonymous(2, 4));
  EXPECT_EQ(map.Find(Page(1)), nullptr);
  EXPECT_EQ(map.Find(Page(4)), nullptr);
  EXPECT_EQ(map.Find(Page(4) - 1)->range.start, Page(2));
  EXPECT_EQ(map.FindFrom(Page(0))->range.start, Page(2));
  EXPECT_EQ(map.FindFrom(Page(3))->range.start, Page(2));
  EXPECT_EQ(map.FindFrom(Page(4)), nullptr);
  EXPECT_FALSE(map.Overlaps(Pages(0, 2)));
  EXPECT_TRUE(map.Overlaps(Pages(0, 3)));
  EXPECT_FALSE(map.Overlaps(Pages(4, 9)));
}

TEST(VmaMap, TheHighestGapIsTakenAtItsTop) {
  VmaMap map;
  const GuestRange bounds = Pages(0, 100);
  EXPECT_EQ(map.FindGapTopDown(bounds, 4 * kPageSize, kPageSize), Page(96));
  map.Replace(Anonymous(90, 110));  // over the upper bound
  EXPECT_EQ(map.FindGapTopDown(bounds, 4 * kPageSize, kPageSize), Page(86));
  map.Replace(Anonymous(80, 88));
  EXPECT_EQ(map.FindGapTopDown(bounds, 2 * kPageSize, kPageSize), Page(88));
  EXPECT_EQ(map.FindGapTopDown(bounds, 3 * kPageSize, kPageSize), Page(77));
  EXPECT_EQ(map.FindGapTopDown(bounds, 3 * kPageSize, 16 * kPageSize), Page(64));
  EXPECT_EQ(map.FindGapTopDown(bounds, 81 * kPageSize, kPageSize), std::nullopt);
  EXPECT_EQ(map.FindGapTopDown(bounds, 80 * kPageSize, kPageSize), Page(0));
}

// As a program with a mapping for each of its objects does: a third of a second. With a look at
// each mapping it is minutes, which the alarm ends.
TEST(VmaMap, NeighboursThatAreNoneOfACommonVmaAreNotPassedOneByOne) {
  constexpr std::size_t kMany = 200'000;
  alarm(100);
  VmaMap map;
  for (std::size_t i = 0; i < kMany; ++i) {
    const auto place = map.FindGapTopDown(Pages(0, kMany), kPageSize, kPageSize);
    ASSERT_EQ(place, Page(kMany - 1 - i));
    Vma vma = Anonymous(kMany - 1 - i, kMany - i);
    vma.protection.write = i % 2 == 0;
    map.Replace(vma);
  }
  EXPECT_EQ(map.size(), kMany);
  EXPECT_EQ(map.FindGapTopDown(Pages(0, kMany), kPageSize, kPageSize), std::nullopt);
  alarm(0);
}

// ---- against a page array -----------------------------------------------------------------------

constexpr std::size_t kPages = 96;

struct ModelPage {
  bool mapped = false;
  int prot = 0;
  bool shared = false;
  bool sealed = false;
  int file = -1;             // -1: anonymous
  std::uint64_t offset = 0;  // in pages
};

class Model {
 public:
  std::array<ModelPage, kPages> pages;

  bool Merges(std::size_t left) const {
    const ModelPage& a = pages[left];
    const ModelPage& b = pages[left + 1];
    return a.mapped && b.mapped && a.prot == b.prot && a.shared == b.shared &&
           a.sealed == b.sealed && a.file == b.file && (a.file < 0 || a.offset + 1 == b.offset);
  }
  std::size_t Runs() const {
    std::size_t runs = 0;
    for (std::size_t i = 0; i < kPages; ++i) {
      if (pages[i].mapped && (i == 0 || !Merges(i - 1))) ++runs;
    }
    return runs;
  }
  MemorySizes Sizes(std::size_t first, std::size_t end) const {
    MemorySizes sizes;
    for (std::size_t i = first; i < end; ++i) {
      const bool is_data = pages[i].mapped && !pages[i].shared && (pages[i].prot & PROT_WRITE) != 0;
      if (pages[i].mapped) sizes += {.all = kPageSize, .data = is_data ? kPageSize : 0};
    }
    return sizes;
  }
  std::optional<GuestVirt> Gap(std::size_t first, std::size_t end, std::size_t size,
                               std::size_t alignment) const {
    for (std::size_t start = end; start-- > first;) {
      if (start + size > end || Page(start).value % (alignment * kPageSize) != 0) continue;
      bool is_free = true;
      for (std::size_t i = start; i < start + size; ++i) is_free &= !pages[i].mapped;
      if (is_free) return Page(start);
    }
    return std::nullopt;
  }
};

void ExpectEqual(const VmaMap& map, const Model& model) {
  ASSERT_EQ(map.size(), model.Runs());
  ASSERT_EQ(map.sizes(), model.Sizes(0, kPages));
  for (std::size_t i = 0; i < kPages; ++i) {
    const ModelPage& page = model.pages[i];
    const Vma* vma = map.Find(Page(i) + 123);
    ASSERT_EQ(vma != nullptr, page.mapped) << i;
    if (vma == nullptr) continue;
    ASSERT_EQ(vma->protection.ToProt(), page.prot);
    ASSERT_EQ(vma->sharing == Sharing::kShared, page.shared);
    ASSERT_EQ(vma->sealed, page.sealed);
    ASSERT_EQ(vma->file_backed, page.file >= 0);
    if (page.file >= 0) {
      ASSERT_EQ(vma->offset + (Page(i) - vma->range.start), page.offset * kPageSize);
      ASSERT_EQ(vma->backing->inode, static_cast<std::uint64_t>(page.file));
    }
  }
  GuestVirt last{0};
  map.ForEach([&](const Vma& vma) {
    EXPECT_FALSE(vma.range.empty());
    EXPECT_GE(vma.range.start, last);
    last = vma.range.end;
    return true;
  });
}

void ExpectSameAnswers(const VmaMap& map, const Model& model, std::size_t first, std::size_t end) {
  bool covers = true, overlaps = false, sealed = false;
  for (std::size_t i = first; i < end; ++i) {
    covers &= model.pages[i].mapped;
    overlaps |= model.pages[i].mapped;
    sealed |= model.pages[i].mapped && model.pages[i].sealed;
  }
  ASSERT_EQ(map.Covers(Pages(first, end)), covers);
  ASSERT_EQ(map.Overlaps(Pages(first, end)), overlaps);
  ASSERT_EQ(map.AnySealed(Pages(first, end)), sealed);
  ASSERT_EQ(map.SizesIn(Pages(first, end)), model.Sizes(first, end));
  for (const std::size_t size : {1, 3, 8}) {
    for (const std::size_t alignment : {1, 4}) {
      ASSERT_EQ(map.FindGapTopDown(Pages(first, end), size * kPageSize, alignment * kPageSize),
                model.Gap(first, end, size, alignment));
    }
  }
}

TEST(VmaMap, AgreesWithAPageArrayUnderRandomChanges) {
  std::mt19937 random(4711);
  VmaMap map;
  Model model;
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t first = random() % (kPages - 1);
    const std::size_t end = first + 1 + random() % std::min<std::size_t>(kPages - first, 12);
    switch (random() % 4) {
      case 0:
        map.Erase(Pages(first, end));
        for (std::size_t i = first; i < end && i < kPages; ++i) model.pages[i] = {};
        break;
      case 1: {
        const int prot = static_cast<int>(random() % 3);
        map.SetProtection(Pages(first, end), Protection::FromProt(prot));
        for (std::size_t i = first; i < end; ++i) model.pages[i].prot = prot;
        for (std::size_t i = first; i < end; ++i) {
          if (!model.pages[i].mapped) model.pages[i] = {};
        }
        break;
      }
      default: {
        ModelPage page{.mapped = true,
                       .prot = static_cast<int>(random() % 3),
                       .shared = random() % 2 == 0,
                       .sealed = random() % 8 == 0,
                       .file = static_cast<int>(random() % 3) - 1};
        // Mostly the offset that continues a neighbour of the same file.
        page.offset = random() % 4 == 0 ? random() % 50 : first;
        Vma vma{.range = Pages(first, end),
                .protection = Protection::FromProt(page.prot),
                .sharing = page.shared ? Sharing::kShared : Sharing::kPrivate,
                .file_backed = page.file >= 0,
                .sealed = page.sealed,
                .offset = page.file >= 0 ? page.offset * kPageSize : 0};
        if (page.file >= 0) {
          auto backing = std::make_shared<Backing>();
          backing->inode = static_cast<std::uint64_t>(page.file);
          vma.backing = std::move(backing);
        }
        map.Replace(std::move(vma));
        for (std::size_t i = first; i < end; ++i) {
          model.pages[i] = page;
          ++page.offset;
        }
      }
    }
    ASSERT_NO_FATAL_FAILURE(ExpectEqual(map, model)) << "step " << step;
    ASSERT_NO_FATAL_FAILURE(ExpectSameAnswers(map, model, first, end)) << "step " << step;
    ASSERT_NO_FATAL_FAILURE(ExpectSameAnswers(map, model, 0, kPages)) << "step " << step;
  }
}

}  // namespace
}  // namespace dunebox::memory
