// Calls that take a path: what leads to the program's own file or to the runtime's descriptors.
#include <errno.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <utime.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

class PathCallsTest : public ServicesTest {
 protected:
  PathCallsTest() {
    program_ = MakeFile("program", "text");
    const int fd = open(program_.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_TRUE(TestGuest::Get().limits.SetSlot(fd, ReservedSlot::kExecutable).ok());
    close(fd);
    own_ = StatusOf(program_);
    runtime_ = StatusOf("/proc/self/exe");
  }
  ~PathCallsTest() override {
    const struct stat after = StatusOf("/proc/self/exe");
    EXPECT_EQ(after.st_mode, runtime_.st_mode);
    EXPECT_EQ(after.st_mtim.tv_sec, runtime_.st_mtim.tv_sec);
    EXPECT_EQ(after.st_ctim.tv_nsec, runtime_.st_ctim.tv_nsec);
    close(NumberOf(ReservedSlot::kExecutable, TestGuest::Get().limits.reserved()));
  }

  static struct stat StatusOf(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
    return status;
  }
  ino_t InodeBy(long number, std::uint64_t path) {
    const std::uint64_t to = thread_.Allocate(sizeof(struct stat));
    const std::int64_t result =
        number == SYS_newfstatat ? Call(number, AT_FDCWD, path, to, 0) : Call(number, path, to);
    EXPECT_EQ(result, 0);
    return TestThread::At<struct stat>(to).st_ino;
  }
  // Everything that leads to the program.
  std::vector<std::string> Spellings() {
    [[maybe_unused]] int made = symlink("/proc/self/exe", "absolute");
    made = symlink("absolute", "relative");
    made = symlink("/proc/self", "me");
    const std::string pid = std::to_string(getpid());
    return {"/proc/self/exe",
            "/proc/thread-self/exe",
            "/proc/" + pid + "/exe",
            "/proc/self/task/../exe",
            "absolute",
            "relative",
            "me/exe",
            directory_ + "/relative",
            "/proc/self/root/proc/self/exe"};
  }

  std::string program_;
  struct stat own_ {};
  struct stat runtime_ {};
};

TEST_F(PathCallsTest, TheExecutableIsTheProgramsFile) {
  for (const std::string& spelling : Spellings()) {
    SCOPED_TRACE(spelling);
    const std::uint64_t path = thread_.PutString(spelling);
    EXPECT_EQ(InodeBy(SYS_stat, path), own_.st_ino);
    EXPECT_EQ(InodeBy(SYS_newfstatat, path), own_.st_ino);
    EXPECT_NE(InodeBy(SYS_lstat, path), own_.st_ino);
    EXPECT_EQ(Call(SYS_access, path, X_OK), -EACCES);  // the program of this test is no program
    EXPECT_EQ(Call(SYS_chdir, path), -ENOTDIR);
  }
}

TEST_F(PathCallsTest, WhatChangesTheExecutableChangesTheProgramsFile) {
  mode_t mode = 0600;
  for (const std::string& spelling : Spellings()) {
    SCOPED_TRACE(spelling);
    const std::uint64_t path = thread_.PutString(spelling);
    mode ^= 0011;
    EXPECT_EQ(Call(SYS_chmod, path, mode), 0);
    EXPECT_EQ(StatusOf(program_).st_mode & 07777, mode);
    EXPECT_EQ(Call(SYS_fchmodat, AT_FDCWD, path, mode | 0100), 0);
    EXPECT_EQ(StatusOf(program_).st_mode & 07777, mode | 0100);
    EXPECT_EQ(Call(SYS_chown, path, getuid(), getgid()), 0);
    EXPECT_EQ(Call(SYS_utime, path, thread_.Put(utimbuf{7, 9})), 0);
    EXPECT_EQ(StatusOf(program_).st_mtime, 9);
    const timespec times[2] = {{1, 0}, {11, 0}};
    EXPECT_EQ(Call(SYS_utimensat, AT_FDCWD, path, thread_.Put(times), 0), 0);
    EXPECT_EQ(StatusOf(program_).st_mtime, 11);
    EXPECT_EQ(Call(SYS_truncate, path, 0), -ETXTBSY);
    EXPECT_EQ(thread_.Open(spelling, O_WRONLY), -ETXTBSY);
    EXPECT_EQ(thread_.Open(spelling, O_RDWR | O_TRUNC), -ETXTBSY);
    EXPECT_EQ(
        Call(SYS_linkat, AT_FDCWD, path, AT_FDCWD, thread_.PutString("second"), AT_SYMLINK_FOLLOW),
        0);
    EXPECT_EQ(StatusOf("second").st_ino, own_.st_ino);
    EXPECT_EQ(Call(SYS_unlink, thread_.PutString("second")), 0);
  }
}

TEST_F(PathCallsTest, ALinkItselfStaysWhatIsMeant) {
  ASSERT_EQ(symlink("program", "link"), 0);
  const std::uint64_t link = thread_.PutString("link");
  const timespec times[2] = {{1, 0}, {13, 0}};
  EXPECT_EQ(Call(SYS_utimensat, AT_FDCWD, link, thread_.Put(times), AT_SYMLINK_NOFOLLOW), 0);
  struct stat status {};
  ASSERT_EQ(lstat("link", &status), 0);
  EXPECT_EQ(status.st_mtime, 13);
  EXPECT_NE(StatusOf("program").st_mtime, 13);
  EXPECT_EQ(Call(SYS_lchown, link, getuid(), getgid()), 0);
  EXPECT_EQ(Call(SYS_chmod, thread_.PutString("program/"), 0600), -ENOTDIR);
  EXPECT_EQ(Call(SYS_chmod, thread_.PutString("missing"), 0600), -ENOENT);
  EXPECT_EQ(Call(SYS_fchmodat, 1000, link, 0600), -EBADF);
  EXPECT_EQ(Call(SYS_utimensat, AT_FDCWD, link, 0, 0x8000'0000), -EINVAL);
}

TEST_F(PathCallsTest, AChrootThatFailsChangesNothing) {
  const std::uint64_t path = thread_.PutString("program");
  EXPECT_EQ(Call(SYS_chroot, path), -ENOTDIR);
  EXPECT_EQ(Call(SYS_chroot, thread_.PutString("missing")), -ENOENT);
  EXPECT_FALSE(TestGuest::Get().limits.root_changed);
  struct stat root {};
  ASSERT_EQ(fstat(FirstReserved(), &root), 0);
  EXPECT_TRUE(S_ISDIR(root.st_mode));
}

TEST_F(PathCallsTest, TheRuntimesDescriptorsAreNotThere) {
  const int first = FirstReserved();
  [[maybe_unused]] int made =
      symlink(("/proc/self/fd/" + std::to_string(first + 1)).c_str(), "to_proc");
  std::vector<std::string> paths = {"to_proc", "to_proc/self/status"};
  for (const int fd : {first, first + 1}) {
    for (const char* folder : {"/proc/self/fd/", "/proc/thread-self/fdinfo/", "/dev/fd/"}) {
      paths.push_back(folder + std::to_string(fd));
    }
    paths.push_back("/proc/self/fd/" + std::to_string(fd) + "/etc/passwd");
  }
  const std::uint64_t to = thread_.Allocate(sizeof(struct stat));
  const std::uint64_t file_system = thread_.Allocate(sizeof(struct statfs));
  for (const std::string& spelling : paths) {
    SCOPED_TRACE(spelling);
    const std::uint64_t path = thread_.PutString(spelling);
    EXPECT_EQ(Call(SYS_stat, path, to), -ENOENT);
    EXPECT_EQ(Call(SYS_access, path, F_OK), -ENOENT);
    EXPECT_EQ(Call(SYS_statfs, path, file_system), -ENOENT);
    EXPECT_EQ(Call(SYS_chmod, path, 0777), -ENOENT);
    EXPECT_EQ(Call(SYS_chdir, path), -ENOENT);
    EXPECT_EQ(Call(SYS_truncate, path, 0), -ENOENT);
  }
  const std::int64_t folder = thread_.Open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
  const std::uint64_t name = thread_.PutString(std::to_string(first));
  EXPECT_EQ(Call(SYS_newfstatat, folder, name, to, 0), -ENOENT);
  EXPECT_EQ(Call(SYS_newfstatat, folder, name, to, AT_SYMLINK_NOFOLLOW), -ENOENT);
  EXPECT_EQ(Call(SYS_unlinkat, folder, name, 0), -ENOENT);
  EXPECT_EQ(Call(SYS_newfstatat, folder, thread_.PutString("0"), to, 0), 0);
  close(static_cast<int>(folder));
  // A number alone means nothing.
  EXPECT_EQ(Call(SYS_mkdir, name, 0700), 0);
  EXPECT_EQ(Call(SYS_stat, name, to), 0);
  EXPECT_EQ(Call(SYS_rmdir, name), 0);
}

TEST_F(PathCallsTest, ALinkThatFlipsToTheRuntimeNeverChangesIt) {
  const std::string runtime = "/proc/" + std::to_string(getpid()) + "/exe";
  ASSERT_EQ(symlink(runtime.c_str(), "other"), 0);
  MakeFile("file", "text");
  ASSERT_EQ(symlink("file", "name"), 0);
  std::atomic<bool> stop = false;
  std::thread flipper([&] {
    while (!stop) syscall(SYS_renameat2, AT_FDCWD, "name", AT_FDCWD, "other", 2);
  });
  const std::uint64_t path = thread_.PutString("name");
  for (int round = 0; round < 5'000; ++round) {
    EXPECT_EQ(Call(SYS_chmod, path, 0600), 0);
  }
  stop = true;
  flipper.join();
}  // the fixture compares the runtime's own file

}  // namespace
}  // namespace dunebox::hostcalls
