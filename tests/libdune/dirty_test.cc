#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>

#include "tests/libdune/entered.h"

namespace dune::testing {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

PageTable& Current() { return PageTable::Current(); }

class DirtyTest : public Entered {
 protected:
  void SetUp() override {
    Entered::SetUp();
    if (!IsSkipped() && !GetCapabilities().dirty) GTEST_SKIP() << "no capability dirty";
  }

  static void Track(Range range) {
    const absl::Status tracked = Current().Track(range, Tracking::kDirty);
    ASSERT_TRUE(tracked.ok()) << tracked;
  }
  static std::vector<Range> Harvest(Range range) {
    std::vector<Range> written;
    const absl::Status told =
        Current().TestAndClearDirty(range, [&](Range part) { written.push_back(part); });
    EXPECT_TRUE(told.ok()) << told;
    return written;
  }
};

TEST_F(DirtyTest, PagesBeginClean) {
  Pages pages(8);
  pages[3] = 1;
  Track(pages.range());
  EXPECT_THAT(Harvest(pages.range()), IsEmpty());
}

TEST_F(DirtyTest, WritesAreToldOnceInOrderAndNeighboursAsOne) {
  Pages pages(16);
  for (std::size_t page = 0; page < 16; ++page) pages[page] = 1;
  Track(pages.range());
  for (const std::size_t page : {9, 2, 3, 15, 8}) pages[page] = 2;
  EXPECT_THAT(Harvest(pages.range()),
              ElementsAre(pages.range(2, 2), pages.range(8, 2), pages.range(15, 1)));
  EXPECT_THAT(Harvest(pages.range()), IsEmpty());
  pages[3] = 3;
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(3, 1)));
}

TEST_F(DirtyTest, WritesArriveAsWithoutTracking) {
  Pages pages(8);
  Track(pages.range());
  for (std::size_t page = 0; page < 8; page += 2) pages[page] = static_cast<char>('a' + page);
  for (std::size_t page = 0; page < 8; ++page) {
    EXPECT_EQ(pages[page], page % 2 == 0 ? static_cast<char>('a' + page) : 0) << page;
  }
}

TEST_F(DirtyTest, ReadingIsNoWriting) {
  Pages pages(4);
  pages[0] = 7;
  Track(pages.range());
  EXPECT_EQ(pages[0] + pages[2], 7);  // one with memory of its own, one without
  EXPECT_THAT(Harvest(pages.range()), IsEmpty());
}

TEST_F(DirtyTest, APartIsHarvestedWithoutTheRest) {
  Pages pages(4);
  Track(pages.range());
  pages[0] = 1;
  pages[3] = 1;
  EXPECT_THAT(Harvest(pages.range(2, 2)), ElementsAre(pages.range(3, 1)));
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(0, 1)));
}

TEST_F(DirtyTest, ManyScatteredPagesAreAllTold) {
  constexpr std::size_t kCount = 4000;
  Pages pages(kCount);
  Track(pages.range());
  for (int round = 0; round < 3; ++round) {
    std::vector<Range> expected;
    for (auto page = static_cast<std::size_t>(round); page < kCount; page += 7) {
      pages[page] = static_cast<char>(round);
      expected.push_back(pages.range(page, 1));
    }
    EXPECT_EQ(Harvest(pages.range()), expected) << round;
  }
}

TEST_F(DirtyTest, WhatIsNotTrackedIsNotHarvested) {
  Pages pages(4);
  const auto ignore = [](Range) {};
  EXPECT_TRUE(absl::IsFailedPrecondition(Current().TestAndClearDirty(pages.range(), ignore)));
  Track(pages.range(0, 2));
  EXPECT_TRUE(absl::IsFailedPrecondition(Current().TestAndClearDirty(pages.range(1, 2), ignore)));
  ASSERT_TRUE(Current().Untrack(pages.range(0, 2), Tracking::kDirty).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Current().TestAndClearDirty(pages.range(0, 1), ignore)));
  EXPECT_TRUE(absl::IsFailedPrecondition(Current().Untrack(pages.range(), Tracking::kDirty)));
  pages[0] = 1;
  EXPECT_EQ(pages[0], 1);
}

TEST_F(DirtyTest, AHoleCannotBeTracked) {
  Pages pages(3);
  ASSERT_EQ(munmap(pages.data(1), kPageSize), 0);
  EXPECT_TRUE(absl::IsNotFound(Current().Track(pages.range(), Tracking::kDirty)));
}

TEST_F(DirtyTest, WhatIsMappedAnewIsNotTracked) {
  Pages pages(4);
  Track(pages.range());
  ASSERT_NE(mmap(pages.data(1), kPageSize, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
            MAP_FAILED);
  pages[1] = 1;
  EXPECT_TRUE(absl::IsFailedPrecondition(Current().TestAndClearDirty(pages.range(), [](Range) {})));
  Track(pages.range());
  pages[1] = 2;
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(1, 1)));
}

