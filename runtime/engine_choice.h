// What --engine=auto takes: the one place where that is decided, for runs and for the doctor.
//
//   if (ChooseEngine(FactsOfThisMachine()) == process::EngineKind::kJit) ...
#ifndef DUNEBOX_RUNTIME_ENGINE_CHOICE_H_
#define DUNEBOX_RUNTIME_ENGINE_CHOICE_H_

#include "runtime/process/session_state.h"

namespace dunebox::runtime {

struct EngineFacts {
  bool has_virtualization = false;  // the processor offers VT-x or AMD-V
  bool can_open_kvm = false;        // /dev/kvm, for reading and writing
  bool can_translate = false;       // and isolate what it translates
};

// What a run asks of this machine. Cheap: runs on every start with --engine=auto.
EngineFacts FactsOfThisMachine();

// kvm where real virtualization hardware is behind it, else jit; kvm, with its own message, where
// jit cannot run either.
process::EngineKind ChooseEngine(const EngineFacts& facts);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_ENGINE_CHOICE_H_
