#include "sandbox/policy/oci_seccomp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <random>
#include <string>

#include "tests/unit/engine_profile.h"

namespace dunebox::policy {
namespace {

using hostcalls::policy::ArgumentCondition;
using hostcalls::policy::CallAction;
using hostcalls::policy::CallRule;
using hostcalls::policy::Comparison;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Arguments = std::array<std::uint64_t, 6>;

// ---- What rules mean ----------------------------------------------------------------------------

// "allow", "kill" or "error N".
std::string Decide(const CallRules& rules, std::uint16_t number, const Arguments& arguments) {
  const auto text = [](CallAction action, int error) {
    if (action == CallAction::kError) return "error " + std::to_string(error);
    return std::string(action == CallAction::kAllow ? "allow" : "kill");
  };
  for (const CallRule& rule : rules.rules) {
    if (rule.number != number) continue;
    if (std::ranges::all_of(rule.conditions,
                            [&](const auto& condition) {
                              return Holds(condition, arguments[condition.argument]);
                            })) {
      return text(rule.action, rule.error);
    }
  }
  return text(rules.default_action, rules.default_error);
}

std::string Decide(const CallRules& rules, std::string_view name, const Arguments& arguments = {}) {
  const hostcalls::Row* const row = hostcalls::FindRow(name);
  if (row == nullptr) return "no such call";
  return Decide(rules, row->number, arguments);
}

CallRules Imported(std::string_view text, const OciContext& context = {}) {
  const absl::StatusOr<CallRules> rules = ImportOciSeccomp(text, "t.json", context);
  EXPECT_TRUE(rules.ok()) << rules.status();
  return rules.ok() ? *rules : CallRules{};
}

std::string ErrorOf(std::string_view text) {
  const absl::StatusOr<CallRules> rules = ImportOciSeccomp(text, "t.json", {});
  return rules.ok() ? "it was accepted" : std::string(rules.status().message());
}

// `entries` in a section that allows the rest.
std::string Section(std::string_view entries) {
  return R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[)" + std::string(entries) + "]}";
}

// ---- A profile of an engine
// -----------------------------------------------------------------------

TEST(OciSeccomp, AnEnginesProfileMeansWhatItsDocumentationSays) {
  const CallRules rules = Imported(EngineProfile());
  EXPECT_EQ(Decide(rules, "read"), "allow");
  EXPECT_EQ(Decide(rules, "openat2"), "allow");
  for (const std::string_view name : kBlockedByEngines) {
    EXPECT_EQ(Decide(rules, name), "error 1") << name;
  }
  EXPECT_EQ(Decide(rules, "clone", {0x01200011}), "allow");
  EXPECT_EQ(Decide(rules, "clone", {0x10000000}), "error 1");  // CLONE_NEWUSER
  EXPECT_EQ(Decide(rules, "clone3"), "error 38");
  EXPECT_EQ(Decide(rules, "personality", {0x20008}), "allow");
  EXPECT_EQ(Decide(rules, "personality", {0x40000}), "error 1");
  EXPECT_EQ(Decide(rules, "socket", {2}), "allow");
  EXPECT_EQ(Decide(rules, "socket", {40}), "error 1");  // AF_VSOCK
  EXPECT_EQ(Decide(rules, "ptrace"), "allow");
  EXPECT_EQ(Decide(rules, "arch_prctl"), "allow");
}

TEST(OciSeccomp, CapabilitiesAndAnOldKernelChangeWhatAnEnginesProfileMeans) {
  const CallRules admin = Imported(EngineProfile(), {.capabilities = {"CAP_SYS_ADMIN"}});
  EXPECT_EQ(Decide(admin, "mount"), "allow");
  EXPECT_EQ(Decide(admin, "clone", {0x10000000}), "allow");
  EXPECT_EQ(Decide(admin, "clone3"), "allow");
  EXPECT_EQ(Decide(admin, "chroot"), "error 1");
  const CallRules old = Imported(EngineProfile(), {.kernel_major = 4, .kernel_minor = 7});
  EXPECT_EQ(Decide(old, "ptrace"), "error 1");
  EXPECT_EQ(Decide(old, "read"), "allow");
}

