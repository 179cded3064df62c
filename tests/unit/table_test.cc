// The system-call table against itself, the kernel's header and the C library's constants.
#include "hostcalls/table/table.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <time.h>

#include <set>
#include <string>
#include <string_view>

#include "hostcalls/services/path_calls.h"

namespace dunebox::hostcalls {
namespace {

struct NativeSyscall {
  std::uint64_t number;
  const char* name;
};

// The header this machine was installed with, and what Linux has added up to 6.18.
constexpr NativeSyscall kNativeSyscalls[] = {
#define NATIVE_SYSCALL(name, number) {number, #name},
#include "native_syscalls.inc"
#undef NATIVE_SYSCALL
};
constexpr NativeSyscall kNewerSyscalls[] = {
    {335, "uretprobe"},         {336, "uprobe"},
    {451, "cachestat"},         {452, "fchmodat2"},
    {453, "map_shadow_stack"},  {454, "futex_wake"},
    {455, "futex_wait"},        {456, "futex_requeue"},
    {457, "statmount"},         {458, "listmount"},
    {459, "lsm_get_self_attr"}, {460, "lsm_set_self_attr"},
    {461, "lsm_list_modules"},  {462, "mseal"},
    {463, "setxattrat"},        {464, "getxattrat"},
    {465, "listxattrat"},       {466, "removexattrat"},
    {467, "open_tree_attr"},    {468, "file_getattr"},
    {469, "file_setattr"},
};

bool NeedsLength(ArgumentKind kind) {
  switch (kind) {
    case ArgumentKind::kBufferIn:
    case ArgumentKind::kBufferOut:
    case ArgumentKind::kArrayIn:
    case ArgumentKind::kArrayOut:
    case ArgumentKind::kArrayInOut:
    case ArgumentKind::kIovecIn:
    case ArgumentKind::kIovecOut:
    case ArgumentKind::kSockaddrIn:
    case ArgumentKind::kSockaddrOut:
    case ArgumentKind::kFdSet:
      return true;
    default:
      return false;
  }
}

bool NeedsSize(ArgumentKind kind) {
  switch (kind) {
    case ArgumentKind::kStructIn:
    case ArgumentKind::kStructOut:
    case ArgumentKind::kStructInOut:
    case ArgumentKind::kArrayIn:
    case ArgumentKind::kArrayOut:
    case ArgumentKind::kArrayInOut:
      return true;
    default:
      return false;
  }
}

bool IsCount(ArgumentKind kind) {
  return kind == ArgumentKind::kInt || kind == ArgumentKind::kUnsigned ||
         kind == ArgumentKind::kSize;
}

std::set<std::string> NamesWithRoute(Route route) {
  std::set<std::string> names;
  for (const Row& row : AllRows()) {
    if (row.route == route) names.insert(row.name);
  }
  return names;
}

std::uint32_t SizeOfArgument(std::string_view call, std::size_t index) {
  return FindRow(call)->arguments[index].size;
}

std::uint64_t ValueOf(FlagSet set, std::string_view name) {
  for (const FlagName& entry : NamesOf(set)) {
    if (entry.name == name) return entry.value;
  }
  ADD_FAILURE() << "no entry " << name;
  return 0;
}

TEST(Table, RowsAscendAndNamesAreUnique) {
  std::set<std::string> names;
  int previous = -1;
  for (const Row& row : AllRows()) {
    EXPECT_GT(static_cast<int>(row.number), previous) << row.name;
    EXPECT_LT(row.number, kSyscallTableSize) << row.name;
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    previous = row.number;
  }
}

TEST(Table, EveryCallOfTheKernelHeaderHasItsRow) {
  ASSERT_GT(std::size(kNativeSyscalls), 300u);
  for (const NativeSyscall& native : kNativeSyscalls) {
    const Row* row = FindRow(native.number);
    ASSERT_NE(row, nullptr) << native.name;
    EXPECT_STREQ(row->name, native.name);
  }
}

TEST(Table, EveryCallAddedUpToLinux618HasItsRow) {
  for (const NativeSyscall& newer : kNewerSyscalls) {
    const Row* row = FindRow(newer.number);
    ASSERT_NE(row, nullptr) << newer.name;
    EXPECT_STREQ(row->name, newer.name);
  }
  EXPECT_EQ(AllRows().back().number, 469);
}

TEST(Table, RowIsFoundByNumberAndByName) {
  for (const Row& row : AllRows()) {
    EXPECT_EQ(FindRow(row.number), &row);
    EXPECT_EQ(FindRow(std::string_view(row.name)), &row);
  }
}

TEST(Table, NumberWithoutARowFindsNothing) {
  for (const std::uint64_t number :
       {std::uint64_t{337}, std::uint64_t{423}, std::uint64_t{470}, std::uint64_t{511},
        std::uint64_t{512}, std::uint64_t{0x4000'0000}, std::uint64_t{0x1'0000'0000},
        ~std::uint64_t{0}}) {
    EXPECT_EQ(FindRow(number), nullptr) << number;
  }
  EXPECT_EQ(FindRow("read "), nullptr);
  EXPECT_EQ(FindRow(""), nullptr);
}

TEST(Table, ArgumentsHaveNoGapsAndHaveNames) {
  for (const Row& row : AllRows()) {
    for (int i = 0; i < kMaxArguments; ++i) {
      const Argument& argument = row.arguments[static_cast<std::size_t>(i)];
      const bool present = i < row.argument_count();
      EXPECT_EQ(argument.kind != ArgumentKind::kNone, present) << row.name << " " << i;
      EXPECT_EQ(std::string_view(argument.name).empty(), !present) << row.name << " " << i;
    }
  }
}

TEST(Table, EveryLengthIsInAnArgumentThatCounts) {
  for (const Row& row : AllRows()) {
    for (const Argument& argument : row.arguments) {
      if (!NeedsLength(argument.kind)) {
        EXPECT_EQ(argument.length_argument, -1) << row.name << " " << argument.name;
        continue;
      }
      ASSERT_GE(argument.length_argument, 0) << row.name << " " << argument.name;
      ASSERT_LT(argument.length_argument, row.argument_count()) << row.name;
      const Argument& length = row.arguments[static_cast<std::size_t>(argument.length_argument)];
      if (argument.kind == ArgumentKind::kSockaddrOut) {
        EXPECT_EQ(length.kind, ArgumentKind::kStructInOut) << row.name;
        EXPECT_EQ(length.size, sizeof(socklen_t)) << row.name;
      } else {
        EXPECT_TRUE(IsCount(length.kind)) << row.name << " " << argument.name;
      }
    }
  }
}

TEST(Table, EveryStructAndArrayHasASizeThatItsShapeFits) {
  for (const Row& row : AllRows()) {
    for (const Argument& argument : row.arguments) {
      if (NeedsSize(argument.kind)) {
        EXPECT_GT(argument.size, 0u) << row.name;
      }
      if (SizeOf(argument.shape) != 0) {
        EXPECT_EQ(argument.size, SizeOf(argument.shape)) << row.name;
      }
    }
  }
}

TEST(Table, EveryFlagsArgumentHasNames) {
  for (const Row& row : AllRows()) {
    for (const Argument& argument : row.arguments) {
      const bool has_names = !NamesOf(argument.flag_set).empty();
      EXPECT_EQ(argument.kind == ArgumentKind::kFlags, has_names) << row.name;
    }
  }
}

TEST(Table, EveryRefusalSaysWhyInOneSentence) {
  for (const Row& row : AllRows()) {
    const std::string_view note = row.note;
    if (row.route == Route::kDenied || row.route == Route::kAbsent) {
      EXPECT_FALSE(note.empty()) << row.name;
    }
    if (note.empty()) continue;
    EXPECT_EQ(note.back(), '.') << row.name;
    EXPECT_EQ(note.find('|'), std::string_view::npos) << row.name << ": breaks the document";
  }
}

// What an address as a bare value means, only a handler can know: such a call must not be
// forwarded. (getcpu's third argument is one that the kernel ignores.)
TEST(Table, NoForwardedCallTakesAnAddressThatNobodyChecks) {
  for (const Row& row : AllRows()) {
    if (row.route != Route::kForwarded || std::string_view(row.name) == "getcpu") continue;
    for (const Argument& argument : row.arguments) {
      EXPECT_NE(argument.kind, ArgumentKind::kAddress) << row.name << " " << argument.name;
      EXPECT_NE(argument.kind, ArgumentKind::kStringArray) << row.name;
      EXPECT_NE(argument.kind, ArgumentKind::kMessageIn) << row.name;
      EXPECT_NE(argument.kind, ArgumentKind::kMessageOut) << row.name;
    }
  }
}

// Which file a path means, only path_calls.inc knows. A link's text is no path to anything yet.
TEST(Table, EveryPathOfAForwardedCallIsLookedUpInOnePlace) {
  for (const Row& row : AllRows()) {
    if (row.route != Route::kForwarded) continue;
    for (int i = 0; i < row.argument_count(); ++i) {
      const Argument& argument = row.arguments[static_cast<std::size_t>(i)];
      if (argument.kind != ArgumentKind::kPath || std::string_view(argument.name) == "target") {
        continue;
      }
      EXPECT_TRUE(IsPathArgument(row, i)) << row.name << " " << argument.name;
    }
  }
}

TEST(Table, DoorsToOtherMemoryAreNeverForwarded) {
  for (const char* name : {"io_uring_setup",
                           "io_uring_enter",
                           "io_uring_register",
                           "process_vm_readv",
                           "ptrace",
                           "process_vm_writev",
                           "bpf",
                           "userfaultfd",
                           "mseal",
                           "pkey_mprotect",
                           "pkey_alloc",
                           "pkey_free",
                           "pidfd_getfd",
                           "remap_file_pages",
                           "map_shadow_stack",
                           "process_madvise",
                           "modify_ldt",
                           "perf_event_open",
                           "io_setup",
                           "io_submit",
                           "futex_waitv",
                           "open_by_handle_at",
                           "kexec_load"}) {
    const Row* row = FindRow(name);
    ASSERT_NE(row, nullptr) << name;
    EXPECT_TRUE(row->route == Route::kDenied || row->route == Route::kAbsent) << name;
  }
}

TEST(Table, CallsThatKeepAnAddressOrDependOnACommandAreHandled) {
  const std::set<std::string> handled = NamesWithRoute(Route::kHandled);
  for (const char* name :
       {"set_robust_list", "set_tid_address", "sigaltstack",  "clone",      "clone3",
        "ioctl",           "fcntl",           "prctl",        "arch_prctl", "futex",
        "semctl",          "shmctl",          "msgctl",       "getsockopt", "setsockopt",
        "timer_create",    "rt_sigaction",    "rt_sigreturn", "sendmsg",    "recvmsg",
        "sendmmsg",        "recvmmsg",        "pselect6",     "seccomp",    "mmap",
        "setrlimit",       "prlimit64",       "close_range",  "execve",     "execveat",
        "mbind",           "move_pages"}) {
    EXPECT_TRUE(handled.contains(name)) << name;
  }
}

TEST(Table, StructSizesAreTheKernels) {
  EXPECT_EQ(SizeOfArgument("fstat", 1), sizeof(struct stat));
  EXPECT_EQ(SizeOfArgument("fstatfs", 1), sizeof(struct statfs));
  EXPECT_EQ(SizeOfArgument("uname", 0), sizeof(struct utsname));
  EXPECT_EQ(SizeOfArgument("sysinfo", 0), sizeof(struct sysinfo));
  EXPECT_EQ(SizeOfArgument("getrusage", 1), sizeof(struct rusage));
  EXPECT_EQ(SizeOfArgument("getrlimit", 1), sizeof(struct rlimit));
  EXPECT_EQ(SizeOfArgument("adjtimex", 0), sizeof(struct timex));
  EXPECT_EQ(SizeOfArgument("statx", 4), sizeof(struct statx));
  EXPECT_EQ(SizeOfArgument("nanosleep", 0), sizeof(struct timespec));
  EXPECT_EQ(SizeOfArgument("timer_settime", 2), sizeof(struct itimerspec));
  EXPECT_EQ(SizeOfArgument("waitid", 2), sizeof(siginfo_t));
  EXPECT_EQ(SizeOfArgument("sigaltstack", 0), sizeof(stack_t));
  EXPECT_EQ(SizeOfArgument("sendmmsg", 1), sizeof(struct mmsghdr));
}

TEST(Table, FlagNumbersAreTheCLibrarys) {
  EXPECT_EQ(ValueOf(FlagSet::kOpen, "O_CREAT"), O_CREAT);
  EXPECT_EQ(ValueOf(FlagSet::kOpen, "O_SYNC"), O_SYNC);
  EXPECT_EQ(ValueOf(FlagSet::kOpen, "O_TMPFILE"), O_TMPFILE);
  EXPECT_EQ(ValueOf(FlagSet::kOpen, "O_NOFOLLOW"), O_NOFOLLOW);
  EXPECT_EQ(ValueOf(FlagSet::kOpen, "O_CLOEXEC"), O_CLOEXEC);
  EXPECT_EQ(ValueOf(FlagSet::kOpen, "O_PATH"), O_PATH);
  EXPECT_EQ(ValueOf(FlagSet::kAt, "AT_EMPTY_PATH"), AT_EMPTY_PATH);
  EXPECT_EQ(ValueOf(FlagSet::kMap, "MAP_FIXED_NOREPLACE"), MAP_FIXED_NOREPLACE);
  EXPECT_EQ(ValueOf(FlagSet::kMap, "MAP_NORESERVE"), MAP_NORESERVE);
  EXPECT_EQ(ValueOf(FlagSet::kAdvice, "MADV_DONTNEED"), MADV_DONTNEED);
  EXPECT_EQ(ValueOf(FlagSet::kAdvice, "MADV_WIPEONFORK"), MADV_WIPEONFORK);
  EXPECT_EQ(ValueOf(FlagSet::kClone, "CLONE_CHILD_CLEARTID"), CLONE_CHILD_CLEARTID);
  EXPECT_EQ(ValueOf(FlagSet::kClone, "CLONE_NEWUSER"), CLONE_NEWUSER);
  EXPECT_EQ(ValueOf(FlagSet::kFutex, "FUTEX_WAIT_BITSET"), FUTEX_WAIT_BITSET);
  EXPECT_EQ(ValueOf(FlagSet::kFcntl, "F_DUPFD_CLOEXEC"), F_DUPFD_CLOEXEC);
  EXPECT_EQ(ValueOf(FlagSet::kFcntl, "F_OFD_SETLKW"), F_OFD_SETLKW);
  EXPECT_EQ(ValueOf(FlagSet::kIoctl, "TIOCGWINSZ"), TIOCGWINSZ);
  EXPECT_EQ(ValueOf(FlagSet::kPrctl, "PR_SET_NO_NEW_PRIVS"), PR_SET_NO_NEW_PRIVS);
  EXPECT_EQ(ValueOf(FlagSet::kPrctl, "PR_SET_VMA"), PR_SET_VMA);
  EXPECT_EQ(ValueOf(FlagSet::kResource, "RLIMIT_NOFILE"), RLIMIT_NOFILE);
  EXPECT_EQ(ValueOf(FlagSet::kMessage, "MSG_NOSIGNAL"), MSG_NOSIGNAL);
  EXPECT_EQ(ValueOf(FlagSet::kSocketType, "SOCK_CLOEXEC"), SOCK_CLOEXEC);
  EXPECT_EQ(ValueOf(FlagSet::kClock, "CLOCK_BOOTTIME"), CLOCK_BOOTTIME);
}

TEST(Table, FlagEntriesMatchThemselves) {
  for (const Row& row : AllRows()) {
    for (const Argument& argument : row.arguments) {
      for (const FlagName& entry : NamesOf(argument.flag_set)) {
        EXPECT_EQ(entry.value & entry.mask, entry.value) << entry.name;
        EXPECT_NE(entry.mask, 0u) << entry.name;
      }
    }
  }
}

TEST(Table, RoutesAndFamiliesHaveNames) {
  EXPECT_EQ(ToString(Route::kForwarded), "forwarded");
  EXPECT_EQ(ToString(Route::kAbsent), "absent");
  EXPECT_EQ(ToString(Family::kFiles), "files");
  EXPECT_EQ(ToString(Family::kSystem), "system");
}

}  // namespace
}  // namespace dunebox::hostcalls
