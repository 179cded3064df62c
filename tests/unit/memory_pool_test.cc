// The memory pool, with ring 0's implementation running on the host: what it answers against a model of every
// page, and whether the host's mappings are the same when it has taken the pool back.
#include "hostcalls/abi/memory_pool.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "runtime/memory/address_space.h"
#include "tests/fakes/guest_pages.h"

namespace dunebox::memory {
namespace {

using abi::MemoryPool;
using abi::PoolCall;

constexpr std::uint64_t kDontNeed = MADV_DONTNEED;
constexpr std::int64_t kAskHost = INT64_MIN;
constexpr std::uint64_t kPlain = MAP_PRIVATE | MAP_ANONYMOUS;

// A processor that keeps what it has once seen of a page until it is told.
class Translations {
 public:
  explicit Translations(std::uint64_t start) : start_(start) {}
  bool IsMapped(std::uint64_t page) const { return entries_.contains(page); }
  void Map(std::uint64_t page, bool writable) { entries_[page] = writable; }
  void Drop(std::uint64_t page) { EXPECT_EQ(entries_.erase(page), 1u); }
  void Zero(std::uint64_t page) {
    EXPECT_FALSE(IsMapped(page)) << "another thread could see it half done";
    const std::uint64_t at = page < MemoryPool::kPages
                                 ? start_ + page * kPageSize
                                 : heap_ + (page - MemoryPool::kPages) * kPageSize;
    std::memset(reinterpret_cast<void*>(at), 0, kPageSize);
  }
  void SetHeap(std::uint64_t start) { heap_ = start; }
  void Finish() { ++finished_; }

  bool Allows(std::uint64_t page, bool write) const {
    const auto entry = entries_.find(page);
    return entry != entries_.end() && (!write || entry->second);
  }
  void Clear(std::uint64_t first, std::uint64_t end) {
    entries_.erase(entries_.lower_bound(first), entries_.lower_bound(end));
  }
  int finished() const { return finished_; }

 private:
  const std::uint64_t start_;
  std::uint64_t heap_ = 0;
  std::map<std::uint64_t, bool> entries_;  // writable?
  int finished_ = 0;
};

// An engine whose guest is this test.
class Engine final : public MappingObserver {
 public:
  void Forget(const GuestRange& range) override {
    if (!translations_) return;
    const auto clear = [&](const GuestRange& part, std::uint64_t number) {
      const std::uint64_t first = std::max(range.start, part.start) - part.start;
      const std::uint64_t end = std::min(range.end, part.end) - part.start;
      if (range.Overlaps(part)) {
        translations_->Clear(number + first / kPageSize, number + end / kPageSize);
      }
    };
    clear(range_, 0);
    clear(heap_, MemoryPool::kPages);
  }
  bool NeedsHostInvalidation() const override { return true; }
  MemoryPool* Pool() override { return offers ? pool_.get() : nullptr; }
  absl::Status OpenPool(const PoolRanges& ranges, std::uint64_t opening) override {
    const GuestRange& range = ranges.mappings;
    if (refuses) return absl::InternalError("refused");
    if (!translations_) translations_.emplace(range.start.value);
    translations_->SetHeap(ranges.heap.start.value);
    range_ = range;
    heap_ = ranges.heap;
    pool_->heap_start = heap_.start.value;
    pool_->heap_pages = heap_.empty() ? 0 : MemoryPool::kHeapPages;
    pool_->heap_lowest = ranges.heap_lowest.value;
    pool_->heap_end = ranges.heap_end.value;
    pool_->start = range.start.value;
    pool_->free_end = MemoryPool::kPages;
    pool_->answered = 0;
    pool_->opening = opening;
    __atomic_store_n(&pool_->pages, MemoryPool::kPages, __ATOMIC_SEQ_CST);
    return absl::OkStatus();
  }

