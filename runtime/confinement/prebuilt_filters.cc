#include "runtime/confinement/prebuilt_filters.h"

#include <algorithm>

#include "runtime/confinement/filter_words.h"

namespace dunebox::confinement {

std::span<const sock_filter> FindPrebuilt(const std::vector<FilterRule>& rules) {
  const std::vector<std::uint64_t> words = WordsOf(rules);
  for (const PrebuiltFilter& filter : PrebuiltFilters()) {
    if (std::ranges::equal(filter.rules, words)) return filter.program;
  }
  return {};
}

}  // namespace dunebox::confinement
