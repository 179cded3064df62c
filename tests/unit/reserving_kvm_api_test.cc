#include "runtime/kvm/reserving_kvm_api.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace dunebox::kvm {
namespace {

// Opens something that can be told from everything else, until it is no longer allowed to.
class RevocableKvm final : public KvmApi {
 public:
  int OpenDevice() override { return revoked ? -EACCES : open("/dev/null", O_RDWR | O_CLOEXEC); }
  using KvmApi::Ioctl;
  int Ioctl(int, unsigned long, void*) override { return -ENOSYS; }
  int Run(int) override { return -ENOSYS; }
  void* MapRunArea(int, std::size_t, int*) override { return nullptr; }
  void UnmapRunArea(void*, std::size_t) override {}
  void Close(int fd) override { close(fd); }

  bool revoked = false;
};

bool IsTheDevice(int fd) {
  struct stat opened, expected;
  return fstat(fd, &opened) == 0 && stat("/dev/null", &expected) == 0 &&
         opened.st_rdev == expected.st_rdev;
}

class ReservingKvmApiTest : public testing::Test {
 protected:
  ReservingKvmApiTest() { EXPECT_TRUE(limits_.Install().ok()); }

  RevocableKvm host_;
  hostcalls::VirtualLimits limits_{hostcalls::DefaultReservedDescriptors()};
};

TEST_F(ReservingKvmApiTest, DescriptorsAreOutOfTheGuestsReach) {
  ReservingKvmApi api(host_, limits_);
  const int device = api.OpenDevice();
  EXPECT_GE(device, limits_.reserved().first);
  EXPECT_TRUE(IsTheDevice(device));
  api.Close(device);
}

TEST_F(ReservingKvmApiTest, ASessionNeedsThePathOnce) {
  ReservingKvmApi first(host_, limits_);
  const absl::StatusOr<int> kept = first.OpenSessionDevice();
  ASSERT_TRUE(kept.ok());
  host_.revoked = true;
  for (int i = 0; i < 2; ++i) {
    const int device = first.OpenDevice();
    EXPECT_TRUE(IsTheDevice(device));
    EXPECT_NE(device, *kept);
    first.Close(device);
  }
  // The runtime that follows after an execve.
  ReservingKvmApi second(host_, limits_);
  EXPECT_EQ(second.OpenDevice(), -EACCES);
  second.UseSessionDevice(*kept);
  const int device = second.OpenDevice();
  EXPECT_TRUE(IsTheDevice(device));
  second.Close(device);
  close(*kept);
}

TEST_F(ReservingKvmApiTest, ADeviceThatCannotBeOpenedSaysWhy) {
  host_.revoked = true;
  ReservingKvmApi api(host_, limits_);
  const absl::StatusOr<int> device = api.OpenSessionDevice();
  EXPECT_EQ(device.status().message(), "cannot open /dev/kvm: Permission denied");
}

}  // namespace
}  // namespace dunebox::kvm
