// What a policy's rules say about a path, and that they come through execve as they were.
#include "hostcalls/policy/rules.h"

#include <gtest/gtest.h>

#include <string>

#include "hostcalls/policy/cure.h"

namespace dunebox::hostcalls::policy {
namespace {

Rules Example() {
  Rules rules{.allow_all = false};
  rules.paths = {{.path = "/home/me/project", .rights = kAllRights, .origin = 2},
                 {.path = "/home/me/project/.git", .rights = kReadFile, .origin = 3},
                 {.path = "/usr", .rights = kReadOnly, .origin = 1},
                 {.path = "/usr/share/secret", .rights = kNoRights, .origin = 3}};
  rules.network = {.reach = Reach::kListed, .origin = 2, .unix_sockets = true};
  rules.network.outbound = {{.prefix = 96, .first_port = 443, .last_port = 443, .origin = 1}};
  rules.network.listen = {{.first_port = 8000, .last_port = 8080}};
  rules.calls = {{.number = 59, .action = CallAction::kError, .error = 13},
                 {.number = 59,
                  .conditions = {{.argument = 2, .comparison = Comparison::kLess, .value = 7}},
                  .origin = 3}};
  rules.most_output = 1 << 20;
  rules.origins = {"default", "--ro /usr", "--rw /home/me/project", "policy.toml:7"};
  return rules;
}

TEST(Rules, TheLongestPathByComponentsDecides) {
  const Rules rules = Example();
  EXPECT_EQ(rules.RightsOn("/usr").rights, kReadOnly);
  EXPECT_EQ(rules.RightsOn("/usr/lib/x").origin, 1);
  EXPECT_EQ(rules.RightsOn("/usr/share/secret/key").rights, kNoRights);
  EXPECT_EQ(rules.RightsOn("/usr/share/secret/key").origin, 3);
  EXPECT_EQ(rules.RightsOn("/usr/share/secretary").rights, kReadOnly);
  EXPECT_EQ(rules.RightsOn("/home/me/project/a").rights, kAllRights);
  EXPECT_EQ(rules.RightsOn("/home/me/project/.git/config").rights, kReadFile);
}

TEST(Rules, WithoutARuleThereAreNoRights) {
  const Rules rules = Example();
  for (const char* path : {"/", "/usrs", "/us", "/home/me", "/etc/shadow", "", "usr/lib",
                           "socket:[1234]", "(unreachable)/usr"}) {
    EXPECT_EQ(rules.RightsOn(path).rights, kNoRights) << path;
  }
}

TEST(Rules, ARuleOnTheRootIsForAllThatHasNone) {
  Rules rules = Example();
  rules.paths.insert(rules.paths.begin(), {.path = "/", .rights = kReadFile});
  EXPECT_EQ(rules.RightsOn("/").rights, kReadFile);
  EXPECT_EQ(rules.RightsOn("/etc").rights, kReadFile);
  EXPECT_EQ(rules.RightsOn("/usr/share/secret").rights, kNoRights);
}

TEST(Rules, OnlyWhatIsAboveATreeWithRightsLeadsToIt) {
  const Rules rules = Example();
  EXPECT_TRUE(rules.LeadsToRights("/"));
  EXPECT_TRUE(rules.LeadsToRights("/home"));
  EXPECT_TRUE(rules.LeadsToRights("/home/me"));
  EXPECT_FALSE(rules.LeadsToRights("/home/you"));
  EXPECT_FALSE(rules.LeadsToRights("/usr"));  // what lies below has no rights
  EXPECT_FALSE(rules.LeadsToRights("/hom"));
  EXPECT_FALSE(Rules{}.LeadsToRights("/"));
}

TEST(Rules, AnOriginThatIsNotThereIsTheDefault) {
  EXPECT_EQ(Example().OriginText(3), "policy.toml:7");
  EXPECT_EQ(Example().OriginText(4), "default");
  EXPECT_EQ(Rules{}.OriginText(0), "default");
}

TEST(Rules, ComeBackAsTheyWereWritten) {
  for (const Rules& rules : {Rules{}, Example()}) {
    const std::string bytes = Serialize(rules);
    const absl::StatusOr<Rules> parsed = ParseRules(bytes);
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(Serialize(*parsed), bytes);
    EXPECT_EQ(parsed->allow_all, rules.allow_all);
    EXPECT_EQ(parsed->origins, rules.origins);
  }
}

TEST(Rules, BytesThatAreTooFewOrTooManyAreRefused) {
  const std::string bytes = Serialize(Example());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(ParseRules(bytes.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(ParseRules(bytes + '\0').ok());
}

struct Damage {
  const char* what;
  void (*apply)(Rules&);
};
constexpr Damage kDamages[] = {
    {"relative path", [](Rules& r) { r.paths[0].path = "etc"; }},
    {"dots", [](Rules& r) { r.paths[0].path = "/a/../b"; }},
    {"one dot", [](Rules& r) { r.paths[0].path = "/a/."; }},
    {"slash at the end", [](Rules& r) { r.paths[0].path = "/a/"; }},
    {"two slashes", [](Rules& r) { r.paths[0].path = "/a//b"; }},
    {"NUL", [](Rules& r) { r.paths[0].path = std::string("/a\0b", 4); }},
    {"unsorted", [](Rules& r) { std::swap(r.paths[0], r.paths[1]); }},
    {"twice", [](Rules& r) { r.paths[1].path = r.paths[0].path; }},
    {"unknown right", [](Rules& r) { r.paths[0].rights = 16; }},
    {"origin of a path", [](Rules& r) { r.paths[0].origin = 4; }},
    {"origin of an endpoint", [](Rules& r) { r.network.outbound[0].origin = 4; }},
    {"origin of a call", [](Rules& r) { r.calls[0].origin = 4; }},
    {"prefix", [](Rules& r) { r.network.listen[0].prefix = 129; }},
    {"ports", [](Rules& r) { r.network.listen[0].first_port = 9000; }},
    {"reach", [](Rules& r) { r.network.reach = static_cast<Reach>(4); }},
    {"call number", [](Rules& r) { r.calls[1].number = 512; }},
    {"calls unsorted", [](Rules& r) { r.calls[0].number = 60; }},
    {"action", [](Rules& r) { r.calls[0].action = static_cast<CallAction>(3); }},
    {"error", [](Rules& r) { r.default_call_error = 0; }},
    {"argument", [](Rules& r) { r.calls[1].conditions[0].argument = 6; }},
    {"comparison",
     [](Rules& r) { r.calls[1].conditions[0].comparison = static_cast<Comparison>(7); }},
};

TEST(Rules, WhatNoPolicyCompilesToIsRefused) {
  for (const Damage& damage : kDamages) {
    Rules rules = Example();
    damage.apply(rules);
    EXPECT_FALSE(ParseRules(Serialize(rules)).ok()) << damage.what;
  }
}

TEST(Rules, ABoolIsNothingButZeroOrOne) {
  std::string bytes = Serialize(Rules{});
  bytes[8] = 2;  // allow_all, behind the magic number
  EXPECT_FALSE(ParseRules(bytes).ok());
}

TEST(Rules, OneOfAnObjectAloneSaysNothingOfWhatIsBelow) {
  Rules rules = Example();
  rules.paths.insert(rules.paths.begin(),
                     {{.path = "/", .rights = kReadFile, .itself_alone = true},
                      {.path = "/home", .rights = kReadFile, .itself_alone = true}});
  for (const Rules& same : {rules, *ParseRules(Serialize(rules))}) {
    EXPECT_EQ(same.RightsOn("/").rights, kReadFile);
    EXPECT_EQ(same.RightsOn("/home").rights, kReadFile);
    EXPECT_EQ(same.RightsOn("/home/me").rights, kNoRights);
    EXPECT_EQ(same.RightsOn("/etc/shadow").rights, kNoRights);
    EXPECT_EQ(same.RightsOn("/home/me/project/x").rights, kAllRights);
  }
}

TEST(Cure, IsTheNarrowestFlag) {
  EXPECT_EQ(CureFor(kReadFile, "/srv/data/a"), "--ro /srv/data/a");
  EXPECT_EQ(CureFor(kNoRights, "/srv/data/a"), "--ro /srv/data/a");
  EXPECT_EQ(CureFor(kWriteFile, "/srv/data/a"), "--rw /srv/data/a");
  EXPECT_EQ(CureFor(kExecuteFile, "/srv/tool"), "--ro /srv/tool");
  EXPECT_EQ(CureFor(kCreateFile, "/srv/data/new"), "--rw /srv/data");
  EXPECT_EQ(CureFor(kReadFile, "/dev/fuse"), "--device /dev/fuse");
  EXPECT_EQ(CureFor(kWriteFile, "/dev/fuse"), "--device /dev/fuse");
}

TEST(Cure, IsNeverATreeWithEverybodysThingsInIt) {
  EXPECT_EQ(CureFor(kReadFile, "/"), "--ro of what is needed below /, not of all that is there");
  for (const std::string place : {"/", "/tmp", "/home", "/home/ann", "/etc", "/dev", "/var/lib"}) {
    const std::string file = place == "/" ? "/new" : place + "/new";
    EXPECT_TRUE(CureFor(kCreateFile, file).starts_with("--rw of what is needed below ")) << place;
    EXPECT_TRUE(CureFor(kReadFile, place).starts_with("--ro of what is needed below ")) << place;
  }
  EXPECT_EQ(CureFor(kCreateFile, "/home/ann/work/new"), "--rw /home/ann/work");
}

TEST(Cure, IsNothingWhereNoFlagHelps) {
  EXPECT_EQ(CureFor(kReadFile, "pipe:[123]"), "");
  EXPECT_EQ(CureFor(kReadFile, "/srv/a (deleted)"), "");
  EXPECT_EQ(CureFor(kReadFile, ""), "");
  EXPECT_EQ(CureFor(kWriteFile, "/proc/2/task/3/comm"), "");
  EXPECT_EQ(CureFor(kCreateFile, "/dev/pts/0"), "");
  EXPECT_EQ(CureFor(kReadFile, "/proc/interrupts"), "--ro /proc/interrupts");
}

}  // namespace
}  // namespace dunebox::hostcalls::policy
