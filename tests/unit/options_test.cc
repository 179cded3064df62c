#include "sandbox/cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sandbox/cli/help.h"
#include "sandbox/cli/option_table.h"

namespace dunebox::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

RunCommand ParseRun(std::vector<std::string> words) {
  words.insert(words.begin(), "run");
  Command command = ParseCommandLine(words);
  if (auto* error = std::get_if<UsageError>(&command)) ADD_FAILURE() << error->message;
  auto* run = std::get_if<RunCommand>(&command);
  return run == nullptr ? RunCommand{} : *run;
}

runtime::EngineChoice EngineOf(const RunCommand& run) {
  return run.policy.engine ? run.policy.engine->value : runtime::EngineChoice::kAuto;
}

std::string ErrorOf(const std::vector<std::string>& words) {
  const Command command = ParseCommandLine(words);
  const auto* error = std::get_if<UsageError>(&command);
  return error == nullptr ? "no error" : error->message;
}

std::string TextOf(const std::vector<std::string>& words) {
  const Command command = ParseCommandLine(words);
  const auto* print = std::get_if<PrintText>(&command);
  return print == nullptr ? "no text" : print->text;
}

TEST(Options, DefaultsAreAutoRingThreeAndNoTrace) {
  const RunCommand run = ParseRun({"ls"});
  EXPECT_FALSE(run.policy.engine.has_value());
  EXPECT_EQ(run.session.ring, 3);
  EXPECT_EQ(run.session.trace, runtime::TraceFormat::kNone);
  EXPECT_FALSE(run.policy.allow_all.has_value());
  EXPECT_FALSE(run.policy.HasRules());
  EXPECT_EQ(run.session.program, "ls");
  EXPECT_THAT(run.session.arguments, ElementsAre("ls"));
}

TEST(Options, EveryRunOptionReachesTheSession) {
  const RunCommand run = ParseRun({"--engine=kvm", "--ring=0", "--allow=all", "--trace", "ls"});
  EXPECT_EQ(EngineOf(run), runtime::EngineChoice::kKvm);
  EXPECT_EQ(run.session.ring, 0);
  EXPECT_EQ(run.session.trace, runtime::TraceFormat::kText);
  EXPECT_EQ(run.policy.allow_all, "--allow all");
  EXPECT_EQ(EngineOf(ParseRun({"--engine=jit", "ls"})), runtime::EngineChoice::kJit);
}

TEST(Options, DiagnosticsReachTheSession) {
  const RunCommand none = ParseRun({"ls"});
  EXPECT_FALSE(none.session.diagnostics.statistics);
  EXPECT_FALSE(none.session.diagnostics.perf_map);
  EXPECT_EQ(none.session.diagnostics.dump, "");
  EXPECT_EQ(none.session.diagnostics.record, "");
  EXPECT_FALSE(none.session.diagnostics.any_report());
  const RunCommand run = ParseRun({"--stats", "--jit-perf-map", "--jit-dump", "0x401000", "ls"});
  EXPECT_TRUE(run.session.diagnostics.statistics);
  EXPECT_TRUE(run.session.diagnostics.perf_map);
  EXPECT_EQ(run.session.diagnostics.dump, "0x401000");
  EXPECT_TRUE(run.session.diagnostics.any_report());
  EXPECT_EQ(run.session.program, "ls");
  EXPECT_EQ(ParseRun({"--jit-perf-dump=/tmp/dumps", "ls"}).session.diagnostics.perf_dump, "/tmp/dumps");
  const RunCommand recorded = ParseRun({"--jit-record=/tmp/records", "ls"});
  EXPECT_EQ(recorded.session.diagnostics.record, "/tmp/records");
  EXPECT_TRUE(recorded.session.diagnostics.any_report());
}

TEST(Options, LimitsReachTheSession) {
  const policy::Limits none = ParseRun({"ls"}).policy.limits;
  EXPECT_FALSE(none.wall_time || none.cpu_time || none.memory || none.tasks || none.open_files ||
               none.file_size || none.output);
  const policy::Limits limits =
      ParseRun({"--time", "10s", "--cpu-time=1500ms", "--mem", "512M", "--pids", "64", "--nofile",
                "32", "--fsize=1G", "--output=1M", "ls"})
          .policy.limits;
  EXPECT_EQ(limits.wall_time->value, std::chrono::seconds(10));
  EXPECT_EQ(limits.wall_time->origin, "--time 10s");
  EXPECT_EQ(limits.cpu_time->value, std::chrono::milliseconds(1500));
  EXPECT_EQ(limits.memory->value, std::uint64_t{512} << 20);
  EXPECT_EQ(limits.tasks->value, 64u);
  EXPECT_EQ(limits.open_files->value, 32u);
  EXPECT_EQ(limits.file_size->value, std::uint64_t{1} << 30);
  EXPECT_EQ(limits.output->value, std::uint64_t{1} << 20);
}