  std::int64_t Call(const PoolCall& call) {
    return abi::PoolCalls(*pool_, *translations_).Call(call);
  }
  // An access of the program's: false if it becomes a signal.
  bool Touch(std::uint64_t address, bool write) {
    const std::uint64_t page = heap_.Contains(GuestVirt{address})
                                   ? MemoryPool::kPages + (address - pool_->heap_start) / kPageSize
                                   : (address - pool_->start) / kPageSize;
    if (translations_->Allows(page, write)) return true;
    const std::uint64_t error = 4u | (write ? 2u : 0u) | (translations_->IsMapped(page) ? 1u : 0u);
    if (!abi::PoolCalls(*pool_, *translations_).Fault(page, error)) return false;
    EXPECT_TRUE(translations_->Allows(page, write)) << "would fault for ever";
    return true;
  }
  MemoryPool& pool() { return *pool_; }
  const Translations& translations() const { return *translations_; }
  GuestRange range() const { return range_; }

  bool offers = true;
  bool refuses = false;

 private:
  std::unique_ptr<MemoryPool> pool_ = std::make_unique<MemoryPool>();
  std::optional<Translations> translations_;
  GuestRange range_, heap_;
};

class MemoryPoolTest : public ::testing::Test {
 protected:
  MemoryPoolTest() { space_.SetObserver(&engine_); }
  ~MemoryPoolTest() override {
    space_.ClosePool();
    std::vector<GuestRange> ranges;
    space_.ForEachVma([&](const Vma& vma) {
      ranges.push_back(vma.range);
      return true;
    });
    for (const GuestRange& range : ranges) {
      munmap(reinterpret_cast<void*>(range.start.value), range.size());
    }
  }

  std::int64_t Mmap(std::uint64_t length, int prot, std::uint64_t flags = kPlain,
                    std::uint64_t address = 0) {
    return engine_.Call({SYS_mmap, address, length, static_cast<std::uint64_t>(prot), flags, ~0UL, 0});
  }
  std::int64_t Munmap(std::uint64_t address, std::uint64_t length) {
    return engine_.Call({SYS_munmap, address, length, 0, 0, 0, 0});
  }
  std::int64_t Mprotect(std::uint64_t address, std::uint64_t length, int prot) {
    return engine_.Call({SYS_mprotect, address, length, static_cast<std::uint64_t>(prot), 0, 0, 0});
  }
  std::int64_t Madvise(std::uint64_t address, std::uint64_t length, std::uint64_t advice) {
    return engine_.Call({SYS_madvise, address, length, advice, 0, 0, 0});
  }
  std::uint64_t HostMap(std::uint64_t length, int prot) {
    return static_cast<std::uint64_t>(
        space_.Map({.length = length, .prot = prot, .flags = static_cast<int>(kPlain)}).value());
  }

