#include "sandbox/policy/learn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "sandbox/policy/denial_log.h"

namespace dunebox::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// ---- Reading what was recorded
// ----------------------------------------------------------------------

std::vector<LoggedDenial> Read(std::string_view text) {
  const absl::StatusOr<std::vector<LoggedDenial>> denials = ReadDenials(text, "run.log");
  EXPECT_TRUE(denials.ok()) << denials.status();
  return denials.ok() ? *denials : std::vector<LoggedDenial>{};
}

std::string ErrorOf(std::string_view text) {
  const absl::StatusOr<std::vector<LoggedDenial>> denials = ReadDenials(text, "run.log");
  return denials.ok() ? "it was accepted" : std::string(denials.status().message());
}

TEST(DenialLog, LinesThatSayTheSameAreOneWithACount) {
  const std::vector<LoggedDenial> denials = Read(
      R"({"pid":7,"program":"/bin/cat","call":"open","action":"read","object":"/srv/a","cure":"--ro /srv/a"}
{"pid":8,"program":"/bin/cat","call":"open","action":"read","object":"/srv/a"}

{"action":"read","object":"/srv/b"}
)");
  ASSERT_EQ(denials.size(), 2u);
  EXPECT_EQ(denials[0].program, "/bin/cat");
  EXPECT_EQ(denials[0].cure, "--ro /srv/a");
  EXPECT_EQ(denials[0].count, 2u);
  EXPECT_EQ(denials[1].object, "/srv/b");
}

TEST(DenialLog, ALastLineThatWasCutOffIsLeftOut) {
  EXPECT_EQ(Read("{\"action\":\"read\",\"object\":\"/a\"}\n{\"action\":\"re").size(), 1u);
}

TEST(DenialLog, AnErrorSaysTheLineAndTheReason) {
  EXPECT_THAT(ErrorOf("\n{\"action\":\n"), HasSubstr("run.log:2:1:11: "));
  EXPECT_EQ(ErrorOf("[]\n"), "run.log:1: an object is expected");
  EXPECT_EQ(ErrorOf("{\"action\":\"read\"}\n"), "run.log:1: a string \"object\" is expected");
  EXPECT_EQ(ErrorOf("{\"action\":1,\"object\":\"\"}\n"),
            "run.log:1: a string \"action\" is expected");
}

// ---- Proposing
// --------------------------------------------------------------------------------------

LoggedDenial Denied(std::string action, std::string object) {
  return {.program = "/usr/bin/python3.11",
          .call = "openat",
          .action = std::move(action),
          .object = std::move(object),
          .cure = "--cure"};
}

LearnSurroundings Surroundings() {
  return {.home = "/home/ann",
          .is_directory = [](const std::string& path) { return path == "/home/ann"; }};
}

std::vector<std::string> Rules(const std::vector<LoggedDenial>& denials) {
  std::vector<std::string> rules;
  for (const ProposedRule& rule : Propose(denials, Surroundings()).rules) {
    for (const SettingRow& row : Settings()) {
      if (row.id == rule.setting && row.shape != Shape::kAlias) {
        rules.push_back(std::string(row.flag) + " " + rule.word);
      }
    }
  }
  return rules;
}

std::vector<std::string> Notes(const std::vector<LoggedDenial>& denials) {
  return Propose(denials, Surroundings()).notes;
}

TEST(Learn, FilesAreProposedInTheWordsOfTheSettings) {
  EXPECT_THAT(Rules({Denied("read", "/srv/in.conf"), Denied("create", "/home/ann/out/x"),
                     Denied("create", "/tmp/tmpx"), Denied("execute", "/srv/tool")}),
              ElementsAre("--ro /srv/in.conf", "--ro /srv/tool", "--rw ~/out", "--tmpfs /tmp"));
}

TEST(Learn, TheDirectoryIsProposedWhenARuleNamesSomethingInItAndNoneShowsIt) {
  LearnSurroundings surroundings = Surroundings();
  surroundings.directory = "/srv/app";
  const auto settings = [&](const char* path) {
    std::vector<Setting> named;
    for (const ProposedRule& rule : Propose({Denied("read", path)}, surroundings).rules) {
      named.push_back(rule.setting);
    }
    return named;
  };
  EXPECT_THAT(settings("/srv/app/a.conf"), ElementsAre(Setting::kRead, Setting::kChdir));
  EXPECT_THAT(settings("/srv/app"), ElementsAre(Setting::kRead));
  EXPECT_THAT(settings("/srv/apple"), ElementsAre(Setting::kRead));
  EXPECT_THAT(FormatToml(Propose({Denied("read", "/srv/app/a")}, surroundings)),
              HasSubstr("\n\n# where it was started\ndirectory = \"/srv/app\"\n\n[files]\n"));
}

TEST(Learn, TheNetworkIsProposedAddressByAddress) {
  EXPECT_THAT(
      Rules({Denied("make socket", "inet stream"), Denied("connect", "192.0.2.1:443"),
             Denied("connect", "192.0.2.1:443"), Denied("send", "[2001:db8::1]:53"),
             Denied("bind", "0.0.0.0:8080"), Denied("listen", "0.0.0.0:8080")}),
      ElementsAre("--net tcp:192.0.2.1:443", "--net tcp:[2001:db8::1]:53", "--net listen:8080"));
}

