#include <gmock/gmock.h>

#include <csignal>
#include <thread>

#include "tests/libdune/entered.h"

namespace dune::testing {
namespace {

PageTable& Current() { return PageTable::Current(); }

class ProtectTest : public Entered {
 protected:
  void SetUp() override {
    Entered::SetUp();
    if (!IsSkipped() && !GetCapabilities().protect) GTEST_SKIP() << "no capability protect";
  }
};

// Whether the access ends a child by SIGSEGV.
bool CanWrite(volatile char& byte) {
  return StatusOfChild([&] { byte = 1; }) == 0;
}
bool CanRead(volatile char& byte) {
  return StatusOfChild([&] { [[maybe_unused]] const char value = byte; }) == 0;
}

TEST_F(ProtectTest, RightsAreTakenAndGivenBack) {
  Pages pages(3);
  for (std::size_t page = 0; page < 3; ++page) pages[page] = 'x';
  ASSERT_TRUE(Current().Protect(pages.range(1, 1), Rights::kRead).ok());
  EXPECT_TRUE(CanWrite(pages[0]));
  EXPECT_FALSE(CanWrite(pages[1]));
  EXPECT_TRUE(CanRead(pages[1]));
  EXPECT_TRUE(CanWrite(pages[2]));
  ASSERT_TRUE(Current().Protect(pages.range(1, 1), Rights::kNone).ok());
  EXPECT_FALSE(CanRead(pages[1]));
  ASSERT_TRUE(Current().Protect(pages.range(1, 1), Rights::kAll).ok());
  EXPECT_TRUE(CanWrite(pages[1]));
  EXPECT_EQ(pages[1], 'x');
}

TEST_F(ProtectTest, ALimitNeverGivesMoreThanTheProcessGave) {
  Pages pages(2, PROT_READ);
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kReadWrite).ok());
  EXPECT_FALSE(CanWrite(pages[0]));
  ASSERT_TRUE(Current().Protect(pages.range(0, 1), Rights::kNone).ok());
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kAll).ok());
  EXPECT_TRUE(CanRead(pages[0]));
  EXPECT_FALSE(CanWrite(pages[0]));
}

TEST_F(ProtectTest, PagesOfDifferentRightsGetTheirOwnBack) {
  Pages pages(4);
  ASSERT_EQ(mprotect(pages.data(2), kPageSize, PROT_READ), 0);
  ASSERT_TRUE(Current().Protect(pages.range(1, 1), Rights::kRead).ok());
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kNone).ok());
  for (std::size_t page = 0; page < 4; ++page) EXPECT_FALSE(CanRead(pages[page]));
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kAll).ok());
  EXPECT_TRUE(CanWrite(pages[0]));
  EXPECT_TRUE(CanWrite(pages[1]));
  EXPECT_FALSE(CanWrite(pages[2]));
  EXPECT_TRUE(CanWrite(pages[3]));
}

TEST_F(ProtectTest, WhatIsGivenBackIsTheProgramsToChange) {
  Pages pages(1);
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kRead).ok());
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kAll).ok());
  ASSERT_EQ(mprotect(pages.data(), kPageSize, PROT_READ), 0);
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kReadWrite).ok());
  EXPECT_FALSE(CanWrite(pages[0]));
}

TEST_F(ProtectTest, WhatIsMappedAnewHasRightsOfItsOwn) {
  Pages pages(1, PROT_READ);
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kNone).ok());
  ASSERT_NE(mmap(pages.data(), kPageSize, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
            MAP_FAILED);
  EXPECT_TRUE(CanWrite(pages[0]));
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kRead).ok());
  EXPECT_FALSE(CanWrite(pages[0]));
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kAll).ok());
  EXPECT_TRUE(CanWrite(pages[0]));
}

TEST_F(ProtectTest, ClaimedPagesKeepTheirOwnRights) {
  Pages pages(4);
  ASSERT_EQ(mprotect(pages.data(2), kPageSize, PROT_READ), 0);
  ASSERT_TRUE(Current().Protect(pages.range(1, 1), Rights::kRead).ok());
  ASSERT_TRUE(Current().Claim(pages.range()).ok());
  EXPECT_FALSE(CanWrite(pages[1]));
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(Current().Protect(pages.range(), Rights::kNone).ok());
    for (std::size_t page = 0; page < 4; ++page) EXPECT_FALSE(CanRead(pages[page]));
    ASSERT_TRUE(Current().Protect(pages.range(), Rights::kAll).ok());
    EXPECT_TRUE(CanWrite(pages[1]));
    EXPECT_TRUE(CanRead(pages[2]));
    EXPECT_FALSE(CanWrite(pages[2]));
  }
}