  hostcalls::GuestMemory memory_{hostcalls::Window::WholeProgram()};
  AddressSpace space_{memory_, fakes::TestLayout()};
  Engine engine_;
};

// The rights of each page of a range, by the kernel's word: -1 where nothing is.
std::vector<int> KernelsRights(const GuestRange& range) {
  std::vector<int> rights(range.size() / kPageSize, -1);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    std::uint64_t start = 0, end = 0;
    char dash = 0;
    std::string letters;
    fields >> std::hex >> start >> dash >> end >> letters;
    for (std::uint64_t page = std::max(start, range.start.value);
         page < std::min(end, range.end.value); page += kPageSize) {
      rights[(page - range.start.value) / kPageSize] =
          (letters[0] == 'r' ? PROT_READ : 0) | (letters[1] == 'w' ? PROT_WRITE : 0);
    }
  }
  return rights;
}

std::vector<int> GuestsRights(const AddressSpace& space, const GuestRange& range) {
  std::vector<int> rights(range.size() / kPageSize, -1);
  space.ForEachVma([&](const Vma& vma) {
    for (GuestVirt page = std::max(vma.range.start, range.start);
         page < std::min(vma.range.end, range.end); page = page + kPageSize) {
      rights[(page - range.start) / kPageSize] = vma.protection.ToProt();
    }
    return true;
  });
  return rights;
}

struct Page {
  int rights = -1;  // -1: not mapped
  std::uint64_t value = 0;
};

TEST_F(MemoryPoolTest, RandomCallsAndFaultsAreWhatAModelSays) {
  std::mt19937 random(4);
  const auto below = [&](std::uint64_t limit) { return random() % limit; };
  constexpr int kProts[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
  std::map<std::uint64_t, Page> model;
  std::uint64_t answered = 0;
  ASSERT_TRUE(space_.OpenPool());
  const GuestRange range = engine_.range();
  for (int step = 0; step < 20'000; ++step) {
    const std::uint64_t at = range.end.value - (1 + below(200)) * kPageSize;
    const std::uint64_t pages = std::min(1 + below(12), (range.end.value - at) / kPageSize);
    const std::uint64_t length = pages * kPageSize - below(kPageSize);
    const int prot = kProts[below(3)];
    const auto each = [&](auto change) {
      for (std::uint64_t page = at; page < at + pages * kPageSize; page += kPageSize) {
        change(model[page]);
      }
    };
    bool all = true;
    each([&](const Page& page) { all = all && page.rights >= 0; });
    const std::uint64_t what = below(100);
    if (what < 15) {
      const std::int64_t result = Mmap(length, prot);
      if (result == kAskHost) continue;
      ++answered;
      const auto start = static_cast<std::uint64_t>(result);
      for (std::uint64_t page = start; page < start + pages * kPageSize; page += kPageSize) {
        ASSERT_EQ(model[page].rights, -1) << "given out twice";
        model[page] = {.rights = prot, .value = 0};
      }
    } else if (what < 25) {
      ASSERT_EQ(Munmap(at, length), 0);
      ++answered;
      each([](Page& page) { page = {}; });
    } else if (what < 40) {
      ASSERT_EQ(Mprotect(at, length, prot), all ? 0 : kAskHost);
      if (all) each([&](Page& page) { page.rights = prot; });
      answered += all;
    } else if (what < 45) {
      ASSERT_EQ(Madvise(at, length, kDontNeed), all ? 0 : kAskHost);
      if (all) each([](Page& page) { page.value = 0; });
      answered += all;
    } else if (what < 99) {
      const bool write = below(2) == 0;
      Page& page = model[at];
      const bool allowed = page.rights >= 0 && (page.rights & (write ? PROT_WRITE : PROT_READ)) != 0;
      ASSERT_EQ(engine_.Touch(at, write), allowed);
      if (!allowed) continue;
      auto& word = *reinterpret_cast<std::uint64_t*>(at);
      ASSERT_EQ(word, page.value);
      if (write) word = page.value = random();
    } else {
      EXPECT_GE(space_.ClosePool(), 0u);
      std::vector<int> expected(MemoryPool::kPages, -1);
      for (const auto& [address, page] : model) {
        expected[(address - range.start.value) / kPageSize] = page.rights;
      }
      ASSERT_EQ(KernelsRights(range), expected);
      ASSERT_EQ(GuestsRights(space_, range), expected);
      // What the kernel reads and writes there meanwhile is the program's as well.
      for (auto& [address, page] : model) {
        if (page.rights < PROT_READ) continue;
        auto& word = *reinterpret_cast<std::uint64_t*>(address);
        ASSERT_EQ(word, page.value);
        if ((page.rights & PROT_WRITE) != 0 && below(4) == 0) word = page.value = random();
      }
      ASSERT_TRUE(space_.OpenPool());
    }
  }
  EXPECT_GT(answered, 2'000u);
}

TEST_F(MemoryPoolTest, OnlyPlainCasesAreAnswered) {
  ASSERT_TRUE(space_.OpenPool());
  const auto mine = static_cast<std::uint64_t>(Mmap(3 * kPageSize, PROT_READ | PROT_WRITE));
  const int before = engine_.translations().finished();
  EXPECT_EQ(Mmap(0, PROT_READ), kAskHost);
  EXPECT_EQ(Mmap(~0UL, PROT_READ), kAskHost);
  EXPECT_EQ(Mmap(2 << 20, PROT_READ), kAskHost);
  EXPECT_EQ(Mmap(kPageSize, PROT_READ | PROT_EXEC), kAskHost);
  EXPECT_EQ(Mmap(kPageSize, PROT_WRITE), kAskHost);
  for (const std::uint64_t flags : {MAP_PRIVATE, MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS}) {
    EXPECT_EQ(Mmap(kPageSize, PROT_READ, flags), kAskHost);
  }
  for (const std::uint64_t flag : {MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_32BIT, MAP_LOCKED,
                                   MAP_POPULATE, MAP_GROWSDOWN, MAP_HUGETLB}) {
    EXPECT_EQ(Mmap(kPageSize, PROT_READ, kPlain | flag), kAskHost);
  }
  EXPECT_EQ(Mmap(kPageSize, PROT_READ, kPlain, mine), kAskHost);
  const std::uint64_t start = engine_.range().start.value, end = engine_.range().end.value;
  for (const std::uint64_t address : {mine + 1, start - kPageSize, end, std::uint64_t{0}, ~0UL}) {
    EXPECT_EQ(Munmap(address, kPageSize), kAskHost);
    EXPECT_EQ(Mprotect(address, kPageSize, PROT_READ), kAskHost);
    EXPECT_EQ(Madvise(address, kPageSize, kDontNeed), kAskHost);
  }
  for (const std::uint64_t length : {std::uint64_t{0}, end - mine + 1, ~0UL}) {
    EXPECT_EQ(Munmap(mine, length), kAskHost);
    EXPECT_EQ(Mprotect(mine, length, PROT_READ), kAskHost);
  }
  EXPECT_EQ(Mprotect(mine, kPageSize, PROT_READ | PROT_EXEC), kAskHost);
  EXPECT_EQ(Mprotect(mine, kPageSize, PROT_READ | PROT_GROWSDOWN), kAskHost);
  EXPECT_EQ(Mprotect(mine - kPageSize, 2 * kPageSize, PROT_READ), kAskHost);
  EXPECT_EQ(Madvise(mine, kPageSize, MADV_FREE), kAskHost);
  EXPECT_EQ(engine_.Call({SYS_mremap, mine, kPageSize, kPageSize, 0, 0, 0}), kAskHost);
  EXPECT_EQ(engine_.translations().finished(), before);
  EXPECT_TRUE(engine_.Touch(mine, true));
  engine_.pool().pages = 0;
  EXPECT_EQ(Mmap(kPageSize, PROT_READ), kAskHost);
  EXPECT_EQ(Munmap(mine, kPageSize), kAskHost);
  engine_.pool().pages = MemoryPool::kPages;
}

TEST_F(MemoryPoolTest, FaultsThatAreNoDataAccessesOfRing3AreTheHosts) {
  ASSERT_TRUE(space_.OpenPool());
  const auto mine = static_cast<std::uint64_t>(Mmap(kPageSize, PROT_READ | PROT_WRITE));
  const std::uint64_t page = (mine - engine_.pool().start) / kPageSize;
  Translations translations(engine_.pool().start);
  abi::PoolCalls calls(engine_.pool(), translations);
  for (const std::uint64_t error : {0x14u, 0x0cu, 0x24u, 0x44u, 0x8004u}) {
    EXPECT_FALSE(calls.Fault(page, error)) << error;
  }
  EXPECT_TRUE(calls.Fault(page, 4));
}

// ---- the host's side ----------------------------------------------------------------------------

TEST_F(MemoryPoolTest, MappingsThatAreThereAreTakenOverOrLeftAlone) {
  const std::uint64_t plain = HostMap(2 * kPageSize, PROT_READ);
  const std::uint64_t code = HostMap(kPageSize, PROT_READ | PROT_EXEC);
  ASSERT_TRUE(space_.OpenPool());
  ASSERT_TRUE(engine_.range().Contains(GuestVirt{plain}) && engine_.range().Contains(GuestVirt{code}));
  EXPECT_TRUE(engine_.Touch(plain, false));
  EXPECT_FALSE(engine_.Touch(plain, true));
  EXPECT_FALSE(engine_.Touch(code, false));
  EXPECT_EQ(Mprotect(code, kPageSize, PROT_READ), kAskHost);
  EXPECT_EQ(Munmap(code, 3 * kPageSize), kAskHost);
  EXPECT_FALSE(space_.FindInOpenPool(GuestVirt{code}).has_value());
  EXPECT_TRUE(space_.FindInOpenPool(GuestVirt{plain})->used);

  EXPECT_EQ(Munmap(plain, kPageSize), 0);
  EXPECT_FALSE(space_.FindInOpenPool(GuestVirt{plain})->used);
  // No mapping of the program's is made of what was mapped before and what was not.
  const std::int64_t next = Mmap(kPageSize, PROT_READ);
  EXPECT_NE(static_cast<std::uint64_t>(next), plain);
  EXPECT_EQ(space_.ClosePool(), 3u);  // with the fault
  EXPECT_EQ(space_.ClosePool(), 0u);
  EXPECT_EQ(KernelsRights({GuestVirt{code}, GuestVirt{code + kPageSize}}), std::vector<int>{PROT_READ});
  EXPECT_EQ(KernelsRights({GuestVirt{plain}, GuestVirt{plain + kPageSize}}), std::vector<int>{-1});
}

// Ring 0's word is not taken for what is not the pool's.
TEST_F(MemoryPoolTest, WrongStatesTouchNothingThatIsNotThePools) {
  const std::uint64_t code = HostMap(kPageSize, PROT_READ | PROT_EXEC);
  ASSERT_TRUE(space_.OpenPool());
  const std::uint64_t page = (code - engine_.range().start.value) / kPageSize;
  for (std::uint64_t i = 0; i < MemoryPool::kAllPages; ++i) {
    engine_.pool().state[i] = i == page ? MemoryPool::kStale : MemoryPool::kHost | 0xe0;
  }
  space_.ClosePool();
  const auto vma = [&](std::uint64_t address) {
    return space_.WithVma(GuestVirt{address}, [](const Vma* found) { return found != nullptr; });
  };
  EXPECT_TRUE(vma(code));
  EXPECT_EQ(KernelsRights({GuestVirt{code}, GuestVirt{code + kPageSize}}), std::vector<int>{PROT_READ});
  EXPECT_FALSE(vma(engine_.range().start.value));
}

TEST_F(MemoryPoolTest, ALimitOnDataIsThePoolsToo) {
  space_.LimitData(MemoryPool::kPages * kPageSize - 1);
  EXPECT_FALSE(space_.OpenPool());
  space_.LimitData(MemoryPool::kPages * kPageSize + kPageSize);
  EXPECT_TRUE(space_.OpenPool());
  space_.ClosePool();
  HostMap(2 << 20, PROT_READ | PROT_WRITE);
  EXPECT_FALSE(space_.OpenPool());
}

TEST_F(MemoryPoolTest, TheProgramsOwnLimitsAreThePoolsToo) {
  hostcalls::MemoryLimits limits;
  space_.KeepLimits(limits);
  limits.all = MemoryPool::kPages * kPageSize - 1;
  EXPECT_FALSE(space_.OpenPool());
  limits.all = hostcalls::MemoryLimits::kNone;
  limits.data = MemoryPool::kPages * kPageSize - 1;
  EXPECT_FALSE(space_.OpenPool());
  limits.data = MemoryPool::kPages * kPageSize + kPageSize;
  EXPECT_TRUE(space_.OpenPool());
  space_.ClosePool();
}

TEST_F(MemoryPoolTest, WhatTheKernelKnowsMoreOfIsNeverLent) {
  const std::uint64_t mine = HostMap(kPageSize, PROT_READ | PROT_WRITE);
  EXPECT_TRUE(space_.Advise(mine, kPageSize, MADV_DONTNEED).ok());
  ASSERT_TRUE(space_.OpenPool());
  space_.ClosePool();
  EXPECT_TRUE(space_.Advise(mine, kPageSize, MADV_DONTFORK).ok());
  EXPECT_FALSE(space_.OpenPool());
}

TEST_F(MemoryPoolTest, LockedMemoryIsNeverLent) {
  ASSERT_TRUE(space_.OpenPool());
  space_.ClosePool();
  EXPECT_TRUE(space_.LockAll(MCL_CURRENT).ok());
  EXPECT_FALSE(space_.OpenPool());
}

TEST_F(MemoryPoolTest, AnEngineThatCannotLeavesTheMapAsItWas) {
  const std::uint64_t mine = HostMap(2 * kPageSize, PROT_READ);
  const GuestRange around{GuestVirt{mine - 4 * kPageSize}, GuestVirt{mine + 2 * kPageSize}};
  const std::vector<int> before = KernelsRights(around);
  engine_.refuses = true;
  EXPECT_FALSE(space_.OpenPool());
  EXPECT_FALSE(space_.HasOpenPool());
  EXPECT_EQ(KernelsRights(around), before);
  EXPECT_EQ(GuestsRights(space_, around), before);
  engine_.refuses = false;
  EXPECT_FALSE(space_.OpenPool());
}

TEST_F(MemoryPoolTest, WithoutAnEngineThatHasOneThereIsNoPool) {
  engine_.offers = false;
  EXPECT_FALSE(space_.OpenPool());
  space_.SetObserver(nullptr);
  EXPECT_FALSE(space_.OpenPool());
  EXPECT_EQ(space_.ClosePool(), 0u);
}

// A heap whose end moves often, by the host at first.
class HeapTest : public MemoryPoolTest {
 protected:
  HeapTest() {
    space_.SetHeapStart(space_.FindFree(64 << 20));
    start_ = static_cast<std::uint64_t>(space_.Break(0).value());
    for (int move = 1; move <= 5; ++move) SetEnd(start_ + static_cast<std::uint64_t>(move) * kPageSize);
  }
  void SetEnd(std::uint64_t address) {
    ASSERT_EQ(space_.Break(address).value(), static_cast<std::int64_t>(address));
  }
  std::int64_t Brk(std::uint64_t address) { return engine_.Call({SYS_brk, address, 0, 0, 0, 0, 0}); }
  bool OpenWithHeap() { return space_.OpenPool(AddressSpace::PoolsHeap::kYes); }
  std::uint64_t start_ = 0;
};

TEST_F(HeapTest, ItsEndMovesAgainstAModelAndTheHostFindsItThere) {
  std::mt19937 random(5);
  std::map<std::uint64_t, std::uint64_t> model;  // values by page
  std::uint64_t end = start_ + 5 * kPageSize, answered = 0;
  ASSERT_TRUE(OpenWithHeap());
  for (int step = 0; step < 10'000; ++step) {
    const std::uint64_t what = random() % 100;
    if (what < 40) {
      const std::uint64_t to = start_ + random() % (100 * kPageSize);
      std::int64_t result = Brk(to);
      if (result == kAskHost) {
        space_.ClosePool();
        result = space_.Break(to).value();
        ASSERT_TRUE(OpenWithHeap());
      } else {
        ++answered;
      }
      ASSERT_EQ(result, static_cast<std::int64_t>(to));
      end = to;
      model.erase(model.lower_bound(PageUp(end)), model.end());
    } else if (what < 98) {
      const std::uint64_t at = start_ + random() % 110 * kPageSize;
      ASSERT_EQ(engine_.Touch(at, true), at < PageUp(end)) << std::hex << at;
      if (at >= PageUp(end)) continue;
      auto& word = *reinterpret_cast<std::uint64_t*>(at);
      ASSERT_EQ(word, model[at]);
      word = model[at] = random();
    } else {
      space_.ClosePool();
      ASSERT_EQ(space_.Break(0).value(), static_cast<std::int64_t>(end));
      const GuestRange all{GuestVirt{start_}, GuestVirt{start_ + 110 * kPageSize}};
      std::vector<int> expected(110, -1);
      std::fill_n(expected.begin(), (PageUp(end) - start_) / kPageSize, PROT_READ | PROT_WRITE);
      ASSERT_EQ(GuestsRights(space_, all), expected);
      ASSERT_EQ(KernelsRights(all), expected);
      const auto name = [](const Vma* vma) {
        return vma != nullptr && vma->backing != nullptr ? vma->backing->name : std::string();
      };
      ASSERT_EQ(space_.WithVma(GuestVirt{PageUp(end) - 1}, name), end > start_ ? "[heap]" : "");
      ASSERT_TRUE(OpenWithHeap());
    }
  }
  EXPECT_GT(answered, 2'000u);
}

TEST_F(HeapTest, OnlyMovesWithinItsRangeAndOverFreeMemoryAreAnswered) {
  const auto in_the_way = space_.Map({.address = PageUp(start_) + 50 * kPageSize,
                                      .length = kPageSize,
                                      .prot = PROT_READ,
                                      .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED});
  ASSERT_TRUE(in_the_way.ok());
  ASSERT_TRUE(OpenWithHeap());
  const std::uint64_t end = engine_.pool().heap_end;
  EXPECT_EQ(Brk(0), static_cast<std::int64_t>(end));
  EXPECT_EQ(Brk(start_ - 1), static_cast<std::int64_t>(end));
  EXPECT_EQ(Brk(~0UL), kAskHost);
  EXPECT_EQ(Brk(engine_.pool().heap_start + (MemoryPool::kHeapPages + 1) * kPageSize), kAskHost);
  EXPECT_EQ(Brk(start_ + 51 * kPageSize), kAskHost);
  EXPECT_EQ(engine_.pool().heap_end, end);
  EXPECT_EQ(Brk(start_ + 50 * kPageSize), static_cast<std::int64_t>(start_ + 50 * kPageSize));
  EXPECT_FALSE(engine_.Touch(start_ + 50 * kPageSize, true));
  EXPECT_EQ(space_.OpenHeap().start.value, engine_.pool().heap_start);
  space_.ClosePool();
  EXPECT_TRUE(space_.OpenHeap().empty());
  // Not for several threads.
  ASSERT_TRUE(space_.OpenPool());
  EXPECT_EQ(Brk(start_ + 49 * kPageSize), kAskHost);
}

TEST_F(HeapTest, AnEndThatWasHighWhenTheWindowWasChosenMayFallAgain) {
  SetEnd(start_ + (3 << 20));
  ASSERT_TRUE(OpenWithHeap());
  for (const std::uint64_t end : {start_ + (4 << 20), start_ + kPageSize, start_}) {
    EXPECT_EQ(Brk(end), static_cast<std::int64_t>(end));
  }
}

// Ring 0's word for where the heap ends is taken only in the range that it was lent.
TEST_F(HeapTest, AWrongEndIsNotBelieved) {
  for (const std::uint64_t wrong : {std::uint64_t{0}, start_ - 1, start_ + (64 << 20), ~0UL}) {
    ASSERT_TRUE(OpenWithHeap());
    engine_.pool().heap_end = wrong;
    space_.ClosePool();
    EXPECT_EQ(space_.Break(0).value(), static_cast<std::int64_t>(start_ + 5 * kPageSize));
  }
}

TEST_F(MemoryPoolTest, AHeapThatHardlyMovesIsTheHosts) {
  space_.SetHeapStart(space_.FindFree(64 << 20));
  const auto start = static_cast<std::uint64_t>(space_.Break(0).value());
  ASSERT_TRUE(space_.Break(start + kPageSize).ok());
  ASSERT_TRUE(space_.OpenPool(AddressSpace::PoolsHeap::kYes));
  EXPECT_TRUE(space_.OpenHeap().empty());
  EXPECT_EQ(engine_.pool().heap_pages, 0u);
}

TEST_F(MemoryPoolTest, WhoeverUsesMemoryKeepsItClosed) {
  ASSERT_TRUE(space_.OpenPool());
  const std::uint64_t opening = space_.pool_opening();
  EXPECT_EQ(engine_.pool().opening, opening);
  EXPECT_GT(Mmap(kPageSize, PROT_READ), 0);
  EXPECT_EQ(space_.BeginUse(), 1u);
  EXPECT_EQ(engine_.pool().pages, 0u);
  EXPECT_EQ(space_.BeginUse(), 0u);
  EXPECT_FALSE(space_.OpenPool());
  space_.EndUse();
  EXPECT_FALSE(space_.OpenPool());
  space_.EndUse();
  ASSERT_TRUE(space_.OpenPool());
  EXPECT_GT(space_.pool_opening(), opening);
}

// Only the thread that forks is in the child, and the call that it makes.
TEST_F(MemoryPoolTest, OtherThreadsUsesAreNotAForkedChilds) {
  ASSERT_TRUE(space_.OpenPool());
  for (int user = 0; user < 3; ++user) space_.BeginUse();
  space_.LockForFork();
  space_.UnlockInChild();
  EXPECT_FALSE(space_.OpenPool());
  space_.EndUse();
  EXPECT_TRUE(space_.OpenPool());
}

TEST_F(MemoryPoolTest, HoldsWhatTheKernelMayUseAsItIs) {
  const std::uint64_t code = HostMap(kPageSize, PROT_READ | PROT_EXEC);
  ASSERT_TRUE(space_.OpenPool());
  const auto mine = static_cast<std::uint64_t>(Mmap(3 * kPageSize, PROT_READ | PROT_WRITE));
  const auto holds = [&](std::uint64_t start, std::uint64_t bytes) {
    return space_.PoolHolds({GuestVirt{start}, GuestVirt{start + bytes}});
  };
  EXPECT_TRUE(holds(mine, 3 * kPageSize));
  EXPECT_TRUE(holds(mine + 7, 1));
  EXPECT_TRUE(holds(mine + kPageSize - 1, 2));
  EXPECT_FALSE(holds(mine, 0));
  EXPECT_TRUE(holds(code, 8));  // by its own rights
  EXPECT_FALSE(holds(mine - 1, 2));
  ASSERT_EQ(Mprotect(mine + kPageSize, kPageSize, PROT_READ), 0);
  EXPECT_FALSE(holds(mine + kPageSize - 1, 2));
  EXPECT_TRUE(holds(mine + kPageSize - 1, 1));
  ASSERT_EQ(Madvise(mine, kPageSize, kDontNeed), 0);  // the host has the old bytes still
  EXPECT_FALSE(holds(mine, 8));
  EXPECT_TRUE(engine_.Touch(mine, false));
  EXPECT_TRUE(holds(mine, 8));
  space_.ClosePool();
  EXPECT_FALSE(holds(mine, 8));
}

// Threads of the guest's and threads that open and close it, all at once: nobody gets another's memory, and all
// find their bytes again.
TEST_F(MemoryPoolTest, ThreadsShareItByItsLock) {
  constexpr int kThreads = 3, kRounds = 400;
  space_.PlacePool();
  std::mutex engine;  // the model of a processor is for one thread
  const auto locked = [&](auto call) {
    for (;;) {
      const abi::PoolLock lock(engine_.pool(), 64);
      if (!lock.held()) continue;
      const std::lock_guard guard(engine);
      return call();
    }
  };
  ASSERT_TRUE(space_.OpenPool());
  std::atomic<int> wrong = 0, answered = 0;
  const auto guest = [&](std::uint64_t mark) {
    std::mt19937_64 random(mark);
    for (int round = 0; round < kRounds; ++round) {
      const std::uint64_t bytes = (1 + random() % 8) * kPageSize;
      std::int64_t at = locked([&] { return Mmap(bytes, PROT_READ | PROT_WRITE); });
      if (at == kAskHost) {
        space_.BeginUse();
        at = static_cast<std::int64_t>(HostMap(bytes, PROT_READ | PROT_WRITE));
        space_.EndUse();
        if (random() % 4 == 0) space_.OpenPool();
      } else {
        ++answered;
      }
      const auto start = static_cast<std::uint64_t>(at);
      // With the memory in use as the kernel sees it: the model's stale pages are emptied by closing.
      space_.BeginUse();
      for (std::uint64_t page = start; page < start + bytes; page += kPageSize) {
        auto& word = *reinterpret_cast<volatile std::uint64_t*>(page);
        wrong += word != 0;
        word = mark;
      }
      for (std::uint64_t page = start; page < start + bytes; page += kPageSize) {
        wrong += *reinterpret_cast<volatile std::uint64_t*>(page) != mark;
      }
      space_.EndUse();
      space_.OpenPool();
      if (locked([&] { return Munmap(start, bytes); }) == kAskHost) {
        space_.BeginUse();
        wrong += !space_.Unmap(start, bytes).ok();
        space_.EndUse();
      }
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t mark = 1; mark <= kThreads; ++mark) threads.emplace_back(guest, mark);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(answered, 0);
  space_.ClosePool();
}

// The host is opening it, without ring 0's lock: nothing is written there that the host has put there.
TEST_F(MemoryPoolTest, NothingIsChangedBeforeItIsOpen) {
  ASSERT_TRUE(space_.OpenPool());
  space_.ClosePool();
  MemoryPool& pool = engine_.pool();
  pool.free_end = MemoryPool::kPages;
  EXPECT_EQ(Mmap(kPageSize, PROT_READ), kAskHost);
  EXPECT_EQ(pool.free_end, MemoryPool::kPages);
}

// Large mappings and files leave the pool's place to small ones.
TEST_F(MemoryPoolTest, ItsPlaceIsForSmallAnonymousMemory) {
  const std::uint64_t small = HostMap(kPageSize, PROT_READ);
  const std::uint64_t large = HostMap(4 << 20, PROT_READ);
  ASSERT_TRUE(space_.OpenPool());
  EXPECT_TRUE(engine_.range().Contains(GuestVirt{small}));
  EXPECT_FALSE(engine_.range().Contains(GuestVirt{large}));
}

}  // namespace
}  // namespace dunebox::memory
