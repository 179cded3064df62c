// What the kernel's name for an object can be, as far as rules go: they name files by their paths, and not all that has a name
// is one that will be there the next time.
//
//   if (KindOf(name) != NameKind::kFile) return "";  // nothing that a rule could name
#ifndef DUNEBOX_HOSTCALLS_POLICY_OBJECT_NAME_H_
#define DUNEBOX_HOSTCALLS_POLICY_OBJECT_NAME_H_

#include <cstdint>
#include <string_view>

namespace dunebox::hostcalls::policy {

// What the kernel puts behind the name of an object that has been removed.
inline constexpr std::string_view kGone = " (deleted)";

enum class NameKind : std::uint8_t {
  kFile,
  kNoPath,     // "pipe:[123]", or removed: nothing has this name
  kOfProcess,  // "/proc/77/comm": of a process, whose number is another one the next time
  kTerminal,   // of a session, which has its own
};
NameKind KindOf(std::string_view name);

}  // namespace dunebox::hostcalls::policy

#endif  // DUNEBOX_HOSTCALLS_POLICY_OBJECT_NAME_H_
