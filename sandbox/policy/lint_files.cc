#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "sandbox/policy/lint_parts.h"

namespace dunebox::policy {
namespace {

using hostcalls::policy::FileRights;
using hostcalls::policy::kCreateFile;
using hostcalls::policy::kReadFile;
using hostcalls::policy::kWriteFile;

// ---- What means more than it seems --------------------------------------------------------------

struct WideTree {
  std::string_view path, reading, writing;
};
constexpr WideTree kWideTrees[] = {
#define WIDE_TREE(path, reading, writing) {path, reading, writing},
#include "sandbox/policy/sensitive_places.inc"
};

constexpr std::string_view kSecrets[] = {
#define SECRET(path) path,
#include "sandbox/policy/sensitive_places.inc"
};

struct ControlSocket {
  std::string_view path, gives;
};
constexpr ControlSocket kControlSockets[] = {
#define CONTROL_SOCKET(path, gives) {path, gives},
#include "sandbox/policy/sensitive_places.inc"
};

constexpr std::string_view kRunOutside[] = {
#define RUN_OUTSIDE(path) path,
#include "sandbox/policy/sensitive_places.inc"
};

// ---- Paths --------------------------------------------------------------------------------------

// As the words say: no link is followed.
std::string Absolute(std::string_view path, const LintSurroundings& surroundings) {
  std::string full(path);
  if (path == "~" || path.starts_with("~/")) {
    full = surroundings.home + full.substr(1);
  } else if (!path.starts_with('/')) {
    full = surroundings.directory + "/" + full;
  }
  std::vector<std::string_view> parts;
  for (std::string_view rest = full; !rest.empty();) {
    const std::size_t slash = std::min(rest.find('/'), rest.size());
    const std::string_view part = rest.substr(0, slash);
    rest.remove_prefix(std::min(slash + 1, rest.size()));
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
  }
  return parts.empty() ? "/" : fmt::format("/{}", fmt::join(parts, "/"));
}

bool IsWithin(std::string_view path, std::string_view tree) {
  if (tree == "/") return true;
  return path.starts_with(tree) && (path.size() == tree.size() || path[tree.size()] == '/');
}

// A rule with its paths as they are.
struct Tree {
  const FileRule* rule;
  std::string source;  // empty with tmpfs; what is hidden has its name here
  std::string target;

  bool is_callers() const { return rule->kind == TreeKind::kCallers; }
  bool is_hidden() const { return rule->kind == TreeKind::kHidden; }
  bool permits(FileRights rights) const { return (rule->rights & rights) != 0; }
  // Where the program finds a file of the caller's below the source.
  std::string TargetOf(const std::string& path) const {
    const std::string below = path == source ? "" : path.substr(source == "/" ? 0 : source.size());
    return target == "/" && !below.empty() ? below : target + below;
  }
};

class FileLint {
 public:
  FileLint(const Policy& policy, const LintSurroundings& surroundings,
           std::vector<Finding>& findings)
      : policy_(policy), surroundings_(surroundings), findings_(findings) {
    for (const FileRule& rule : policy.files) {
      Tree tree{.rule = &rule, .source = {}, .target = {}};
      if (rule.kind != TreeKind::kTmpfs) tree.source = Absolute(rule.source, surroundings);
      tree.target = rule.target.empty() ? tree.source : Absolute(rule.target, surroundings);
      trees_.push_back(std::move(tree));
    }
  }

  void Run() {
    for (const Tree& tree : trees_) {
      if (IsBuiltIn(tree.rule->origin)) continue;
      CheckReached(tree);
      CheckMechanism(tree);
      if (!tree.is_callers()) continue;
      CheckWidth(tree);
      CheckSecrets(tree);
      CheckSockets(tree);
      CheckRunOutside(tree);
    }
    CheckDirectory();
  }

 private:
  void Add(FindingKind kind, const Tree& tree, std::string reason, std::string suggestion) {
    findings_.push_back({kind, tree.rule->origin, std::move(reason), std::move(suggestion)});
  }

  // The tree that decides about `path`, of those before `end` in the list or of all.
  const Tree* Deciding(std::string_view path, const Tree* except = nullptr) const {
    const Tree* longest = nullptr;
    for (const Tree& tree : trees_) {
      if (&tree == except || !IsWithin(path, tree.target)) continue;
      if (longest == nullptr || tree.target.size() >= longest->target.size()) longest = &tree;
    }
    return longest;
  }

  void CheckReached(const Tree& tree) {
    const Tree* const decides = Deciding(tree.target);
    if (decides != &tree) {
      return Add(FindingKind::kUnreachable, tree,
                 fmt::format("{} has no effect: {} says the same path later", tree.target,
                             decides->rule->origin),
                 "remove one of the two");
    }
    const Tree* const outer = Deciding(tree.target, &tree);
    if (tree.is_hidden() && outer == nullptr) {
      Add(FindingKind::kUnreachable, tree,
          fmt::format("{} has no effect: no rule shows it", tree.target), "remove it");
    }
    if (!tree.is_callers()) return;
    if (outer == nullptr || !outer->is_callers() || outer->rule->rights != tree.rule->rights) {
      return;
    }
    if (!IsWithin(tree.source, outer->source) || outer->TargetOf(tree.source) != tree.target) {
      return;
    }
    Add(FindingKind::kUnreachable, tree,
        fmt::format("{} has no effect: {} allows the same for all of {}", tree.target,
                    outer->rule->origin, outer->target),
        "remove it, or the wider one");
  }

