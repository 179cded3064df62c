// A policy's file rules: every way to an object ends at the rule of the object.
#include "hostcalls/services/file_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

using policy::Denial;
using policy::FileRights;
using policy::kAllRights;
using policy::kCreateFile;
using policy::kNoRights;
using policy::kReadFile;
using policy::kReadOnly;
using policy::kWriteFile;

class Denials : public policy::DenialSink {
 public:
  void OnDenial(Caller&, const Denial& denial, bool) override { seen.push_back(denial); }
  std::vector<Denial> seen;
};

// directory_/work: all rights, but none on work/secret. directory_/lib: read and execute.
// directory_/drop: create and write. directory_/hidden: no rule.
// With the parameter: alone with its descriptor table.
class FileRulesTest : public ServicesTest, public testing::WithParamInterface<bool> {
 protected:
  FileRulesTest() {
    for (const char* name : {"work", "work/sub", "lib", "drop", "hidden"}) mkdir(name, 0755);
    MakeFile("work/file", "mine");
    MakeFile("work/secret", "secret");
    MakeFile("lib/file", "library");
    MakeFile("hidden/file", "hidden");
    rules_.allow_all = false;
    rules_.paths = {{Path("drop"), kCreateFile | kWriteFile, 1},
                    {Path("lib"), kReadOnly, 2},
                    {Path("work"), kAllRights, 3},
                    {Path("work/secret"), kNoRights, 4}};
    rules_.origins = {"default", "drop", "lib", "work", "policy.toml:7"};
    thread_.guard = &guard_;
    thread_.is_alone = GetParam();
  }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  std::uint64_t Put(const std::string& text) { return thread_.PutString(text); }
  // The open's result; what it opened is closed.
  std::int64_t TryOpen(const std::string& path, std::uint64_t flags) {
    const std::int64_t fd = thread_.Open(path, flags, 0644);
    if (fd >= 0) close(static_cast<int>(fd));
    return fd >= 0 ? 0 : fd;
  }
  std::string TextOf(const std::string& name) const {
    const int fd = open(Path(name).c_str(), O_RDONLY | O_CLOEXEC);
    std::string text = ReadAll(fd);
    close(fd);
    return text;
  }
  bool Exists(const std::string& name) const {
    struct stat status {};
    return lstat(Path(name).c_str(), &status) == 0;
  }

  policy::Rules rules_;
  Denials denials_;
  policy::Guard guard_{rules_, &denials_};
};

// ---- Opening ------------------------------------------------------------------------------------

TEST_P(FileRulesTest, AFileIsOpenedWithTheRightsOfItsTree) {
  EXPECT_EQ(TryOpen(Path("lib/file"), O_RDONLY), 0);
  EXPECT_EQ(TryOpen(Path("lib/file"), O_WRONLY), -EACCES);
  EXPECT_EQ(TryOpen(Path("lib/file"), O_RDWR), -EACCES);
  EXPECT_EQ(TryOpen(Path("lib"), O_RDONLY | O_DIRECTORY), 0);
  EXPECT_EQ(TryOpen(Path("work/file"), O_RDWR), 0);
  EXPECT_EQ(TryOpen(Path("hidden/file"), O_RDONLY), -EACCES);
  EXPECT_EQ(TryOpen("/etc/passwd", O_RDONLY), -EACCES);
  EXPECT_EQ(TryOpen(directory_, O_RDONLY | O_DIRECTORY), -EACCES);  // leads on, no more
  EXPECT_EQ(TryOpen(directory_, O_PATH), 0);
}

TEST_P(FileRulesTest, RelativePathsAndDotsEndAtTheSameRules) {
  EXPECT_EQ(TryOpen("work/../hidden/file", O_RDONLY), -EACCES);
  EXPECT_EQ(TryOpen("hidden/../work/file", O_RDONLY), 0);
  EXPECT_EQ(TryOpen("work/./../lib//file", O_RDONLY), 0);
  const std::int64_t work = thread_.Open(Path("work"), O_RDONLY | O_DIRECTORY);
  ASSERT_GE(work, 0);
  EXPECT_EQ(thread_.OpenAt(static_cast<int>(work), "../hidden/file", O_RDONLY), -EACCES);
  close(static_cast<int>(work));
}

