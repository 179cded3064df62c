#include "runtime/loader/initial_stack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <random>
#include <set>

#include "tests/unit/traced_exec.h"

namespace dunebox::loader {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Strings = std::vector<std::string>;

constexpr GuestVirt kTop = {0x3fff'ffff'f000};
constexpr std::uint64_t kLimit = 2 << 20;

// Reads a stack as a program's start-up code does.
class StackReader {
 public:
  StackReader(std::span<const std::byte> bytes, std::uint64_t start) : bytes_(bytes), at_(start) {
    start_ = start;
    argc = Word();
    arguments = StringList();
    environment = StringList();
    auxv_address = at_;
    do {
      auxv.push_back({static_cast<AuxType>(Word()), 0});
      auxv.back().value = Word();
    } while (auxv.back().type != AuxType::kNull);
    tables_end = at_;
  }

  std::string String(std::uint64_t address) const {
    return reinterpret_cast<const char*>(bytes_.data()) + (address - start_);
  }
  std::array<std::byte, 16> Random() const {
    std::array<std::byte, 16> random;
    std::memcpy(random.data(), bytes_.data() + (AuxValue(AuxType::kRandom) - start_), 16);
    return random;
  }
  std::uint64_t AuxValue(AuxType type) const {
    const auto found = std::ranges::find(auxv, type, &AuxEntry::type);
    return found == auxv.end() ? 0 : found->value;
  }

  std::uint64_t argc;
  Strings arguments;
  Strings environment;
  std::vector<AuxEntry> auxv;
  std::uint64_t first_string = 0;
  std::uint64_t auxv_address;
  std::uint64_t tables_end;

 private:
  std::uint64_t Word() {
    std::uint64_t word;
    std::memcpy(&word, bytes_.data() + (at_ - start_), sizeof(word));
    at_ += sizeof(word);
    return word;
  }
  Strings StringList() {
    Strings strings;
    while (const std::uint64_t address = Word()) {
      if (first_string == 0) first_string = address;
      strings.push_back(String(address));
    }
    return strings;
  }