  void CheckMechanism(const Tree& tree) {
    const bool needs_mounts = tree.source != tree.target;
    if (!needs_mounts || !IsMissing(confinement::Mechanism::kMountNamespace)) return;
    Add(FindingKind::kNotHere, tree,
        fmt::format("{} needs a mount namespace, which this machine does not give", tree.target),
        "name the files where they are");
  }

  bool IsMissing(confinement::Mechanism mechanism) const {
    const auto& missing = surroundings_.missing;
    return std::ranges::find(missing, mechanism) != missing.end();
  }

  void CheckWidth(const Tree& tree) {
    for (const WideTree& wide : kWideTrees) {
      if (tree.source != Absolute(wide.path, surroundings_)) continue;
      const bool writes = tree.permits(kWriteFile | kCreateFile);
      const std::string_view what = writes ? wide.writing : wide.reading;
      if (what.empty()) return;
      return Add(FindingKind::kTooWide, tree,
                 fmt::format("{} {}: {}", writes ? "may change" : "may read", tree.source, what),
                 "name the directories below it that are needed");
    }
  }

  // Does this rule decide about `path` of the caller's, or about something below it?
  bool Reaches(const Tree& tree, const std::string& path) const {
    if (IsWithin(tree.source, path)) return Deciding(tree.target) == &tree;
    return IsWithin(path, tree.source) && Deciding(tree.TargetOf(path)) == &tree;
  }

  void CheckSecrets(const Tree& tree) {
    if (!tree.permits(kReadFile) || !HasWayOut(policy_)) return;
    std::vector<std::string_view> reached;
    for (const std::string_view secret : kSecrets) {
      if (Reaches(tree, Absolute(secret, surroundings_))) reached.push_back(secret);
    }
    if (reached.empty()) return;
    Add(FindingKind::kTooWide, tree,
        fmt::format("{} can be read and sent away over the network", fmt::join(reached, ", ")),
        "read less, --hide it, or allow no network");
  }

  void CheckSockets(const Tree& tree) {
    if (!tree.permits(kWriteFile)) return;
    const bool connects = std::ranges::any_of(policy_.network, [](const NetworkRule& rule) {
      return rule.kind == NetworkKind::kUnix || rule.kind == NetworkKind::kHost;
    });
    for (const ControlSocket& socket : kControlSockets) {
      const std::string path(socket.path);
      // Named by itself it is meant to be connected to, if not now then with the next rule.
      if (!Reaches(tree, path) || !(connects || tree.source == path)) continue;
      Add(FindingKind::kTooWide, tree,
          fmt::format("{} can be connected to, which gives {}", path, socket.gives),
          "leave the socket out");
    }
  }

  void CheckRunOutside(const Tree& tree) {
    if (!tree.permits(kWriteFile) || !tree.permits(kCreateFile)) return;
    std::vector<std::string> reached;
    for (const std::string_view place : kRunOutside) {
      const std::string path = Absolute(place, surroundings_);
      if (!Reaches(tree, path)) continue;
      const bool is_named = std::ranges::any_of(
          reached, [&](const std::string& other) { return IsWithin(path, other); });
      if (!is_named) reached.push_back(path);
    }
    // A whole machine or home has its own finding.
    if (reached.empty() || reached.size() > kMostPlacesToName) return;
    Add(FindingKind::kForeignCode, tree,
        fmt::format("programs written to {} are executed outside, without this policy",
                    fmt::join(reached, ", ")),
        "write to a directory that nothing is started from");
  }

  void CheckDirectory() {
    if (!policy_.directory || IsBuiltIn(policy_.directory->origin)) return;
    const std::string path = Absolute(policy_.directory->value, surroundings_);
    const bool is_seen = std::ranges::any_of(trees_, [&](const Tree& tree) {
      return IsWithin(path, tree.target) || IsWithin(tree.target, path);
    });
    if (is_seen) return;
    findings_.push_back({FindingKind::kContradiction, policy_.directory->origin,
                         fmt::format("the program starts in {}, which no rule lets it see", path),
                         fmt::format("add --ro {}", path)});
  }

  static constexpr std::size_t kMostPlacesToName = 3;

  const Policy& policy_;
  const LintSurroundings& surroundings_;
  std::vector<Finding>& findings_;
  std::vector<Tree> trees_;
};

}  // namespace

void LintFiles(const Policy& policy, const LintSurroundings& surroundings,
               std::vector<Finding>& findings) {
  FileLint(policy, surroundings, findings).Run();
}

}  // namespace dunebox::policy
