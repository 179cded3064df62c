#include "hostcalls/services/proc_files.h"

#include <dirent.h>
#include <sys/stat.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "hostcalls/services/proc_views.h"
#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

// ---- Where something is -------------------------------------------------------------------------

TEST(ProcLocation, IsTakenFromTheKernelsNameForIt) {
  struct Case {
    const char* path;
    bool known;
    pid_t id;
    const char* entry;
    int descriptor;
  };
  for (const Case& expected : {
           Case{"/proc", true, 0, "", -1},
           Case{"/proc/meminfo", true, 0, "meminfo", -1},
           Case{"/proc/sys/kernel/osrelease", true, 0, "sys/kernel/osrelease", -1},
           Case{"/proc/12", true, 12, "", -1},
           Case{"/proc/12/maps", true, 12, "maps", -1},
           Case{"/proc/12/maps (deleted)", true, 12, "maps", -1},
           Case{"/proc/12/task", true, 12, "task", -1},
           Case{"/proc/12/task/34", true, 34, "", -1},
           Case{"/proc/12/task/34/mem", true, 34, "mem", -1},
           Case{"/proc/12/fd/5", true, 12, "fd/5", 5},
           Case{"/proc/12/task/34/fdinfo/5", true, 34, "fdinfo/5", 5},
           Case{"/proc/12/fd/05", true, 12, "fd/05", -1},
           Case{"/proc/12/net/tcp", true, 12, "net/tcp", -1},
           // A procfs somewhere else: nothing in its names can be relied on.
           Case{"/mnt/proc/12/maps", false, 0, "", -1},
           Case{"/12/mem", false, 0, "", -1},
           Case{"/process/12/mem", false, 0, "", -1},
       }) {
    const ProcLocation location = ParseProcPath(expected.path);
    EXPECT_TRUE(location.on_proc);
    EXPECT_EQ(location.known, expected.known) << expected.path;
    EXPECT_EQ(location.id, expected.id) << expected.path;
    EXPECT_EQ(location.entry, expected.entry) << expected.path;
    EXPECT_EQ(location.descriptor(), expected.descriptor) << expected.path;
  }
}

TEST(ProcRules, DenyWhatNobodyHasLookedAt) {
  const auto decide = [](const char* path, bool own) {
    return DecideProc(ParseProcPath(path), own);
  };
  EXPECT_EQ(decide("/proc/12/mem", true), ProcAnswer::kRefuse);
  EXPECT_EQ(decide("/proc/12/task/13/mem", false), ProcAnswer::kRefuse);
  EXPECT_EQ(decide("/proc/12/some_new_file", true), ProcAnswer::kRefuse);
  EXPECT_EQ(decide("/proc/12/map_files/400000-401000", true), ProcAnswer::kRefuse);
  EXPECT_EQ(decide("/proc/12/maps", true), ProcAnswer::kMaps);
  EXPECT_EQ(decide("/proc/12/maps", false), ProcAnswer::kRefuse);
  EXPECT_EQ(decide("/proc/12/status", true), ProcAnswer::kPass);
  EXPECT_EQ(decide("/proc/12/task/13/stat", true), ProcAnswer::kStatus);
  EXPECT_EQ(decide("/proc/12/stat", false), ProcAnswer::kStatus);
  EXPECT_EQ(decide("/proc/stat", false), ProcAnswer::kPass);
  EXPECT_EQ(decide("/proc/12", true), ProcAnswer::kPass);
  EXPECT_EQ(decide("/proc/12/attr/current", false), ProcAnswer::kPass);
  EXPECT_EQ(decide("/proc/meminfo", false), ProcAnswer::kPass);
  EXPECT_EQ(decide("/proc/cpuinfo", false), ProcAnswer::kProcessors);
  EXPECT_EQ(decide("/proc/12/cpuinfo", true), ProcAnswer::kRefuse);
  EXPECT_EQ(decide("/proc/kcore", true), ProcAnswer::kRefuse);
  EXPECT_EQ(decide("/elsewhere/12/status", true), ProcAnswer::kRefuse);
  EXPECT_EQ(DecideProc(ProcLocation{}, false), ProcAnswer::kPass);
}

TEST(ProcRules, HaveARowForEveryFileOfThisKernel) {
  DIR* directory = opendir("/proc/self");
  ASSERT_NE(directory, nullptr);
  const std::set<std::string> refused = {
      "mem",        "smaps",   "smaps_rollup", "numa_maps",    "pagemap",  "map_files",
      "clear_refs", "syscall", "stack",        "make-it-fail", "fail-nth", "seccomp_cache"};
  for (const dirent* entry = readdir(directory); entry != nullptr; entry = readdir(directory)) {
    const std::string name = entry->d_name;
    if (name == "." || name == ".." || refused.contains(name)) continue;
    EXPECT_NE(DecideProc(ParseProcPath("/proc/1/" + name), true), ProcAnswer::kRefuse) << name;
  }
  closedir(directory);
}

