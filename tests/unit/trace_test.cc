// A traced line says what the program asked and what came back, and nothing it does can break it.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hostcalls/trace/format.h"
#include "hostcalls/trace/text.h"
#include "hostcalls/trace/text_trace.h"

namespace dunebox::hostcalls {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// The test's own memory is the guest's: everything but the last address below the limit.
constexpr Window kTestWindow = {.base = 0, .lowest = 0x1'0000, .limit = 0x7fff'ffff'0000};
constexpr std::uint64_t kOutside = 0x7fff'ffff'8000;

std::uint64_t At(const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); }
std::uint64_t Int(int value) { return static_cast<std::uint32_t>(value); }

class TraceFormat : public ::testing::Test {
 protected:
  std::string Enter(std::uint64_t number, ArgumentValues arguments) const {
    return FormatEnter(memory_, FindRow(number), {number, arguments});
  }
  std::string Exit(std::uint64_t number, ArgumentValues arguments, std::int64_t result) const {
    const Request request = {number, arguments};
    CallText text(memory_, FindRow(number), request);
    text.AddOutputs(memory_, FindRow(number), request, SyscallResult(result));
    return text.ToString();
  }

  GuestMemory memory_{kTestWindow};
};

TEST_F(TraceFormat, OpenatShowsDirectoryPathAndFlags) {
  EXPECT_EQ(Enter(SYS_openat, {Int(AT_FDCWD), At("/etc/ld.so.cache"), O_RDONLY | O_CLOEXEC, 0}),
            "openat(AT_FDCWD, \"/etc/ld.so.cache\", O_RDONLY|O_CLOEXEC, 00)");
}

TEST_F(TraceFormat, IntsAreThirtyTwoBitsAndOffsetsSixtyFour) {
  EXPECT_EQ(Enter(SYS_close, {0xdead'beef'ffff'ffff}), "close(-1)");
  EXPECT_EQ(Enter(SYS_lseek, {3, ~std::uint64_t{0}, SEEK_END}), "lseek(3, -1, SEEK_END)");
  EXPECT_EQ(Enter(SYS_alarm, {0xffff'ffff}), "alarm(4294967295)");
  EXPECT_EQ(Enter(SYS_kill, {Int(-1), 0}), "kill(-1, 0)");
}

TEST_F(TraceFormat, CallWithoutArgumentsHasEmptyBrackets) {
  EXPECT_EQ(Enter(SYS_getpid, {}), "getpid()");
}

TEST_F(TraceFormat, UnknownNumberShowsAllRegisters) {
  EXPECT_EQ(Enter(0x1ff, {1, 2, 3, 4, 5, 0xffff'ffff'ffff'ffff}),
            "syscall_0x1ff(0x1, 0x2, 0x3, 0x4, 0x5, 0xffffffffffffffff)");
}

TEST_F(TraceFormat, InputBufferIsCutAtThirtyTwoBytes) {
  const std::string text(100, 'x');
  EXPECT_EQ(Enter(SYS_write, {1, At(text.data()), 100}),
            "write(1, \"" + std::string(32, 'x') + "\"..., 100)");
  EXPECT_EQ(Enter(SYS_write, {1, At(text.data()), 2}), "write(1, \"xx\", 2)");
  EXPECT_EQ(Enter(SYS_write, {1, At(text.data()), 0}), "write(1, \"\", 0)");
}

TEST_F(TraceFormat, OutputBufferIsAnAddressBeforeAndBytesAfter) {
  const char buffer[] = "hello, world";
  EXPECT_EQ(Enter(SYS_read, {0, At(buffer), 4096}),
            "read(0, " + AddressText(At(buffer)) + ", 4096)");
  EXPECT_EQ(Exit(SYS_read, {0, At(buffer), 4096}, 5), "read(0, \"hello\", 4096)");
  EXPECT_EQ(Exit(SYS_read, {0, At(buffer), 4096}, 0), "read(0, \"\", 4096)");
}

TEST_F(TraceFormat, ResultLongerThanTheBufferShowsTheBufferOnly) {
  const char buffer[] = "abcdef";
  EXPECT_EQ(Exit(SYS_getxattr, {At("/f"), At("user.x"), At(buffer), 3}, 1000),
            "getxattr(\"/f\", \"user.x\", \"abc\", 3)");
  EXPECT_EQ(Exit(SYS_getxattr, {At("/f"), At("user.x"), 0, 0}, 1000),
            "getxattr(\"/f\", \"user.x\", NULL, 0)");
}

TEST_F(TraceFormat, FailedCallShowsNoOutputs) {
  const char buffer[] = "secret of an earlier call";
  EXPECT_EQ(Exit(SYS_read, {0, At(buffer), 4096}, -EBADF),
            "read(0, " + AddressText(At(buffer)) + ", 4096)");
}

TEST_F(TraceFormat, PathIsShownInFull) {
  const std::string path(4000, 'p');
  EXPECT_EQ(Enter(SYS_unlink, {At(path.c_str())}), "unlink(\"" + path + "\")");
}

TEST_F(TraceFormat, UnreadableMemoryIsShownAsItsAddress) {
  EXPECT_EQ(Enter(SYS_unlink, {kOutside}), "unlink(0x7fffffff8000)");
  EXPECT_EQ(Enter(SYS_write, {1, kOutside, 5}), "write(1, 0x7fffffff8000, 5)");
  EXPECT_EQ(Enter(SYS_write, {1, 0, 5}), "write(1, NULL, 5)");
  EXPECT_EQ(Enter(SYS_nanosleep, {kOutside, 0}), "nanosleep(0x7fffffff8000, NULL)");
  EXPECT_EQ(Enter(SYS_connect, {3, kOutside, 16}), "connect(3, 0x7fffffff8000, 16)");
  EXPECT_THAT(Enter(SYS_execve, {At("/bin/ls"), kOutside, 0}), HasSubstr(", 0x7fffffff8000, NULL"));
  EXPECT_EQ(Exit(SYS_read, {0, kOutside, 5}, 5), "read(0, 0x7fffffff8000, 5)");
}

TEST_F(TraceFormat, PathWithoutAnEndIsShownAsItsAddress) {
  const std::string path(5000, 'p');
  EXPECT_EQ(Enter(SYS_unlink, {At(path.c_str())}), "unlink(" + AddressText(At(path.c_str())) + ")");
}

TEST_F(TraceFormat, EscapeSequencesNeverReachTheTerminal) {
  const std::string hostile =
      "\x1b]0;title\a\x1b[2J\x9b"
      "31m\n= 0\r\x7f\xc3\xa9\"\\";
  const std::string line = Enter(SYS_unlink, {At(hostile.c_str())});
  for (const char byte : line) {
    EXPECT_TRUE(byte >= 0x20 && byte < 0x7f) << line;
  }
  EXPECT_EQ(line, "unlink(\"\\x1b]0;title\\x07\\x1b[2J\\x9b31m\\n= 0\\r\\x7f\\xc3\\xa9\\\"\\\\\")");
}

TEST_F(TraceFormat, SmallStructsAreDecoded) {
  const timespec request = {.tv_sec = 1, .tv_nsec = 500};
  EXPECT_EQ(Enter(SYS_nanosleep, {At(&request), 0}), "nanosleep({tv_sec=1, tv_nsec=500}, NULL)");
  const int pipes[2] = {3, 4};
  EXPECT_EQ(Exit(SYS_pipe2, {At(pipes), O_CLOEXEC}, 0), "pipe2([3, 4], O_CLOEXEC)");
  const int status = 0x100;
  EXPECT_EQ(Exit(SYS_wait4, {Int(-1), At(&status), WNOHANG, 0}, 77),
            "wait4(-1, [256], WNOHANG, NULL)");
  const std::uint64_t set = 1ull << (SIGINT - 1) | 1ull << (SIGCHLD - 1) | 1ull << 63;
  EXPECT_EQ(Enter(SYS_rt_sigprocmask, {SIG_BLOCK, At(&set), 0, 8}),
            "rt_sigprocmask(SIG_BLOCK, {SIGINT,SIGCHLD,SIGRT_32}, NULL, 8)");
}

TEST_F(TraceFormat, InOutStructShowsWhatChanged) {
  std::int64_t offset = 100;
  const Request request = {SYS_sendfile, {1, 3, At(&offset), 50}};
  CallText text(memory_, FindRow(request.number), request);
  offset = 150;
  text.AddOutputs(memory_, FindRow(request.number), request, SyscallResult(50));
  EXPECT_EQ(text.ToString(), "sendfile(1, 3, [100] => [150], 50)");
}

TEST_F(TraceFormat, DescriptorSetsAreListed) {
  fd_set reading;
  FD_ZERO(&reading);
  FD_SET(0, &reading);
  FD_SET(70, &reading);
  EXPECT_EQ(Enter(SYS_select, {71, At(&reading), 0, 0, 0}), "select(71, [0 70], NULL, NULL, NULL)");
  EXPECT_EQ(Enter(SYS_select, {Int(-1), At(&reading), 0, 0, 0}),
            "select(-1, [], NULL, NULL, NULL)");
  std::vector<std::uint64_t> full(1024, ~std::uint64_t{0});
  EXPECT_THAT(Enter(SYS_select, {0x7fff'ffff, At(full.data()), 0, 0, 0}), HasSubstr("15 ...]"));
}

TEST_F(TraceFormat, VectorsAndArraysAreCounted) {
  EXPECT_EQ(Enter(SYS_writev, {1, 0x10000, 3}), "writev(1, 0x10000:iovec[3], 3)");
  EXPECT_EQ(Enter(SYS_poll, {0x10000, 2, Int(-1)}), "poll(0x10000[2], 2, -1)");
}

TEST_F(TraceFormat, SocketAddressesAreDecoded) {
  sockaddr_in internet = {};
  internet.sin_family = AF_INET;
  internet.sin_port = htons(80);
  internet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(Enter(SYS_connect, {3, At(&internet), sizeof internet}),
            "connect(3, {AF_INET, 127.0.0.1:80}, 16)");
  sockaddr_un local = {};
  local.sun_family = AF_UNIX;
  memcpy(local.sun_path, "/run/s\x1b", 7);
  EXPECT_EQ(Enter(SYS_bind, {3, At(&local), sizeof local}),
            "bind(3, {AF_UNIX, \"/run/s\\x1b\"}, 110)");
  memcpy(local.sun_path, "\0name", 5);
  EXPECT_EQ(Enter(SYS_bind, {3, At(&local), 7}), "bind(3, {AF_UNIX, @\"name\"}, 7)");
  EXPECT_EQ(Enter(SYS_bind, {3, At(&local), 2}), "bind(3, {AF_UNIX, unnamed}, 2)");
  EXPECT_EQ(Enter(SYS_bind, {3, At(&local), 1}), "bind(3, {}, 1)");
  EXPECT_EQ(Enter(SYS_connect, {3, At(&internet), 7}), "connect(3, {AF_INET, 7 bytes}, 7)");
}

TEST_F(TraceFormat, AcceptedAddressIsShownAfterTheCall) {
  sockaddr_in internet = {};
  internet.sin_family = AF_INET;
  internet.sin_port = htons(1234);
  socklen_t length = sizeof internet;
  EXPECT_EQ(Exit(SYS_accept, {3, At(&internet), At(&length)}, 4),
            "accept(3, {AF_INET, 0.0.0.0:1234}, [16])");
  EXPECT_EQ(Exit(SYS_accept, {3, 0, 0}, 4), "accept(3, NULL, NULL)");
}

TEST_F(TraceFormat, ArgumentsOfExecveAreListedAndItsEnvironmentCounted) {
  const char* arguments[] = {"ls", "-l", nullptr};
  const char* environment[] = {"A=1", "SECRET=2", nullptr};
  EXPECT_EQ(Enter(SYS_execve, {At("/bin/ls"), At(arguments), At(environment)}),
            "execve(\"/bin/ls\", [\"ls\", \"-l\"], [2 strings])");
  std::vector<const char*> many(40, "x");
  many.push_back(nullptr);
  EXPECT_THAT(Enter(SYS_execve, {At("/x"), At(many.data()), 0}), HasSubstr("\"x\", ...], NULL)"));
}

TEST(TraceText, FlagsAreNamedOnceAndLeftoversAreHexadecimal) {
  EXPECT_EQ(FlagsText(0, FlagSet::kOpen), "O_RDONLY");
  EXPECT_EQ(FlagsText(O_RDWR | O_CREAT | O_SYNC, FlagSet::kOpen), "O_RDWR|O_CREAT|O_SYNC");
  EXPECT_EQ(FlagsText(O_TMPFILE | O_WRONLY, FlagSet::kOpen), "O_WRONLY|O_TMPFILE");
  EXPECT_EQ(FlagsText(3, FlagSet::kOpen), "0x3");
  EXPECT_EQ(FlagsText(0, FlagSet::kProtection), "PROT_NONE");
  EXPECT_EQ(FlagsText(PROT_READ | PROT_EXEC, FlagSet::kProtection), "PROT_READ|PROT_EXEC");
  EXPECT_EQ(FlagsText(MAP_PRIVATE | MAP_ANONYMOUS | 1ull << 40, FlagSet::kMap),
            "MAP_PRIVATE|MAP_ANONYMOUS|0x10000000000");
  EXPECT_EQ(FlagsText(0x81, FlagSet::kFutex), "FUTEX_WAKE|FUTEX_PRIVATE_FLAG");
  EXPECT_EQ(FlagsText(0x80, FlagSet::kFutex), "FUTEX_WAIT|FUTEX_PRIVATE_FLAG");
  EXPECT_EQ(FlagsText(9999, FlagSet::kFcntl), "0x270f");
  EXPECT_EQ(FlagsText(0, FlagSet::kMremap), "0");
  EXPECT_EQ(FlagsText(0x1200011, FlagSet::kClone),
            "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD");
}

TEST(TraceText, ResultsAreNumbersAddressesOrErrors) {
  EXPECT_EQ(ResultText(FindRow(SYS_read), SyscallResult(42)), "42");
  EXPECT_EQ(ResultText(FindRow(SYS_getpriority), SyscallResult(Errno{ENOENT})),
            "-1 ENOENT (No such file or directory)");
  EXPECT_EQ(ResultText(FindRow(SYS_mmap), SyscallResult(0x10000)), "0x10000");
  EXPECT_EQ(ResultText(nullptr, SyscallResult(Errno{ENOSYS})),
            "-1 ENOSYS (Function not implemented)");
  EXPECT_EQ(ResultText(FindRow(SYS_rt_sigreturn), SyscallResult::RegistersSet()), "?");
  EXPECT_THAT(ResultText(FindRow(SYS_read), SyscallResult::Restart()), StartsWith("?"));
  EXPECT_EQ(ResultText(FindRow(SYS_read), SyscallResult(-4000)), "-1 errno 4000");
}

TEST(TraceText, SignalsSayWhereTheyCameFrom) {
  siginfo_t info = {};
  info.si_signo = SIGSEGV;
  info.si_code = SEGV_MAPERR;
  EXPECT_EQ(FormatSignal(info), "--- SIGSEGV {si_code=SEGV_MAPERR, si_addr=0x0} ---");
  info.si_code = SI_USER;
  info.si_pid = 12;
  info.si_uid = 34;
  EXPECT_EQ(FormatSignal(info), "--- SIGSEGV {si_code=SI_USER, si_pid=12, si_uid=34} ---");
  info.si_signo = SIGCHLD;
  info.si_code = CLD_EXITED;
  info.si_status = 3;
  EXPECT_EQ(FormatSignal(info), "--- SIGCHLD {si_code=CLD_EXITED, si_pid=12, si_status=3} ---");
  info.si_signo = 40;
  info.si_code = 99;
  EXPECT_EQ(FormatSignal(info), "--- SIGRT_8 {si_code=99} ---");
}

struct TestProcess : ProcessView {
  std::string executable_path() const override { return "/bin/test"; }
  std::string FormatMaps() const override { return ""; }
};

struct TestCaller : Caller {
  TestCaller(const GuestMemory& guest_memory, const ProcessView& process_view)
      : Caller(guest_memory, process_view, reinterpret_cast<VirtualLimits&>(no_limits),
               {1 << 20, 1}) {}
  char no_limits = 0;  // a trace asks for none
};

class TextTraceTest : public ::testing::Test {
 protected:
  TextTraceTest() { EXPECT_EQ(pipe2(pipe_, O_CLOEXEC | O_NONBLOCK), 0); }
  ~TextTraceTest() override {
    CloseReader();
    close(pipe_[1]);
  }

  void CloseReader() { close(std::exchange(pipe_[0], -1)); }

  // All that has been written since the last time.
  std::string Written() {
    char buffer[65536];
    const ssize_t count = read(pipe_[0], buffer, sizeof buffer);
    return count < 0 ? "" : std::string(buffer, static_cast<std::size_t>(count));
  }

  void Enter(const Request& request) { trace().OnEnter(caller_, FindRow(request.number), request); }
  void Exit(const Request& request, SyscallResult result) {
    trace().OnExit(caller_, FindRow(request.number), request, result);
  }
  TextTrace& trace() {
    if (!trace_) trace_.emplace(pipe_[1]);
    return *trace_;
  }

  int pipe_[2] = {-1, -1};
  GuestMemory memory_{kTestWindow};
  TestProcess process_;
  TestCaller caller_{memory_, process_};
  std::optional<TextTrace> trace_;
};

std::string Prefix() { return "dunebox: [" + std::to_string(gettid()) + "] "; }

TEST_F(TextTraceTest, ReturnedCallIsOneLine) {
  const Request request = {SYS_close, {3}};
  Enter(request);
  EXPECT_EQ(Written(), "");
  Exit(request, kSuccess);
  EXPECT_EQ(Written(), Prefix() + "close(3) = 0\n");
}

TEST_F(TextTraceTest, InputIsShownAsItWasBeforeTheCall) {
  char path[] = "/before";
  const Request request = {SYS_unlink, {At(path)}};
  Enter(request);
  memcpy(path, "/behind", 7);
  Exit(request, Errno{ENOENT});
  EXPECT_EQ(Written(), Prefix() + "unlink(\"/before\") = -1 ENOENT (No such file or directory)\n");
}

TEST_F(TextTraceTest, CallThatNeverReturnsHasItsLine) {
  Enter({SYS_exit_group, {7}});
  EXPECT_EQ(Written(), Prefix() + "exit_group(7) = ?\n");
}

TEST_F(TextTraceTest, ExecveThatSucceedsHasItsLineBeforeItIsGone) {
  Enter({SYS_execve, {At("/bin/true"), 0, 0}});
  trace().OnNoReturn();
  EXPECT_EQ(Written(), Prefix() + "execve(\"/bin/true\", NULL, NULL) = ?\n");
  trace().OnNoReturn();
  EXPECT_EQ(Written(), "") << "one line a call";
}

TEST_F(TextTraceTest, ForkedChildWritesItsOwnLine) {
  const Request request = {SYS_fork, {}};
  Enter(request);
  const pid_t child = fork();
  if (child == 0) {
    Exit(request, kSuccess);
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(Written(), "dunebox: [" + std::to_string(child) + "] fork() = 0\n");
  Exit(request, SyscallResult(child));
  EXPECT_EQ(Written(), Prefix() + "fork() = " + std::to_string(child) + "\n");
}

// A vforked child runs on its parent's memory: what the parent is in gets overwritten.
TEST_F(TextTraceTest, LineIsRightWhenAnotherCallCameBetween) {
  const Request outer = {SYS_vfork, {}};
  Enter(outer);
  Enter({SYS_exit_group, {0}});
  EXPECT_THAT(Written(), EndsWith("exit_group(0) = ?\n"));
  Exit(outer, SyscallResult(99));
  EXPECT_EQ(Written(), Prefix() + "vfork() = 99\n");
}

TEST_F(TextTraceTest, SignalIsALineOfItsOwn) {
  siginfo_t info = {};
  info.si_signo = SIGFPE;
  info.si_code = FPE_INTDIV;
  trace().OnSignal(info);
  EXPECT_EQ(Written(), Prefix() + "--- SIGFPE {si_code=FPE_INTDIV, si_addr=0x0} ---\n");
}

TEST_F(TextTraceTest, UnknownNumberHasItsLine) {
  const Request request = {0x1ff, {}};
  Enter(request);
  Exit(request, Errno{ENOSYS});
  EXPECT_EQ(Written(), Prefix() +
                           "syscall_0x1ff(0x0, 0x0, 0x0, 0x0, 0x0, 0x0) = -1 ENOSYS (Function not "
                           "implemented)\n");
}

TEST_F(TextTraceTest, ClosedPipeRaisesNoSigpipeAndChangesNoErrno) {
  CloseReader();
  errno = ERANGE;
  Enter({SYS_close, {3}});
  Exit({SYS_close, {3}}, kSuccess);  // the default action of SIGPIPE would end the test
  EXPECT_EQ(errno, ERANGE);
  sigset_t pending;
  ASSERT_EQ(sigpending(&pending), 0);
  EXPECT_EQ(sigismember(&pending, SIGPIPE), 0);
  sigset_t blocked;
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, nullptr, &blocked), 0);
  EXPECT_EQ(sigismember(&blocked, SIGPIPE), 0);
}

TEST_F(TextTraceTest, SigpipeOfTheProgramThatWaitsIsLeftAlone) {
  CloseReader();
  sigset_t sigpipe;
  sigemptyset(&sigpipe);
  sigaddset(&sigpipe, SIGPIPE);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &sigpipe, nullptr), 0);
  raise(SIGPIPE);
  Enter({SYS_exit, {0}});
  const timespec now = {};
  EXPECT_EQ(sigtimedwait(&sigpipe, nullptr, &now), SIGPIPE);
  EXPECT_EQ(sigtimedwait(&sigpipe, nullptr, &now), -1);
  ASSERT_EQ(pthread_sigmask(SIG_UNBLOCK, &sigpipe, nullptr), 0);
}

// Whatever the registers hold, a line comes out and it is printable.
TEST_F(TraceFormat, EveryRowSurvivesWildArguments) {
  for (const std::uint64_t value :
       {std::uint64_t{0}, std::uint64_t{1}, kOutside, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    for (const Row& row : AllRows()) {
      ArgumentValues values;
      values.fill(value);
      for (const std::int64_t result : {std::int64_t{0}, INT64_MAX, std::int64_t{-EFAULT}}) {
        const std::string line = Exit(row.number, values, result);
        EXPECT_THAT(line, StartsWith(std::string(row.name) + "("));
        for (const char byte : line) EXPECT_TRUE(byte >= 0x20 && byte < 0x7f) << line;
      }
    }
  }
}

}  // namespace
}  // namespace dunebox::hostcalls
