// Static programs as plugins: their own start, their functions, their threads, their snapshots; and what is no
// program that can be loaded.
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "tests/plugin/fixture.h"

namespace dunebox {
namespace {

using Kind = Failure::Kind;

struct Program {
  const char* name;
  const char* path;
};
constexpr Program kPrograms[] = {
    {"Fixed", PROGRAM_FIXED},
    {"PositionIndependent", PROGRAM_PIE},
    {"SmallCode", PROGRAM_SMALL},
#ifdef PROGRAM_MUSL
    {"Musl", PROGRAM_MUSL},
#endif
};

class ProgramTest : public testing::TestWithParam<std::tuple<Demand, Program>> {
 protected:
  static Demand Walls() { return std::get<0>(GetParam()); }
  static std::string Path() { return std::get<1>(GetParam()).path; }
  static Policy Patient() {
    Policy policy{.demand = Walls(), .deadline = absl::Minutes(2)};
    const char* const engine = getenv("DUNEBOX_TEST_ENGINE");
    if (engine != nullptr && std::string(engine) == "kvm") policy.engine = Engine::kKvm;
    return policy;
  }
  void Create(Policy policy = Patient()) {
    absl::StatusOr<std::unique_ptr<Sandbox>> made = Sandbox::Create(std::move(policy));
    ASSERT_TRUE(made.ok()) << made.status();
    sandbox = *std::move(made);
  }
  void Make(Policy policy = Patient()) {
    Create(std::move(policy));
    const absl::Status loaded = sandbox->Load(Path());
    ASSERT_TRUE(loaded.ok()) << loaded;
  }

  template <typename Signature, typename... Arguments>
  static auto CallIn(Sandbox& where, const std::string& name, Arguments&&... arguments) {
    auto function = where.Function<Signature>(name);
    using Result = decltype((*function)(std::forward<Arguments>(arguments)...));
    if (!function.ok()) return Result(function.status());
    return (*function)(std::forward<Arguments>(arguments)...);
  }
  template <typename Signature, typename... Arguments>
  static auto ValueIn(Sandbox& where, const std::string& name, Arguments&&... arguments) {
    auto result = CallIn<Signature>(where, name, std::forward<Arguments>(arguments)...);
    EXPECT_TRUE(result.ok()) << name << ": " << result.status();
    using T = decltype(result->UnverifiedValue());
    return result.ok() ? result->UnverifiedValue() : T{};
  }
  template <typename Signature, typename... Arguments>
  auto Value(const std::string& name, Arguments&&... arguments) {
    return ValueIn<Signature>(*sandbox, name, std::forward<Arguments>(arguments)...);
  }
  template <typename Signature, typename... Arguments>
  auto Call(const std::string& name, Arguments&&... arguments) {
    return CallIn<Signature>(*sandbox, name, std::forward<Arguments>(arguments)...);
  }
  std::string Text(absl::StatusOr<TaintedPtr<const char>> text) {
    if (!text.ok()) return std::string(text.status().message());
    auto copied = sandbox->CopyString(*text, 1000);
    return copied.ok() ? *copied : std::string(copied.status().message());
  }
  Memory<char> String(const std::string& text) { return *sandbox->MakeString(text); }