TEST(OciSeccomp, CallsOfOtherMachinesAreANoteThatNamesThem) {
  const CallRules rules = Imported(EngineProfile());
  for (const std::string_view name : kCallsElsewhere) {
    EXPECT_THAT(rules.notes, Contains(HasSubstr(std::string(name)))) << name;
  }
  EXPECT_THAT(rules.notes.front(),
              testing::StartsWith("t.json: /syscalls/0: no calls of this machine, left out: "));
}

TEST(OciSeccomp, AnEnginesProfileSurvivesExportAndImport) {
  const CallRules rules = Imported(EngineProfile());
  const absl::StatusOr<std::string> text = ExportOciSeccomp(rules);
  ASSERT_TRUE(text.ok()) << text.status();
  const CallRules again = Imported(*text);
  EXPECT_THAT(again.notes, IsEmpty());
  EXPECT_EQ(again.rules.size(), rules.rules.size());
  for (const hostcalls::Row& row : hostcalls::AllRows()) {
    for (const std::uint64_t argument : {0ull, 8ull, 40ull, 0x20008ull, 0x10000000ull}) {
      EXPECT_EQ(Decide(again, row.number, {argument}), Decide(rules, row.number, {argument}))
          << row.name << " " << argument;
    }
  }
}

// ---- Meaning
// ---------------------------------------------------------------------------------------

TEST(OciSeccomp, AWholeConfigurationIsReadAtItsSeccompSection) {
  const CallRules rules =
      Imported(R"({"ociVersion":"1.0.2","linux":{"seccomp":)" +
               Section(R"({"names":["mkdir"],"action":"SCMP_ACT_ERRNO"})") + "}}");
  EXPECT_EQ(Decide(rules, "mkdir"), "error 1");
  EXPECT_THAT(rules.origins, ElementsAre("t.json: /linux/seccomp/syscalls/0"));
}

TEST(OciSeccomp, MaskedEqualsValueIsTheMask) {
  const CallRules rules = Imported(Section(
      R"({"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":13,
          "args":[{"index":1,"value":3840,"valueTwo":256,"op":"SCMP_CMP_MASKED_EQ"}]})"));
  EXPECT_EQ(Decide(rules, "mkdir", {0, 0x1ff}), "error 13");
  EXPECT_EQ(Decide(rules, "mkdir", {0, 0x2ff}), "allow");
}

TEST(OciSeccomp, ConditionsOnOneArgumentAreAlternativesAndOnSeveralHoldTogether) {
  const CallRules both = Imported(Section(
      R"({"names":["mkdir"],"action":"SCMP_ACT_KILL_PROCESS",
          "args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"},{"index":1,"value":8,"op":"SCMP_CMP_EQ"}]})"));
  EXPECT_EQ(Decide(both, "mkdir", {7, 8}), "kill");
  EXPECT_EQ(Decide(both, "mkdir", {7, 9}), "allow");
  const CallRules either = Imported(Section(
      R"({"names":["mkdir"],"action":"SCMP_ACT_KILL_PROCESS",
          "args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"},{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]})"));
  EXPECT_EQ(Decide(either, "mkdir", {7, 0}), "kill");
  EXPECT_EQ(Decide(either, "mkdir", {8, 0}), "kill");
  EXPECT_EQ(Decide(either, "mkdir", {9, 0}), "allow");
}

TEST(OciSeccomp, AnEntryWithoutArgumentsDecidesWhereverItStands) {
  const CallRules rules = Imported(Section(
      R"({"names":["mkdir"],"action":"SCMP_ACT_KILL_PROCESS",
          "args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"}]},
         {"names":["mkdir"],"action":"SCMP_ACT_ERRNO"})"));
  EXPECT_EQ(Decide(rules, "mkdir", {7}), "error 1");
}

