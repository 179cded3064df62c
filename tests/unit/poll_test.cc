// poll, select and results that look like errors.
#include <poll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <array>

#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

class PollTest : public ServicesTest {};

TEST_F(PollTest, ARuntimesDescriptorIsNotOpen) {
  const std::array<pollfd, 3> entries{
      {{FirstReserved(), POLLIN, 0x55}, {-1, POLLIN, 0x55}, {FirstReserved() + 1, POLLIN, 0x55}}};
  const std::uint64_t at = thread_.Put(entries);
  EXPECT_EQ(Call(SYS_poll, at, entries.size(), -1), 2);
  const auto& after = TestThread::At<std::array<pollfd, 3>>(at);
  EXPECT_EQ(after[0].revents, POLLNVAL);
  EXPECT_EQ(after[0].fd, FirstReserved());
  EXPECT_EQ(after[1].revents, 0);
  EXPECT_EQ(after[2].revents, POLLNVAL);
}

TEST_F(PollTest, ThePollOfOwnDescriptorsIsTheKernels) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const std::array<pollfd, 2> entries{{{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}}};
  const std::uint64_t at = thread_.Put(entries);
  EXPECT_EQ(Call(SYS_poll, at, 2, 0), 1);
  EXPECT_EQ((TestThread::At<std::array<pollfd, 2>>(at)[1].revents), POLLOUT);
  close(ends[1]);
  EXPECT_EQ(Call(SYS_poll, at, 1, -1), 1);
  EXPECT_EQ((TestThread::At<std::array<pollfd, 2>>(at)[0].revents), POLLHUP);
  close(ends[0]);
  EXPECT_EQ(Call(SYS_poll, 0, 0, 0), 0);
  EXPECT_EQ(Call(SYS_poll, RuntimeAddress(), 1, 0), -EFAULT);
  EXPECT_EQ(Call(SYS_poll, at, 0xffff'ffff, 0), -EINVAL);
  EXPECT_EQ(Call(SYS_poll, kArena, FirstReserved() + 1, 0), -EINVAL);
}

TEST_F(PollTest, SelectOfARuntimesDescriptorIsABadDescriptor) {
  std::array<unsigned char, 2048> set{};
  const std::uint64_t now = thread_.Put(timeval{});
  const int first = FirstReserved();
  for (const int fd : {first, first + 1, first + 100}) {
    set = {};
    set[static_cast<std::size_t>(fd) / 8] = static_cast<unsigned char>(1 << (fd % 8));
    for (int position = 1; position <= 3; ++position) {
      std::array<std::uint64_t, 4> sets{};
      sets[static_cast<std::size_t>(position)] = thread_.Put(set);
      EXPECT_EQ(Call(SYS_select, fd + 1, sets[1], sets[2], sets[3], now), -EBADF);
      EXPECT_EQ(Call(SYS_select, fd, sets[1], sets[2], sets[3], now), 0);
    }
  }
  EXPECT_EQ(Call(SYS_select, first + 1, kArenaEnd - 8, 0, 0, now), -EFAULT);
}

// F_GETOWN gives the negated number of a process group, whatever that number is.
TEST(SyscallResult, EveryNumberOfTheKernelsIsANumber) {
  for (std::int64_t raw = -4095; raw < 0; ++raw) {
    const SyscallResult result = SyscallResult::FromKernel(raw);
    EXPECT_FALSE(result.is_restart() || result.is_registers_set()) << raw;
    EXPECT_EQ(result.value(), raw);
  }
  EXPECT_TRUE(SyscallResult::Restart().is_restart());
  EXPECT_FALSE(SyscallResult::Restart().ok());
  EXPECT_TRUE(SyscallResult(ErrorOf(SyscallResult::Restart())).is_restart());
  EXPECT_TRUE(SyscallResult::RegistersSet().is_registers_set());
  EXPECT_FALSE(SyscallResult::RegistersSet().ok());
}

}  // namespace
}  // namespace dunebox::hostcalls
