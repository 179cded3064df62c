// What `dunebox doctor` finds out, as plain data: collectors make it, the two report writers
// print it, tests compare it.
//
//   Check{.name = "/dev/kvm", .state = State::kMissing, .found = "no such device",
//         .advice = "load the module: modprobe kvm_intel or modprobe kvm_amd"}
#ifndef DUNEBOX_RUNTIME_DOCTOR_CHECK_H_
#define DUNEBOX_RUNTIME_DOCTOR_CHECK_H_

#include <string>
#include <vector>

namespace dunebox::doctor {

enum class State : unsigned char {
  kOk,
  kWarning,  // programs run, but something is slower, weaker or unusual
  kMissing,  // whatever needs this does not work
};

struct Check {
  std::string name;
  State state = State::kOk;
  std::string found{};
  std::string advice{};  // what to do about it; empty when nothing has to be done
};

// What `--engine=auto` takes on this machine.
struct EngineDecision {
  std::string engine;  // "kvm", "jit", or empty when no engine can run programs
  std::string reason;
  bool usable() const { return !engine.empty(); }
};

struct Report {
  std::vector<Check> checks;
  EngineDecision engine;
};

}  // namespace dunebox::doctor

#endif  // DUNEBOX_RUNTIME_DOCTOR_CHECK_H_
