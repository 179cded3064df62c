// The `kvm` engine of one process: VM, supervisor image, page tables, vCPUs.
//
// Detaches itself from the address space when it goes. Threads are created under a lock and must
// be gone before the engine.
//
//   auto engine = KvmEngine::Create(HostKvmApi(), probe, space);
//   auto thread = (*engine)->CreateThread();
#ifndef DUNEBOX_RUNTIME_KVM_KVM_ENGINE_H_
#define DUNEBOX_RUNTIME_KVM_KVM_ENGINE_H_

#include <memory>
#include <mutex>
#include <string>

#include "runtime/engine.h"
#include "runtime/kvm/mmu.h"
#include "runtime/kvm/probe.h"
#include "runtime/kvm/vm.h"

namespace dunebox::kvm {

class KvmEngine final : public runtime::ExecutionEngine {
 public:
  static absl::StatusOr<std::unique_ptr<KvmEngine>> Create(KvmApi& api, const Probe& probe,
                                                           memory::AddressSpace& space);
  ~KvmEngine() override;

  std::string name() const override { return "kvm (" + probe_.verdict() + ")"; }
  absl::StatusOr<std::unique_ptr<runtime::EngineThread>> CreateThread() override;
  absl::Status AliasHostPages(const GuestRange& at, const void* host) override;

 private:
  KvmEngine(std::unique_ptr<Vm> vm, const Probe& probe, memory::AddressSpace& space);
  absl::Status Initialize();

  const Probe probe_;
  memory::AddressSpace& space_;
  std::unique_ptr<Vm> vm_;
  Mmu mmu_;
  std::mutex mutex_;
  unsigned vcpus_ = 0;  // guarded by mutex_
};

// Puts the ring-0 image and the IDT into a VM's arena and maps them.
absl::Status InstallSupervisor(Vm& vm, PageTables& tables);

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_KVM_ENGINE_H_
