// The environment of the first program: the caller's with changes, or nothing but them.
//
// --clearenv takes all of the caller's variables away; then each --env counts in the order given:
// "K=V" sets, "K" passes the caller's (and does nothing when the caller has none). Which word comes
// first, --clearenv or --env, makes no difference.
//
//   EnvironmentChanges changes{.clear = true, .entries = {"LANG", "MODE=test"}};
//   std::vector<std::string> environment = Changed(caller, changes);
#ifndef DUNEBOX_RUNTIME_LIMITS_ENVIRONMENT_H_
#define DUNEBOX_RUNTIME_LIMITS_ENVIRONMENT_H_

#include <string>
#include <vector>

namespace dunebox::runtime {

struct EnvironmentChanges {
  bool clear = false;
  std::vector<std::string> entries;
};

std::vector<std::string> Changed(const std::vector<std::string>& caller,
                                 const EnvironmentChanges& changes);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_LIMITS_ENVIRONMENT_H_
