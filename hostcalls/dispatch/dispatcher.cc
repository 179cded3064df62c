#include "hostcalls/dispatch/dispatcher.h"

#include <signal.h>

#include <cerrno>
#include <string>

#include "hostcalls/check.h"
#include "hostcalls/dispatch/arguments.h"
#include "hostcalls/services/counted_output.h"
#include "hostcalls/services/limit_notes.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/privileges.h"
#include "hostcalls/services/session_processes.h"

namespace dunebox::hostcalls {

void HandlerTable::Bind(std::string_view name, Handler handler) {
  const Row* row = FindRow(name);
  DUNEBOX_CHECK(row != nullptr && row->route == Route::kHandled, "no handled row of this name");
  DUNEBOX_CHECK(handlers_[row->number] == nullptr, "row bound twice");
  handlers_[row->number] = handler;
}

namespace {

// What the policy says about the call as a whole, before anything is looked at but its registers.
SyscallResult AskCallRules(Caller& caller, const Row* row, const Request& request) {
  using policy::CallAction;
  const policy::CallRules::Decision decision =
      caller.guard->calls().Decide(request.number, request.arguments);
  if (decision.action == CallAction::kAllow) return kSuccess;
  const std::string name = row == nullptr ? std::to_string(request.number) : row->name;
  // The first rule that holds decides: behind the one that forbids, another changes nothing.
  const std::string place = decision.origin == 0 ? "" : " before that rule";
  const bool refused = caller.guard->Refuse(caller, {.action = "call",
                                                     .object = name,
                                                     .origin = decision.origin,
                                                     .cure = "--call='allow " + name + "'" + place,
                                                     .error = decision.error});
  if (!refused) return kSuccess;
  if (decision.action == CallAction::kKill) caller.EndBySignal(SIGSYS);
  return Errno{decision.error};
}

}  // namespace

namespace {

// What has been checked, or copied and checked, on its way to the host.
SyscallResult Forward(Caller& caller, const Row& row, SyscallResult checked,
                      const ArgumentValues& values) {
  if (checked.ok()) checked = RequireSessionTargets(caller, row, values);
  return checked.ok() ? CallForwarded(caller, row, values) : checked;
}

SyscallResult ForwardCopies(Caller& caller, const Row& row, const ArgumentValues& values) {
  PreparedArguments prepared(caller);
  const SyscallResult checked = prepared.Prepare(row, values);
  return Forward(caller, row, checked, prepared.values());
}

}  // namespace

SyscallResult Dispatcher::TakeRoute(Caller& caller, const Row& row, const Request& request) const {
  switch (row.route) {
    case Route::kForwarded:
      if (NeedsCopies(row)) return ForwardCopies(caller, row, request.arguments);
      return Forward(caller, row, CheckArguments(caller, row, request.arguments),
                     request.arguments);
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
  SyscallResult result = caller.guard == nullptr ? kSuccess : AskCallRules(caller, row, request);
  PrivilegeUse privilege;
  if (row != nullptr && caller.guard != nullptr && caller.guard->rules().audit) {
    privilege = PrivilegeOf(*row, request.arguments);
  }
  if (result.ok()) {
    result = row == nullptr ? SyscallResult(Errno{ENOSYS}) : TakeRoute(caller, *row, request);
  }
  if (result.ok() && !privilege.capability.empty()) TellPrivilege(caller, privilege);
  if (!result.ok() && caller.limits.notes != nullptr) {
    caller.limits.notes->NoteError(caller, result.error());
  }
  if (trace_ != nullptr) trace_->OnExit(caller, row, request, result);
  return result;
}

}  // namespace dunebox::hostcalls