TEST(OciSeccomp, AnEntryWithTheDefaultsActionHasNoEffectAndIsNoted) {
  const CallRules rules = Imported(Section(
      R"({"names":["mkdir"],"action":"SCMP_ACT_ALLOW"},
         {"names":["mkdir"],"action":"SCMP_ACT_ERRNO"})"));
  EXPECT_EQ(Decide(rules, "mkdir"), "error 1");
  EXPECT_THAT(rules.notes,
              ElementsAre("t.json: /syscalls/0: its action is the default's: without effect"));
}

TEST(OciSeccomp, WhatHasNoMeaningHereIsNoted) {
  const CallRules rules = Imported(
      R"({"defaultAction":"SCMP_ACT_KILL","flags":["SECCOMP_FILTER_FLAG_LOG"],"sycalls":[]})");
  EXPECT_THAT(rules.notes,
              ElementsAre("t.json: unknown name \"sycalls\", without effect",
                          "t.json: /defaultAction: SCMP_ACT_KILL: ends the process and not one "
                          "thread of it",
                          "t.json: /flags: has no effect here"));
  EXPECT_EQ(Decide(rules, "read"), "kill");
}

// ---- Errors
// ----------------------------------------------------------------------------------------

TEST(OciSeccomp, AnErrorSaysWhereAndWhy) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "t.json:1:1: "},
      {"{\n  \"defaultAction\": SCMP\n}", "t.json:2:20: "},
      {R"({"a":1,"a":2})", "t.json: a name is there twice in one object: a"},
      {std::string(100, '['), "t.json: nested deeper than 32"},
      {"[]", "t.json: an object is expected"},
      {"{}", "t.json: \"defaultAction\" is missing"},
      {R"({"linux":{}})", "t.json: /linux: \"seccomp\" is missing"},
      {R"({"linux":{"seccomp":{"defaultAction":7}}})",
       "t.json: /linux/seccomp/defaultAction: a string is expected"},
      {R"({"defaultAction":"SCMP_ACT_TRAP"})",
       "t.json: /defaultAction: SCMP_ACT_TRAP is not supported: a signal that the program would "
       "answer itself"},
      {R"({"defaultAction":"ALLOW\u001b[2J"})",
       "t.json: /defaultAction: unknown action \"ALLOW\\x1b[2J\""},
      {R"({"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1})",
       "t.json: /defaultErrnoRet: only SCMP_ACT_ERRNO takes an error, not SCMP_ACT_ALLOW"},
      {R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":0})",
       "t.json: /defaultErrnoRet: 0 would report success for a call that is not made"},
      {R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096})",
       "t.json: /defaultErrnoRet: 4096 is more than 4095"},
      {R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":-1})",
       "t.json: /defaultErrnoRet: a whole number is expected"},
      {R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_ARM"]})",
       "t.json: not for this machine: SCMP_ARCH_X86_64 is not among its architectures"},
      {Section("3"), "t.json: /syscalls/0: an object is expected"},
      {Section(R"({"action":"SCMP_ACT_ALLOW"})"), "t.json: /syscalls/0: it names no call"},
      {Section(R"({"names":["read"]})"), "t.json: /syscalls/0: \"action\" is missing"},
      {Section(R"({"names":["read",1],"action":"SCMP_ACT_ALLOW"})"),
       "t.json: /syscalls/0/names/1: a string is expected"},
      {Section(R"({"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"value":1}]})"),
       "t.json: /syscalls/0/args/0: \"index\" is missing"},
      {Section(R"({"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":1}]})"),
       "t.json: /syscalls/0/args/0/index: 6 is more than 5"},
      {Section(R"({"names":["read"],"action":"SCMP_ACT_ALLOW",
                   "args":[{"index":0,"value":18446744073709551616,"op":"SCMP_CMP_EQ"}]})"),
       "t.json: /syscalls/0/args/0/value: a whole number is expected"},
      {Section(R"({"names":["read"],"action":"SCMP_ACT_ALLOW",
                   "args":[{"index":0,"value":1,"op":"SCMP_CMP_ALMOST"}]})"),
       "t.json: /syscalls/0/args/0/op: unknown comparison \"SCMP_CMP_ALMOST\""},
      {Section(R"({"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4."}})"),
       "t.json: /syscalls/0/includes/minKernel: a version such as \"4.8\" is expected"},
  };
  for (const auto& [text, error] : cases) EXPECT_THAT(ErrorOf(text), HasSubstr(error)) << text;
}

