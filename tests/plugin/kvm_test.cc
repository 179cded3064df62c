// Plugins under engine kvm: what differs from jit. What does not is tested by the other suites, run under both.
#include <signal.h>

#include <thread>
#include <vector>

#include "sandbox/plugin/guest_engine.h"
#include "sandbox/plugin/host_files.h"
#include "sandbox/plugin/instance.h"
#include "tests/plugin/fixture.h"

namespace dunebox {
namespace {

using plugin::Instance;

Policy UnderKvm() { return {.engine = Engine::kKvm, .deadline = absl::Minutes(2)}; }

class UnderEngineKvm : public PluginTest {
 protected:
  void SetUp() override {
    Policy policy = UnderKvm();
    policy.demand = GetParam();
    absl::StatusOr<std::unique_ptr<Sandbox>> made = Sandbox::Create(policy);
    if (absl::IsUnavailable(made.status())) GTEST_SKIP() << made.status();
    ASSERT_TRUE(made.ok()) << made.status();
    sandbox = *std::move(made);
    ASSERT_TRUE(sandbox->Load(PLUGIN_CASES).ok());
  }
};

TEST_P(UnderEngineKvm, SandboxesSaySo) {
  EXPECT_EQ(sandbox->engine(), "kvm");
  EXPECT_THAT(sandbox->isolation(),
              testing::AnyOf("virtual machine (hardware)", "virtual machine (emulated)"));
  EXPECT_THAT(sandbox->confinement(), testing::Contains(IsInThisProcess() ? "files: seccomp" : "seccomp"));
  EXPECT_EQ((Value<int(int, int)>("add", 40, 2)), 42);
}

TEST_P(UnderEngineKvm, IsTakenWhereLessIsNotEnough) {
  for (const LeastIsolation least : {LeastIsolation::kVirtualMachine, LeastIsolation::kHardware}) {
    auto made = Sandbox::Create({.demand = GetParam(), .least_isolation = least, .deadline = absl::Minutes(2)});
    const bool is_there = least == LeastIsolation::kVirtualMachine || sandbox->isolation() == "virtual machine (hardware)";
    if (!is_there) {
      EXPECT_TRUE(absl::IsUnavailable(made.status())) << made.status();
      EXPECT_THAT(std::string(made.status().message()), testing::HasSubstr("least_isolation"));
      continue;
    }
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ((*made)->engine(), "kvm");
    EXPECT_EQ((*made)->isolation(), sandbox->isolation());
    // What is made from it is kept no worse.
    ASSERT_TRUE((*made)->Load(PLUGIN_CASES).ok() && (*made)->Snapshot().ok());
    if (auto clone = (*made)->Clone(); clone.ok()) {
      EXPECT_EQ((*clone)->engine(), "kvm");
    }
    ASSERT_TRUE((*made)->Reset().ok());
    EXPECT_EQ((*made)->engine(), "kvm");
  }
}

// With the host's bits, not without them: there is nothing at such an address.
TEST_P(UnderEngineKvm, WildPointersFaultWhereTheyPoint) {
  static volatile unsigned char canary = 0x5a;
  const auto address = reinterpret_cast<unsigned long>(&canary);
  const Failure failure = FailureIn(Call<void(unsigned long, int)>("write_at", address, 1));
  EXPECT_EQ(failure.signal, SIGSEGV);
  EXPECT_EQ(failure.fault_address, address);
  EXPECT_EQ(canary, 0x5a);
}

std::uint64_t EntriesOf(Instance& instance) {
  for (const runtime::Counter& counter : instance.guest_engine().Counters()) {
    if (counter.name == "entries") return counter.value;
  }
  return 0;
}

TEST_P(UnderEngineKvm, ACallIsOneExitAndACallbackAnother) {
  const Policy policy = UnderKvm();
  auto instance = Instance::Create(policy, 1, std::make_unique<plugin::HostFiles>(policy));
  ASSERT_TRUE(instance.ok()) << instance.status();
  ASSERT_TRUE((*instance)->Load(PLUGIN_CASES).ok());
  const auto nothing = (*instance)->FindSymbol("nothing"), call_back = (*instance)->FindSymbol("call_back");
  const auto callback = (*instance)->AddCallback(std::make_shared<const internal::Callback>(
      internal::CallbackOf<int(int)>::Make([](Tainted<int> n) { return n.UnverifiedValue(); })));
  ASSERT_TRUE(nothing.ok() && call_back.ok() && callback.ok());
  internal::CallFrame frame;
  frame.AddInteger(*callback);
  frame.AddInteger(1);
  // Once, for the pages.
  ASSERT_TRUE((*instance)->Call(*nothing, {}).ok() && (*instance)->Call(*call_back, frame).ok());
  constexpr std::uint64_t kCalls = 100;
  const std::uint64_t before = EntriesOf(**instance);
  for (std::uint64_t i = 0; i < kCalls; ++i) ASSERT_TRUE((*instance)->Call(*nothing, {}).ok());
  const std::uint64_t between = EntriesOf(**instance);
  for (std::uint64_t i = 0; i < kCalls; ++i) ASSERT_TRUE((*instance)->Call(*call_back, frame).ok());
  EXPECT_EQ(between - before, kCalls);
  EXPECT_EQ(EntriesOf(**instance) - between, 2 * kCalls);
}

TEST_P(UnderEngineKvm, SandboxesLiveBesideThoseUnderJit) {
  auto other = Sandbox::Create({.deadline = absl::Minutes(2)});
  ASSERT_TRUE(other.ok());
  ASSERT_TRUE((*other)->Load(PLUGIN_CASES).ok());
  auto next = (*other)->Function<int()>("next");
  ASSERT_TRUE(next.ok());
  // From a callback, too: a machine's exit is no business of the other's registers.
  auto ask = sandbox->Export<int(int)>([&](Tainted<int>) { return (*next)()->UnverifiedValue(); });
  ASSERT_TRUE(ask.ok());
  for (int i = 1; i <= 10; ++i) {
    EXPECT_EQ((Value<int(int (*)(int), int)>("call_back", *ask, 0)), i + 1);
  }
  EXPECT_EQ((*other)->engine(), "jit");
}

TEST_P(UnderEngineKvm, ThereIsALimitOfMachines) {
  std::vector<std::unique_ptr<Sandbox>> many;
  absl::Status status;
  for (unsigned i = 0; i <= plugin::kMostMachines && status.ok(); ++i) {
    absl::StatusOr<std::unique_ptr<Sandbox>> made = Sandbox::Create(UnderKvm());
    status = made.status();
    if (status.ok()) many.push_back(*std::move(made));
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  // The one that there is may be another process's.
  EXPECT_EQ(many.size() + (IsInThisProcess() ? 1 : 0), plugin::kMostMachines);
  many.clear();
  EXPECT_TRUE(Sandbox::Create(UnderKvm()).ok());
}

FOR_ONE_AND_TWO_WALLS(UnderEngineKvm);

}  // namespace
}  // namespace dunebox
