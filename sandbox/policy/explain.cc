#include "sandbox/policy/explain.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "runtime/limits/session_limits.h"
#include "sandbox/policy/call_rule_text.h"
#include "sandbox/policy/mechanisms.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::policy {
namespace {

using confinement::Mount;
using confinement::MountKind;
using hostcalls::policy::FileRights;
using hostcalls::policy::PathRule;
using hostcalls::policy::Rules;

std::string OriginIn(const Rules& rules, hostcalls::policy::Origin origin) {
  return origin < rules.origins.size() ? rules.origins[origin] : "";
}

// ---- Files --------------------------------------------------------------------------------------

std::string RightsInWords(FileRights rights) {
  constexpr std::pair<FileRights, std::string_view> kWords[] = {
      {hostcalls::policy::kReadFile, "read"},
      {hostcalls::policy::kWriteFile, "write"},
      {hostcalls::policy::kCreateFile, "create and remove"},
      {hostcalls::policy::kExecuteFile, "execute"},
  };
  std::vector<std::string> words;
  for (const auto& [right, word] : kWords) {
    if ((rights & right) != 0) words.emplace_back(word);
  }
  return words.empty() ? "nothing" : absl::StrJoin(words, ", ");
}

std::string PathInWords(const PathRule& rule, const std::vector<Mount>& mounts) {
  std::string path = Escaped(rule.path);
  const auto mount = std::ranges::find(mounts, rule.path, &Mount::target);
  if (mount == mounts.end()) return path;
  switch (mount->kind) {
    case MountKind::kBind:
      return mount->source == rule.path
                 ? path
                 : absl::StrCat(path, " (which is ", Escaped(mount->source), ")");
    case MountKind::kTmpfs:
      return mount->size == 0 ? absl::StrCat(path, " (empty at first, in memory)")
                              : absl::StrCat(path, " (empty at first, in memory, ",
                                             runtime::FormatSize(mount->size), " at most)");
    case MountKind::kSymlink:
      return absl::StrCat(path, " (a link to ", Escaped(mount->source), ")");
    case MountKind::kProc:
    case MountKind::kDevices:
    case MountKind::kHidden:
      return path;
  }
  __builtin_unreachable();
}

// Paths with the same rights for the same reason are told together.
void ExplainFiles(const runtime::SessionOptions& session, std::vector<Statement>& statements) {
  const Rules& rules = session.rules;
  std::map<std::pair<hostcalls::policy::Origin, FileRights>, std::vector<std::string>> groups;
  std::vector<std::string> listed;
  for (const PathRule& rule : rules.paths) {
    if (rule.itself_alone) {
      listed.push_back(Escaped(rule.path));
      continue;
    }
    groups[{rule.origin, rule.rights}].push_back(PathInWords(rule, session.plan.mounts));
  }
  for (const auto& [key, paths] : groups) {
    const auto& [origin, rights] = key;
    statements.push_back({"files",
                          absl::StrCat(RightsInWords(rights), ": ", absl::StrJoin(paths, ", ")),
                          OriginIn(rules, origin)});
  }
  if (!listed.empty()) {
    statements.push_back({"files",
                          absl::StrCat("list what leads to these: ", absl::StrJoin(listed, ", ")),
                          "default"});
  }
  statements.push_back({"files", "nothing else", ""});
}

// ---- Network ------------------------------------------------------------------------------------

std::string PortsInWords(const NetworkRule& rule) {
  if (rule.first_port == 0) return "any port";
  if (rule.first_port == rule.last_port) return absl::StrCat("port ", rule.first_port);
  return absl::StrCat("ports ", rule.first_port, " to ", rule.last_port);
}

std::string NetworkInWords(const NetworkRule& rule) {
  const bool is_any = rule.host == "*";
  switch (rule.kind) {
    case NetworkKind::kNone:
      return "nothing beyond what is said after this";
    case NetworkKind::kLoopback:
      return "a loopback of the session's own";
    case NetworkKind::kHost:
      return "everything that the caller may do";
    case NetworkKind::kUnix:
      return "connect to sockets whose path may be written";
    case NetworkKind::kConnect:
      return absl::StrCat("connect to ", is_any ? "any host" : Escaped(rule.host), ", ",
                          PortsInWords(rule));
    case NetworkKind::kListen:
      return absl::StrCat("listen on ", is_any ? "any address" : Escaped(rule.host), ", ",
                          PortsInWords(rule));
  }
  __builtin_unreachable();
}

void ExplainNetwork(const Policy& policy, std::vector<Statement>& statements) {
  bool reaches_something = false;
  for (const NetworkRule& rule : policy.network) {
    if (rule.kind == NetworkKind::kNone) continue;
    statements.push_back({"network", NetworkInWords(rule), rule.origin});
    reaches_something = true;
  }
  if (reaches_something) return;
  statements.push_back({"network", "none: sockets among its own processes only",
                        policy.network.empty() ? "default" : policy.network.back().origin});
}

// ---- System calls -------------------------------------------------------------------------------

void ExplainCalls(const Policy& policy, std::vector<Statement>& statements) {
  for (const CallRule& rule : policy.calls) {
    std::string text = absl::StrCat(FormatVerdict({rule.action, rule.error}), " ", rule.calls);
    for (std::size_t i = 0; i < rule.conditions.size(); ++i) {
      absl::StrAppend(&text, i == 0 ? " if " : " and ", FormatCondition(rule.conditions[i]));
    }
    statements.push_back({"system calls", std::move(text), rule.origin});
  }
  const CallVerdict others =
      policy.default_call ? CallVerdict{policy.default_call->value, policy.default_call_error}
                          : CallVerdict{};
  statements.push_back(
      {"system calls",
       absl::StrCat(FormatVerdict(others), policy.calls.empty() ? " all" : " all others",
                    ", within the rules above and what Dunebox carries out at all"),
       policy.default_call ? policy.default_call->origin : "default"});
}

// ---- The rest -----------------------------------------------------------------------------------

void ExplainEnvironment(const Policy& policy, std::vector<Statement>& statements) {
  if (policy.clear_environment) {
    statements.push_back({"environment", "empty but for these", *policy.clear_environment});
  } else {
    statements.push_back({"environment", "the caller's", ""});
  }
  std::map<OriginText, std::vector<std::string>> passed, set;
  for (const EnvironmentRule& rule : policy.environment) {
    auto& group = rule.entry.find('=') == std::string::npos ? passed : set;
    group[rule.origin].push_back(Escaped(rule.entry));
  }
  for (const auto& [origin, names] : passed) {
    statements.push_back({"environment", "passed: " + absl::StrJoin(names, ", "), origin});
  }
  for (const auto& [origin, entries] : set) {
    statements.push_back({"environment", "set: " + absl::StrJoin(entries, ", "), origin});
  }
}

template <typename T>
void ExplainValue(std::string_view matter, std::string_view what, const MaybeStated<T>& stated,
                  const std::string& value, std::vector<Statement>& statements) {
  if (stated) {
    statements.push_back(
        {matter, absl::StrCat(std::string(what), " ", Escaped(value)), stated->origin});
  }
}

std::string SizeOf(const MaybeStated<std::uint64_t>& size) {
  return size ? runtime::FormatSize(size->value) : "";
}

std::string CountOf(const MaybeStated<std::uint64_t>& count) {
  return count ? absl::StrCat(count->value) : "";
}

std::string TimeOf(const MaybeStated<std::chrono::milliseconds>& time) {
  return time ? runtime::FormatDuration(time->value) : "";
}

void ExplainLimits(const Limits& limits, std::vector<Statement>& statements) {
  const auto add = [&](std::string_view what, const auto& limit, const std::string& value) {
    ExplainValue("limits", what, limit, value, statements);
  };
  const std::size_t before = statements.size();
  add("time", limits.wall_time, TimeOf(limits.wall_time));
  add("CPU time of all processes", limits.cpu_time, TimeOf(limits.cpu_time));
  add("memory of each process", limits.memory, SizeOf(limits.memory));
  add("processes and threads", limits.tasks, CountOf(limits.tasks));
  add("open files of each process", limits.open_files, CountOf(limits.open_files));
  add("size of each file", limits.file_size, SizeOf(limits.file_size));
  add("output", limits.output, SizeOf(limits.output));
  if (statements.size() == before) statements.push_back({"limits", "none but the caller's", ""});
}

std::string EngineName(runtime::EngineChoice engine) {
  switch (engine) {
    case runtime::EngineChoice::kAuto:
      return "auto";
    case runtime::EngineChoice::kKvm:
      return "kvm";
    case runtime::EngineChoice::kJit:
      return "jit";
  }
  __builtin_unreachable();
}

void ExplainEngine(const Policy& policy, std::vector<Statement>& statements) {
  if (policy.engine) {
    statements.push_back({"engine", EngineName(policy.engine->value), policy.engine->origin});
  }
  if (policy.isolation) {
    const auto& isolation = policy.isolation->value;
    statements.push_back(
        {"engine",
         absl::StrCat("isolation ", isolation ? std::string(jit::NameOf(*isolation)) : "auto"),
         policy.isolation->origin});
  }
  for (const RequiredMechanism& required : policy.required) {
    const std::string_view name = required.mechanism ? NameOf(*required.mechanism) : kSecondWall;
    statements.push_back(
        {"required", absl::StrCat(std::string(name), ", else it does not start"), required.origin});
  }
}

void ExplainIdentity(const Policy& policy, const runtime::SessionOptions& session,
                     std::vector<Statement>& statements) {
  const auto number = [](const MaybeStated<std::uint32_t>& id) {
    return id ? absl::StrCat(id->value) : "";
  };
  ExplainValue("identity", "user", policy.uid, number(policy.uid), statements);
  ExplainValue("identity", "group", policy.gid, number(policy.gid), statements);
  ExplainValue("identity", "host name", policy.hostname,
               policy.hostname ? policy.hostname->value : "", statements);
  if (!policy.allow_all) {
    statements.push_back(
        {"processes", "those of the session alone can be seen and signalled", "default"});
  }
  if (!session.directory.empty()) {
    statements.push_back({"directory", "it starts in " + Escaped(session.directory),
                          policy.directory ? policy.directory->origin : "default"});
  }
}

constexpr std::size_t kColumns = 100;

// Broken at blanks; further lines are indented twice.
void AppendWrapped(std::string& text, const std::string& line) {
  std::size_t column = 1;
  text += " ";
  for (const absl::string_view word : absl::StrSplit(line, ' ')) {
    if (column > 1 && column + 1 + word.size() > kColumns) {
      text += "\n     ";
      column = 5;
    }
    absl::StrAppend(&text, " ", word);
    column += 1 + word.size();
  }
  text += "\n";
}

std::string InOneLine(const Statement& statement) {
  if (statement.origin.empty()) return statement.text;
  return absl::StrCat(statement.text, " [", Escaped(statement.origin), "]");
}

}  // namespace

