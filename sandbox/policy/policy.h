// What a user permits a program: the policy, as values. [DESIGN "sandbox"]
//
// Flags, TOML files and presets all end up here, each rule with the words of where it came from.
// Nothing here looks at a file system or at the network: names are as they were written. What is
// not named is forbidden; the only exception is `allow_all`, which is the rights of the caller.
// compile.h turns it into what the two walls check.
//
//   Policy policy;
//   absl::Status status = Set(policy, Setting::kRead, "/srv/data", "--ro /srv/data");
//   policy.files.back().rights                        // kReadOnly
#ifndef DUNEBOX_SANDBOX_POLICY_POLICY_H_
#define DUNEBOX_SANDBOX_POLICY_POLICY_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hostcalls/policy/rules.h"
#include "jit-fallback/emit/isolation.h"
#include "runtime/confinement/plan.h"
#include "runtime/session.h"

namespace dunebox::policy {

// "--ro /usr", "policy.toml:12", "preset python", "default".
using OriginText = std::string;

// A setting of which there is one: of several the last counts.
template <typename T>
struct Stated {
  T value{};
  OriginText origin;
};
template <typename T>
using MaybeStated = std::optional<Stated<T>>;

enum class TreeKind : std::uint8_t {
  kCallers,  // of the caller's files
  kTmpfs,    // empty at first, in memory, the session's own
  kHidden,   // not there, whatever the trees around it show
};

// A tree and what may be done with it. Of two rules for one target the later counts.
struct FileRule {
  TreeKind kind = TreeKind::kCallers;
  // As written, not with kTmpfs: relative to the directory that dunebox was started in, or to the
  // caller's home with "~/".
  std::string source;
  std::string target;  // where the program sees it; empty: at the same place
  hostcalls::policy::FileRights rights = hostcalls::policy::kNoRights;
  std::uint64_t size = 0;  // with kTmpfs: bytes; 0: the kernel's default
  // Does nothing when there is no such file. Of defaults and presets only: what a user names has
  // to be there.
  bool may_be_absent = false;
  OriginText origin;
};

enum class NetworkKind : std::uint8_t {
  kNone,      // nothing but socket pairs; what others add counts all the same
  kLoopback,  // a loopback of the session's own
  kHost,      // whatever the caller may
  kUnix,      // sockets with a path that files permit to write
  kConnect,   // to `host` and these ports
  kListen,    // on these ports
};

struct NetworkRule {
  NetworkKind kind = NetworkKind::kNone;
  std::string host;  // a name, an address, a range "192.0.2.0/24", "*"; of kConnect and kListen
  std::uint16_t first_port = 0, last_port = 65535;
  OriginText origin;
};

// A system call by name, or a group of them: "ptrace", "@mount".
struct CallRule {
  std::string calls;
  hostcalls::policy::CallAction action = hostcalls::policy::CallAction::kAllow;
  std::uint16_t error = 1;  // errno, with kError
  std::vector<hostcalls::policy::ArgumentCondition> conditions;
  OriginText origin;
};

// "K": the caller's value; "K=V": this one; "LC_*": the caller's with this beginning; "*": all.
struct EnvironmentRule {
  std::string entry;
  OriginText origin;
};

struct Limits {
  MaybeStated<std::chrono::milliseconds> wall_time, cpu_time;
  MaybeStated<std::uint64_t> memory, tasks, open_files, file_size;
  MaybeStated<std::uint64_t> output;  // bytes written to the descriptors it begins with
};

struct RequiredMechanism {
  // Nothing: every mechanism of the second wall that this policy has a use for ("wall2").
  std::optional<confinement::Mechanism> mechanism;
  OriginText origin;
};

struct Policy {
  // The rights of the caller, without any wall. Nothing else but limits, environment and engine
  // goes together with it.
  std::optional<OriginText> allow_all;

  // Nothing but what is stated: no default policy beneath it.
  std::optional<OriginText> no_defaults;

  std::vector<FileRule> files;
  std::vector<NetworkRule> network;
  std::vector<CallRule> calls;  // the first that holds decides
  MaybeStated<hostcalls::policy::CallAction> default_call;
  std::uint16_t default_call_error = 1;  // errno, with kError

  std::optional<OriginText> clear_environment;
  std::vector<EnvironmentRule> environment;
  MaybeStated<std::string> directory;

  MaybeStated<std::uint32_t> uid, gid;
  MaybeStated<std::string> hostname;

  Limits limits;
  MaybeStated<runtime::EngineChoice> engine;
  MaybeStated<std::optional<jit::Isolation>> isolation;  // nothing: the best there is
  std::vector<RequiredMechanism> required;

  std::optional<OriginText> audit;  // say what would be denied, and allow it
  std::optional<OriginText> die_with_parent;

  // Has anything been said about rights, or only about limits, surroundings and the engine?
  bool HasRules() const {
    return no_defaults.has_value() || !files.empty() || !network.empty() || !calls.empty() ||
           default_call.has_value() || uid.has_value() || gid.has_value() || hostname.has_value() ||
           !required.empty() || limits.output.has_value() || audit.has_value();
  }
};

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_POLICY_H_
