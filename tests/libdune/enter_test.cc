#include <atomic>
#include <thread>

#include "dune/trap.h"
#include "tests/libdune/entered.h"

namespace dune::testing {
namespace {

class EnterTest : public Entered {};

// Each case has a process of its own under ctest, but not when the program is run as a whole.
TEST(BeforeEnter, NothingIsToBeHad) {
  if (CurrentBackend() != Backend::kNone) GTEST_SKIP() << "another case has entered";
  EXPECT_FALSE(GetCapabilities().protect);
  EXPECT_EQ(GetCapabilities().trap_vectors, 0u);
  EXPECT_TRUE(absl::IsFailedPrecondition(Leave()));
  EXPECT_TRUE(absl::IsFailedPrecondition(SetPageFaultHandler(nullptr)));
  EXPECT_TRUE(absl::IsFailedPrecondition(PageTable::Current().Protect({}, Rights::kRead)));
  EXPECT_TRUE(
      absl::IsFailedPrecondition(PageTable::Create(PageTable::Contents::kEmpty).status()));
}

TEST(BeforeEnter, AFramePoolOutsideItsRangeIsRefused) {
  EnterOptions options = WantedOptions();
  options.frame_pool = 4096;
  EXPECT_TRUE(absl::IsInvalidArgument(Enter(options)));
  options.frame_pool = std::size_t{2} << 40;
  EXPECT_TRUE(absl::IsInvalidArgument(Enter(options)));
}

TEST_F(EnterTest, TheBackendIsTheOneAskedFor) {
  if (WantedOptions().backend == Wanted::kRing0) {
    EXPECT_EQ(CurrentBackend(), Backend::kRing0);
  } else if (WantedOptions().backend == Wanted::kSoftware) {
    EXPECT_EQ(CurrentBackend(), Backend::kSoftware);
  } else {
    EXPECT_NE(CurrentBackend(), Backend::kNone);
  }
}

TEST_F(EnterTest, AnotherBackendIsRefusedAfterTheFirst) {
  const Wanted other =
      CurrentBackend() == Backend::kSoftware ? Wanted::kRing0 : Wanted::kSoftware;
  EXPECT_TRUE(absl::IsFailedPrecondition(Enter({.backend = other})));
}

TEST_F(EnterTest, EnteringAgainDoesNothingMore) {
  EXPECT_TRUE(Enter(WantedOptions()).ok());
  EXPECT_TRUE(Leave().ok());
  EXPECT_EQ(CurrentBackend(), Backend::kNone);
}

TEST_F(EnterTest, AThreadLeavesOnceAndComesBack) {
  ASSERT_TRUE(Leave().ok());
  EXPECT_EQ(CurrentBackend(), Backend::kNone);
  EXPECT_TRUE(absl::IsFailedPrecondition(Leave()));
  ASSERT_TRUE(Enter(WantedOptions()).ok());
  EXPECT_NE(CurrentBackend(), Backend::kNone);
}

TEST_F(EnterTest, AThreadItMakesIsInAndMayLeaveAlone) {
  Backend in_thread = Backend::kNone;
  std::thread([&] {
    in_thread = CurrentBackend();
    EXPECT_TRUE(Leave().ok());
  }).join();
  EXPECT_EQ(in_thread, CurrentBackend());
  EXPECT_NE(CurrentBackend(), Backend::kNone);
}

TEST_F(EnterTest, AForkedChildIsIn) {
  const Backend backend = CurrentBackend();
  EXPECT_EQ(StatusOfChild([&] {
              Pages pages(1);
              const bool is_in = CurrentBackend() == backend &&
                                 PageTable::Current().Protect(pages.range(), Rights::kRead).ok();
              _exit(is_in ? 0 : 1);
            }),
            0);
}

TEST_F(EnterTest, ChildrenOfABusyProcessAreWhole) {
  std::atomic<bool> is_over{false};
  std::thread busy([&] {
    Pages pages(64);
    while (!is_over) {
      EXPECT_TRUE(PageTable::Current().Protect(pages.range(), Rights::kRead).ok());
      EXPECT_TRUE(PageTable::Current().Protect(pages.range(), Rights::kAll).ok());
    }
  });
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(StatusOfChild([] {
                Pages pages(1);
                alarm(20);  // a lock that nobody gives back
                _exit(PageTable::Current().Protect(pages.range(), Rights::kRead).ok() ? 0 : 1);
              }),
              0);
  }
  is_over = true;
  busy.join();
}

}  // namespace
}  // namespace dune::testing
