#include "runtime/main/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/main/help.h"
#include "runtime/main/option_table.h"

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
  EXPECT_EQ(run.session.engine, runtime::EngineChoice::kAuto);
  EXPECT_EQ(run.session.ring, 3);
  EXPECT_EQ(run.session.trace, runtime::TraceFormat::kNone);
  EXPECT_EQ(run.rights, Rights::kDefault);
  EXPECT_EQ(run.session.program, "ls");
  EXPECT_THAT(run.session.arguments, ElementsAre("ls"));
}

TEST(Options, EveryRunOptionReachesTheSession) {
  const RunCommand run = ParseRun({"--engine=kvm", "--ring=0", "--allow=all", "--trace", "ls"});
  EXPECT_EQ(run.session.engine, runtime::EngineChoice::kKvm);
  EXPECT_EQ(run.session.ring, 0);
  EXPECT_EQ(run.session.trace, runtime::TraceFormat::kText);
  EXPECT_EQ(run.rights, Rights::kAllowAll);
  EXPECT_EQ(ParseRun({"--engine=jit", "ls"}).session.engine, runtime::EngineChoice::kJit);
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
  const RunCommand recorded = ParseRun({"--jit-record=/tmp/records", "ls"});
  EXPECT_EQ(recorded.session.diagnostics.record, "/tmp/records");
  EXPECT_FALSE(recorded.session.diagnostics.any_report());
}

TEST(Options, LimitsReachTheSession) {
  const runtime::SessionLimits none = ParseRun({"ls"}).session.limits;
  EXPECT_FALSE(none.wall_time || none.cpu_time || none.memory || none.tasks || none.open_files ||
               none.file_size);
  const runtime::SessionLimits limits =
      ParseRun({"--time", "10s", "--cpu-time=1500ms", "--mem", "512M", "--pids", "64", "--nofile",
                "32", "--fsize=1G", "ls"})
          .session.limits;
  EXPECT_EQ(limits.wall_time, std::chrono::seconds(10));
  EXPECT_EQ(limits.cpu_time, std::chrono::milliseconds(1500));
  EXPECT_EQ(limits.memory, std::uint64_t{512} << 20);
  EXPECT_EQ(limits.tasks, 64u);
  EXPECT_EQ(limits.open_files, 32u);
  EXPECT_EQ(limits.file_size, std::uint64_t{1} << 30);
}

TEST(Options, SurroundingsReachTheSession) {
  const RunCommand none = ParseRun({"ls"});
  EXPECT_FALSE(none.session.environment.clear || none.session.die_with_parent ||
               none.session.dry_run);
  EXPECT_EQ(none.session.status_fd, -1);
  const RunCommand run =
      ParseRun({"--env", "A=1", "--chdir", "/usr", "--clearenv", "--env=B", "--env", "C=[x,y]=",
                "--die-with-parent", "--json-status-fd=3", "--dry-run", "ls", "--env", "D"});
  EXPECT_THAT(run.session.environment.entries, ElementsAre("A=1", "B", "C=[x,y]="));
  EXPECT_TRUE(run.session.environment.clear);
  EXPECT_EQ(run.session.directory, "/usr");
  EXPECT_TRUE(run.session.die_with_parent);
  EXPECT_EQ(run.session.status_fd, 3);
  EXPECT_TRUE(run.session.dry_run);
  EXPECT_THAT(run.session.arguments, ElementsAre("ls", "--env", "D"));
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
  EXPECT_EQ(run.session.engine, runtime::EngineChoice::kKvm);
  EXPECT_EQ(run.session.ring, 0);
  EXPECT_THAT(run.session.arguments, ElementsAre("ls", "x"));
}

TEST(Options, TheLastOfRepeatedOptionsCounts) {
  EXPECT_EQ(ParseRun({"--engine=jit", "--engine=kvm", "ls"}).session.engine,
            runtime::EngineChoice::kKvm);
  EXPECT_EQ(ParseRun({"--trace", "--trace", "ls"}).session.trace, runtime::TraceFormat::kText);
}

TEST(Options, EverythingAfterTheProgramBelongsToIt) {
  EXPECT_THAT(ParseRun({"ls", "-l", "--engine=jit", "--help", "--", "--bogus"}).session.arguments,
              ElementsAre("ls", "-l", "--engine=jit", "--help", "--", "--bogus"));
  EXPECT_EQ(ParseRun({"ls", "--engine=jit"}).session.engine, runtime::EngineChoice::kAuto);
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
  EXPECT_EQ(error({"--allow=net", "ls"}), "--allow: 'net' is not one of all");
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
        EXPECT_EQ(ErrorOf({std::string(command.name), word, "ls"}), "no error");
      }
    }
  }
}

}  // namespace
}  // namespace dunebox::cli
