// Two observers of the same calls, where the dispatcher has room for one.
//
//   TeeTrace both(trace, counters);
//   Dispatcher dispatcher(handlers, &both);
#ifndef DUNEBOX_HOSTCALLS_TRACE_TEE_TRACE_H_
#define DUNEBOX_HOSTCALLS_TRACE_TEE_TRACE_H_

#include <signal.h>

#include <string_view>

#include "hostcalls/dispatch/dispatcher.h"

namespace dunebox::hostcalls {

class TeeTrace final : public TraceSink {
 public:
  // Borrows both. `first` has everything before `second`.
  TeeTrace(TraceSink& first, TraceSink& second) : first_(first), second_(second) {}

  void OnEnter(Caller& caller, const Row* row, const Request& request) override {
    first_.OnEnter(caller, row, request);
    second_.OnEnter(caller, row, request);
  }
  void OnExit(Caller& caller, const Row* row, const Request& request,
              SyscallResult result) override {
    first_.OnExit(caller, row, request, result);
    second_.OnExit(caller, row, request, result);
  }
  void OnNoReturn() override {
    first_.OnNoReturn();
    second_.OnNoReturn();
  }
  void OnSignal(const siginfo_t& info) override {
    first_.OnSignal(info);
    second_.OnSignal(info);
  }
  void OnBegin(Beginning what, std::string_view program) override {
    first_.OnBegin(what, program);
    second_.OnBegin(what, program);
  }

 private:
  TraceSink& first_;
  TraceSink& second_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TRACE_TEE_TRACE_H_
