// One way down for every system call: row -> policy's call rules -> validate -> route -> result.
//
// Owns the handlers bound to rows of the table; refuses any number without a row
// (ENOSYS) and any pointer, length or descriptor that is not the guest's.
//
//   HandlerTable handlers;
//   RegisterFileHandlers(handlers);              // hostcalls/services
//   Dispatcher dispatcher(std::move(handlers), trace);
//   SyscallResult result = dispatcher.Dispatch(caller, request);
#ifndef DUNEBOX_HOSTCALLS_DISPATCH_DISPATCHER_H_
#define DUNEBOX_HOSTCALLS_DISPATCH_DISPATCHER_H_

#include <signal.h>

#include <array>
#include <string_view>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/result.h"
#include "hostcalls/table/table.h"

namespace dunebox::hostcalls {

// Carries out one call whose arguments the dispatcher has validated as far as their kinds say.
using Handler = SyscallResult (*)(Caller&, const ArgumentValues&);

class HandlerTable {
 public:
  // CHECK-fails when the name has no row, the row is not kHandled, or it is bound already.
  void Bind(std::string_view name, Handler handler);
  Handler Find(std::uint64_t number) const {
    return number < kSyscallTableSize ? handlers_[number] : nullptr;
  }

 private:
  std::array<Handler, kSyscallTableSize> handlers_{};
};

// What has begun: the first event of a thread.
enum class Beginning : unsigned char {
  kProgram,  // a program's first thread, after dunebox run or execve
  kThread,
  kForkedChild,   // a process of its own from here on
  kVforkedChild,  // a process, but in its parent's memory
};

// Told about every call before and after it; null when nobody traces.
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  // `row` is null for a number without one.
  virtual void OnEnter(Caller& caller, const Row* row, const Request& request) = 0;
  virtual void OnExit(Caller& caller, const Row* row, const Request& request,
                      SyscallResult result) = 0;
  // The call this thread is in will not return (an execve past its point of no return).
  virtual void OnNoReturn() = 0;
  // A signal is about to be delivered to the guest.
  virtual void OnSignal(const siginfo_t& info) = 0;
  // The calling thread, of the process that runs the file `program`, makes its first step.
  virtual void OnBegin(Beginning what, std::string_view program) = 0;
};

class Dispatcher {
 public:
  Dispatcher(const HandlerTable& handlers, TraceSink* trace) : handlers_(handlers), trace_(trace) {}

  SyscallResult Dispatch(Caller& caller, const Request& request) const;

 private:
  SyscallResult TakeRoute(Caller& caller, const Row& row, const Request& request) const;

  HandlerTable handlers_;
  TraceSink* trace_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_DISPATCH_DISPATCHER_H_
