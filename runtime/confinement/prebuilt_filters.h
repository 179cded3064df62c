// Filters that libseccomp has made when Dunebox was built: of the rules that most sessions have. To make one takes some
// milliseconds of a session's start, to find one takes microseconds. One is used for the very same rules only, all of
// which are compared; other rules go to libseccomp.
//
//   if (const std::span<const sock_filter> program = FindPrebuilt(rules); !program.empty()) ...
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_PREBUILT_FILTERS_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_PREBUILT_FILTERS_H_

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/confinement/host_filter.h"

namespace dunebox::confinement {

struct PrebuiltFilter {
  std::span<const std::uint64_t> rules;  // WordsOf
  std::span<const sock_filter> program;
};

// What prebuild_filters.cc has written when this was built.
std::span<const PrebuiltFilter> PrebuiltFilters();

// The program for these rules; empty: there is none.
std::span<const sock_filter> FindPrebuilt(const std::vector<FilterRule>& rules);

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_PREBUILT_FILTERS_H_
