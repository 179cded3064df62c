// dunebox with a wall left out: what each wall holds by itself. For tests alone; the product has no
// switch for this and no code of it.
//
//   dunebox_one_wall WALL WORDS...      WORDS as after `dunebox run`
//
// WALL is `none` (the engine alone, as with --allow=all), `wall1` (rules are checked, nothing is
// confined), `wall2` (nothing is checked, the process is confined as the rules say), `both`, or
// `escape=NAME`: like wall2, and in place of the program's first instruction the native code of
// escape.h runs in the runtime itself. That is what the second wall is for: something has come
// through the engine.
//
// The linker puts RunGuest and LockDown of this file in front of the runtime's (--wrap, see
// CMakeLists.txt); a name that is no longer the runtime's fails to link.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "runtime/confinement/lock_down.h"
#include "runtime/process/guest_thread.h"
#include "runtime/session.h"
#include "sandbox/cli/options.h"
#include "sandbox/cli/policy_commands.h"
#include "sandbox/policy/compile.h"
#include "tests/security/attacks/escape.h"

namespace dunebox {
namespace {

// What wall 2 is built from where wall 1 has been told that everything is allowed.
std::optional<hostcalls::policy::Rules> rules_of_wall2;
std::string escape_name;  // empty: the program runs
std::vector<std::string> escape_arguments;

int Fail(absl::string_view message) {
  std::fprintf(stderr, "dunebox: %s\n", std::string(message).c_str());
  return runtime::kExitRuntimeError;
}

int RunBehind(absl::string_view wall, const cli::RunCommand& command) {
  const policy::Policy policy = cli::PolicyOf(command);
  policy::Surroundings surroundings = cli::SurroundingsFor(policy);
  const bool is_confined = wall != "none" && wall != "wall1";
  const bool is_checked = wall == "wall1" || wall == "both";
  // Without wall 2 nobody makes the view in which /tmp is the session's own.
  if (!is_confined) surroundings.mount_namespace = false;
  runtime::SessionOptions session = command.session;
  if (absl::Status status = policy::Compile(policy, surroundings, session); !status.ok()) {
    return Fail(status.message());
  }
  if (!is_confined) session.plan = {};
  if (wall == "none" && !policy.directory) session.directory.clear();
  if (!is_checked) {
    rules_of_wall2 = session.rules;
    session.rules = {};
  }
  if (absl::ConsumePrefix(&wall, "escape=")) {
    escape_name = std::string(wall);
    escape_arguments = session.arguments;
  }
  return runtime::RunSession(session);
}

}  // namespace

// A label of the assembler's replaces the whole name, so these are not members of anything.
absl::StatusOr<confinement::Confinement> RealLockDown(const confinement::LockDownRequest& request)
    __asm__("__real__ZN7dunebox11confinement8LockDownERKNS0_15LockDownRequestE");
absl::StatusOr<confinement::Confinement> LockDownByHeldRules(
    const confinement::LockDownRequest& request)
    __asm__("__wrap__ZN7dunebox11confinement8LockDownERKNS0_15LockDownRequestE");
void RealRunGuest(process::GuestThread& thread)
    __asm__("__real__ZN7dunebox7process8RunGuestERNS0_11GuestThreadE");
void RunGuestOrEscape(process::GuestThread& thread)
    __asm__("__wrap__ZN7dunebox7process8RunGuestERNS0_11GuestThreadE");

absl::StatusOr<confinement::Confinement> LockDownByHeldRules(
    const confinement::LockDownRequest& request) {
  return RealLockDown({.plan = request.plan,
                       .rules = rules_of_wall2 ? *rules_of_wall2 : request.rules,
                       .kvm = request.kvm,
                       .code_cache = request.code_cache,
                       .protection_keys = request.protection_keys,
                       .runtime_fd = request.runtime_fd,
                       .first_reserved = request.first_reserved,
                       .output_directories = request.output_directories});
}

void RunGuestOrEscape(process::GuestThread& thread) {
  if (escape_name.empty()) return RealRunGuest(thread);
  _exit(attacks::Escape(escape_name, escape_arguments));
}

}  // namespace dunebox

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  if (const auto state_fd = dunebox::runtime::ResumeDescriptor(arguments)) {
    return dunebox::runtime::ResumeSession(*state_fd);
  }
  if (arguments.empty()) return dunebox::Fail("a wall is missing");
  const std::string wall = arguments[0];
  constexpr std::string_view kWalls[] = {"none", "wall1", "wall2", "both"};
  if (std::ranges::find(kWalls, wall) == std::end(kWalls) && !wall.starts_with("escape=")) {
    return dunebox::Fail("there is no such wall: " + wall);
  }
  arguments[0] = "run";
  const dunebox::cli::Command command = dunebox::cli::ParseCommandLine(arguments);
  const auto* const run = std::get_if<dunebox::cli::RunCommand>(&command);
  if (run == nullptr) return dunebox::Fail("this is no session");
  return dunebox::RunBehind(wall, *run);
}
