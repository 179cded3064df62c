#include "hostcalls/errors/catalogue.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace dunebox::errors {
namespace {

constexpr Row kRows[] = {
#define DUNEBOX_ERROR(number, name, title, cause, cure) {Id::name, #name, title, cause, cure},
#include "hostcalls/errors/errors.inc"
};

static_assert(std::ranges::is_sorted(kRows, std::ranges::less_equal(), &Row::id),
              "rows stand in the order of their ids, each once");

constexpr std::size_t kColumns = 80;
constexpr std::size_t kLabel = 7;

char Upper(char letter) { return letter >= 'a' && letter <= 'z' ? static_cast<char>(letter - 32) : letter; }

// `label`, and the words of `text` behind it and below each other.
std::string Paragraph(std::string_view label, std::string_view text) {
  std::string paragraph;
  std::string line(label);
  line.resize(kLabel, ' ');
  for (const absl::string_view word : absl::StrSplit(absl::string_view(text.data(), text.size()), ' ')) {
    if (line.size() > kLabel && line.size() + 1 + word.size() > kColumns) {
      absl::StrAppend(&paragraph, line, "\n");
      line.assign(kLabel, ' ');
    }
    absl::StrAppend(&line, line.size() > kLabel ? " " : "", word);
  }
  return absl::StrCat(paragraph, line, "\n");
}

}  // namespace

std::span<const Row> AllRows() { return kRows; }

const Row* FindRow(std::string_view text) {
  const auto* const row = std::ranges::find_if(kRows, [&](const Row& candidate) {
    return std::ranges::equal(text, std::string_view(CodeOf(candidate.id).data()), {}, Upper);
  });
  return row == std::end(kRows) ? nullptr : row;
}

std::string ExplanationOf(const Row& row) {
  return absl::StrCat(CodeOf(row.id).data(), "  ", std::string(row.title), "\n\n",
                      Paragraph("Cause", row.cause), Paragraph("Cure", row.cure));
}

std::string ListOfAll() {
  std::string text;
  for (const Row& row : kRows) {
    absl::StrAppend(&text, CodeOf(row.id).data(), "  ", std::string(row.title), "\n");
  }
  return text;
}

}  // namespace dunebox::errors
