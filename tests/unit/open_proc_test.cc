// open() and procfs: what the guest must not get, by whatever way and in whatever race.
#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::uint64_t kSecret = 0x5ec4e7'5ec4e7'5e;
volatile std::uint64_t secret = kSecret;

// ---- procfs -------------------------------------------------------------------------------------

class ProcOpenTest : public ServicesTest {
 protected:
  // Every spelling of a file of this process.
  std::vector<std::string> Spellings(const std::string& name) {
    const std::string pid = std::to_string(getpid());
    const std::string tid = std::to_string(gettid());
    [[maybe_unused]] int made = symlink(("/proc/self/" + name).c_str(), "spelled");
    made = symlink("/proc/self", "me");
    return {"/proc/self/" + name,
            "/proc/thread-self/" + name,
            "/proc/" + pid + "/" + name,
            "/proc/" + pid + "/task/" + tid + "/" + name,
            "/proc/self/task/../" + name,
            "/proc/self/root/proc/self/" + name,
            "/proc/self/cwd/me/" + name,
            "//proc//self//" + name,
            "spelled",
            directory_ + "/spelled",
            "me/" + name};
  }
};

TEST_F(ProcOpenTest, MemoryIsRefusedHoweverItIsNamed) {
  for (const std::string& path : Spellings("mem")) {
    for (const std::uint64_t flags :
         {O_RDONLY, O_RDWR, O_WRONLY, O_RDWR | O_CREAT, O_RDWR | O_CLOEXEC | O_NONBLOCK}) {
      EXPECT_EQ(thread_.Open(path, flags, 0600), -EACCES) << path;
    }
  }
  const std::int64_t self = thread_.Open("/proc/self", O_RDONLY | O_DIRECTORY);
  EXPECT_EQ(thread_.OpenAt(static_cast<int>(self), "mem", O_RDWR), -EACCES);
  EXPECT_EQ(thread_.OpenAt(static_cast<int>(self), "./task/../mem", O_RDWR), -EACCES);
  ASSERT_EQ(fchdir(static_cast<int>(self)), 0);
  EXPECT_EQ(thread_.Open("mem", O_RDWR), -EACCES);
  close(static_cast<int>(self));
}

TEST_F(ProcOpenTest, WhatShowsTheRuntimeIsRefused) {
  for (const char* name : {"smaps", "smaps_rollup", "numa_maps", "pagemap", "map_files",
                           "clear_refs", "syscall", "stack"}) {
    const std::string path = std::string("/proc/self/") + name;
    if (access(path.c_str(), F_OK) != 0) continue;
    EXPECT_EQ(thread_.Open(path, O_RDONLY), -EACCES) << name;
  }
  EXPECT_EQ(thread_.Open("/proc/1/maps", O_RDONLY), -EACCES);
  EXPECT_EQ(thread_.Open("/proc/kcore", O_RDONLY),
            access("/proc/kcore", F_OK) == 0 ? -EACCES : -ENOENT);
}

TEST_F(ProcOpenTest, APathDescriptorOfMemoryDoesNotOpenIt) {
  const std::int64_t fd = thread_.Open("/proc/self/mem", O_PATH);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(thread_.Open("/proc/self/fd/" + std::to_string(fd), O_RDWR), -EACCES);
  EXPECT_EQ(thread_.Open("/dev/fd/" + std::to_string(fd), O_RDONLY), -EACCES);
  close(static_cast<int>(fd));
}

TEST_F(ProcOpenTest, MapsAreTheGuestsAndCannotBeChanged) {
  for (const std::string& path : Spellings("maps")) {
    const std::int64_t fd = thread_.Open(path, O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0) << path;
    EXPECT_EQ(ReadAll(fd), "the guest's maps\n");
    EXPECT_EQ(fcntl(static_cast<int>(fd), F_GETFL) & O_ACCMODE, O_RDONLY);
    EXPECT_EQ(fcntl(static_cast<int>(fd), F_GETFD), FD_CLOEXEC);
    const int writable = open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR | O_CLOEXEC);
    if (writable >= 0) {  // root may open it; the seal holds
      EXPECT_EQ(write(writable, "x", 1), -1);
    }
    close(writable);
    close(static_cast<int>(fd));
  }
  EXPECT_EQ(thread_.Open("/proc/self/maps", O_RDWR), -EACCES);
}

