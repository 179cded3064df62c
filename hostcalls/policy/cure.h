// The flag that a denial proposes: the narrowest that would let the same call succeed.
//
// A file is proposed by its name, a device as a device, and what is to be made by its directory. A
// directory in which everybody's things are is never proposed as a whole: then the words say what
// to name in it. Nothing is proposed for what no flag gives: an object without a name, a file of a
// process, or a terminal: sessions have their own, and the host's would take their place.
//
//   CureFor(kReadFile, "/srv/data/a")   // "--ro /srv/data/a"
//   CureFor(kCreateFile, "/home/x")     // "--rw of what is needed below /home, not ..."
#ifndef DUNEBOX_HOSTCALLS_POLICY_CURE_H_
#define DUNEBOX_HOSTCALLS_POLICY_CURE_H_

#include <string>

#include "hostcalls/policy/rules.h"

namespace dunebox::hostcalls::policy {

// `missing`: one right, or none to look the name up. `name`: the kernel's for the object, or the
// one that it would get.
std::string CureFor(FileRights missing, const std::string& name);

}  // namespace dunebox::hostcalls::policy

#endif  // DUNEBOX_HOSTCALLS_POLICY_CURE_H_
