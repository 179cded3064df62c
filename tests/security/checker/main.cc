// dunebox_check_code: proves that what --jit-record has written down obeys docs/isolation.md.
//
//   dunebox_check_code [--isolation=NAME] FILE-OR-DIRECTORY...
//
// Of a directory, all files that --jit-record has made there.
// With --isolation a file of code under another one is an error. Exit status: 0 all of it does, 1
// something does not, 2 a file cannot be used or there was nothing to check.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "tests/security/checker/checker.h"
#include "tests/security/checker/reader.h"

namespace dunebox::checker {
namespace {

constexpr std::string_view kKinds[] = {"direct block", "indirect block", "indirect stub",
                                       "exit stub"};
constexpr unsigned kMostPrinted = 20;      // violations, of all files together
constexpr std::size_t kContextBytes = 48;  // in front of each
constexpr std::size_t kMostLength = 15;    // of an instruction

struct Summary {
  std::uint64_t blocks = 0, stubs = 0, instructions = 0, violations = 0;
  std::map<std::string, std::uint64_t> isolations;
  // "rule: detail: mnemonic"
  std::map<std::string, std::uint64_t> kinds;
  bool is_unusable = false;
};

int AsInt(std::string_view text) { return static_cast<int>(text.size()); }

void Print(const std::string& file, const Code& code, const Violation& violation) {
  const std::string_view kind = kKinds[static_cast<unsigned>(code.header.kind)];
  const std::string_view isolation = NameOf(code.header.isolation);
  std::printf("%s: %.*s of %#llx (%.*s), host %#llx+%#x: %s\n  %.*s: %s\n ", file.c_str(),
              AsInt(kind), kind.data(), static_cast<unsigned long long>(code.header.pc),
              AsInt(isolation), isolation.data(), static_cast<unsigned long long>(code.header.host),
              violation.offset, violation.instruction.c_str(), AsInt(violation.rule),
              violation.rule.data(), violation.detail.c_str());
  const std::size_t from = violation.offset < kContextBytes ? 0 : violation.offset - kContextBytes;
  const std::size_t to = std::min<std::size_t>(code.bytes.size(), violation.offset + kMostLength);
  for (std::size_t i = from; i < to; ++i) {
    std::printf(i == violation.offset ? " | %02x" : " %02x", code.bytes[i]);
  }
  std::printf("\n");
}

void CheckFile(const std::string& file, std::string_view isolation, Summary& summary) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    std::printf("%s: cannot be opened\n", file.c_str());
    summary.is_unusable = true;
    return;
  }
  const std::string contents((std::istreambuf_iterator<char>(stream)), {});
  Reader reader({reinterpret_cast<const std::uint8_t*>(contents.data()), contents.size()});
  while (const std::optional<Code> code = reader.Next()) {
    const std::string_view name = NameOf(code->header.isolation);
    ++(code->header.kind == record::Kind::kExitStub ? summary.stubs : summary.blocks);
    ++summary.isolations[std::string(name)];
    if (!isolation.empty() && name != isolation) summary.is_unusable = true;
    const Checked checked = Check(*code);
    summary.instructions += checked.instructions;
    for (const Violation& violation : checked.violations) {
      if (summary.violations++ < kMostPrinted) Print(file, *code, violation);
      const std::string mnemonic = violation.instruction.substr(0, violation.instruction.find(' '));
      ++summary.kinds[std::string(violation.rule) + ": " + violation.detail + ": " + mnemonic];
    }
  }
  if (reader.error().empty()) return;
  std::printf("%s: %s\n", file.c_str(), reader.error().c_str());
  summary.is_unusable = true;
}

// The files that a word of the command line stands for.
std::vector<std::string> FilesOf(const char* word) {
  std::error_code error;
  if (!std::filesystem::is_directory(word, error)) return {word};
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(word, error)) {
    if (entry.path().extension() == ".blocks") files.push_back(entry.path().string());
  }
  std::ranges::sort(files);
  return files;
}

int Run(int count, char** words) {
  constexpr std::string_view kOption = "--isolation=";
  std::string_view isolation;
  Summary summary;
  int files = 0;
  for (int i = 1; i < count; ++i) {
    const std::string_view word = words[i];
    if (word.starts_with(kOption)) {
      isolation = word.substr(kOption.size());
    } else {
      for (const std::string& file : FilesOf(words[i])) {
        CheckFile(file, isolation, summary);
        ++files;
      }
    }
  }
  for (const auto& [kind, number] : summary.kinds) {
    std::printf("%8llu x %s\n", static_cast<unsigned long long>(number), kind.c_str());
  }
  std::printf("%d files, %llu blocks, %llu exit stubs, %llu instructions, %llu violations;", files,
              static_cast<unsigned long long>(summary.blocks),
              static_cast<unsigned long long>(summary.stubs),
              static_cast<unsigned long long>(summary.instructions),
              static_cast<unsigned long long>(summary.violations));
  for (const auto& [name, number] : summary.isolations) std::printf(" %s", name.c_str());
  std::printf("\n");
  if (summary.is_unusable || summary.blocks == 0) return 2;
  return summary.violations == 0 ? 0 : 1;
}

}  // namespace
}  // namespace dunebox::checker

int main(int argc, char** argv) { return dunebox::checker::Run(argc, argv); }