TEST_F(ProtectTest, WhatIsDisclaimedIsTheProgramsToChange) {
  Pages pages(3);
  ASSERT_TRUE(Current().Claim(pages.range()).ok());
  ASSERT_TRUE(Current().Protect(pages.range(0, 2), Rights::kRead).ok());
  ASSERT_TRUE(Current().Protect(pages.range(1, 1), Rights::kAll).ok());
  ASSERT_TRUE(Current().Disclaim(pages.range()).ok());
  EXPECT_FALSE(CanWrite(pages[0]));  // still limited
  ASSERT_EQ(mprotect(pages.data(1), 2 * kPageSize, PROT_READ), 0);
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kNone).ok());
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kAll).ok());
  EXPECT_TRUE(CanWrite(pages[0]));
  EXPECT_FALSE(CanWrite(pages[1]));
  EXPECT_FALSE(CanWrite(pages[2]));
}

TEST_F(ProtectTest, AChildHasItsParentsClaims) {
  Pages pages(1);
  ASSERT_TRUE(Current().Claim(pages.range()).ok());
  EXPECT_EQ(StatusOfChild([&] {
              const bool is_ok = Current().Protect(pages.range(), Rights::kRead).ok() && !CanWrite(pages[0]) &&
                                 Current().Protect(pages.range(), Rights::kAll).ok();
              pages[0] = 1;
              _exit(is_ok ? 0 : 1);
            }),
            0);
  EXPECT_TRUE(CanWrite(pages[0]));
}

TEST_F(ProtectTest, AHoleCannotBeClaimed) {
  Pages pages(3);
  ASSERT_EQ(munmap(pages.data(1), kPageSize), 0);
  const absl::Status claimed = Current().Claim(pages.range());
  EXPECT_EQ(absl::IsNotFound(claimed), CurrentBackend() == Backend::kSoftware) << claimed;
  // Nothing of it is claimed: what is changed now is seen.
  ASSERT_EQ(mprotect(pages.data(0), kPageSize, PROT_READ), 0);
  ASSERT_TRUE(Current().Protect(pages.range(0, 1), Rights::kNone).ok());
  ASSERT_TRUE(Current().Protect(pages.range(0, 1), Rights::kAll).ok());
  EXPECT_FALSE(CanWrite(pages[0]));
}

TEST_F(ProtectTest, AHoleIsNotFoundAndNothingIsChanged) {
  Pages pages(3);
  pages[0] = 'x';
  ASSERT_EQ(munmap(pages.data(1), kPageSize), 0);
  EXPECT_TRUE(absl::IsNotFound(Current().Protect(pages.range(), Rights::kRead)));
  EXPECT_TRUE(CanWrite(pages[0]));
  EXPECT_TRUE(CanWrite(pages[2]));
}

TEST_F(ProtectTest, RangesAreOfWholePages) {
  Pages pages(2);
  const Range whole = pages.range();
  EXPECT_TRUE(absl::IsInvalidArgument(
      Current().Protect({whole.begin + 1, kPageSize}, Rights::kRead)));
  EXPECT_TRUE(absl::IsInvalidArgument(Current().Protect({whole.begin, 1}, Rights::kRead)));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Current().Protect({whole.begin, std::size_t{0} - kPageSize}, Rights::kRead)));
  EXPECT_TRUE(Current().Protect({whole.begin, 0}, Rights::kNone).ok());
}

