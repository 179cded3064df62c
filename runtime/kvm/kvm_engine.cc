#include "runtime/kvm/kvm_engine.h"

#include <algorithm>
#include <utility>

#include "libdune/ring0/image.h"
#include "runtime/kvm/cpu_setup.h"
#include "runtime/kvm/layout.h"
#include "runtime/kvm/vcpu.h"

namespace dunebox::kvm {

absl::Status InstallSupervisor(Vm& vm, PageTables& tables) {
  std::ranges::copy(dune::Ring0Image(), vm.arena(layout::kImageOffset));
  const GuestVirt image = layout::ArenaVirt(layout::kImageOffset);
  WriteIdt(vm.arena(layout::kIdtOffset), image + dune::Ring0Header().vectors);
  absl::Status status = tables.MapSupervisor(image, GuestPhys{layout::kImageOffset},
                                             /*writable=*/false, /*execute=*/true);
  if (!status.ok()) return status;
  return tables.MapSupervisor(layout::ArenaVirt(layout::kIdtOffset), GuestPhys{layout::kIdtOffset},
                              /*writable=*/false, /*execute=*/false);
}

KvmEngine::KvmEngine(std::unique_ptr<Vm> vm, const Probe& probe, memory::AddressSpace& space)
    : probe_(probe), space_(space), vm_(std::move(vm)), mmu_(*vm_, space, probe.paging) {}

absl::StatusOr<std::unique_ptr<KvmEngine>> KvmEngine::Create(KvmApi& api, const Probe& probe,
                                                             memory::AddressSpace& space) {
  absl::StatusOr<std::unique_ptr<Vm>> vm = Vm::Create(api);
  if (!vm.ok()) return vm.status();
  std::unique_ptr<KvmEngine> engine(new KvmEngine(*std::move(vm), probe, space));
  if (absl::Status status = engine->Initialize(); !status.ok()) return status;
  return engine;
}

absl::Status KvmEngine::Initialize() {
  if (absl::Status status = mmu_.Initialize(); !status.ok()) return status;
  if (absl::Status status = InstallSupervisor(*vm_, mmu_.tables()); !status.ok()) return status;
  space_.SetObserver(&mmu_);
  return absl::OkStatus();
}

KvmEngine::~KvmEngine() { space_.SetObserver(nullptr); }

absl::StatusOr<std::unique_ptr<runtime::EngineThread>> KvmEngine::CreateThread() {
  std::lock_guard lock(mutex_);
  if (vcpus_ >= layout::kMostVcpus) {
    return absl::ResourceExhaustedError("a process has at most 1024 vCPUs");
  }
  absl::StatusOr<std::unique_ptr<Vcpu>> vcpu = Vcpu::Create(*vm_, mmu_, probe_, vcpus_);
  if (!vcpu.ok()) return vcpu.status();
  ++vcpus_;
  return *std::move(vcpu);
}

absl::Status KvmEngine::AliasHostPages(const GuestRange& at, const void* host) {
  return mmu_.Alias(at, host);
}

}  // namespace dunebox::kvm
