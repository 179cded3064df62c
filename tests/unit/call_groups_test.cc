#include "sandbox/policy/call_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>
#include <string>

#include "hostcalls/table/table.h"

namespace dunebox::policy {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Not;

std::vector<std::string> Words(std::string_view text) {
  std::istringstream stream{std::string(text)};
  return {std::istream_iterator<std::string>(stream), {}};
}

TEST(CallGroups, EveryCallOfTheTableIsInExactlyOneMainGroup) {
  std::map<std::string, int> count;
  for (const CallGroup& group : CallGroups()) {
    if (!group.is_main) continue;
    for (const std::string& call : Words(group.members)) ++count[call];
  }
  for (const hostcalls::Row& row : hostcalls::AllRows()) {
    EXPECT_EQ(count[row.name], 1) << row.name;
    EXPECT_NE(MainGroupOf(row.number), "") << row.name;
  }
  EXPECT_EQ(count.size(), hostcalls::AllRows().size());
  for (const auto& [call, times] : count) {
    EXPECT_NE(hostcalls::FindRow(std::string_view(call)), nullptr) << call;
  }
}

TEST(CallGroups, NamesAreThereOnceAndMembersHaveOneBlankBetween) {
  std::set<std::string_view> names;
  for (const CallGroup& group : CallGroups()) {
    EXPECT_TRUE(names.insert(group.name).second) << group.name;
    EXPECT_EQ(group.members.find("  "), std::string_view::npos) << group.name;
    EXPECT_FALSE(group.members.ends_with(' ')) << group.name;
    EXPECT_FALSE(group.meaning.empty()) << group.name;
  }
}

TEST(CallGroups, GroupsOfGroupsNameMainGroups) {
  for (const CallGroup& group : CallGroups()) {
    if (group.is_main) continue;
    for (const std::string& member : Words(group.members)) {
      const bool is_main = std::ranges::any_of(CallGroups(), [&](const CallGroup& other) {
        return other.is_main && other.name == member;
      });
      EXPECT_TRUE(is_main) << group.name << ": " << member;
    }
  }
}

TEST(CallGroups, ACallOrAGroupIsFoundByItsName) {
  EXPECT_THAT(*CallsNamed("ptrace"), ElementsAre(101));
  EXPECT_THAT(*CallsNamed("@namespace"), ElementsAre(272, 308));  // unshare, setns
  EXPECT_THAT(*CallsNamed("@privileged"), Contains(165));         // mount
  EXPECT_THAT(*CallsNamed("@network"), Not(Contains(165)));
  EXPECT_TRUE(std::ranges::is_sorted(*CallsNamed("@privileged")));
  EXPECT_EQ(CallsNamed("@nothing"), std::nullopt);
  EXPECT_EQ(CallsNamed("@"), std::nullopt);
  EXPECT_EQ(CallsNamed("namespace"), std::nullopt);
  EXPECT_EQ(CallsNamed(""), std::nullopt);
  EXPECT_EQ(MainGroupOf(101), "debug");
  EXPECT_EQ(MainGroupOf(511), "");
}

}  // namespace
}  // namespace dunebox::policy
