// The `kvm` engine of one process: VM, supervisor image, page tables, vCPUs.
//
// vCPUs cannot be destroyed before their VM, so a thread's end gives its vCPU back to a pool; past
// 1,024 at one time there are no more. Detaches itself from the address space when it goes; the
// threads it made must not be used after it.
//
//   auto engine = KvmEngine::Create(HostKvmApi(), probe, space, ProgramRing::kRing3);
//   auto thread = (*engine)->CreateThread();
#ifndef DUNEBOX_RUNTIME_KVM_KVM_ENGINE_H_
#define DUNEBOX_RUNTIME_KVM_KVM_ENGINE_H_

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/engine.h"
#include "runtime/kvm/mmu.h"
#include "runtime/kvm/probe.h"
#include "runtime/kvm/program_ring.h"
#include "runtime/kvm/vm.h"

namespace dunebox::kvm {

class Vcpu;

// A descriptor is known in the table of the process that made it, which a vforked child, in the same
// memory, does not share: what such a child has made is of no use to its parent.
struct PooledVcpu {
  Vcpu* vcpu;
  pid_t maker;
};

// All vCPUs of a VM, and which of them nobody uses. Outlives the engine while threads hold vCPUs.
struct VcpuPool {
  VcpuPool();
  ~VcpuPool();
  std::mutex mutex;
  std::vector<std::unique_ptr<Vcpu>> all;
  std::vector<PooledVcpu> idle;
};

class KvmEngine final : public runtime::ExecutionEngine {
 public:
  static absl::StatusOr<std::unique_ptr<KvmEngine>> Create(KvmApi& api, const Probe& probe,
                                                           memory::AddressSpace& space,
                                                           ProgramRing ring);
  ~KvmEngine() override;

  std::string name() const override { return "kvm (" + probe_.verdict() + ")"; }
  absl::StatusOr<std::unique_ptr<runtime::EngineThread>> CreateThread() override;
  bool can_alias_host_pages() const override { return true; }
  absl::Status AliasHostPages(const GuestRange& at, const void* host) override;
  absl::Status TakeClock(std::span<const std::byte> code, std::uint64_t entry) override;
  void LockForFork() override;
  void UnlockAfterFork() override;
  std::vector<runtime::Counter> Counters() override;

 private:
  KvmEngine(std::unique_ptr<Vm> vm, const Probe& probe, memory::AddressSpace& space,
            ProgramRing ring);
  absl::Status Initialize();
  absl::StatusOr<PooledVcpu> TakeVcpu();

  const Probe probe_;
  const ProgramRing ring_;
  memory::AddressSpace& space_;
  std::unique_ptr<Vm> vm_;
  Mmu mmu_;
  std::shared_ptr<VcpuPool> pool_;
};

// Puts the ring-0 image and the IDT into a VM's arena and maps them.
absl::Status InstallSupervisor(Vm& vm, PageTables& tables, ProgramRing ring);
// The same as vCPUs made with this probe expect it.
absl::Status InstallSupervisorFor(const Probe& probe, Vm& vm, PageTables& tables,
                                  ProgramRing ring);

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_KVM_ENGINE_H_
