#include "runtime/engine_choice.h"

#include <unistd.h>

#include "hostcalls/host_cpuid.h"
#include "runtime/jit/isolation_choice.h"
#include "runtime/jit/jit_engine.h"

namespace dunebox::runtime {
namespace {

// [intel/vol2 CPUID, amd/vol3 app. E] VMX and SVM.
bool HasVirtualization() {
  return (hostcalls::FeaturesOfHost(1).ecx & (1U << 5)) != 0 ||
         (hostcalls::FeaturesOfHost(0x8000'0001).ecx & (1U << 2)) != 0;
}

// Whether there is one that a run would take. The cheap question first: the other makes a process.
bool CanIsolate() {
  return CheckIsolation(jit::Isolation::kMask).ok() || CheckIsolation(jit::Isolation::kPku).ok();
}

}  // namespace

EngineFacts FactsOfThisMachine() {
  return {.has_virtualization = HasVirtualization(),
          .can_open_kvm = access("/dev/kvm", R_OK | W_OK) == 0,
          .can_translate = JitEngine::CheckHost().ok() && CanIsolate()};
}

process::EngineKind ChooseEngine(const EngineFacts& facts) {
  if (facts.has_virtualization && facts.can_open_kvm) return process::EngineKind::kKvm;
  return facts.can_translate ? process::EngineKind::kJit : process::EngineKind::kKvm;
}

}  // namespace dunebox::runtime