  std::unique_ptr<Sandbox> sandbox;
};

INSTANTIATE_TEST_SUITE_P(
    , ProgramTest, testing::Combine(kAllDemands, testing::ValuesIn(kPrograms)), [](const auto& test) {
      return std::string(std::get<0>(test.param) == Demand::kOneWall ? "OneWall" : "TwoWalls") +
             std::get<1>(test.param).name;
    });

TEST_P(ProgramTest, HasStartedAsFarAsItsMain) {
  Make();
  EXPECT_EQ(Value<int()>("was_constructed"), 42);
  EXPECT_EQ(Value<int()>("was_main_called"), 0);
  EXPECT_EQ(Text(Call<const char*()>("own_name")), Path());
  EXPECT_EQ(Value<int()>("own_id"), 1);
  // It is a function like others, and as it was linked.
  EXPECT_EQ((Value<int(int, char**)>("main", 5, TaintedPtr<char*>(nullptr))), 15);
  EXPECT_EQ(Value<int()>("was_main_called"), 1);
}

TEST_P(ProgramTest, IsCalledAsALibraryIs) {
  Make();
  EXPECT_EQ((Value<int(int, int)>("add", 40, 2)), 42);
  EXPECT_EQ((Value<double(double, int)>("scale", 1.25, 4)), 5.0);
  EXPECT_EQ(Value<unsigned long(const char*)>("length", String("twelve bytes")), 12u);
  EXPECT_EQ(Text(Call<const char*(int)>("greeting", 7)), "good day 7");
  EXPECT_EQ(Value<int()>("next_of_thread"), 42);
  EXPECT_EQ(Value<int()>("next_of_thread"), 43);
  EXPECT_EQ(Value<int()>("handle_own_signals"), 1);
  const auto twice = *Call<char*(const char*)>("twice", String("ab"));
  EXPECT_EQ(*sandbox->CopyString(TaintedPtr<const char>(twice.address()), 10), "abab");
  EXPECT_EQ((Value<int(int, int)>("run_threads", 4, 100)), 400);
}

// Of its C library, too, some of which are chosen when it starts.
TEST_P(ProgramTest, HasFunctionsThatItsLibraryChooses) {
  Make();
  EXPECT_EQ(Value<unsigned long(const char*)>("strlen", String("seven b")), 7u);
  auto memory = *sandbox->Allocate<unsigned char>(100);
  EXPECT_TRUE((Call<void*(void*, int, unsigned long)>(
                   "memset", TaintedPtr<void>(memory.guest().address()), 7, 100ul)
                   .ok()));
  EXPECT_EQ(memory.span()[99], 7);
}

TEST_P(ProgramTest, CallsTheHostBack) {
  Create();
  // Given out before there was a program.
  const auto callback = *sandbox->Export<int(int)>([&](Tainted<int> value) {
    return (Value<int(int, int)>("add", value.UnverifiedValue(), 100));
  });
  ASSERT_TRUE(sandbox->Load(Path()).ok());
  EXPECT_EQ((Value<int(int (*)(int), int)>("call_back", callback, 4)), 105);
  const auto second = *sandbox->Export<int(int)>([](Tainted<int> value) { return -value.UnverifiedValue(); });
  EXPECT_EQ((Value<int(int (*)(int), int)>("call_back", second, 4)), -3);
}

// Which cannot be had here, and would be thrown away.
TEST_P(ProgramTest, BeginsWithoutTheCLibraryThatALibraryWouldHave) {
  Policy policy = Patient();
  policy.libraries.clear();
  Create(policy);
  const auto callback = *sandbox->Export<int(int)>([](Tainted<int> value) { return value.UnverifiedValue() * 2; });
  const absl::Status loaded = sandbox->Load(Path());
  ASSERT_TRUE(loaded.ok()) << loaded;
  EXPECT_EQ((Value<int(int (*)(int), int)>("call_back", callback, 4)), 9);
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_EQ((Value<int(int (*)(int), int)>("call_back", callback, 5)), 11);
  Create(policy);
  const absl::Status absent = sandbox->Function<void()>("malloc").status();
  EXPECT_TRUE(absl::IsUnavailable(absent)) << absent;
  EXPECT_FALSE(sandbox->Load(Path()).ok());
}

TEST_P(ProgramTest, HasMemoryOfTheHostsFromBefore) {
  Create();
  const Memory<char> text = *sandbox->MakeString("from before");
  ASSERT_TRUE(sandbox->Load(Path()).ok());
  EXPECT_EQ(Value<unsigned long(const char*)>("length", text), 11u);
}

// What was found before is found again, in what is there then.
TEST_P(ProgramTest, TakesThePlaceOfTheCLibraryThatWasThere) {
  Create();
  auto length = *sandbox->Function<unsigned long(const char*)>("strlen");
  EXPECT_EQ(length(String("four"))->UnverifiedValue(), 4u);
  ASSERT_TRUE(sandbox->Load(Path()).ok());
  EXPECT_EQ(length(String("fourty"))->UnverifiedValue(), 6u);
  EXPECT_TRUE(absl::IsNotFound(sandbox->Function<int(void*, const char*, int)>("regcomp").status()));
}

TEST_P(ProgramTest, KeepsToItsLimits) {
  Policy policy = Patient();
  policy.deadline = absl::Milliseconds(200);
  policy.memory_limit = 64 << 20;
  policy.environment = {"NAME=value"};
  Make(policy);
  EXPECT_EQ(Text(Call<const char*(const char*)>("variable", String("NAME"))), "value");
  EXPECT_EQ(Value<int(unsigned long)>("large_block", 8ul << 20), 0);
  EXPECT_EQ(Value<int(unsigned long)>("large_block", 80ul << 20), ENOMEM);
  EXPECT_EQ(FailureIn(Call<void()>("spin")).kind, Kind::kTimeout);
}

TEST_P(ProgramTest, FailsAsALibraryDoes) {
  Make();
  EXPECT_TRUE(Call<void(const char*)>("say", String("some words")).ok());
  EXPECT_EQ(sandbox->TakeOutput(), "some words\n");
  const Failure trap = FailureIn(Call<void()>("crash"));
  EXPECT_EQ(trap.signal, SIGSEGV);
  EXPECT_EQ(trap.fault_address, 8u);
  EXPECT_TRUE(absl::StrContains(trap.symbol, "crash")) << trap.symbol;
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_EQ(Value<int()>("was_constructed"), 42);
  const Failure exited = FailureIn(Call<void(int)>("leave", 7));
  EXPECT_EQ(exited.kind, Kind::kExited);
  EXPECT_EQ(exited.exit_status, 7);
}

TEST_P(ProgramTest, IsCalledByManyThreadsOfTheHost) {
  Policy policy = Patient();
  policy.host_threads = 3;
  Make(policy);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 100; ++n) EXPECT_GT(Value<int()>("next_of_thread"), 41);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(ProgramTest, ComesBackByASnapshotAndHasClones) {
  Policy policy = Patient();
  policy.host_threads = 2;
  Make(policy);
  EXPECT_EQ(Value<int()>("next_of_thread"), 42);
  const absl::Status taken = sandbox->Snapshot();
  ASSERT_TRUE(taken.ok()) << taken;
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(Value<int()>("next_of_thread"), 43);
    EXPECT_FALSE(Call<void()>("crash").ok());
    const absl::Status reset = sandbox->Reset();
    ASSERT_TRUE(reset.ok()) << reset;
  }
  const auto clone = sandbox->Clone();
  ASSERT_TRUE(clone.ok()) << clone.status();
  EXPECT_EQ(ValueIn<int()>(**clone, "next_of_thread"), 43);
  EXPECT_EQ((ValueIn<int(int, int)>(**clone, "run_threads", 2, 10)), 20);
  EXPECT_EQ(Value<int()>("next_of_thread"), 43);
  const std::string file = testing::TempDir() + "dunebox-program-saved-" + std::to_string(getpid());
  const absl::Status saved = sandbox->Save(file);
  ASSERT_TRUE(saved.ok()) << saved;
  const auto opened = Sandbox::Open(file, policy);
  std::filesystem::remove(file);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(ValueIn<int()>(**opened, "next_of_thread"), 43);
  EXPECT_EQ(ValueIn<int()>(**opened, "was_constructed"), 42);
  EXPECT_TRUE(absl::IsFailedPrecondition((*opened)->Load(Path())));
}

// To what there was before it, threads included.
TEST_P(ProgramTest, GoesWithASnapshotFromBefore) {
  Policy policy = Patient();
  policy.host_threads = 2;
  Create(policy);
  ASSERT_TRUE(sandbox->Snapshot().ok());
  for (int round = 0; round < 2; ++round) {
    const absl::Status loaded = sandbox->Load(Path());
    ASSERT_TRUE(loaded.ok()) << loaded;
    EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
    if (round == 1) {
      EXPECT_FALSE(Call<void()>("crash").ok());
    }
    const absl::Status reset = sandbox->Reset();
    ASSERT_TRUE(reset.ok()) << reset;
    EXPECT_EQ(Value<unsigned long(const char*)>("strlen", String("seven b")), 7u);
    EXPECT_TRUE(absl::IsNotFound(sandbox->Function<int(int, int)>("add").status()));
  }
  ASSERT_TRUE(sandbox->Load("/usr/lib/x86_64-linux-gnu/libz.so.1").ok());
}

TEST_P(ProgramTest, IsAlone) {
  Make();
  const absl::Status second = sandbox->Load(Path());
  EXPECT_TRUE(absl::IsFailedPrecondition(second)) << second;
  const absl::Status library = sandbox->Load("/usr/lib/x86_64-linux-gnu/libz.so.1");
  EXPECT_TRUE(absl::IsFailedPrecondition(library)) << library;
  EXPECT_EQ((Value<int(int, int)>("add", 40, 2)), 42);
  Create();
  ASSERT_TRUE(sandbox->Load("/usr/lib/x86_64-linux-gnu/libz.so.1").ok());
  const absl::Status beside = sandbox->Load(Path());
  EXPECT_TRUE(absl::IsFailedPrecondition(beside)) << beside;
  EXPECT_TRUE(absl::StrContains(beside.message(), "library")) << beside;
  EXPECT_TRUE(sandbox->Function<const char*()>("zlibVersion").ok());
}

TEST_P(ProgramTest, IsNotLoadedFromWithinACall) {
  Create();
  absl::Status within = absl::OkStatus();
  const auto callback = *sandbox->Export<int(const void*, const void*)>([&](TaintedPtr<const void>, TaintedPtr<const void>) {
    within = sandbox->Load(Path());
    return 0;
  });
  auto numbers = *sandbox->Allocate<int>(2);
  auto sort = *sandbox->Function<void(int*, unsigned long, unsigned long, int (*)(const void*, const void*))>("qsort");
  ASSERT_TRUE(sort(numbers, 2ul, sizeof(int), callback).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(within)) << within;
  EXPECT_TRUE(sandbox->Load(Path()).ok());
}

TEST_P(ProgramTest, HasItsFileFromABroker) {
  if (Walls() == Demand::kTwoWalls) GTEST_SKIP() << "a worker opens its files itself";
  const std::string copy = testing::TempDir() + "dunebox-program-broker-" + std::to_string(getpid());
  std::filesystem::copy_file(Path(), copy, std::filesystem::copy_options::overwrite_existing);
  Policy policy = Patient();
  policy.file_access = FileAccess::kBroker;
#ifdef DUNEBOX_NO_WORKERS
  GTEST_SKIP() << "not with sanitizers";
#endif
  Create(policy);
  const absl::Status loaded = sandbox->Load(copy);
  std::filesystem::remove(copy);
  ASSERT_TRUE(loaded.ok()) << loaded;
  EXPECT_EQ((Value<int(int, int)>("add", 40, 2)), 42);
}

// ---- one of each kind ---------------------------------------------------------------------------

class ProgramKinds : public PluginTest {
 protected:
  absl::Status Load(const std::string& path, Policy policy = Patient()) {
    policy.demand = GetParam();
    if (IsUnderKvm()) policy.engine = Engine::kKvm;
    absl::StatusOr<std::unique_ptr<Sandbox>> made = Sandbox::Create(std::move(policy));
    if (!made.ok()) return made.status();
    sandbox = *std::move(made);
    return sandbox->Load(path);
  }
  void ExpectRefused(const std::string& path, const std::string& why) {
    const absl::Status status = Load(path);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), why)) << status;
    // Nothing was given up for it.
    EXPECT_FALSE(sandbox->failure().has_value());
    EXPECT_TRUE(sandbox->Load("/usr/lib/x86_64-linux-gnu/libz.so.1").ok());
  }
};
FOR_ONE_AND_TWO_WALLS(ProgramKinds);

