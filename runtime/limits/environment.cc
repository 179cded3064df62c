#include "runtime/limits/environment.h"

#include <algorithm>
#include <string_view>

namespace dunebox::runtime {
namespace {

std::string_view NameOf(std::string_view entry) { return entry.substr(0, entry.find('=')); }

auto FindName(const std::vector<std::string>& environment, std::string_view name) {
  return std::ranges::find(environment, name, NameOf);
}

}  // namespace

std::vector<std::string> Changed(const std::vector<std::string>& caller,
                                 const EnvironmentChanges& changes) {
  std::vector<std::string> environment;
  if (!changes.clear) environment = caller;
  for (const std::string& entry : changes.entries) {
    const std::string_view name = NameOf(entry);
    std::string value = entry;
    if (name.size() == entry.size()) {
      const auto passed = FindName(caller, name);
      if (passed == caller.end()) continue;
      value = *passed;
    }
    std::erase_if(environment, [&](const std::string& old) { return NameOf(old) == name; });
    environment.push_back(std::move(value));
  }
  return environment;
}

}  // namespace dunebox::runtime
