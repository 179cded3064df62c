// Calls into a plugin that means well: types, libraries of the distribution, the C library's own life.
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "tests/plugin/fixture.h"

namespace dunebox {
namespace {

class Calls : public PluginTest {
 protected:
  void SetUp() override { Make(); }
};

FOR_ONE_AND_TWO_WALLS(Calls);

TEST_P(Calls, PassNumbersOfAllKinds) {
  EXPECT_EQ(Value<int(int, int)>("add", 40, 2), 42);
  EXPECT_EQ(Value<int(int, int)>("add", -40, -2), -42);
  EXPECT_EQ(Value<double(double, int, float)>("scale", 1.5, 4, 0.25f), 6.25);
  EXPECT_EQ(Value<float(float)>("halve", 5.0f), 2.5f);
  EXPECT_EQ(Value<unsigned char(unsigned char)>("wrap", static_cast<unsigned char>(255)), 0);
}

TEST_P(Calls, PassMoreArgumentsThanThereAreRegisters) {
  EXPECT_EQ(Value<long(long, long, long, long, long, long, long, long)>("sum_many", 1, 1, 1, 1, 1, 1,
                                                                        10, 100),
            21 + 70 + 800);
  EXPECT_EQ(Value<double(long, double, long, double, double, double, double, double, double, double,
                         double, long)>("sum_mixed", 1, 1.0, 1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0,
                                        1),
            3 + 7 + 200 + 3000);
}

TEST_P(Calls, ReturnAndTakeStructures) {
  const Large made = Value<Large(long, long)>("make_large", 10, 5);
  EXPECT_EQ(made.values[0], 10);
  EXPECT_EQ(made.values[4], 30);
  auto shared = sandbox->Allocate<Large>(1);
  ASSERT_TRUE(shared.ok());
  shared->span()[0] = made;
  EXPECT_TRUE(Call<void(Large*)>("change_large", *shared).ok());
  EXPECT_EQ(shared->span()[0].values[4], -30);
}

TEST_P(Calls, PassAndReturnSmallStructuresInTheirRegisters) {
  const Point turned = Value<Point(Point)>("turn", Point{3, 4});
  EXPECT_EQ(turned.x, -4);
  EXPECT_EQ(turned.y, 3);
  const Color color = Value<Color(Color, float)>("darker", Color{{1, 2, 3}}, 0.5f);
  EXPECT_THAT(color.parts, testing::ElementsAre(0.5f, 1.0f, 1.5f));
  const Item item = Value<Item(Item, double)>("reprice", Item{6, 1.25f, 2.0}, 10.0);
  EXPECT_EQ(item.id, 7);
  EXPECT_EQ(item.weight, 2.5f);
  EXPECT_EQ(item.price, 8.0);
  const Range range =
      Value<Range(Range, unsigned)>("tail", Range{TaintedPtr<const char>(0x1000).as_field(), 10}, 3u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(range.start), 0x1003u);
  EXPECT_EQ(range.length, 7u);
}

TEST_P(Calls, PassStructuresOnTheStackWhereRegistersAreShort) {
  EXPECT_EQ((Value<double(Large, Point, Range, long, Item, Color, Point, Point, Point)>(
                "sum_structures", Large{{1, 2, 3, 4, 5}}, Point{1, 2}, Range{nullptr, 3}, 4l, Item{5, 6, 7},
                Color{{1, 2, 3}}, Point{1, 1}, Point{2, 2}, Point{3, 3})),
            15 + 3 + 7 + 18 + 6 + 2 + 40 + 600);
  // One integer register is left: not enough for the structure, but for what comes after it.
  EXPECT_EQ((Value<double(long, long, long, long, long, Range, long)>(
                "with_few_registers", 1l, 1l, 1l, 1l, 1l, Range{nullptr, 7}, 9l)),
            5 + 70 + 900);
}

TEST_P(Calls, PassStrings) {
  auto text = sandbox->MakeString("twelve bytes");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(Value<unsigned long(const char*)>("length", *text), 12u);
  const auto nothing = sandbox->MakeString({});
  ASSERT_TRUE(nothing.ok());
  EXPECT_EQ(Value<unsigned long(const char*)>("length", *nothing), 0u);
  const auto greeting = Call<const char*()>("greeting");
  ASSERT_TRUE(greeting.ok());
  const auto copied = sandbox->CopyString(*greeting, 100);
  ASSERT_TRUE(copied.ok());
  EXPECT_EQ(*copied, "good day");
  EXPECT_FALSE(sandbox->CopyString(*greeting, 5).ok());
}

TEST_P(Calls, ReachFunctionsByPointer) {
  const auto add = sandbox->Function<void*()>("nothing");
  ASSERT_TRUE(add.ok());
  const auto pointer = Call<void*(void*)>("identity", TaintedPtr<void>(0x1234));
  ASSERT_TRUE(pointer.ok());
  EXPECT_EQ(pointer->address(), 0x1234u);
}

TEST_P(Calls, ThatAreUnknownAreRefused) {
  EXPECT_EQ(sandbox->Function<int()>("no_such_function").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(sandbox->Load("/usr/lib/no_such_library.so").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(sandbox->Load("libz.so.1").code(), absl::StatusCode::kInvalidArgument);
}

// With a C library of its own, or with that of others.
TEST_P(Calls, ThatAreInAProgramBesideALibraryAreRefused) {
  for (const char* const program : {"/usr/sbin/ldconfig", "/usr/bin/true"}) {
    const absl::Status status = sandbox->Load(program);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  }
  EXPECT_EQ((Value<int(int, int)>("add", 40, 2)), 42);
}

TEST_P(Calls, FindAnOrdinaryProcess) {
  EXPECT_EQ(Value<int()>("was_constructed"), 42);
  EXPECT_EQ(Value<int()>("next_of_thread"), 1);
  EXPECT_EQ(Value<int()>("next_of_thread"), 2);
  EXPECT_EQ(Value<int(int)>("throw_and_catch", 17), 17);
  EXPECT_NEAR(static_cast<double>(Value<long()>("seconds")), static_cast<double>(time(nullptr)), 60);
  EXPECT_NE(Value<int()>("get_pid"), getpid());
  EXPECT_EQ(Value<int()>("handle_own_signals"), 11);
}

TEST_P(Calls, MayUseThreads) {
  EXPECT_EQ(Value<int(int)>("run_threads", 4), 4);
  EXPECT_EQ(Value<int()>("count"), 4000);
}

TEST_P(Calls, MayGrowWhatIsMapped) {
  const auto grown = Call<void*(unsigned long, unsigned long)>("grow", 1ul << 20, 24ul << 20);
  ASSERT_TRUE(grown.ok()) << grown.status();
  EXPECT_FALSE(grown->is_null());
}

TEST_P(Calls, HaveTheirOutputKept) {
  auto text = sandbox->MakeString("a line");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(Value<int(const char*)>("say", *text), 7);
  EXPECT_EQ(sandbox->TakeOutput(), "a line\n");
  EXPECT_EQ(sandbox->TakeOutput(), "");
}

TEST_P(Calls, CompressAndUncompressWithTheSystemsZlib) {
  ASSERT_TRUE(sandbox->Load("/usr/lib/x86_64-linux-gnu/libz.so.1").ok());
  constexpr unsigned long kSize = 300'000;
  auto from = sandbox->Allocate<unsigned char>(kSize);
  auto to = sandbox->Allocate<unsigned char>(kSize);
  auto back = sandbox->Allocate<unsigned char>(kSize);
  auto size = sandbox->Allocate<unsigned long>(2);
  ASSERT_TRUE(from.ok() && to.ok() && back.ok() && size.ok());
  for (unsigned long i = 0; i < kSize; ++i) from->span()[i] = static_cast<unsigned char>(i * i / 700);
  size->span()[0] = size->span()[1] = kSize;
  using Code = int(unsigned char*, unsigned long*, const unsigned char*, unsigned long);
  ASSERT_EQ(Value<Code>("compress", *to, *size, *from, kSize), 0);
  const unsigned long compressed = size->span()[0];
  ASSERT_LT(compressed, kSize);
  EXPECT_NE(memcmp(to->span().data(), from->span().data(), compressed), 0);
  ASSERT_EQ(Value<Code>("uncompress", *back, size->guest() + 1, *to, compressed), 0);
  EXPECT_EQ(memcmp(back->span().data(), from->span().data(), kSize), 0);
}

TEST_P(Calls, SeeOnlyWhatThePolicyNames) {
  auto secret = sandbox->MakeString("/etc/passwd");
  auto fresh = sandbox->MakeString("/tmp/written-by-a-plugin");
  ASSERT_TRUE(secret.ok() && fresh.ok());
  EXPECT_EQ(Value<int(const char*)>("fail_to_open", *secret), EACCES);
  EXPECT_EQ(Value<int(const char*)>("fail_to_write", *fresh), EACCES);
  EXPECT_NE(access("/tmp/written-by-a-plugin", F_OK), 0);
  EXPECT_EQ(Value<int()>("socket_error"), EPERM);
  EXPECT_EQ(Value<int()>("fork_error"), EPERM);
  EXPECT_EQ(Value<int()>("execute_error"), EPERM);
  EXPECT_EQ(Value<int(int, int)>("signal_process", static_cast<int>(getppid()), 0), EPERM);
  EXPECT_THAT(sandbox->Denials(),
              testing::IsSupersetOf({"read /etc/passwd", "write /tmp/written-by-a-plugin",
                                     "call socket", "fork", "call execve"}));
}

// Whatever the policy names.
TEST_P(Calls, SeeNoProcessesOfTheHosts) {
  static constexpr char kSecret[] = "the host's";
  for (const FileAccess access : {FileAccess::kDirect, FileAccess::kBroker}) {
    if (access == FileAccess::kBroker && !HasBrokers()) continue;
    for (const char* const readable : {"/", "/proc"}) {
      SCOPED_TRACE(testing::Message() << readable << ' ' << static_cast<int>(access));
      Policy policy = Patient();
      policy.readable = {readable};
      policy.file_access = access;
      Make(policy);
      auto to = sandbox->Allocate<char>(64);
      ASSERT_TRUE(to.ok());
      const auto error = [&](const char* path) {
        auto text = sandbox->MakeString(path);
        return Value<int(const char*, unsigned long, char*, unsigned long)>(
            "read_file_at", *text, reinterpret_cast<unsigned long>(kSecret), *to, sizeof(kSecret));
      };
      for (const char* const path : {"/proc/self/mem", "/proc/self/maps", "/proc/thread-self/status", "/proc/1/environ",
                                     "/proc/cpuinfo", "/proc/self", "/proc"}) {
        // A worker's own process may have no number there.
        EXPECT_THAT(error(path), testing::AnyOf(EACCES, IsInThisProcess() ? EACCES : ENOENT)) << path;
      }
      EXPECT_EQ(to->span()[0], '\0');
      EXPECT_EQ(error("/etc/passwd"), readable == std::string("/") ? 0 : EACCES);
    }
  }
}

TEST_P(Calls, OpenNoMoreFilesThanThePolicySays) {
  auto path = sandbox->MakeString("/usr/lib/os-release");
  ASSERT_TRUE(path.ok());
  EXPECT_EQ(Value<int(const char*)>("open_as_often_as_it_goes", *path), 61);
  Policy policy = Patient();
  policy.open_files = 7;
  Make(policy);
  path = sandbox->MakeString("/usr/lib/os-release");
  EXPECT_EQ(Value<int(const char*)>("open_as_often_as_it_goes", *path), 4);
  for (const unsigned count : {2u, 257u}) {
    EXPECT_EQ(Sandbox::Create({.open_files = count}).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

struct Gap {
  char first;
  int second;
  long third;
};

// What happens to lie between the fields is the host's.
TEST_P(Calls, PassNothingBetweenTheFieldsOfStructures) {
  Gap gap;
  std::memset(&gap, 0x5a, sizeof(gap));
  gap.first = 1, gap.second = 2, gap.third = 3;
  EXPECT_EQ(Value<unsigned long(Gap)>("first_word", gap), 0x2'0000'0001ul);
}

TEST_P(Calls, SeeNoDescriptorOfTheHosts) {
  const int secret = open("/etc/passwd", O_RDONLY);
  ASSERT_GE(secret, 0);
  for (int fd = 3; fd < 64; ++fd) {
    EXPECT_EQ(Value<int(int)>("descriptor_error", fd), EBADF) << fd;
  }
  close(secret);
}

TEST_P(Calls, ThatAreDeniedMayEndTheSandbox) {
  Policy policy = Patient();
  policy.on_denied = OnDenied::kEndSandbox;
  Make(policy);
  const Failure failure = FailureIn(Call<int()>("socket_error").status());
  EXPECT_EQ(failure.kind, Failure::Kind::kDenied);
  EXPECT_EQ(failure.call, "socket");
}

TEST_P(Calls, RunOutOfMemoryByThemselves) {
  Policy policy = Patient();
  policy.memory_limit = 32 << 20;
  Make(policy);
  const auto little = Call<void*(unsigned long)>("allocate", 1ul << 20);
  const auto much = Call<void*(unsigned long)>("allocate", 64ul << 20);
  ASSERT_TRUE(little.ok() && much.ok());
  EXPECT_FALSE(little->is_null());
  EXPECT_TRUE(much->is_null());
}

TEST_P(Calls, ThatFailForLackOfMemorySayWhatIsKnownOfIt) {
  Policy policy = Patient();
  policy.memory_limit = 32 << 20;
  Make(policy);
  const absl::Status status = Call<void(unsigned long)>("allocate_or_abort", 64ul << 20);
  const Failure failure = FailureIn(status);
  EXPECT_EQ(failure.signal, SIGABRT);
  EXPECT_TRUE(failure.reached_memory_limit);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("memory_limit"));
  EXPECT_TRUE(sandbox->failure().value_or(Failure{}).reached_memory_limit);
  // What an earlier call was refused is another matter.
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_TRUE(Call<void*(unsigned long)>("allocate", 64ul << 20)->is_null());
  EXPECT_FALSE(FailureIn(Call<void()>("abort")).reached_memory_limit);
}

TEST_P(Calls, ShareTheirMemoryLimitWithWhatTheHostAllocatesFirst) {
  Policy policy = Patient();
  policy.memory_limit = 32 << 20;
  if (IsUnderKvm()) policy.engine = Engine::kKvm;
  absl::StatusOr<std::unique_ptr<Sandbox>> made = Sandbox::Create(policy);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_TRUE(absl::IsResourceExhausted((*made)->Allocate<char>(64 << 20).status()));
  const auto memory = (*made)->Allocate<char>(20 << 20);
  ASSERT_TRUE(memory.ok()) << memory.status();
  ASSERT_TRUE((*made)->Load(Plugin()).ok());
  auto allocate = (*made)->Function<void*(unsigned long)>("allocate");
  ASSERT_TRUE(allocate.ok());
  // With two walls it is another process's, and counted apart.
  EXPECT_EQ((*allocate)(16ul << 20)->is_null(), IsInThisProcess());
  EXPECT_FALSE((*allocate)(4ul << 20)->is_null());
}

TEST_P(Calls, HaveNamesWithoutNuls) {
  using namespace std::string_literals;
  EXPECT_TRUE(absl::IsNotFound(sandbox->Function<int(int, int)>("add\0x"s).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(sandbox->Load(Plugin() + "\0x"s)));
}

TEST(Policies, ThatCannotBeHadAreRefused) {
  EXPECT_EQ(Sandbox::Create({.host_threads = 0}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Sandbox::Create({.memory_limit = 0}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace dunebox
