#include "runtime/confinement/prebuilt_filters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "runtime/confinement/filter_words.h"
#include "runtime/jit/code_cache_size.h"
#include "sandbox/policy/compile.h"

namespace dunebox::confinement {
namespace {

using hostcalls::policy::Reach;
using hostcalls::policy::Rules;

constexpr FilterSubject kJit{.code_cache = runtime::kDefaultJitCacheBytes, .sealed_memfds = true};
constexpr FilterSubject kKvm{.kvm = true, .sealed_memfds = true};

Rules RulesFor(Reach reach) {
  Rules rules;
  rules.allow_all = false;
  rules.network.reach = reach;
  return rules;
}

auto Tied(const sock_filter& code) { return std::tie(code.code, code.jt, code.jf, code.k); }

TEST(PrebuiltFilters, AreThoseOfTheDefaultPolicyUnderBothEngines) {
  policy::Surroundings surroundings = policy::CallersSurroundings();
  runtime::SessionOptions session;
  session.program = "/bin/true";
  const absl::Status compiled = policy::Compile(policy::Effective({}), surroundings, session);
  ASSERT_TRUE(compiled.ok()) << compiled;
  EXPECT_FALSE(FindPrebuilt(FilterRules(kJit, session.rules)).empty());
  EXPECT_FALSE(FindPrebuilt(FilterRules(kKvm, session.rules)).empty());
}

TEST(PrebuiltFilters, AreWhatLibseccompMakes) {
  for (const Reach reach : {Reach::kNone, Reach::kLoopback, Reach::kListed, Reach::kHost}) {
    for (const FilterSubject& subject : {kJit, kKvm}) {
      const std::vector<FilterRule> rules = FilterRules(subject, RulesFor(reach));
      const absl::StatusOr<std::vector<sock_filter>> made = CompileFilter(rules);
      ASSERT_TRUE(made.ok()) << made.status();
      EXPECT_TRUE(std::ranges::equal(FindPrebuilt(rules), *made, {}, Tied, Tied));
    }
  }
}

TEST(PrebuiltFilters, AreForTheVerySameRulesOnly) {
  const std::vector<FilterRule> rules = FilterRules(kJit, RulesFor(Reach::kNone));
  ASSERT_FALSE(FindPrebuilt(rules).empty());
  const auto changed = [&](auto change) {
    std::vector<FilterRule> other = rules;
    change(other);
    return FindPrebuilt(other).empty();
  };
  using Other = std::vector<FilterRule>;
  const auto tested = std::ranges::find_if(rules, [](const FilterRule& rule) { return !rule.tests.empty(); });
  ASSERT_NE(tested, rules.end());
  const auto at = static_cast<std::size_t>(tested - rules.begin());
  EXPECT_TRUE(changed([](Other& other) { other.pop_back(); }));
  EXPECT_TRUE(changed([](Other& other) { other.push_back({.number = 101}); }));
  EXPECT_TRUE(changed([](Other& other) { other.back().number ^= 1; }));
  EXPECT_TRUE(changed([](Other& other) { other.back().error = 1; }));
  EXPECT_TRUE(changed([&](Other& other) { other[at].tests.clear(); }));
  EXPECT_TRUE(changed([&](Other& other) { other[at].tests[0].mask ^= 1; }));
  EXPECT_TRUE(changed([&](Other& other) { other[at].tests[0].value ^= 1; }));
  EXPECT_TRUE(changed([&](Other& other) { other[at].tests[0].argument ^= 1; }));
  // A cache of another size is another filter.
  FilterSubject small = kJit;
  small.code_cache /= 2;
  EXPECT_TRUE(FindPrebuilt(FilterRules(small, RulesFor(Reach::kNone))).empty());
}

}  // namespace
}  // namespace dunebox::confinement