std::vector<Statement> Explain(const Policy& policy, const runtime::SessionOptions& session) {
  std::vector<Statement> statements;
  if (policy.allow_all) {
    statements.push_back(
        {"rights", "every right of the caller's, with no second wall", *policy.allow_all});
  } else {
    if (policy.audit) {
      statements.push_back({"audit",
                            "what follows is only said, not enforced: everything is allowed",
                            *policy.audit});
    }
    ExplainFiles(session, statements);
    ExplainNetwork(policy, statements);
    ExplainCalls(policy, statements);
  }
  ExplainIdentity(policy, session, statements);
  ExplainEnvironment(policy, statements);
  ExplainLimits(policy.limits, statements);
  ExplainEngine(policy, statements);
  if (policy.die_with_parent) {
    statements.push_back(
        {"end", "killed when the process that started it is gone", *policy.die_with_parent});
  }
  return statements;
}

std::string FormatStatements(std::span<const Statement> statements) {
  std::string text;
  std::string_view matter;
  for (const Statement& statement : statements) {
    if (statement.matter != matter) absl::StrAppend(&text, std::string(statement.matter), ":\n");
    matter = statement.matter;
    AppendWrapped(text, InOneLine(statement));
  }
  return text;
}

std::string ListStatements(std::span<const Statement> statements) {
  std::string text;
  for (const Statement& statement : statements) {
    constexpr std::string_view kToldAnyway[] = {"limits", "environment", "directory", "engine"};
    if (std::ranges::find(kToldAnyway, statement.matter) != std::end(kToldAnyway)) continue;
    absl::StrAppend(&text, "policy ", std::string(statement.matter), ": ", InOneLine(statement),
                    "\n");
  }
  return text;
}

}  // namespace dunebox::policy