  std::span<const std::byte> bytes_;
  std::uint64_t start_;
  std::uint64_t at_;
};

struct Inputs {
  Strings arguments = {"prog", "-x", ""};
  Strings environment = {"HOME=/root", "EMPTY="};
  std::string name = "/usr/bin/prog";
  std::vector<AuxEntry> auxv = {{AuxType::kPageSize, 4096},
                                {AuxType::kRandom},
                                {AuxType::kExecutableName},
                                {AuxType::kPlatform},
                                {AuxType::kEntry, 0x40'1000}};
  std::array<std::byte, 16> random = {};

  absl::StatusOr<InitialStack> Build(GuestVirt top = kTop, std::uint64_t limit = kLimit) const {
    return BuildInitialStack({arguments, environment, name, auxv, random}, top, limit);
  }
};

TEST(InitialStack, IsWhatStartUpCodeExpects) {
  Inputs inputs;
  for (std::size_t index = 0; index < 16; ++index) inputs.random[index] = std::byte(index + 1);
  const auto stack = inputs.Build();
  ASSERT_TRUE(stack.ok()) << stack.status();
  const StackReader reader(stack->bytes, stack->stack_pointer.value);
  EXPECT_EQ(reader.argc, 3);
  EXPECT_EQ(reader.arguments, inputs.arguments);
  EXPECT_EQ(reader.environment, inputs.environment);
  EXPECT_EQ(reader.AuxValue(AuxType::kPageSize), 4096);
  EXPECT_EQ(reader.AuxValue(AuxType::kEntry), 0x40'1000);
  EXPECT_EQ(reader.Random(), inputs.random);
  EXPECT_EQ(reader.String(reader.AuxValue(AuxType::kPlatform)), "x86_64");
  EXPECT_EQ(reader.String(reader.AuxValue(AuxType::kExecutableName)), inputs.name);
}

TEST(InitialStack, SaysWhereItsPartsAre) {
  const Inputs inputs;
  const auto stack = inputs.Build();
  const StackReader reader(stack->bytes, stack->stack_pointer.value);
  EXPECT_EQ(stack->stack_pointer + stack->bytes.size(), kTop);
  EXPECT_EQ(stack->stack_pointer.value % 16, 0);
  EXPECT_EQ(stack->auxv.value, reader.auxv_address);
  EXPECT_EQ(stack->auxv_size, reader.tables_end - reader.auxv_address);
  EXPECT_EQ(stack->arg_start.value, reader.first_string);
  EXPECT_EQ(stack->arg_end - stack->arg_start, 4 + 1 + 2 + 1 + 1);
  EXPECT_EQ(stack->env_start, stack->arg_end);
  EXPECT_EQ(stack->env_end - stack->env_start, 10 + 1 + 6 + 1);
  EXPECT_EQ(stack->executable_name, stack->env_end);
  EXPECT_EQ(stack->executable_name.value, reader.AuxValue(AuxType::kExecutableName));
  EXPECT_EQ(stack->random.value, reader.AuxValue(AuxType::kRandom));
  EXPECT_EQ(stack->platform.value, reader.AuxValue(AuxType::kPlatform));
  EXPECT_LE(reader.tables_end, stack->random.value);
}

TEST(InitialStack, AddsAnEmptyArgumentWhenThereIsNone) {
  Inputs inputs;
  inputs.arguments.clear();
  inputs.environment.clear();
  const auto stack = inputs.Build();
  const StackReader reader(stack->bytes, stack->stack_pointer.value);
  EXPECT_THAT(reader.arguments, ElementsAre(""));
  EXPECT_THAT(reader.environment, IsEmpty());
}

TEST(InitialStack, SurvivesARoundTripWithAnyContents) {
  std::mt19937 random(16);
  const auto strings = [&random] {
    Strings result(random() % 20);
    for (std::string& text : result)
      text.assign(random() % 50, static_cast<char>('a' + random() % 26));
    return result;
  };
  for (int round = 0; round < 2000; ++round) {
    Inputs inputs{.arguments = strings(), .environment = strings()};
    inputs.arguments.push_back("at least one");
    inputs.name.assign(random() % 40, 'n');
    inputs.auxv.resize(random() % 6);
    for (std::byte& byte : inputs.random) byte = static_cast<std::byte>(random());
    const auto stack = inputs.Build({kTop.value - random() % 64});
    ASSERT_TRUE(stack.ok()) << stack.status();
    ASSERT_EQ(stack->stack_pointer.value % 16, 0);
    const StackReader reader(stack->bytes, stack->stack_pointer.value);
    ASSERT_EQ(reader.arguments, inputs.arguments);
    ASSERT_EQ(reader.environment, inputs.environment);
    ASSERT_EQ(reader.auxv.size(), inputs.auxv.size() + 1);
    if (inputs.auxv.size() > 1) {
      ASSERT_EQ(reader.Random(), inputs.random);
    }
  }
}

TEST(InitialStack, EveryProvidedAuxTypeHasOneName) {
  std::set<AuxType> types;
  std::set<std::string_view> names;
  for (const AuxName& entry : kAuxNames) {
    EXPECT_TRUE(types.insert(entry.type).second) << entry.name;
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
  }
}

// ---- E2BIG --------------------------------------------------------------------------------------

bool IsTooBig(const absl::StatusOr<InitialStack>& stack) {
  return stack.status().code() == absl::StatusCode::kResourceExhausted;
}

TEST(InitialStack, LimitIsAQuarterOfTheStackWithinBounds) {
  EXPECT_EQ(ArgumentLimit(8 << 20), 2 << 20);
  EXPECT_EQ(ArgumentLimit(0), 128 << 10);
  EXPECT_EQ(ArgumentLimit(~0ull), 6 << 20);
}

TEST(InitialStack, RefusesAStringOf128KiB) {
  Inputs inputs;
  inputs.arguments[1].assign(kMaxArgumentString - 1, 'x');
  EXPECT_TRUE(inputs.Build().ok());
  inputs.arguments[1] += 'x';
  EXPECT_TRUE(IsTooBig(inputs.Build()));
  EXPECT_EQ(inputs.Build().status().message(), "argument 1 has 131072 bytes, more than 131071");
  inputs.arguments[1].clear();
  inputs.environment[1].assign(kMaxArgumentString, 'x');
  EXPECT_TRUE(IsTooBig(inputs.Build()));
}

TEST(InitialStack, ChargesStringsPointersAndTheName) {
  const Inputs inputs;
  const std::uint64_t charge = 5 * 8 + (5 + 3 + 1) + (11 + 7) + 14;
  EXPECT_TRUE(inputs.Build(kTop, charge).ok());
  EXPECT_TRUE(IsTooBig(inputs.Build(kTop, charge - 1)));
}

TEST(InitialStack, RefusesAStackThatDoesNotFitBelowItsTop) {
  const Inputs inputs;
  EXPECT_TRUE(inputs.Build({0x1000}).ok());
  EXPECT_TRUE(IsTooBig(inputs.Build({0x80})));
}

// ---- The host kernel as oracle ------------------------------------------------------------------

constexpr const char* kProgram = "/bin/true";

TEST(InitialStack, LooksLikeTheHostKernels) {
  Inputs inputs{.arguments = {"true", "", "two words"}, .environment = {"A=1", "B=22", "C"}};
  inputs.name = kProgram;
  const TracedExec exec(kProgram, inputs.arguments, inputs.environment);
  if (exec.error() != 0) GTEST_SKIP() << "cannot trace " << kProgram;
  const std::uint64_t start = exec.stack_pointer();
  const std::vector<std::byte> kernel = exec.ReadMemory(start, 1 << 20);
  const StackReader theirs(kernel, start);

  inputs.auxv = theirs.auxv;
  inputs.auxv.pop_back();
  inputs.random = theirs.Random();
  const auto stack = inputs.Build({start + kernel.size()});
  ASSERT_TRUE(stack.ok()) << stack.status();
  const StackReader ours(stack->bytes, stack->stack_pointer.value);

  EXPECT_EQ(ours.arguments, theirs.arguments);
  EXPECT_EQ(ours.environment, theirs.environment);
  EXPECT_EQ(ours.Random(), theirs.Random());
  EXPECT_EQ(ours.String(ours.AuxValue(AuxType::kPlatform)),
            theirs.String(theirs.AuxValue(AuxType::kPlatform)));
  // Random padding apart, the strings end up at the very same addresses.
  EXPECT_EQ(stack->arg_start.value, theirs.first_string);
  EXPECT_EQ(stack->executable_name.value, theirs.AuxValue(AuxType::kExecutableName));
  const std::size_t tail = start + kernel.size() - theirs.first_string;
  EXPECT_TRUE(std::ranges::equal(std::span(stack->bytes).last(tail), std::span(kernel).last(tail)));
}

// 130,000 bytes a string, and one that makes up the rest.
Inputs WithEnvironmentOf(std::uint64_t bytes) {
  Inputs inputs{.arguments = {"true"}, .environment = {}};
  inputs.name = kProgram;
  for (; bytes > 130'000; bytes -= 130'000) inputs.environment.emplace_back(130'000 - 1, 'x');
  inputs.environment.emplace_back(bytes - 1, 'y');
  return inputs;
}

TEST(InitialStack, RefusesExactlyWhatTheHostKernelRefuses) {
  rlimit limit = {};
  getrlimit(RLIMIT_STACK, &limit);
  const std::uint64_t argument_limit = ArgumentLimit(limit.rlim_cur);
  std::uint64_t accepted = 1;
  std::uint64_t refused = argument_limit + 1;
  while (refused - accepted > 1) {
    const std::uint64_t middle = accepted + (refused - accepted) / 2;
    const Inputs inputs = WithEnvironmentOf(middle);
    (inputs.Build(kTop, argument_limit).ok() ? accepted : refused) = middle;
  }
  const auto kernel_error = [](const Inputs& inputs) {
    return TracedExec(kProgram, inputs.arguments, inputs.environment).error();
  };
  const int error = kernel_error(WithEnvironmentOf(accepted));
  if (error == TracedExec::kNotTraceable) GTEST_SKIP() << "cannot trace " << kProgram;
  EXPECT_EQ(error, 0);
  EXPECT_EQ(kernel_error(WithEnvironmentOf(refused)), E2BIG);
}

}  // namespace
}  // namespace dunebox::loader
