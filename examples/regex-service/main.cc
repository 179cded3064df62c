// Matches patterns that strangers send, with the system's own PCRE2 in a sandbox: a pattern that would take for
// ever ends at its deadline, and one that finds a bug of the library stays in the sandbox.
//
//   printf 'PATTERN\tTEXT\n' | regex-service
//
// For each line one of: match, no match, bad pattern, too slow, failed.
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>

#include "dunebox/sandbox.h"

namespace {

using dunebox::Sandbox;

constexpr const char* kLibrary = "/usr/lib/x86_64-linux-gnu/libpcre2-8.so.0";

// The library's functions, by its manual: its structures are the plugin's business.
using Compile = void*(const char* pattern, std::size_t length, std::uint32_t options, int* error,
                      std::size_t* place, void* context);
using MakeMatchData = void*(void* code, void* context);
using Match = int(void* code, const char* text, std::size_t length, std::size_t start,
                  std::uint32_t options, void* match_data, void* context);
using MakeMatchContext = void*(void* context);
using SetMatchLimit = int(void* match_context, std::uint32_t limit);
using Free = void(void*);

constexpr int kNoMatch = -1;  // PCRE2_ERROR_NOMATCH

class Matcher {
 public:
  explicit Matcher(Sandbox& sandbox) : sandbox_(sandbox) {}

  absl::StatusOr<std::string_view> TryMatch(std::string_view pattern, std::string_view text) {
    auto compile = sandbox_.Function<Compile>("pcre2_compile_8");
    if (!compile.ok()) return compile.status();
    auto make_data = sandbox_.Function<MakeMatchData>("pcre2_match_data_create_from_pattern_8");
    if (!make_data.ok()) return make_data.status();
    auto make_context = sandbox_.Function<MakeMatchContext>("pcre2_match_context_create_8");
    if (!make_context.ok()) return make_context.status();
    auto set_limit = sandbox_.Function<SetMatchLimit>("pcre2_set_match_limit_8");
    if (!set_limit.ok()) return set_limit.status();
    auto free_context = sandbox_.Function<Free>("pcre2_match_context_free_8");
    if (!free_context.ok()) return free_context.status();
    auto match = sandbox_.Function<Match>("pcre2_match_8");
    if (!match.ok()) return match.status();
    auto free_data = sandbox_.Function<Free>("pcre2_match_data_free_8");
    if (!free_data.ok()) return free_data.status();
    auto free_code = sandbox_.Function<Free>("pcre2_code_free_8");
    if (!free_code.ok()) return free_code.status();

    auto shared_pattern = sandbox_.MakeString(pattern);
    if (!shared_pattern.ok()) return shared_pattern.status();
    auto shared_text = sandbox_.MakeString(text);
    if (!shared_text.ok()) return shared_text.status();
    auto error = sandbox_.Allocate<std::size_t>(2);
    if (!error.ok()) return error.status();

    const auto code = (*compile)(*shared_pattern, pattern.size(), 0, error->guest().Cast<int>(),
                                 error->guest() + 1, nullptr);
    if (!code.ok()) return code.status();
    if (code->is_null()) return "bad pattern";
    const auto data = (*make_data)(*code, nullptr);
    if (!data.ok()) return data.status();
    // Not the library's count of steps but the sandbox's deadline says when it is enough.
    const auto context = (*make_context)(nullptr);
    if (!context.ok()) return context.status();
    if (const auto set = (*set_limit)(*context, UINT32_MAX); !set.ok()) return set.status();
    const auto found = (*match)(*code, *shared_text, text.size(), 0, 0, *data, *context);
    if (!found.ok()) return found.status();
    (void)(*free_context)(*context);
    (void)(*free_data)(*data);
    (void)(*free_code)(*code);
    const int result = found->UnverifiedValue();
    if (result >= 0) return "match";
    return result == kNoMatch ? "no match" : "failed";
  }

 private:
  Sandbox& sandbox_;
};

std::string_view Answer(Sandbox& sandbox, std::string_view pattern, std::string_view text) {
  const absl::StatusOr<std::string_view> answer = Matcher(sandbox).TryMatch(pattern, text);
  if (answer.ok()) return *answer;
  // Whatever the pattern has done to the library is gone with the next line.
  if (!sandbox.Reset().ok()) return "failed";
  return answer.status().code() == absl::StatusCode::kDeadlineExceeded ? "too slow" : "failed";
}

}  // namespace

int main() {
  absl::StatusOr<std::unique_ptr<Sandbox>> sandbox =
      Sandbox::Create({.deadline = absl::Milliseconds(200)});
  const absl::Status status = sandbox.ok() ? (*sandbox)->Load(kLibrary) : sandbox.status();
  if (!status.ok()) {
    std::fprintf(stderr, "regex-service: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  for (std::string line; std::getline(std::cin, line);) {
    const std::size_t tab = line.find('\t');
    const std::string_view whole(line);
    std::cout << (tab == std::string::npos
                      ? std::string_view("failed")
                      : Answer(**sandbox, whole.substr(0, tab), whole.substr(tab + 1)))
              << std::endl;
  }
}
