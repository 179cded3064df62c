// The commands of `dunebox oci`, which container engines call. [OCI runtime-spec, runtime.md "Operations"]
//
//   create   makes the namespaces and the view; the program waits      creating -> created
//   start    lets it run                                               created -> running
//   state    tells how it is, as JSON                                  stopped: when it has ended
//   kill     sends a signal                                            created, running
//   delete   removes what is known of it                               stopped only
//   run      create, start, wait, delete
//   list, features
//
// Errors are one line on standard error, and in the file of --log. What the specification calls an error
// of the order of commands is one here.
//
//   return RunCommand({.action = Action::kState, .id = "web"});
#ifndef DUNEBOX_SANDBOX_OCI_COMMANDS_H_
#define DUNEBOX_SANDBOX_OCI_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "sandbox/oci/log.h"

namespace dunebox::oci {

enum class Action : std::uint8_t {
  kCreate,
  kStart,
  kState,
  kKill,
  kDelete,
  kRun,
  kList,
  kFeatures,
};

// Of the specification that states and features are of.
inline constexpr char kSpecVersion[] = "1.1.0";
inline constexpr char kUsualRoot[] = "/run/dunebox";

struct Command {
  Action action = Action::kState;
  // Every command's.
  std::string root = kUsualRoot;
  std::string log;  // empty: none
  LogFormat log_format = LogFormat::kText;
  bool no_cgroups = false;
  // Of those that have it.
  std::string id;
  std::string bundle = ".";
  std::string pid_file;        // empty: none
  std::string console_socket;  // empty: none
  int preserved_descriptors = 0;
  std::string signal = "TERM";
  bool all = false;
  bool force = false;
  bool json = false;
};

// The exit status: 0, or 125 for an error; of `run` also what the program ends with.
int RunCommand(const Command& command);

// "KILL", "SIGKILL", "9", "RTMIN+1"; nothing for other words.
std::optional<int> SignalFrom(const std::string& name);

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_COMMANDS_H_
