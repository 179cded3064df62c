#include "sandbox/policy/hosts.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "hostcalls/errors/message.h"
#include "runtime/file_descriptor.h"

namespace dunebox::policy {
namespace {

constexpr std::uint8_t kMappedPrefix = 96;  // of ::ffff:0:0/96

std::optional<AddressRange> ParseNumbers(const std::string& text) {
  AddressRange range;
  in_addr four;
  if (inet_pton(AF_INET, text.c_str(), &four) == 1) {
    range.address[10] = range.address[11] = 0xff;
    std::memcpy(&range.address[12], &four, sizeof four);
    range.prefix = 128;
    return range;
  }
  in6_addr six;
  if (inet_pton(AF_INET6, text.c_str(), &six) != 1) return std::nullopt;
  std::memcpy(range.address.data(), &six, sizeof six);
  range.prefix = 128;
  return range;
}

// What `getent ahosts NAME` prints; nothing when it does not know the name.
absl::StatusOr<std::string> RunGetent(const std::string& name) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const runtime::FileDescriptor read_end(ends[0]);
  runtime::FileDescriptor write_end(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  std::string words[] = {"getent", "ahosts", "--", name};
  char* const argv[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data(),
                        nullptr};
  pid_t pid = 0;
  const int error = posix_spawn(&pid, "/usr/bin/getent", &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return errors::Named(errors::Id::kUnknownHost, absl::ErrnoToStatus(error, "cannot run /usr/bin/getent"));
  write_end = runtime::FileDescriptor();
  std::string text;
  char buffer[4096];
  for (ssize_t bytes = 0; (bytes = read(read_end.get(), buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(bytes));
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) text.clear();
  return text;
}

}  // namespace

std::optional<AddressRange> ParseAddress(const std::string& text) {
  if (text == "*") return AddressRange{};
  const std::size_t slash = text.find('/');
  std::optional<AddressRange> range = ParseNumbers(text.substr(0, slash));
  if (!range || slash == std::string::npos) return range;
  const bool is_ipv4 = text.find(':') == std::string::npos;
  const unsigned most = is_ipv4 ? 32 : 128;
  unsigned bits = 0;
  if (!absl::SimpleAtoi(text.substr(slash + 1), &bits) || bits > most) return std::nullopt;
  range->prefix = static_cast<std::uint8_t>(is_ipv4 ? bits + kMappedPrefix : bits);
  return range;
}

absl::StatusOr<std::vector<std::string>> LookUpHost(const std::string& name) {
  absl::StatusOr<std::string> text = RunGetent(name);
  if (!text.ok()) return text.status();
  std::vector<std::string> addresses;
  for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    // "192.0.2.1   STREAM example.org"; a line each for the kinds of sockets. "%" begins a scope.
    std::string address(line.substr(0, line.find_first_of(" \t%")));
    if (!ParseNumbers(address)) continue;
    if (std::ranges::find(addresses, address) == addresses.end()) {
      addresses.push_back(std::move(address));
    }
  }
  if (addresses.empty())
    return errors::Named(errors::Id::kUnknownHost, absl::NotFoundError(absl::StrCat(
                                                       "no address known of '", name, "'")));
  return addresses;
}

}  // namespace dunebox::policy
