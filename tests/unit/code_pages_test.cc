// Which pages of code are watched, and which are left to blocks that check themselves.
#include "runtime/jit/code_pages.h"

#include <gtest/gtest.h>

#include "tests/fakes/guest_pages.h"

namespace dunebox::runtime {
namespace {

constexpr CodePages::Nanoseconds kMicrosecond = 1000, kMillisecond = 1000 * kMicrosecond;

CodePages::Nanoseconds the_time = 0;
CodePages::Nanoseconds TheTime() { return the_time; }

class CodePagesTest : public testing::Test {
 protected:
  GuestVirt Page(unsigned number) const { return GuestVirt{pages_.address() + number * kPageSize}; }
  bool Watches(unsigned page) { return code_.Protect(Page(page)) != CodePages::Watch::kNone; }
  // A store comes so long after the page was watched. False: it is not watched.
  bool StoreAfter(CodePages::Nanoseconds time, unsigned page = 0) {
    if (!Watches(page)) return false;
    the_time += time;
    return code_.Unprotect({Page(page), Page(page) + 1});
  }
  // Stores one behind the other until blocks check themselves.
  void StoreUntilChecked(unsigned page = 0) {
    unsigned stores = 0;
    while (StoreAfter(60 * kMicrosecond, page)) ASSERT_LT(++stores, 100U);
  }
  // How long they do.
  CodePages::Nanoseconds Term() {
    CodePages::Nanoseconds term = 0;
    for (; !Watches(0) && term < 60'000 * kMillisecond; term += kMillisecond) the_time += kMillisecond;
    return term;
  }

  const hostcalls::GuestMemory memory_{hostcalls::Window::WholeProgram()};
  const fakes::GuestPages pages_{64};
  CodePages code_{memory_, &TheTime};
};

TEST_F(CodePagesTest, StoresSomeTimesASecondAreAlwaysSeen) {
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(StoreAfter(20 * kMillisecond)) << i;
}

TEST_F(CodePagesTest, FewStoresInAHurryAreSeen) {
  for (int burst = 0; burst < 100; ++burst) {
    for (int i = 0; i < 7; ++i) ASSERT_TRUE(StoreAfter(60 * kMicrosecond)) << burst;
    the_time += 10 * kMillisecond;
  }
}

TEST_F(CodePagesTest, ManyStoresInAHurryMakeBlocksCheckThemselvesForAWhile) {
  StoreUntilChecked();
  EXPECT_FALSE(code_.IsProtected(Page(0)));
  EXPECT_TRUE(Watches(1));
  EXPECT_GT(Term(), 10 * kMillisecond);
  EXPECT_TRUE(code_.IsProtected(Page(0)));
}

TEST_F(CodePagesTest, TheWhileIsLongerEachTimeThatItWasTooShort) {
  StoreUntilChecked();
  CodePages::Nanoseconds term = Term();
  for (int i = 0; i < 3; ++i) {
    StoreUntilChecked();
    const CodePages::Nanoseconds next = Term();
    EXPECT_GT(next, term + term / 2);
    term = next;
  }
  // It was not, and so it begins anew.
  the_time += 10 * term;
  StoreUntilChecked();
  EXPECT_LT(Term(), term / 2);
}

// Each is stored into once in so many milliseconds, which seldom is: but there is no time left beside them.
TEST_F(CodePagesTest, ManyPagesThatTakeAllTheTimeAreStoredIntoOften) {
  unsigned watched = 0;
  for (int round = 0; round < 100; ++round) {
    for (unsigned page = 0; page < 64; ++page) watched += StoreAfter(50 * kMicrosecond, page) ? 1 : 0;
  }
  EXPECT_LT(watched, 64U * 20);
}

TEST_F(CodePagesTest, ANewMappingIsWatchedAgain) {
  StoreUntilChecked();
  code_.Forget({Page(0), Page(1)});
  EXPECT_TRUE(Watches(0));
}

}  // namespace
}  // namespace dunebox::runtime
