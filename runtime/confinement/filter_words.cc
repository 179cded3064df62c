#include "runtime/confinement/filter_words.h"

namespace dunebox::confinement {

std::vector<std::uint64_t> WordsOf(const std::vector<FilterRule>& rules) {
  std::vector<std::uint64_t> words;
  words.reserve(rules.size() * 3);
  for (const FilterRule& rule : rules) {
    // How many tests follow is part of it, so that no two lists of rules have the same words.
    words.push_back(std::uint64_t{rule.number} | std::uint64_t{rule.error} << 16 |
                    std::uint64_t{rule.tests.size()} << 32);
    for (const ArgumentTest& test : rule.tests) {
      words.insert(words.end(), {test.argument, test.mask, test.value});
    }
  }
  return words;
}

}  // namespace dunebox::confinement
