// What a library does besides what is called: its destructors, libraries that it loads itself, its stderr; and many
// sandboxes one after the other, each of which begins anew.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/plugin/fixture.h"

namespace dunebox {
namespace {

class Lifetimes : public PluginTest {
 protected:
  void SetUp() override { Make(); }
  int Bring(const std::string& path, const std::string& name) {
    const auto file = sandbox->MakeString(path), function = sandbox->MakeString(name);
    if (!file.ok() || !function.ok()) return -1;
    return Value<int(const char*, const char*)>("bring", *file, *function);
  }
};
FOR_ONE_AND_TWO_WALLS(Lifetimes);

constexpr char kZlib[] = "/usr/lib/x86_64-linux-gnu/libz.so.1";

TEST_P(Lifetimes, DestructorsRunWhereThePluginLeavesByExit) {
  const Failure left = FailureIn(Call<void(int)>("leave_after_all", 3));
  EXPECT_EQ(left.kind, Failure::Kind::kExited);
  EXPECT_EQ(left.exit_status, 3);
  const std::string output = sandbox->TakeOutput();
  EXPECT_THAT(output, testing::HasSubstr("a static object goes\n"));
  EXPECT_THAT(output, testing::HasSubstr("the library goes\n"));
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_EQ(FailureIn(Call<void(int)>("leave_at_once", 4)).exit_status, 4);
  EXPECT_EQ(sandbox->TakeOutput(), "");
}

// A sandbox that ends just goes: no code of the plugin's has the last word.
TEST_P(Lifetimes, DestructorsDoNotRunWithTheSandboxesEnd) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  Policy policy = Patient();
  policy.stdout_to = ends[1];
  Make(policy);
  EXPECT_EQ(Bring(kZlib, "zlibVersion"), 0);
  sandbox.reset();
  close(ends[1]);
  std::string text(4096, '\0');
  const ssize_t size = read(ends[0], text.data(), text.size());
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("goes")));
  close(ends[0]);
}

TEST_P(Lifetimes, LibrariesThatThePolicyNamesCanBeBrought) {
  EXPECT_EQ(Bring(kZlib, "zlibVersion"), 0);
  EXPECT_THAT(sandbox->TakeOutput(), testing::StartsWith("1."));
  EXPECT_TRUE(sandbox->Denials().empty());
}

TEST_P(Lifetimes, OtherLibrariesCannot) {
  const std::string copy = testing::TempDir() + "dunebox-other-library-" + std::to_string(getpid());
  std::filesystem::copy_file(kZlib, copy, std::filesystem::copy_options::overwrite_existing);
  auto why_not = sandbox->Function<const char*()>("why_not");  // looked up before, which has errors of its own
  ASSERT_TRUE(why_not.ok());
  EXPECT_EQ(Bring(copy, "zlibVersion"), 1);
  const auto why = (*why_not)();
  ASSERT_TRUE(why.ok());
  const auto text = sandbox->CopyString(*why, 1000);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, testing::HasSubstr(copy));
  EXPECT_THAT(sandbox->Denials(), testing::Contains(testing::HasSubstr(copy)));
  // To be read is not to be executed.
  Policy policy = Patient();
  policy.readable.push_back(copy);
  Make(policy);
  EXPECT_EQ(Bring(copy, "zlibVersion"), 1);
  policy.libraries.push_back(copy);
  Make(policy);
  EXPECT_EQ(Bring(copy, "zlibVersion"), 0);
  std::filesystem::remove(copy);
}

TEST_P(Lifetimes, WhatIsWrittenToStderrIsKeptAndPassedOn) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  Policy policy = Patient();
  policy.stderr_to = ends[1];
  Make(policy);
  const auto text = sandbox->MakeString("it hurts");
  ASSERT_TRUE(text.ok());
  ASSERT_TRUE(Call<void(const char*)>("complain", *text).ok());
  EXPECT_EQ(sandbox->TakeOutput(), "it hurts\n");
  char passed[64];
  const ssize_t size = read(ends[0], passed, sizeof(passed));
  ASSERT_GT(size, 0);
  EXPECT_EQ(std::string(passed, static_cast<std::size_t>(size)), "it hurts\n");
  close(ends[0]);
  close(ends[1]);
}

std::ptrdiff_t EntriesOf(const char* directory) {
  return std::distance(std::filesystem::directory_iterator(directory), {});
}

std::ptrdiff_t Mappings() {
  std::ifstream file("/proc/self/maps");
  return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
}

TEST_P(Lifetimes, OfManyLeaveNothingBehind) {
  const int rounds = IsInThisProcess() ? 400 : 60;
  std::ptrdiff_t descriptors = 0, mappings = 0;
  for (int round = 0; round < rounds; ++round) {
    Make(Patient());
    ASSERT_EQ((Value<int(int, int)>("add", round, 2)), round + 2);
    if (round == rounds / 4) {
      descriptors = EntriesOf("/proc/self/fd");
      mappings = Mappings();
    }
  }
  EXPECT_EQ(EntriesOf("/proc/self/fd"), descriptors);
  EXPECT_LT(Mappings(), mappings + 20);
}

}  // namespace
}  // namespace dunebox