TEST_P(FileRulesTest, ADeniedFileKeepsWhatIsInIt) {
  EXPECT_EQ(TryOpen(Path("lib/file"), O_RDONLY | O_TRUNC), -EACCES);
  EXPECT_EQ(TryOpen(Path("lib/file"), O_WRONLY | O_TRUNC | O_CREAT), -EACCES);
  EXPECT_EQ(Call(SYS_creat, Put(Path("lib/file")), 0644), -EACCES);
  EXPECT_EQ(Call(SYS_truncate, Put(Path("lib/file")), 0), -EACCES);
  EXPECT_EQ(TextOf("lib/file"), "library");
}

TEST_P(FileRulesTest, ADeniedFifoIsNotOpened) {
  ASSERT_EQ(mkfifo("hidden/fifo", 0666), 0);
  const int reader = open("hidden/fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  // Opened for writing it would not block: there is a reader. And it would be seen by it.
  EXPECT_EQ(TryOpen(Path("hidden/fifo"), O_WRONLY), -EACCES);
  close(reader);
  // This one would block for ever.
  EXPECT_EQ(TryOpen(Path("hidden/fifo"), O_RDONLY), -EACCES);
}

TEST_P(FileRulesTest, FilesAreCreatedWhereTheRuleSays) {
  EXPECT_EQ(TryOpen(Path("work/new"), O_CREAT | O_WRONLY), 0);
  EXPECT_EQ(TryOpen(Path("work/sub/new"), O_CREAT | O_EXCL | O_RDWR), 0);
  EXPECT_EQ(TryOpen(Path("drop/new"), O_CREAT | O_WRONLY), 0);
  EXPECT_EQ(TryOpen(Path("drop/new2"), O_CREAT | O_RDWR), -EACCES);
  EXPECT_EQ(TryOpen(Path("lib/new"), O_CREAT | O_WRONLY), -EACCES);
  EXPECT_EQ(TryOpen(Path("hidden/new"), O_CREAT | O_WRONLY), -EACCES);
  EXPECT_EQ(TryOpen(Path("work"), O_TMPFILE | O_RDWR), 0);
  EXPECT_EQ(TryOpen(Path("lib"), O_TMPFILE | O_RDWR), -EACCES);
  EXPECT_FALSE(Exists("lib/new") || Exists("hidden/new") || Exists("drop/new2"));
}

TEST_P(FileRulesTest, ALinkToNowhereCreatesNothingElsewhere) {
  ASSERT_EQ(symlink(Path("hidden/new").c_str(), "work/link"), 0);
  EXPECT_EQ(TryOpen(Path("work/link"), O_CREAT | O_WRONLY), -EACCES);
  EXPECT_FALSE(Exists("hidden/new"));
}

TEST_P(FileRulesTest, ARuleOnOneFileIsThatFilesAlone) {
  EXPECT_EQ(TryOpen(Path("work/secret"), O_RDONLY), -EACCES);
  EXPECT_EQ(Call(SYS_unlink, Put(Path("work/secret"))), -EACCES);
  EXPECT_EQ(Call(SYS_rename, Put(Path("work/secret")), Put(Path("work/known"))), -EACCES);
  EXPECT_EQ(Call(SYS_rename, Put(Path("work/file")), Put(Path("work/secret"))), -EACCES);
  EXPECT_EQ(TextOf("work/secret"), "secret");
  ASSERT_FALSE(denials_.seen.empty());
  EXPECT_EQ(denials_.seen[0].object, Path("work/secret"));
  EXPECT_EQ(denials_.seen[0].action, "read");
  EXPECT_EQ(rules_.OriginText(denials_.seen[0].origin), "policy.toml:7");
  EXPECT_EQ(denials_.seen[0].cure, "--ro " + Path("work/secret"));
}

// ---- Links --------------------------------------------------------------------------------------

TEST_P(FileRulesTest, SymbolicLinksDoNotWidenRights) {
  ASSERT_EQ(symlink(Path("hidden").c_str(), "work/link"), 0);
  EXPECT_EQ(TryOpen(Path("work/link/file"), O_RDONLY), -EACCES);
  EXPECT_EQ(TryOpen(Path("work/link/new"), O_CREAT | O_WRONLY), -EACCES);
  EXPECT_EQ(Call(SYS_mkdir, Put(Path("work/link/dir")), 0755), -EACCES);
  EXPECT_EQ(Call(SYS_chmod, Put(Path("work/link/file")), 0777), -EACCES);
  EXPECT_EQ(Call(SYS_chdir, Put(Path("work/link"))), -EACCES);
  EXPECT_EQ(Call(SYS_unlink, Put(Path("work/link/file"))), -EACCES);
  EXPECT_TRUE(Exists("hidden/file"));
  // The link itself is the program's.
  const std::uint64_t buffer = thread_.Allocate(4096);
  EXPECT_EQ(Call(SYS_readlink, Put(Path("work/link")), buffer, 4096),
            static_cast<std::int64_t>(Path("hidden").size()));
  EXPECT_EQ(Call(SYS_unlink, Put(Path("work/link"))), 0);
}

TEST_P(FileRulesTest, MagicLinksEndAtTheObjectsRule) {
  const int hidden = open("hidden", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::string by_descriptor = "/proc/self/fd/" + std::to_string(hidden);
  EXPECT_EQ(TryOpen(by_descriptor + "/file", O_RDONLY), -EACCES);
  EXPECT_EQ(TryOpen("/proc/self/cwd/hidden/file", O_RDONLY), -EACCES);
  EXPECT_EQ(TryOpen("/proc/self/root" + Path("hidden/file"), O_RDONLY), -EACCES);
  EXPECT_EQ(TryOpen("/proc/self/cwd/work/file", O_RDONLY), 0);
  close(hidden);
}

TEST_P(FileRulesTest, AnOwnDescriptorIsOpenedAgainWithItsOwnRightsOnly) {
  const int reading = open("hidden/file", O_RDONLY | O_CLOEXEC);
  const std::string again = "/dev/fd/" + std::to_string(reading);
  EXPECT_EQ(TryOpen(again, O_RDONLY), 0);
  EXPECT_EQ(TryOpen(again, O_RDWR), -EACCES);
  EXPECT_EQ(TryOpen(again, O_WRONLY | O_TRUNC), -EACCES);
  const int path = open("hidden/file", O_PATH | O_CLOEXEC);
  EXPECT_EQ(TryOpen("/proc/self/fd/" + std::to_string(path), O_RDONLY), -EACCES);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  EXPECT_EQ(TryOpen("/proc/self/fd/" + std::to_string(ends[1]), O_WRONLY), 0);
  EXPECT_EQ(TryOpen("/proc/self/fd/" + std::to_string(ends[0]), O_WRONLY), -EACCES);
  for (const int fd : {reading, path, ends[0], ends[1]}) close(fd);
  EXPECT_EQ(TextOf("hidden/file"), "hidden");
}

TEST_P(FileRulesTest, AHardLinkGivesNoRightsThatTheFileDoesNotHave) {
  EXPECT_EQ(Call(SYS_link, Put(Path("lib/file")), Put(Path("work/link"))), -EXDEV);
  EXPECT_EQ(Call(SYS_link, Put(Path("hidden/file")), Put(Path("work/link"))), -EXDEV);
  EXPECT_EQ(Call(SYS_link, Put(Path("work/secret")), Put(Path("work/link"))), -EXDEV);
  EXPECT_EQ(Call(SYS_link, Put(Path("work/file")), Put(Path("lib/link"))), -EACCES);
  const std::int64_t held = thread_.Open(Path("lib/file"), O_RDONLY);
  const std::string magic = "/proc/self/fd/" + std::to_string(held);
  EXPECT_EQ(
      Call(SYS_linkat, AT_FDCWD, Put(magic), AT_FDCWD, Put(Path("work/link")), AT_SYMLINK_FOLLOW),
      -EXDEV);
  EXPECT_EQ(Call(SYS_linkat, held, Put(""), AT_FDCWD, Put(Path("work/link")), AT_EMPTY_PATH),
            -EXDEV);
  EXPECT_FALSE(Exists("work/link"));
  EXPECT_EQ(Call(SYS_link, Put(Path("work/file")), Put(Path("work/link"))), 0);
  EXPECT_EQ(Call(SYS_link, Put(Path("work/file")), Put(Path("drop/link"))), 0);
  EXPECT_EQ(TextOf("work/link"), "mine");
  close(static_cast<int>(held));
}

TEST_P(FileRulesTest, ATemporaryFileGetsANameInItsTree) {
  const std::int64_t fd = thread_.Open(Path("work"), O_TMPFILE | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  const std::string magic = "/proc/self/fd/" + std::to_string(fd);
  EXPECT_EQ(
      Call(SYS_linkat, AT_FDCWD, Put(magic), AT_FDCWD, Put(Path("work/named")), AT_SYMLINK_FOLLOW),
      0);
  EXPECT_TRUE(Exists("work/named"));
  close(static_cast<int>(fd));
}

// ---- Names --------------------------------------------------------------------------------------

TEST_P(FileRulesTest, NamesAreMadeAndRemovedOnlyInTreesWithTheRight) {
  const std::uint64_t in_work = Put(Path("work/name"));
  const std::uint64_t in_lib = Put(Path("lib/name"));
  EXPECT_EQ(Call(SYS_mkdir, in_work, 0755), 0);
  EXPECT_EQ(Call(SYS_rmdir, in_work), 0);
  EXPECT_EQ(Call(SYS_mkdir, Put(Path("work/name/")), 0755), 0);
  EXPECT_EQ(Call(SYS_unlinkat, AT_FDCWD, in_work, AT_REMOVEDIR), 0);
  EXPECT_EQ(Call(SYS_symlink, Put("anything"), in_work), 0);
  EXPECT_EQ(Call(SYS_unlink, in_work), 0);
  EXPECT_EQ(Call(SYS_mknod, in_work, S_IFIFO | 0600, 0), 0);
  EXPECT_EQ(Call(SYS_unlink, in_work), 0);
  EXPECT_EQ(Call(SYS_mkdir, in_lib, 0755), -EACCES);
  EXPECT_EQ(Call(SYS_symlink, Put("anything"), in_lib), -EACCES);
  EXPECT_EQ(Call(SYS_mknod, in_lib, S_IFIFO | 0600, 0), -EACCES);
  EXPECT_EQ(Call(SYS_unlink, Put(Path("lib/file"))), -EACCES);
  EXPECT_EQ(Call(SYS_mkdir, Put(""), 0755), -ENOENT);
  EXPECT_EQ(Call(SYS_mkdir, std::uint64_t{0}, 0755), -EFAULT);
  EXPECT_EQ(Call(SYS_rmdir, Put(Path("work"))), -EACCES);  // its name is in another directory
  EXPECT_TRUE(Exists("lib/file") && Exists("work"));
}

TEST_P(FileRulesTest, DevicesAreNotMade) {
  EXPECT_EQ(Call(SYS_mknod, Put(Path("work/disk")), S_IFBLK | 0600, 0x800), -EPERM);
  EXPECT_EQ(Call(SYS_mknodat, AT_FDCWD, Put(Path("work/null")), S_IFCHR | 0600, 0x103), -EPERM);
}

TEST_P(FileRulesTest, ARenameChangesNoRights) {
  EXPECT_EQ(Call(SYS_rename, Put(Path("work/file")), Put(Path("work/sub/file"))), 0);
  EXPECT_EQ(Call(SYS_rename, Put(Path("lib/file")), Put(Path("work/stolen"))), -EACCES);
  EXPECT_EQ(Call(SYS_rename, Put(Path("work/sub/file")), Put(Path("lib/planted"))), -EACCES);
  EXPECT_EQ(Call(SYS_rename, Put(Path("work/sub/file")), Put(Path("drop/file"))), -EXDEV);
  EXPECT_EQ(Call(SYS_renameat2, AT_FDCWD, Put(Path("work/sub")), AT_FDCWD, Put(Path("drop")),
                 RENAME_EXCHANGE),
            -EACCES);
  EXPECT_EQ(TextOf("work/sub/file"), "mine");
}

TEST_P(FileRulesTest, ATreeWithRulesBelowIsNotMoved) {
  mkdir("work/sub/deep", 0755);
  rules_.paths.push_back({Path("work/sub/deep"), kReadFile, 4});
  std::ranges::sort(rules_.paths, {}, &policy::PathRule::path);
  EXPECT_EQ(Call(SYS_rename, Put(Path("work/sub")), Put(Path("work/moved"))), -EXDEV);
  EXPECT_EQ(Call(SYS_rename, Put(Path("work/sub/deep")), Put(Path("work/moved"))), -EACCES);
  EXPECT_TRUE(Exists("work/sub/deep"));
}

// ---- Looking, changing --------------------------------------------------------------------------

TEST_P(FileRulesTest, OnlyWhatMayBeKnownIsTold) {
  const std::uint64_t to = thread_.Allocate(sizeof(struct stat));
  EXPECT_EQ(Call(SYS_stat, Put(Path("lib/file")), to), 0);
  EXPECT_EQ(TestThread::At<struct stat>(to).st_size, 7);
  EXPECT_EQ(Call(SYS_stat, Put(directory_), to), 0);
  EXPECT_EQ(Call(SYS_stat, Put("/"), to), 0);
  EXPECT_EQ(Call(SYS_stat, Put(Path("hidden")), to), -EACCES);
  EXPECT_EQ(Call(SYS_lstat, Put(Path("hidden/file")), to), -EACCES);
  EXPECT_EQ(Call(SYS_stat, Put(Path("hidden/absent")), to), -EACCES);
  EXPECT_EQ(Call(SYS_stat, Put(Path("lib/absent")), to), -ENOENT);
  EXPECT_EQ(Call(SYS_stat, Put(Path("absent/absent")), to), -ENOENT);
  EXPECT_EQ(TryOpen(Path("hidden/absent"), O_RDONLY), -EACCES);
  EXPECT_EQ(TryOpen(Path("lib/absent"), O_RDONLY), -ENOENT);
  EXPECT_EQ(Call(SYS_newfstatat, AT_FDCWD, Put(Path("hidden/file")), to, 0), -EACCES);
  EXPECT_EQ(Call(SYS_access, Put(Path("lib/file")), R_OK), 0);
  EXPECT_EQ(Call(SYS_access, Put(Path("lib/file")), W_OK), -EACCES);
  EXPECT_EQ(Call(SYS_access, Put(Path("work")), R_OK | W_OK | X_OK), 0);
  EXPECT_EQ(Call(SYS_access, Put(Path("hidden/file")), F_OK), -EACCES);
  const std::uint64_t buffer = thread_.Allocate(256);
  EXPECT_EQ(Call(SYS_getxattr, Put(Path("hidden/file")), Put("user.a"), buffer, 256), -EACCES);
  EXPECT_EQ(Call(SYS_statfs, Put(Path("hidden")), buffer), -EACCES);
  EXPECT_EQ(Call(SYS_readlink, Put(Path("lib/file")), buffer, 256), -EINVAL);
}

TEST_P(FileRulesTest, TheLinksOnTheWayToATreeMayBeRead) {
  ASSERT_EQ(symlink("lib", "lib64"), 0);
  const std::uint64_t buffer = thread_.Allocate(256);
  EXPECT_EQ(Call(SYS_readlink, Put(Path("lib64")), buffer, 256), 3);
  EXPECT_EQ(TryOpen(Path("lib64/file"), O_RDONLY), 0);
}

TEST_P(FileRulesTest, AttributesAreChangedWithTheRightToWrite) {
  EXPECT_EQ(Call(SYS_chmod, Put(Path("work/file")), 0600), 0);
  EXPECT_EQ(Call(SYS_chmod, Put(Path("lib/file")), 0600), -EACCES);
  EXPECT_EQ(Call(SYS_chown, Put(Path("lib/file")), -1, -1), -EACCES);
  EXPECT_EQ(Call(SYS_utimensat, AT_FDCWD, Put(Path("lib/file")), std::uint64_t{0}, 0), -EACCES);
  EXPECT_EQ(Call(SYS_setxattr, Put(Path("lib/file")), Put("user.a"), Put("x"), 1, 0), -EACCES);
  EXPECT_EQ(Call(SYS_removexattr, Put(Path("lib/file")), Put("user.a")), -EACCES);
}

TEST_P(FileRulesTest, AnEmptyPathIsNoDirectory) {
  ASSERT_EQ(chdir(Path("work").c_str()), 0);
  const int work = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct stat before {};
  ASSERT_EQ(fstat(work, &before), 0);
  const std::uint64_t nothing = 0;
  EXPECT_EQ(Call(SYS_chmod, Put(""), 0700), -ENOENT);
  EXPECT_EQ(Call(SYS_fchmodat, work, Put(""), 0700), -ENOENT);
  EXPECT_EQ(Call(SYS_fchownat, work, Put(""), -1, -1, 0), -ENOENT);
  EXPECT_EQ(Call(SYS_truncate, Put(""), 0), -ENOENT);
  EXPECT_EQ(Call(SYS_utimensat, AT_FDCWD, nothing, nothing, 0), -EFAULT);
  EXPECT_EQ(Call(SYS_chmod, nothing, 0700), -EFAULT);
  EXPECT_EQ(Call(SYS_fchmodat, 999, Put(""), 0700), -ENOENT);
  struct stat after {};
  ASSERT_EQ(fstat(work, &after), 0);
  EXPECT_EQ(after.st_mode, before.st_mode);
  close(work);
}

TEST_P(FileRulesTest, ADescriptorForReadingChangesNothingOfADeniedFile) {
  const std::int64_t library = thread_.Open(Path("lib/file"), O_RDONLY);
  const std::int64_t mine = thread_.Open(Path("work/file"), O_RDONLY);
  const std::uint64_t nothing = 0;
  for (const auto& [fd, expected] : {std::pair{library, -EACCES}, std::pair{mine, 0}}) {
    EXPECT_EQ(Call(SYS_fchmod, fd, 0640), expected);
    EXPECT_EQ(Call(SYS_fchown, fd, -1, -1), expected);
    EXPECT_EQ(Call(SYS_utimensat, fd, nothing, nothing, 0), expected);
    EXPECT_EQ(Call(SYS_fchownat, fd, Put(""), -1, -1, AT_EMPTY_PATH), expected);
  }
  EXPECT_EQ(Call(SYS_fsetxattr, library, Put("user.a"), Put("x"), 1, 0), -EACCES);
  // Opened for writing elsewhere and handed over: that is a right to write, and not to anything else.
  const int given = open("hidden/file", O_RDWR | O_CLOEXEC);
  EXPECT_EQ(Call(SYS_fchmod, given, 0640), -EACCES);
  EXPECT_EQ(Call(SYS_ftruncate, given, 3), 0);
  const int path = open("work/file", O_PATH | O_CLOEXEC);
  EXPECT_EQ(Call(SYS_fchmod, path, 0640), -EBADF);
  for (const std::int64_t fd : {library, mine, std::int64_t{given}, std::int64_t{path}}) {
    close(static_cast<int>(fd));
  }
}

TEST_P(FileRulesTest, ADirectoryWithoutRightsIsNotEntered) {
  EXPECT_EQ(Call(SYS_chdir, Put(Path("work"))), 0);
  EXPECT_EQ(Call(SYS_chdir, Put(directory_)), 0);
  EXPECT_EQ(Call(SYS_chdir, Put(Path("hidden"))), -EACCES);
  const int path = open(Path("hidden").c_str(), O_PATH | O_CLOEXEC);
  EXPECT_EQ(Call(SYS_fchdir, path), -EACCES);
  close(path);
  const int lib = open(Path("lib").c_str(), O_PATH | O_CLOEXEC);
  EXPECT_EQ(Call(SYS_fchdir, lib), 0);
  close(lib);
  const std::int64_t watch = Call(SYS_inotify_init1, IN_CLOEXEC);
  EXPECT_EQ(Call(SYS_inotify_add_watch, watch, Put(Path("hidden")), IN_CREATE), -EACCES);
  EXPECT_GE(Call(SYS_inotify_add_watch, watch, Put(Path("lib")), IN_CREATE), 0);
  close(static_cast<int>(watch));
}

TEST_P(FileRulesTest, TheRootStays) {
  EXPECT_EQ(Call(SYS_chroot, Put(Path("work"))), -EPERM);
  ASSERT_FALSE(denials_.seen.empty());
  EXPECT_EQ(denials_.seen.back().action, "call");
}

// ---- procfs -------------------------------------------------------------------------------------

TEST_P(FileRulesTest, OtherProcessesAreNotThere) {
  EXPECT_EQ(TryOpen("/proc/self/status", O_RDONLY), 0);
  EXPECT_EQ(TryOpen("/proc/self/maps", O_RDONLY), 0);
  EXPECT_EQ(TryOpen("/proc/self/comm", O_RDWR), 0);
  EXPECT_EQ(TryOpen("/proc/self/task/" + std::to_string(gettid()) + "/comm", O_WRONLY), 0);
  EXPECT_EQ(TryOpen("/proc/self/oom_score_adj", O_WRONLY), -EACCES);
  EXPECT_EQ(TryOpen("/proc/self/task/" + std::to_string(gettid()) + "/attr/current", O_WRONLY), -EACCES);
  EXPECT_EQ(TryOpen("/proc/sys/kernel/hostname", O_RDONLY), -EACCES);
  EXPECT_EQ(TryOpen("/proc/meminfo", O_RDONLY), -EACCES);
  rules_.paths.insert(rules_.paths.begin(), {"/proc", kReadFile, 1});
  EXPECT_EQ(TryOpen("/proc/sys/kernel/hostname", O_RDONLY), 0);
  EXPECT_EQ(TryOpen("/proc/meminfo", O_RDONLY), 0);
  const std::uint64_t to = thread_.Allocate(sizeof(struct stat));
  const std::string parent = "/proc/" + std::to_string(getppid());
  EXPECT_EQ(TryOpen(parent + "/status", O_RDONLY), -ENOENT);
  EXPECT_EQ(TryOpen(parent, O_RDONLY | O_DIRECTORY), -ENOENT);
  EXPECT_EQ(Call(SYS_stat, Put(parent), to), -ENOENT);
  EXPECT_EQ(Call(SYS_readlink, Put(parent + "/cwd"), to, 100), -ENOENT);
}

TEST_P(FileRulesTest, AListingOfProcessesHasTheCallerAlone) {
  rules_.paths.insert(rules_.paths.begin(), {"/proc", kReadFile, 1});
  const std::int64_t fd = thread_.Open("/proc", O_RDONLY | O_DIRECTORY);
  ASSERT_GE(fd, 0);
  const std::uint64_t buffer = thread_.Allocate(8192);
  std::vector<std::string> numbers;
  bool others = false;
  for (;;) {
    const std::int64_t size = Call(SYS_getdents64, fd, buffer, 8192);
    ASSERT_GE(size, 0);
    if (size == 0) break;
    for (std::uint64_t at = buffer; at < buffer + static_cast<std::uint64_t>(size);
         at += TestThread::At<std::uint16_t>(at + 16)) {
      const std::string name(&TestThread::At<char>(at + 19));
      if (name.find_first_not_of("0123456789") == std::string::npos) numbers.push_back(name);
      others = others || name == "meminfo";
    }
  }
  EXPECT_EQ(numbers, std::vector<std::string>{std::to_string(getpid())});
  EXPECT_TRUE(others);
  close(static_cast<int>(fd));
}

// ---- Audit and nothing --------------------------------------------------------------------------

TEST_P(FileRulesTest, AuditReportsAndAllows) {
  rules_.audit = true;
  EXPECT_EQ(TryOpen(Path("hidden/file"), O_RDWR), 0);
  EXPECT_EQ(TryOpen(Path("hidden/new"), O_CREAT | O_WRONLY), 0);
  EXPECT_EQ(Call(SYS_rename, Put(Path("lib/file")), Put(Path("work/moved"))), 0);
  // The last one for its place and for the rights that it would win.
  EXPECT_EQ(denials_.seen.size(), 4U);
}

TEST_P(FileRulesTest, WithAllAllowedNothingIsAsked) {
  rules_.allow_all = true;
  EXPECT_EQ(TryOpen(Path("hidden/file"), O_RDWR), 0);
  EXPECT_TRUE(denials_.seen.empty());
}

// ---- Races --------------------------------------------------------------------------------------

constexpr int kTries = 4000, kMostTries = 100 * kTries;

// Runs `disturb` on another thread as long as `attempt` is tried: often, and until the processor has run both in turn so far
// that `is_enough` is true.
template <typename Disturb, typename Attempt, typename IsEnough>
void Race(Disturb disturb, Attempt attempt, IsEnough is_enough) {
  std::atomic<bool> done{false};
  std::thread sibling([&] {
    while (!done.load()) disturb();
  });
  for (int i = 0; i < kTries || (!is_enough() && i < kMostTries); ++i) attempt();
  done.store(true);
  sibling.join();
}

TEST_P(FileRulesTest, NoSwapOfASymbolicLinkOpensADeniedFile) {
  ASSERT_EQ(symlink("file", "work/link"), 0);
  const std::uint64_t path = Put(Path("work/link"));
  int opened = 0;
  Race(
      [&] {
        for (const char* target : {"file", "../hidden/file"}) {
          [[maybe_unused]] int status = symlink(target, "work/next");
          status = rename("work/next", "work/link");
        }
      },
      [&] {
        const std::int64_t fd = Call(SYS_open, path, O_RDWR | O_TRUNC, 0);
        if (fd < 0) return;
        ++opened;
        struct stat status {};
        EXPECT_EQ(fstat(static_cast<int>(fd), &status), 0);
        struct stat hidden {};
        EXPECT_EQ(stat(Path("hidden/file").c_str(), &hidden), 0);
        EXPECT_NE(status.st_ino, hidden.st_ino);
        close(static_cast<int>(fd));
      },
      [&] { return opened > 0; });
  EXPECT_GT(opened, 0);
  EXPECT_EQ(TextOf("hidden/file"), "hidden");
}

TEST_P(FileRulesTest, NoExchangeOfADirectoryAndALinkMakesAnythingElsewhere) {
  mkdir("work/dir", 0755);
  MakeFile("work/dir/file", "mine");
  ASSERT_EQ(symlink("../hidden", "work/way"), 0);
  const std::uint64_t path = Put(Path("work/dir/file"));
  const std::uint64_t made = Put(Path("work/dir/made"));
  struct stat hidden {};
  ASSERT_EQ(stat("hidden/file", &hidden), 0);
  int opened = 0, created = 0;
  Race(
      [&] {
        syscall(SYS_renameat2, AT_FDCWD, Path("work/dir").c_str(), AT_FDCWD,
                Path("work/way").c_str(), RENAME_EXCHANGE);
      },
      [&] {
        const std::int64_t fd = Call(SYS_open, path, O_RDONLY, 0);
        if (fd >= 0) {
          ++opened;
          struct stat status {};
          EXPECT_EQ(fstat(static_cast<int>(fd), &status), 0);
          EXPECT_NE(status.st_ino, hidden.st_ino);
          close(static_cast<int>(fd));
        }
        const std::int64_t file = Call(SYS_open, made, O_CREAT | O_WRONLY, 0644);
        if (file >= 0) ++created;
        if (file >= 0) close(static_cast<int>(file));
        EXPECT_FALSE(Exists("hidden/made"));
        Call(SYS_unlink, made);
      },
      [&] { return opened > 0 && created > 0; });
  EXPECT_GT(opened, 0);
  EXPECT_GT(created, 0);
  EXPECT_TRUE(Exists("hidden/file"));
}

TEST_P(FileRulesTest, NoRaceOfTheProgramsOwnGetsAFileOutOfItsTree) {
  // Everything by the rules: a sibling moves the directory between places that it may move it to.
  TestThread sibling(1);
  thread_.is_alone = false;
  sibling.guard = &guard_;
  mkdir("work/a", 0755);
  const std::uint64_t a = sibling.PutString(Path("work/a"));
  const std::uint64_t b = sibling.PutString(Path("work/sub/a"));
  const std::uint64_t from = Put(Path("work/a/../../lib/file"));
  const std::uint64_t to = Put(Path("work/stolen"));
  Race(
      [&] {
        sibling.Call(SYS_rename, a, b);
        sibling.Call(SYS_rename, b, a);
      },
      [&] {
        EXPECT_LT(Call(SYS_rename, from, to), 0);
        EXPECT_LT(Call(SYS_link, from, to), 0);
      },
      [] { return true; });
  EXPECT_EQ(TextOf("lib/file"), "library");
  EXPECT_FALSE(Exists("work/stolen"));
}

// A child begins with its parent's directory of descriptors, and must not take theirs for its own.
TEST_P(FileRulesTest, AForkedChildLooksAtItsOwnDescriptors) {
  MakeFile("parents", "");
  MakeFile("childs", "");
  const int number = open("parents", O_PATH | O_CLOEXEC);
  const auto name = [&] {
    const CopyResult<std::string> found = ObjectName(thread_, number);
    return found.ok() ? *found : "?";
  };
  EXPECT_EQ(name(), directory_ + "/parents");
  const pid_t child = fork();
  if (child == 0) {
    dup2(open("childs", O_PATH | O_CLOEXEC), number);
    _exit(name() == directory_ + "/childs" ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(name(), directory_ + "/parents");
  close(number);
}

INSTANTIATE_TEST_SUITE_P(, FileRulesTest, testing::Bool(), [](const testing::TestParamInfo<bool>& tested) {
  return std::string(tested.param ? "Alone" : "WithSiblings");
});

}  // namespace
}  // namespace dunebox::hostcalls