void CompressIn(Sandbox& sandbox) {
  using Compress = int(unsigned char*, unsigned long*, const unsigned char*, unsigned long);
  constexpr unsigned long kSize = 100000;
  auto from = *sandbox.Allocate<unsigned char>(kSize), to = *sandbox.Allocate<unsigned char>(kSize);
  auto size = *sandbox.Allocate<unsigned long>(1);
  for (unsigned long i = 0; i < kSize; ++i) from.span()[i] = static_cast<unsigned char>(i % 251);
  const std::vector<unsigned char> before(from.span().begin(), from.span().end());
  size.span()[0] = kSize;
  auto compress = *sandbox.Function<Compress>("compress"), uncompress = *sandbox.Function<Compress>("uncompress");
  EXPECT_EQ(compress(to, size, from, kSize)->UnverifiedValue(), 0);
  const unsigned long packed = size.span()[0];
  EXPECT_LT(packed, kSize / 10);
  std::memset(from.span().data(), 0, kSize);
  size.span()[0] = kSize;
  EXPECT_EQ(uncompress(from, size, to, packed)->UnverifiedValue(), 0);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), from.span().begin()));
  auto version = (*sandbox.Function<const char*()>("zlibVersion"))();
  EXPECT_EQ(sandbox.CopyString(*version, 100)->substr(0, 2), "1.");
}

