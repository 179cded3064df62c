#include <linux/fs.h>
#include <net/if.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>

#include <random>

#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

class IoctlTest : public ServicesTest {
 protected:
  IoctlTest() { EXPECT_EQ(openpty(&master_, &slave_, nullptr, nullptr, nullptr), 0); }
  ~IoctlTest() override {
    close(master_);
    close(slave_);
  }
  int master_ = -1;
  int slave_ = -1;
};

TEST_F(IoctlTest, TerminalsWork) {
  const std::uint64_t size = thread_.Put(winsize{.ws_row = 30, .ws_col = 90});
  EXPECT_EQ(Call(SYS_ioctl, slave_, TIOCSWINSZ, size), 0);
  winsize got{};
  ioctl(master_, TIOCGWINSZ, &got);
  EXPECT_EQ(got.ws_col, 90);
  const std::uint64_t settings = thread_.Allocate(64);
  EXPECT_EQ(Call(SYS_ioctl, slave_, TCGETS, settings), 0);
  TestThread::At<std::uint32_t>(settings + 12) &= ~static_cast<std::uint32_t>(ECHO);  // c_lflag
  EXPECT_EQ(Call(SYS_ioctl, slave_, TCSETS, settings), 0);
  termios native{};
  tcgetattr(slave_, &native);
  EXPECT_EQ(native.c_lflag & ECHO, 0u);
  EXPECT_EQ(Call(SYS_ioctl, 0x7fffffff, TCGETS, settings), -EBADF);
  const std::int64_t peer = Call(SYS_ioctl, master_, 0x5441 /* TIOCGPTPEER */, O_RDWR | O_NOCTTY);
  EXPECT_GE(peer, 0);
  close(static_cast<int>(peer));
}

TEST_F(IoctlTest, PowerOverTheTerminalIsRefused) {
  const std::uint64_t byte = thread_.Put('x');
  for (const unsigned request : {0x5412u, 0x541cu, 0x541du, 0x5423u}) {
    EXPECT_EQ(Call(SYS_ioctl, slave_, request, byte), -EPERM);
    EXPECT_EQ(Call(SYS_ioctl, slave_, 0xdead'0000'0000ULL | request, byte), -EPERM);
  }
}

TEST_F(IoctlTest, UnknownRequestsNeverReachTheHost) {
  std::mt19937 random(20'26);
  const std::uint64_t argument = thread_.Put(0);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint32_t request = random();
    const std::int64_t result = Call(SYS_ioctl, slave_, request, argument);
    ASSERT_EQ(result, -ENOTTY) << std::hex << request;
  }
  for (const unsigned request : {0xae80u /* KVM_RUN */, 0x5430u, 0x89f0u, 0x8946u, 0u, 1u}) {
    EXPECT_EQ(Call(SYS_ioctl, slave_, request, argument), -ENOTTY);
  }
  EXPECT_EQ(Call(SYS_ioctl, 999, 0xae80, argument), -EBADF);
}

