// Sandboxes for tests: with the plugin of cases.cc loaded, and one-line calls. Under the engine that
// DUNEBOX_TEST_ENGINE names (kvm), else the default one: the same tests run under both.
#ifndef DUNEBOX_TESTS_PLUGIN_FIXTURE_H_
#define DUNEBOX_TESTS_PLUGIN_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "dunebox/sandbox.h"
#include "tests/plugin/cases.h"

namespace dunebox {

class PluginTest : public testing::Test {
 protected:
  // Longer than anything takes on a busy machine.
  static Policy Patient() { return {.deadline = absl::Minutes(2)}; }

  static bool IsUnderKvm() {
    const char* const engine = getenv("DUNEBOX_TEST_ENGINE");
    return engine != nullptr && std::string(engine) == "kvm";
  }

  void Make(Policy policy = Patient()) {
    if (IsUnderKvm()) policy.engine = Engine::kKvm;
    absl::StatusOr<std::unique_ptr<Sandbox>> made = Sandbox::Create(std::move(policy));
    ASSERT_TRUE(made.ok()) << made.status();
    sandbox = *std::move(made);
    const absl::Status loaded = sandbox->Load(PLUGIN_CASES);
    ASSERT_TRUE(loaded.ok()) << loaded;
  }

  template <typename Signature, typename... Arguments>
  auto Call(const std::string& name, Arguments&&... arguments) {
    auto function = sandbox->Function<Signature>(name);
    using Result = decltype((*function)(std::forward<Arguments>(arguments)...));
    if (!function.ok()) return Result(function.status());
    return (*function)(std::forward<Arguments>(arguments)...);
  }
  // Of a call that succeeds and whose result is looked at.
  template <typename Signature, typename... Arguments>
  auto Value(const std::string& name, Arguments&&... arguments) {
    auto result = Call<Signature>(name, std::forward<Arguments>(arguments)...);
    EXPECT_TRUE(result.ok()) << name << ": " << result.status();
    using T = decltype(result->UnverifiedValue());
    return result.ok() ? result->UnverifiedValue() : T{};
  }

  std::unique_ptr<Sandbox> sandbox;
};

inline Failure FailureIn(const absl::Status& status) {
  const std::optional<Failure> failure = FailureOf(status);
  EXPECT_TRUE(failure.has_value()) << status;
  return failure.value_or(Failure{});
}

}  // namespace dunebox

#endif  // DUNEBOX_TESTS_PLUGIN_FIXTURE_H_
