// What an audit, which runs with the caller's rights, sees of capabilities: a program under a policy has none, so a call that
// has worked by one would be refused. Only what the arguments show; whether a file could be opened by its mode they do not.
//
//   const PrivilegeUse use = PrivilegeOf(row, arguments);  // before the call, which may change who the thread is
//   if (result.ok() && !use.capability.empty()) TellPrivilege(caller, use);
#ifndef DUNEBOX_HOSTCALLS_SERVICES_PRIVILEGES_H_
#define DUNEBOX_HOSTCALLS_SERVICES_PRIVILEGES_H_

#include <string>
#include <string_view>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/table/table.h"

namespace dunebox::hostcalls {

struct PrivilegeUse {
  std::string_view capability;  // "CAP_SETUID"; empty: none
  std::string cure;             // how to do without, where there is a flag for that
};

PrivilegeUse PrivilegeOf(const Row& row, const ArgumentValues& arguments);
// Reports it as a denial.
void TellPrivilege(Caller& caller, const PrivilegeUse& use);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_PRIVILEGES_H_
