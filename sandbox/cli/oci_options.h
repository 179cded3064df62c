// From the options and operands of `dunebox oci` to its command.
//
//   oci::Command command;
//   std::string error = SetOciOption("--root", "/run/x", command);   // empty: taken
#ifndef DUNEBOX_SANDBOX_CLI_OCI_OPTIONS_H_
#define DUNEBOX_SANDBOX_CLI_OCI_OPTIONS_H_

#include <span>
#include <string>
#include <string_view>

#include "sandbox/oci/commands.h"

namespace dunebox::cli {

// Why not; empty when done.
std::string SetOciOption(std::string_view name, const std::string& value, oci::Command& command);
// `name`: "oci kill"; `words`: what stands behind its options.
std::string SetOciOperands(std::string_view name, std::span<const std::string> words,
                           oci::Command& command);

// What engines ask for with --version.
std::string OciVersionText();

}  // namespace dunebox::cli

#endif  // DUNEBOX_SANDBOX_CLI_OCI_OPTIONS_H_
