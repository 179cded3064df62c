// docs/policy.md has every setting in its table, under the names that the tables of the code have.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "sandbox/cli/option_table.h"
#include "sandbox/policy/policy_file.h"
#include "sandbox/policy/presets.h"
#include "sandbox/policy/settings.h"

namespace dunebox::policy {
namespace {

std::string Document() {
  std::ostringstream text;
  text << std::ifstream(POLICY_DOCUMENT).rdbuf();
  return text.str();
}

TEST(PolicyDocument, HasALineForEachSetting) {
  const std::string document = Document();
  for (const SettingRow& row : Settings()) {
    const cli::OptionRow* const option = cli::FindOption(*cli::FindCommand("run"), row.flag);
    ASSERT_NE(option, nullptr) << row.flag;
    std::string usage(row.flag);
    if (!option->value_name.empty()) absl::StrAppend(&usage, " ", std::string(option->value_name));
    if (!option->values.empty()) absl::StrAppend(&usage, " NAME");
    const std::string line = absl::StrCat("| `", usage, "` | `", std::string(row.key), "` | ");
    EXPECT_NE(document.find(line), std::string::npos) << line;
  }
}

TEST(PolicyDocument, NamesEveryPreset) {
  const std::string document = Document();
  for (const std::string_view name : PresetNames()) {
    const std::string line = absl::StrCat("| `--allow=", std::string(name), "` | ");
    EXPECT_NE(document.find(line), std::string::npos) << line;
  }
}

TEST(PolicyDocument, EveryPolicyOptionIsASetting) {
  for (const cli::OptionRow& option : cli::FindCommand("run")->options) {
    if (option.id != cli::OptionId::kPolicy) continue;
    EXPECT_NE(FindSettingOfFlag(option.name), nullptr) << option.name;
  }
}

// What stands between ```toml and ```.
TEST(PolicyDocument, ItsExamplesAreUnderstood) {
  const std::string document = Document();
  constexpr std::string_view kBegin = "```toml\n";
  int examples = 0;
  for (std::size_t at = 0; (at = document.find(kBegin, at)) != std::string::npos; ++examples) {
    at += kBegin.size();
    const std::string text = document.substr(at, document.find("```", at) - at);
    Policy policy;
    const absl::Status status = AddPolicyText(policy, text, "docs/policy.md");
    EXPECT_TRUE(status.ok()) << status << "\n" << text;
  }
  EXPECT_GE(examples, 3);
}

}  // namespace
}  // namespace dunebox::policy
