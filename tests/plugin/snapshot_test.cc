// Snapshots: what Reset brings back, and what clones share and do not share.
#include <signal.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "tests/plugin/fixture.h"

namespace dunebox {
namespace {

class SnapshotTest : public PluginTest {
 protected:
  void SetUp() override { Make(); }

  void Take() {
    const absl::Status taken = sandbox->Snapshot();
    ASSERT_TRUE(taken.ok()) << taken;
  }
  void Return() {
    const absl::Status reset = sandbox->Reset();
    ASSERT_TRUE(reset.ok()) << reset;
  }
  static std::unique_ptr<Sandbox> CloneOf(const Sandbox& original) {
    absl::StatusOr<std::unique_ptr<Sandbox>> clone = original.Clone();
    EXPECT_TRUE(clone.ok()) << clone.status();
    return clone.ok() ? *std::move(clone) : nullptr;
  }
  template <typename Signature, typename... Arguments>
  static auto ValueIn(Sandbox& where, const std::string& name, Arguments&&... arguments) {
    auto function = where.Function<Signature>(name);
    EXPECT_TRUE(function.ok()) << function.status();
    auto result = (*function)(std::forward<Arguments>(arguments)...);
    EXPECT_TRUE(result.ok()) << name << ": " << result.status();
    using T = decltype(result->UnverifiedValue());
    return result.ok() ? result->UnverifiedValue() : T{};
  }
  static void Run(Sandbox& where, const std::string& name) {
    auto function = where.Function<void()>(name);
    ASSERT_TRUE(function.ok()) << function.status();
    const absl::Status done = (*function)();
    EXPECT_TRUE(done.ok()) << done;
  }
  Memory<char> Text(const std::string& text) { return *sandbox->MakeString(text); }
  std::string Kept(Sandbox& where) {
    auto kept = (*where.Function<const char*()>("kept"))();
    return kept.ok() ? *where.CopyString(*kept, 100) : std::string(kept.status().message());
  }
  std::string Directory() {
    return *sandbox->CopyString(*Call<const char*()>("directory"), 1000);
  }
};

TEST_F(SnapshotTest, ResetBringsBackMemory) {
  EXPECT_EQ(Value<int()>("next"), 1);
  EXPECT_EQ(Value<int()>("next_of_thread"), 1);
  ASSERT_TRUE(Call<void(const char*)>("keep", Text("before")).ok());
  ASSERT_TRUE(Call<void(int, int)>("dirty", 10, 3).ok());
  Take();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Value<int()>("next"), 2);
    EXPECT_EQ(Value<int()>("next_of_thread"), 2);
    ASSERT_TRUE(Call<void(const char*)>("keep", Text("after")).ok());
    ASSERT_TRUE(Call<void(int, int)>("dirty", 30, 5).ok());
    EXPECT_EQ(Value<int(int)>("sum_of_pages", 40), 150);
    Return();
    EXPECT_EQ(Kept(*sandbox), "before");
    EXPECT_EQ(Value<int(int)>("sum_of_pages", 40), 30);
  }
}

// More than is copied back.
TEST_F(SnapshotTest, ResetBringsBackManyPages) {
  ASSERT_TRUE(Call<void(int, int)>("dirty", 2048, 1).ok());
  Take();
  ASSERT_TRUE(Call<void(int, int)>("dirty", 2048, 2).ok());
  Return();
  EXPECT_EQ(Value<int(int)>("sum_of_pages", 2048), 2048);
}

TEST_F(SnapshotTest, ResetUndoesChangesOfMappings) {
  const TaintedPtr<void> old = *Call<void*(int, int)>("map", 4, 7);
  const TaintedPtr<void> other = *Call<void*(int, int)>("map", 4, 8);
  const TaintedPtr<void> third = *Call<void*(int, int)>("map", 4, 9);
  const auto look = [&](TaintedPtr<void> at, unsigned long offset) {
    return Value<int(const unsigned char*)>("look", TaintedPtr<unsigned char>(at.address() + offset));
  };
  Take();
  for (int i = 0; i < 2; ++i) {
    const TaintedPtr<void> fresh = *Call<void*(int, int)>("map", 100, 1);
    EXPECT_EQ(Value<int(void*, int)>("unmap", old, 2), 0);
    EXPECT_EQ(Value<int(void*, int)>("forbid", other, 3), 0);
    EXPECT_TRUE(Call<void*(void*, int)>("enlarge", third, 4)->address() != 0);
    Return();
    EXPECT_EQ(look(old, 0), 7);
    EXPECT_EQ(look(old, 3 * 4096), 7);
    EXPECT_EQ(look(other, 0), 8);
    EXPECT_EQ(look(third, 3 * 4096), 9);
    const absl::Status gone =
        Call<int(const unsigned char*)>("look", TaintedPtr<unsigned char>(fresh.address())).status();
    EXPECT_EQ(FailureIn(gone).signal, SIGSEGV);
    Return();
  }
}

