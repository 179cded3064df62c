// Every line of a trace for programs is JSON and fits a pipe's atomic write, whatever is traced.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hostcalls/trace/chrome_trace.h"
#include "hostcalls/trace/json.h"
#include "hostcalls/trace/json_trace.h"
#include "hostcalls/trace/tee_trace.h"
#include "hostcalls/trace/text_trace.h"
#include "hostcalls/trace/write_line.h"

namespace dunebox::hostcalls {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// The test's own memory is the guest's: everything but the last address below the limit.
constexpr Window kTestWindow = {.base = 0, .lowest = 0x1'0000, .limit = 0x7fff'ffff'0000};

std::uint64_t At(const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); }
std::uint64_t Int(int value) { return static_cast<std::uint32_t>(value); }

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

TEST(Json, TextIsPrintableAndIsReadBack) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  const std::string text = JsonText(bytes);
  for (const char byte : text) EXPECT_TRUE(byte >= 0x20 && byte < 0x7f);
  std::string expected;  // each byte as the code point of its number
  for (int byte = 0; byte < 256; ++byte) {
    if (byte >= 0x80) expected += static_cast<char>(0xc0 | byte >> 6);
    expected += static_cast<char>(byte >= 0x80 ? 0x80 | (byte & 0x3f) : byte);
  }
  EXPECT_EQ(json::parse(text).get<std::string>(), expected);
}

TEST(Json, TextIsCutToItsLimitBetweenEscapeSequences) {
  EXPECT_EQ(JsonText("0123456789", 10), "\"0123456789\"");
  EXPECT_EQ(JsonText("0123456789a", 10), "\"0123\\u2026\"");
  EXPECT_EQ(JsonText("ab\\xff\\xfe\\xfd", 14), "\"ab\\\\xff\\u2026\"");
  EXPECT_EQ(JsonText("ab\\xff\\xfe\\xfd", 12), "\"ab\\u2026\"");
  EXPECT_EQ(JsonText("0123456789", kEllipsisBytes), "\"\\u2026\"");
}

TEST(Json, ObjectHasItsMembersInOrder) {
  EXPECT_EQ(JsonObject().Number("a", -1).Text("b", "\"").Value("c", "null").Take(),
            R"({"a":-1,"b":"\"","c":null})");
  EXPECT_EQ(JsonObject().Take(), "{}");
}

class EventTraceTest : public ::testing::Test {
 protected:
  ~EventTraceTest() override {
    close(pipe_[0]);
    close(pipe_[1]);
  }

  // The lines that have been written since the last time.
  std::vector<std::string> Lines() {
    std::vector<char> buffer(1 << 16);
    const ssize_t count = read(pipe_[0], buffer.data(), buffer.size());
    std::string_view text(buffer.data(), count < 0 ? 0 : static_cast<std::size_t>(count));
    std::vector<std::string> lines;
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      if (end == text.npos) {
        ADD_FAILURE() << "half a line: " << text;
        break;
      }
      lines.emplace_back(text.substr(0, end));
      text.remove_prefix(end + 1);
    }
    return lines;
  }
  json JsonLine() {
    const std::vector<std::string> lines = Lines();
    EXPECT_EQ(lines.size(), 1u);
    return lines.empty() ? json() : json::parse(lines.front());
  }
  // Chrome's lines end with a comma.
  std::vector<json> ChromeLines() {
    std::vector<json> events;
    for (const std::string& line : Lines()) {
      EXPECT_EQ(line.back(), ',') << line;
      events.push_back(json::parse(line.substr(0, line.size() - 1)));
    }
    return events;
  }

  static void Make(TraceSink& trace, Caller& caller, const Request& request, SyscallResult result) {
    trace.OnEnter(caller, FindRow(request.number), request);
    trace.OnExit(caller, FindRow(request.number), request, result);
  }
  json JsonOf(const Request& request, SyscallResult result) {
    Make(json_, caller_, request, result);
    return JsonLine();
  }

  static std::array<int, 2> MakePipe() {
    std::array<int, 2> ends = {-1, -1};
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
    return ends;
  }

  const std::array<int, 2> pipe_ = MakePipe();
  GuestMemory memory_{kTestWindow};
  TestProcess process_;
  TestCaller caller_{memory_, process_};
  JsonTrace json_{pipe_[1], "jit"};
  ChromeTrace chrome_{pipe_[1]};
};

