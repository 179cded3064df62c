// Where a signal may find translated code: in front of every host instruction the guest's state is
// recovered, and has to be one that the processor goes through; and a thread that is thrown out
// there goes on as if nothing had happened.
#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <iostream>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/jit/arena.h"
#include "tests/jit/generator.h"
#include "tests/jit/lockstep.h"
#include "tests/jit/runner.h"

namespace dunebox::jit {
namespace {

constexpr unsigned kSequences = 100;
constexpr unsigned kHostMxcsr = _MM_MASK_MASK;  // of which no exception has happened

struct Place {
  Layout layout;
  Isolation isolation;
};

std::vector<Place> Places() {
  std::vector<Place> places;
  for (const Layout& layout : kLayouts) {
    places.push_back({layout, Isolation::kNone});
    places.push_back({layout, Isolation::kMask});
  }
  for (const Layout& layout : kWindowLayouts) places.push_back({layout, Isolation::kSeg});
  return places;
}

class Stepping : public testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    const auto& [layout, isolation] = GetParam();
    arena_ = isolation == Isolation::kSeg ? Arena::MapInWindow(layout) : Arena::Map(layout);
    if (arena_ == nullptr) GTEST_SKIP() << layout.name << ": the addresses are taken";
    runner_ = std::make_unique<Runner>(*arena_, Runner::Options{.isolation = isolation});
    arena_->Fill(random_);
    memory_ = arena_->Save();
  }

  static Isolation isolation() { return GetParam().isolation; }

  // The next sequence and the registers it starts with.
  Machine Next() {
    Machine start;
    Generator generator(random_, *arena_, unsupported_, {.trap_flag_is_visible = false,
                         .wild_percent = IsMask(isolation()) ? 0U : 1U,
                         .isolation = isolation()});
    generator.PrepareMachine(start);
    sequence_ = generator.Make();
    for (const Sequence::Chunk& chunk : sequence_.chunks) {
      runner_->translator().Invalidate(chunk.address, chunk.address + chunk.bytes.size());
    }
    sequence_.WriteTo(*arena_);
    start.rip = sequence_.entry;
    return start;
  }

  // As it runs natively, and all the states on the way.
  void Trace(const Machine& start) {
    native_ = start;
    arena_->Restore(memory_);
    native_end_ = runner_->TraceNative(native_, trace_);
    native_.rflags &= ~std::uint64_t{0x100};
    native_memory_ = arena_->Save();
    arena_->Restore(memory_);
  }

  // What a run with kicks has come to.
  std::string CheckKicked(const Machine& start, const Runner::Kicks& kicks) {
    Machine translated = start;
    Machine native = native_;
    arena_->Restore(memory_);
    TraceFollower follower(*arena_, trace_);
    follower.set_stride(trace_.size());
    bool is_guests = false;
    const Ending end = runner_->KickTranslated(translated, kicks, [&](const Snapshot& seen) {
      follower.See(seen, 0);
      is_guests = is_guests || (_mm_getcsr() & ~unsigned{_MM_EXCEPT_MASK}) != kHostMxcsr;
    });
    kicks_ += follower.seen();
    if (is_guests) return "the runtime goes on with the guest's MXCSR";
    if (!follower.complaint().empty()) return follower.complaint();
    if (arena_->FirstDifference(native_memory_) != 0) return "memory differs";
    return Difference(native_end_, end) + Difference(native, translated);
  }

  Random random_{7};
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Runner> runner_;
  Unsupported unsupported_;
  std::vector<std::byte> memory_, native_memory_;
  Sequence sequence_;
  Machine native_;
  Ending native_end_;
  std::vector<Snapshot> trace_;
  std::uint64_t kicks_ = 0;
};

TEST_P(Stepping, EveryHostInstructionHasTheGuestsExactState) {
  std::uint64_t host_instructions = 0;
  for (unsigned i = 0; i < kSequences; ++i) {
    arena_->set_is_watched(i % 4 != 0);
    const Machine start = Next();
    // The second time everything is linked.
    for (unsigned round = 0; round < 2; ++round) {
      const std::string wrong = CompareSteps(*runner_, start, memory_, host_instructions);
      ASSERT_EQ(wrong, "") << "sequence " << i << " round " << round << "\n" << sequence_.Dump();
    }
  }
  std::cout << host_instructions << " host instructions\n";
}

TEST_P(Stepping, AKickAnywhereFindsAStateOfTheProgramAndLosesNothing) {
  for (unsigned i = 0; i < kSequences; ++i) {
    const Machine start = Next();
    Trace(start);
    for (const unsigned every : {30U, 60U, 200U}) {
      const std::string wrong = CheckKicked(start, {.every = every, .seed = i});
      ASSERT_EQ(wrong, "") << "sequence " << i << " every " << every << "\n" << sequence_.Dump();
    }
  }
  std::cout << kicks_ << " kicks\n";
}

TEST_P(Stepping, ATimersKicksFindStatesOfTheProgram) {
  for (unsigned i = 0; i < kSequences; ++i) {
    const Machine start = Next();
    Trace(start);
    for (unsigned round = 0; round < 10; ++round) {
      const std::string wrong = CheckKicked(start, {.every = 0, .seed = random_()});
      ASSERT_EQ(wrong, "") << "sequence " << i << "\n" << sequence_.Dump();
    }
  }
  std::cout << kicks_ << " kicks\n";
}

std::string NameOfPlace(const testing::TestParamInfo<Place>& info) {
  std::string name =
      absl::StrCat(info.param.layout.name, " ", std::string(NameOf(info.param.isolation)));
  for (char& c : name) {
    if (c == ' ' || c == ',' || c == '-' || c == '\'') c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Layouts, Stepping, testing::ValuesIn(Places()), NameOfPlace);

}  // namespace
}  // namespace dunebox::jit