TEST_P(ProgramKinds, ADistributionsStaticLibrary) {
  const absl::Status loaded = Load(PROGRAM_ZLIB);
  ASSERT_TRUE(loaded.ok()) << loaded;
  CompressIn(*sandbox);
}

#ifdef PROGRAM_ZLIB_MUSL
TEST_P(ProgramKinds, ADistributionsStaticLibraryWithAnotherCLibrary) {
  const absl::Status loaded = Load(PROGRAM_ZLIB_MUSL);
  ASSERT_TRUE(loaded.ok()) << loaded;
  CompressIn(*sandbox);
}
#endif

TEST_P(ProgramKinds, WithoutACLibrary) {
  for (const char* const path : {PROGRAM_ALONE, PROGRAM_ALONE_MAIN}) {
    const absl::Status loaded = Load(path);
    ASSERT_TRUE(loaded.ok()) << loaded;
    EXPECT_EQ(Value<int()>("has_begun"), 1);
    EXPECT_EQ((Value<int(int, int)>("add", 40, 2)), 42);
    EXPECT_EQ(Value<int(int)>("only_here", 5), 5);
    EXPECT_TRUE(absl::IsNotFound(sandbox->Function<int(int)>("nowhere_at_all").status()));
  }
}

TEST_P(ProgramKinds, WithNamesInItsDynamicTableAlone) {
  const absl::Status loaded = Load(PROGRAM_EXPORTED);
  ASSERT_TRUE(loaded.ok()) << loaded;
  EXPECT_EQ(Value<int()>("has_begun"), 1);
}