TEST_F(EventTraceTest, CallHasItsNamesAndValues) {
  const json call = JsonOf(
      {SYS_openat, {Int(AT_FDCWD), At("/no/\xff\"x\""), O_RDONLY | O_CLOEXEC, 0}}, Errno{ENOENT});
  EXPECT_EQ(call["event"], "call");
  EXPECT_EQ(call["pid"], getpid());
  EXPECT_EQ(call["tid"], gettid());
  EXPECT_EQ(call["name"], "openat");
  EXPECT_EQ(call["number"], SYS_openat);
  EXPECT_EQ(call["args"]["dirfd"], "AT_FDCWD");
  EXPECT_EQ(call["args"]["pathname"], R"(/no/\xff\"x\")") << "escaped as in C";
  EXPECT_EQ(call["args"]["flags"], "O_RDONLY|O_CLOEXEC");
  EXPECT_EQ(call["result"], -1);
  EXPECT_EQ(call["errno"], "ENOENT");
  EXPECT_EQ(call["engine"], "jit");
  EXPECT_EQ(call["route"], "handled");
  EXPECT_FALSE(call.contains("denied_by"));
  EXPECT_GT(call["start_ns"].get<std::uint64_t>(), 0u);
  EXPECT_GE(call["duration_ns"].get<std::int64_t>(), 0);
}

TEST_F(EventTraceTest, NumbersAreNumbersAndPointersAreNot) {
  char buffer[64] = "four";
  const json read = JsonOf({SYS_read, {3, At(buffer), sizeof buffer}}, SyscallResult(4));
  EXPECT_EQ(read["args"]["fd"], 3);
  EXPECT_EQ(read["args"]["buf"], "four");
  EXPECT_EQ(read["args"]["count"], 64);
  EXPECT_EQ(read["result"], 4);
  EXPECT_FALSE(read.contains("errno"));
  EXPECT_EQ(JsonOf({SYS_unlink, {0}}, Errno{EFAULT})["args"]["pathname"], nullptr);
  EXPECT_EQ(JsonOf({SYS_unlink, {8}}, Errno{EFAULT})["args"]["pathname"]["address"], "0x8");
  EXPECT_EQ(JsonOf({SYS_unlink, {At("0x8")}}, kSuccess)["args"]["pathname"], "0x8");
  EXPECT_EQ(JsonOf({SYS_unlink, {At("NULL")}}, kSuccess)["args"]["pathname"], "NULL");
  EXPECT_EQ(JsonOf({SYS_brk, {0}}, SyscallResult(0x5000))["result"], "0x5000");
}

TEST_F(EventTraceTest, WhatIsCutShortEndsWithAnEllipsis) {
  const std::string long_text(kShownBufferBytes + 1, 'a');
  const json write = JsonOf({SYS_write, {1, At(long_text.data()), long_text.size()}}, kSuccess);
  EXPECT_EQ(write["args"]["buf"], std::string(kShownBufferBytes, 'a') + "\u2026");
  const std::string dots = "aa...";
  EXPECT_EQ(JsonOf({SYS_unlink, {At(dots.c_str())}}, kSuccess)["args"]["pathname"], dots);
}

TEST_F(EventTraceTest, TheTableIsNamedWhereItDenies) {
  const json unknown = JsonOf({0x1ff, {1, 2, 3, 4, 5, 6}}, Errno{ENOSYS});
  EXPECT_EQ(unknown["name"], "syscall_0x1ff");
  EXPECT_EQ(unknown["args"]["arg5"], "0x6");
  EXPECT_EQ(unknown["denied_by"], "table");
  for (const Row& row : AllRows()) {
    const bool denies = row.route == Route::kDenied || row.route == Route::kAbsent;
    if (NeverReturns(&row)) continue;
    EXPECT_EQ(JsonOf({row.number, {}}, Errno{EPERM}).contains("denied_by"), denies) << row.name;
  }
}

TEST_F(EventTraceTest, InterruptedCallHasNoResult) {
  const json call = JsonOf({SYS_pause, {}}, SyscallResult::Restart());
  EXPECT_EQ(call["result"], nullptr);
  EXPECT_EQ(call["interrupted"], true);
  EXPECT_FALSE(call.contains("errno"));
}

