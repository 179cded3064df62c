#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

constexpr unsigned kNoExecSeal = 0x8, kExecutable = 0x10;

class MemoryFiles : public ServicesTest {
 protected:
  // The mode of a memfd that the guest makes, or a negative errno.
  int ModeOf(unsigned flags, bool sealed) {
    TestThread thread;
    thread.seals_memfds = sealed;
    const auto fd = static_cast<int>(thread.Call(SYS_memfd_create, thread.PutString("x"), flags));
    if (fd < 0) return fd;
    struct stat info;
    EXPECT_EQ(fstat(fd, &info), 0);
    close(fd);
    return static_cast<int>(info.st_mode & 0777);
  }
};

TEST_F(MemoryFiles, AreAsAskedForWithoutTheHostsFilter) {
  EXPECT_EQ(ModeOf(MFD_CLOEXEC, false), 0777);
}

TEST_F(MemoryFiles, AreNeverExecutableUnderIt) {
  const int plain = memfd_create("x", kNoExecSeal);
  if (plain < 0) GTEST_SKIP() << "a kernel without MFD_NOEXEC_SEAL";
  close(plain);
  EXPECT_EQ(ModeOf(MFD_CLOEXEC, true), 0666);
  EXPECT_EQ(ModeOf(kExecutable, true), -EACCES);
  EXPECT_EQ(ModeOf(kExecutable, false), 0777);
}

TEST_F(MemoryFiles, NamesAreCheckedAsTheKernelDoes) {
  TestThread thread;
  EXPECT_EQ(thread.Call(SYS_memfd_create, kArenaEnd, 0), -EFAULT);
  EXPECT_EQ(thread.Call(SYS_memfd_create, thread.PutString(std::string(250, 'x')), 0), -EINVAL);
  EXPECT_EQ(memfd_create(std::string(250, 'x').c_str(), 0), -1);
  EXPECT_EQ(errno, EINVAL);
  const auto fd = thread.Call(SYS_memfd_create, thread.PutString(std::string(249, 'x')), 0);
  EXPECT_GE(fd, 0);
  close(static_cast<int>(fd));
}

}  // namespace
}  // namespace dunebox::hostcalls
