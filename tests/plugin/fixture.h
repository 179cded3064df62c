// Sandboxes for tests: with the plugin of cases.cc loaded, and one-line calls. Each test runs with one wall, in
// this process, and with two, in another; the behaviour is the same where a test does not say otherwise. With one
// wall under the engine that DUNEBOX_TEST_ENGINE names (kvm), else the default one.
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

class PluginTest : public testing::TestWithParam<Demand> {
 protected:
  static bool IsInThisProcess() { return GetParam() == Demand::kOneWall; }
  // Longer than anything takes on a busy machine.
  static Policy Patient() { return {.demand = GetParam(), .deadline = absl::Minutes(2)}; }

  // A broker is a confined process, too.
  static bool HasBrokers() {
#ifdef DUNEBOX_NO_WORKERS
    return false;
#else
    return IsInThisProcess();
#endif
  }

  static bool IsUnderKvm() {
    const char* const engine = getenv("DUNEBOX_TEST_ENGINE");
    return engine != nullptr && std::string(engine) == "kvm";
  }
  // The library of cases.cc, or of another file that the test is built with; or the same as the static program that
  // DUNEBOX_TEST_PROGRAM names.
  static std::string Plugin() {
    const char* const program = getenv("DUNEBOX_TEST_PROGRAM");
    return program != nullptr ? program : PLUGIN_CASES;
  }
  void Make() { Make(Patient()); }
  void Make(Policy policy) {
    policy.demand = GetParam();
    if (IsUnderKvm()) policy.engine = Engine::kKvm;
    absl::StatusOr<std::unique_ptr<Sandbox>> made = Sandbox::Create(std::move(policy));
    ASSERT_TRUE(made.ok()) << made.status();
    sandbox = *std::move(made);
    const absl::Status loaded = sandbox->Load(Plugin());
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

// A sanitizer's own system calls are none that a confined worker may make.
#ifdef DUNEBOX_NO_WORKERS
inline const auto kAllDemands = testing::Values(Demand::kOneWall);
#else
inline const auto kAllDemands = testing::Values(Demand::kOneWall, Demand::kTwoWalls);
#endif

inline std::string WallsOf(const testing::TestParamInfo<Demand>& walls) {
  return walls.param == Demand::kOneWall ? "OneWall" : "TwoWalls";
}
#define FOR_ONE_AND_TWO_WALLS(suite) INSTANTIATE_TEST_SUITE_P(, suite, kAllDemands, WallsOf)

inline Failure FailureIn(const absl::Status& status) {
  const std::optional<Failure> failure = FailureOf(status);
  EXPECT_TRUE(failure.has_value()) << status;
  return failure.value_or(Failure{});
}

}  // namespace dunebox

#endif  // DUNEBOX_TESTS_PLUGIN_FIXTURE_H_
