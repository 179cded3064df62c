#include "runtime/kvm/kvm_engine.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "libdune/ring0/image.h"
#include "libdune/ring0/program_image.h"
#include "runtime/kvm/cpu_setup.h"
#include "runtime/kvm/layout.h"
#include "runtime/kvm/vcpu.h"

namespace dunebox::kvm {

namespace {

// With which a handler begins: x87 and SSE said to be there, since not every processor (QEMU's) loads MXCSR
// when SSE is not. Everything else of the area is zero.
void WriteInitialState(std::byte* area) {
  std::memcpy(area, &abi::kInitialControl, sizeof(abi::kInitialControl));
  std::memcpy(area + abi::kMxcsrOffset, &abi::kInitialMxcsr, sizeof(abi::kInitialMxcsr));
  std::memcpy(area + abi::kHeaderOffset, &abi::kLegacyFeatures, sizeof(abi::kLegacyFeatures));
}

}  // namespace

absl::Status InstallSupervisor(Vm& vm, PageTables& tables, ProgramRing ring) {
  const bool own_ring0 = ring == ProgramRing::kRing0;
  std::ranges::copy(own_ring0 ? dune::ProgramImage() : dune::Ring0Image(),
                    vm.arena(layout::kImageOffset));
  WriteInitialState(vm.arena(layout::kScratchOffset + DUNE_SCRATCH_INITIAL));
  const GuestVirt image = layout::ArenaVirt(layout::kImageOffset);
  const Stubs stubs = own_ring0 ? Stubs::OfProgramImage(image) : Stubs::At(image);
  WriteIdt(vm.arena(layout::kIdtOffset), stubs.vectors, ring);
  for (std::uint64_t offset = 0; offset < layout::kImageBytes; offset += kPageSize) {
    absl::Status status = tables.MapSupervisor(image + offset, GuestPhys{layout::kImageOffset + offset},
                                               /*writable=*/false, /*execute=*/true);
    if (!status.ok()) return status;
  }
  for (std::uint64_t offset = layout::kIdtOffset; offset < layout::kPoolTablesOffset;
       offset += kPageSize) {
    absl::Status status =
        tables.MapSupervisor(layout::ArenaVirt(offset), GuestPhys{offset},
                             /*writable=*/offset >= layout::kPoolOffset, /*execute=*/false);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status InstallSupervisorFor(const Probe& probe, Vm& vm, PageTables& tables,
                                  ProgramRing ring) {
  absl::Status status = InstallSupervisor(vm, tables, ring);
  if (!status.ok() || ring == ProgramRing::kRing0) return status;
  const Stubs stubs = Stubs::At(layout::ArenaVirt(layout::kImageOffset));
  RedirectSteps(vm.arena(layout::kIdtOffset), stubs.step);
  if (Vcpu::LeavesSystemRegisters(probe, ring)) {
    RedirectPageFaults(vm.arena(layout::kIdtOffset), stubs.page_fault);
  }
  return status;
}

namespace {

// A thread's vCPU for as long as the thread lives.
class VcpuLease final : public runtime::EngineThread {
 public:
  VcpuLease(std::shared_ptr<VcpuPool> pool, PooledVcpu pooled)
      : pool_(std::move(pool)), vcpu_(pooled.vcpu), maker_(pooled.maker) {}
  // A forked child leaves its parent's vCPU alone: it can do nothing with it, and where kicks are noted is memory of both.
  ~VcpuLease() override {
    if (maker_ != getpid()) return;
    vcpu_->Unkick();
    vcpu_->set_instructions_left(runtime::kNoInstructionLimit);
    std::lock_guard lock(pool_->mutex);
    pool_->idle.push_back({vcpu_, maker_});
  }
  runtime::Exit Run(runtime::Registers& registers) override { return vcpu_->Run(registers); }
  void Kick() override { vcpu_->Kick(); }
  void Unkick() override { vcpu_->Unkick(); }
  std::size_t extended_state_size() const override { return vcpu_->extended_state_size(); }
  std::uint64_t extended_features() const override { return vcpu_->extended_features(); }
  bool uses_known_answers() const override { return vcpu_->uses_known_answers(); }
  void KnowAnswers(std::span<const runtime::KnownAnswer> answers) override {
    vcpu_->KnowAnswers(answers);
  }
  void Lend(const runtime::OwnState& state) override { vcpu_->Lend(state); }
  abi::SignalActions* signal_actions() override { return vcpu_->signal_actions(); }
  void BeginFutex(runtime::FutexUse use, std::uint64_t word) override {
    vcpu_->BeginFutex(use, word);
  }
  void EndFutex(runtime::FutexUse use, std::uint64_t word) override { vcpu_->EndFutex(use, word); }
  runtime::OwnState TakeBack() override { return vcpu_->TakeBack(); }
  abi::PostedWrites* posted_writes() override { return vcpu_->posted_writes(); }
  absl::Status FetchBases(runtime::Registers& registers) override {
    return vcpu_->FetchBases(registers);
  }
  std::int64_t instructions_left() const override { return vcpu_->instructions_left(); }
  void set_instructions_left(std::int64_t number) override { vcpu_->set_instructions_left(number); }
  absl::Status SaveExtendedState(std::span<std::byte> area) override {
    return vcpu_->SaveExtendedState(area);
  }
  absl::Status LoadExtendedState(std::span<const std::byte> area) override {
    return vcpu_->LoadExtendedState(area);
  }

 private:
  std::shared_ptr<VcpuPool> pool_;
  Vcpu* vcpu_;
  pid_t maker_;
};

}  // namespace

VcpuPool::VcpuPool() = default;
VcpuPool::~VcpuPool() = default;

KvmEngine::KvmEngine(std::unique_ptr<Vm> vm, const Probe& probe, memory::AddressSpace& space,
                     ProgramRing ring)
    : probe_(probe), ring_(ring), space_(space), vm_(std::move(vm)), mmu_(*vm_, space, probe.paging),
      pool_(std::make_shared<VcpuPool>()) {}

absl::StatusOr<std::unique_ptr<KvmEngine>> KvmEngine::Create(KvmApi& api, const Probe& probe,
                                                             memory::AddressSpace& space,
                                                             ProgramRing ring) {
  absl::StatusOr<std::unique_ptr<Vm>> vm = Vm::Create(api);
  if (!vm.ok()) return vm.status();
  std::unique_ptr<KvmEngine> engine(
      new KvmEngine(*std::move(vm), probe, space, ring));
  if (absl::Status status = engine->Initialize(); !status.ok()) return status;
  return engine;
}

absl::Status KvmEngine::Initialize() {
  if (absl::Status status = mmu_.Initialize(); !status.ok()) return status;
  absl::Status status = mmu_.WithTables(
      [&](PageTables& tables) { return InstallSupervisorFor(probe_, *vm_, tables, ring_); });
  if (!status.ok()) return status;
  if (Vcpu::LeavesSystemRegisters(probe_, ring_) && probe_.paging == Paging::kTwoDimensional) {
    mmu_.OfferPool();
  }
  space_.SetObserver(&mmu_);
  return absl::OkStatus();
}

KvmEngine::~KvmEngine() { space_.SetObserver(nullptr); }

absl::StatusOr<PooledVcpu> KvmEngine::TakeVcpu() {
  std::lock_guard lock(pool_->mutex);
  const pid_t self = getpid();
  const auto own = std::ranges::find(pool_->idle, self, &PooledVcpu::maker);
  if (own != pool_->idle.end()) {
    const PooledVcpu pooled = *own;
    Vcpu* const vcpu = pooled.vcpu;
    // A program in ring 0 may have left anything in its system registers.
    if (ring_ == ProgramRing::kRing0) {
      if (absl::Status status = vcpu->SetSystemState(); !status.ok()) return status;
    }
    // Nor does the last thread's FS and GS base belong to the next one.
    if (absl::Status status = vcpu->FetchSystemRegisters(); !status.ok()) return status;
    pool_->idle.erase(own);
    return pooled;
  }
  for (;;) {
    const auto index = static_cast<unsigned>(pool_->all.size());
    if (index >= layout::kMostVcpus) {
      return absl::ResourceExhaustedError("a process has at most 1024 vCPUs");
    }
    absl::StatusOr<std::unique_ptr<Vcpu>> vcpu = Vcpu::Create(*vm_, mmu_, probe_, index, ring_);
    // One that failed after KVM had made it: its index is used up.
    const bool is_used_up = absl::IsAlreadyExists(vcpu.status());
    if (!vcpu.ok() && !is_used_up) return vcpu.status();
    pool_->all.push_back(is_used_up ? nullptr : *std::move(vcpu));
    if (!is_used_up) return PooledVcpu{pool_->all.back().get(), self};
  }
}

absl::StatusOr<std::unique_ptr<runtime::EngineThread>> KvmEngine::CreateThread() {
  const absl::StatusOr<PooledVcpu> vcpu = TakeVcpu();
  if (!vcpu.ok()) return vcpu.status();
  return std::make_unique<VcpuLease>(pool_, *vcpu);
}

void KvmEngine::LockForFork() {
  pool_->mutex.lock();
  mmu_.Lock();
}

void KvmEngine::UnlockAfterFork() {
  mmu_.Unlock();
  pool_->mutex.unlock();
}

std::vector<runtime::Counter> KvmEngine::Counters() {
  std::array<std::uint64_t, kVcpuEvents> totals{};
  std::uint64_t vcpus = 0;
  std::uint64_t answered = 0;
  std::uint64_t faults = 0;
  std::uint64_t traps = 0;
  std::uint64_t ahead = 0;
  {
    std::lock_guard lock(pool_->mutex);
    for (const std::unique_ptr<Vcpu>& vcpu : pool_->all) {
      if (vcpu == nullptr) continue;
      ++vcpus;
      answered += vcpu->answered();
      faults += vcpu->faults_answered();
      traps += vcpu->traps_delivered();
      ahead += vcpu->mapped_ahead();
      for (std::size_t i = 0; i < kVcpuEvents; ++i) totals[i] += vcpu->events()[i].Get();
    }
  }
  std::vector<runtime::Counter> counters = {{"vcpus", vcpus}};
  for (std::size_t i = 0; i < kVcpuEvents; ++i) {
    counters.push_back({kVcpuEventNames[i], totals[i]});
  }
  counters.push_back({"answered_in_ring0", answered});
  counters.push_back({"faults_in_ring0", faults});
  counters.push_back({"signals_in_ring0", traps});
  counters.push_back({"flushes_for_ring0", mmu_.flushes().flushes()});
  counters.push_back({"pages_mapped_ahead", ahead});
  counters.push_back({"leaves_of_2MiB", mmu_.LargeLeaves()});
  return counters;
}

absl::Status KvmEngine::AliasHostPages(const GuestRange& at, const void* host) {
  return mmu_.Alias(at, host);
}

absl::Status KvmEngine::TakeClock(std::span<const std::byte> code, std::uint64_t entry) {
  if (!Vcpu::LeavesSystemRegisters(probe_, ring_)) return absl::OkStatus();
  return mmu_.ShowClock(code, entry);
}

}  // namespace dunebox::kvm