TEST_P(ProgramKinds, ThatCannotBeCalledAreRefused) {
  ExpectRefused(PROGRAM_STRIPPED, "strip");
  ExpectRefused("/usr/bin/true", "-static");
  ExpectRefused("/usr/sbin/ldconfig", "strip");
}

TEST_P(ProgramKinds, WithoutThreadsAreForOneCallAtATime) {
  Policy policy = Patient();
  policy.host_threads = 2;
  const absl::Status status = Load(PROGRAM_SINGLE, policy);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "pthread_create")) << status;
  const absl::Status loaded = Load(PROGRAM_SINGLE);
  ASSERT_TRUE(loaded.ok()) << loaded;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 20; ++n) EXPECT_EQ((Value<int(int, int)>("add", n, 2)), n + 2);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(ProgramKinds, ThatNeedMoreMemoryThanThereIs) {
  Policy policy = Patient();
  policy.memory_limit = 16 << 20;
  const absl::Status status = Load(PROGRAM_LARGE, policy);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_TRUE(sandbox->failure().has_value());
  EXPECT_TRUE(sandbox->Reset().ok());
  EXPECT_EQ(Value<unsigned long(const char*)>("strlen", *sandbox->MakeString("abc")), 3u);
}

// Addresses that programs are linked for, and what is there.
TEST_P(ProgramKinds, HaveTheirAddressesWhereTheWindowHasThem) {
  const absl::Status high = Load(PROGRAM_HIGH);
  EXPECT_TRUE(high.ok()) << high;
  EXPECT_EQ((Value<int(int, int)>("add", 40, 2)), 42);
  ExpectRefused(PROGRAM_BEYOND, "outside the program's addresses");
  Policy policy = Patient();
  policy.memory_limit = 2ul << 30;
  ASSERT_TRUE(Load("/usr/lib/no_such_library.so", policy).code() == absl::StatusCode::kNotFound);
  auto taken = sandbox->Allocate<char>((1ul << 30) - 4096);
  ASSERT_TRUE(taken.ok()) << taken.status();
  const absl::Status status = sandbox->Load(PROGRAM_HIGH);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "taken")) << status;
  EXPECT_FALSE(sandbox->failure().has_value());
  EXPECT_TRUE(sandbox->Load(PROGRAM_ALONE).ok());
}