TEST(Learn, APortThatTheKernelChoosesIsNotProposedByItsNumber) {
  EXPECT_THAT(Rules({Denied("bind", "127.0.0.1:0"), Denied("listen", "127.0.0.1:40123"),
                     Denied("bind", "[::1]:0"), Denied("listen", "[::1]:40124")}),
              ElementsAre("--net listen:127.0.0.1:*", "--net listen:[::1]:*"));
  const std::vector<LoggedDenial> everywhere = {Denied("bind", "0.0.0.0:0"),
                                                Denied("listen", "0.0.0.0:40123"),
                                                Denied("connect", "127.0.0.1:0")};
  EXPECT_THAT(Rules(everywhere), IsEmpty());
  EXPECT_EQ(Notes(everywhere).size(), everywhere.size());
}

TEST(Learn, AServersAnswersGoToWhateverPortAClientHas) {
  EXPECT_THAT(Rules({Denied("bind", "127.0.0.1:53"), Denied("send", "127.0.0.1:47368"),
                     Denied("send", "127.0.0.1:52199"), Denied("send", "192.0.2.1:53"),
                     Denied("connect", "127.0.0.1:40000")}),
              ElementsAre("--net listen:53", "--net tcp:127.0.0.1:32768-65535",
                          "--net tcp:192.0.2.1:53", "--net tcp:127.0.0.1:40000"));
  // Who has no port of its own asks.
  EXPECT_THAT(Rules({Denied("send", "127.0.0.1:47368")}), ElementsAre("--net tcp:127.0.0.1:47368"));
}

TEST(Learn, ASocketWithAPathNeedsThePathToo) {
  EXPECT_THAT(Rules({Denied("connect", "unix:/run/x.sock"), Denied("connect", "/run/x.sock")}),
              ElementsAre("--rw /run/x.sock", "--net unix"));
}

TEST(Learn, WhatNoRuleIsProposedForIsTold) {
  const std::vector<LoggedDenial> denials = {
      Denied("make socket", "inet stream"), Denied("bind", "0.0.0.0:0"),
      Denied("connect", "unix:@bus"),       Denied("call", "ptrace"),
      Denied("create", "device /srv/d"),    Denied("read", "/home/ann"),
      Denied("read", "/proc/77/maps"),      Denied("write", "/srv/x (deleted)"),
      Denied("read", "/srv/a\\\\x07"),      Denied("connect", "1:2:3"),
      Denied("read", "/srv/a:/b"),          Denied("create", "/dev/pts/0"),
      Denied("read", "/srv/\x1b[2J"),       Denied("write", "/proc/sys/vm/swappiness")};
  EXPECT_THAT(Rules(denials), IsEmpty());
  const std::vector<std::string> notes = Notes(denials);
  EXPECT_EQ(notes.size(), denials.size());
  for (const LoggedDenial& denial : denials) {
    if (denial.object.find_first_of("\x1b\\") != std::string::npos) continue;
    EXPECT_THAT(notes,
                testing::Contains(testing::AllOf(
                    HasSubstr(denial.action + " by python3.11 (openat), once: " + denial.object),
                    HasSubstr("(allowed by --cure)"))));
  }
  EXPECT_THAT(notes, testing::Contains(HasSubstr("\\x1b[2J")));
}

// Which `dunebox run` proposes to allow, too.
TEST(Learn, FilesOfProcThatAreNoProcessesCanBeRead) {
  EXPECT_THAT(Rules({Denied("read", "/proc/interrupts")}), ElementsAre("--ro /proc/interrupts"));
}

TEST(Learn, WhatTookCapabilitiesIsTold) {
  LoggedDenial denial = Denied("use", "CAP_SETUID");
  denial.cure = "--uid 33";
  EXPECT_THAT(Rules({denial}), IsEmpty());
  EXPECT_THAT(Notes({denial}), ElementsAre(testing::AllOf(HasSubstr("CAP_SETUID: a program under a policy has no capabilities"),
                                                          HasSubstr("(allowed by --uid 33)"))));
  EXPECT_THAT(Notes({{.action = std::string(kWatchedWith), .object = "capabilities"}}),
              ElementsAre(HasSubstr("watched with capabilities")));
}

TEST(Learn, EachRuleSaysWhoNeededItAndHowOften) {
  LoggedDenial first = Denied("read", "/srv/data/a");
  first.count = 5;
  std::vector<LoggedDenial> denials = {first};
  for (const char* const name : {"b", "c", "d"}) {
    denials.push_back(Denied("read", std::string("/srv/data/") + name));
  }
  const Proposal proposal = Propose(denials, Surroundings());
  ASSERT_EQ(proposal.rules.size(), 1u);
  EXPECT_EQ(proposal.rules[0].word, "/srv/data");
  EXPECT_EQ(proposal.rules[0].why,
            "read by python3.11 (openat), 8 times: /srv/data/a, /srv/data/b, /srv/data/c and 1 "
            "more");
}

TEST(Learn, TheFileHasSettingsWithoutATableFirst) {
  EXPECT_EQ(FormatToml(Propose({Denied("read", "/srv/a b"), Denied("create", "/srv/out/x"),
                                Denied("connect", "192.0.2.1:443"), Denied("call", "ptrace")},
                               Surroundings())),
            R"(# Proposed by `dunebox policy learn` on top of the default policy.
# Not allowed: call by python3.11 (openat), once: ptrace: no rule is proposed for this (allowed by --cure)

network = [
  # connect by python3.11 (openat), once: 192.0.2.1:443
  "tcp:192.0.2.1:443",
]

[files]
read = [
  # read by python3.11 (openat), once: /srv/a b
  "/srv/a b",
]
write = [
  # create by python3.11 (openat), once: /srv/out/x
  "/srv/out",
]
)");
  EXPECT_EQ(FormatToml({}), "# Proposed by `dunebox policy learn` on top of the default policy.\n");
}

}  // namespace
}  // namespace dunebox::policy
