#include "hostcalls/memory/guest_memory.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "tests/fakes/guest_pages.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::uint64_t kLimit = hostcalls::Window::WholeProgram().limit;
constexpr std::uint64_t kLowest = 0x1'0000;
constexpr std::uint64_t kMost = ~std::uint64_t{0};
constexpr Errno kTooLong{ENAMETOOLONG};

// The host's handler, as small as it can be; a fault that is not a copy's ends the test.
void OnFault(int signal, siginfo_t*, void* raw) {
  auto& rip = static_cast<ucontext_t*>(raw)->uc_mcontext.gregs[REG_RIP];
  const std::uint64_t fixup = CopyFixupFor(static_cast<std::uint64_t>(rip));
  if (fixup == 0) {
    ::signal(signal, SIG_DFL);
    return;
  }
  rip = static_cast<greg_t>(fixup);
}

class GuestMemoryTest : public ::testing::Test {
 protected:
  GuestMemoryTest() {
    struct sigaction action = {};
    action.sa_sigaction = &OnFault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &old_segv_);
    sigaction(SIGBUS, &action, &old_bus_);
  }
  ~GuestMemoryTest() override {
    sigaction(SIGSEGV, &old_segv_, nullptr);
    sigaction(SIGBUS, &old_bus_, nullptr);
  }

  bool Reads(std::uint64_t from, std::size_t size) const {
    std::vector<std::byte> to(size);
    return memory_.Read(from, to);
  }
  bool Writes(std::uint64_t to, std::size_t size) const {
    return memory_.Write(to, std::vector<std::byte>(size));
  }

  const GuestMemory memory_{Window::WholeProgram()};
  fakes::GuestPages pages_{4};
  const std::uint64_t at_ = pages_.address();
  const std::uint64_t end_ = pages_.end();

 private:
  struct sigaction old_segv_, old_bus_;
};