TEST(Options, SurroundingsReachTheSession) {
  const RunCommand none = ParseRun({"ls"});
  EXPECT_FALSE(none.policy.clear_environment || none.policy.die_with_parent);
  EXPECT_FALSE(none.session.dry_run);
  EXPECT_EQ(none.session.status_fd, -1);
  const RunCommand run =
      ParseRun({"--env", "A=1", "--chdir", "/usr", "--clearenv", "--env=B", "--env", "C=[x,y]=",
                "--die-with-parent", "--json-status-fd=3", "--dry-run", "ls", "--env", "D"});
  std::vector<std::string> entries;
  for (const policy::EnvironmentRule& rule : run.policy.environment) entries.push_back(rule.entry);
  EXPECT_THAT(entries, ElementsAre("A=1", "B", "C=[x,y]="));
  EXPECT_TRUE(run.policy.clear_environment.has_value());
  EXPECT_EQ(run.policy.directory->value, "/usr");
  EXPECT_TRUE(run.policy.die_with_parent.has_value());
  EXPECT_EQ(run.session.status_fd, 3);
  EXPECT_TRUE(run.session.dry_run);
  EXPECT_THAT(run.session.arguments, ElementsAre("ls", "--env", "D"));
}

TEST(Options, RulesStandInTheOrderInWhichTheyWereSaid) {
  const RunCommand run = ParseRun({"--rw", "/a", "--ro=/b:/c", "--bind", "/d", "/e", "--tmpfs",
                                   "/f:4K", "-v", "/g:/h:ro", "--ro-bind", "--i", "/j", "ls"});
  std::vector<std::string> files;
  for (const policy::FileRule& rule : run.policy.files) {
    files.push_back(rule.source + ">" + rule.target + " " + std::to_string(rule.rights) + " " +
                    rule.origin);
  }
  EXPECT_THAT(files, ElementsAre("/a> 15 --rw /a", "/b>/c 9 --ro /b:/c", "/d>/e 15 --bind /d /e",
                                 ">/f 15 --tmpfs /f:4K", "/g>/h 9 -v /g:/h:ro",
                                 "--i>/j 9 --ro-bind --i /j"));
}