// ---- Export
// ----------------------------------------------------------------------------------------

std::uint16_t NumberOf(std::string_view name) { return hostcalls::FindRow(name)->number; }

TEST(OciSeccomp, OnlyOneValueAllowedIsExportedAsItsNegation) {
  const CallRules rules{
      .rules = {{.number = NumberOf("socket"), .conditions = {{.argument = 0, .value = 1}}},
                {.number = NumberOf("socket"), .action = CallAction::kError, .error = 97}}};
  const absl::StatusOr<std::string> text = ExportOciSeccomp(rules);
  ASSERT_TRUE(text.ok()) << text.status();
  const CallRules again = Imported(*text);
  EXPECT_EQ(Decide(again, "socket", {1}), "allow");
  EXPECT_EQ(Decide(again, "socket", {2}), "error 97");
}

TEST(OciSeccomp, RulesThatTheFormHasNoWordsForAreNotExported) {
  const CallRules exception{
      .rules = {{.number = 83, .conditions = {{.argument = 0, .value = 1}}},
                {.number = 83,
                 .action = CallAction::kKill,
                 .conditions = {{.argument = 0, .comparison = Comparison::kLess, .value = 9}}}}};
  EXPECT_THAT(std::string(ExportOciSeccomp(exception).status().message()),
              HasSubstr("cannot say the rules of mkdir: an order of different actions"));
  const CallRules range{
      .rules = {{.number = 83,
                 .action = CallAction::kKill,
                 .conditions = {{.argument = 0, .comparison = Comparison::kGreater, .value = 3},
                                {.argument = 0, .comparison = Comparison::kLess, .value = 9}}}}};
  EXPECT_THAT(std::string(ExportOciSeccomp(range).status().message()),
              HasSubstr("two conditions on one argument"));
}

// Rules at random: what can be exported means the same after it was imported again.
TEST(OciSeccomp, WhatIsExportedMeansTheSameWhenImported) {
  std::mt19937 random(6);
  const auto below = [&](unsigned bound) { return random() % bound; };
  const auto action = [&] { return static_cast<CallAction>(below(3)); };
  const auto error = [&] { return static_cast<std::uint16_t>(1 + below(2)); };
  int exported = 0;
  for (int round = 0; round < 3000; ++round) {
    CallRules rules{.default_action = action(), .default_error = error()};
    for (unsigned count = below(4); count > 0; --count) {
      CallRule rule{.number = 83, .action = action(), .error = error()};
      for (unsigned conditions = below(3); conditions > 0; --conditions) {
        ArgumentCondition condition{.argument = static_cast<std::uint8_t>(below(2)),
                                    .comparison = static_cast<Comparison>(below(7)),
                                    .value = below(4)};
        if (condition.comparison == Comparison::kMaskedEqual) condition.mask = below(4);
        rule.conditions.push_back(condition);
      }
      rules.rules.push_back(rule);
    }
    const absl::StatusOr<std::string> text = ExportOciSeccomp(rules);
    if (!text.ok()) continue;
    ++exported;
    const CallRules again = Imported(*text);
    for (std::uint64_t first = 0; first < 5; ++first) {
      for (std::uint64_t second = 0; second < 5; ++second) {
        ASSERT_EQ(Decide(again, 83, {first, second}), Decide(rules, 83, {first, second}))
            << *text << first << " " << second;
      }
    }
  }
  EXPECT_GT(exported, 1000);
}

}  // namespace
}  // namespace dunebox::policy
