// The texts of --help and --version, made from the option table.
//
//   std::fputs(CommandHelp(*FindCommand("run")).c_str(), stdout);
#ifndef DUNEBOX_SANDBOX_CLI_HELP_H_
#define DUNEBOX_SANDBOX_CLI_HELP_H_

#include <string>

#include "sandbox/cli/option_table.h"

namespace dunebox::cli {

std::string TopLevelHelp();
std::string CommandHelp(const CommandRow& command);
std::string VersionText();

}  // namespace dunebox::cli

#endif  // DUNEBOX_SANDBOX_CLI_HELP_H_