TEST(ProcStatus, HasNoAddresses) {
  std::string line = "12 (a name) of) S";
  for (int field = 4; field <= 52; ++field) line += absl::StrCat(" ", 1000 + field);
  const std::string shown =
      HideAddresses(line + "\n", "1000-2000 r-xp 0 0:0 0 /bin/x\n7000-8000 rw-p 0 0:0 0 [stack]\n");
  std::string expected = "12 (a name) of) S";
  for (int field = 4; field <= 52; ++field) {
    const bool address = (field >= 26 && field <= 30) || (field >= 45 && field <= 51);
    const int value = field == 28 ? 0x8000 - 8 : address ? 0 : 1000 + field;
    absl::StrAppend(&expected, " ", value);
  }
  absl::StrAppend(&expected, "\n");
  EXPECT_EQ(shown, expected);
  EXPECT_EQ(HideAddresses("no name", ""), "");
  EXPECT_EQ(HideAddresses("1 (x) S 2\n", ""), "1 (x) S 2\n");
}

TEST(ProcessorFlags, AreTakenOutByWholeWords) {
  const std::vector<std::string> hidden = {"sse", "last", "amx_tile"};
  EXPECT_EQ(HideFlags("model\t: sse last\nflags\t\t: fpu sse sse2 ssse3 amx_tile last\n\nflags\t\t: sse\nvmx flags\t: last vnmi\nbugs\t: sse\n", hidden),
            "model\t: sse last\nflags\t\t: fpu sse2 ssse3\n\nflags\t\t:\nvmx flags\t: vnmi\nbugs\t: sse\n");
  EXPECT_EQ(HideFlags("flags:", hidden), "flags:\n");
  EXPECT_EQ(HideFlags("", hidden), "");
}

TEST(ProcLinks, AreMagicWhereTheirTextIsNoPath) {
  EXPECT_TRUE(IsMagicLink(ParseProcPath("/proc/12"), "exe"));
  EXPECT_TRUE(IsMagicLink(ParseProcPath("/proc/12/task/13"), "cwd"));
  EXPECT_TRUE(IsMagicLink(ParseProcPath("/proc/12/fd"), "0"));
  EXPECT_TRUE(IsMagicLink(ParseProcPath("/proc/12/ns"), "net"));
  EXPECT_TRUE(IsMagicLink(ParseProcPath("/proc/12/map_files"), "0-1"));
  EXPECT_FALSE(IsMagicLink(ParseProcPath("/proc/12"), "maps"));
  EXPECT_FALSE(IsMagicLink(ParseProcPath("/proc"), "self"));
  EXPECT_FALSE(IsMagicLink(ParseProcPath("/elsewhere/12/fd"), "0"));
}

// ---- What the guest reads -----------------------------------------------------------------------

class ProcViewsTest : public ServicesTest {
 protected:
  std::int64_t ReadLinkAt(int directory, const std::string& path, std::int64_t size = 4096) {
    buffer_ = thread_.Allocate(4096);
    return Call(SYS_readlinkat, directory, thread_.PutString(path), buffer_, size);
  }
  std::string Text(std::int64_t length) {
    return length < 0 ? "?" : std::string(reinterpret_cast<char*>(buffer_), length);
  }
  std::set<std::string> List(const std::string& path) {
    std::set<std::string> names;
    const std::int64_t fd = thread_.Open(path, O_RDONLY | O_DIRECTORY);
    const std::uint64_t entries = thread_.Allocate(256);
    for (;;) {
      const std::int64_t size = Call(SYS_getdents64, fd, entries, 256);
      EXPECT_GE(size, 0);
      if (size <= 0) break;
      for (std::int64_t at = 0; at < size; at += TestThread::At<std::uint16_t>(entries + at + 16)) {
        names.insert(&TestThread::At<char>(entries + at + 19));
      }
    }
    close(static_cast<int>(fd));
    return names;
  }
  std::uint64_t buffer_ = 0;
};

