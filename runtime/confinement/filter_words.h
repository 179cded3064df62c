// A filter's rules as words, so that rules can be written down when Dunebox is built and compared when it runs.
//
//   std::vector<std::uint64_t> words = WordsOf(FilterRules(subject, rules));
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_FILTER_WORDS_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_FILTER_WORDS_H_

#include <cstdint>
#include <vector>

#include "runtime/confinement/host_filter.h"

namespace dunebox::confinement {

// All that a filter is made of, in its order: rules with the same words are the same filter. Reasons are left out.
std::vector<std::uint64_t> WordsOf(const std::vector<FilterRule>& rules);

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_FILTER_WORDS_H_
