// Which file a part of this process lies in, and where there.
#include "sandbox/worker/file_behind.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

namespace dunebox::worker {
namespace {

constexpr char kMaps[] =
    "00400000-00452000 r--p 00000000 08:02 173521      /usr/bin/dbus-daemon\n"
    "00452000-00453000 r-xp 00052000 fd:1f 173521      /usr/bin/a name with  spaces\n"
    "00454000-00455000 rw-p 00053000 08:02 173521      /usr/bin/dbus-daemon\n"
    "00455000-00456000 r--p 00000000 00:01 7 \n"
    "00456000-00457000 r--p 00000000 00:01 8           [vdso]\n"
    "00457000-00458000 r--p 0000x000 08:02 9           /usr/bin/damaged\n"
    "damaged\n";

TEST(FileMappingAt, IsTheLineWithTheAddress) {
  const std::optional<FileMapping> found = FileMappingAt(kMaps, 0x452'010, 0xff0);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->offset, 0x52'010);
  EXPECT_EQ(found->device, makedev(0xfd, 0x1f));
  EXPECT_EQ(found->inode, 173'521);
  EXPECT_EQ(found->path, "/usr/bin/a name with  spaces");
  EXPECT_TRUE(FileMappingAt(kMaps, 0x400'000, 0x52'000));
}

TEST(FileMappingAt, IsNothingWhereNoFileHasItAll) {
  EXPECT_FALSE(FileMappingAt(kMaps, 0x452'010, 0xff1)) << "part of it is in another";
  EXPECT_FALSE(FileMappingAt(kMaps, 0x453'000, 1)) << "between two";
  EXPECT_FALSE(FileMappingAt(kMaps, 0x454'000, 1)) << "can be written to";
  EXPECT_FALSE(FileMappingAt(kMaps, 0x455'000, 1)) << "without a name";
  EXPECT_FALSE(FileMappingAt(kMaps, 0x456'000, 1)) << "the kernel's";
  EXPECT_FALSE(FileMappingAt(kMaps, 0x457'000, 1)) << "damaged";
  EXPECT_FALSE(FileMappingAt("", 0x400'000, 1));
}

// A mapping of a file that has been written.
class OpenFileBehindTest : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(path_) << std::string(kPage, 'a') << std::string(kPage, 'b');
    const runtime::FileDescriptor file(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    void* const start = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, file.get(), kPage);
    ASSERT_NE(start, MAP_FAILED);
    bytes_ = {static_cast<const std::byte*>(start), kPage};
    // On an overlay the kernel may tell of the file below it.
    if (!OpenFileBehind(bytes_)) GTEST_SKIP() << "the numbers of files in /proc/self/maps are not those of stat here";
  }
  void TearDown() override {
    munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
    std::filesystem::remove(path_);
  }

  static constexpr std::size_t kPage = 4096;
  const std::string path_ = testing::TempDir() + "dunebox file behind " + std::to_string(getpid());
  std::span<const std::byte> bytes_;
};

TEST_F(OpenFileBehindTest, IsTheFileAndThePlaceInIt) {
  const std::optional<FileBehind> found = OpenFileBehind(bytes_.subspan(5));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->offset, kPage + 5);
  char first = 0;
  EXPECT_EQ(pread(found->file.get(), &first, 1, static_cast<off_t>(found->offset)), 1);
  EXPECT_EQ(first, 'b');
}

// The kernel knows where it has been moved to, and that it is there no more.
TEST_F(OpenFileBehindTest, IsNoOtherOfThatName) {
  const std::string other = path_ + ".other", deleted = path_ + " (deleted)";
  std::filesystem::rename(path_, other);
  EXPECT_TRUE(OpenFileBehind(bytes_));
  std::filesystem::rename(other, path_);
  std::filesystem::copy_file(path_, other);
  std::filesystem::rename(other, path_);
  EXPECT_FALSE(OpenFileBehind(bytes_));
  std::filesystem::copy_file(path_, deleted);
  EXPECT_FALSE(OpenFileBehind(bytes_));
  std::filesystem::remove(deleted);
}

TEST_F(OpenFileBehindTest, IsNothingForMemory) {
  const std::vector<std::byte> bytes(kPage);
  EXPECT_FALSE(OpenFileBehind(bytes));
}

}  // namespace
}  // namespace dunebox::worker
