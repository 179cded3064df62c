#include "runtime/doctor/host_file.h"

#include <charconv>
#include <system_error>

#include "runtime/text_file.h"

namespace dunebox::doctor {

std::string HostFileText(const std::string& path) {
  return runtime::ReadTextFile(path).value_or("");
}

std::optional<long> HostFileNumber(const std::string& path) {
  const std::string text = HostFileText(path);
  long number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  return number;
}

}  // namespace dunebox::doctor