TEST_F(ProcOpenTest, EnvironmentAndItsLikeAreTheGuests) {
  const auto read_proc = [&](const char* path) {
    const std::int64_t fd = thread_.Open(path, O_RDONLY);
    EXPECT_GE(fd, 0) << path;
    std::string text = ReadAll(fd);
    close(static_cast<int>(fd));
    return text;
  };
  EXPECT_EQ(read_proc("/proc/self/environ"), std::string("A=1\0B=2\0", 8));
  EXPECT_EQ(read_proc("/proc/self/auxv"), std::string(16, '\0'));
  EXPECT_EQ(read_proc("/proc/self/cmdline"), std::string("guest\0", 6));
  TestGuest::Get().process.command_line.clear();
  EXPECT_NE(read_proc("/proc/self/cmdline").find(program_invocation_short_name), std::string::npos);
  TestGuest::Get().process.command_line = std::string("guest\0", 6);
}

TEST_F(ProcOpenTest, ExeIsTheProgram) {
  struct stat program {};
  ASSERT_EQ(stat("/etc/passwd", &program), 0);
  for (const std::string& path : Spellings("exe")) {
    const std::int64_t fd = thread_.Open(path, O_RDONLY);
    ASSERT_GE(fd, 0) << path;
    struct stat opened {};
    fstat(static_cast<int>(fd), &opened);
    EXPECT_EQ(opened.st_ino, program.st_ino);
    close(static_cast<int>(fd));
  }
  EXPECT_EQ(thread_.Open("/proc/self/exe", O_RDONLY | O_NOFOLLOW), -ELOOP);
}

TEST_F(ProcOpenTest, DescriptorsOfTheRuntimeAreNotThere) {
  const std::string path = MakeFile("private", "of the runtime");
  const int low = open(path.c_str(), O_RDWR | O_CLOEXEC);
  CopyResult<ReservedFd> reserved = TestGuest::Get().limits.Reserve(low);
  close(low);
  ASSERT_TRUE(reserved.ok());
  for (const std::string& name : Spellings("fd/" + std::to_string(reserved->get()))) {
    for (const std::uint64_t flags : {O_RDONLY, O_RDWR, O_PATH, O_RDWR | O_CREAT}) {
      EXPECT_EQ(thread_.Open(name, flags, 0600), -ENOENT) << name << " " << flags;
    }
  }
  const std::string root = std::to_string(FirstReserved());
  EXPECT_EQ(thread_.Open("/proc/self/fd/" + root + "/etc/passwd", O_RDONLY), -ENOENT);
  EXPECT_EQ(thread_.Open("/proc/self/fd/" + root + "/new", O_RDWR | O_CREAT | O_EXCL, 0600),
            -ENOENT);
  const std::int64_t numbers = thread_.Open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
  EXPECT_EQ(thread_.OpenAt(static_cast<int>(numbers), root, O_RDONLY), -ENOENT);
  close(static_cast<int>(numbers));
  EXPECT_EQ(thread_.OpenAt(FirstReserved(), "etc/passwd", O_RDONLY), -EBADF);
}

TEST_F(ProcOpenTest, TextFilesDoNotCostTheRuntimeADescriptor) {
  for (int i = 0; i < 100; ++i) {
    const std::int64_t fd = thread_.Open("/proc/self/maps", O_RDONLY);
    ASSERT_GE(fd, 0);
    close(static_cast<int>(fd));
  }
  CopyResult<ReservedFd> first = TestGuest::Get().limits.Reserve(0);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->get(), FirstReserved() + kFixedSlots);
}