// A descriptor from which `bytes` can be read.
std::string Descriptor(std::string_view bytes) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  EXPECT_EQ(write(ends[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  close(ends[1]);
  return std::to_string(ends[0]);
}

TEST(Options, ArgsOfADescriptorStandWhereItIsNamed) {
  using namespace std::string_view_literals;
  const RunCommand run = ParseRun({"--ro", "/a", "--args", Descriptor("--rw\0/b\0--ro\0"sv), "/c",
                                   "--args=" + Descriptor("--rw=/d\0--\0ls\0\0"sv), "--ro"});
  std::vector<std::string> files;
  for (const policy::FileRule& rule : run.policy.files) files.push_back(rule.source);
  EXPECT_THAT(files, ElementsAre("/a", "/b", "/c", "/d"));
  EXPECT_THAT(run.session.arguments, ElementsAre("ls", "", "--ro"));
}

TEST(Options, ArgsThatWereCutShortAreRefused) {
  EXPECT_EQ(ErrorOf({"run", "--args", Descriptor("--rw"), "ls"}),
            "--args: the last argument has no NUL behind it; see 'dunebox run --help'");
  EXPECT_EQ(ErrorOf({"run", "--args", "1000000", "ls"}),
            "--args: cannot read descriptor 1000000: Bad file descriptor; see 'dunebox run --help'");
}

TEST(Options, APlaceInCodeIsAnAddressOrAnOffsetInAFile) {
  const auto place = [](const char* text) {
    return runtime::CodePlace::Parse(text).value_or(runtime::CodePlace{.file = "refused"});
  };
  EXPECT_EQ(place("0x401000").offset, 0x401000u);
  EXPECT_EQ(place("7fff12345678").offset, 0x7fff12345678u);
  EXPECT_EQ(place("0x10").file, "");
  EXPECT_EQ(place("libstdc++.so.6+0x1f").file, "libstdc++.so.6");
  EXPECT_EQ(place("libstdc++.so.6+0x1f").offset, 0x1fu);
  for (const char* wrong : {"", "0x", "main", "+0x10", "libc.so.6+", "libc.so.6+x", "0x10 ",
                            "/lib/libc.so.6+0x10", "0x11112222333344445", "-1"}) {
    EXPECT_EQ(place(wrong).file, "refused") << wrong;
  }
}

TEST(Options, AValueMayBeAWordOfItsOwn) {
  const RunCommand run = ParseRun({"--engine", "kvm", "--ring", "0", "ls", "x"});
  EXPECT_EQ(EngineOf(run), runtime::EngineChoice::kKvm);
  EXPECT_EQ(run.session.ring, 0);
  EXPECT_THAT(run.session.arguments, ElementsAre("ls", "x"));
}

TEST(Options, TheLastOfRepeatedOptionsCounts) {
  EXPECT_EQ(EngineOf(ParseRun({"--engine=jit", "--engine=kvm", "ls"})),
            runtime::EngineChoice::kKvm);
  EXPECT_EQ(ParseRun({"--trace", "--trace", "ls"}).session.trace, runtime::TraceFormat::kText);
}

TEST(Options, EverythingAfterTheProgramBelongsToIt) {
  EXPECT_THAT(ParseRun({"ls", "-l", "--engine=jit", "--help", "--", "--bogus"}).session.arguments,
              ElementsAre("ls", "-l", "--engine=jit", "--help", "--", "--bogus"));
  EXPECT_EQ(EngineOf(ParseRun({"ls", "--engine=jit"})), runtime::EngineChoice::kAuto);
}

TEST(Options, AnOptionalValueNeverTakesTheNextWord) {
  const RunCommand bare = ParseRun({"--trace", "json", "--stats", "text"});
  EXPECT_EQ(bare.session.trace, runtime::TraceFormat::kText);
  EXPECT_FALSE(bare.session.diagnostics.statistics);
  EXPECT_THAT(bare.session.arguments, ElementsAre("json", "--stats", "text"));
  const RunCommand both = ParseRun({"--trace", "--stats", "--jit-record", "--trace", "ls"});
  EXPECT_EQ(both.session.diagnostics.record, "--trace") << "a value is no option";
  EXPECT_EQ(both.session.diagnostics.statistics_format, runtime::StatisticsFormat::kText);
  EXPECT_EQ(both.session.program, "ls");
}

TEST(Options, TraceAndStatisticsHaveFormatsAndFiles) {
  const RunCommand run = ParseRun(
      {"--trace=json", "--trace-file", "calls", "--stats=json", "--stats-file=numbers", "ls"});
  EXPECT_EQ(run.session.trace, runtime::TraceFormat::kJson);
  EXPECT_EQ(run.session.trace_file, "calls");
  EXPECT_TRUE(run.session.diagnostics.counts_calls());
  EXPECT_EQ(run.session.statistics_file, "numbers");
  EXPECT_EQ(ParseRun({"--trace=chrome", "ls"}).session.trace, runtime::TraceFormat::kChrome);
  EXPECT_EQ(ParseRun({"--trace=json", "--trace", "ls"}).session.trace, runtime::TraceFormat::kText);
  EXPECT_FALSE(ParseRun({"--stats=json", "--stats", "ls"}).session.diagnostics.counts_calls());
}

TEST(Options, TwoDashesMayStandBeforeTheProgram) {
  EXPECT_THAT(ParseRun({"--trace", "--", "ls", "-l"}).session.arguments, ElementsAre("ls", "-l"));
  EXPECT_THAT(ParseRun({"--", "--odd-name"}).session.arguments, ElementsAre("--odd-name"));
  EXPECT_THAT(ParseRun({"--", "--", "x"}).session.arguments, ElementsAre("--", "x"));
}

TEST(Options, ArgumentsOfTheProgramArriveByteForByte) {
  const std::vector<std::string> words = {"echo",   "[a,b]",  "",      "{x}",      "%%",
                                          "++",     "-",      "run",   "@f",       "a=b",
                                          "\xff\n", "doctor", "\"q\"", "--engine", "'s'"};
  EXPECT_EQ(ParseRun(words).session.arguments, words);
}

TEST(Options, AnEmptyWordOrOneDashIsAProgramName) {
  EXPECT_EQ(ParseRun({""}).session.program, "");
  EXPECT_EQ(ParseRun({"-"}).session.program, "-");
}

TEST(Options, AnUnknownOptionIsNamedAndTheHelpIsPointedAt) {
  EXPECT_EQ(ErrorOf({"run", "--bogus", "ls"}),
            "unknown option '--bogus'; see 'dunebox run --help'");
  EXPECT_EQ(ErrorOf({"run", "--bogus=3", "ls"}),
            "unknown option '--bogus'; see 'dunebox run --help'");
  EXPECT_EQ(ErrorOf({"run", "-x", "ls"}), "unknown option '-x'; see 'dunebox run --help'");
  EXPECT_EQ(ErrorOf({"run", "--eng=kvm", "ls"}),
            "unknown option '--eng'; see 'dunebox run --help'");
  EXPECT_EQ(ErrorOf({"doctor", "--trace"}),
            "unknown option '--trace'; see 'dunebox doctor --help'");
  EXPECT_EQ(ErrorOf({"--bogus"}), "unknown option '--bogus'; see 'dunebox --help'");
}

TEST(Options, AWrongOrAbsentValueIsRefused) {
  constexpr std::string_view kSee = "; see 'dunebox run --help'";
  const auto error = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "run");
    std::string message = ErrorOf(words);
    EXPECT_TRUE(message.ends_with(kSee)) << message;
    return message.substr(0, message.size() - std::min(message.size(), kSee.size()));
  };
  EXPECT_EQ(error({"--engine=vax", "ls"}), "--engine: 'vax' is not one of auto, kvm, jit");
  EXPECT_EQ(error({"--engine", "ls", "x"}), "--engine: 'ls' is not one of auto, kvm, jit");
  EXPECT_EQ(error({"--engine=[kvm,jit]", "ls"}),
            "--engine: '[kvm,jit]' is not one of auto, kvm, jit");
  EXPECT_EQ(error({"--engine=", "ls"}), "option '--engine' needs a value: auto, kvm, jit");
  EXPECT_EQ(error({"--engine"}), "option '--engine' needs a value: auto, kvm, jit");
  EXPECT_EQ(error({"--ring=1", "ls"}), "--ring: '1' is not one of 3, 0");
  EXPECT_EQ(error({"--allow=net", "ls"}),
            "--allow: 'net' is not one of all, build, python, network-client, server");
  EXPECT_EQ(error({"--ro-bind", "/a"}), "option '--ro-bind' needs a value: SRC DEST");
  EXPECT_EQ(error({"--ro-bind=/a", "/b", "ls"}),
            "option '--ro-bind' takes the next words: SRC DEST");
  EXPECT_EQ(error({"-v=/a:/b", "ls"}), "option '-v' takes the next words: SRC:DEST[:ro]");
  EXPECT_EQ(error({"-v", "/a", "ls"}), "-v: '/a' is not SRC:DEST[:ro]");
  EXPECT_EQ(error({"--net=lan", "ls"}),
            "--net: 'lan' is not one of none, loopback, host, unix, tcp:HOST:PORT, listen:PORT");
  EXPECT_EQ(error({"--args=2", "ls"}), "--args: '2' is not a number from 3 to 1048576");
  EXPECT_EQ(error({"--jit-dump=main", "ls"}),
            "--jit-dump: 'main' is neither a hexadecimal address nor FILE+0xOFFSET");
  EXPECT_EQ(error({"--jit-dump"}), "option '--jit-dump' needs a value: ADDR");
  EXPECT_EQ(error({"--time=10", "ls"}),
            "--time: '10' is not a whole number with ms, s, m or h, from 1ms to 8760h");
  EXPECT_EQ(error({"--cpu-time=0s", "ls"}),
            "--cpu-time: '0s' is not a whole number with ms, s, m or h, from 1ms to 8760h");
  EXPECT_EQ(error({"--mem=1T", "ls"}),
            "--mem: '1T' is not a whole number of bytes, or of K, M or G, from 4M to 1024G");
  EXPECT_EQ(error({"--fsize=1048575", "ls"}),
            "--fsize: '1048575' is not a whole number of bytes, or of K, M or G, from 1M to 1024G");
  EXPECT_EQ(error({"--pids=0", "ls"}), "--pids: '0' is not a number from 1 to 32768");
  EXPECT_EQ(error({"--nofile=15", "ls"}), "--nofile: '15' is not a number from 16 to 1048576");
  EXPECT_EQ(error({"--json-status-fd=2", "ls"}),
            "--json-status-fd: '2' is not a number from 3 to 1048576");
  EXPECT_EQ(error({"--env", "=1", "ls"}), "--env: '=1' has no name of a variable");
  EXPECT_EQ(error({"--env"}), "option '--env' needs a value: K[=V]");
  EXPECT_EQ(error({"--chdir", "", "ls"}), "--chdir: '' is not a directory");
  EXPECT_EQ(error({"--jit-perf-dump", "", "ls"}), "--jit-perf-dump: '' is not a directory");
  EXPECT_EQ(error({"--jit-perf-map=1", "ls"}), "option '--jit-perf-map' takes no value");
  EXPECT_EQ(error({"--stats=1", "ls"}), "--stats: '1' is not one of text, json");
  EXPECT_EQ(error({"--trace=yes", "ls"}), "--trace: 'yes' is not one of text, json, chrome");
  EXPECT_EQ(error({"--trace=", "ls"}), "option '--trace' needs a value: text, json, chrome");
  EXPECT_EQ(error({"--trace-file"}), "option '--trace-file' needs a value: FILE");
  EXPECT_EQ(error({"--stats-file", "", "ls"}), "--stats-file: '' is not a file");
}

