#include "hostcalls/services/messages.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

// cmsghdr without the flexible array that ends it.
struct ControlHeader {
  std::size_t length;
  int level;
  int type;
};
static_assert(sizeof(ControlHeader) == sizeof(cmsghdr));

class MessagesTest : public ServicesTest {
 protected:
  MessagesTest() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair_), 0); }
  ~MessagesTest() override {
    close(pair_[0]);
    close(pair_[1]);
  }

  // A header in guest memory with one buffer.
  std::uint64_t PutMessage(std::uint64_t buffer, std::size_t size, std::uint64_t control = 0,
                           std::size_t control_size = 0) {
    msghdr header{};
    header.msg_iov = reinterpret_cast<iovec*>(thread_.Put(iovec{Pointer(buffer), size}));
    header.msg_iovlen = 1;
    header.msg_control = Pointer(control);
    header.msg_controllen = control_size;
    return thread_.Put(header);
  }
  std::uint64_t PutRights(int fd) {
    struct {
      ControlHeader header;
      int fd;
      int padding;
    } control{{CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}, fd, 0};
    static_assert(sizeof(control) == kRightsSize);
    return thread_.Put(control);
  }
  static void* Pointer(std::uint64_t address) { return reinterpret_cast<void*>(address); }

  static constexpr std::size_t kRightsSize = 24;
  int pair_[2] = {-1, -1};
};

TEST_F(MessagesTest, SendingDescriptorsWaitsForRoom) {
  const std::uint64_t byte = thread_.PutString("x");
  const std::uint64_t message = PutMessage(byte, 1, PutRights(0), kRightsSize);
  int sent = 0;
  while (Call(SYS_sendmsg, pair_[0], message, MSG_DONTWAIT) == 1) ++sent;
  EXPECT_EQ(Call(SYS_sendmsg, pair_[0], message, MSG_DONTWAIT), -EAGAIN);
  const timeval timeout{.tv_sec = 0, .tv_usec = 20'000};
  ASSERT_EQ(setsockopt(pair_[0], SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)), 0);
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(Call(SYS_sendmsg, pair_[0], message, 0), -EAGAIN);
  EXPECT_GE(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(20));
  const timeval forever{};
  ASSERT_EQ(setsockopt(pair_[0], SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever)), 0);
  std::thread reader([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    char buffer = 0;
    for (int i = 0; i <= sent; ++i) EXPECT_EQ(recv(pair_[1], &buffer, 1, 0), 1);
  });
  EXPECT_EQ(Call(SYS_sendmsg, pair_[0], message, 0), 1);
  reader.join();
}

TEST_F(MessagesTest, DataAndDescriptorsGoThrough) {
  const std::uint64_t text = thread_.PutString("hello");
  EXPECT_EQ(Call(SYS_sendmsg, pair_[0], PutMessage(text, 5, PutRights(0), kRightsSize), 0), 5);
  const std::uint64_t buffer = thread_.Allocate(16);
  const std::uint64_t control = thread_.Allocate(64);
  const std::uint64_t message = PutMessage(buffer, 16, control, 64);
  EXPECT_EQ(Call(SYS_recvmsg, pair_[1], message, MSG_CMSG_CLOEXEC), 5);
  EXPECT_EQ(std::string(&TestThread::At<char>(buffer), 5), "hello");
  const auto& header = TestThread::At<msghdr>(message);
  EXPECT_EQ(header.msg_controllen, kRightsSize);
  EXPECT_EQ(header.msg_flags, MSG_CMSG_CLOEXEC);
  EXPECT_EQ(header.msg_control, Pointer(control));
  const int received = TestThread::At<int>(control + 16);
  EXPECT_EQ(fcntl(received, F_GETFD), FD_CLOEXEC);
  close(received);
}

