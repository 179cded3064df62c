// `dunebox run` with a policy of a few words, for tests of wall 2: the lock-down alone.
//
//   confined_run run [--engine=E] [--jit-isolation=I] [--read PATH]... [--write PATH]... [--net]
//                    [--allow=all] -- PROG ARG...
//
// Files that no --read or --write names cannot be opened; --net gives the host's network, --allow=all
// that and all files. It takes the place of `dunebox` in tests/programs/compare. --unconfined: no
// wall 2, to compare with. 125 for whatever is wrong.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/session.h"

namespace dunebox {
namespace {

using hostcalls::policy::kAllRights;
using hostcalls::policy::kReadOnly;
using hostcalls::policy::Reach;

[[noreturn]] void Usage(std::string_view what) {
  std::fprintf(stderr, "confined_run: %.*s\n", static_cast<int>(what.size()), what.data());
  std::exit(runtime::kExitRuntimeError);
}

runtime::EngineChoice EngineOf(std::string_view name) {
  if (name == "kvm") return runtime::EngineChoice::kKvm;
  if (name == "jit") return runtime::EngineChoice::kJit;
  Usage("no such engine");
}

runtime::SessionOptions Parse(const std::vector<std::string>& words) {
  runtime::SessionOptions options;
  options.rules.allow_all = false;
  options.rules.origins = {"default"};
  options.plan.confine = true;
  options.plan.required = {confinement::Mechanism::kSeccomp, confinement::Mechanism::kLandlock};
  std::size_t i = 1;
  const auto value = [&] { return ++i < words.size() ? words[i] : (Usage("a value is missing"), ""); };
  for (; i < words.size() && words[i] != "--"; ++i) {
    const std::string& word = words[i];
    if (word.starts_with("--engine=")) {
      options.engine = EngineOf(std::string_view(word).substr(9));
    } else if (word.starts_with("--jit-isolation=")) {
      options.isolation = jit::IsolationNamed(std::string_view(word).substr(16));
    } else if (word == "--read") {
      options.rules.paths.push_back({.path = value(), .rights = kReadOnly});
    } else if (word == "--write") {
      options.rules.paths.push_back({.path = value(), .rights = kAllRights});
    } else if (word == "--net" || word == "--allow=all") {
      options.rules.network.reach = Reach::kHost;
      options.plan.any_tcp_port = true;
      if (word == "--net") continue;
      options.rules.signal_outside = true;
      options.rules.paths.push_back({.path = "/", .rights = kAllRights});
    } else if (word == "--unconfined") {
      options.plan.confine = false;
      options.rules = {};
    } else {
      Usage(word);
    }
  }
  std::ranges::sort(options.rules.paths, {}, &hostcalls::policy::PathRule::path);
  if (words.empty() || words[0] != "run" || ++i >= words.size()) Usage("run ... -- PROG ARG...");
  options.program = words[i];
  options.arguments.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
  return options;
}

}  // namespace
}  // namespace dunebox

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (const auto state_fd = dunebox::runtime::ResumeDescriptor(words)) {
    return dunebox::runtime::ResumeSession(*state_fd);
  }
  return dunebox::runtime::RunSession(dunebox::Parse(words));
}
