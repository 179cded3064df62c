#include "hostcalls/dispatch/dispatcher.h"

#include "hostcalls/check.h"
#include "hostcalls/dispatch/arguments.h"
#include "hostcalls/services/path_calls.h"

namespace dunebox::hostcalls {

void HandlerTable::Bind(std::string_view name, Handler handler) {
  const Row* row = FindRow(name);
  DUNEBOX_CHECK(row != nullptr && row->route == Route::kHandled, "no handled row of this name");
  DUNEBOX_CHECK(handlers_[row->number] == nullptr, "row bound twice");
  handlers_[row->number] = handler;
}

SyscallResult Dispatcher::TakeRoute(Caller& caller, const Row& row, const Request& request) const {
  switch (row.route) {
    case Route::kForwarded: {
      PreparedArguments prepared(caller);
      SyscallResult checked = prepared.Prepare(row, request.arguments);
      if (!checked.ok()) return checked;
      return CallWithPaths(caller, row, prepared.values());
    }
    case Route::kHandled: {
      SyscallResult checked = CheckArguments(caller, row, request.arguments);
      if (!checked.ok()) return checked;
      const Handler handler = handlers_.Find(row.number);
      DUNEBOX_CHECK(handler != nullptr, "handled row without a handler");
      return handler(caller, request.arguments);
    }
    case Route::kDenied:
      return Errno{EPERM};
    case Route::kAbsent:
      return Errno{ENOSYS};
  }
  return Errno{ENOSYS};
}

SyscallResult Dispatcher::Dispatch(Caller& caller, const Request& request) const {
  const Row* row = FindRow(request.number);
  if (trace_ != nullptr) trace_->OnEnter(caller, row, request);
  const SyscallResult result = row == nullptr ? SyscallResult(Errno{ENOSYS})
                                              : TakeRoute(caller, *row, request);
  if (trace_ != nullptr) trace_->OnExit(caller, row, request, result);
  return result;
}

}  // namespace dunebox::hostcalls
