#include "runtime/confinement/host_filter.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/kvm.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <cstddef>
#include <map>
#include <set>
#include <string>

#include "hostcalls/table/table.h"
#include "tests/unit/bpf_machine.h"

namespace dunebox::confinement {
namespace {

using hostcalls::Route;
using hostcalls::Row;
using hostcalls::policy::CallAction;
using hostcalls::policy::Reach;
using hostcalls::policy::Rules;
using Program = std::vector<sock_filter>;
using Arguments = std::array<std::uint64_t, 6>;

constexpr std::uint64_t kNoExecSeal = 0x8;
constexpr std::size_t kCache = std::size_t{256} << 20;
constexpr FilterSubject kJit{.code_cache = kCache, .sealed_memfds = true};
constexpr FilterSubject kKvm{.kvm = true, .sealed_memfds = true};
constexpr std::uint32_t kKill = SECCOMP_RET_KILL_PROCESS, kAllow = SECCOMP_RET_ALLOW;

Program Compile(const std::vector<FilterRule>& rules) {
  absl::StatusOr<Program> program = CompileFilter(rules);
  EXPECT_TRUE(program.ok()) << program.status();
  return program.ok() ? *program : Program{};
}

std::uint32_t Answer(const Program& program, std::uint64_t number, Arguments arguments = {},
                     std::uint32_t architecture = AUDIT_ARCH_X86_64) {
  seccomp_data data{.nr = static_cast<int>(number), .arch = architecture};
  std::ranges::copy(arguments, data.args);
  return Verdict(program, data);
}

// Everything, for the tests that look at one thing.
Rules NoRules() { return Rules{}; }
// The narrowest there is.
Rules Narrow() {
  Rules rules;
  rules.allow_all = false;
  rules.origins = {"default"};
  return rules;
}

const Program& OfJit() {
  static const Program program = Compile(FilterRules(kJit, Narrow()));
  return program;
}
const Program& OfKvm() {
  static const Program program = Compile(FilterRules(kKvm, Narrow()));
  return program;
}

// Arguments of which a rule holds.
Arguments Sample(const FilterRule& rule) {
  Arguments arguments{};
  for (const ArgumentTest& test : rule.tests) arguments[test.argument] |= test.value;
  return arguments;
}

std::uint32_t Action(const FilterRule& rule) {
  return rule.error == 0 ? kAllow : SECCOMP_RET_ERRNO | rule.error;
}

TEST(HostFilter, EveryForwardedCallIsMade) {
  const std::set<std::string> with_forms = {"socket", "socketpair"};
  for (const Row& row : hostcalls::AllRows()) {
    if (row.route != Route::kForwarded || with_forms.contains(row.name)) continue;
    EXPECT_EQ(Answer(OfJit(), row.number, {1, 2, 3, 4, 5, 6}), kAllow) << row.name;
    EXPECT_EQ(Answer(OfKvm(), row.number, {1, 2, 3, 4, 5, 6}), kAllow) << row.name;
  }
}

// What the runtime needs for itself although the program may not have it.
const std::set<std::string>& RuntimesOwn() {
  static const std::set<std::string> names = {"rseq", "restart_syscall"};
  return names;
}

TEST(HostFilter, WhatIsDeniedOrAbsentKills) {
  int killed = 0;
  for (const Row& row : hostcalls::AllRows()) {
    if (row.route != Route::kDenied && row.route != Route::kAbsent) continue;
    if (RuntimesOwn().contains(row.name)) continue;
    for (const Arguments& arguments :
         {Arguments{}, Arguments{1, 1, 1, 1, 1, 1}, Arguments{~0UL, ~0UL, ~0UL, ~0UL, ~0UL, ~0UL}}) {
      EXPECT_EQ(Answer(OfJit(), row.number, arguments), kKill) << row.name;
      EXPECT_EQ(Answer(OfKvm(), row.number, arguments), kKill) << row.name;
    }
    ++killed;
  }
  EXPECT_GT(killed, 80);
}

TEST(HostFilter, NumbersOfNoRowKill) {
  for (std::uint64_t number = 0; number < 1024; ++number) {
    if (hostcalls::FindRow(number) != nullptr) continue;
    EXPECT_EQ(Answer(OfJit(), number), kKill) << number;
  }
  EXPECT_EQ(Answer(OfJit(), 0xffffffff), kKill);
}

TEST(HostFilter, CallsOfOtherArchitecturesKill) {
  constexpr std::uint64_t kX32 = 0x40000000;
  for (const Row& row : hostcalls::AllRows()) {
    EXPECT_EQ(Answer(OfJit(), row.number | kX32), kKill) << row.name;
    EXPECT_EQ(Answer(OfJit(), row.number, {}, AUDIT_ARCH_I386), kKill) << row.name;
  }
}

TEST(HostFilter, EachRuleIsNeeded) {
  for (const FilterSubject& subject : {kJit, kKvm}) {
    const std::vector<FilterRule> rules = FilterRules(subject, Narrow());
    const Program whole = Compile(rules);
    for (std::size_t i = 0; i < rules.size(); ++i) {
      const std::string name = std::string(hostcalls::FindRow(rules[i].number)->name) + ": " +
                               std::string(rules[i].reason);
      std::vector<FilterRule> others = rules;
      others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
      ASSERT_EQ(Answer(whole, rules[i].number, Sample(rules[i])), Action(rules[i])) << name;
      ASSERT_EQ(Answer(Compile(others), rules[i].number, Sample(rules[i])), kKill) << name;
    }
  }
}

TEST(HostFilter, ACallHasFormsOrNone) {
  std::map<std::uint16_t, int> plain, formed;
  for (const FilterRule& rule : FilterRules(kJit, Narrow())) {
    ++(rule.tests.empty() ? plain : formed)[rule.number];
  }
  for (const auto& [number, count] : plain) {
    EXPECT_FALSE(formed.contains(number)) << hostcalls::FindRow(number)->name;
  }
}

TEST(HostFilter, NothingBecomesExecutableUnderKvm) {
  EXPECT_EQ(Answer(OfKvm(), SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE}), kAllow);
  for (const std::uint64_t size : {std::uint64_t{4096}, std::uint64_t{kCache}}) {
    for (std::uint64_t prot = PROT_EXEC; prot < 8; ++prot) {
      EXPECT_EQ(Answer(OfKvm(), SYS_mmap, {0, size, prot, MAP_SHARED | MAP_NORESERVE}), kKill);
      EXPECT_EQ(Answer(OfKvm(), SYS_mprotect, {0, size, prot}), kKill);
    }
  }
  EXPECT_EQ(Answer(OfKvm(), SYS_shmat, {1, 0, SHM_EXEC}), kKill);
  EXPECT_EQ(Answer(OfKvm(), SYS_shmat, {1, 0, SHM_RDONLY}), kAllow);
}

TEST(HostFilter, TheCodeCacheAloneBecomesExecutableUnderJit) {
  constexpr std::uint64_t kCode = PROT_READ | PROT_EXEC, kAbove = 0x7fff00000000, kGuest = 0x10000;
  constexpr std::uint64_t kShared = MAP_SHARED | MAP_NORESERVE;
  const auto map = [](std::uint64_t address, std::uint64_t size, std::uint64_t prot,
                      std::uint64_t flags, std::uint64_t offset = 0) {
    return Answer(OfJit(), SYS_mmap, {address, size, prot, flags, 5, offset});
  };
  EXPECT_EQ(map(0, kCache, kCode, kShared), kAllow);
  EXPECT_EQ(map(kAbove, kCache, kCode, kShared | MAP_FIXED), kAllow);
  EXPECT_EQ(map(kGuest, kCache, kCode, kShared | MAP_FIXED), kKill);
  EXPECT_EQ(map(0, kCache + 4096, kCode, kShared), kKill);
  EXPECT_EQ(map(0, 4096, kCode, kShared), kKill);
  EXPECT_EQ(map(0, kCache, kCode | PROT_WRITE, kShared), kKill);
  EXPECT_EQ(map(0, kCache, kCode, MAP_PRIVATE | MAP_NORESERVE), kKill);
  EXPECT_EQ(map(0, kCache, kCode, MAP_PRIVATE | MAP_ANONYMOUS), kKill);
  EXPECT_EQ(map(0, kCache, kCode, kShared, 4096), kKill);
  EXPECT_EQ(Answer(OfJit(), SYS_mprotect, {kAbove, kCache, kCode}), kKill);
  EXPECT_EQ(Answer(OfJit(), SYS_pkey_mprotect, {kAbove, kCache, PROT_READ, 1}), kKill);
}

TEST(HostFilter, KeysArePermittedToPkuAlone) {
  FilterSubject subject = kJit;
  subject.protection_keys = true;
  const Program program = Compile(FilterRules(subject, Narrow()));
  EXPECT_EQ(Answer(program, SYS_pkey_mprotect, {0x10000, 4096, PROT_READ, 1}), kAllow);
  EXPECT_EQ(Answer(program, SYS_pkey_mprotect, {0x10000, 4096, PROT_EXEC, 1}), kKill);
  EXPECT_EQ(Answer(program, SYS_pkey_alloc), kAllow);
  EXPECT_EQ(Answer(OfJit(), SYS_pkey_alloc), kKill);
}

TEST(HostFilter, OnlyTheRuntimeExecutesItselfByDescriptor) {
  EXPECT_EQ(Answer(OfJit(), SYS_execve, {0x1000, 0x1000, 0x1000}), kKill);
  EXPECT_EQ(Answer(OfJit(), SYS_execveat, {5, 0x1000, 0x1000, 0x1000, 0}), kKill);
  constexpr auto kAtFdcwd = static_cast<std::uint64_t>(AT_FDCWD);
  EXPECT_EQ(Answer(OfJit(), SYS_execveat, {kAtFdcwd, 0x1000, 0x1000, 0x1000, AT_SYMLINK_NOFOLLOW}),
            kKill);
  EXPECT_EQ(Answer(OfJit(), SYS_execveat, {5, 0x1000, 0x1000, 0x1000, AT_EMPTY_PATH}), kAllow);
}

TEST(HostFilter, MemfdsAreSealedWhereTheKernelCan) {
  EXPECT_EQ(Answer(OfJit(), SYS_memfd_create, {0x1000, MFD_CLOEXEC}), kKill);
  EXPECT_EQ(Answer(OfJit(), SYS_memfd_create, {0x1000, MFD_CLOEXEC | kNoExecSeal}), kAllow);
  FilterSubject old = kJit;
  old.sealed_memfds = false;
  EXPECT_EQ(Answer(Compile(FilterRules(old, Narrow())), SYS_memfd_create, {0x1000, MFD_CLOEXEC}),
            kAllow);
}

TEST(HostFilter, CloneMakesNoNamespace) {
  constexpr std::uint64_t kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
                                    CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                                    CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
  EXPECT_EQ(Answer(OfJit(), SYS_clone, {kThread}), kAllow);
  EXPECT_EQ(Answer(OfJit(), SYS_clone, {CLONE_VM | CLONE_VFORK | 17}), kAllow);
  EXPECT_EQ(Answer(OfJit(), SYS_clone, {CLONE_PIDFD | 17}), kAllow);
  for (const std::uint64_t bad :
       {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID,
        CLONE_NEWNET, CLONE_PTRACE, CLONE_PARENT}) {
    EXPECT_EQ(Answer(OfJit(), SYS_clone, {bad | 17}), kKill) << bad;
  }
  EXPECT_EQ(Answer(OfJit(), SYS_clone3, {0x1000, 88}), SECCOMP_RET_ERRNO | ENOSYS);
  EXPECT_EQ(Answer(OfJit(), SYS_fork), kKill);
}

TEST(HostFilter, RequestsAndOptionsAreListed) {
  EXPECT_EQ(Answer(OfJit(), SYS_ioctl, {0, 0x5401 /* TCGETS */}), kAllow);
  EXPECT_EQ(Answer(OfJit(), SYS_ioctl, {0, 0x5412 /* TIOCSTI */}), kKill);
  EXPECT_EQ(Answer(OfJit(), SYS_ioctl, {0, 0x540c /* TIOCEXCL */}), kKill);
  EXPECT_EQ(Answer(Compile(FilterRules(kJit, NoRules())), SYS_ioctl, {0, 0x540c}), kAllow);
  EXPECT_EQ(Answer(OfJit(), SYS_ioctl, {0, 0xae80 /* KVM_RUN */}), kKill);
  EXPECT_EQ(Answer(OfKvm(), SYS_ioctl, {0, 0xae80}), kAllow);
  EXPECT_EQ(Answer(OfKvm(), SYS_ioctl, {0, 0xae60 /* KVM_CREATE_IRQCHIP */}), kKill);
  EXPECT_EQ(Answer(OfJit(), SYS_prctl, {PR_SET_NAME}), kAllow);
  EXPECT_EQ(Answer(OfJit(), SYS_prctl, {PR_SET_DUMPABLE, 0}), kAllow);
  for (const std::uint64_t option : {PR_SET_SECCOMP, PR_SET_MM, PR_SET_PTRACER, PR_SET_DUMPABLE,
                                     PR_SET_SYSCALL_USER_DISPATCH}) {
    EXPECT_EQ(Answer(OfJit(), SYS_prctl, {option, 1}), kKill) << option;
  }
  EXPECT_EQ(Answer(OfJit(), SYS_prctl, {kMarkOption}), SECCOMP_RET_ERRNO | kMarkError);
  EXPECT_EQ(Answer(OfJit(), SYS_seccomp, {SECCOMP_SET_MODE_FILTER}), kKill);
  EXPECT_EQ(Answer(OfJit(), SYS_personality, {0x0040000 /* ADDR_NO_RANDOMIZE */}), kKill);
}

TEST(HostFilter, FamiliesOfSocketsFollowTheReach) {
  Rules rules = Narrow();
  const auto families = [&](Reach reach) {
    rules.network.reach = reach;
    const Program program = Compile(FilterRules(kJit, rules));
    std::set<int> made;
    for (int family = 0; family < 64; ++family) {
      const auto number = static_cast<std::uint64_t>(family);
      if (Answer(program, SYS_socket, {number, SOCK_STREAM}) == kAllow) made.insert(family);
    }
    return made;
  };
  using testing::ElementsAre;
  EXPECT_THAT(families(Reach::kNone), ElementsAre(AF_UNIX));
  EXPECT_THAT(families(Reach::kLoopback), ElementsAre(AF_UNIX, AF_INET, AF_INET6, AF_NETLINK));
  EXPECT_THAT(families(Reach::kHost), ElementsAre(AF_UNIX, AF_INET, AF_INET6, AF_NETLINK));
  rules.audit = true;  // says what it would deny, and lets it pass
  EXPECT_EQ(families(Reach::kNone).size(), 64U);
}

TEST(HostFilter, WhatAPolicyForbidsIsTakenAway) {
  Rules rules = Narrow();
  rules.calls = {{.number = SYS_setpriority, .action = CallAction::kError},
                 {.number = SYS_chroot, .action = CallAction::kKill},
                 // Only in some cases: the filter leaves that to wall 1.
                 {.number = SYS_ioprio_set, .action = CallAction::kError,
                  .conditions = {{.argument = 0, .value = 1}}},
                 // The runtime's own need of it goes on.
                 {.number = SYS_getrandom, .action = CallAction::kError},
                 // One path call stands for another.
                 {.number = SYS_rename, .action = CallAction::kError}};
  const Program program = Compile(FilterRules(kJit, rules));
  EXPECT_EQ(Answer(program, SYS_setpriority), kKill);
  EXPECT_EQ(Answer(program, SYS_getpriority), kAllow);
  EXPECT_EQ(Answer(program, SYS_ioprio_set), kAllow);
  EXPECT_EQ(Answer(program, SYS_getrandom), kAllow);
  EXPECT_EQ(Answer(program, SYS_rename), kAllow);
}

TEST(HostFilter, ADefaultOfDenyingLeavesWhatIsListed) {
  Rules rules = Narrow();
  rules.default_call_action = CallAction::kError;
  rules.calls = {{.number = SYS_sync, .action = CallAction::kAllow}};
  const Program program = Compile(FilterRules(kJit, rules));
  EXPECT_EQ(Answer(program, SYS_sync), kAllow);
  EXPECT_EQ(Answer(program, SYS_syncfs), kKill);
  EXPECT_EQ(Answer(program, SYS_read), kAllow);  // the runtime's own
}

TEST(HostFilter, FitsTheKernelsLimit) {
  EXPECT_LT(Compile(FilterRules(kKvm, NoRules())).size(), std::size_t{BPF_MAXINSNS});
}

}  // namespace
}  // namespace dunebox::confinement
