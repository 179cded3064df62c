// The plugin calls the host, the host calls the plugin from there, and several host threads do so at once.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "tests/plugin/fixture.h"

namespace dunebox {
namespace {

class Callbacks : public PluginTest {
 protected:
  void SetUp() override { Make(); }
};

FOR_ONE_AND_TWO_WALLS(Callbacks);

TEST_P(Callbacks, SortWithTheHostsOrder) {
  constexpr std::size_t kCount = 1000;
  auto numbers = sandbox->Allocate<int>(kCount);
  ASSERT_TRUE(numbers.ok());
  for (std::size_t i = 0; i < kCount; ++i) {
    numbers->span()[i] = static_cast<int>(i * 7919 % 1009);
  }
  auto order = sandbox->Export<int(const void*, const void*)>(
      [this](TaintedPtr<const void> left, TaintedPtr<const void> right) {
        const auto a = sandbox->CopyIn(left.Cast<const int>());
        const auto b = sandbox->CopyIn(right.Cast<const int>());
        return a->UnverifiedValue() - b->UnverifiedValue();
      });
  ASSERT_TRUE(order.ok());
  const absl::Status sorted =
      Call<void(void*, unsigned long, unsigned long, int (*)(const void*, const void*))>(
          "qsort", *numbers, kCount, sizeof(int), *order);
  ASSERT_TRUE(sorted.ok()) << sorted;
  EXPECT_TRUE(std::ranges::is_sorted(numbers->span()));
}

TEST_P(Callbacks, TakeAndReturnAllKinds) {
  auto doubled = sandbox->Export<int(int)>([](Tainted<int> n) { return n.UnverifiedValue() * 2; });
  auto scaled = sandbox->Export<double(double, int, double)>(
      [](Tainted<double> a, Tainted<int> b, Tainted<double> c) {
        return a.UnverifiedValue() * b.UnverifiedValue() + c.UnverifiedValue();
      });
  auto next = sandbox->Export<void*(void*)>(
      [](TaintedPtr<void> pointer) { return TaintedPtr<void>(pointer.address() + 8); });
  ASSERT_TRUE(doubled.ok() && scaled.ok() && next.ok());
  EXPECT_EQ((Value<int(int (*)(int), int)>("call_back", *doubled, 20)), 41);
  EXPECT_EQ((Value<double(double (*)(double, int, double), double)>("call_back_double", *scaled, 1.25)),
            4.0);
  const auto moved =
      Call<void*(void* (*)(void*), void*)>("call_back_pointer", *next, TaintedPtr<void>(0x100));
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ(moved->address(), 0x108u);
}

TEST_P(Callbacks, TakeAndReturnStructures) {
  auto moved = sandbox->Export<Point(Point, Item)>([](Tainted<Point> point, Tainted<Item> item) {
    const Item by = item.UnverifiedValue();
    return Point{point.UnverifiedValue().x + by.id, point.UnverifiedValue().y + by.price};
  });
  auto longer = sandbox->Export<Range(long, long, long, long, long, Range, long, double)>(
      [](Tainted<long>, Tainted<long>, Tainted<long>, Tainted<long>, Tainted<long>, Tainted<Range> range,
         Tainted<long> by, Tainted<double> half) {
        Range result = range.UnverifiedValue();
        result.length += static_cast<unsigned>(by.UnverifiedValue());
        if (half.UnverifiedValue() != 0.5) result.length = 0;
        return result;
      });
  auto scaled = sandbox->Export<Large(Large, int)>([](Tainted<Large> large, Tainted<int> factor) {
    Large result = large.UnverifiedValue();
    for (long& value : result.values) value *= factor.UnverifiedValue();
    return result;
  });
  ASSERT_TRUE(moved.ok() && longer.ok() && scaled.ok());
  const Point point =
      Value<Point(Point (*)(Point, Item), Point)>("call_back_point", *moved, Point{10, 20});
  EXPECT_EQ(point.x, 11);
  EXPECT_EQ(point.y, 23);
  const Range range = Value<Range(Range (*)(long, long, long, long, long, Range, long, double), Range)>(
      "call_back_range", *longer, Range{nullptr, 36});
  EXPECT_EQ(range.length, 42u);
  EXPECT_EQ((Value<long(Large (*)(Large, int), Large)>("call_back_large", *scaled,
                                                       Large{{1, 0, 0, 0, 9}})),
            30);
}

TEST_P(Callbacks, ManyTimesInOneCall) {
  int called = 0;
  auto add = sandbox->Export<double(double, int, double)>(
      [&](Tainted<double> a, Tainted<int> b, Tainted<double>) {
        ++called;
        return a.UnverifiedValue() + b.UnverifiedValue();
      });
  ASSERT_TRUE(add.ok());
  EXPECT_EQ((Value<double(double (*)(double, int, double), int)>("call_back_often", *add, 1000)),
            999.0 * 1000);
  EXPECT_EQ(called, 1000);
}

TEST_P(Callbacks, MayCallThePluginAgain) {
  auto call_back = sandbox->Function<int(int (*)(int), int)>("call_back");
  ASSERT_TRUE(call_back.ok());
  FunctionPointer<int(int)> self;
  auto countdown = sandbox->Export<int(int)>([&](Tainted<int> n) {
    const int value = n.UnverifiedValue();
    if (value == 0) return 0;
    return (*call_back)(self, value - 1)->UnverifiedValue();
  });
  ASSERT_TRUE(countdown.ok());
  self = *countdown;
  EXPECT_EQ((Value<int(int (*)(int), int)>("call_back", self, 20)), 21);
}

TEST_P(Callbacks, DoNotNestForEver) {
  auto call_back = sandbox->Function<int(int (*)(int), int)>("call_back");
  ASSERT_TRUE(call_back.ok());
  FunctionPointer<int(int)> self;
  absl::StatusCode deepest = absl::StatusCode::kOk;
  auto deeper = sandbox->Export<int(int)>([&](Tainted<int> n) {
    const auto result = (*call_back)(self, n.UnverifiedValue() + 1);
    if (!result.ok()) deepest = result.status().code();
    return 0;
  });
  ASSERT_TRUE(deeper.ok());
  self = *deeper;
  EXPECT_TRUE((Call<int(int (*)(int), int)>("call_back", self, 0)).ok());
  EXPECT_EQ(deepest, absl::StatusCode::kResourceExhausted);
}

TEST_P(Callbacks, ThatThePluginJumpsOverEndIt) {
  auto jump = sandbox->Function<void()>("jump_to_outer");
  ASSERT_TRUE(jump.ok());
  absl::Status inner;
  auto through = sandbox->Export<void()>([&] { inner = (*jump)(); });
  ASSERT_TRUE(through.ok());
  const auto outer = Call<int(void (*)())>("call_and_catch", *through);
  EXPECT_EQ(FailureIn(inner).kind, Failure::Kind::kMismatch);
  EXPECT_FALSE(outer.ok());
}

TEST_P(Callbacks, SurviveAReset) {
  auto doubled = sandbox->Export<int(int)>([](Tainted<int> n) { return n.UnverifiedValue() * 2; });
  ASSERT_TRUE(doubled.ok());
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_EQ((Value<int(int (*)(int), int)>("call_back", *doubled, 20)), 41);
}

// What a callback asks for that comes while the host does something with its sandbox. None of it may wait for itself.
void AskForEverything(Sandbox& sandbox) {
  EXPECT_TRUE(sandbox.Export<int(int)>([](Tainted<int>) { return 0; }).ok());
  EXPECT_FALSE(sandbox.has_snapshot());
  EXPECT_TRUE(absl::IsFailedPrecondition(sandbox.Clone().status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(sandbox.Save("/nowhere")));
  EXPECT_TRUE(absl::IsFailedPrecondition(sandbox.Snapshot()));
  EXPECT_TRUE(absl::IsFailedPrecondition(sandbox.Reset()));
  EXPECT_TRUE(sandbox.Allocate<int>(1).ok());
  EXPECT_FALSE(sandbox.failure().has_value());
}

TEST_P(Callbacks, OfConstructorsMayAskForEverything) {
  auto made = Sandbox::Create(Patient());
  ASSERT_TRUE(made.ok()) << made.status();
  Sandbox& one = **made;
  int called = 0;
  ASSERT_TRUE(one.Export<int(int)>([&](Tainted<int>) {
                   AskForEverything(one);
                   EXPECT_FALSE(absl::IsFailedPrecondition(one.Function<void()>("abort").status()));
                   return ++called;
                 })
                  .ok());
  ASSERT_TRUE(one.Load(PLUGIN_CONSTRUCTOR).ok());
  EXPECT_EQ(called, 1);
  // During a reset they find the new guest, not the one that is over.
  auto abort = one.Function<void()>("abort");
  ASSERT_TRUE(abort.ok());
  for (int round = 2; round <= 3; ++round) {
    EXPECT_FALSE((*abort)().ok());
    EXPECT_TRUE(one.failure().has_value());
    const absl::Status reset = one.Reset();
    ASSERT_TRUE(reset.ok()) << reset;
    EXPECT_EQ(called, round);
    auto add = one.Function<int(int, int)>("add");
    ASSERT_TRUE(add.ok());
    EXPECT_EQ((*add)(40, 2)->UnverifiedValue(), 42);
  }
}

TEST_P(Callbacks, OfThePluginsThreadsMayAskWhileAResetWaitsForThem) {
  for (const bool has_snapshot : {false, true}) {
    Make();
    if (has_snapshot) {
      ASSERT_TRUE(sandbox->Snapshot().ok());
    }
    std::atomic<bool> is_in{false}, is_reset{false};
    std::atomic<int> exported{0};
    auto ask = sandbox->Export<int(int)>([&](Tainted<int>) {
      is_in = true;
      while (!is_reset) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      EXPECT_TRUE(absl::IsFailedPrecondition(sandbox->Reset()));
      EXPECT_TRUE(sandbox->Export<int(int)>([](Tainted<int>) { return 0; }).ok());
      return ++exported;
    });
    ASSERT_TRUE(ask.ok());
    EXPECT_EQ((Value<int(int (*)(int))>("call_back_in_thread", *ask)), 0);
    while (!is_in) std::this_thread::yield();
    is_reset = true;
    const absl::Time start = absl::Now();
    const absl::Status reset = sandbox->Reset();
    ASSERT_TRUE(reset.ok()) << reset;
    // A worker that is not asked what it waits for itself is given half a minute.
    EXPECT_LT(absl::Now() - start, absl::Seconds(25));
    EXPECT_EQ(exported, 1);
    EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
  }
}

// Other threads of the host's, that make no calls.
TEST_P(Callbacks, AreNotWhatAResetMayMeetAlone) {
  constexpr int kRounds = 30;
  std::atomic<bool> is_over{false};
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    while (!is_over) {
      auto memory = sandbox->Allocate<int>(10);
      if (memory.ok()) (void)sandbox->CopyIn(TaintedPtr<int>(memory->guest()), 10);
    }
  });
  threads.emplace_back([&] {
    while (!is_over) {
      (void)sandbox->failure();
      (void)sandbox->TakeOutput();
      (void)sandbox->Denials();
    }
  });
  threads.emplace_back([&] {
    while (!is_over) (void)sandbox->CopyString(TaintedPtr<const char>(0x20000), 100);
  });
  for (int round = 0; round < kRounds; ++round) {
    const absl::Status reset = sandbox->Reset();
    EXPECT_TRUE(reset.ok()) << reset;
  }
  is_over = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
}

TEST_P(Callbacks, OfAnotherSandboxStayThere) {
  auto other = Sandbox::Create(Patient());
  ASSERT_TRUE(other.ok());
  ASSERT_TRUE((*other)->Load(PLUGIN_CASES).ok());
  auto add = (*other)->Function<int(int, int)>("add");
  ASSERT_TRUE(add.ok());
  auto through = sandbox->Export<int(int)>(
      [&](Tainted<int> n) { return (*add)(n.UnverifiedValue(), 5)->UnverifiedValue(); });
  ASSERT_TRUE(through.ok());
  EXPECT_EQ((Value<int(int (*)(int), int)>("call_back", *through, 1)), 7);
}

TEST_P(Callbacks, AndCallsComeFromManyThreads) {
  constexpr unsigned kThreads = 4, kCalls = 500;
  Policy policy = Patient();
  policy.host_threads = 3;  // one has to wait now and then
  Make(policy);
  auto doubled = sandbox->Export<int(int)>([](Tainted<int> n) { return n.UnverifiedValue() * 2; });
  ASSERT_TRUE(doubled.ok());
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      auto call_back = sandbox->Function<int(int (*)(int), int)>("call_back");
      for (unsigned n = 0; n < kCalls; ++n) {
        const int value = static_cast<int>(i * kCalls + n);
        const auto result = (*call_back)(*doubled, value);
        if (!result.ok() || result->UnverifiedValue() != value * 2 + 1) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0u);
}

TEST_P(Callbacks, AndManySandboxesLiveTogether) {
  constexpr int kSandboxes = 24;
  std::vector<std::unique_ptr<Sandbox>> all;
  for (int i = 0; i < kSandboxes; ++i) {
    auto made = Sandbox::Create(Patient());
    ASSERT_TRUE(made.ok()) << made.status();
    ASSERT_TRUE((*made)->Load(PLUGIN_CASES).ok());
    all.push_back(*std::move(made));
  }
  for (int round = 1; round <= 3; ++round) {
    for (const auto& one : all) {
      auto next = one->Function<int()>("next");
      ASSERT_TRUE(next.ok());
      EXPECT_EQ((*next)()->UnverifiedValue(), round);
    }
  }
}

}  // namespace
}  // namespace dunebox