TEST_F(ProcViewsTest, OrdinaryLinksReadAsNatively) {
  ASSERT_EQ(symlink("target", "link"), 0);
  MakeFile("file", "");
  EXPECT_EQ(Text(ReadLinkAt(AT_FDCWD, "link")), "target");
  EXPECT_EQ(Text(ReadLinkAt(AT_FDCWD, "link", 3)), "tar");
  EXPECT_EQ(ReadLinkAt(AT_FDCWD, "link", 0), -EINVAL);
  EXPECT_EQ(ReadLinkAt(AT_FDCWD, "link", -1), -EINVAL);
  EXPECT_EQ(ReadLinkAt(AT_FDCWD, "file"), -EINVAL);
  EXPECT_EQ(ReadLinkAt(AT_FDCWD, "missing"), -ENOENT);
  EXPECT_EQ(ReadLinkAt(FirstReserved(), "etc"), -EBADF);
  EXPECT_EQ(Text(ReadLinkAt(AT_FDCWD, "/proc/self")), std::to_string(getpid()));
  EXPECT_EQ(Text(ReadLinkAt(AT_FDCWD, "/proc/self/cwd")), directory_);
  const std::uint64_t link = thread_.PutString("link");
  EXPECT_EQ(Call(SYS_readlink, link, RuntimeAddress(), 16), -EFAULT);
  EXPECT_EQ(Call(SYS_readlink, link, kArenaEnd, 16), -EFAULT);
  EXPECT_EQ(Call(SYS_readlink, link, ~0ULL - 4, 16), -EFAULT);
}

TEST_F(ProcViewsTest, ExeIsTheProgram) {
  const std::string pid = std::to_string(getpid());
  for (const std::string& path :
       {std::string("/proc/self/exe"), std::string("/proc/thread-self/exe"),
        "/proc/" + pid + "/exe", "/proc/self/task/" + pid + "/exe"}) {
    EXPECT_EQ(Text(ReadLinkAt(AT_FDCWD, path)), "/etc/passwd") << path;
  }
  const std::int64_t self = thread_.Open("/proc/self", O_PATH);
  EXPECT_EQ(Text(ReadLinkAt(static_cast<int>(self), "exe")), "/etc/passwd");
  const std::int64_t link = thread_.Open("/proc/self/exe", O_PATH | O_NOFOLLOW);
  EXPECT_EQ(Text(ReadLinkAt(static_cast<int>(link), "")), "/etc/passwd");
  close(static_cast<int>(self));
  close(static_cast<int>(link));
}

TEST_F(ProcViewsTest, ReservedDescriptorsAreNotListed) {
  const std::string root = std::to_string(FirstReserved());
  EXPECT_EQ(ReadLinkAt(AT_FDCWD, "/proc/self/fd/" + root), -ENOENT);
  EXPECT_GT(ReadLinkAt(AT_FDCWD, "/proc/self/fd/1"), 0);
  for (const char* directory : {"/proc/self/fd", "/proc/self/fdinfo", "/proc/thread-self/fd"}) {
    const std::set<std::string> names = List(directory);
    EXPECT_TRUE(names.contains("1")) << directory;
    EXPECT_TRUE(names.contains(".."));
    for (const std::string& name : names) {
      EXPECT_LT(atoi(name.c_str()), FirstReserved()) << directory;
    }
  }
  ASSERT_EQ(mkdir(root.c_str(), 0700), 0);
  EXPECT_TRUE(List(directory_).contains(root));  // only where numbers are descriptors
}

TEST_F(ProcViewsTest, AListingOfManyReservedDescriptorsDoesNotEndEarly) {
  std::vector<ReservedFd> many;
  many.reserve(100);
  for (int i = 0; i < 100; ++i) many.push_back(*TestGuest::Get().limits.Reserve(0));
  const int last = fcntl(0, F_DUPFD, 200);
  EXPECT_TRUE(List("/proc/self/fd").contains("200"));
  close(last);
}

TEST_F(ProcViewsTest, GetdentsFaultsOnHostileBuffers) {
  const std::int64_t fd = thread_.Open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
  EXPECT_EQ(Call(SYS_getdents64, fd, thread_.Allocate(8), 8), -EINVAL);
  EXPECT_EQ(Call(SYS_getdents64, fd, RuntimeAddress(), 256), -EFAULT);
  EXPECT_EQ(Call(SYS_getdents64, fd, kArenaEnd, 256), -EFAULT);
  EXPECT_EQ(Call(SYS_getdents64, FirstReserved(), thread_.Allocate(256), 256), -EBADF);
  close(static_cast<int>(fd));
}

TEST(HideReserved, StopsAtEntriesThatMakeNoSense) {
  std::vector<std::byte> entries(48);
  EXPECT_EQ(HideReserved(entries, {.first = 10, .count = 5}), 0u);  // length 0
  entries[16] = std::byte{200};                                     // longer than there is
  EXPECT_EQ(HideReserved(entries, {.first = 10, .count = 5}), 0u);
}

}  // namespace
}  // namespace dunebox::hostcalls