// The kernel would show what the image has.
TEST_F(SnapshotTest, MemoryThatWasGivenUpIsZeros) {
  const TaintedPtr<void> memory = *Call<void*(int, int)>("map", 4, 7);
  Take();
  EXPECT_EQ(Value<int(void*, int)>("give_up", memory, 2), 0);
  const auto look = [&](unsigned long offset) {
    return Value<int(const unsigned char*)>("look",
                                            TaintedPtr<unsigned char>(memory.address() + offset));
  };
  EXPECT_EQ(look(0), 0);
  EXPECT_EQ(look(3 * 4096), 7);
  Return();
  EXPECT_EQ(look(0), 7);
}

TEST_F(SnapshotTest, ResetBringsBackWhatTheKernelKeeps) {
  const Memory<char> file = Text(PLUGIN_CASES), other = Text("/usr/lib/x86_64-linux-gnu"), usr = Text("/usr/lib");
  const int fd = Value<int(const char*)>("open_file", file);
  ASSERT_GE(fd, 3);
  EXPECT_EQ(Value<int(int)>("read_byte", fd), 0x7f);
  const int copy = Value<int(int)>("duplicate", fd);
  EXPECT_EQ(Value<int(const char*)>("change_directory", usr), 0);
  EXPECT_EQ(Value<int(int)>("change_mask", 027), 022);
  EXPECT_EQ(Value<int(int, int)>("handle", SIGUSR1, 1), 0);
  EXPECT_EQ(Value<int(int, int)>("block", SIGUSR2, 1), 0);
  Value<int(int)>("rounding", 0x400);
  Take();
  EXPECT_EQ(Value<int(int)>("read_byte", copy), 'E');
  EXPECT_EQ(Value<int(int)>("close_file", fd), 0);
  EXPECT_EQ(Value<int(const char*)>("open_file", file), fd);
  EXPECT_EQ(Value<int(const char*)>("open_file", file), copy + 1);
  EXPECT_EQ(Value<int(const char*)>("change_directory", other), 0);
  EXPECT_EQ(Value<int(int)>("change_mask", 0), 027);
  EXPECT_EQ(Value<int(int, int)>("handle", SIGUSR1, 0), 1);
  EXPECT_EQ(Value<int(int, int)>("block", SIGUSR2, 0), 1);
  EXPECT_EQ(Value<int(int)>("rounding", 0x800), 0x400);
  Return();
  EXPECT_EQ(Value<int(int)>("rounding", 0x400), 0x400);
  EXPECT_EQ(Value<int(int)>("read_byte", fd), 'E');
  EXPECT_EQ(Value<int(int)>("read_byte", copy), 'L');
  EXPECT_EQ(Value<int(int)>("read_byte", copy + 1), -1);
  EXPECT_EQ(Directory(), "/usr/lib");
  EXPECT_EQ(Value<int(int)>("change_mask", 0), 027);
  EXPECT_EQ(Value<int(int, int)>("handle", SIGUSR1, 1), 1);
  EXPECT_EQ(Value<int(int, int)>("block", SIGUSR2, 1), 1);
}

TEST_F(SnapshotTest, ResetBringsBackAFailedSandbox) {
  auto next = *sandbox->Function<int()>("next");
  Take();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(FailureIn(Call<void()>("crash")).kind, Failure::Kind::kTrap);
    EXPECT_FALSE(next().ok());
    Return();
    EXPECT_FALSE(sandbox->failure().has_value());
    EXPECT_EQ(next()->UnverifiedValue(), 1);
  }
}

TEST_F(SnapshotTest, ResetEndsThreads) {
  Take();
  EXPECT_EQ(Value<int()>("start_thread"), 0);
  const absl::Status refused = sandbox->Snapshot();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "threads")) << refused;
  Return();
  EXPECT_TRUE(sandbox->Snapshot().ok());
  EXPECT_EQ(Value<int()>("next"), 1);
}

