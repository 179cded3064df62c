#include "sandbox/policy/lint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <utility>

#include "hostcalls/table/table.h"
#include "sandbox/policy/call_groups.h"
#include "sandbox/policy/settings.h"

namespace dunebox::policy {
namespace {

using hostcalls::policy::ArgumentCondition;
using hostcalls::policy::CallAction;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Each statement is a line of p.toml.
Policy Stated(std::initializer_list<std::pair<Setting, std::string>> statements) {
  Policy policy;
  int line = 0;
  for (const auto& [setting, word] : statements) {
    const std::string words[] = {word};
    const absl::Status status = Set(policy, setting, words, "p.toml:" + std::to_string(++line));
    EXPECT_TRUE(status.ok()) << status;
  }
  return policy;
}

std::vector<std::string> Lines(const Policy& policy,
                               std::vector<confinement::Mechanism> missing = {}) {
  const LintSurroundings surroundings{
      .home = "/home/ann", .directory = "/home/ann/work", .missing = std::move(missing)};
  std::vector<std::string> lines;
  for (const Finding& finding : Lint(policy, surroundings)) lines.push_back(Format(finding));
  return lines;
}

auto Warns(const std::string& origin, const std::string& text) {
  return Contains(AllOf(testing::StartsWith(origin + ": warning: "), HasSubstr(text)));
}

TEST(Lint, ATightPolicyIsClean) {
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "/srv/data"},
                            {Setting::kWrite, "out"},
                            {Setting::kNetwork, "tcp:192.0.2.1:443"},
                            {Setting::kEnv, "LANG"},
                            {Setting::kHostname, "box"},
                            {Setting::kAllow, "python"}})),
              IsEmpty());
}

// ---- Files
// ----------------------------------------------------------------------------------------

TEST(Lint, TheEarlierOfTwoRulesForOnePathHasNoEffect) {
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "/srv/data"}, {Setting::kWrite, "/srv/x/../data/"}})),
              ElementsAre("p.toml:1: warning: /srv/data has no effect: p.toml:2 says the same path "
                          "later (remove one of the two)"));
}

TEST(Lint, ARuleInsideAWiderOneHasNoEffectUnlessItSaysSomethingElse) {
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "/srv"}, {Setting::kRead, "/srv/data"}})),
              Warns("p.toml:2", "p.toml:1 allows the same for all of /srv"));
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "/usr/share/dict"}})),
              Warns("p.toml:1", "default allows the same for all of /usr"));
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "/srv"}, {Setting::kWrite, "/srv/data"}})), IsEmpty());
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "/srv"}, {Setting::kTmpfs, "/srv/data"}})), IsEmpty());
  // The same place, but other files.
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "/srv"}, {Setting::kRead, "/opt/x:/srv/data"}})),
              IsEmpty());
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "/srv"}, {Setting::kRead, "/srv-data"}})), IsEmpty());
}

TEST(Lint, WideTreesAreNamedWithWhatIsInThem) {
  for (const std::string path : {"/", "~", "~/.", "/home/ann", "/etc", "/proc", "/sys", "/dev"}) {
    EXPECT_THAT(Lines(Stated({{Setting::kRead, path}})), Warns("p.toml:1", "may read")) << path;
    EXPECT_THAT(Lines(Stated({{Setting::kWrite, path}})), Warns("p.toml:1", "may change")) << path;
  }
  EXPECT_THAT(Lines(Stated({{Setting::kWrite, ".."}})), Warns("p.toml:1", "may change /home/ann:"));
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "/boot"}})), IsEmpty());
}

TEST(Lint, SecretsAreAFindingOnlyWhenTheyCanBeSentAway) {
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "~/.ssh"}})), IsEmpty());
  const auto sent = Warns("p.toml:1", "~/.ssh can be read and sent away");
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "~/.ssh"}, {Setting::kNetwork, "tcp:h:443"}})), sent);
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "~/.ssh/id"}, {Setting::kNetwork, "tcp:h:443"}})),
              sent);
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "~"}, {Setting::kNetwork, "tcp:h:443"}})),
              Warns("p.toml:1", "~/.ssh, ~/.gnupg, "));
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "~/.ssh"}, {Setting::kNetwork, "loopback"}})),
              IsEmpty());
}

TEST(Lint, ASecretThatIsCoveredIsNotReached) {
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "/home/ann/.config"},
                            {Setting::kTmpfs, "/home/ann/.config/gcloud"},
                            {Setting::kTmpfs, "/home/ann/.config/google-chrome"},
                            {Setting::kTmpfs, "/home/ann/.config/chromium"},
                            {Setting::kNetwork, "tcp:h:443"}})),
              IsEmpty());
  // Bound elsewhere: what is covered there is what counts.
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "~:/data"}, {Setting::kNetwork, "tcp:h:443"}})),
              Warns("p.toml:1", "~/.ssh"));
}