TEST(Options, ErrorsAreOneLineThatPointsAtTheHelp) {
  const std::vector<std::vector<std::string>> lines = {{"run", "--engine=vax", "ls"},
                                                       {"run", "--engine"},
                                                       {"run", "--trace=yes", "ls"},
                                                       {"run"},
                                                       {"doctor", "now"},
                                                       {"nonsense"}};
  for (const auto& line : lines) {
    const std::string error = ErrorOf(line);
    EXPECT_THAT(error, HasSubstr("; see 'dunebox "));
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
}

TEST(Options, SomethingMustBeAskedFor) {
  EXPECT_EQ(ErrorOf({}), "no command given; see 'dunebox --help'");
  EXPECT_EQ(ErrorOf({"nonsense"}), "unknown command 'nonsense'; see 'dunebox --help'");
  EXPECT_EQ(ErrorOf({"run"}), "no program given; see 'dunebox run --help'");
  EXPECT_EQ(ErrorOf({"run", "--trace", "--"}), "no program given; see 'dunebox run --help'");
  EXPECT_EQ(ErrorOf({"doctor", "now"}), "unexpected argument 'now'; see 'dunebox doctor --help'");
}

TEST(Options, DoctorPrintsTextUnlessJsonIsAskedFor) {
  Command text = ParseCommandLine({"doctor"});
  ASSERT_TRUE(std::holds_alternative<DoctorCommand>(text));
  EXPECT_EQ(std::get<DoctorCommand>(text).format, doctor::ReportFormat::kText);
  Command json = ParseCommandLine({"doctor", "--json"});
  ASSERT_TRUE(std::holds_alternative<DoctorCommand>(json));
  EXPECT_EQ(std::get<DoctorCommand>(json).format, doctor::ReportFormat::kJson);
}

TEST(Options, VersionAndHelpAreTexts) {
  EXPECT_EQ(TextOf({"--version"}), "dunebox " DUNEBOX_VERSION "\n");
  EXPECT_EQ(TextOf({"--help"}), TopLevelHelp());
  EXPECT_EQ(TextOf({"-h"}), TopLevelHelp());
  EXPECT_EQ(TextOf({"run", "--trace", "--help"}), CommandHelp(*FindCommand("run")));
  EXPECT_EQ(TextOf({"doctor", "-h"}), CommandHelp(*FindCommand("doctor")));
}

TEST(Options, HelpNamesEveryCommandAndOptionAndTheDefaultRights) {
  for (const CommandRow& command : Commands()) {
    EXPECT_THAT(TopLevelHelp(), HasSubstr(std::string(command.name)));
    for (const OptionRow& option : command.options) {
      EXPECT_THAT(CommandHelp(command), HasSubstr(std::string(option.name)));
      EXPECT_FALSE(option.help.empty()) << option.name;
    }
  }
  EXPECT_THAT(TopLevelHelp(), HasSubstr("--allow=all"));
  EXPECT_THAT(CommandHelp(*FindCommand("run")), HasSubstr("--allow=all"));
}

TEST(Options, EveryValueOfEveryOptionIsAccepted) {
  for (const CommandRow& command : Commands()) {
    for (const OptionRow& option : command.options) {
      for (const std::string_view value : option.values) {
        const std::string word = std::string(option.name) + "=" + std::string(value);
        std::vector<std::string> words = {std::string(command.name), word};
        if (command.operands != Operands::kNone) words.emplace_back("ls");
        EXPECT_EQ(ErrorOf(words), "no error");
      }
    }
  }
}

}  // namespace
}  // namespace dunebox::cli
