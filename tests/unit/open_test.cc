#include "hostcalls/services/open.h"

#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <thread>

#include "hostcalls/services/file_rules.h"
#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

class OpenTest : public ServicesTest {
 protected:
  // The same open() natively and in the guest: same errno, or both succeed and give the same
  // file, status flags and number.
  void ExpectAsNatively(const std::string& path, std::uint64_t flags, std::uint64_t mode = 0600,
                        int directory = AT_FDCWD) {
    SCOPED_TRACE(path + " " + std::to_string(flags));
    const auto native = syscall(SYS_openat, directory, path.c_str(), flags, mode);
    const std::int64_t expected = native < 0 ? -errno : native;
    struct stat want {};
    int want_flags = 0;
    if (native >= 0) {
      fstat(static_cast<int>(native), &want);
      want_flags = fcntl(static_cast<int>(native), F_GETFL);
      close(static_cast<int>(native));
    }
    for (const bool is_alone : {false, true}) {
      SCOPED_TRACE(is_alone);
      thread_.is_alone = is_alone;
      ExpectInGuest(directory, path, flags, mode, expected, want, want_flags);
    }
  }
  void ExpectInGuest(int directory, const std::string& path, std::uint64_t flags, std::uint64_t mode,
                     std::int64_t expected, const struct stat& want, int want_flags) {
    const std::int64_t got = thread_.OpenAt(directory, path, flags, mode);
    EXPECT_EQ(got, expected);
    if (got < 0) return;
    struct stat have {};
    fstat(static_cast<int>(got), &have);
    if ((flags & O_TMPFILE) != O_TMPFILE) {
      EXPECT_EQ(have.st_ino, want.st_ino);
    }
    EXPECT_EQ(have.st_mode, want.st_mode);
    // Following the link to the pinned object needs O_NOFOLLOW away.
    EXPECT_EQ(fcntl(static_cast<int>(got), F_GETFL) | O_NOFOLLOW, want_flags | O_NOFOLLOW);
    const int close_on_exec = fcntl(static_cast<int>(got), F_GETFD) & FD_CLOEXEC;
    EXPECT_EQ(close_on_exec != 0, (flags & O_CLOEXEC) != 0);
    close(static_cast<int>(got));
  }
  // By an absolute path (the quick way where it is on the root's mount) and a relative one.
  void ExpectBothWaysAsNatively(const std::string& name, std::uint64_t flags) {
    ExpectAsNatively(directory_ + "/" + name, flags);
    ExpectAsNatively(name, flags);
  }
};

TEST_F(OpenTest, OrdinaryFilesOpenAsNatively) {
  MakeFile("file", "text");
  ASSERT_EQ(symlink("file", "link"), 0);
  ASSERT_EQ(symlink("nothing", "dangling"), 0);
  ASSERT_EQ(symlink("loop", "loop"), 0);
  ASSERT_EQ(mkdir("dir", 0700), 0);
  for (const char* name : {"file", "link", "dangling", "loop", "dir", "dir/", "file/", "link/",
                           "missing", "missing/file", "dir/../file", "./file", "file/x", "."}) {
    for (const std::uint64_t flags :
         {O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_CLOEXEC, O_RDONLY | O_NOFOLLOW,
          O_RDONLY | O_DIRECTORY, O_DIRECTORY | O_NOFOLLOW, O_PATH, O_PATH | O_NOFOLLOW,
          O_PATH | O_CLOEXEC, O_RDWR | O_APPEND | O_NONBLOCK, O_ACCMODE}) {
      ExpectBothWaysAsNatively(name, flags);
    }
  }
}