TEST_F(SnapshotTest, IsRefusedDuringACallAndAfterAFailure) {
  absl::Status within = absl::OkStatus();
  const auto callback = *sandbox->Export<int(int)>([&](Tainted<int> value) {
    within = sandbox->Snapshot();
    return value.UnverifiedValue();
  });
  EXPECT_EQ((Value<int(int (*)(int), int)>("call_back", callback, 4)), 5);
  EXPECT_TRUE(absl::IsFailedPrecondition(within)) << within;
  EXPECT_FALSE(Call<void()>("crash").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(sandbox->Snapshot()));
  EXPECT_TRUE(absl::IsFailedPrecondition(sandbox->Clone().status()));
}

TEST_F(SnapshotTest, MemoryOfTheHostKeepsItsPlace) {
  const Memory<int> before = *sandbox->Allocate<int>(1000);
  before.span()[0] = 1;
  Take();
  const Memory<int> after = *sandbox->Allocate<int>(1 << 20);
  before.span()[0] = after.span()[1 << 19] = 2;
  Return();
  EXPECT_EQ(before.span()[0], 1);
  EXPECT_EQ(after.span()[1 << 19], 0);
  after.span()[0] = 3;
  EXPECT_EQ(Value<int(const unsigned char*)>("look", TaintedPtr<unsigned char>(after.guest().address())),
            3);
}

TEST_F(SnapshotTest, ACallMayBeMadeByManyThreadsOfTheHost) {
  Policy policy = Patient();
  policy.host_threads = 3;
  Make(policy);
  Take();
  for (int round = 0; round < 3; ++round) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 100; ++n) EXPECT_GT(Value<int()>("next_of_thread"), 0);
      });
    }
    for (std::thread& thread : threads) thread.join();
    Return();
  }
}

// ---- clones -------------------------------------------------------------------------------------

TEST_F(SnapshotTest, AClonesMemoryIsItsOwn) {
  EXPECT_EQ(Value<int()>("next"), 1);
  ASSERT_TRUE(Call<void(const char*)>("keep", Text("both")).ok());
  Take();
  EXPECT_EQ(Value<int()>("next"), 2);
  const auto clone = CloneOf(*sandbox);
  EXPECT_EQ(ValueIn<int()>(*clone, "next"), 2);
  EXPECT_EQ(ValueIn<int()>(*clone, "next"), 3);
  EXPECT_EQ(Value<int()>("next"), 3);
  EXPECT_EQ(Kept(*clone), "both");
  ASSERT_TRUE(Call<void(const char*)>("keep", Text("one")).ok());
  EXPECT_EQ(Kept(*clone), "both");
  // And of a clone.
  const auto second = CloneOf(*clone);
  EXPECT_EQ(ValueIn<int()>(*second, "next"), 2);
  ASSERT_TRUE(clone->Reset().ok());
  EXPECT_EQ(ValueIn<int()>(*clone, "next"), 2);
  EXPECT_EQ(ValueIn<int()>(*second, "next"), 3);
  // The original is not needed.
  sandbox.reset();
  EXPECT_EQ(ValueIn<int()>(*CloneOf(*clone), "next"), 2);
}

TEST_F(SnapshotTest, ACloneFailsAlone) {
  Take();
  const auto clone = CloneOf(*sandbox);
  EXPECT_FALSE((*clone->Function<void()>("crash"))().ok());
  EXPECT_EQ(Value<int()>("next"), 1);
  ASSERT_TRUE(clone->Reset().ok());
  EXPECT_EQ(ValueIn<int()>(*clone, "next"), 1);
}

TEST_F(SnapshotTest, AClonesFilesAreReadAlone) {
  const int fd = Value<int(const char*)>("open_file", Text(PLUGIN_CASES));
  EXPECT_EQ(Value<int(int)>("read_byte", fd), 0x7f);
  const int copy = Value<int(int)>("duplicate", fd);
  Take();
  EXPECT_EQ(Value<int(int)>("read_byte", fd), 'E');
  const auto clone = CloneOf(*sandbox);
  EXPECT_EQ(ValueIn<int(int)>(*clone, "read_byte", fd), 'E');
  EXPECT_EQ(ValueIn<int(int)>(*clone, "read_byte", copy), 'L');
  EXPECT_EQ(Value<int(int)>("read_byte", fd), 'L');
}

