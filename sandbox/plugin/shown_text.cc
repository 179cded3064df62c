#include "sandbox/plugin/shown_text.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"

namespace dunebox::plugin {
namespace {

constexpr std::size_t kMostText = 4096;

bool IsControl(char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); }

}  // namespace

std::string ShownText(std::string text) {
  if (text.size() > kMostText) text.resize(kMostText);
  std::ranges::replace_if(text, [](char c) { return c != '\n' && IsControl(c); }, '?');
  return text;
}

std::string ShownLine(std::string text) {
  text = ShownText(std::move(text));
  std::ranges::replace(text, '\n', '?');
  return text;
}

}  // namespace dunebox::plugin