TEST_F(EventTraceTest, CallsWithoutReturnAreEvents) {
  const Request exit = {SYS_exit_group, {7}};
  json_.OnEnter(caller_, FindRow(exit.number), exit);
  json event = JsonLine();
  EXPECT_EQ(event["event"], "exit");
  EXPECT_EQ(event["args"]["status"], 7);
  EXPECT_EQ(event["result"], nullptr);
  const Request exec = {SYS_execve, {At("/bin/true"), 0, 0}};
  json_.OnEnter(caller_, FindRow(exec.number), exec);
  EXPECT_EQ(Lines().size(), 0u);
  json_.OnNoReturn();
  event = JsonLine();
  EXPECT_EQ(event["event"], "exec");
  EXPECT_EQ(event["args"]["pathname"], "/bin/true");
}

TEST_F(EventTraceTest, SignalsAndBeginningsAreEvents) {
  siginfo_t info = {};
  info.si_signo = SIGSEGV;
  info.si_code = SEGV_MAPERR;
  json_.OnSignal(info);
  const json signal = JsonLine();
  EXPECT_EQ(signal["event"], "signal");
  EXPECT_EQ(signal["name"], "SIGSEGV");
  EXPECT_EQ(signal["si_code"], "SEGV_MAPERR");
  EXPECT_EQ(signal["si_addr"], "0x0");
  json_.OnBegin(Beginning::kThread, "/bin/\xff");
  const json start = JsonLine();
  EXPECT_EQ(start["event"], "start");
  EXPECT_EQ(start["name"], "thread");
  EXPECT_EQ(start["program"], "/bin/\\xff");
}

// A vforked child runs in its parent's thread, and its execve never returns.
TEST_F(EventTraceTest, ParentsCallIsKnownStillAfterItsVforkedChild) {
  TestCaller child(memory_, process_);
  char path[] = "/before";
  const Request outer = {SYS_unlink, {At(path)}};
  json_.OnEnter(caller_, FindRow(outer.number), outer);
  const Request inner = {SYS_execve, {At("/bin/true"), 0, 0}};
  json_.OnEnter(child, FindRow(inner.number), inner);
  json_.OnEnter(child, FindRow(SYS_close), {SYS_close, {1}});  // killed in it
  memcpy(path, "/behind", sizeof(path));
  json_.OnExit(caller_, FindRow(outer.number), outer, kSuccess);
  EXPECT_EQ(JsonLine()["args"]["pathname"], "/before");
  json_.OnNoReturn();
  EXPECT_EQ(Lines().size(), 0u) << "the child's calls are forgotten";
}

TEST_F(EventTraceTest, EveryRowIsJsonAndFitsAPipeWithTheLongestArguments) {
  std::string path(PATH_MAX - 1, '\xff');  // four bytes of text each
  path.back() = '"';
  std::vector<std::uint64_t> strings(40, At(path.c_str()));
  strings.push_back(0);
  TestProcess process;
  for (const std::uint64_t value :
       {At(path.c_str()), At(strings.data()), std::uint64_t{0}, ~std::uint64_t{0}}) {
    for (const Row& row : AllRows()) {
      Request request = {row.number, {}};
      request.arguments.fill(value);
      for (TraceSink* trace :
           {static_cast<TraceSink*>(&json_), static_cast<TraceSink*>(&chrome_)}) {
        Make(*trace, caller_, request, Errno{ENAMETOOLONG});
        Make(*trace, caller_, request, SyscallResult(8));
        for (std::string line : Lines()) {
          EXPECT_LT(line.size(), std::size_t{PIPE_BUF}) << row.name;
          if (line.back() == ',') line.pop_back();
          EXPECT_TRUE(json::accept(line)) << line;
        }
      }
    }
  }
}

TEST_F(EventTraceTest, ChromeHasSlicesInstantsAndNames) {
  chrome_.OnBegin(Beginning::kProgram, "/bin/ls");
  std::vector<json> events = ChromeLines();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0]["ph"], "M");
  EXPECT_EQ(events[0]["name"], "process_name");
  EXPECT_EQ(events[0]["args"]["name"], "/bin/ls");
  EXPECT_EQ(events[1]["name"], "thread_name");
  chrome_.OnBegin(Beginning::kThread, "/bin/ls");
  EXPECT_EQ(ChromeLines().size(), 1u) << "a thread names no process";

  Make(chrome_, caller_, {SYS_close, {99}}, Errno{EBADF});
  const json call = ChromeLines().at(0);
  EXPECT_EQ(call["ph"], "X");
  EXPECT_EQ(call["name"], "close");
  EXPECT_EQ(call["tid"], gettid());
  EXPECT_GE(call["dur"].get<double>(), 0);
  EXPECT_EQ(call["args"]["arguments"]["fd"], 99);
  EXPECT_EQ(call["args"]["errno"], "EBADF");

  chrome_.OnEnter(caller_, FindRow(SYS_exit), {SYS_exit, {0}});
  EXPECT_EQ(ChromeLines().at(0)["ph"], "i");
  siginfo_t info = {};
  info.si_signo = SIGCHLD;
  chrome_.OnSignal(info);
  EXPECT_EQ(ChromeLines().at(0)["name"], "SIGCHLD");
}