TEST_F(ProtectTest, ThreadsProtectTheirOwnPagesAtOnce) {
  Pages pages(256);
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::size_t page = thread; page < 256; page += 4) {
        EXPECT_TRUE(Current().Protect(pages.range(page, 1), Rights::kNone).ok());
      }
      for (std::size_t page = thread; page < 256; page += 4) {
        EXPECT_TRUE(Current().Protect(pages.range(page, 1), Rights::kAll).ok());
        pages[page] = 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

class WalkTest : public Entered {};

TEST_F(WalkTest, SaysTheRightsThatAreInForce) {
  Pages pages(2);
  pages[1] = 1;
  ASSERT_TRUE(Current().Protect(pages.range(1, 1), Rights::kRead).ok());
  const absl::StatusOr<Mapping> found = Current().Walk(pages.range().begin + kPageSize + 5);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->page, pages.range(1, 1));
  EXPECT_EQ(found->memory, pages.range(1, 1).begin);
  EXPECT_EQ(found->rights, Rights::kRead);
  EXPECT_FALSE(found->copy_on_write);
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kAll).ok());
  EXPECT_EQ(Current().Walk(pages.range().begin + kPageSize)->rights, Rights::kReadWrite);
}

TEST_F(WalkTest, AHoleIsNotFound) {
  Pages pages(3);
  ASSERT_EQ(munmap(pages.data(1), kPageSize), 0);
  EXPECT_TRUE(absl::IsNotFound(Current().Walk(pages.range(1, 1).begin).status()));
}

TEST_F(WalkTest, AVisitGoesOverWhatIsMappedInOrder) {
  Pages pages(5);
  for (std::size_t page = 0; page < 5; ++page) pages[page] = 1;
  ASSERT_EQ(munmap(pages.data(2), kPageSize), 0);
  ASSERT_EQ(mprotect(pages.data(3), kPageSize, PROT_READ), 0);
  std::vector<Range> seen;
  std::vector<Rights> rights;
  ASSERT_TRUE(Current()
                  .Visit(pages.range(),
                         [&](const Mapping& mapping) {
                           seen.push_back(mapping.page);
                           rights.push_back(mapping.rights);
                         })
                  .ok());
  EXPECT_EQ(seen, (std::vector<Range>{pages.range(0, 1), pages.range(1, 1), pages.range(3, 1),
                                      pages.range(4, 1)}));
  EXPECT_EQ(rights, (std::vector<Rights>{Rights::kReadWrite, Rights::kReadWrite, Rights::kRead,
                                         Rights::kReadWrite}));
}

class TablesTest : public Entered {};

TEST_F(TablesTest, WhatIsNoCapabilityIsRefused) {
  if (GetCapabilities().separate_tables) GTEST_SKIP() << "it is one";
  EXPECT_TRUE(absl::IsUnimplemented(PageTable::Create(PageTable::Contents::kEmpty).status()));
  EXPECT_TRUE(absl::IsUnimplemented(Current().Clone(PageTable::Sharing::kCopyOnWrite).status()));
  EXPECT_EQ(Current().root() != 0, CurrentBackend() == Backend::kRing0);
}

// By ring 0: tests/libdune/ring0/dune_clone.cc.
TEST_F(TablesTest, ClonesOfTheProcessAreACapability) {
  volatile char mine = 3;
  const auto address = reinterpret_cast<std::uintptr_t>(&mine);
  char byte = 0;
  EXPECT_TRUE(absl::IsUnimplemented(Current().Read(&byte, address, 1)));
  for (const auto sharing :
       {PageTable::Sharing::kCopyOnWrite, PageTable::Sharing::kShare, PageTable::Sharing::kTemplate}) {
    const bool is_one = GetCapabilities().process_clones && sharing == PageTable::Sharing::kCopyOnWrite;
    const auto clone = Current().Clone(sharing);
    ASSERT_EQ(clone.status().code(), is_one ? absl::StatusCode::kOk : absl::StatusCode::kUnimplemented);
    if (!is_one) continue;
    mine = 4;
    EXPECT_TRUE(clone->Read(&byte, address, 1).ok());
    EXPECT_EQ(byte, 3);
  }
}

TEST_F(TablesTest, TheProcessesOwnIsNotMappedInto) {
  Pages pages(1);
  EXPECT_TRUE(absl::IsInvalidArgument(Current().Map(pages.range(), pages.data(), {})));
  EXPECT_TRUE(absl::IsInvalidArgument(Current().Unmap(pages.range())));
}

TEST_F(TablesTest, TheProcessesOwnIsActive) { EXPECT_TRUE(Current().Activate().ok()); }

}  // namespace
}  // namespace dune::testing