TEST(Lint, ControlSocketsGiveMoreThanAFile) {
  EXPECT_THAT(Lines(Stated({{Setting::kWrite, "/run/docker.sock"}})),
              Warns("p.toml:1", "gives the rights of the administrator"));
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "/run/docker.sock"}})), IsEmpty());
  EXPECT_THAT(Lines(Stated({{Setting::kWrite, "/run/podman"}, {Setting::kNetwork, "unix"}})),
              Warns("p.toml:1", "/run/podman/podman.sock can be connected to"));
}

TEST(Lint, ProgramsThatRunOutsideAreNotToBeWritten) {
  EXPECT_THAT(Lines(Stated({{Setting::kWrite, "~/.local"}})),
              Warns("p.toml:1", "/home/ann/.local/bin, /home/ann/.local/lib are executed outside"));
  EXPECT_THAT(Lines(Stated({{Setting::kWrite, "/usr/local/lib"}})),
              Warns("p.toml:1", "are executed outside"));
  EXPECT_THAT(Lines(Stated({{Setting::kRead, "~/bin"}})), IsEmpty());
}

TEST(Lint, ADirectoryThatNobodyLetsItSeeIsAContradiction) {
  EXPECT_THAT(Lines(Stated({{Setting::kChdir, "/srv/data"}})),
              Warns("p.toml:1", "/srv/data, which no rule lets it see"));
  EXPECT_THAT(Lines(Stated({{Setting::kChdir, "/srv"}, {Setting::kRead, "/srv/data"}})), IsEmpty());
}

// ---- Network
// --------------------------------------------------------------------------------------

TEST(Lint, ANetworkRuleWithinAnotherHasNoEffect) {
  EXPECT_THAT(Lines(Stated({{Setting::kNetwork, "tcp:*:443"}, {Setting::kNetwork, "tcp:h:443"}})),
              ElementsAre("p.toml:2: warning: network tcp:h has no effect: p.toml:1 allows all of "
                          "it (remove it, or the wider one)"));
  EXPECT_THAT(Lines(Stated({{Setting::kNetwork, "tcp:h:1"}, {Setting::kNetwork, "tcp:h:1"}})),
              ElementsAre(HasSubstr("p.toml:2: warning: network tcp:h has no effect: p.toml:1")));
  EXPECT_THAT(Lines(Stated({{Setting::kNetwork, "tcp:h:1"}, {Setting::kNetwork, "tcp:h:2"}})),
              IsEmpty());
}

TEST(Lint, AWideNetworkIsAFinding) {
  EXPECT_THAT(Lines(Stated({{Setting::kNetwork, "host"}})),
              Warns("p.toml:1", "the host's network"));
  EXPECT_THAT(Lines(Stated({{Setting::kNetwork, "tcp:*:*"}})), Warns("p.toml:1", "every port"));
  EXPECT_THAT(Lines(Stated({{Setting::kAllow, "network-client"}})), IsEmpty());
}

TEST(Lint, UnixSocketsNeedAPlaceAndNoneMeansNone) {
  EXPECT_THAT(Lines(Stated({{Setting::kNetwork, "unix"}})), Warns("p.toml:1", "add --rw PATH"));
  EXPECT_THAT(Lines(Stated({{Setting::kNetwork, "none"}, {Setting::kNetwork, "tcp:h:1"}})),
              Warns("p.toml:1", "other rules allow some"));
}

// ---- Calls
// ----------------------------------------------------------------------------------------

Policy Calls(std::vector<CallRule> rules) {
  Policy policy;
  int line = 0;
  for (CallRule& rule : rules) {
    rule.origin = "p.toml:" + std::to_string(++line);
    policy.calls.push_back(std::move(rule));
  }
  return policy;
}

TEST(Lint, ACallRuleBehindAGeneralOneHasNoEffect) {
  const std::vector<ArgumentCondition> unix_family = {{.argument = 0, .value = 1}};
  const CallRule all{.calls = "@network", .action = CallAction::kError};
  const CallRule one{.calls = "socket", .action = CallAction::kAllow, .conditions = unix_family};
  EXPECT_THAT(Lines(Calls({all, one})),
              ElementsAre("p.toml:2: warning: the rule for socket has no effect: p.toml:1 decides "
                          "before it (put the special rule before the general one)"));
  EXPECT_THAT(Lines(Calls({one, all})), IsEmpty());
  EXPECT_THAT(Lines(Calls({one, one})), Warns("p.toml:2", "has no effect"));
}