// A child begins with its parent's directory of descriptors, and must not take theirs for its own.
TEST_F(OpenTest, AloneAForkedChildLooksAtItsOwnDescriptors) {
  thread_.is_alone = true;
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

// Numbers that are looked at are those of the guest's own table, the highest that it may have among them.
TEST_F(OpenTest, AloneTheGuestsOwnNumbersStayWhatTheyAre) {
  MakeFile("file", "text");
  thread_.is_alone = true;
  const int before = dup(STDIN_FILENO);
  close(before);
  const int highest = static_cast<int>(TestGuest::Get().limits.Get(RLIMIT_NOFILE).rlim_cur) - 1;
  for (const bool is_taken : {false, true}) {
    if (is_taken) {
      ASSERT_EQ(dup2(STDIN_FILENO, highest), highest);
    }
    const std::int64_t fd = thread_.Open("file", O_RDONLY);
    EXPECT_EQ(fd, before);
    EXPECT_EQ(ReadAll(fd), "text");
    close(static_cast<int>(fd));
    EXPECT_EQ(fcntl(highest, F_GETFD) >= 0, is_taken);
  }
  struct stat own {}, input {};
  EXPECT_EQ(fstat(highest, &own), 0);
  EXPECT_EQ(fstat(STDIN_FILENO, &input), 0);
  EXPECT_EQ(own.st_ino, input.st_ino);
  close(highest);
}

TEST_F(OpenTest, ExistingFilesWithCreateOpenAsNatively) {
  MakeFile("file", "text");
  ASSERT_EQ(symlink("file", "link"), 0);
  ASSERT_EQ(mkdir("dir", 0700), 0);
  for (const char* name : {"file", "link", "dir", "dir/", "file/", "link/", "missing/x", "dir/."}) {
    for (const std::uint64_t flags :
         {O_CREAT | O_RDWR, O_CREAT | O_EXCL | O_RDWR, O_CREAT | O_NOFOLLOW | O_RDONLY,
          O_CREAT | O_DIRECTORY, O_CREAT | O_TMPFILE | O_RDWR}) {
      ExpectBothWaysAsNatively(name, flags);
    }
  }
}

TEST_F(OpenTest, NewFilesAreCreatedWithTheModeAskedFor) {
  for (const std::string& path : {std::string("new"), directory_ + "/new2"}) {
    const std::int64_t fd = thread_.Open(path, O_CREAT | O_WRONLY, 0640);
    ASSERT_GE(fd, 0);
    struct stat status {};
    fstat(static_cast<int>(fd), &status);
    const mode_t mask = umask(0);
    umask(mask);
    EXPECT_EQ(status.st_mode & 07777, 0640 & ~mask);
    close(static_cast<int>(fd));
    EXPECT_EQ(thread_.Open(path, O_CREAT | O_EXCL | O_WRONLY, 0640), -EEXIST);
  }
  EXPECT_EQ(thread_.Open("new3/", O_CREAT | O_WRONLY, 0600), -EISDIR);
}

TEST_F(OpenTest, ADanglingLinkIsCreatedWhereItPoints) {
  ASSERT_EQ(mkdir("a", 0700), 0);
  ASSERT_EQ(mkdir("b", 0700), 0);
  ASSERT_EQ(symlink("../b/second", "a/first"), 0);
  ASSERT_EQ(symlink((directory_ + "/b/target").c_str(), "b/second"), 0);
  EXPECT_EQ(thread_.Open("a/first", O_CREAT | O_EXCL | O_RDWR, 0600), -EEXIST);
  EXPECT_EQ(thread_.Open("a/first", O_CREAT | O_NOFOLLOW | O_RDWR, 0600), -ELOOP);
  const std::int64_t fd = thread_.Open("a/first", O_CREAT | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(access("b/target", F_OK), 0);
  close(static_cast<int>(fd));
  ASSERT_EQ(symlink("circle", "circle"), 0);
  EXPECT_EQ(thread_.Open("circle", O_CREAT | O_RDWR, 0600), -ELOOP);
  ASSERT_EQ(symlink("missing/target", "lost"), 0);
  EXPECT_EQ(thread_.Open("lost", O_CREAT | O_RDWR, 0600), -ENOENT);
}

TEST_F(OpenTest, TemporaryFilesHaveNoName) {
  ExpectBothWaysAsNatively(".", O_TMPFILE | O_RDWR);
  ExpectBothWaysAsNatively(".", O_TMPFILE | O_RDONLY);
  ExpectAsNatively("/dev/shm", O_TMPFILE | O_RDWR | O_EXCL);
}

TEST_F(OpenTest, DevicesAndProcfsOpenAsNatively) {
  for (const char* path :
       {"/dev/null", "/dev/tty", "/dev/zero", "/proc/meminfo", "/proc/self", "/proc/self/status",
        "/proc/thread-self/comm", "/proc/self/task", "/proc/self/cwd", "/proc/self/root",
        "/proc/self/cwd/..", "/proc/self/x", "/proc/self/fd", "/proc/self/fd/", "/proc/self/fd/99",
        "/proc/mounts", "/proc/self/ns/net", "/proc/self/fd/01"}) {
    ExpectAsNatively(path, O_RDONLY);
    ExpectAsNatively(path, O_PATH);
    ExpectAsNatively(path, O_PATH | O_NOFOLLOW);
  }
}

TEST_F(OpenTest, MagicLinksToDescriptorsOpenTheObjectAnew) {
  const std::string path = MakeFile("file", "text");
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(unlink(path.c_str()), 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const int link = open("/proc/self/exe", O_PATH | O_NOFOLLOW | O_CLOEXEC);
  const int unix_socket = socket(AF_UNIX, SOCK_STREAM, 0);
  for (const std::string& directory : {std::string("/proc/self/fd/"), std::string("/dev/fd/"),
                                       "/proc/self/task/" + std::to_string(gettid()) + "/fd/",
                                       std::string("/proc/self/cwd/fds/")}) {
    [[maybe_unused]] const int made = symlink("/proc/self/fd", "fds");
    for (const int target : {fd, ends[0], ends[1], link, unix_socket, 999}) {
      ExpectAsNatively(directory + std::to_string(target), O_RDONLY | O_NONBLOCK);
      ExpectAsNatively(directory + std::to_string(target), O_WRONLY | O_NONBLOCK);
    }
  }
  ExpectAsNatively("/dev/stdin", O_RDONLY | O_NONBLOCK);
  const int numbers = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
  ExpectAsNatively(std::to_string(fd), O_RDONLY, 0, numbers);
  for (const int used : {fd, ends[0], ends[1], link, unix_socket, numbers}) close(used);
}

TEST_F(OpenTest, TheResultHasTheLowestFreeNumber) {
  MakeFile("file", "text");
  const int lowest = open("/dev/null", O_RDONLY);
  close(lowest);
  for (const char* path : {"file", "/etc/passwd", "/dev/null", "/proc/self/maps", "/dev/fd/0"}) {
    const std::int64_t fd = thread_.Open(path, O_RDONLY);
    EXPECT_EQ(fd, lowest) << path;
    close(static_cast<int>(fd));
  }
  // Nothing is left behind in the reserved range.
  const int next = fcntl(lowest - 1, F_GETFD);
  EXPECT_GE(next, 0);
  CopyResult<ReservedFd> first = TestGuest::Get().limits.Reserve(0);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->get(), FirstReserved() + kFixedSlots);
}

TEST_F(OpenTest, AFullTableGivesEmfileAndTheLastNumberCanBeUsed) {
  rlimit before = TestGuest::Get().limits.Get(RLIMIT_NOFILE);
  const int lowest = open("/dev/null", O_RDONLY);
  const rlimit tight{static_cast<rlim_t>(lowest) + 1, before.rlim_max};
  MakeFile("file", "text");
  EXPECT_EQ(Call(SYS_setrlimit, RLIMIT_NOFILE, thread_.Put(tight)), 0);
  EXPECT_EQ(thread_.Open("file", O_RDONLY), -EMFILE);
  EXPECT_EQ(thread_.Open("/etc/passwd", O_RDONLY), -EMFILE);
  close(lowest);
  EXPECT_EQ(thread_.Open("file", O_RDONLY), lowest);
  close(lowest);
  EXPECT_EQ(Call(SYS_setrlimit, RLIMIT_NOFILE, thread_.Put(before)), 0);
}

TEST_F(OpenTest, AFifoBlocksUntilTheOtherEndComes) {
  ASSERT_EQ(mkfifo("fifo", 0600), 0);
  std::thread writer([] {
    TestThread other(1);
    const std::int64_t fd = other.Open("fifo", O_WRONLY);
    EXPECT_EQ(write(static_cast<int>(fd), "x", 1), 1);
    close(static_cast<int>(fd));
  });
  const std::int64_t fd = thread_.Open("fifo", O_RDONLY);
  writer.join();
  EXPECT_EQ(ReadAll(fd), "?");  // no pread on a pipe: it is one
  char byte = 0;
  EXPECT_EQ(read(static_cast<int>(fd), &byte, 1), 1);
  close(static_cast<int>(fd));
  EXPECT_EQ(thread_.Open("fifo", O_WRONLY | O_NONBLOCK), -ENXIO);
}

TEST_F(OpenTest, APendingSignalAsksForTheCallToBeRepeated) {
  MakeFile("file", "text");
  thread_.signal_pending = 1;
  EXPECT_EQ(thread_.Open("file", O_RDONLY), SyscallResult::Restart().value());
  EXPECT_EQ(thread_.Open("/etc/passwd", O_RDONLY), SyscallResult::Restart().value());
  thread_.signal_pending = 0;
}

TEST_F(OpenTest, HostilePathPointersFault) {
  EXPECT_EQ(Call(SYS_open, RuntimeAddress(), O_RDONLY), -EFAULT);
  EXPECT_EQ(Call(SYS_open, 0, O_RDONLY), -EFAULT);
  EXPECT_EQ(Call(SYS_open, ~0ULL, O_RDONLY), -EFAULT);
  EXPECT_EQ(Call(SYS_open, 0x8000'0000'0000'0000ULL, O_RDONLY), -EFAULT);
  EXPECT_EQ(Call(SYS_openat, AT_FDCWD, kArenaEnd, O_RDONLY), -EFAULT);
  EXPECT_EQ(Call(SYS_creat, kArenaEnd, 0600), -EFAULT);
  std::memset(reinterpret_cast<void*>(kArenaEnd - 8), 'x', 8);  // no NUL before the end
  EXPECT_EQ(Call(SYS_open, kArenaEnd - 8, O_RDONLY), -EFAULT);
  EXPECT_EQ(Call(SYS_open, thread_.PutString(std::string(PATH_MAX, 'x')), O_RDONLY), -ENAMETOOLONG);
  EXPECT_EQ(thread_.Open("", O_RDONLY), -ENOENT);
}

// ---- openat2 ------------------------------------------------------------------------------------

TEST_F(OpenTest, Openat2ChecksItsStructureAsTheKernelDoes) {
  const std::uint64_t path = thread_.PutString("/etc/passwd");
  struct Larger {
    open_how how;
    std::uint64_t more;
  };
  const auto call = [&](const Larger& how, std::uint64_t size) {
    return Call(SYS_openat2, AT_FDCWD, path, thread_.Put(how), size);
  };
  const std::int64_t fd = call({{.flags = O_RDONLY}, 0}, sizeof(open_how));
  EXPECT_GE(fd, 0);
  close(static_cast<int>(fd));
  EXPECT_EQ(call({{.flags = O_RDONLY}, 0}, 8), -EINVAL);
  EXPECT_EQ(call({{.flags = O_RDONLY}, 1}, sizeof(Larger)), -E2BIG);
  EXPECT_EQ(call({{.flags = O_RDONLY}, 0}, 1 << 20), -E2BIG);
  EXPECT_EQ(call({{.flags = 1ULL << 40}, 0}, sizeof(open_how)), -EINVAL);
  EXPECT_EQ(call({{.flags = O_RDONLY, .mode = 0600}, 0}, sizeof(open_how)), -EINVAL);
  EXPECT_EQ(call({{.flags = O_RDONLY, .resolve = 1ULL << 40}, 0}, sizeof(open_how)), -EINVAL);
  EXPECT_EQ(Call(SYS_openat2, AT_FDCWD, path, RuntimeAddress(), sizeof(open_how)), -EFAULT);
  EXPECT_EQ(Call(SYS_openat2, AT_FDCWD, path, kArenaEnd - 8, sizeof(open_how)), -EFAULT);
}

TEST_F(OpenTest, Openat2ResolvesAsAsked) {
  MakeFile("file", "text");
  ASSERT_EQ(symlink("file", "link"), 0);
  ASSERT_EQ(symlink("/etc/passwd", "out"), 0);
  const auto check = [&](const std::string& path, std::uint64_t flags, std::uint64_t resolve) {
    SCOPED_TRACE(path + " " + std::to_string(resolve));
    open_how how{.flags = flags, .mode = (flags & O_CREAT) != 0 ? 0600u : 0, .resolve = resolve};
    const auto native = syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof(how));
    const std::int64_t expected = native < 0 ? -errno : native;
    if (native >= 0) close(static_cast<int>(native));
    const std::int64_t got =
        Call(SYS_openat2, AT_FDCWD, thread_.PutString(path), thread_.Put(how), sizeof(how));
    EXPECT_EQ(got, expected);
    if (got >= 0) close(static_cast<int>(got));
  };
  for (const std::uint64_t resolve :
       {RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS,
        RESOLVE_NO_XDEV, RESOLVE_BENEATH | RESOLVE_NO_XDEV}) {
    for (const char* path : {"file", "link", "out", "../x", "/etc/passwd", "/dev/stdin",
                             "/proc/self/status", "/proc/self/exe"}) {
      check(path, O_RDONLY, resolve);
    }
    check("file", O_RDWR | O_CREAT, resolve);
  }
}

}  // namespace
}  // namespace dunebox::hostcalls
