#include "runtime/loader/script.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdio>
#include <fstream>
#include <random>
#include <string>

#include "tests/unit/traced_exec.h"

namespace dunebox::loader {
namespace {

using namespace std::string_literals;

// "interpreter", "interpreter|argument", or the status code.
std::string Parse(const std::string& head) {
  const auto line = ParseScriptLine(head);
  if (!line.ok()) return absl::StatusCodeToString(line.status().code());
  return line->interpreter + (line->argument ? "|" + *line->argument : "");
}

constexpr const char* kNoExec = "FAILED_PRECONDITION";
constexpr const char* kNoAccess = "PERMISSION_DENIED";

TEST(Script, IsRecognisedByItsFirstTwoBytes) {
  EXPECT_TRUE(IsScript("#!"));
  EXPECT_FALSE(IsScript("#"));
  EXPECT_FALSE(IsScript(""));
  EXPECT_FALSE(IsScript(" #!/bin/sh\n"));
  EXPECT_EQ(Parse("echo\n"), kNoExec);
}

TEST(Script, HasOneInterpreterAndOneArgument) {
  EXPECT_EQ(Parse("#!/bin/sh\n"), "/bin/sh");
  EXPECT_EQ(Parse("#! \t/bin/sh\t \necho"), "/bin/sh");
  EXPECT_EQ(Parse("#!/usr/bin/env python3 -u\n"), "/usr/bin/env|python3 -u");
  EXPECT_EQ(Parse("#!/bin/sh \t -x \t y \t \n"), "/bin/sh|-x \t y");
  EXPECT_EQ(Parse("#!/bin/sh -x\r\n"), "/bin/sh|-x\r");
  EXPECT_EQ(Parse("#!sh\n"), "sh");
}

TEST(Script, NeedsAnInterpreter) {
  EXPECT_EQ(Parse("#!\n"), kNoExec);
  EXPECT_EQ(Parse("#! \t \n/bin/sh\n"), kNoExec);
  EXPECT_EQ(Parse("#!" + std::string(300, ' ')), kNoExec);
  EXPECT_EQ(Parse("#!"), kNoAccess);
  EXPECT_EQ(Parse("#!  "), kNoAccess);
  EXPECT_EQ(Parse("#!\0/bin/sh\n"s), kNoAccess);
}

TEST(Script, EndOfFileOrNulEndsTheLineAndKeepsItsBlanks) {
  EXPECT_EQ(Parse("#!/bin/sh"), "/bin/sh");
  EXPECT_EQ(Parse("#!/bin/sh -x  "), "/bin/sh|-x  ");
  EXPECT_EQ(Parse("#!/bin/sh "), "/bin/sh|");
  EXPECT_EQ(Parse("#!/bin/sh\0 -x\n"s), "/bin/sh");
  EXPECT_EQ(Parse("#!/bin/sh -x\0y\n"s), "/bin/sh|-x");
}

TEST(Script, PathMustEndWithinTheFirst256Bytes) {
  const auto path = [](std::size_t size) { return "#!" + std::string(size, '/'); };
  EXPECT_EQ(Parse(path(253) + "\n"), std::string(253, '/'));
  EXPECT_EQ(Parse(path(254) + "\n"), kNoExec);
  EXPECT_EQ(Parse(path(253) + " -x\n"), std::string(253, '/'));
  EXPECT_EQ(Parse(path(253)), std::string(253, '/'));
  EXPECT_EQ(Parse(path(254)), kNoExec);
  EXPECT_EQ(Parse("#!" + std::string(253, ' ') + "x"), kNoExec);
}

TEST(Script, ArgumentIsCutAfter255Bytes) {
  const std::string head = "#!/bin/sh " + std::string(300, 'x') + "\n";
  EXPECT_EQ(Parse(head), "/bin/sh|" + std::string(245, 'x'));
  EXPECT_EQ(Parse(head.substr(0, 256)), "/bin/sh|" + std::string(245, 'x'));
  EXPECT_EQ(Parse("#!/bin/sh " + std::string(245, 'x') + "\n"), "/bin/sh|" + std::string(245, 'x'));
  // A cut inside the blanks trims them.
  EXPECT_EQ(Parse("#!/bin/sh -x" + std::string(300, ' ') + "y\n"), "/bin/sh|-x");
}

// ---- The host kernel as oracle ------------------------------------------------------------------

class ScriptMaker {
 public:
  std::string Next() {
    std::string text = "#!" + Blanks() + std::string(Length(), '/') + "bin/true";
    if (Below(3) != 0) text += Blanks() + std::string(Length(), 'a') + Blanks();
    for (std::size_t count = Below(4); count > 0; --count) Insert(text);
    // Most of the rules are about what happens around byte 255.
    if (Below(2) == 0) text.resize(252 + Below(8), Below(2) == 0 ? ' ' : 'z');
    return Below(2) == 0 ? text + "\n" : text;
  }

 private:
  std::size_t Below(std::size_t bound) { return random_() % bound; }
  std::string Blanks() { return std::string(Below(3), Below(2) == 0 ? ' ' : '\t'); }
  std::size_t Length() { return 1 + (Below(4) == 0 ? Below(250) : Below(4)); }
  void Insert(std::string& text) {
    static constexpr char kSpecial[] = {' ', '\t', '\n', '\0', 'b'};
    text.insert(2 + Below(text.size() - 1), 1, kSpecial[Below(sizeof(kSpecial))]);
  }

  std::mt19937 random_{256};
};

void WriteScript(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
  EXPECT_EQ(chmod(path.c_str(), 0755), 0);
}

// What the kernel made of it, in the form of Parse.
std::string KernelParse(const TracedExec& exec) {
  if (exec.error() == ENOEXEC) return kNoExec;
  if (exec.error() == EACCES) return kNoAccess;
  if (exec.error() != 0) return "errno " + std::to_string(exec.error());
  const std::vector<std::string> arguments = exec.Arguments();
  return arguments.size() == 2 ? arguments[0] : arguments[0] + "|" + arguments[1];
}

bool CanExecuteScripts(const std::string& path) {
  WriteScript(path, "#!/bin/true\n");
  return TracedExec(path, {"script"}, {}).error() == 0;
}

TEST(Script, AgreesWithTheHostKernel) {
  const std::string path = ::testing::TempDir() + "dunebox_script_" + std::to_string(getpid());
  if (!CanExecuteScripts(path)) GTEST_SKIP() << "cannot trace or execute " << path;
  ScriptMaker maker;
  int executed = 0;
  for (int round = 0; round < 500; ++round) {
    const std::string text = maker.Next();
    WriteScript(path, text);
    const TracedExec exec(path, {"script"}, {});
    executed += exec.error() == 0 ? 1 : 0;
    // When the interpreter is a name of nothing or of a directory, there is nothing to compare.
    const bool is_name_bad = exec.error() == ENOENT || exec.error() == EACCES;
    if (is_name_bad && ParseScriptLine(text).ok()) continue;
    EXPECT_EQ(Parse(text), KernelParse(exec)) << ::testing::PrintToString(text);
  }
  std::remove(path.c_str());
  EXPECT_GT(executed, 100);
}

}  // namespace
}  // namespace dunebox::loader
