// A file that has only a text in it: what the guest gets for /proc/self/maps and its like.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_TEXT_FILE_H_
#define DUNEBOX_HOSTCALLS_SERVICES_TEXT_FILE_H_

#include <string_view>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/services/reserved_fd.h"

namespace dunebox::hostcalls {

// A sealed memfd: nobody can change it any more, not even through another descriptor of it.
CopyResult<ReservedFd> MakeTextFile(Caller& caller, std::string_view text);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_TEXT_FILE_H_