TEST(Lint, AllowingWhatTheRuntimeRefusesHasNoEffect) {
  EXPECT_THAT(Lines(Calls({{.calls = "ptrace"}})), Warns("p.toml:1", "under any policy"));
  EXPECT_THAT(Lines(Calls({{.calls = "ptrace", .action = CallAction::kKill}})), IsEmpty());
}

TEST(Lint, DangerousCallsAreNamedWithTheirDanger) {
  EXPECT_THAT(Lines(Calls({{.calls = "@mount"}})), Warns("p.toml:1", "chroot changes what"));
  EXPECT_THAT(Lines(Calls({{.calls = "personality"}})), Warns("p.toml:1", "personality makes"));
  EXPECT_THAT(Lines(Calls({{.calls = "personality", .conditions = {{.argument = 0}}}})), IsEmpty());
  EXPECT_THAT(
      Lines(Calls({{.calls = "chroot", .action = CallAction::kError}, {.calls = "@mount"}})),
      testing::Not(Contains(HasSubstr("chroot changes"))));
}

TEST(Lint, AProgramHasToBeAbleToEnd) {
  Policy policy = Calls({{.calls = "@io"}});
  policy.default_call = {CallAction::kKill, "p.toml:9"};
  EXPECT_THAT(Lines(policy), Warns("p.toml:9", "could not even end"));
  policy = Calls({{.calls = "@io"}, {.calls = "@process"}});
  policy.default_call = {CallAction::kKill, "p.toml:9"};
  EXPECT_THAT(Lines(policy), testing::Not(Warns("p.toml:9", "could not even end")));
}

TEST(Lint, AnUnknownCallIsAFinding) {
  EXPECT_THAT(Lines(Calls({{.calls = "@nothing"}})),
              Warns("p.toml:1", "no call or group @nothing"));
}

// Every row of the tables names a call, and one that a rule can really allow.
TEST(Lint, RiskyCallsAreCallsThatTheRuntimeMakes) {
#define RISKY_CALL(call, reason)                                                   \
  ASSERT_NE(hostcalls::FindRow(#call), nullptr) << #call;                          \
  EXPECT_NE(hostcalls::FindRow(#call)->route, hostcalls::Route::kDenied) << #call; \
  EXPECT_NE(hostcalls::FindRow(#call)->route, hostcalls::Route::kAbsent) << #call;
#include "sandbox/policy/risky_calls.inc"
#undef RISKY_CALL
}

// ---- The rest
// -------------------------------------------------------------------------------------

TEST(Lint, AllRightsTogetherWithRulesAreAContradiction) {
  EXPECT_THAT(Lines(Stated({{Setting::kAllow, "all"}})),
              ElementsAre(HasSubstr("p.toml:1: warning: the program gets all rights")));
  EXPECT_THAT(Lines(Stated({{Setting::kAllow, "all"}, {Setting::kRead, "/srv"}})),
              Warns("p.toml:1", "everything is allowed, and there are rules"));
}

TEST(Lint, TheWholeEnvironmentAndTokensAreTooMuch) {
  EXPECT_THAT(Lines(Stated({{Setting::kEnv, "*"}})), Warns("p.toml:1", "tokens and keys included"));
  EXPECT_THAT(Lines(Stated({{Setting::kEnv, "GH_TOKEN"}})), IsEmpty());
  EXPECT_THAT(Lines(Stated({{Setting::kEnv, "GH_TOKEN"}, {Setting::kNetwork, "tcp:h:443"}})),
              Warns("p.toml:1", "GH_TOKEN can be read and sent away"));
}

TEST(Lint, WhatThisMachineCannotDoIsAFinding) {
  using confinement::Mechanism;
  const Policy policy = Stated({{Setting::kTmpfs, "/scratch"},
                                {Setting::kRead, "/srv:/data"},
                                {Setting::kNetwork, "loopback"},
                                {Setting::kHostname, "box"},
                                {Setting::kUid, "1000"},
                                {Setting::kRequire, "landlock"},
                                {Setting::kRead, "/opt/x"}});
  EXPECT_THAT(Lines(policy), IsEmpty());
  const std::vector<std::string> lines =
      Lines(policy, {Mechanism::kMountNamespace, Mechanism::kNetworkNamespace,
                     Mechanism::kUtsNamespace, Mechanism::kUserNamespace, Mechanism::kLandlock});
  for (const char* const line : {"1", "2", "3", "4", "5", "6"}) {
    EXPECT_THAT(lines, Warns(std::string("p.toml:") + line, "this machine does not give"));
  }
  EXPECT_EQ(lines.size(), 6u);
}

TEST(Lint, AuditDeniesNothing) {
  EXPECT_THAT(Lines(Stated({{Setting::kAudit, "true"}})), Warns("p.toml:1", "nothing is denied"));
}

}  // namespace
}  // namespace dunebox::policy
