#include "sandbox/policy/learn_paths.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "runtime/text_file.h"

namespace dunebox::policy {
namespace {

using hostcalls::policy::FileRights;
using hostcalls::policy::kAllRights;
using hostcalls::policy::kReadOnly;
using runtime::DirectoryFor;

constexpr std::string_view kNeverWhole[] = {
#define NEVER_WHOLE(path) path,
#include "sandbox/policy/learn_places.inc"
#define WIDE_TREE(path, reading, writing) path,
#include "sandbox/policy/sensitive_places.inc"
};
constexpr std::string_view kSecrets[] = {
#define SECRET(path) path,
#include "sandbox/policy/sensitive_places.inc"
};
constexpr std::string_view kOneBelow[] = {
#define ONE_BELOW(path) path,
#include "sandbox/policy/learn_places.inc"
};
constexpr std::string_view kModuleTrees[] = {
#define MODULE_TREE(component) component,
#include "sandbox/policy/learn_places.inc"
};
constexpr std::string_view kTemporary[] = {
#define TEMPORARY(path) path,
#include "sandbox/policy/learn_places.inc"
};

constexpr std::string_view kCompiledPython = "__pycache__";

// ---- Paths --------------------------------------------------------------------------------------

bool IsWithin(std::string_view path, std::string_view tree) {
  if (tree == "/") return true;
  return path.starts_with(tree) && (path.size() == tree.size() || path[tree.size()] == '/');
}

std::string_view NameOf(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// "/opt" and "/opt/x/y": "/opt/x". Nothing where `path` is not below the tree.
std::optional<std::string> FirstBelow(std::string_view tree, std::string_view path) {
  if (!IsWithin(path, tree) || path.size() <= tree.size()) return std::nullopt;
  return std::string(path.substr(0, path.find('/', tree.size() + 1)));
}

// The path up to and with the component; nothing where it has none such.
std::optional<std::string> UpTo(std::string_view path, std::string_view component) {
  for (std::size_t at = 0; (at = path.find(component, at)) != path.npos; ++at) {
    const std::size_t end = at + component.size();
    const bool is_whole = at > 0 && path[at - 1] == '/' && (end == path.size() || path[end] == '/');
    if (is_whole) return std::string(path.substr(0, end));
  }
  return std::nullopt;
}

// ---- Learning -----------------------------------------------------------------------------------

class Learner {
 public:
  Learner(const std::vector<PathUse>& uses, const LearnSurroundings& surroundings)
      : uses_(uses), surroundings_(surroundings) {}

  LearnedPaths Learn() {
    FindOwnTemporaries();
    for (std::size_t i = 0; i < uses_.size(); ++i) Place(i);
    JoinFolders();
    DropCovered();
    DropMetByOthers();
    LearnedPaths learned;
    for (auto& [path, tree] : trees_) learned.trees.push_back(std::move(tree));
    learned.unmet = std::move(unmet_);
    return learned;
  }

 private:
  std::string Full(std::string_view place) const {
    if (!place.starts_with('~')) return std::string(place);
    return surroundings_.home + std::string(place.substr(1));
  }

  bool IsSecret(std::string_view path) const {
    return std::ranges::any_of(
        kSecrets, [&](std::string_view secret) { return IsWithin(path, Full(secret)); });
  }

  // May the whole tree be proposed although not all of it was used?
  bool MayBeWhole(std::string_view path) const {
    const bool is_wide =
        std::ranges::any_of(kNeverWhole, [&](std::string_view wide) { return path == Full(wide); });
    const bool has_secrets = std::ranges::any_of(
        kSecrets, [&](std::string_view secret) { return IsWithin(Full(secret), path); });
    return !is_wide && !has_secrets && !IsSecret(path);
  }

  void Add(const std::string& path, FileRights rights, std::size_t use, bool is_tmpfs = false) {
    LearnedTree& tree = trees_[path];
    tree.path = path;
    tree.rights |= rights;
    tree.is_tmpfs = is_tmpfs;
    tree.uses.push_back(use);
  }

  void LeaveOut(std::size_t use, std::string reason) { unmet_.push_back({use, std::move(reason)}); }

  // Things in a directory for temporary files that the program has made there itself, and not
  // things in a directory that was there before, whatever that is called.
  void FindOwnTemporaries() {
    for (const PathUse& use : uses_) {
      if (use.kind != UseKind::kCreate) continue;
      for (const std::string_view directory : kTemporary) {
        if (DirectoryFor(use.path) == directory) own_temporaries_[use.path] = directory;
      }
    }
  }

  std::optional<std::string> OwnTemporaryDirectory(const std::string& path) const {
    for (const auto& [own, directory] : own_temporaries_) {
      if (IsWithin(path, own)) return directory;
    }
    return std::nullopt;
  }

  void Place(std::size_t index) {
    const PathUse& use = uses_[index];
    if (const auto temporary = OwnTemporaryDirectory(use.path)) {
      return Add(*temporary, kAllRights, index, /*is_tmpfs=*/true);
    }
    switch (use.kind) {
      case UseKind::kLookUp:
        if (surroundings_.is_directory(use.path)) {
          return LeaveOut(index, "only looked up; reading it would open all that is in it");
        }
        return PlaceRead(index);
      case UseKind::kRead:
      case UseKind::kExecute:
        return PlaceRead(index);
      case UseKind::kWrite:
        return PlaceWrite(index, use.path);
      case UseKind::kCreate:
        return PlaceWrite(index, DirectoryFor(use.path));
    }
  }

  void PlaceWrite(std::size_t index, const std::string& path) {
    if (UpTo(uses_[index].path, kCompiledPython)) {
      return LeaveOut(index, "python only keeps its compiled modules there, and runs without");
    }
    if (!MayBeWhole(path) && surroundings_.is_directory(path)) {
      return LeaveOut(index, fmt::format("would open all of {} for writing", path));
    }
    Add(path, kAllRights, index);
  }

  void PlaceRead(std::size_t index) {
    const std::string& path = uses_[index].path;
    if (!MayBeWhole(path) && surroundings_.is_directory(path)) {
      return LeaveOut(index, fmt::format("would open all of {} for reading", path));
    }
    Add(IsSecret(path) ? path : WidenRead(path), kReadOnly, index);
  }

  std::string WidenRead(const std::string& path) const {
    for (const std::string_view place : kOneBelow) {
      if (const auto below = FirstBelow(place, path)) return *below;
    }
    for (const std::string_view component : kModuleTrees) {
      if (const auto tree = UpTo(path, component)) return *tree;
    }
    if (const auto cache = UpTo(path, kCompiledPython)) {
      // The modules that it was compiled from are beside it.
      const std::string modules = DirectoryFor(*cache);
      return MayBeWhole(modules) ? modules : path;
    }
    if (LooksRandom(NameOf(path)) && MayBeWhole(DirectoryFor(path))) return DirectoryFor(path);
    return path;
  }

  // Deepest folders first, so that many folders of a folder can become one, too.
  void JoinFolders() {
    bool is_joined = true;
    while (is_joined) {
      is_joined = false;
      std::map<std::pair<std::string, FileRights>, std::vector<std::string>> folders;
      for (const auto& [path, tree] : trees_) {
        if (path != "/" && !tree.is_tmpfs) folders[{DirectoryFor(path), tree.rights}].push_back(path);
      }
      for (auto folder = folders.rbegin(); folder != folders.rend() && !is_joined; ++folder) {
        const auto& [parent, rights] = folder->first;
        if (folder->second.size() < kManyFiles || !MayBeWhole(parent)) continue;
        for (const std::string& path : folder->second) {
          for (const std::size_t use : trees_[path].uses) Add(parent, rights, use);
          trees_.erase(path);
        }
        is_joined = true;
      }
    }
  }

  // What lies in a tree that has its rights already gives its uses to it. Outer trees come first.
  void DropCovered() {
    for (auto tree = trees_.begin(); tree != trees_.end();) {
      LearnedTree* const outer = Covering(tree->second);
      if (outer == nullptr) {
        ++tree;
        continue;
      }
      outer->uses.insert(outer->uses.end(), tree->second.uses.begin(), tree->second.uses.end());
      tree = trees_.erase(tree);
    }
  }

  // What a tree that is proposed for other uses shows as well needs no word.
  void DropMetByOthers() {
    std::erase_if(unmet_, [&](const UnmetUse& unmet) {
      const PathUse& use = uses_[unmet.use];
      if (use.kind != UseKind::kLookUp) return false;
      for (auto& [path, tree] : trees_) {
        if (!IsWithin(use.path, path) || tree.is_tmpfs) continue;
        tree.uses.push_back(unmet.use);
        return true;
      }
      return false;
    });
    for (auto& [path, tree] : trees_) std::ranges::sort(tree.uses);
  }

  LearnedTree* Covering(const LearnedTree& inner) {
    LearnedTree* longest = nullptr;
    for (auto& [path, tree] : trees_) {
      if (path != inner.path && IsWithin(inner.path, path)) longest = &tree;
    }
    const bool covers =
        longest != nullptr && !longest->is_tmpfs && (inner.rights & ~longest->rights) == 0;
    return covers ? longest : nullptr;
  }

  const std::vector<PathUse>& uses_;
  const LearnSurroundings& surroundings_;
  std::map<std::string, std::string> own_temporaries_;  // to the directory they are in
  std::map<std::string, LearnedTree> trees_;
  std::vector<UnmetUse> unmet_;
};

}  // namespace

LearnedPaths LearnPaths(const std::vector<PathUse>& uses, const LearnSurroundings& surroundings) {
  return Learner(uses, surroundings).Learn();
}

bool LooksRandom(std::string_view name) {
  constexpr std::size_t kShortest = 6;  // mkstemp's XXXXXX
  constexpr std::size_t kHash = 16;
  // Each run of letters and digits by itself: "cache-9f86d081884c7d65.bin".
  for (std::size_t begin = 0, end = 0; begin < name.size(); begin = end + 1) {
    const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
    for (end = begin; end < name.size() && is_word(name[end]);) ++end;
    const std::string_view part = name.substr(begin, end - begin);
    const auto count = [&](auto is) {
      return static_cast<std::size_t>(std::ranges::count_if(part, is));
    };
    const std::size_t digits = count([](char c) { return c >= '0' && c <= '9'; });
    const std::size_t upper = count([](char c) { return c >= 'A' && c <= 'Z'; });
    const std::size_t lower = count([](char c) { return c >= 'a' && c <= 'z'; });
    const bool is_hex = std::ranges::all_of(
        part, [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; });
    if (is_hex && digits > 0 && part.size() >= kHash) return true;
    if (part.size() < kShortest) continue;
    // A capital in the middle of a word is a style; with digits between it is nobody's.
    const bool is_mixed = upper > 1 && lower > 0 && digits > 0;
    const bool is_scattered = digits > 1 && digits < part.size() && lower > 0 &&
                              !std::isdigit(static_cast<unsigned char>(part.back())) &&
                              !std::isdigit(static_cast<unsigned char>(part.front()));
    if (is_mixed || (is_scattered && part.size() >= kShortest + 2)) return true;
  }
  return false;
}

}  // namespace dunebox::policy
