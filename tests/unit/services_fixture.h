// A guest for the tests of hostcalls/services: real memory in the user half, real descriptors, the
// whole dispatcher. The test program itself plays the runtime: its own memory has bit 46 set.
//
//   class FutexTest : public ServicesTest {};
//   TEST_F(FutexTest, ...) { EXPECT_EQ(Call(SYS_futex, word, FUTEX_WAKE, 1), 0); }
#ifndef DUNEBOX_TESTS_UNIT_SERVICES_FIXTURE_H_
#define DUNEBOX_TESTS_UNIT_SERVICES_FIXTURE_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/services.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {

// One page longer than what is mapped: the guest's memory ends at kArenaEnd.
inline constexpr std::uint64_t kArena = 0x1000'0000;
inline constexpr std::uint64_t kArenaEnd = kArena + 0x40'0000;

struct TestProcessView : ProcessView {
  std::string executable_path() const override { return executable; }
  std::string FormatMaps() const override { return "the guest's maps\n"; }
  std::string Environment() const override { return std::string("A=1\0B=2\0", 8); }
  std::string AuxiliaryVector() const override { return std::string(16, '\0'); }
  std::string CommandLine() const override { return command_line; }
  std::string executable = "/etc/passwd";
  std::string command_line = std::string("guest\0", 6);
};

inline void ContinueAfterFault(int signal_number, siginfo_t*, void* context) {
  auto* user = static_cast<ucontext_t*>(context);
  auto& rip = user->uc_mcontext.gregs[REG_RIP];
  const std::uint64_t next = CopyFixupFor(static_cast<std::uint64_t>(rip));
  if (next == 0) {
    signal(signal_number, SIG_DFL);  // a fault of the test's own: let it end the test
    return;
  }
  rip = static_cast<greg_t>(next);
}

// What a whole process has once: the arena, the fault handler, the limits.
class TestGuest {
 public:
  static TestGuest& Get() {
    static TestGuest guest;
    return guest;
  }
  const GuestMemory memory{Window::WholeProgram()};
  TestProcessView process;
  VirtualLimits limits{DefaultReservedDescriptors()};
  Dispatcher dispatcher{Handlers(), nullptr};

 private:
  TestGuest() {
    void* arena = mmap(reinterpret_cast<void*>(kArena), kArenaEnd - kArena, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (arena != reinterpret_cast<void*>(kArena)) abort();
    struct sigaction action {};
    action.sa_sigaction = ContinueAfterFault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
    if (!limits.Install().ok()) abort();
  }
  static HandlerTable Handlers() {
    HandlerTable handlers;
    RegisterServiceHandlers(handlers);
    return handlers;
  }
};

// One thread of the guest. Memory it allocates is the thread's slice of the arena.
class TestThread : public Caller {
 public:
  explicit TestThread(std::uint64_t slice = 0)
      : Caller(TestGuest::Get().memory, TestGuest::Get().process, TestGuest::Get().limits,
               TestGuest::Get().limits.reserved()),
        next_(kArena + slice * 0x10'0000) {}

  // For a test that makes no other thread.
  bool is_alone = false;
  pid_t LoneThread() const override { return is_alone ? gettid() : 0; }

  // The register after the call: a value or a negative errno.
  template <typename... Values>
  std::int64_t Call(long number, Values... values) {
    const Request request{.number = static_cast<std::uint64_t>(number),
                          .arguments = Arguments(values...)};
    return TestGuest::Get().dispatcher.Dispatch(*this, request).value();
  }

  std::uint64_t Allocate(std::size_t bytes) {
    const std::uint64_t address = next_;
    next_ += (bytes + 15) & ~std::size_t{15};
    return address;
  }
  template <typename T>
  std::uint64_t Put(const T& value) {
    const std::uint64_t address = Allocate(sizeof(T));
    std::memcpy(reinterpret_cast<void*>(address), &value, sizeof(T));
    return address;
  }
  std::uint64_t PutString(const std::string& text) {
    const std::uint64_t address = Allocate(text.size() + 1);
    std::memcpy(reinterpret_cast<void*>(address), text.c_str(), text.size() + 1);
    return address;
  }
  template <typename T>
  static T& At(std::uint64_t address) {
    return *reinterpret_cast<T*>(address);
  }

  std::int64_t OpenAt(int directory, const std::string& path, std::uint64_t flags,
                      std::uint64_t mode = 0) {
    const std::uint64_t before = next_;
    const std::int64_t fd = Call(SYS_openat, directory, PutString(path), flags, mode);
    next_ = before;
    return fd;
  }
  std::int64_t Open(const std::string& path, std::uint64_t flags, std::uint64_t mode = 0) {
    return OpenAt(AT_FDCWD, path, flags, mode);
  }

 private:
  std::uint64_t next_;
};

class ServicesTest : public ::testing::Test {
 protected:
  ServicesTest() {
    char name[] = "/tmp/dunebox-services-XXXXXX";
    directory_ = mkdtemp(name);
    EXPECT_EQ(chdir(directory_.c_str()), 0);
  }
  ~ServicesTest() override {
    EXPECT_EQ(chdir("/"), 0);
    [[maybe_unused]] const int status = system(("rm -rf " + directory_).c_str());
  }

  // The path of a new file in the test's directory.
  std::string MakeFile(const std::string& name, const std::string& text) {
    std::string path = directory_ + "/" + name;
    const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
    EXPECT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    close(fd);
    return path;
  }
  static std::string ReadAll(std::int64_t fd) {
    char buffer[4096];
    const ssize_t size = pread(static_cast<int>(fd), buffer, sizeof(buffer), 0);
    return size < 0 ? "?" : std::string(buffer, static_cast<std::size_t>(size));
  }
  template <typename... Values>
  std::int64_t Call(long number, Values... values) {
    return thread_.Call(number, values...);
  }
  // An address that is the runtime's: of this very test.
  std::uint64_t RuntimeAddress() const { return reinterpret_cast<std::uint64_t>(this); }
  static int FirstReserved() { return TestGuest::Get().limits.reserved().first; }

  TestThread thread_;
  std::string directory_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_TESTS_UNIT_SERVICES_FIXTURE_H_
