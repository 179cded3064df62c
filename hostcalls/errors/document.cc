// dunebox_document_errors: docs/errors.md, written from the list of messages. [generated_page.h]
#include <fmt/format.h>

#include <string>

#include "absl/strings/str_replace.h"
#include "hostcalls/errors/catalogue.h"
#include "hostcalls/generated_page.h"

namespace dunebox::errors {
namespace {

constexpr std::string_view kIntroduction =
    R"(# Messages

Made from `hostcalls/errors/errors.inc` by the build's target `docs`; `dunebox explain ID` says the same in a terminal.

A message of dunebox is one line on standard error. It begins with `dunebox: ` and ends with its id:

```
$ dunebox run lss
dunebox: lss: not found in PATH [E0301]
$ dunebox explain E0301
```

An id keeps its meaning in later versions, and no number is used twice. Messages that have one cause and one cure share an id; the
text before it says what it is about this time. When all is well dunebox says nothing. What was asked for
(`--trace`, `--stats`, `--gdb`, `dunebox doctor`) is no message and has no id.
)";

struct Chapter {
  unsigned hundred;
  std::string_view title;
};
constexpr Chapter kChapters[] = {
    {0, "Dunebox itself"},       {1, "The command line"}, {2, "Policies"},
    {3, "The program"},          {4, "Engines"},          {5, "The second wall"},
    {6, "The host"},             {7, "Limits"},           {8, "Reports, gdb and measurements"},
    {9, "Containers"},
};

std::string Plain(std::string_view text) {
  return absl::StrReplaceAll(absl::string_view(text.data(), text.size()),
                             {{"*", "\\*"}, {"<", "\\<"}, {"|", "\\|"}});
}

std::string Page() {
  std::string text(kIntroduction);
  for (const Chapter& chapter : kChapters) {
    text += fmt::format("\n## {}\n\n| id | message | cause | cure |\n|---|---|---|---|\n", chapter.title);
    for (const Row& row : AllRows()) {
      if (static_cast<unsigned>(row.id) / 100 != chapter.hundred) continue;
      text += fmt::format("| {} | {} | {} | {} |\n", CodeOf(row.id).data(), Plain(row.title),
                          Plain(row.cause), Plain(row.cure));
    }
  }
  return text;
}

}  // namespace
}  // namespace dunebox::errors

int main(int argc, char** argv) {
  return dunebox::WriteGeneratedPage(dunebox::errors::Page(), {argv, static_cast<std::size_t>(argc)});
}
