#include "runtime/confinement/landlock.h"

#include <gtest/gtest.h>
#include <linux/landlock.h>

namespace dunebox::confinement {
namespace {

using namespace hostcalls::policy;

constexpr std::uint64_t kTruncate = 1 << 14, kIoctlDevice = 1 << 15;

TEST(Landlock, EachVersionHandlesWhatItHas) {
  EXPECT_EQ(HandledFileRights(1), 0x1fffU);
  EXPECT_EQ(HandledFileRights(2), 0x3fffU);
  EXPECT_EQ(HandledFileRights(3), 0x7fffU);
  EXPECT_EQ(HandledFileRights(4), 0x7fffU);
  EXPECT_EQ(HandledFileRights(5), 0xffffU);
  EXPECT_EQ(HandledFileRights(7), 0xffffU);
}

TEST(Landlock, NoRuleGivesExecution) {
  EXPECT_EQ(LandlockRights(kAllRights, true) & LANDLOCK_ACCESS_FS_EXECUTE, 0U);
  EXPECT_EQ(LandlockRights(kAllRights, false) & LANDLOCK_ACCESS_FS_EXECUTE, 0U);
}

TEST(Landlock, NoRuleGivesDevices) {
  EXPECT_EQ(LandlockRights(kAllRights, true) &
                (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK),
            0U);
}

TEST(Landlock, RightsOnADirectory) {
  EXPECT_EQ(LandlockRights(kNoRights, true), 0U);
  EXPECT_EQ(LandlockRights(kReadFile, true),
            LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | kIoctlDevice);
  EXPECT_EQ(LandlockRights(kWriteFile, true),
            LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate | kIoctlDevice);
  EXPECT_EQ(LandlockRights(kExecuteFile, true), LANDLOCK_ACCESS_FS_READ_FILE);
  EXPECT_EQ(LandlockRights(kCreateFile, true),
            LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER);
}

// The kernel refuses a rule on a file that has rights of directories.
TEST(Landlock, RightsOnAFile) {
  EXPECT_EQ(LandlockRights(kAllRights, false),
            LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate | kIoctlDevice);
  EXPECT_EQ(LandlockRights(kCreateFile, false), 0U);
}

}  // namespace
}  // namespace dunebox::confinement
