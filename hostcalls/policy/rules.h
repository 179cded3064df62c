// The rules of a session in the form in which the supervisor checks them: wall 1. [DESIGN D6]
//
// Values only, compiled from a policy by sandbox/policy and carried over execve in the session's
// state. Paths are absolute, without links, "." or "..", as the kernel names objects inside the
// session's mount namespace; nothing here looks at a file system. Each rule knows where it came
// from, so that a denial can say so. Immutable once the first program runs: any thread may read.
//
//   Rules rules = ...;
//   if (!(rules.RightsOn("/etc/passwd").rights & kReadFile)) ...
#ifndef DUNEBOX_HOSTCALLS_POLICY_RULES_H_
#define DUNEBOX_HOSTCALLS_POLICY_RULES_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace dunebox::hostcalls::policy {

// ---- Where a rule came from ---------------------------------------------------------------------

// "--ro /usr", "policy.toml:12", "preset python", "default". An index into Rules::origins.
using Origin = std::uint16_t;

// ---- Files --------------------------------------------------------------------------------------

// What may be done to an object and below it. Looking a name up (stat, chdir, readlink) needs no
// right on the directories that lead to a tree somebody may use; elsewhere it needs kReadFile.
enum FileRight : std::uint8_t {
  kReadFile = 1,     // open for reading, list, stat, getxattr
  kWriteFile = 2,    // open for writing, truncate
  kCreateFile = 4,   // create, remove, rename, link names in it; with kWriteFile: chmod, chown,
                     // utime, setxattr
  kExecuteFile = 8,  // execve, and PROT_EXEC mappings
};
using FileRights = std::uint8_t;
inline constexpr FileRights kNoRights = 0;
inline constexpr FileRights kReadOnly = kReadFile | kExecuteFile;
inline constexpr FileRights kAllRights = kReadFile | kWriteFile | kCreateFile | kExecuteFile;

// The whole tree at `path`; the longest path that leads to an object decides.
struct PathRule {
  std::string path;
  FileRights rights = kNoRights;
  Origin origin = 0;
  bool itself_alone = false;  // the object at `path`, and nothing below it
};

struct RightsAndOrigin {
  FileRights rights = kNoRights;
  Origin origin = 0;
};

// ---- Network ------------------------------------------------------------------------------------

enum class Reach : std::uint8_t {
  kNone,      // no socket but AF_UNIX pairs
  kLoopback,  // 127.0.0.0/8 and ::1
  kListed,    // loopback if listed, and NetworkRules::outbound
  kHost,      // every address of the caller's
};

// An address range, both families in IPv6 form (IPv4 mapped), and a range of ports.
struct EndpointRule {
  std::array<std::uint8_t, 16> address{};
  std::uint8_t prefix = 0;  // bits of `address` that count, 0..128
  std::uint16_t first_port = 0, last_port = 65535;
  Origin origin = 0;
};

struct NetworkRules {
  Reach reach = Reach::kNone;
  Origin origin = 0;
  std::vector<EndpointRule> outbound;  // with kListed: connect, sendto, sendmsg
  std::vector<EndpointRule> listen;    // bind and listen, with kLoopback and kListed; kHost: any
  bool unix_sockets = false;           // connect to path names that files allow for writing
};

// ---- System calls -------------------------------------------------------------------------------

enum class Comparison : std::uint8_t { kEqual, kNotEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual, kMaskedEqual };

// On one argument as the program passed it (a 64-bit register). All conditions of a rule must hold.
struct ArgumentCondition {
  std::uint8_t argument = 0;  // 0..5
  Comparison comparison = Comparison::kEqual;
  std::uint64_t value = 0;
  std::uint64_t mask = ~std::uint64_t{0};  // with kMaskedEqual: (argument & mask) == value
};

bool Holds(const ArgumentCondition& condition, std::uint64_t argument);

enum class CallAction : std::uint8_t { kAllow, kError, kKill };

// The first rule of a call whose conditions hold decides; none: Rules::default_call_action.
struct CallRule {
  std::uint16_t number = 0;
  CallAction action = CallAction::kAllow;
  std::uint16_t error = 1;  // errno, with kError
  std::vector<ArgumentCondition> conditions;
  Origin origin = 0;
};

// ---- All of them --------------------------------------------------------------------------------

struct Rules {
  // The caller's own rights: nothing below is looked at. What --allow=all means.
  bool allow_all = true;
  // Say what would be denied, and allow it.
  bool audit = false;

  std::vector<PathRule> paths;  // sorted by path
  NetworkRules network;
  CallAction default_call_action = CallAction::kAllow;
  std::uint16_t default_call_error = 1;
  std::vector<CallRule> calls;  // sorted by number, stable
  bool signal_outside = false;  // may it signal processes that are not of this session?
  std::uint64_t most_output = 0;  // bytes written to descriptors it began with; 0: no limit
  std::vector<std::string> origins;  // texts; [0] is "default"

  // Of the longest rule that is a prefix of `path`, by components. No rule: no rights.
  RightsAndOrigin RightsOn(std::string_view path) const;
  // Does some rule with rights lie below `path`? Then its name may be looked up and listed past.
  bool LeadsToRights(std::string_view path) const;
  // Is there any rule below `path`, also one without rights?
  bool HasRuleBelow(std::string_view path) const;
  std::string_view OriginText(Origin origin) const;
};

// Length-prefixed fields in one order; Parse refuses whatever Serialize did not write.
std::string Serialize(const Rules& rules);
absl::StatusOr<Rules> ParseRules(std::string_view bytes);

}  // namespace dunebox::hostcalls::policy

#endif  // DUNEBOX_HOSTCALLS_POLICY_RULES_H_