TEST_F(SnapshotTest, FunctionsAndMemoryHaveCounterparts) {
  auto next = *sandbox->Function<int()>("next");
  const Memory<int> memory = *sandbox->Allocate<int>(10);
  memory.span()[5] = 5;
  Take();
  const Memory<int> later = *sandbox->Allocate<int>(10);
  const auto clone = CloneOf(*sandbox);
  auto next_there = clone->CounterpartOf(next);
  EXPECT_EQ(next_there()->UnverifiedValue(), 1);
  EXPECT_EQ(next()->UnverifiedValue(), 1);
  {
    const auto there = clone->CounterpartOf(memory);
    ASSERT_TRUE(there.ok()) << there.status();
    EXPECT_EQ(there->span()[5], 5);
    there->span()[5] = 6;
    EXPECT_EQ(memory.span()[5], 5);
    EXPECT_TRUE(absl::IsNotFound(clone->CounterpartOf(memory).status()));
  }
  EXPECT_TRUE(absl::IsNotFound(clone->CounterpartOf(later).status()));
  EXPECT_TRUE(absl::IsNotFound(sandbox->CounterpartOf(memory).status()));
  for (int i = 0; i < 100; ++i) {
    const auto fresh = clone->Allocate<int>(10);
    ASSERT_TRUE(fresh.ok());
  }
}

TEST_F(SnapshotTest, ClonesHaveTheCallbacksThatThereWere) {
  std::atomic<int> called{0};
  const auto callback = *sandbox->Export<int(int)>([&](Tainted<int> value) {
    ++called;
    return value.UnverifiedValue();
  });
  Take();
  const auto clone = CloneOf(*sandbox);
  EXPECT_EQ((ValueIn<int(int (*)(int), int)>(*clone, "call_back", callback, 1)), 2);
  EXPECT_EQ(called, 1);
  const auto own = *clone->Export<int(int)>([](Tainted<int>) { return 10; });
  EXPECT_EQ((ValueIn<int(int (*)(int), int)>(*clone, "call_back", own, 1)), 11);
  EXPECT_FALSE((Call<int(int (*)(int), int)>("call_back", own, 1)).ok());
}

TEST_F(SnapshotTest, CodeThatACloneWritesIsItsOwn) {
  EXPECT_EQ(Value<int(int)>("set_answer", 1), 0);
  EXPECT_EQ(Value<int()>("answer"), 1);
  EXPECT_EQ(Value<int()>("fixed_answer"), 1);
  Take();
  EXPECT_EQ(Value<int()>("answer"), 1);
  const auto clone = CloneOf(*sandbox), other = CloneOf(*sandbox);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(ValueIn<int()>(*clone, "answer"), 1);
    EXPECT_EQ(ValueIn<int(int)>(*clone, "set_answer", 2), 0);
    EXPECT_EQ(ValueIn<int()>(*clone, "answer"), 2);
    EXPECT_EQ(ValueIn<int(int)>(*clone, "change_fixed_answer", 3), 0);
    EXPECT_EQ(ValueIn<int()>(*clone, "fixed_answer"), 3);
    EXPECT_EQ(Value<int()>("answer"), 1);
    EXPECT_EQ(Value<int()>("fixed_answer"), 1);
    EXPECT_EQ(ValueIn<int()>(*other, "fixed_answer"), 1);
    ASSERT_TRUE(clone->Reset().ok());
    EXPECT_EQ(ValueIn<int()>(*clone, "fixed_answer"), 1);
    EXPECT_EQ(ValueIn<int()>(*clone, "answer"), 1);
  }
  // The other way round.
  EXPECT_EQ(Value<int(int)>("change_fixed_answer", 4), 0);
  EXPECT_EQ(Value<int()>("fixed_answer"), 4);
  EXPECT_EQ(ValueIn<int()>(*other, "fixed_answer"), 1);
  EXPECT_EQ(ValueIn<int()>(*CloneOf(*sandbox), "fixed_answer"), 1);
}

// The others of the clone's threads leave the common translations, too, where they never leave by themselves.
TEST_F(SnapshotTest, ACloneWithThreadsMayWriteCode) {
  Take();
  const auto clone = CloneOf(*sandbox);
  EXPECT_EQ(ValueIn<int()>(*clone, "start_thread"), 0);
  EXPECT_EQ(ValueIn<int(int)>(*clone, "change_fixed_answer", 3), 0);
  EXPECT_EQ(ValueIn<int()>(*clone, "fixed_answer"), 3);
  EXPECT_EQ(ValueIn<int(int)>(*clone, "set_answer", 2), 0);
  EXPECT_EQ(ValueIn<int()>(*clone, "answer"), 2);
  Run(*clone, "let_thread_end");
  ASSERT_TRUE(clone->Reset().ok());
  EXPECT_EQ(ValueIn<int()>(*clone, "fixed_answer"), 1);
}

