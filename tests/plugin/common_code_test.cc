// What one sandbox has had translated is not translated again for the next, wherever its libraries
// lie.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sandbox/plugin/host_files.h"
#include "sandbox/plugin/instance.h"

namespace dunebox {
namespace {

using plugin::Instance;

std::uint64_t Count(Instance& instance, std::string_view name) {
  for (const runtime::Counter& counter : instance.guest_engine().Counters()) {
    if (counter.name == name) return counter.value;
  }
  ADD_FAILURE() << "no counter " << name;
  return 0;
}

struct Loaded {
  std::unique_ptr<Instance> instance;
  std::uint64_t add = 0;
};

Loaded Load(const Policy& policy, std::uint64_t random) {
  auto instance = Instance::Create(policy, random, std::make_unique<plugin::HostFiles>(policy));
  if (!instance.ok() || !(*instance)->Load(PLUGIN_CASES).ok()) return {};
  const auto add = (*instance)->FindSymbol("add");
  internal::CallFrame frame;
  frame.AddInteger(40);
  frame.AddInteger(2);
  const auto sum = (*instance)->Call(add.value_or(0), frame);
  if (!sum.ok() || sum->integer != 42) return {};
  return {*std::move(instance), *add};
}

void ExpectCodeInCommon(const Policy& policy) {
  std::vector<Loaded> all;
  for (std::uint64_t random = 1; random <= 4; ++random) {
    all.push_back(Load(policy, random * 0x1234'5678'9abc'def1));
    ASSERT_NE(all.back().instance, nullptr);
  }
  EXPECT_NE(all[2].add, all[3].add);
  Instance& last = *all.back().instance;
  EXPECT_GT(Count(last, "blocks.taken"), Count(last, "blocks") / 2);
}

// A sandbox takes what it has had translated at another address, too, of which there is little.
void ExpectOwnCode(Instance& instance) {
  EXPECT_LT(Count(instance, "blocks.taken"), Count(instance, "blocks") / 8);
}

TEST(CommonCode, IsTranslatedForOneSandboxAndTakenByThoseAtOtherAddresses) {
  const Policy policy;
  ExpectCodeInCommon(policy);
}

TEST(CommonCode, IsAnotherWhereInstructionsAreCounted) {
  const Policy counted{.instruction_budget = std::uint64_t{1} << 40};
  ExpectCodeInCommon(counted);
  const Policy policy;
  const Loaded plain = Load(policy, 5);
  ASSERT_NE(plain.instance, nullptr);
  ExpectOwnCode(*plain.instance);
}

// A directory that `dunebox prepare` has made; gone at the end.
class PreparedDirectory {
 public:
  PreparedDirectory() {
    std::string pattern = testing::TempDir() + "/prepared_XXXXXX";
    path_ = mkdtemp(pattern.data());
    const std::string command = std::string(DUNEBOX) + " prepare --jit-isolation=seg --jit-prepared=" + path_ + " -- true";
    is_made_ = std::system(command.c_str()) == 0;
  }
  ~PreparedDirectory() { std::filesystem::remove_all(path_); }
  PreparedDirectory(const PreparedDirectory&) = delete;
  PreparedDirectory& operator=(const PreparedDirectory&) = delete;
  const std::string& path() const { return path_; }
  bool is_made() const { return is_made_; }

 private:
  std::string path_;
  bool is_made_ = false;
};

TEST(PreparedCode, IsTakenByTheFirstSandbox) {
  const PreparedDirectory prepared;
  ASSERT_TRUE(prepared.is_made());
  const Policy policy{.prepared_translations = prepared.path()};
  const Loaded first = Load(policy, 1);
  ASSERT_NE(first.instance, nullptr);
  EXPECT_GT(Count(*first.instance, "blocks.taken"), 500U);
  // Not where instructions are counted: that is other code.
  const Policy counted{.instruction_budget = std::uint64_t{1} << 40, .prepared_translations = prepared.path()};
  const Loaded other = Load(counted, 2);
  ASSERT_NE(other.instance, nullptr);
  ExpectOwnCode(*other.instance);
}

TEST(PreparedCode, ThatIsNamedAndCannotBeUsedIsAnError) {
  const Policy policy{.prepared_translations = "/nowhere"};
  const auto instance = Instance::Create(policy, 1, std::make_unique<plugin::HostFiles>(policy));
  EXPECT_EQ(instance.status().code(), absl::StatusCode::kFailedPrecondition) << instance.status();
  const Policy none{.prepared_translations = "none"};
  const Loaded loaded = Load(none, 3);
  ASSERT_NE(loaded.instance, nullptr);
}

TEST(CommonCode, IsNotKeptOfTheFirstSandbox) {
  const Policy policy;
  const Loaded first = Load(policy, 1), second = Load(policy, 2);
  ASSERT_TRUE(first.instance != nullptr && second.instance != nullptr);
  ExpectOwnCode(*second.instance);
}

}  // namespace
}  // namespace dunebox