TEST_F(DirtyTest, TrackingAgainBeginsAgain) {
  Pages pages(4);
  Track(pages.range());
  pages[1] = 1;
  Track(pages.range());
  EXPECT_THAT(Harvest(pages.range()), IsEmpty());
}

TEST_F(DirtyTest, AWalkSaysWhatAHarvestWouldTell) {
  Pages pages(4);
  Track(pages.range());
  pages[2] = 1;
  EXPECT_FALSE(Current().Walk(pages.range(1, 1).begin)->dirty);
  EXPECT_TRUE(Current().Walk(pages.range(2, 1).begin)->dirty);
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(2, 1)));
  EXPECT_FALSE(Current().Walk(pages.range(2, 1).begin)->dirty);
}

TEST_F(DirtyTest, ALimitOfRightsAndTrackingDoNotDisturbEachOther) {
  Pages pages(4);
  Track(pages.range());
  ASSERT_TRUE(Current().Protect(pages.range(1, 2), Rights::kRead).ok());
  EXPECT_EQ(WTERMSIG(StatusOfChild([&] { pages[1] = 1; })), SIGSEGV);
  pages[3] = 1;
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(3, 1)));
  ASSERT_TRUE(Current().Protect(pages.range(1, 2), Rights::kAll).ok());
  EXPECT_THAT(Harvest(pages.range()), IsEmpty());
  pages[1] = 1;
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(1, 1)));
}

TEST_F(DirtyTest, ALimitGivenBackForgetsNothingThatWasWritten) {
  Pages pages(4);
  Track(pages.range());
  pages[1] = 1;
  ASSERT_TRUE(Current().Protect(pages.range(1, 2), Rights::kRead).ok());
  ASSERT_TRUE(Current().Protect(pages.range(1, 2), Rights::kAll).ok());
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(1, 1)));
  pages[1] = 2;
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(1, 1)));
}

TEST_F(DirtyTest, ClaimsAndTrackingDoNotDisturbEachOther) {
  Pages pages(4);
  Track(pages.range(0, 2));
  ASSERT_TRUE(Current().Claim(pages.range()).ok());
  Track(pages.range(2, 2));
  for (const std::size_t page : {1, 2}) pages[page] = 1;
  ASSERT_TRUE(Current().Protect(pages.range(1, 1), Rights::kRead).ok());
  ASSERT_TRUE(Current().Disclaim(pages.range()).ok());
  ASSERT_TRUE(Current().Protect(pages.range(1, 1), Rights::kAll).ok());
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(1, 2)));
  pages[1] = 2;
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(1, 1)));
}

TEST_F(DirtyTest, ASystemCallsWriteIsToldOrFails) {
  Pages pages(2);
  Track(pages.range());
  const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  const ssize_t count = read(zero, pages.data(1), 10);
  const int error = errno;
  close(zero);
  if (GetCapabilities().dirty_system_calls) {
    EXPECT_EQ(count, 10);
    EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(1, 1)));
  } else if (CurrentBackend() == Backend::kRing0) {
    EXPECT_EQ(count, 10);  // by the kernel's own tables: not told
  } else {
    EXPECT_EQ(count, -1);
    EXPECT_EQ(error, EFAULT);
    EXPECT_THAT(Harvest(pages.range()), IsEmpty());
  }
}

// A writer counts each page up; who harvests sees a page's last value in the harvest after it was written, at the
// latest.
TEST_F(DirtyTest, NoWriteIsLostBetweenTwoHarvests) {
  constexpr std::size_t kCount = 64;
  constexpr unsigned kRounds = 400;
  Pages pages(kCount);
  const auto counter = [&](std::size_t page) {
    return std::atomic_ref<unsigned>(*reinterpret_cast<unsigned*>(pages.data(page)));
  };
  Track(pages.range());
  std::atomic<bool> is_over{false};
  std::thread writer([&] {
    for (unsigned round = 1; round <= kRounds; ++round) {
      for (std::size_t page = 0; page < kCount; ++page) counter(page).store(round);
    }
    is_over = true;
  });
  std::vector<unsigned> seen(kCount);
  const auto look = [&] {
    for (const Range& part : Harvest(pages.range())) {
      for (std::uintptr_t at = part.begin; at < part.end(); at += kPageSize) {
        const std::size_t page = (at - pages.range().begin) / kPageSize;
        seen[page] = counter(page).load();
      }
    }
  };
  while (!is_over) look();
  writer.join();
  look();
  EXPECT_EQ(seen, std::vector<unsigned>(kCount, kRounds));
}

TEST_F(DirtyTest, ThreadsWriteToTheSamePages) {
  Pages pages(64);
  Track(pages.range());
  std::array<std::thread, 4> threads;
  for (std::thread& thread : threads) {
    thread = std::thread([&] {
      for (std::size_t page = 0; page < 64; ++page) pages[page] = 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range()));
}

TEST_F(DirtyTest, AForkedChildTracksForItself) {
  Pages pages(8);
  Track(pages.range());
  pages[5] = 1;
  EXPECT_EQ(StatusOfChild([&] {
              // The first harvest may say more than was written; it says what was.
              bool is_told = false;
              for (const Range& part : Harvest(pages.range())) {
                is_told |= part.begin <= pages.range(5, 1).begin &&
                           pages.range(5, 1).end() <= part.end();
              }
              pages[1] = 1;
              const bool is_right =
                  is_told && Harvest(pages.range()) == std::vector<Range>{pages.range(1, 1)};
              _exit(is_right ? 0 : 1);
            }),
            0);
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(5, 1)));
}

