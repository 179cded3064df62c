// Snapshots: what Reset brings back, and what clones share and do not share.
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "sandbox/plugin/snapshot_format.h"
#include "tests/plugin/fixture.h"

namespace dunebox {
namespace {

class SnapshotTest : public PluginTest {
 protected:
  void SetUp() override { Make(); }
  static Policy Patient() {
    Policy policy = PluginTest::Patient();
    if (IsUnderKvm()) policy.engine = Engine::kKvm;
    return policy;
  }

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

TEST_P(SnapshotTest, ResetBringsBackMemory) {
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
TEST_P(SnapshotTest, ResetBringsBackManyPages) {
  ASSERT_TRUE(Call<void(int, int)>("dirty", 2048, 1).ok());
  Take();
  ASSERT_TRUE(Call<void(int, int)>("dirty", 2048, 2).ok());
  Return();
  EXPECT_EQ(Value<int(int)>("sum_of_pages", 2048), 2048);
}

TEST_P(SnapshotTest, ResetUndoesChangesOfMappings) {
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
TEST_P(SnapshotTest, MemoryThatWasGivenUpIsZeros) {
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

TEST_P(SnapshotTest, MemoryThatWasGivenUpIsZerosAlsoWhenItsRightsHaveChanged) {
  const TaintedPtr<void> memory = *Call<void*(int, int)>("map", 4, 7);
  Take();
  const auto first = TaintedPtr<const unsigned char>(memory.address());
  for (int i = 0; i < 2; ++i) {
    for (const int rights : {PROT_READ, PROT_READ | PROT_WRITE}) {
      EXPECT_EQ((Value<int(void*, unsigned long, int)>("mprotect", memory, 2 * 4096ul, rights)), 0);
    }
    EXPECT_EQ(Value<int(const unsigned char*)>("look", first), 7);
    EXPECT_EQ(Value<int(void*, int)>("give_up", memory, 2), 0);
    EXPECT_EQ(Value<int(const unsigned char*)>("look", first), 0);
    Return();
    EXPECT_EQ(Value<int(const unsigned char*)>("look", first), 7);
  }
}

// Each page that is given up is no more the image's, but a mapping of its own.
TEST_P(SnapshotTest, MemoryThatIsGivenUpPageByPageCounts) {
  constexpr int kPages = 12'000;
  const auto mappings = [] {
    std::ifstream maps("/proc/self/maps");
    return std::count(std::istreambuf_iterator<char>(maps), {}, '\n');
  };
  const TaintedPtr<void> memory = *Call<void*(int, int)>("map", kPages, 7);
  Take();
  const auto clone = CloneOf(*sandbox);
  for (Sandbox* const one : {sandbox.get(), clone.get()}) {
    const auto before = mappings();
    const int given = ValueIn<int(void*, int)>(*one, "give_up_every_other", memory, kPages);
    EXPECT_GT(given, 1000);
    EXPECT_LT(given, kPages / 2);
    EXPECT_LT(mappings(), before + 5000);
    // All at once is one.
    EXPECT_EQ((ValueIn<int(void*, int)>(*one, "unmap", memory, kPages)), 0);
    EXPECT_LT(mappings(), before + 100);
    ASSERT_TRUE(one->Reset().ok());
    const auto look = *one->Function<int(const unsigned char*)>("look");
    EXPECT_EQ(ValueIn<int(const unsigned char*)>(*one, "look", TaintedPtr<const unsigned char>(memory.address())), 7);
  }
}

TEST_P(SnapshotTest, ResetBringsBackWhatTheKernelKeeps) {
  const Memory<char> file = Text(Plugin()), other = Text("/usr/lib/x86_64-linux-gnu"), usr = Text("/usr/lib");
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

TEST_P(SnapshotTest, ResetBringsBackAFailedSandbox) {
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

TEST_P(SnapshotTest, ResetEndsThreads) {
  Take();
  EXPECT_EQ(Value<int()>("start_thread"), 0);
  const absl::Status refused = sandbox->Snapshot();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "threads")) << refused;
  Return();
  EXPECT_TRUE(sandbox->Snapshot().ok());
  EXPECT_EQ(Value<int()>("next"), 1);
}

TEST_P(SnapshotTest, IsRefusedDuringACallAndAfterAFailure) {
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

TEST_P(SnapshotTest, MemoryOfTheHostKeepsItsPlace) {
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

TEST_P(SnapshotTest, ACallMayBeMadeByManyThreadsOfTheHost) {
  Policy policy = Patient();
  policy.host_threads = 3;
  Make(policy);
  Take();
  for (int round = 0; round < 3; ++round) {
    constexpr int kThreads = 3;
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 100; ++n) EXPECT_GT(Value<int()>("next_of_thread"), 0);
      });
    }
    for (std::thread& thread : threads) thread.join();
    Return();
  }
}

// Few of many pages, the first and the last among them.
TEST_P(SnapshotTest, ResetBringsBackMemoryOfTheHostWhereItWasWritten) {
  constexpr std::size_t kSize = 4 << 20;
  const Memory<unsigned char> block = *sandbox->Allocate<unsigned char>(kSize);
  std::memset(block.span().data(), 1, kSize);
  Take();
  for (const std::size_t at : {std::size_t{0}, std::size_t{5000}, kSize / 2, kSize - 1}) {
    block.span()[at] = 2;
    const auto later = sandbox->Allocate<unsigned char>(100'000);
    ASSERT_TRUE(later.ok());
    std::memset(later->span().data(), 3, 100'000);
    EXPECT_EQ(Value<int(const unsigned char*)>("look", TaintedPtr<unsigned char>(block.guest().address() + at)), 2);
    Return();
    EXPECT_EQ(Value<int(const unsigned char*)>("look", TaintedPtr<unsigned char>(block.guest().address() + at)), 1);
    EXPECT_EQ(static_cast<std::size_t>(std::count(block.span().begin(), block.span().end(), 1)), kSize);
  }
}

FOR_ONE_AND_TWO_WALLS(SnapshotTest);

// What was open is opened again by another broker, and so is what the host had named.
TEST(Snapshots, HaveTheirFilesFromABroker) {
  const Policy policy{.deadline = absl::Minutes(2)};
  const std::string directory = testing::TempDir() + "dunebox-snapshot-broker-" + std::to_string(getpid());
  std::filesystem::create_directory(directory);
  const std::string library = directory + "/state.so", file = directory + "/saved";
  std::filesystem::copy_file(PLUGIN_CASES, library);
  auto sandbox = Sandbox::Create(policy);
  ASSERT_TRUE(sandbox.ok()) << sandbox.status();
  ASSERT_TRUE((*sandbox)->Load(library).ok());
  const auto open = [&](Sandbox& where, const std::string& path) {
    const Memory<char> name = *where.MakeString(path);
    auto function = *where.Function<int(const char*)>("open_file");
    return function(name)->UnverifiedValue();
  };
  const auto read = [](Sandbox& where, int fd) {
    auto function = *where.Function<int(int)>("read_byte");
    return function(fd)->UnverifiedValue();
  };
  const int fd = open(**sandbox, library);
  ASSERT_GE(fd, 3);
  EXPECT_EQ(read(**sandbox, fd), 0x7f);
  const absl::Status taken = (*sandbox)->Snapshot();
  ASSERT_TRUE(taken.ok()) << taken;
  ASSERT_TRUE((*sandbox)->Load("/usr/lib/x86_64-linux-gnu/libz.so.1").ok());
  EXPECT_EQ(read(**sandbox, fd), 'E');
  ASSERT_TRUE((*sandbox)->Reset().ok());
  EXPECT_EQ(read(**sandbox, fd), 'E');
  const auto clone = (*sandbox)->Clone();
  ASSERT_TRUE(clone.ok()) << clone.status();
  EXPECT_THAT((*clone)->confinement(), testing::Contains("files: seccomp"));
  EXPECT_EQ(read(**clone, fd), 'E');
  const int again = open(**clone, library);
  EXPECT_EQ(read(**clone, again), 0x7f);
  EXPECT_LT(open(**clone, "/etc/passwd"), 0);
  ASSERT_TRUE((*sandbox)->Save(file).ok());
  // Nobody has named it for the next one.
  EXPECT_TRUE(absl::IsFailedPrecondition(Sandbox::Open(file, policy).status()));
  Policy wider = policy;
  wider.readable.push_back(library);
  const auto opened = Sandbox::Open(file, wider);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(read(**opened, fd), 'E');
  std::filesystem::remove_all(directory);
}

// ---- clones -------------------------------------------------------------------------------------

TEST_P(SnapshotTest, AClonesMemoryIsItsOwn) {
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

TEST_P(SnapshotTest, ClonesMayBeTakenSnapshotsOfAtOnce) {
  EXPECT_EQ(Value<int()>("next_of_thread"), 1);
  Take();
  const auto clone = CloneOf(*sandbox);
  const absl::Status taken = clone->Snapshot();
  ASSERT_TRUE(taken.ok()) << taken;
  const auto second = CloneOf(*clone);
  EXPECT_EQ(ValueIn<int()>(*second, "next_of_thread"), 2);
  EXPECT_EQ(ValueIn<int()>(*clone, "next_of_thread"), 2);
  for (int round = 0; round < 3; ++round) {
    const absl::Status reset = clone->Reset(), again = clone->Snapshot();
    ASSERT_TRUE(reset.ok() && again.ok()) << reset << again;
  }
  ASSERT_TRUE(clone->Reset().ok());
  EXPECT_EQ(ValueIn<int()>(*clone, "next_of_thread"), 2);
}

TEST_P(SnapshotTest, ACloneFailsAlone) {
  Take();
  const auto clone = CloneOf(*sandbox);
  EXPECT_FALSE((*clone->Function<void()>("crash"))().ok());
  EXPECT_EQ(Value<int()>("next"), 1);
  ASSERT_TRUE(clone->Reset().ok());
  EXPECT_EQ(ValueIn<int()>(*clone, "next"), 1);
}

TEST_P(SnapshotTest, AClonesFilesAreReadAlone) {
  const int fd = Value<int(const char*)>("open_file", Text(Plugin()));
  EXPECT_EQ(Value<int(int)>("read_byte", fd), 0x7f);
  const int copy = Value<int(int)>("duplicate", fd);
  Take();
  EXPECT_EQ(Value<int(int)>("read_byte", fd), 'E');
  const auto clone = CloneOf(*sandbox);
  EXPECT_EQ(ValueIn<int(int)>(*clone, "read_byte", fd), 'E');
  EXPECT_EQ(ValueIn<int(int)>(*clone, "read_byte", copy), 'L');
  EXPECT_EQ(Value<int(int)>("read_byte", fd), 'L');
}

TEST_P(SnapshotTest, FunctionsAndMemoryHaveCounterparts) {
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

TEST_P(SnapshotTest, ClonesHaveTheCallbacksThatThereWere) {
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

// What a guest may leave where: in memory of every kind, registers, descriptors, handlers, callbacks, code.
constexpr char kSecret[] = "left by the one before";
constexpr unsigned long kSecretNumber = 0x5ec7e7'5ec7e7'5ec7;

void LeaveSecrets(Sandbox& where, TaintedPtr<void> old) {
  const Memory<char> text = *where.MakeString(kSecret);
  EXPECT_TRUE((*where.Function<void(const char*)>("keep"))(text).ok());
  EXPECT_TRUE((*where.Function<void(int, int)>("dirty"))(500, 0x5e).ok());
  const auto map = *(*where.Function<void*(int, int)>("map"))(4, 0);
  for (const TaintedPtr<void> at : {map, old}) {
    const TaintedPtr<char> place(at.address());
    EXPECT_TRUE(where.CopyOut(place, std::span<const char>(kSecret)).ok());
  }
  EXPECT_TRUE((*where.Function<int(void*, int)>("forbid"))(map, 2).ok());
  EXPECT_TRUE((*where.Function<int(const char*)>("open_file"))(*where.MakeString(PLUGIN_CASES)).ok());
  EXPECT_TRUE((*where.Function<int(int, int)>("handle"))(SIGUSR1, 1).ok());
  EXPECT_TRUE((*where.Function<int(int)>("set_answer"))(77).ok());
  EXPECT_TRUE((*where.Function<int()>("answer"))().ok());
  EXPECT_TRUE((*where.Function<int()>("next"))().ok());
  EXPECT_TRUE((*where.Function<void(unsigned long)>("leave_in_registers"))(kSecretNumber).ok());
}

// Where the guest's memory begins in this process; what of it can be read has the secret.
std::uint64_t BaseOf(Sandbox& where) {
  const Memory<char> memory = *where.Allocate<char>(1);
  return reinterpret_cast<std::uint64_t>(memory.span().data()) - memory.guest().address();
}
bool HasSecret(std::uint64_t base) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long start = 0, end = 0;
    char right = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %c", &start, &end, &right) != 3) return true;
    if (start < base || end > base + (std::uint64_t{1} << 32) || right != 'r') continue;
    if (memmem(reinterpret_cast<const void*>(start), end - start, kSecret, strlen(kSecret)) != nullptr) return true;
  }
  return false;
}

// A clone may be given the guest of one that is gone.
TEST_P(SnapshotTest, NothingIsLeftToACloneOfTheOneBefore) {
  const TaintedPtr<void> old = *Call<void*(int, int)>("map", 4, 7);
  ASSERT_TRUE(Call<void(const char*)>("keep", Text("at first")).ok());
  Take();
  const auto fails = [](Sandbox& where) { EXPECT_FALSE((*where.Function<void()>("crash"))().ok()); };
  const auto starts_thread = [](Sandbox& where) {
    EXPECT_EQ(ValueIn<int()>(where, "start_thread"), 0);
  };
  const auto changes_code = [](Sandbox& where) {
    EXPECT_EQ(ValueIn<int(int)>(where, "change_fixed_answer", 9), 0);
    EXPECT_EQ(ValueIn<int()>(where, "fixed_answer"), 9);
  };
  const auto goes_on = [](Sandbox&) {};
  for (const std::function<void(Sandbox&)>& end :
       {std::function<void(Sandbox&)>(goes_on), std::function<void(Sandbox&)>(fails),
        std::function<void(Sandbox&)>(starts_thread), std::function<void(Sandbox&)>(changes_code)}) {
    auto clone = CloneOf(*sandbox);
    const std::uint64_t base = BaseOf(*clone);
    std::atomic<int> called{0};
    const auto callback = *clone->Export<int(int)>([&](Tainted<int>) { return ++called; });
    LeaveSecrets(*clone, old);
    TaintedPtr<char> gone_place;
    {
      // More than the original's memory of both sides has room for.
      const Memory<char> gone = *clone->Allocate<char>(4 << 20);
      memcpy(gone.span().data(), kSecret, sizeof(kSecret));
      gone_place = gone.guest();
    }
    EXPECT_TRUE(IsInThisProcess() ? HasSecret(base) : true);
    end(*clone);
    clone.reset();

    clone = CloneOf(*sandbox);
    EXPECT_EQ(ValueIn<int(unsigned long)>(*clone, "registers_with", kSecretNumber), 0);
    if (IsInThisProcess()) {
      EXPECT_FALSE(clone->CopyIn(gone_place).ok());
      const std::uint64_t base_now = BaseOf(*clone);
      EXPECT_EQ(base_now == base, !IsUnderKvm());
      EXPECT_FALSE(HasSecret(base_now));
    }
    EXPECT_EQ(Kept(*clone), "at first");
    EXPECT_EQ(ValueIn<int(int)>(*clone, "sum_of_pages", 2048), 0);
    EXPECT_EQ(ValueIn<int()>(*clone, "next"), 1);
    EXPECT_EQ(ValueIn<int()>(*clone, "fixed_answer"), 1);
    EXPECT_EQ(ValueIn<int(int)>(*clone, "read_byte", 3), -1);
    EXPECT_EQ((ValueIn<int(int, int)>(*clone, "handle", SIGUSR1, 0)), 0);
    EXPECT_EQ(ValueIn<int(const unsigned char*)>(*clone, "look", TaintedPtr<unsigned char>(old.address())), 7);
    EXPECT_FALSE((*clone->Function<int(int (*)(int), int)>("call_back"))(callback, 1).ok());
    EXPECT_EQ(called, 0);
  }
}

TEST_P(SnapshotTest, AGuestWhoseMemoryIsHeldIsNoOtherClones) {
  Take();
  auto clone = CloneOf(*sandbox);
  const Memory<char> held = *clone->MakeString(kSecret);
  clone.reset();
  clone = CloneOf(*sandbox);
  Run(*clone, "let_thread_end");
  const Memory<char> other = *clone->Allocate<char>(100);
  EXPECT_NE(other.span().data(), held.span().data());
  EXPECT_STREQ(held.span().data(), kSecret);
}

// Its offsets are its own also after it has gone back.
TEST_P(SnapshotTest, AResetOfACloneMovesNobodyElsesFiles) {
  const int fd = Value<int(const char*)>("open_file", Text(Plugin()));
  Take();
  EXPECT_EQ(Value<int(int)>("read_byte", fd), 0x7f);
  const auto clone = CloneOf(*sandbox);
  EXPECT_EQ(ValueIn<int(int)>(*clone, "read_byte", fd), 0x7f);
  ASSERT_TRUE(clone->Reset().ok());
  EXPECT_EQ(ValueIn<int(int)>(*clone, "read_byte", fd), 0x7f);
  EXPECT_EQ(Value<int(int)>("read_byte", fd), 'E');
}

TEST_P(SnapshotTest, CodeThatACloneWritesIsItsOwn) {
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
TEST_P(SnapshotTest, ACloneWithThreadsMayWriteCode) {
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

TEST_P(SnapshotTest, ClonesRunAtTheSameTime) {
  Take();
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
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

TEST_P(SnapshotTest, LibrariesOfLaterAreLookedUpAgain) {
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

// ---- files --------------------------------------------------------------------------------------

class TemporaryFile {
 public:
  TemporaryFile() {
    char name[] = "/tmp/dunebox-snapshot-XXXXXX";
    close(mkstemp(name));
    path_ = name;
  }
  ~TemporaryFile() { unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

  std::string Read() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void Write(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
  }

 private:
  std::string path_;
};

TEST_P(SnapshotTest, IsOpenedFromAFile) {
  const TemporaryFile file;
  EXPECT_TRUE(absl::IsFailedPrecondition(sandbox->Save(file.path())));
  const int fd = Value<int(const char*)>("open_file", Text("/usr/lib/os-release"));
  const int copy = Value<int(int)>("duplicate", fd);
  const int first = Value<int(int)>("read_byte", fd);
  const int second = Value<int(int)>("read_byte", fd);
  EXPECT_GT(first, 0);
  EXPECT_EQ(Value<int()>("next"), 1);
  ASSERT_TRUE(Call<void(const char*)>("keep", Text("saved")).ok());
  EXPECT_EQ(Value<int(int, int)>("handle", SIGUSR1, 1), 0);
  const auto callback = *sandbox->Export<int(int)>([](Tainted<int>) { return 1; });
  Take();
  const int third = Value<int(int)>("read_byte", fd);
  const int fourth = Value<int(int)>("read_byte", fd);
  const absl::Status saved = sandbox->Save(file.path());
  ASSERT_TRUE(saved.ok()) << saved;
  sandbox.reset();
  absl::StatusOr<std::unique_ptr<Sandbox>> opened = Sandbox::Open(file.path(), Patient());
  ASSERT_TRUE(opened.ok()) << opened.status();
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(Kept(**opened), "saved");
    EXPECT_EQ(ValueIn<int()>(**opened, "next"), 2);
    EXPECT_EQ(ValueIn<int(int)>(**opened, "read_byte", fd), third);
    EXPECT_EQ(ValueIn<int(int)>(**opened, "read_byte", copy), fourth);
    EXPECT_EQ((ValueIn<int(int, int)>(**opened, "handle", SIGUSR1, 1)), 1);
    ASSERT_TRUE((*opened)->Reset().ok());
  }
  EXPECT_GE(second, 0);
  const auto clone = CloneOf(**opened);
  EXPECT_EQ(ValueIn<int()>(*clone, "next"), 2);
  EXPECT_EQ(ValueIn<int(int)>(*clone, "read_byte", fd), third);
  // In the same order they have the same addresses.
  const auto again = *(*opened)->Export<int(int)>([](Tainted<int>) { return 7; });
  EXPECT_EQ(again.address(), callback.address());
  EXPECT_EQ((ValueIn<int(int (*)(int), int)>(**opened, "call_back", again, 1)), 8);
  // Its files are judged by the policy of now.
  Policy strict = Patient();
  strict.libraries.clear();
  EXPECT_TRUE(absl::IsFailedPrecondition(Sandbox::Open(file.path(), strict).status()));
}

TEST_P(SnapshotTest, IsNotOpenedWithMoreThanThePolicyAllows) {
  const TemporaryFile file;
  EXPECT_NE(Call<void*(int, int)>("map", 10'000, 0)->address(), 0u);
  while (Value<int(const char*)>("open_file", Text("/usr/lib/os-release")) < 20) {
  }
  Take();
  const absl::Status saved = sandbox->Save(file.path());
  ASSERT_TRUE(saved.ok()) << saved;
  EXPECT_TRUE(Sandbox::Open(file.path(), Patient()).ok());
  Policy little = Patient();
  little.memory_limit = 32 << 20;
  const absl::Status larger = Sandbox::Open(file.path(), little).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(larger)) << larger;
  Policy few = Patient();
  few.open_files = 20;
  const absl::Status more = Sandbox::Open(file.path(), few).status();
  EXPECT_FALSE(more.ok()) << more;
}

// What host and plugin had in common is the plugin's own with one wall.
TEST_P(SnapshotTest, IsOpenedWithTheOtherNumberOfWalls) {
#ifdef DUNEBOX_NO_WORKERS
  GTEST_SKIP() << "there is one wall";
#endif
  const TemporaryFile file;
  const Memory<char> text = Text("shared");
  ASSERT_TRUE(Call<void(const char*)>("keep", text).ok());
  ASSERT_TRUE(Call<void(const char*)>("point_to", text).ok());
  EXPECT_EQ(Value<int()>("next"), 1);
  Take();
  const absl::Status saved = sandbox->Save(file.path());
  ASSERT_TRUE(saved.ok()) << saved;
  Policy policy = Patient();
  policy.demand = IsInThisProcess() ? Demand::kTwoWalls : Demand::kOneWall;
  absl::StatusOr<std::unique_ptr<Sandbox>> opened = Sandbox::Open(file.path(), policy);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(std::ranges::count((*opened)->confinement(), "seccomp"), IsInThisProcess() ? 1 : 0);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(ValueIn<int()>(**opened, "next"), 2);
    EXPECT_EQ(Kept(**opened), "shared");
    EXPECT_EQ(ValueIn<int()>(**opened, "first_of_pointed_to"), 's');
    const Memory<char> fresh = *(*opened)->MakeString("fresh");
    ASSERT_TRUE((*(*opened)->Function<void(const char*)>("keep"))(fresh).ok());
    EXPECT_EQ(Kept(**opened), "fresh");
    ASSERT_TRUE((*opened)->Reset().ok());
  }
  const auto clone = CloneOf(**opened);
  EXPECT_EQ(ValueIn<int()>(*clone, "first_of_pointed_to"), 's');
}

TEST_P(SnapshotTest, DamagedFilesAreRefused) {
  const TemporaryFile file;
  Take();
  ASSERT_TRUE(sandbox->Save(file.path()).ok());
  const std::string good = file.Read();
  const auto opened = [&](const std::string& bytes) {
    file.Write(bytes);
    return Sandbox::Open(file.path(), Patient()).status();
  };
  EXPECT_TRUE(opened(good).ok());
  for (const std::size_t size : {std::size_t{0}, std::size_t{20}, std::size_t{48}, std::size_t{3000},
                                 good.size() - 1}) {
    const absl::Status refused = opened(good.substr(0, size));
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << size << ": " << refused;
  }
  std::string longer = good;
  longer.push_back('x');
  EXPECT_TRUE(absl::IsInvalidArgument(opened(longer)));
  // 8 to 15 are version and engine.
  for (const std::size_t at : {std::size_t{0}, std::size_t{17}, std::size_t{25}, std::size_t{33},
                               std::size_t{41}, std::size_t{60}, std::size_t{2000},
                               good.size() / 2, good.size() - 1}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    const absl::Status refused = opened(bad);
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << at << ": " << refused;
  }
  std::string other = good;
  other[8] = 99;
  EXPECT_TRUE(absl::IsFailedPrecondition(opened(other)));
  other = good;
  other[12] = static_cast<char>(other[12] ^ 3);  // the other engine
  EXPECT_TRUE(absl::IsFailedPrecondition(opened(other)));
  EXPECT_FALSE(Sandbox::Open("/nowhere/at/all", Patient()).ok());
  EXPECT_FALSE(Sandbox::Open("/dev/null", Patient()).ok());
}

// What a file says that was made to harm.
class SavedGuests : public testing::Test {
 protected:
  SavedGuests() {
    guest.next_id = 3;
    guest.threads.push_back({.id = 2, .fs_base = 0x1000});
    guest.directory = std::string(1, '/');
    guest.memory.heap_start = guest.memory.heap_end = GuestVirt{0x10000};
    Map(0x10000, 0x12000, false);
    Map(0x20000, 0x22000, true);
    guest.contents.Add({GuestVirt{0x11000}, GuestVirt{0x12000}});
    guest.arena.free = {{0x20000, 64}};
    guest.arena.used = {{0x20040, 128}};
  }
  void Map(std::uint64_t start, std::uint64_t end, bool is_sealed) {
    guest.memory.map.Replace({.range = {GuestVirt{start}, GuestVirt{end}},
                              .protection = {.read = true, .write = true},
                              .sealed = is_sealed});
  }
  static bool IsAccepted(const plugin::SavedGuest& saved) {
    return plugin::DecodeGuest(EncodeGuest(saved), hostcalls::Window::Embedded(0)).ok();
  }
  plugin::SavedGuest guest;
};

TEST_F(SavedGuests, AreReadAgain) {
  const std::string bytes = EncodeGuest(guest);
  const auto again = plugin::DecodeGuest(bytes, hostcalls::Window::Embedded(0));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(EncodeGuest(*again), bytes);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(plugin::DecodeGuest(std::string_view(bytes).substr(0, size),
                                     hostcalls::Window::Embedded(0))
                     .ok());
  }
  std::string longer = bytes;
  longer.push_back('x');
  EXPECT_FALSE(plugin::DecodeGuest(longer, hostcalls::Window::Embedded(0)).ok());
}

TEST_F(SavedGuests, StayInTheirWindow) {
  const plugin::SavedGuest good = guest;
  EXPECT_TRUE(IsAccepted(guest));
  Map(0x1000, 0x2000, false);
  EXPECT_FALSE(IsAccepted(guest));
  guest = good;
  Map(0xffff'f000, 0x1'0000'1000, false);
  EXPECT_FALSE(IsAccepted(guest));
  guest = good;
  guest.contents.Add({GuestVirt{0x12000}, GuestVirt{0x13000}});
  EXPECT_FALSE(IsAccepted(guest));
  guest = good;
  guest.threads[0].fs_base = 0x1'0000'0000;
  EXPECT_FALSE(IsAccepted(guest));
  guest = good;
  guest.threads.clear();
  EXPECT_FALSE(IsAccepted(guest));
  guest = good;
  guest.threads.push_back({.id = 2});
  EXPECT_FALSE(IsAccepted(guest));
}

TEST_F(SavedGuests, GiveTheHostMemoryThatItCanUse) {
  const plugin::SavedGuest good = guest;
  guest.shared.used.insert({0x21000, 64});  // sealed, but not shared
  EXPECT_FALSE(IsAccepted(guest));
  guest = good;
  guest.memory.map.Replace({.range = {GuestVirt{0x40000}, GuestVirt{0x41000}},
                            .protection = {.read = true, .write = true},
                            .sharing = memory::Sharing::kShared,
                            .sealed = true});
  guest.shared.used.insert({0x40000, 64});
  EXPECT_TRUE(IsAccepted(guest));
  guest.arena.used.insert({0x40040, 64});
  EXPECT_FALSE(IsAccepted(guest));
  guest.arena = good.arena;
  guest.memory.map.Replace({.range = {GuestVirt{0x50000}, GuestVirt{0x51000}},
                            .protection = {.read = true, .write = true},
                            .sharing = memory::Sharing::kShared,
                            .sealed = true});
  EXPECT_FALSE(IsAccepted(guest));  // there is one
  guest = good;
  // Not sealed; not mapped; partly so; twice.
  for (const auto& piece :
       std::map<std::uint64_t, std::uint64_t>{{0x10000, 64}, {0x30000, 64}, {0x21fc0, 128},
                                              {0x20020, 64}, {0x20080, 64}, {0x20100, 0},
                                              {0x20140, 10}}) {
    guest = good;
    guest.arena.used.insert(piece);
    EXPECT_FALSE(IsAccepted(guest)) << std::hex << piece.first;
  }
  guest = good;
  guest.memory.map.SetProtection({GuestVirt{0x20000}, GuestVirt{0x22000}}, {.read = true});
  EXPECT_FALSE(IsAccepted(guest));
}

// KiB of what the process has to itself, page tables included. What is mapped many times counts once.
std::uint64_t OwnMemory() {
  std::uint64_t sum = 0;
  for (const char* file : {"/proc/self/smaps_rollup", "/proc/self/status"}) {
    std::ifstream status(file);
    for (std::string line; std::getline(status, line);) {
      for (const char* field : {"Pss_Anon:", "Pss_Shmem:", "SwapPss:", "VmPTE:"}) {
        if (absl::StartsWith(line, field)) sum += std::stoul(line.substr(strlen(field)));
      }
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

// Code that does not fit is made anew all the time: what clones begin with is soon not right any more.
TEST(ManyClones, WhoseCommonCodeIsThrownAwayLookUpAnew) {
  absl::StatusOr<std::unique_ptr<Sandbox>> original = Sandbox::Create({.code_cache = 128 << 10});
  ASSERT_TRUE(original.ok()) << original.status();
  ASSERT_TRUE((*original)->Load("/usr/lib/x86_64-linux-gnu/libpng16.so.16").ok());
  UseLibpng(**original);
  ASSERT_TRUE((*original)->Snapshot().ok());
  std::vector<std::unique_ptr<Sandbox>> clones;
  for (int i = 0; i < 12; ++i) {
    absl::StatusOr<std::unique_ptr<Sandbox>> clone = (*original)->Clone();
    ASSERT_TRUE(clone.ok()) << clone.status();
    clones.push_back(*std::move(clone));
    for (const auto& each : clones) UseLibpng(*each);
  }
  ASSERT_TRUE((*original)->Reset().ok());
  UseLibpng(**original);
}

TEST(ManyClones, OfLibpngTakeLittleMemory) {
  constexpr std::size_t kClones = 1000;
  [[maybe_unused]] constexpr std::uint64_t kMostIdleKib = 64, kMostUsedKib = 200;  // not under a sanitizer
  constexpr std::uint64_t kMostMappings = 60;
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
  EXPECT_LE(used, kClones * kMostUsedKib);
#endif
  printf("a clone: %lu KiB idle, %lu KiB after use, %lu mappings\n", idle / kClones, used / kClones,
         (Mappings() - mappings) / kClones);
}

}  // namespace
}  // namespace dunebox
