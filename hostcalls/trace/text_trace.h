// `--trace`: one line a system call, one write(2) a line.
//
//   dunebox: [4711] openat(AT_FDCWD, "/etc/hosts", O_RDONLY|O_CLOEXEC) = 3
//   dunebox: [4711] --- SIGSEGV {si_code=SEGV_MAPERR, si_addr=0x0} ---
//
// What goes in is read before the call, what comes out after it. Lines of threads and processes
// do not mix: each is written whole when its call has returned. The program notices nothing: a
// line that cannot be written is lost, and a closed pipe raises no SIGPIPE in the program.
//
//   TextTrace trace(trace_fd);
//   Dispatcher dispatcher(handlers, &trace);
#ifndef DUNEBOX_HOSTCALLS_TRACE_TEXT_TRACE_H_
#define DUNEBOX_HOSTCALLS_TRACE_TEXT_TRACE_H_

#include <signal.h>

#include <string>
#include <string_view>

#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/trace/write_line.h"

namespace dunebox::hostcalls {

class TextTrace final : public TraceSink {
 public:
  // Borrows both; where `fd` takes no more, `report_fd` says so.
  explicit TextTrace(int fd, int report_fd = -1) : file_(fd, report_fd, "--trace") {}

  void OnEnter(Caller& caller, const Row* row, const Request& request) override;
  void OnExit(Caller& caller, const Row* row, const Request& request,
              SyscallResult result) override;

  // The call that this thread is in will not return (an execve past its point of no return):
  // writes its line with "= ?" now. exit and exit_group need no telling.
  void OnNoReturn() override;
  // A signal is about to be delivered to the program.
  void OnSignal(const siginfo_t& info) override;
  // Says nothing: the call that made the thread has its line.
  void OnBegin(Beginning what, std::string_view program) override;

 private:
  void WriteCall(const std::string& call, const std::string& result);

  UserFile file_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TRACE_TEXT_TRACE_H_