TEST_F(EventTraceTest, ChromeLearnsTheNewNameOfAThread) {
  char old_name[16] = {};
  ASSERT_EQ(prctl(PR_GET_NAME, old_name), 0);
  ASSERT_EQ(prctl(PR_SET_NAME, "worker\xff"), 0);
  Make(chrome_, caller_, {SYS_prctl, {PR_SET_NAME, At("worker\xff")}}, kSuccess);
  prctl(PR_SET_NAME, old_name);
  const std::vector<json> events = ChromeLines();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1]["name"], "thread_name");
  EXPECT_EQ(events[1]["args"]["name"], "worker\\xff");
}

TEST_F(EventTraceTest, BothOfATeeSeeEverything) {
  TextTrace text(pipe_[1]);
  TeeTrace both(text, json_);
  Make(both, caller_, {SYS_close, {3}}, kSuccess);
  const std::vector<std::string> lines = Lines();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], HasSubstr("close(3) = 0"));
  EXPECT_EQ(json::parse(lines[1])["name"], "close");
}

TEST(WriteLine, AFileThatMayNotGrowRaisesNoSignal) {
  const int file = memfd_create("lines", MFD_CLOEXEC);
  ASSERT_GE(file, 0);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &none), 0);
  WriteLine(file, "x\n");  // the default action of SIGXFSZ would end the test
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(lseek(file, 0, SEEK_END), 0) << "the limit did not hold";
  sigset_t pending;
  ASSERT_EQ(sigpending(&pending), 0);
  EXPECT_EQ(sigismember(&pending, SIGXFSZ), 0);
  close(file);
}

// And of those that the program itself has blocked and waits for, none is lost.
TEST(WriteLine, WhatTheProgramWaitsForStaysPendingAndBlocked) {
  const std::uint64_t blocked = (std::uint64_t{1} << (SIGPIPE - 1)) | (std::uint64_t{1} << (33 - 1));
  std::uint64_t before = 0, after = 0, pending = 0;
  ASSERT_EQ(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &blocked, &before, sizeof(before)), 0);
  ASSERT_EQ(raise(SIGPIPE), 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  close(ends[0]);
  EXPECT_FALSE(WriteLine(ends[1], "x\n"));
  close(ends[1]);
  ASSERT_EQ(syscall(SYS_rt_sigpending, &pending, sizeof(pending)), 0);
  EXPECT_NE(pending & (std::uint64_t{1} << (SIGPIPE - 1)), 0U);
  const std::uint64_t pipe_signal = std::uint64_t{1} << (SIGPIPE - 1);
  const timespec now = {};
  EXPECT_EQ(syscall(SYS_rt_sigtimedwait, &pipe_signal, nullptr, &now, sizeof(pipe_signal)), SIGPIPE);
  ASSERT_EQ(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, &after, sizeof(after)), 0);
  EXPECT_EQ(after & blocked, blocked);
}

TEST(UserFile, WhatCannotBeWrittenIsSaidOnce) {
  const int report = memfd_create("report", MFD_CLOEXEC);
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  UserFile file(full, report, "--trace");
  errno = 0;
  EXPECT_FALSE(file.Write("x\n"));
  EXPECT_FALSE(file.Write("y\n"));
  EXPECT_EQ(errno, 0);
  char said[200] = {};
  const ssize_t length = pread(report, said, sizeof(said) - 1, 0);
  EXPECT_GT(length, 0);
  EXPECT_EQ(std::string(said), absl::StrCat("dunebox: [", getpid(), "] --trace: not all could be written: ",
                                            strerror(ENOSPC), " [E0803]\n"));
  close(full);
  close(report);
}

}  // namespace
}  // namespace dunebox::hostcalls