TEST_F(MessagesTest, WithoutAPlaceForControlDataTheRestArrives) {
  const std::uint64_t text = thread_.PutString("hello");
  EXPECT_EQ(Call(SYS_sendmsg, pair_[0], PutMessage(text, 5, PutRights(0), kRightsSize), 0), 5);
  const std::uint64_t message = PutMessage(thread_.Allocate(16), 16, 0, 64);
  EXPECT_EQ(Call(SYS_recvmsg, pair_[1], message, 0), 5);
  EXPECT_EQ(TestThread::At<msghdr>(message).msg_controllen, 0u);
  EXPECT_EQ(TestThread::At<msghdr>(message).msg_flags, MSG_CTRUNC);
}

TEST_F(MessagesTest, ReservedDescriptorsAreNotSent) {
  const std::uint64_t text = thread_.PutString("x");
  for (const int fd : {FirstReserved(), FirstReserved() + 1, FirstReserved() + 1000}) {
    EXPECT_EQ(Call(SYS_sendmsg, pair_[0], PutMessage(text, 1, PutRights(fd), kRightsSize), 0),
              -EBADF);
  }
}

TEST(Control, IsTakenApartAsTheKernelDoes) {
  constexpr ReservedDescriptors kRange{.first = 100, .count = 10};
  struct Two {
    ControlHeader first;
    int first_fds[3];
    int padding;
    ControlHeader second;
    int second_fds[2];
  };
  const auto check = [&](int a, int b, int c, int d) {
    const Two control{{CMSG_LEN(12), SOL_SOCKET, SCM_RIGHTS},
                      {a, b, c},
                      100,
                      {CMSG_LEN(8), SOL_SOCKET, SCM_RIGHTS},
                      {d, 1}};
    return CheckControl(std::as_bytes(std::span(&control, 1)), kRange).error();
  };
  EXPECT_EQ(check(1, 2, 3, 4), 0);
  EXPECT_EQ(check(1, 2, 109, 4), EBADF);
  EXPECT_EQ(check(100, 2, 3, 4), EBADF);
  EXPECT_EQ(check(1, 2, 3, 105), EBADF);
  EXPECT_EQ(check(110, 99, 3, 4), 0);
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{15}, std::size_t{17}, ~std::size_t{0}}) {
    const ControlHeader control{length, SOL_SOCKET, SCM_RIGHTS};
    EXPECT_EQ(CheckControl(std::as_bytes(std::span(&control, 1)), kRange).error(), EINVAL);
  }
  const ControlHeader addresses{sizeof(cmsghdr), 276, 1};
  EXPECT_EQ(CheckControl(std::as_bytes(std::span(&addresses, 1)), kRange).error(), EINVAL);
  EXPECT_TRUE(CheckControl({}, kRange).ok());
}

TEST_F(MessagesTest, HostileHeadersChangeNothing) {
  const std::uint64_t text = thread_.PutString("x");
  for (const std::uint64_t hostile :
       {RuntimeAddress(), ~std::uint64_t{0} - 7, std::uint64_t{0x3fff'ffff'fff0}}) {
    EXPECT_EQ(Call(SYS_sendmsg, pair_[0], hostile, 0), -EFAULT);
    EXPECT_EQ(Call(SYS_recvmsg, pair_[1], hostile, MSG_DONTWAIT), -EFAULT);
    EXPECT_EQ(Call(SYS_sendmsg, pair_[0], PutMessage(hostile, 64), 0), -EFAULT);
    EXPECT_EQ(Call(SYS_recvmsg, pair_[1], PutMessage(hostile, 64), MSG_DONTWAIT), -EFAULT);
    EXPECT_EQ(Call(SYS_sendmsg, pair_[0], PutMessage(text, 1, hostile, 64), 0), -EFAULT);
    EXPECT_EQ(Call(SYS_recvmsg, pair_[1], PutMessage(text, 1, hostile, 64), MSG_DONTWAIT), -EFAULT);
    const std::uint64_t named = PutMessage(text, 1);
    TestThread::At<msghdr>(named).msg_name = Pointer(hostile);
    TestThread::At<msghdr>(named).msg_namelen = 64;
    EXPECT_EQ(Call(SYS_sendmsg, pair_[0], named, 0), -EFAULT);
    EXPECT_EQ(Call(SYS_recvmsg, pair_[1], named, MSG_DONTWAIT), -EFAULT);
  }
  const std::uint64_t many = PutMessage(text, 1);
  TestThread::At<msghdr>(many).msg_iovlen = 1025;
  EXPECT_EQ(Call(SYS_sendmsg, pair_[0], many, 0), -EMSGSIZE);
  EXPECT_EQ(Call(SYS_sendmsg, pair_[0], PutMessage(text, 1, kArena, 1ULL << 40), 0), -ENOBUFS);
  EXPECT_EQ(Call(SYS_sendmsg, pair_[0], PutMessage(text, ~std::uint64_t{0}), 0), -EINVAL);
  char byte = 0;
  EXPECT_EQ(recv(pair_[1], &byte, 1, MSG_DONTWAIT), -1);  // nothing was sent
}

