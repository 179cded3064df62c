#include "sandbox/policy/compile.h"

#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "runtime/loader/program.h"
#include "sandbox/policy/compile_parts.h"
#include "sandbox/policy/presets.h"

namespace dunebox::policy {
namespace {

template <typename T>
void Append(std::vector<T>& all, const std::vector<T>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

template <typename T>
void Take(std::optional<T>& value, const MaybeStated<T>& stated) {
  if (stated) value = stated->value;
}

void CompileLimits(const Limits& limits, runtime::SessionLimits& session) {
  Take(session.wall_time, limits.wall_time);
  Take(session.cpu_time, limits.cpu_time);
  Take(session.memory, limits.memory);
  Take(session.tasks, limits.tasks);
  Take(session.open_files, limits.open_files);
  Take(session.file_size, limits.file_size);
}

// A name with "*" at its end stands for all of the caller's that begin so.
void CompileEnvironment(const Policy& policy, const Surroundings& surroundings,
                        runtime::EnvironmentChanges& changes) {
  changes.clear = policy.clear_environment.has_value();
  for (const EnvironmentRule& rule : policy.environment) {
    const std::string& entry = rule.entry;
    if (entry.back() != '*' || entry.find('=') != std::string::npos) {
      changes.entries.push_back(entry);
      continue;
    }
    const std::string beginning = entry.substr(0, entry.size() - 1);
    for (const std::string& variable : surroundings.environment) {
      const std::string name = variable.substr(0, variable.find('='));
      if (!name.empty() && absl::StartsWith(name, beginning)) changes.entries.push_back(name);
    }
  }
}

// What goes without rights as well as with them.
void CompileSurroundings(const Policy& policy, const Surroundings& surroundings,
                         runtime::SessionOptions& session) {
  CompileLimits(policy.limits, session.limits);
  CompileEnvironment(policy, surroundings, session.environment);
  if (policy.directory) session.directory = policy.directory->value;
  if (policy.engine) session.engine = policy.engine->value;
  if (policy.isolation) session.isolation = policy.isolation->value;
  session.die_with_parent = policy.die_with_parent.has_value();
}

// The mechanisms that "wall2" stands for with this plan. A user namespace is only a means.
std::vector<confinement::Mechanism> SecondWall(const confinement::Plan& plan) {
  using confinement::Mechanism;
  std::vector<Mechanism> all = {Mechanism::kSeccomp,        Mechanism::kLandlock,
                                Mechanism::kMountNamespace, Mechanism::kPidNamespace,
                                Mechanism::kIpcNamespace,   Mechanism::kUtsNamespace};
  if (plan.own_network) all.push_back(Mechanism::kNetworkNamespace);
  return all;
}

void CompileRequired(const Policy& policy, confinement::Plan& plan) {
  for (const RequiredMechanism& required : policy.required) {
    if (required.mechanism) {
      plan.required.push_back(*required.mechanism);
    } else {
      Append(plan.required, SecondWall(plan));
    }
  }
  std::ranges::sort(plan.required);
  plan.required.erase(std::unique(plan.required.begin(), plan.required.end()), plan.required.end());
}

absl::Status Unfit(absl::string_view why) {
  return errors::Named(errors::Id::kRulesDoNotFit, absl::InvalidArgumentError(why));
}

// Of the caller's rights nothing can be taken away: they are there so that no wall is in the way.
absl::Status CheckAllowAll(const Policy& policy) {
  if (!policy.HasRules()) return absl::OkStatus();
  return At(*policy.allow_all,
            Unfit("every right of the caller's goes together with limits (but for that of output), environment and "
                  "engine, but with no rule"));
}

// An audit shows what the caller's machine would have given: with a view of the program's own,
// things would be missing that no rule has denied. So what only a view can give cannot be had.
absl::Status LeaveOutView(const Policy& policy, confinement::Plan& plan) {
  const auto needs_view = [](const FileRule& rule) {
    const bool is_users = !rule.may_be_absent && rule.origin != "default";
    return is_users && (rule.kind == TreeKind::kTmpfs ||
                        (!rule.target.empty() && rule.target != rule.source));
  };
  const auto rule = std::ranges::find_if(policy.files, needs_view);
  if (rule != policy.files.end()) {
    return At(rule->origin, Unfit("an audit has no view of its own for this"));
  }
  if (policy.uid || policy.gid || policy.hostname) {
    return At(*policy.audit, Unfit("an audit has the caller's identity"));
  }
  if (!policy.required.empty()) {
    return At(policy.required.front().origin, Unfit("an audit has no second wall"));
  }
  plan = {};
  return absl::OkStatus();
}

// A relative name means a file below the directory it starts in.
std::string ProgramPath(const Policy& policy, const Surroundings& surroundings,
                        const std::string& program) {
  if (program.find('/') != std::string::npos) {
    if (program.front() == '/' || !policy.directory) return AbsolutePath(program, surroundings);
    return AbsolutePath(absl::StrCat(policy.directory->value, "/", program), surroundings);
  }
  absl::StatusOr<std::string> path = loader::FindProgram(program);
  return path.ok() ? AbsolutePath(*path, surroundings) : "";
}

// Where it starts when nobody said so: here, if this is what the program sees under the name, else
// at the root.
std::string StartDirectory(const Surroundings& surroundings, const confinement::Plan& plan) {
  const confinement::Mount* innermost = nullptr;
  for (const confinement::Mount& mount : plan.mounts) {
    if (!confinement::IsIn(surroundings.directory, mount.target)) continue;
    if (innermost == nullptr || mount.target.size() > innermost->target.size()) innermost = &mount;
  }
  const bool is_in_place = innermost != nullptr &&
                           innermost->kind == confinement::MountKind::kBind &&
                           innermost->source == innermost->target;
  return is_in_place ? surroundings.directory : "/";
}

}  // namespace

hostcalls::policy::Origin OriginOf(hostcalls::policy::Rules& rules, const OriginText& text) {
  if (rules.origins.empty()) rules.origins.emplace_back("default");
  const auto found = std::ranges::find(rules.origins, text);
  const auto index = static_cast<hostcalls::policy::Origin>(found - rules.origins.begin());
  if (found == rules.origins.end()) rules.origins.push_back(text);
  return index;
}

absl::Status At(const OriginText& origin, const absl::Status& status) {
  return errors::Behind(origin, status);
}

Surroundings CallersSurroundings() {
  Surroundings surroundings{.lookup = LookUpHost};
  std::array<char, PATH_MAX> buffer;
  // A directory that was removed has no name; then relative names mean nothing that exists.
  const char* const directory = getcwd(buffer.data(), buffer.size());
  surroundings.directory = directory == nullptr ? "/" : directory;
  for (char** entry = environ; *entry != nullptr; ++entry)
    surroundings.environment.emplace_back(*entry);
  return surroundings;
}

Policy Effective(const Policy& stated) {
  if (stated.allow_all || stated.no_defaults) return stated;
  Policy defaults;
  AddDefaults(defaults);
  Policy policy = stated;
  policy.files = std::move(defaults.files);
  Append(policy.files, stated.files);
  policy.environment = std::move(defaults.environment);
  Append(policy.environment, stated.environment);
  if (!policy.clear_environment) policy.clear_environment = defaults.clear_environment;
  return policy;
}

absl::Status Compile(const Policy& policy, const Surroundings& surroundings,
                     runtime::SessionOptions& session) {
  CompileSurroundings(policy, surroundings, session);
  session.rules.allow_all = policy.allow_all.has_value();
  session.plan.confine = !session.rules.allow_all;
  if (policy.allow_all) return CheckAllowAll(policy);
  hostcalls::policy::Rules& rules = session.rules;
  confinement::Plan& plan = session.plan;
  OriginOf(rules, "default");
  const std::string program = ProgramPath(policy, surroundings, session.program);
  if (absl::Status status = CompileFiles(policy, surroundings, program, rules, plan);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = CompileNetwork(policy, surroundings.lookup, rules, plan);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = CompileCalls(policy, rules); !status.ok()) return status;
  rules.audit = policy.audit.has_value();
  if (policy.limits.output) rules.most_output = policy.limits.output->value;
  if (policy.uid) plan.identity.uid = policy.uid->value;
  if (policy.gid) plan.identity.gid = policy.gid->value;
  if (policy.hostname) plan.identity.hostname = policy.hostname->value;
  CompileRequired(policy, plan);
  if (session.program.find('/') != std::string::npos) session.program = program;
  if (policy.audit) return LeaveOutView(policy, plan);
  if (!policy.directory) session.directory = StartDirectory(surroundings, plan);
  return absl::OkStatus();
}

}  // namespace dunebox::policy
