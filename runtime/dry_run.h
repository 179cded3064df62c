// --dry-run: what a session would be, as text, one "name: value" a line. Nothing is run.
//
//   std::string text = DescribeSession(options, {.program = "/bin/ls", .engine = "jit", ...});
#ifndef DUNEBOX_RUNTIME_DRY_RUN_H_
#define DUNEBOX_RUNTIME_DRY_RUN_H_

#include <string>
#include <string_view>

#include "runtime/session.h"

namespace dunebox::runtime {

// What was found out about this machine.
struct SessionPlan {
  std::string program;         // the path
  std::string_view engine;     // "kvm", "jit"
  std::string_view isolation;  // of engine jit; empty with kvm
};

std::string DescribeSession(const SessionOptions& options, const SessionPlan& plan);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_DRY_RUN_H_