TEST_F(MessagesTest, AFlippingControlNeverSendsAReservedDescriptor) {
  const std::uint64_t text = thread_.PutString("x");
  const std::uint64_t control = PutRights(0);
  const std::uint64_t message = PutMessage(text, 1, control, kRightsSize);
  std::atomic<bool> stop = false;
  std::thread flipper([&] {
    auto& fd = TestThread::At<std::atomic<int>>(control + 16);
    while (!stop) fd = fd == 0 ? FirstReserved() : 0;
  });
  struct stat root {};
  ASSERT_EQ(fstat(FirstReserved(), &root), 0);
  for (int round = 0; round < 20'000; ++round) {
    if (Call(SYS_sendmsg, pair_[0], message, 0) != 1) continue;
    alignas(cmsghdr) char received[kRightsSize];
    char byte = 0;
    iovec buffer{&byte, 1};
    msghdr header{.msg_iov = &buffer,
                  .msg_iovlen = 1,
                  .msg_control = received,
                  .msg_controllen = sizeof(received)};
    ASSERT_EQ(recvmsg(pair_[1], &header, 0), 1);
    int fd = -1;
    std::memcpy(&fd, received + 16, sizeof(fd));
    struct stat status {};
    fstat(fd, &status);
    ASSERT_FALSE(status.st_ino == root.st_ino && status.st_dev == root.st_dev) << round;
    close(fd);
  }
  stop = true;
  flipper.join();
}

TEST_F(MessagesTest, SeveralAtOnce) {
  mmsghdr out[3] = {};
  for (int i = 0; i < 3; ++i) {
    out[i].msg_hdr = TestThread::At<msghdr>(PutMessage(thread_.PutString("abc"), i + 1));
  }
  const std::uint64_t vector = thread_.Put(out);
  EXPECT_EQ(Call(SYS_sendmmsg, pair_[0], vector, 3, 0), 3);
  EXPECT_EQ(TestThread::At<mmsghdr>(vector + 2 * sizeof(mmsghdr)).msg_len, 3u);
  mmsghdr in[4] = {};
  for (mmsghdr& message : in) {
    message.msg_hdr = TestThread::At<msghdr>(PutMessage(thread_.Allocate(16), 16));
  }
  const std::uint64_t received = thread_.Put(in);
  const std::uint64_t timeout = thread_.Put(timespec{1, 0});
  EXPECT_EQ(Call(SYS_recvmmsg, pair_[1], received, 4, MSG_DONTWAIT, timeout), 3);
  EXPECT_EQ(TestThread::At<mmsghdr>(received + sizeof(mmsghdr)).msg_len, 2u);
  EXPECT_EQ(Call(SYS_recvmmsg, pair_[1], received, 4, MSG_DONTWAIT, 0), -EAGAIN);
  EXPECT_EQ(Call(SYS_recvmmsg, pair_[1], received, 4, 0, RuntimeAddress()), -EFAULT);
}

