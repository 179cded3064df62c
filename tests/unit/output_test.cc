#include "hostcalls/services/output_meter.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <thread>

#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::uint64_t kLimit = 1000;

// Descriptor 0 is one end of a socket pair, and so the output.
class OutputTest : public ServicesTest {
 protected:
  OutputTest() : input_(dup(0)) {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair_), 0);
    dup2(pair_[1], 0);
    const absl::StatusOr<int> file = OutputMeter::CreateFile(kLimit);
    EXPECT_TRUE(file.ok());
    absl::StatusOr<std::unique_ptr<OutputMeter>> meter = OutputMeter::Map(*file);
    EXPECT_TRUE(meter.ok());
    close(*file);
    meter_ = *std::move(meter);
    TestGuest::Get().limits.output = meter_.get();
  }
  ~OutputTest() override {
    TestGuest::Get().limits.output = nullptr;
    dup2(input_, 0);
    for (const int fd : {input_, pair_[0], pair_[1]}) close(fd);
  }
  // Writes and then goes on until it is stopped; false when it is not.
  template <typename Action>
  bool IsStopped(Action action) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(1);
      action();
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM && meter_->IsReached();
  }

  const int input_;
  int pair_[2] = {-1, -1};
  std::unique_ptr<OutputMeter> meter_;
  const std::uint64_t text_ = thread_.Allocate(4096);
};

TEST_F(OutputTest, WhatIsLeftIsWrittenAndThenNothing) {
  EXPECT_EQ(Call(SYS_write, 0, text_, 600), 600);
  EXPECT_EQ(Call(SYS_write, 0, text_, 600), 400);
  EXPECT_FALSE(meter_->IsReached());
  EXPECT_TRUE(IsStopped([&] { Call(SYS_write, 0, text_, 1); }));
}

TEST_F(OutputTest, AnotherDescriptorOfTheSameObjectCounts) {
  const std::int64_t copy = Call(SYS_dup, pair_[1]);
  EXPECT_EQ(Call(SYS_write, copy, text_, 999), 999);
  EXPECT_EQ(Call(SYS_write, 0, text_, 10), 1);
  close(static_cast<int>(copy));
}

TEST_F(OutputTest, OtherFilesDoNot) {
  const std::int64_t null = thread_.Open("/dev/null", O_WRONLY);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Call(SYS_write, null, text_, 4096), 4096);
  EXPECT_EQ(Call(SYS_write, 0, text_, 4096), std::int64_t{kLimit});
  close(static_cast<int>(null));
}

TEST_F(OutputTest, FailedWritesCostNothing) {
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Call(SYS_write, 0, kArenaEnd - 5, 600), -EFAULT);
  EXPECT_EQ(Call(SYS_write, 0, text_, 4096), std::int64_t{kLimit});
}

TEST_F(OutputTest, EveryWayToWriteCounts) {
  const iovec buffer{reinterpret_cast<void*>(text_), 100};
  const std::uint64_t buffers = thread_.Put(buffer);
  EXPECT_EQ(Call(SYS_writev, 0, buffers, 1), 100);
  EXPECT_EQ(Call(SYS_sendto, 0, text_, 100, 0, 0, 0), 100);
  msghdr header{};
  header.msg_iov = reinterpret_cast<iovec*>(buffers);
  header.msg_iovlen = 1;
  EXPECT_EQ(Call(SYS_sendmsg, 0, thread_.Put(header), 0), 100);
  EXPECT_EQ(Call(SYS_sendmmsg, 0, thread_.Put(mmsghdr{.msg_hdr = header, .msg_len = 0}), 1, 0), 1);
  const std::int64_t file = thread_.Open(MakeFile("f", std::string(200, 'x')), O_RDONLY);
  EXPECT_EQ(Call(SYS_sendfile, 0, file, 0, 100), 100);
  const std::uint64_t ends = thread_.Allocate(8);
  ASSERT_EQ(Call(SYS_pipe, ends), 0);
  const int from = TestThread::At<int>(ends), to = TestThread::At<int>(ends + 4);
  EXPECT_EQ(Call(SYS_write, to, text_, 100), 100);
  EXPECT_EQ(Call(SYS_splice, from, 0, 0, 0, 100, 0), 100);
  for (const int fd : {static_cast<int>(file), from, to}) close(fd);
  EXPECT_EQ(Call(SYS_write, 0, text_, 4096), std::int64_t{kLimit - 600});
}

TEST_F(OutputTest, BuffersAreWrittenWholeOrNotAtAll) {
  const iovec buffer{reinterpret_cast<void*>(text_), 4000};
  const std::uint64_t buffers = thread_.Put(buffer);
  EXPECT_TRUE(IsStopped([&] { Call(SYS_writev, 0, buffers, 1); }));
}

// A sibling makes the number mean the output for as long as the call takes.
TEST_F(OutputTest, AChangingNumberIsNoWayAroundTheLimit) {
  const std::uint64_t piece = 10;
  EXPECT_TRUE(IsStopped([&] {
    alarm(20);
    const int null = open("/dev/null", O_WRONLY);
    const std::int64_t fd = Call(SYS_dup, null);
    std::thread flipper([&] {
      TestThread sibling(1);
      for (;;) {
        sibling.Call(SYS_dup2, pair_[1], fd);
        sibling.Call(SYS_dup2, null, fd);
      }
    });
    std::thread clock([&] {
      while (!meter_->IsReached()) usleep(1000);
      usleep(100'000);
      raise(SIGALRM);
    });
    for (;;) Call(SYS_write, fd, text_, piece);
  }));
  std::string received(1 << 16, '\0');
  const ssize_t size = recv(pair_[0], received.data(), received.size(), MSG_DONTWAIT);
  EXPECT_LE(size, static_cast<ssize_t>(kLimit + piece));
}

}  // namespace
}  // namespace dunebox::hostcalls