TEST(GuestMemory, ContainsExactlyTheWindow) {
  const GuestMemory memory(Window::WholeProgram());
  struct Case {
    std::uint64_t address, size;
    bool inside;
  };
  const Case cases[] = {
      {kLowest, 1, true},
      {kLowest - 1, 1, false},
      {kLowest - 1, 2, false},
      {0, 1, false},
      {kLimit - 1, 1, true},
      {kLimit - 1, 2, false},
      {kLimit, 1, false},
      {kLowest, kLimit - kLowest, true},
      {kLowest, kLimit - kLowest + 1, false},
      // Sizes that would wrap around.
      {kLowest, kMost, false},
      {kLimit - 1, kMost, false},
      {kMost, 1, false},
      {kMost, kMost, false},
      {kLowest, kMost - kLowest + 1, false},
      {0x8000'0000'0000'0000, 0x8000'0000'0000'0000, false},
      // Nothing is inside wherever the kernel would accept the address.
      {0, 0, true},
      {kLimit, 0, true},
      {kLimit + 1, 0, false},
      {kMost, 0, false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(memory.Contains(c.address, c.size), c.inside)
        << std::hex << c.address << " " << c.size;
    EXPECT_EQ(memory.HostAddress(c.address, c.size) != nullptr || c.address == 0,
              c.inside || c.address == 0);
  }
  EXPECT_TRUE(memory.Contains({GuestVirt{kLowest}, GuestVirt{kLimit}}));
  EXPECT_FALSE(memory.Contains({GuestVirt{kLowest + 1}, GuestVirt{kLowest}}));  // upside down
}

TEST(GuestMemory, AWindowWithABaseMovesEveryAddress) {
  fakes::GuestPages pages(1);
  pages.At<std::uint32_t>(8) = 0x1234;
  const GuestMemory memory(Window{.base = pages.address(), .lowest = 0, .limit = kPageSize});
  const auto value = memory.CopyIn(GuestPtr<std::uint32_t>{8});
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(*value, 0x1234u);
  EXPECT_EQ(memory.GuestAddress(pages.host() + 8).value, 8u);
  EXPECT_FALSE(memory.CopyIn(GuestPtr<std::uint32_t>{kPageSize - 3}).ok());
  EXPECT_FALSE(memory.CopyIn(GuestPtr<std::uint32_t>{pages.address()}).ok());
}

TEST_F(GuestMemoryTest, CopiesThereAndBack) {
  std::array<std::uint64_t, 3> in = {1, 2, 3};
  ASSERT_TRUE(memory_.CopyOut(GuestPtr<decltype(in)>{at_ + 5}, in).ok());
  const auto out = memory_.CopyIn(GuestPtr<decltype(in)>{at_ + 5});
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(*out, in);
}

TEST_F(GuestMemoryTest, NoByteOutsideTheWindowIsEverTouched) {
  int ours = 7;
  const auto address = reinterpret_cast<std::uint64_t>(&ours);
  ASSERT_GE(address, kLimit) << "a test's stack lies in the runtime's half";
  EXPECT_FALSE(memory_.CopyIn(GuestPtr<int>{address}).ok());
  EXPECT_EQ(memory_.CopyOut(GuestPtr<int>{address}, 8).error(), EFAULT);
  EXPECT_FALSE(memory_.CopyInString(address, 16, kTooLong).ok());
  EXPECT_FALSE(memory_.Probe(address));
  EXPECT_EQ(ours, 7);
  for (const std::uint64_t bad : {std::uint64_t{0}, kLowest - 1, kLimit, kLimit - 3, kMost,
                                  kMost - 2, std::uint64_t{0xffff'ff80'0000'0000}}) {
    EXPECT_FALSE(Reads(bad, 4)) << std::hex << bad;
    EXPECT_FALSE(Writes(bad, 4)) << std::hex << bad;
  }
  EXPECT_TRUE(Reads(0, 0));
  EXPECT_TRUE(Writes(kMost, 0));
}

TEST_F(GuestMemoryTest, AFaultAtAnyByteOfACopyIsAnError) {
  for (std::size_t size : {1, 2, 7, 8, 64, 4096}) {
    EXPECT_TRUE(Reads(end_ - size, size));
    EXPECT_TRUE(Writes(end_ - size, size));
    for (std::size_t over = 1; over <= std::min<std::size_t>(size, 9); ++over) {
      EXPECT_FALSE(Reads(end_ - size + over, size));
      EXPECT_FALSE(Writes(end_ - size + over, size));
    }
    EXPECT_FALSE(Reads(at_ - 1, size));
    EXPECT_FALSE(Writes(at_ - size, size));
  }
}

TEST_F(GuestMemoryTest, AFailedReadHasCopiedThePrefix) {
  pages_.At<char>(4 * kPageSize - 2) = 'a';
  pages_.At<char>(4 * kPageSize - 1) = 'b';
  std::array<std::byte, 4> to{};
  EXPECT_FALSE(memory_.Read(end_ - 2, to));
  EXPECT_EQ(std::memcmp(to.data(), "ab\0\0", 4), 0);
  // Also when it ends in the middle of a word.
  std::array<std::byte, 24> more{};
  EXPECT_FALSE(memory_.Read(end_ - 11, more));
  EXPECT_EQ(std::memcmp(more.data() + 9, "ab\0", 3), 0);
}

TEST_F(GuestMemoryTest, AnAccessAtOnceIsMadeOrNot) {
  for (const std::size_t size : {1, 2, 4, 8}) {
    std::array<std::byte, 8> from, to{};
    from.fill(std::byte{0x55});
    for (const std::uint64_t at : {at_ + 3, at_ + kPageSize - 3, end_ - size}) {
      EXPECT_TRUE(memory_.WriteAtOnce(at, std::span(from).first(size)));
      EXPECT_TRUE(memory_.ReadAtOnce(at, std::span(to).first(size)));
      EXPECT_TRUE(std::equal(to.begin(), to.begin() + size, from.begin()));
    }
    std::memset(pages_.host(), 0, 4 * kPageSize);
    to.fill(std::byte{0});
    for (const std::uint64_t bad :
         {at_ - 2, end_ - size + 1, kLowest - 1, kLimit - 2, kMost - 1, std::uint64_t{0}}) {
      EXPECT_FALSE(memory_.WriteAtOnce(bad, std::span(from).first(size))) << std::hex << bad;
      EXPECT_FALSE(memory_.ReadAtOnce(bad, std::span(to).first(size))) << std::hex << bad;
    }
    const char* const end = reinterpret_cast<const char*>(end_);
    EXPECT_TRUE(std::all_of(end - size, end, [](char byte) { return byte == 0; }));
    EXPECT_EQ(to, (std::array<std::byte, 8>{}));
  }
}

TEST_F(GuestMemoryTest, AWordIsWrittenOrNot) {
  constexpr std::uint64_t kWord = 0x0123'4567'89ab'cdef;
  for (const std::uint64_t at : {at_ + 3, at_ + kPageSize - 3, end_ - sizeof(kWord)}) {
    EXPECT_TRUE(memory_.WriteWord(at, kWord));
    const auto seen = memory_.CopyIn(GuestPtr<std::uint64_t>{at});
    EXPECT_TRUE(seen.ok() && *seen == kWord);
  }
  std::memset(pages_.host(), 0, 4 * kPageSize);
  for (const std::uint64_t bad : {at_ - 2, end_ - 7, kLowest - 1, kLimit - 7, kMost - 1, std::uint64_t{0}}) {
    EXPECT_FALSE(memory_.WriteWord(bad, kWord)) << std::hex << bad;
  }
  const char* const end = reinterpret_cast<const char*>(end_);
  EXPECT_TRUE(std::all_of(end - sizeof(kWord), end, [](char byte) { return byte == 0; }));
}

TEST_F(GuestMemoryTest, ProtectionCounts) {
  ASSERT_EQ(mprotect(pages_.host() + kPageSize, kPageSize, PROT_READ), 0);
  ASSERT_EQ(mprotect(pages_.host() + 2 * kPageSize, kPageSize, PROT_NONE), 0);
  EXPECT_TRUE(Reads(at_ + kPageSize, 8));
  EXPECT_FALSE(Writes(at_ + kPageSize, 8));
  EXPECT_FALSE(Reads(at_ + 2 * kPageSize, 8));
  EXPECT_TRUE(memory_.Probe(at_ + kPageSize));
  EXPECT_FALSE(memory_.Probe(at_ + 2 * kPageSize));
  EXPECT_FALSE(memory_.Probe(end_));
}

TEST_F(GuestMemoryTest, MemoryPastTheEndOfAFileIsAnErrorToo) {
  const int file = memfd_create("test", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(file, 100), 0);
  ASSERT_NE(
      mmap(pages_.host(), 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0),
      MAP_FAILED);
  close(file);
  EXPECT_TRUE(Reads(at_, kPageSize));
  EXPECT_TRUE(memory_.Probe(at_));
  EXPECT_FALSE(memory_.Probe(at_ + kPageSize));  // SIGBUS, not SIGSEGV
  EXPECT_FALSE(Reads(at_ + kPageSize - 1, 2));
  EXPECT_FALSE(Writes(at_ + kPageSize, 1));
}

TEST_F(GuestMemoryTest, StringsEndAtTheirNul) {
  std::memcpy(pages_.host(), "hello", sizeof("hello"));
  auto text = memory_.CopyInString(at_, 4095, kTooLong);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "hello");
  auto empty = memory_.CopyInString(at_ + 5, 4095, kTooLong);
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(*empty, "");
}

TEST_F(GuestMemoryTest, StringsOfEveryLengthAroundTheLimits) {
  for (const std::size_t limit :
       {std::size_t{1}, std::size_t{255}, std::size_t{256}, std::size_t{257}, std::size_t{4095}}) {
    for (const std::size_t length : {limit - 1, limit, limit + 1, limit + 2}) {
      std::memset(pages_.host(), 'x', 3 * kPageSize);
      pages_.At<char>(length) = '\0';
      auto text = memory_.CopyInString(at_, limit, kTooLong);
      ASSERT_EQ(text.ok(), length <= limit) << limit << " " << length;
      if (text.ok()) {
        EXPECT_EQ(text->size(), length);
        EXPECT_EQ(text->find_first_not_of('x'), std::string::npos);
      } else {
        EXPECT_EQ(text.error().value, ENAMETOOLONG);
      }
    }
  }
}

TEST_F(GuestMemoryTest, AStringMayEndWithTheLastMappedByteButNotLater) {
  std::memset(pages_.host(), 'x', 4 * kPageSize);
  for (const std::size_t length : {0, 1, 100, 300, 5000}) {
    const std::uint64_t start = end_ - length - 1;
    pages_.At<char>(4 * kPageSize - 1) = '\0';
    auto text = memory_.CopyInString(start, 8000, kTooLong);
    ASSERT_TRUE(text.ok()) << length;
    EXPECT_EQ(text->size(), length);
    pages_.At<char>(4 * kPageSize - 1) = 'x';
    EXPECT_EQ(memory_.CopyInString(start, 8000, kTooLong).error().value, EFAULT) << length;
  }
  // The limit comes before the fault.
  EXPECT_EQ(memory_.CopyInString(end_ - 100, 50, kTooLong).error().value, ENAMETOOLONG);
}

TEST_F(GuestMemoryTest, AStringMayNotRunOutOfTheWindow) {
  // A window that ends in the middle of mapped memory.
  const GuestMemory small(Window{.base = 0, .lowest = at_, .limit = at_ + 100});
  std::memset(pages_.host(), 'x', kPageSize);
  EXPECT_EQ(small.CopyInString(at_, 4095, kTooLong).error().value, EFAULT);
  EXPECT_EQ(small.CopyInString(at_ + 99, 4095, kTooLong).error().value, EFAULT);
  EXPECT_EQ(small.CopyInString(at_ + 100, 4095, kTooLong).error().value, EFAULT);
  pages_.At<char>(99) = '\0';
  EXPECT_TRUE(small.CopyInString(at_, 4095, kTooLong).ok());
  pages_.At<char>(99) = 'x';
  pages_.At<char>(100) = '\0';
  EXPECT_EQ(small.CopyInString(at_, 4095, kTooLong).error().value, EFAULT);
}

TEST(CopyFixup, OnlyTheCopyRoutinesHaveOne) {
  EXPECT_EQ(CopyFixupFor(0), 0u);
  EXPECT_EQ(CopyFixupFor(reinterpret_cast<std::uint64_t>(&CopyFixupFor)), 0u);
  EXPECT_EQ(CopyFixupFor(kMost), 0u);
}

}  // namespace
}  // namespace dunebox::hostcalls
