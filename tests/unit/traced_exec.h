// Executes a program natively and stops it before its first instruction, to ask
// the host kernel what it made of it: an oracle for the loader.
//
//   TracedExec exec("/bin/true", {"true"}, {});
//   if (exec.error() == 0) exec.ReadMemory(exec.stack_pointer(), size);
#ifndef DUNEBOX_TESTS_UNIT_TRACED_EXEC_H_
#define DUNEBOX_TESTS_UNIT_TRACED_EXEC_H_

#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace dunebox::loader {

class TracedExec {
 public:
  static constexpr int kNotTraceable = -1;
  static constexpr int kKilledInExec = -2;  // Past the kernel's point of no return.

  TracedExec(const std::string& path, std::vector<std::string> arguments,
             std::vector<std::string> environment) {
    int pipe_ends[2];
    if (pipe2(pipe_ends, O_CLOEXEC) != 0) std::abort();
    pid_ = fork();
    if (pid_ == 0) RunChild(pipe_ends[1], path, arguments, environment);
    close(pipe_ends[1]);
    // The pipe closes at a successful exec, otherwise brings the errno.
    if (read(pipe_ends[0], &error_, sizeof(error_)) <= 0) error_ = 0;
    close(pipe_ends[0]);
    int status = 0;
    waitpid(pid_, &status, 0);
    if (!WIFSTOPPED(status)) {
      pid_ = -1;
    } else if (WSTOPSIG(status) != SIGTRAP) {
      error_ = kKilledInExec;
    }
  }
  ~TracedExec() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  TracedExec(const TracedExec&) = delete;
  TracedExec& operator=(const TracedExec&) = delete;

  // 0 when the program is stopped at its start, an errno of execve, or one of the constants.
  int error() const { return error_; }

  std::uint64_t stack_pointer() const {
    user_regs_struct registers = {};
    ptrace(PTRACE_GETREGS, pid_, nullptr, &registers);
    return registers.rsp;
  }
  // A file of /proc/PID.
  std::string ProcFile(const std::string& name) const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::vector<std::string> Arguments() const {
    std::vector<std::string> arguments;
    const std::string text = ProcFile("cmdline");
    for (std::size_t at = 0; at < text.size(); at = text.find('\0', at) + 1) {
      arguments.emplace_back(text.c_str() + at);
    }
    return arguments;
  }
  // As much of it as is mapped.
  std::vector<std::byte> ReadMemory(std::uint64_t address, std::size_t size) const {
    std::vector<std::byte> bytes(size);
    const int fd = open(("/proc/" + std::to_string(pid_) + "/mem").c_str(), O_RDONLY | O_CLOEXEC);
    const ssize_t count = pread(fd, bytes.data(), size, static_cast<off_t>(address));
    close(fd);
    bytes.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
    return bytes;
  }

 private:
  static std::vector<char*> Pointers(std::vector<std::string>& strings) {
    std::vector<char*> pointers;
    pointers.reserve(strings.size() + 1);
    for (std::string& text : strings) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
  }
  [[noreturn]] static void RunChild(int pipe_end, const std::string& path,
                                    std::vector<std::string>& arguments,
                                    std::vector<std::string>& environment) {
    int error = kNotTraceable;
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0) {
      execve(path.c_str(), Pointers(arguments).data(), Pointers(environment).data());
      error = errno;
    }
    if (write(pipe_end, &error, sizeof(error)) < 0) _exit(2);
    _exit(1);
  }

  pid_t pid_ = -1;
  int error_ = 0;
};

}  // namespace dunebox::loader

#endif  // DUNEBOX_TESTS_UNIT_TRACED_EXEC_H_
