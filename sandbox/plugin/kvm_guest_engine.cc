#include "sandbox/plugin/kvm_guest_engine.h"

#include <atomic>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/kvm/kvm_api.h"
#include "runtime/kvm/kvm_engine.h"
#include "runtime/kvm/probe.h"
#include "runtime/kvm/program_ring.h"
#include "sandbox/plugin/engine_cpu.h"

namespace dunebox::plugin {
namespace {

// One of the machines that a process may have, as long as this lives.
class MachinePermit {
 public:
  static absl::StatusOr<MachinePermit> Take() {
    if (taken_.fetch_add(1) < kMostMachines) return MachinePermit();
    --taken_;
    return absl::ResourceExhaustedError(
        absl::StrCat("a process has at most ", kMostMachines, " sandboxes under kvm"));
  }
  MachinePermit(MachinePermit&& other) noexcept : is_held_(std::exchange(other.is_held_, false)) {}
  MachinePermit& operator=(MachinePermit&&) = delete;
  ~MachinePermit() {
    if (is_held_) --taken_;
  }

 private:
  MachinePermit() = default;
  static inline std::atomic<unsigned> taken_{0};
  bool is_held_ = true;
};

class KvmGuestEngine final : public GuestEngine {
 public:
  KvmGuestEngine(MachinePermit permit, const kvm::Probe& probe,
                 std::unique_ptr<kvm::KvmEngine> engine)
      : permit_(std::move(permit)), probe_(probe), engine_(std::move(engine)) {}

  absl::StatusOr<std::unique_ptr<GuestCpu>> CreateCpu() override {
    absl::StatusOr<std::unique_ptr<runtime::EngineThread>> thread = engine_->CreateThread();
    if (!thread.ok()) return thread.status();
    return std::make_unique<EngineCpu>(*std::move(thread));
  }
  absl::StatusOr<std::shared_ptr<const runtime::SharedCode>> Share(memory::RangeSet) override {
    return nullptr;
  }
  void ReturnTo(std::shared_ptr<const runtime::SharedCode>) override {}
  void KeepOnly(const memory::RangeSet&) override {}
  void SetKick(std::function<void()>) override {}
  std::string name() const override { return "kvm"; }
  std::string isolation() const override {
    return absl::StrCat("virtual machine (", probe_.verdict(), ")");
  }
  std::vector<runtime::Counter> Counters() override { return engine_->Counters(); }

 private:
  const MachinePermit permit_;
  const kvm::Probe probe_;
  const std::unique_ptr<kvm::KvmEngine> engine_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GuestEngine>> CreateKvmEngine(const Policy& policy,
                                                             memory::AddressSpace& space) {
  static const absl::StatusOr<kvm::Probe> probe = kvm::RunProbe(kvm::HostKvmApi());
  if (!probe.ok()) {
    return absl::UnavailableError(absl::StrCat("engine kvm: ", probe.status().message()));
  }
  if (policy.least_isolation == LeastIsolation::kHardware && !probe->is_hardware()) {
    return absl::UnavailableError(
        absl::StrCat("least_isolation: no hardware virtualization here: ", probe->reason()));
  }
  absl::StatusOr<MachinePermit> permit = MachinePermit::Take();
  if (!permit.ok()) return permit.status();
  absl::StatusOr<std::unique_ptr<kvm::KvmEngine>> engine =
      kvm::KvmEngine::Create(kvm::HostKvmApi(), *probe, space, kvm::ProgramRing::kRing3);
  if (!engine.ok()) return engine.status();
  return std::make_unique<KvmGuestEngine>(*std::move(permit), *probe, *std::move(engine));
}

}  // namespace dunebox::plugin
