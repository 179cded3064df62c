// From the files that a program used to the trees that a policy names.
//
// Pure, but for one question (is this a directory?) that is asked by a function of the caller's.
// Widens only where the next run would otherwise fail for a reason nobody cares about: another
// module of the interpreter, another random name, another file of a folder of which many were used.
// Never widens to a tree that everybody's data is in, nor to one with keys in it.
//
//   LearnedPaths learned = LearnPaths(uses, {.home = "/home/ann", .is_directory = IsDirectory});
//   learned.trees[0]     // {"/srv/data", kReadOnly, {use, use, ...}}
#ifndef DUNEBOX_SANDBOX_POLICY_LEARN_PATHS_H_
#define DUNEBOX_SANDBOX_POLICY_LEARN_PATHS_H_

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "hostcalls/policy/rules.h"

namespace dunebox::policy {

// So many files of one folder stand for all of it.
inline constexpr std::size_t kManyFiles = 4;

enum class UseKind : std::uint8_t { kLookUp, kRead, kExecute, kWrite, kCreate };

struct PathUse {
  std::string path;  // absolute, as the kernel names it
  UseKind kind = UseKind::kRead;
};

struct LearnedTree {
  std::string path;
  hostcalls::policy::FileRights rights = hostcalls::policy::kNoRights;
  bool is_tmpfs = false;
  std::vector<std::size_t> uses;  // indices of the uses it is for
};

// A use for which nothing is proposed, and why not.
struct UnmetUse {
  std::size_t use = 0;
  std::string reason;
};

struct LearnedPaths {
  std::vector<LearnedTree> trees;  // sorted by path
  std::vector<UnmetUse> unmet;
};

struct LearnSurroundings {
  std::string home;       // absolute; empty: none
  std::string directory;  // that the program was started in; absolute; empty: unknown
  std::function<bool(const std::string&)> is_directory;
};

LearnedPaths LearnPaths(const std::vector<PathUse>& uses, const LearnSurroundings& surroundings);

// Does a name look made up by a machine: mkstemp's, a hash, a process's number?
bool LooksRandom(std::string_view name);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_LEARN_PATHS_H_
