#include "runtime/doctor/text_file.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <system_error>

namespace dunebox::doctor {

std::optional<std::string> ReadTextFile(const std::string& path) {
  std::ifstream file(path);
  if (!file.is_open()) return std::nullopt;
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (file.bad()) return std::nullopt;
  return text;
}

std::optional<long> ReadNumberFile(const std::string& path) {
  const std::optional<std::string> text = ReadTextFile(path);
  if (!text) return std::nullopt;
  long number = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc{}) return std::nullopt;
  return number;
}

}  // namespace dunebox::doctor