// ---- files that are not as they should be --------------------------------------------------------

// A program's file, to be bent.
class BentFile {
 public:
  explicit BentFile(const char* path)
      : path_(testing::TempDir() + "dunebox-bent-" + std::to_string(getpid())) {
    std::ifstream file(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
  }
  ~BentFile() { std::filesystem::remove(path_); }
  BentFile(const BentFile&) = delete;
  BentFile& operator=(const BentFile&) = delete;

  std::string& bytes() { return bytes_; }
  template <typename T>
  T& At(std::uint64_t offset) {
    return *reinterpret_cast<T*>(bytes_.data() + offset);
  }
  Elf64_Ehdr& header() { return At<Elf64_Ehdr>(0); }
  // Of those of a type the first.
  Elf64_Phdr& Segment(std::uint32_t type, unsigned number = 0) {
    for (unsigned i = 0;; ++i) {
      auto& segment = At<Elf64_Phdr>(header().e_phoff + i * sizeof(Elf64_Phdr));
      if (segment.p_type == type && number-- == 0) return segment;
    }
  }
  Elf64_Shdr& Section(unsigned index) {
    return At<Elf64_Shdr>(header().e_shoff + index * sizeof(Elf64_Shdr));
  }
  Elf64_Shdr& Symbols() {
    for (unsigned i = 0;; ++i) {
      if (Section(i).sh_type == SHT_SYMTAB) return Section(i);
    }
  }
  Elf64_Sym& Symbol(const std::string& name) {
    const Elf64_Shdr& table = Symbols();
    const std::uint64_t names = Section(table.sh_link).sh_offset;
    for (unsigned i = 0;; ++i) {
      auto& symbol = At<Elf64_Sym>(table.sh_offset + i * sizeof(Elf64_Sym));
      if (name == bytes_.data() + names + symbol.st_name) return symbol;
    }
  }
  const std::string& Written() {
    std::ofstream(path_, std::ios::binary) << bytes_;
    return path_;
  }

 private:
  const std::string path_;
  std::string bytes_;
};

class BentPrograms : public ProgramKinds {
 protected:
  void SetUp() override {
    Policy policy = Patient();
    policy.demand = GetParam();
    policy.load_deadline = absl::Seconds(2);
    if (IsUnderKvm()) policy.engine = Engine::kKvm;
    auto made = Sandbox::Create(policy);
    ASSERT_TRUE(made.ok()) << made.status();
    sandbox = *std::move(made);
  }
  // That it is refused before anything of the sandbox is given up: a sound one can be loaded.
  using Bend = void (*)(BentFile& file);
  void ExpectNotTaken(Bend bend, const char* what) {
    BentFile file(PROGRAM_ALONE_MAIN);
    bend(file);
    const absl::Status status = sandbox->Load(file.Written());
    EXPECT_FALSE(status.ok()) << what;
    EXPECT_FALSE(sandbox->failure().has_value()) << what << ": " << status;
  }
};
FOR_ONE_AND_TWO_WALLS(BentPrograms);

TEST_P(BentPrograms, AreRefusedBeforeAnythingChanges) {
  struct Row {
    const char* what;
    Bend bend;
  };
  constexpr std::uint64_t kHuge = ~std::uint64_t{0} - 100;
  const Row rows[] = {
      {"entry below", [](BentFile& f) { f.header().e_entry = 8; }},
      {"entry beyond", [](BentFile& f) { f.header().e_entry = kHuge; }},
      {"entry in data", [](BentFile& f) { f.header().e_entry = f.Segment(PT_LOAD, 2).p_vaddr; }},
      {"segments that overlap", [](BentFile& f) { f.Segment(PT_LOAD, 1).p_vaddr = f.Segment(PT_LOAD).p_vaddr; }},
      {"segment at nothing", [](BentFile& f) { f.Segment(PT_LOAD).p_vaddr = 0; }},
      {"segment beyond the window", [](BentFile& f) { f.Segment(PT_LOAD, 2).p_memsz = std::uint64_t{1} << 33; }},
      {"segment that wraps", [](BentFile& f) { f.Segment(PT_LOAD, 2).p_memsz = kHuge; }},
      {"segment beyond the file", [](BentFile& f) { f.Segment(PT_LOAD, 1).p_offset = 1 << 30; }},
      {"program headers beyond the file", [](BentFile& f) { f.header().e_phoff = kHuge; }},
      {"sections beyond the file", [](BentFile& f) { f.header().e_shoff = kHuge; }},
      {"sections of another size", [](BentFile& f) { f.header().e_shentsize = 1; }},
      {"no sections", [](BentFile& f) { f.header().e_shnum = 0; }},
      {"symbols beyond the file", [](BentFile& f) { f.Symbols().sh_offset = kHuge; }},
      {"symbols that end beyond it", [](BentFile& f) { f.Symbols().sh_size = 24 << 20; }},
      {"symbols without end", [](BentFile& f) { f.Symbols().sh_size = kHuge; }},
      {"symbols of a byte less", [](BentFile& f) { f.Symbols().sh_size -= 1; }},
      {"symbols of another size", [](BentFile& f) { f.Symbols().sh_entsize = 0; }},
      {"symbols without names", [](BentFile& f) { f.Symbols().sh_link = 0; }},
      {"symbols with names nowhere", [](BentFile& f) { f.Symbols().sh_link = 0xffff'ffff; }},
      {"names beyond the file", [](BentFile& f) { f.Section(f.Symbols().sh_link).sh_offset = kHuge; }},
      {"names without end", [](BentFile& f) { f.Section(f.Symbols().sh_link).sh_size = 3; }},
      {"a name outside of the names", [](BentFile& f) { f.Symbol("add").st_name = 0xffff'ffff; }},
  };
  for (const Row& row : rows) ExpectNotTaken(row.bend, row.what);
  const absl::Status loaded = sandbox->Load(PROGRAM_ALONE_MAIN);
  EXPECT_TRUE(loaded.ok()) << loaded;
  EXPECT_EQ((Value<int(int, int)>("add", 40, 2)), 42);
}

// What its symbols say is where it is called, and no more.
TEST_P(BentPrograms, HaveNoFunctionsOutsideOfThemselves) {
  BentFile file(PROGRAM_ALONE_MAIN);
  file.Symbol("add").st_value = 0x1'0000'0000;
  file.Symbol("has_begun").st_value = 0xffff'8000'0000'0000;
  file.Symbol("own_mode").st_value = file.Segment(PT_LOAD).p_vaddr;
  const absl::Status loaded = sandbox->Load(file.Written());
  ASSERT_TRUE(loaded.ok()) << loaded;
  EXPECT_TRUE(absl::IsNotFound(sandbox->Function<int(int, int)>("add").status()));
  EXPECT_TRUE(absl::IsNotFound(sandbox->Function<int()>("has_begun").status()));
  EXPECT_EQ(FailureIn(Call<long()>("own_mode").status()).kind, Failure::Kind::kTrap);
}

// Nobody could tell which is meant.
TEST_P(BentPrograms, HaveNoLocalFunctionsThatAreThereTwice) {
  BentFile file(PROGRAM_ALONE_MAIN);
  file.Symbol("spin").st_name = file.Symbol("only_here").st_name;
  const absl::Status loaded = sandbox->Load(file.Written());
  ASSERT_TRUE(loaded.ok()) << loaded;
  EXPECT_TRUE(absl::IsNotFound(sandbox->Function<int(int)>("only_here").status()));
  EXPECT_EQ((Value<int(int, int)>("add", 40, 2)), 42);
}

TEST_P(BentPrograms, WithMainElsewhereDoNotBecomeReady) {
  for (const std::uint64_t address : {std::uint64_t{0}, std::uint64_t{0x1'0000'0000}}) {
    BentFile file(PROGRAM_ALONE_MAIN);
    file.Symbol("main").st_value = address;
    const absl::Status status = sandbox->Load(file.Written());
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_TRUE(sandbox->failure().has_value());
    ASSERT_TRUE(sandbox->Reset().ok());
  }
}

// Its C library is what allocates it.
TEST_P(BentPrograms, WithHugeThreadStorageEndThemselves) {
  BentFile file(PROGRAM_FIXED);
  file.Segment(PT_TLS).p_memsz = std::uint64_t{1} << 40;
  const absl::Status status = sandbox->Load(file.Written());
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(sandbox->failure().has_value()) << status;
  EXPECT_TRUE(sandbox->Reset().ok());
}

TEST_P(BentPrograms, ThatAreCutOffOrBentAnywhereHarmNobody) {
  std::mt19937 random(20261122);
  for (int round = 0; round < 60; ++round) {
    BentFile file(PROGRAM_ALONE_MAIN);
    const std::uint64_t places[] = {random() % 400, file.header().e_shoff + random() % 512,
                                    file.Symbols().sh_offset + random() % file.Symbols().sh_size};
    if (round % 4 == 0) {
      file.bytes().resize(random() % file.bytes().size());
    } else {
      file.At<std::uint8_t>(places[round % 3] % file.bytes().size()) ^= static_cast<std::uint8_t>(1 + random() % 255);
    }
    // Loaded or not: what it is ends with it.
    (void)sandbox->Load(file.Written());
    const absl::Status reset = sandbox->Reset();
    if (!reset.ok()) SetUp();  // it is no file that could be loaded again
  }
  auto fresh = Load(PROGRAM_ALONE_MAIN);
  EXPECT_TRUE(fresh.ok()) << fresh;
}

// ---- what starts, or makes its threads, in a way of its own -------------------------------------

class WilfulPrograms : public ProgramKinds {
 protected:
  absl::Status Begin(const std::string& mode, unsigned host_threads = 1) {
    return Load(PROGRAM_ALONE, {.deadline = absl::Minutes(1),
                                .load_deadline = absl::Seconds(2),
                                .host_threads = host_threads,
                                .environment = {"MODE=" + mode}});
  }
  // The sandbox has ended, and can be used again.
  void ExpectOver(const absl::Status& status) {
    EXPECT_FALSE(status.ok());
    EXPECT_TRUE(sandbox->failure().has_value()) << status;
    EXPECT_FALSE(sandbox->Function<int()>("has_begun").ok());
    const absl::Status reset = sandbox->Reset();
    EXPECT_TRUE(reset.ok()) << reset;
    EXPECT_TRUE(sandbox->Load("/usr/lib/x86_64-linux-gnu/libz.so.1").ok());
  }
};
FOR_ONE_AND_TWO_WALLS(WilfulPrograms);

// Nothing of it can be looked up yet, and nobody waits for himself.
TEST_P(WilfulPrograms, ThatCallBackWhileTheyBegin) {
  Policy policy{
      .demand = GetParam(), .deadline = absl::Minutes(1), .host_threads = 2, .environment = {"MODE=b"}};
  if (IsUnderKvm()) policy.engine = Engine::kKvm;
  auto made = Sandbox::Create(std::move(policy));
  ASSERT_TRUE(made.ok()) << made.status();
  sandbox = *std::move(made);
  int called = 0;
  ASSERT_TRUE(sandbox->Export<int(int)>([&](Tainted<int>) {
                       EXPECT_TRUE(absl::IsFailedPrecondition(sandbox->Function<int()>("has_begun").status()));
                       EXPECT_TRUE(absl::IsFailedPrecondition(sandbox->Load(PROGRAM_ALONE_MAIN)));
                       return ++called;
                     })
                  .ok());
  const absl::Status loaded = sandbox->Load(PROGRAM_ALONE);
  ASSERT_TRUE(loaded.ok()) << loaded;
  EXPECT_EQ(called, 1);
  EXPECT_EQ(Value<int()>("has_begun"), 1);
}

TEST_P(WilfulPrograms, ThatDoNotBecomeReady) {
  for (const char* const mode : {"s", "x", "f"}) {
    const absl::Status status = Begin(mode);
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "gate")) << status;
    ExpectOver(status);
  }
}

TEST_P(WilfulPrograms, ThatMakeNoThreadsOrBadOnes) {
  for (const char* const mode : {"n", "e", "l", "p", "c"}) ExpectOver(Begin(mode, 2));
}

TEST_P(WilfulPrograms, ThatMakeMoreThreadsThanOne) {
  const absl::Status status = Begin("3", 2);
  // The others run by themselves: at a gate that is nobody's call, which ends the sandbox now or later.
  if (!status.ok()) return ExpectOver(status);
  while (Call<int(int, int)>("add", 40, 2).ok()) {
  }
  EXPECT_EQ(sandbox->failure()->kind, Kind::kMismatch);
}

}  // namespace
}  // namespace dunebox
