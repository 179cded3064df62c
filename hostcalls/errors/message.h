// The one way in which the command says that something went wrong: a line on standard error that begins
// with "dunebox: " and ends with the id of the message, for `dunebox explain`.
//
// Whoever knows best what a failure means names it where it is made; on the way up nobody gives it
// another name, and whoever prints it has a name for those that came without one.
//
//   return Named(Id::kNoProc, absl::FailedPreconditionError("/proc is not mounted"));
//   ...
//   Say(Id::kHostRefused, status);   // dunebox: /proc is not mounted [E0601]
//
// Only what the user should look into has an id. A report that was asked for has none.
#ifndef DUNEBOX_HOSTCALLS_ERRORS_MESSAGE_H_
#define DUNEBOX_HOSTCALLS_ERRORS_MESSAGE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "hostcalls/errors/id.h"

namespace dunebox::errors {

// `status` with this name, if it is a failure and has none yet.
absl::Status Named(Id id, absl::Status status);

// What it was named; else `otherwise`.
Id NameOf(const absl::Status& status, Id otherwise);

// The same failure, with its name, and "`front`: " before its message.
absl::Status Behind(std::string_view front, const absl::Status& status);

// "MESSAGE [E0123]"
std::string WithCode(Id id, std::string_view message);

// "dunebox: MESSAGE [E0123]\n"
std::string LineOf(Id id, std::string_view message);

// Once a program may have a file of its own as descriptor 2: messages go to this one, which is standard error and the runtime's.
// Before there are other threads.
void SpeakTo(int fd);

// Writes the line to standard error, in one piece. Nobody need be there to read it.
void Say(Id id, std::string_view message);
void Say(Id otherwise, const absl::Status& status);

}  // namespace dunebox::errors

#endif  // DUNEBOX_HOSTCALLS_ERRORS_MESSAGE_H_
