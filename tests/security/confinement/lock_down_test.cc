// Wall 2 with nothing in front of it: a process locks itself down as a session does and then makes
// the calls that a taken-over runtime would, itself. As who runs the test and, for root, as 65534.
#include "runtime/confinement/lock_down.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "runtime/confinement/host_filter.h"
#include "runtime/file_descriptor.h"

namespace dunebox::confinement {
namespace {

using hostcalls::policy::kAllRights;
using hostcalls::policy::kReadOnly;
using hostcalls::policy::Reach;
using hostcalls::policy::Rules;
using runtime::FileDescriptor;

constexpr uid_t kNobody = 65534;
constexpr unsigned kNoExecSeal = 0x8;
constexpr std::size_t kCache = std::size_t{16} << 20;
constexpr int kCannotLockDown = 99;
constexpr int kFirstReserved = 500;

// How an attack went: errno, 0 when it worked, or -SIGNAL when the process was ended by one.
using Attack = std::function<int()>;
int Tried(long result) { return result < 0 ? errno : 0; }

FileDescriptor Listen(std::uint16_t* port) {
  FileDescriptor socket_fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof(address);
  EXPECT_EQ(bind(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(listen(socket_fd.get(), 4), 0);
  EXPECT_EQ(getsockname(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  *port = ntohs(address.sin_port);
  return socket_fd;
}

int Connect(std::uint16_t port) {
  const FileDescriptor socket_fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address{
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  return Tried(connect(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
}

int Open(const std::string& path, int flags) {
  return Tried(FileDescriptor(open(path.c_str(), flags | O_CLOEXEC, 0600)).get());
}

// Lets everything pass, as a container's may.
void FilterOfSomebodyElse() {
  sock_filter allow{.code = BPF_RET | BPF_K, .k = SECCOMP_RET_ALLOW};
  const sock_fprog program{.len = 1, .filter = &allow};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(kCannotLockDown);
}

// The parameter: the user who attacks.
class WallTwo : public testing::TestWithParam<uid_t> {
 protected:
  void SetUp() override {
    if (LandlockVersion() == 0) GTEST_SKIP() << "this kernel has no Landlock";
    if (GetParam() != geteuid() && geteuid() != 0) GTEST_SKIP() << "only root becomes another user";
    char name[] = "/tmp/dunebox-wall2.XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    for (const char* part : {"/given", "/read", "/secret"}) {
      std::filesystem::create_directory(directory_ + part);
      FileDescriptor file(open((directory_ + part + "/file").c_str(), O_WRONLY | O_CREAT, 0666));
      ASSERT_EQ(fchmod(file.get(), 0666), 0);
      ASSERT_EQ(chmod((directory_ + part).c_str(), 0777), 0);
    }
    ASSERT_EQ(chmod(name, 0777), 0);
    rules_.allow_all = false;
    rules_.origins = {"default"};
    rules_.paths = {{.path = directory_ + "/given", .rights = kAllRights},
                    {.path = directory_ + "/read", .rights = kReadOnly},
                    {.path = "/usr", .rights = kReadOnly}};
    plan_.confine = true;
    plan_.required = {Mechanism::kSeccomp, Mechanism::kLandlock};
  }
  void TearDown() override {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }

  absl::StatusOr<Confinement> Confine() const {
    FileDescriptor self(open("/proc/self/exe", O_PATH | O_CLOEXEC));
    self = FileDescriptor(fcntl(self.get(), F_DUPFD_CLOEXEC, kFirstReserved));
    return LockDown({.plan = plan_,
                     .rules = rules_,
                     .code_cache = kCache,
                     .runtime_fd = self.get(),
                     .first_reserved = kFirstReserved,
                     .names_threads = names_threads_});
  }

  int Outcome(const Attack& attack) const {
    const pid_t child = fork();
    if (child == 0) {
      if (GetParam() != geteuid() &&
          (setgroups(0, nullptr) != 0 || setgid(GetParam()) != 0 || setuid(GetParam()) != 0)) {
        _exit(kCannotLockDown);
      }
      if (const auto confined = Confine(); !confined.ok()) {
        dprintf(STDERR_FILENO, "%s\n", std::string(confined.status().message()).c_str());
        _exit(kCannotLockDown);
      }
      _exit(attack());
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) return -WTERMSIG(status);
    EXPECT_NE(WEXITSTATUS(status), kCannotLockDown);
    return WEXITSTATUS(status);
  }
  int Killed(long number, std::array<long, 6> a = {}) const {
    return Outcome([=] { return Tried(syscall(number, a[0], a[1], a[2], a[3], a[4], a[5])); });
  }

  bool names_threads_ = false;
  std::string directory_;
  Rules rules_;
  Plan plan_;
};

INSTANTIATE_TEST_SUITE_P(As, WallTwo, testing::Values(geteuid(), kNobody));

constexpr int kSigsys = -SIGSYS;

TEST_P(WallTwo, FilesFollowTheRules) {
  const auto open_file = [&](const char* path, int flags) {
    return Outcome([=, this] { return Open(directory_ + path, flags); });
  };
  EXPECT_EQ(open_file("/given/file", O_RDWR | O_TRUNC), 0);
  EXPECT_EQ(open_file("/given/new", O_WRONLY | O_CREAT | O_EXCL), 0);
  EXPECT_EQ(open_file("/read/file", O_RDONLY), 0);
  EXPECT_EQ(open_file("/read", O_RDONLY | O_DIRECTORY), 0);
  EXPECT_EQ(open_file("/read/file", O_WRONLY), EACCES);
  EXPECT_EQ(open_file("/read/file", O_RDONLY | O_TRUNC), EACCES);
  EXPECT_EQ(open_file("/read/new", O_WRONLY | O_CREAT), EACCES);
  EXPECT_EQ(open_file("/secret/file", O_RDONLY), EACCES);
  EXPECT_EQ(open_file("/secret", O_RDONLY | O_DIRECTORY), EACCES);
  EXPECT_EQ(open_file("", O_TMPFILE | O_WRONLY), EACCES);
  EXPECT_EQ(Outcome([] { return Open("/etc/passwd", O_RDONLY); }), EACCES);
}

TEST_P(WallTwo, OpenFilesAreOpenedAgain) {
  const std::string secret = directory_ + "/secret/file", directory = directory_ + "/secret";
  const auto open_again = [this](const std::string& path, int flags, int again) {
    const FileDescriptor held(open(path.c_str(), flags));
    return Outcome([&] { return Open("/proc/self/fd/" + std::to_string(held.get()), again); });
  };
  EXPECT_EQ(open_again(secret, O_RDONLY, O_RDONLY), 0);
  EXPECT_EQ(open_again(secret, O_WRONLY, O_WRONLY | O_TRUNC), 0);
  EXPECT_EQ(open_again(secret, O_RDONLY, O_WRONLY), EACCES);
  EXPECT_EQ(open_again(secret, O_WRONLY, O_RDONLY), EACCES);
  EXPECT_EQ(open_again(secret, O_PATH, O_RDONLY), EACCES);
  EXPECT_EQ(open_again(directory, O_RDONLY, O_RDONLY), EACCES);
}

TEST_P(WallTwo, OfProcOnlyTheNamesOfOwnThreadsCanBeWritten) {
  const auto writes = [this](const std::string& path) { return Outcome([=] { return Open(path, O_WRONLY); }); };
  EXPECT_EQ(writes("/proc/thread-self/comm"), EACCES);
  if (GetParam() == 0) GTEST_SKIP() << "root would own more of it, and never gets this right";
  names_threads_ = true;
  EXPECT_EQ(writes("/proc/thread-self/comm"), 0);
  for (const char* const path : {"/proc/self/mem", "/proc/thread-self/mem", "/proc/1/mem", "/proc/self/oom_score_adj",
                                 "/proc/self/coredump_filter", "/proc/self/uid_map", "/proc/self/clear_refs",
                                 "/proc/1/comm", "/proc/1/oom_score_adj", "/proc/sys/kernel/hostname",
                                 "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/mtrr"}) {
    EXPECT_NE(writes(path), 0) << path;
  }
}

TEST_P(WallTwo, OpenPipesAndMemfdsAreInNobodysWay) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const FileDescriptor read_end(ends[0]), write_end(ends[1]);
  const FileDescriptor memory(memfd_create("x", MFD_CLOEXEC));
  ASSERT_EQ(fchmod(ends[1], 0666), 0);
  EXPECT_EQ(Outcome([&] { return Open("/proc/self/fd/" + std::to_string(ends[1]), O_WRONLY); }), 0);
  EXPECT_EQ(Outcome([&] { return Open("/proc/self/fd/" + std::to_string(memory.get()), O_RDWR); }),
            0);
}

// The runtime's own are not the program's.
TEST_P(WallTwo, ReservedDescriptorsGiveNothing) {
  FileDescriptor file(open((directory_ + "/secret/file").c_str(), O_RDONLY));
  const FileDescriptor reserved(fcntl(file.get(), F_DUPFD, kFirstReserved));
  const std::string path = "/proc/self/fd/" + std::to_string(reserved.get());
  EXPECT_EQ(Outcome([&] { return Open(path, O_RDONLY); }), 0);  // the same object, open below, too
  file = FileDescriptor();
  EXPECT_EQ(Outcome([&] { return Open(path, O_RDONLY); }), EACCES);
}

TEST_P(WallTwo, NamesFollowTheRules) {
  const std::string given = directory_ + "/given/file", secret = directory_ + "/secret/file";
  EXPECT_EQ(Outcome([&] { return Tried(unlink(secret.c_str())); }), EACCES);
  EXPECT_EQ(Outcome([&] { return Tried(rename(secret.c_str(), given.c_str())); }), EACCES);
  EXPECT_EQ(Outcome([&] { return Tried(link(secret.c_str(), (given + "2").c_str())); }), EXDEV);
  EXPECT_EQ(Outcome([&] { return Tried(mkdir((secret + "2").c_str(), 0700)); }), EACCES);
  EXPECT_EQ(Outcome([&] { return Tried(symlink("/", (secret + "2").c_str())); }), EACCES);
  EXPECT_EQ(Outcome([&] { return Tried(truncate(secret.c_str(), 0)); }), EACCES);
  EXPECT_EQ(Outcome([&] { return Tried(mknod((given + "2").c_str(), S_IFCHR | 0600, 0x103)); }),
            EACCES);
  EXPECT_EQ(Outcome([&] { return Tried(rename(given.c_str(), (given + "2").c_str())); }), 0);
}

TEST_P(WallTwo, NothingIsExecuted) {
  EXPECT_EQ(Outcome([] { return Tried(execl("/bin/sh", "sh", "-c", "true", nullptr)); }), kSigsys);
  // In the one form that is left, any program but the runtime's own.
  EXPECT_EQ(Outcome([] {
              const int shell = open("/usr/bin/true", O_PATH);
              const char* const argv[] = {"true", nullptr};
              return Tried(syscall(SYS_execveat, shell, "", argv, argv + 1, AT_EMPTY_PATH));
            }),
            EACCES);
  EXPECT_EQ(Outcome([] {
              const char* const argv[] = {"true", nullptr};
              return Tried(syscall(SYS_execveat, AT_FDCWD, "/usr/bin/true", argv, argv + 1,
                                   AT_EMPTY_PATH));
            }),
            EACCES);
}

TEST_P(WallTwo, NoMemfdIsExecuted) {
  EXPECT_EQ(Killed(SYS_memfd_create, {reinterpret_cast<long>("x"), MFD_CLOEXEC}), kSigsys);
  EXPECT_EQ(Outcome([] {
              const int file = memfd_create("x", kNoExecSeal);
              const FileDescriptor program(open("/usr/bin/true", O_RDONLY));
              char bytes[4096];
              for (ssize_t n = 0; (n = read(program.get(), bytes, sizeof(bytes))) > 0;) {
                if (write(file, bytes, static_cast<std::size_t>(n)) != n) return 1;
              }
              if (fchmod(file, 0777) == 0) return 2;
              const char* const argv[] = {"true", nullptr};
              return Tried(syscall(SYS_execveat, file, "", argv, argv + 1, AT_EMPTY_PATH));
            }),
            EACCES);
}

TEST_P(WallTwo, NoCodeBecomesExecutable) {
  const auto map = [this](int prot) {
    return Outcome([=] {
      return mmap(nullptr, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0;
    });
  };
  EXPECT_EQ(map(PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(map(PROT_READ | PROT_EXEC), kSigsys);
  EXPECT_EQ(map(PROT_READ | PROT_WRITE | PROT_EXEC), kSigsys);
  EXPECT_EQ(Outcome([] {
              static char page[8192];
              auto* const aligned = reinterpret_cast<void*>(reinterpret_cast<long>(page + 4095) & -4096);
              return Tried(mprotect(aligned, 4096, PROT_READ | PROT_EXEC));
            }),
            kSigsys);
  // What engine jit does at the start of each program.
  EXPECT_EQ(Outcome([] {
              const int file = memfd_create("x", kNoExecSeal);
              if (ftruncate(file, kCache) != 0) return errno;
              return mmap(nullptr, kCache, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE, file,
                          0) == MAP_FAILED
                         ? errno
                         : 0;
            }),
            0);
}

TEST_P(WallTwo, ThePortsAreThoseOfThePlan) {
  std::uint16_t given = 0, other = 0;
  const FileDescriptor first = Listen(&given), second = Listen(&other);
  rules_.network.reach = Reach::kListed;
  plan_.connect_ports = {given};
  EXPECT_EQ(Outcome([=] { return Connect(given); }), 0);
  EXPECT_EQ(Outcome([=] { return Connect(other); }), EACCES);
  EXPECT_EQ(Outcome([] {
              const FileDescriptor socket_fd(socket(AF_INET, SOCK_STREAM, 0));
              const sockaddr_in any{.sin_family = AF_INET};
              return Tried(bind(socket_fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)));
            }),
            EACCES);
}

TEST_P(WallTwo, WithoutANetworkThereAreNoSockets) {
  EXPECT_EQ(Killed(SYS_socket, {AF_INET, SOCK_STREAM}), kSigsys);
  EXPECT_EQ(Killed(SYS_socket, {AF_PACKET, SOCK_RAW}), kSigsys);
  EXPECT_EQ(Outcome([] {
              int pair[2];
              return Tried(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
            }),
            0);
}

TEST_P(WallTwo, AbstractSocketsOutsideAreOutOfReach) {
  const FileDescriptor server(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{.sun_family = AF_UNIX};
  const std::string name = "dunebox-wall2-" + std::to_string(getpid());
  name.copy(address.sun_path + 1, name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  ASSERT_EQ(bind(server.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(server.get(), 4), 0);
  if (LandlockVersion() < 6) GTEST_SKIP() << "Landlock scopes nothing before version 6";
  EXPECT_EQ(Outcome([&] {
              const FileDescriptor client(socket(AF_UNIX, SOCK_STREAM, 0));
              return Tried(connect(client.get(), reinterpret_cast<sockaddr*>(&address), size));
            }),
            EPERM);
}

TEST_P(WallTwo, ProcessesOutsideAreOutOfReach) {
  const pid_t outside = fork();
  if (outside == 0) {
    if (GetParam() != geteuid()) (void)!setuid(GetParam());
    pause();
    _exit(0);
  }
  const std::string memory = "/proc/" + std::to_string(outside) + "/mem";
  EXPECT_EQ(Outcome([=] { return Open(memory, O_RDWR); }), EACCES);
  EXPECT_EQ(Outcome([=] { return Open("/proc/" + std::to_string(outside) + "/environ", O_RDONLY); }),
            EACCES);
  if (LandlockVersion() >= 6) {
    EXPECT_EQ(Outcome([=] { return Tried(kill(outside, SIGTERM)); }), EPERM);
    rules_.signal_outside = true;
    EXPECT_EQ(Outcome([=] { return Tried(kill(outside, 0)); }), 0);
  }
  kill(outside, SIGKILL);
  waitpid(outside, nullptr, 0);
}

TEST_P(WallTwo, CallsThatNoHandlerMakesKill) {
  const long path = reinterpret_cast<long>("/");
  EXPECT_EQ(Killed(SYS_ptrace, {PTRACE_TRACEME}), kSigsys);
  EXPECT_EQ(Killed(SYS_mount, {path, path, 0, MS_BIND}), kSigsys);
  EXPECT_EQ(Killed(SYS_unshare, {CLONE_NEWUSER}), kSigsys);
  EXPECT_EQ(Killed(SYS_clone, {CLONE_NEWUSER | SIGCHLD}), kSigsys);
  EXPECT_EQ(Killed(SYS_setns, {0, 0}), kSigsys);
  EXPECT_EQ(Killed(SYS_bpf, {0}), kSigsys);
  EXPECT_EQ(Killed(SYS_kexec_load), kSigsys);
  EXPECT_EQ(Killed(SYS_io_uring_setup, {8}), kSigsys);
  EXPECT_EQ(Killed(SYS_userfaultfd), kSigsys);
  EXPECT_EQ(Killed(SYS_perf_event_open), kSigsys);
  EXPECT_EQ(Killed(SYS_process_vm_writev, {getpid()}), kSigsys);
  EXPECT_EQ(Killed(SYS_pidfd_getfd), kSigsys);
  EXPECT_EQ(Killed(SYS_open_by_handle_at), kSigsys);
  EXPECT_EQ(Killed(SYS_init_module), kSigsys);
  EXPECT_EQ(Killed(SYS_keyctl), kSigsys);
  EXPECT_EQ(Killed(SYS_iopl, {3}), kSigsys);
  EXPECT_EQ(Killed(SYS_modify_ldt), kSigsys);
  EXPECT_EQ(Killed(SYS_ioctl, {0, 0x5412 /* TIOCSTI */, path}), kSigsys);
}

TEST_P(WallTwo, CannotBeUndone) {
  EXPECT_EQ(Killed(SYS_seccomp, {1 /* SECCOMP_SET_MODE_FILTER */}), kSigsys);
  EXPECT_EQ(Killed(SYS_prctl, {PR_SET_SECCOMP, 2}), kSigsys);
  EXPECT_EQ(Killed(SYS_landlock_restrict_self), kSigsys);
  EXPECT_EQ(Killed(SYS_prctl, {PR_SET_DUMPABLE, 1}), kSigsys);
  EXPECT_EQ(Outcome([] { return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); }), 1);
  EXPECT_EQ(Outcome([] { return static_cast<int>(PermittedCapabilities().value_or(1)); }), 0);
  EXPECT_EQ(Outcome([] { return Open("/proc/self/mem", O_RDWR); }), EACCES);
}

TEST_P(WallTwo, ChildrenAndThreadsInheritIt) {
  EXPECT_EQ(Outcome([] {
              const auto child = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
              if (child == 0) _exit(Open("/etc/passwd", O_RDONLY));
              int status = 0;
              return waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : 1;
            }),
            EACCES);
  EXPECT_EQ(Outcome([] {
              std::thread([] { syscall(SYS_unshare, CLONE_NEWNS); }).join();
              return 0;
            }),
            kSigsys);
}

// What a runtime that execve made does first.
TEST_P(WallTwo, IsVerifiedAndMissed) {
  const pid_t child = fork();
  if (child == 0) {
    if (GetParam() != geteuid()) (void)!setuid(GetParam());
    // Claimed, and not so.
    const Confinement claimed{.confined = true, .filtered = true, .landlocked = true,
                              .probe = {.path = "/", .flags = O_RDONLY | O_DIRECTORY}};
    if (VerifyLockDown(claimed).ok()) _exit(1);
    if (!VerifyLockDown(Confinement{}).ok()) _exit(2);
    const absl::StatusOr<Confinement> confined = Confine();
    if (!confined.ok() || confined->probe.path.empty()) _exit(3);
    if (!VerifyLockDown(*confined).ok()) _exit(4);
    Confinement wrong = *confined;
    wrong.probe.path = directory_ + "/given";
    _exit(VerifyLockDown(wrong).ok() ? 5 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Each part is missed alone.
TEST_P(WallTwo, EachPartIsMissed) {
  const auto verdict = [](const std::function<void()>& prepare, const Confinement& claimed) {
    const pid_t child = fork();
    if (child == 0) {
      prepare();
      _exit(VerifyLockDown(claimed).ok() ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
  };
  const auto drop = [this] {
    if (GetParam() != geteuid()) (void)!setuid(GetParam());
    if (!DropPrivileges(0).ok()) _exit(kCannotLockDown);
  };
  const Confinement privileges{.confined = true};
  EXPECT_EQ(verdict([] {}, privileges), 1);
  EXPECT_EQ(verdict(drop, privileges), 0);
  Confinement filter = privileges;
  filter.filtered = true;
  EXPECT_EQ(verdict(drop, filter), 1);
  EXPECT_EQ(verdict([&] { drop(), FilterOfSomebodyElse(); }, filter), 1);
  Confinement landlock = privileges;
  landlock.landlocked = true;
  landlock.probe = {.path = "/", .flags = O_RDONLY | O_DIRECTORY};
  EXPECT_EQ(verdict(drop, landlock), 1);
}

TEST_P(WallTwo, AThreadBesideItIsRefused) {
  const pid_t child = fork();
  if (child == 0) {
    std::thread other([] { pause(); });
    const absl::StatusOr<Confinement> confined = Confine();
    _exit(confined.ok() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_P(WallTwo, AuditLetsFilesAndSocketsPass) {
  rules_.audit = true;
  EXPECT_EQ(Outcome([this] { return Open(directory_ + "/secret/file", O_RDWR); }), 0);
  EXPECT_EQ(Outcome([] { return Tried(socket(AF_INET, SOCK_STREAM, 0)); }), 0);
  EXPECT_EQ(Outcome([] { return Tried(execl("/bin/sh", "sh", "-c", "true", nullptr)); }), kSigsys);
}

}  // namespace
}  // namespace dunebox::confinement