TEST_F(ProcOpenTest, AfterChrootPathsStartAtTheNewRoot) {
  if (geteuid() != 0) GTEST_SKIP() << "chroot needs root";
  ASSERT_EQ(mkdir("root", 0700), 0);
  MakeFile("root/only-here", "text");
  const pid_t child = fork();
  if (child == 0) {
    const bool changed = thread_.Call(SYS_chroot, thread_.PutString("root")) == 0;
    const bool inside = thread_.Open("/only-here", O_RDONLY) >= 0;
    const bool outside = thread_.Open("/etc/passwd", O_RDONLY) == -ENOENT;
    const bool created = thread_.Open("/new", O_RDWR | O_CREAT, 0600) >= 0;
    _exit(changed && inside && outside && created ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(access("root/new", F_OK), 0);
  EXPECT_GE(thread_.Open("/etc/passwd", O_RDONLY), 0);  // this process is where it was
}

// ---- Races --------------------------------------------------------------------------------------

// Reads the secret through `fd` as if it were the process's memory.
bool ShowsSecret(std::int64_t fd) {
  std::uint64_t value = 0;
  const auto offset = static_cast<off_t>(reinterpret_cast<std::uint64_t>(&secret));
  return pread(static_cast<int>(fd), &value, sizeof(value), offset) == sizeof(value) &&
         value == secret;
}

class OpenRaceTest : public ServicesTest {
 protected:
  static constexpr int kRounds = 20'000;
  // Opens `path` again and again while `attack` runs in another thread.
  void Loop(const std::string& path, std::uint64_t flags,
            const std::function<void(TestThread&)>& attack) {
    std::atomic<bool> stop = false;
    std::thread attacker([&] {
      TestThread sibling(1);
      while (!stop) attack(sibling);
    });
    int opened = 0;
    for (int round = 0; round < kRounds; ++round) {
      const std::int64_t fd = thread_.Open(path, flags, 0600);
      if (fd < 0) continue;
      ++opened;
      if (ShowsSecret(fd)) ADD_FAILURE() << "memory of the runtime in round " << round;
      close(static_cast<int>(fd));
    }
    stop = true;
    attacker.join();
    EXPECT_GT(opened, 0);
  }
};

TEST_F(OpenRaceTest, ALinkThatFlipsToMemoryNeverOpensIt) {
  ASSERT_TRUE(ShowsSecret(open("/proc/self/mem", O_RDWR)));  // the attack is one
  MakeFile("file", std::string(64, 'x'));
  ASSERT_EQ(symlink("/proc/self/mem", "memory"), 0);
  ASSERT_EQ(symlink("file", "name"), 0);
  const auto flip = [](TestThread&) {
    syscall(SYS_renameat2, AT_FDCWD, "name", AT_FDCWD, "memory", 2 /* RENAME_EXCHANGE */);
  };
  Loop("name", O_RDWR, flip);
  Loop(directory_ + "/name", O_RDWR, flip);
  Loop("name", O_RDWR | O_CREAT, flip);
}

TEST_F(OpenRaceTest, ASiblingThatReplacesDescriptorsGainsNothing) {
  MakeFile("file", std::string(64, 'x'));
  const std::int64_t memory = thread_.Open("/proc/self/mem", O_PATH);
  ASSERT_GE(memory, 0);
  const int number = dup(0);  // the one that an open in the other thread uses for a moment
  close(number);
  Loop("file", O_RDWR, [&](TestThread& sibling) {
    sibling.Call(SYS_dup2, memory, number);
    sibling.Call(SYS_close, number);
    sibling.Call(SYS_dup2, memory, FirstReserved() + kFixedSlots);
    sibling.Call(SYS_close, FirstReserved() + kFixedSlots);
  });
  Call(SYS_close_range, memory, 64, 0);
}

TEST_F(OpenRaceTest, ASiblingThatOpensWhatItSeesGainsNothing) {
  const std::int64_t lowest = thread_.Open("/dev/null", O_RDONLY);
  close(static_cast<int>(lowest));
  std::atomic<bool> leaked = false;
  std::atomic<bool> stop = false;
  std::thread attacker([&] {
    TestThread sibling(1);
    const std::string link = "/proc/self/fd/" + std::to_string(lowest);
    while (!stop) {
      const std::int64_t copy = sibling.Call(SYS_dup, lowest);
      const std::int64_t opened = sibling.Open(link, O_RDWR);
      if (ShowsSecret(lowest) || (copy >= 0 && ShowsSecret(copy)) ||
          (opened >= 0 && ShowsSecret(opened))) {
        leaked = true;
      }
      if (copy >= 0) close(static_cast<int>(copy));
      if (opened >= 0) close(static_cast<int>(opened));
    }
  });
  for (int round = 0; round < kRounds; ++round) {
    const std::int64_t fd = thread_.Open("/proc/self/mem", O_RDWR);
    // EMFILE and the like are none of this test's business; a descriptor is.
    if (fd >= 0) leaked = true;
  }
  stop = true;
  attacker.join();
  EXPECT_FALSE(leaked);
}

TEST_F(OpenRaceTest, CreatingAgainstARemoverNeverFailsOddly) {
  std::atomic<bool> stop = false;
  std::thread remover([&] {
    while (!stop) unlink("contended");
  });
  for (int round = 0; round < kRounds; ++round) {
    const std::int64_t fd = thread_.Open("contended", O_RDWR | O_CREAT, 0600);
    ASSERT_GE(fd, 0);
    close(static_cast<int>(fd));
  }
  stop = true;
  remover.join();
}

}  // namespace
}  // namespace dunebox::hostcalls