TEST_F(DirtyTest, WhatIsWrittenAfterMemoryWasGivenUpIsTold) {
  Pages pages(4);
  for (std::size_t page = 0; page < 4; ++page) pages[page] = 1;
  Track(pages.range());
  ASSERT_EQ(madvise(pages.data(1), 2 * kPageSize, MADV_DONTNEED), 0);
  pages[1] = 1;
  // To give memory up changes it, and may be told as well.
  EXPECT_THAT(Harvest(pages.range()),
              AnyOf(ElementsAre(pages.range(1, 1)), ElementsAre(pages.range(1, 2))));
  pages[2] = 1;
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(2, 1)));
}

TEST_F(DirtyTest, VisitorsMayUseTheTablesOfOtherMemory) {
  Pages pages(2);
  Pages others(1);
  Track(pages.range());
  pages[0] = 1;
  int calls = 0;
  ASSERT_TRUE(Current()
                  .TestAndClearDirty(pages.range(),
                                     [&](Range) {
                                       ++calls;
                                       EXPECT_TRUE(
                                           Current().Protect(others.range(), Rights::kRead).ok());
                                     })
                  .ok());
  EXPECT_EQ(calls, 1);
}

TEST_F(DirtyTest, SharedMemoryIsTrackedToo) {
  const int file = memfd_create("shared", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(file, 4 * kPageSize), 0);
  Pages pages(4);
  ASSERT_NE(mmap(pages.data(), 4 * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
                 0),
            MAP_FAILED);
  close(file);
  Track(pages.range());
  pages[2] = 1;
  EXPECT_THAT(Harvest(pages.range()), ElementsAre(pages.range(2, 1)));
}

class AccessedTest : public Entered {};

TEST_F(AccessedTest, IsRefusedWhereItIsNoCapability) {
  if (GetCapabilities().accessed) GTEST_SKIP() << "it is one";
  Pages pages(1);
  EXPECT_TRUE(absl::IsUnimplemented(Current().Track(pages.range(), Tracking::kAccessed)));
  EXPECT_TRUE(
      absl::IsUnimplemented(Current().TestAndClearAccessed(pages.range(), [](Range) {})));
}

TEST_F(AccessedTest, ReadingIsToldOnce) {
  if (!GetCapabilities().accessed) GTEST_SKIP() << "no capability accessed";
  Pages pages(4);
  for (std::size_t page = 0; page < 4; ++page) pages[page] = 1;
  ASSERT_TRUE(Current().Track(pages.range(), Tracking::kAccessed).ok());
  [[maybe_unused]] const char value = pages[2];
  std::vector<Range> used;
  const auto note = [&](Range part) { used.push_back(part); };
  ASSERT_TRUE(Current().TestAndClearAccessed(pages.range(), note).ok());
  EXPECT_THAT(used, ElementsAre(pages.range(2, 1)));
  used.clear();
  ASSERT_TRUE(Current().TestAndClearAccessed(pages.range(), note).ok());
  EXPECT_THAT(used, IsEmpty());
}

// Of the thread's own: a handler that waited for what it has interrupted would wait for ever. Of it and of a fork, which takes
// the same locks.
TEST_F(DirtyTest, ASignalsHandlerMayWriteToTrackedPages) {
  constexpr unsigned kSeconds = 30;
  EXPECT_EQ(WEXITSTATUS(StatusOfChild([] {
              alarm(kSeconds);  // ends a child that waits for itself
              static Pages tracked(64), others(64);
              static std::atomic<int> handled;
              struct sigaction action {};
              action.sa_flags = SA_RESTART;
              action.sa_handler = [](int) { tracked[static_cast<std::size_t>(handled++) % 64] = 1; };
              sigaction(SIGVTALRM, &action, nullptr);
              EXPECT_TRUE(Current().Track(tracked.range(), Tracking::kDirty).ok());
              const itimerval often{{0, 100}, {0, 100}};
              setitimer(ITIMER_VIRTUAL, &often, nullptr);
              bool is_right = true;
              for (int round = 0; handled < 30 || round < 300; ++round) {
                is_right &= Current().Protect(others.range(), round % 2 == 0 ? Rights::kRead : Rights::kAll).ok();
                is_right &= Current().TestAndClearDirty(tracked.range(), [](Range) {}).ok();
                if (round % 100 == 0) is_right &= StatusOfChild([] {}) == 0;
              }
              _exit(is_right ? 42 : 1);
            })),
            42);
}

}  // namespace
}  // namespace dune::testing
