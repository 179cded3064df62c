// Completion scripts for shells, made from the option table: what the parser takes is what a shell offers.
//
//   dunebox completion bash > /usr/share/bash-completion/completions/dunebox
#ifndef DUNEBOX_SANDBOX_CLI_COMPLETION_H_
#define DUNEBOX_SANDBOX_CLI_COMPLETION_H_

#include <span>
#include <string>
#include <string_view>

namespace dunebox::cli {

// The names that CompletionScript knows.
std::span<const std::string_view> Shells();

// `shell` is one of Shells().
std::string CompletionScript(std::string_view shell);

}  // namespace dunebox::cli

#endif  // DUNEBOX_SANDBOX_CLI_COMPLETION_H_