TEST_F(SnapshotTest, ClonesRunAtTheSameTime) {
  Take();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 5; ++round) {
        const auto clone = CloneOf(*sandbox);
        for (int n = 1; n < 50; ++n) {
          ASSERT_EQ(ValueIn<int()>(*clone, "next"), n % 10 == 0 ? 10 : n % 10);
          const absl::Status reset = n % 10 == 0 ? clone->Reset() : absl::OkStatus();
          ASSERT_TRUE(reset.ok()) << reset;
        }
        if (i % 2 == 0) {
          ASSERT_EQ(ValueIn<int(int)>(*clone, "change_fixed_answer", 7), 0);
          ASSERT_EQ(ValueIn<int()>(*clone, "fixed_answer"), 7);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(SnapshotTest, LibrariesOfLaterAreLookedUpAgain) {
  Take();
  ASSERT_TRUE(sandbox->Load("/usr/lib/x86_64-linux-gnu/libz.so.1").ok());
  auto bound = *sandbox->Function<unsigned long(unsigned long, unsigned long, long)>("crc32_combine");
  EXPECT_TRUE(bound(1ul, 2ul, 3l).ok());
  const auto clone = CloneOf(*sandbox);
  EXPECT_TRUE(absl::IsNotFound(clone->CounterpartOf(bound)(1ul, 2ul, 3l).status()));
  ASSERT_TRUE(clone->Load("/usr/lib/x86_64-linux-gnu/libz.so.1").ok());
  EXPECT_TRUE(clone->CounterpartOf(bound)(1ul, 2ul, 3l).ok());
  Return();
  EXPECT_TRUE(absl::IsNotFound(bound(1ul, 2ul, 3l).status()));
  ASSERT_TRUE(sandbox->Load("/usr/lib/x86_64-linux-gnu/libz.so.1").ok());
  Take();
  EXPECT_TRUE(CloneOf(*sandbox)->CounterpartOf(bound)(1ul, 2ul, 3l).ok());
}

// KiB of what the process has to itself, page tables included.
std::uint64_t OwnMemory() {
  std::ifstream status("/proc/self/status");
  std::uint64_t sum = 0;
  for (std::string line; std::getline(status, line);) {
    for (const char* field : {"RssAnon:", "RssShmem:", "VmPTE:", "VmSwap:"}) {
      if (absl::StartsWith(line, field)) sum += std::stoul(line.substr(strlen(field)));
    }
  }
  return sum;
}

std::size_t Mappings() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) ++count;
  return count;
}

// A picture's header is read: enough for libpng and zlib to have allocated and run.
void UseLibpng(Sandbox& where) {
  const Memory<char> version = *where.MakeString("1.6.39");
  auto create = *where.Function<void*(const char*, void*, void*, void*)>("png_create_read_struct");
  const auto reader = create(version, nullptr, nullptr, nullptr);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_NE(reader->address(), 0);
  const auto info = (*where.Function<void*(void*)>("png_create_info_struct"))(*reader);
  ASSERT_TRUE(info.ok()) << info.status();
}

TEST(ManyClones, OfLibpngTakeLittleMemory) {
  constexpr std::size_t kClones = 1000;
  constexpr std::uint64_t kMostIdleKib = 64, kMostMappings = 60;
  absl::StatusOr<std::unique_ptr<Sandbox>> original = Sandbox::Create({});
  ASSERT_TRUE(original.ok()) << original.status();
  ASSERT_TRUE((*original)->Load("/usr/lib/x86_64-linux-gnu/libpng16.so.16").ok());
  UseLibpng(**original);
  ASSERT_TRUE((*original)->Snapshot().ok());
  const std::uint64_t before = OwnMemory();
  const std::size_t mappings = Mappings();
  std::vector<std::unique_ptr<Sandbox>> clones;
  for (std::size_t i = 0; i < kClones; ++i) {
    absl::StatusOr<std::unique_ptr<Sandbox>> clone = (*original)->Clone();
    ASSERT_TRUE(clone.ok()) << clone.status() << " after " << i;
    clones.push_back(*std::move(clone));
  }
  const std::uint64_t idle = OwnMemory() - before;
  EXPECT_LE(Mappings() - mappings, kClones * kMostMappings);
  for (const auto& clone : clones) UseLibpng(*clone);
  const std::uint64_t used = OwnMemory() - before;
#if !defined(__SANITIZE_ADDRESS__)
  EXPECT_LE(idle, kClones * kMostIdleKib);
#endif
  printf("a clone: %lu KiB idle, %lu KiB after use, %lu mappings\n", idle / kClones, used / kClones,
         (Mappings() - mappings) / kClones);
}

}  // namespace
}  // namespace dunebox
