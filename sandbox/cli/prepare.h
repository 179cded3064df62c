// `dunebox prepare`: runs a program to learn what code it has, and translates that for later runs.
//
// The session's processes tell nothing but bytes of the guest's (jit::AppendGuestCode): whatever
// they are, and whoever has written them, what this process makes of them is right for who has the
// same. So a program that has broken out of its sandbox meanwhile cannot leave anything there.
//
//   return RunPrepare(session);
#ifndef DUNEBOX_SANDBOX_CLI_PREPARE_H_
#define DUNEBOX_SANDBOX_CLI_PREPARE_H_

#include "runtime/session.h"

namespace dunebox::cli {

// The exit status; messages go to standard error. Without a program, what is there is made anew.
int RunPrepare(runtime::SessionOptions session);

}  // namespace dunebox::cli

#endif  // DUNEBOX_SANDBOX_CLI_PREPARE_H_