TEST_F(MessagesTest, TheMessagesBeforeABadOneAreSent) {
  mmsghdr out[2] = {};
  out[0].msg_hdr = TestThread::At<msghdr>(PutMessage(thread_.PutString("a"), 1));
  out[1].msg_hdr = TestThread::At<msghdr>(
      PutMessage(thread_.PutString("b"), 1, PutRights(FirstReserved()), kRightsSize));
  EXPECT_EQ(Call(SYS_sendmmsg, pair_[0], thread_.Put(out), 2, 0), 1);
  EXPECT_EQ(Call(SYS_sendmmsg, pair_[0], thread_.Put(out[1]), 1, 0), -EBADF);
}

// ---- Options ------------------------------------------------------------------------------------

TEST_F(MessagesTest, OptionsAreSetAndRead) {
  const std::uint64_t value = thread_.Put(1);
  EXPECT_EQ(Call(SYS_setsockopt, pair_[0], SOL_SOCKET, SO_PASSCRED, value, 4), 0);
  TestThread::At<int>(value) = 0;
  const std::uint64_t length = thread_.Put(4);
  EXPECT_EQ(Call(SYS_getsockopt, pair_[0], SOL_SOCKET, SO_PASSCRED, value, length), 0);
  EXPECT_EQ(TestThread::At<int>(value), 1);
  const std::uint64_t large = thread_.Put(1000);
  EXPECT_EQ(Call(SYS_getsockopt, pair_[0], SOL_SOCKET, SO_TYPE, thread_.Allocate(1000), large), 0);
  EXPECT_EQ(TestThread::At<int>(large), 4);
  EXPECT_EQ(Call(SYS_setsockopt, pair_[0], SOL_SOCKET, SO_PASSCRED, value, -1), -EINVAL);
  EXPECT_EQ(Call(SYS_setsockopt, 999, SOL_SOCKET, SO_PASSCRED, value, 4), -EBADF);
}

TEST_F(MessagesTest, OptionsWithPointersInsideAreRefused) {
  const int tcp = socket(AF_INET, SOCK_STREAM, 0);
  const std::uint64_t value = thread_.Allocate(256);
  const std::uint64_t length = thread_.Put(64);
  const std::pair<int, int> refused[] = {{SOL_SOCKET, SO_ATTACH_FILTER},
                                         {SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF},
                                         {IPPROTO_TCP, 35},
                                         {IPPROTO_TCP, 41},
                                         {IPPROTO_IP, 64},
                                         {IPPROTO_IPV6, 64},
                                         {276, 1},
                                         {283, 1},
                                         {132, 1},
                                         {0x7fffffff, 1}};
  for (const auto& [level, option] : refused) {
    EXPECT_EQ(Call(SYS_setsockopt, tcp, level, option, value, 64), -ENOPROTOOPT);
    EXPECT_EQ(Call(SYS_getsockopt, tcp, level, option, value, length), -ENOPROTOOPT);
  }
  close(tcp);
}

TEST_F(MessagesTest, HostileOptionBuffersFault) {
  const std::uint64_t length = thread_.Put(64);
  for (const std::uint64_t hostile :
       {RuntimeAddress(), ~std::uint64_t{0} - 7, std::uint64_t{0x3fff'ffff'fff0}}) {
    EXPECT_EQ(Call(SYS_setsockopt, pair_[0], SOL_SOCKET, SO_RCVBUF, hostile, 64), -EFAULT);
    EXPECT_EQ(Call(SYS_getsockopt, pair_[0], SOL_SOCKET, SO_RCVBUF, hostile, length), -EFAULT);
    EXPECT_EQ(Call(SYS_getsockopt, pair_[0], SOL_SOCKET, SO_RCVBUF, kArena, hostile), -EFAULT);
  }
  TestThread::At<int>(length) = -1;
  EXPECT_EQ(Call(SYS_getsockopt, pair_[0], SOL_SOCKET, SO_RCVBUF, kArena, length), -EINVAL);
}

}  // namespace
}  // namespace dunebox::hostcalls