TEST_F(IoctlTest, HostileAddressesFault) {
  for (const std::uint64_t hostile :
       {RuntimeAddress(), kArenaEnd, kArenaEnd - 4, ~std::uint64_t{0} - 3,
        std::uint64_t{0x8000'0000'0000'0000}}) {
    EXPECT_EQ(Call(SYS_ioctl, slave_, TIOCGWINSZ, hostile), -EFAULT);
    EXPECT_EQ(Call(SYS_ioctl, slave_, TIOCSWINSZ, hostile), -EFAULT);
    EXPECT_EQ(Call(SYS_ioctl, slave_, TCGETS, hostile), -EFAULT);
  }
}

TEST_F(IoctlTest, TheContextIdOfVirtualSocketsIsTold) {
  constexpr unsigned kGetLocalCid = 0x7b9;
  const int device = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
  if (device < 0) GTEST_SKIP() << "no /dev/vsock that can be opened";
  unsigned native = 0;
  ASSERT_EQ(ioctl(device, kGetLocalCid, &native), 0);
  const std::uint64_t told = thread_.Put(~native);
  EXPECT_EQ(Call(SYS_ioctl, device, kGetLocalCid, told), 0);
  EXPECT_EQ(TestThread::At<unsigned>(told), native);
  close(device);
}

TEST_F(IoctlTest, FilesAndPipesAnswer) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(write(ends[1], "abc", 3), 3);
  const std::uint64_t number = thread_.Put(std::int64_t{-1});
  EXPECT_EQ(Call(SYS_ioctl, ends[0], FIONREAD, number), 0);
  EXPECT_EQ(TestThread::At<int>(number), 3);
  EXPECT_EQ(TestThread::At<int>(number + 4), -1);  // nothing behind it
  EXPECT_EQ(Call(SYS_ioctl, ends[0], FIOCLEX, 0), 0);
  EXPECT_EQ(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(Call(SYS_ioctl, ends[0], FIONBIO, thread_.Put(1)), 0);
  EXPECT_EQ(fcntl(ends[0], F_GETFL), O_NONBLOCK);
  const std::int64_t file = thread_.Open(MakeFile("file", "text"), O_RDWR);
  EXPECT_EQ(Call(SYS_ioctl, file, FIGETBSZ, number), 0);
  EXPECT_GT(TestThread::At<int>(number), 0);
  EXPECT_EQ(Call(SYS_ioctl, file, TCGETS, thread_.Allocate(64)), -ENOTTY);
  for (const int fd : {ends[0], ends[1], static_cast<int>(file)}) close(fd);
}

TEST_F(IoctlTest, CloneRangeChecksTheDescriptorInside) {
  const std::int64_t file = thread_.Open(MakeFile("file", "text"), O_RDWR);
  file_clone_range range{.src_fd = FirstReserved()};
  EXPECT_EQ(Call(SYS_ioctl, file, FICLONERANGE, thread_.Put(range)), -EBADF);
  range.src_fd = file;
  EXPECT_NE(Call(SYS_ioctl, file, FICLONERANGE, thread_.Put(range)), -EBADF);
  EXPECT_EQ(Call(SYS_ioctl, file, FICLONERANGE, RuntimeAddress()), -EFAULT);
  close(static_cast<int>(file));
}

TEST_F(IoctlTest, ExtentMapsWriteNoMoreThanWasAskedFor) {
  const std::int64_t file = thread_.Open(MakeFile("file", std::string(10'000, 'x')), O_RDWR);
  struct Map {
    std::uint64_t start, length;
    std::uint32_t flags, mapped, count, reserved;
    std::uint8_t extents[56];
    std::uint8_t behind[56];
  } map{.start = 0, .length = ~std::uint64_t{0}, .flags = 1, .count = 1};
  std::memset(map.behind, 0x77, sizeof(map.behind));
  const std::uint64_t address = thread_.Put(map);
  const std::int64_t result = Call(SYS_ioctl, file, 0xc020660b, address);
  if (result == -EOPNOTSUPP) GTEST_SKIP() << "the file system has no extent maps";
  EXPECT_EQ(result, 0);
  EXPECT_EQ(TestThread::At<Map>(address).mapped, 1u);
  EXPECT_EQ(TestThread::At<Map>(address).behind[0], 0x77);
  close(static_cast<int>(file));
}

TEST_F(IoctlTest, InterfacesAreListedIntoGuestMemoryOnly) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const std::uint64_t buffer = thread_.Allocate(4096);
  ifconf list{};
  list.ifc_len = 4096;
  list.ifc_buf = reinterpret_cast<char*>(buffer);
  const std::uint64_t address = thread_.Put(list);
  EXPECT_EQ(Call(SYS_ioctl, fd, SIOCGIFCONF, address), 0);
  EXPECT_EQ(TestThread::At<ifconf>(address).ifc_len % 40, 0);
  list.ifc_buf = reinterpret_cast<char*>(RuntimeAddress());
  EXPECT_EQ(Call(SYS_ioctl, fd, SIOCGIFCONF, thread_.Put(list)), -EFAULT);
  list.ifc_buf = reinterpret_cast<char*>(0x3fff'ffff'f000);
  EXPECT_EQ(Call(SYS_ioctl, fd, SIOCGIFCONF, thread_.Put(list)), -EFAULT);
  list.ifc_buf = nullptr;
  EXPECT_EQ(Call(SYS_ioctl, fd, SIOCGIFCONF, thread_.Put(list)), 0);
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  const std::uint64_t interface = thread_.Put(request);
  EXPECT_EQ(Call(SYS_ioctl, fd, SIOCGIFFLAGS, interface), 0);
  EXPECT_NE(TestThread::At<ifreq>(interface).ifr_flags & IFF_LOOPBACK, 0);
  close(fd);
}

}  // namespace
}  // namespace dunebox::hostcalls
