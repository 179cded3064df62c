#include "sandbox/plugin/kvm_guest_engine.h"

#include <atomic>
#include <cstddef>
#include <cstring>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hostcalls/abi/signal_frame.h"
#include "hostcalls/asymmetric_fence.h"
#include "runtime/kvm/kvm_api.h"
#include "runtime/kvm/kvm_engine.h"
#include "runtime/kvm/probe.h"
#include "runtime/kvm/program_ring.h"
#include "sandbox/plugin/guest/gates.h"

namespace dunebox::plugin {
namespace {

constexpr std::size_t kVectorsOffset = 160, kVectorSize = 16;  // [intel/vol1 §13.4.1]
constexpr std::size_t kX87ControlOffset = 0, kMxcsrOffset = 24;
constexpr std::uint64_t kX87Present = 1, kVectorsPresent = 2;

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

// Registers are the virtual processor's: nothing of the host thread's is lent.
class KvmCpu final : public GuestCpu {
 public:
  explicit KvmCpu(std::unique_ptr<runtime::EngineThread> thread) : thread_(std::move(thread)) {}

  runtime::EngineThread& thread() override { return *thread_; }
  Left RunFunction(const Entry& entry, Returned& returned) override {
    const auto& integers = entry.frame.integers;
    left_ = {.rax = entry.frame.vector_count,
             .rcx = integers[3],
             .rdx = integers[2],
             .rsi = integers[1],
             .rdi = integers[0],
             .rsp = entry.stack_pointer,
             .r8 = integers[4],
             .r9 = integers[5],
             .rip = entry.function,
             .fs_base = entry.fs_base,
             .gs_base = entry.gs_base};
    const Left left = Continue(left_);
    if (left != Left::kByCall || left_.rax != DUNEBOX_GATE_RETURN) return left;
    returned = {.stack_pointer = left_.rsp, .integer = left_.rdi, .second_integer = left_.rdx};
    return Left::kByReturn;
  }
  void TakeRegisters(runtime::Registers& registers) override { registers = left_; }
  Left Continue(runtime::Registers& registers) override {
    Enter();
    exit_ = thread_->Run(registers);
    return std::holds_alternative<runtime::SystemCall>(exit_) ? Left::kByCall : Left::kOtherwise;
  }
  runtime::Exit TakeExit() override { return exit_; }
  // Nothing counts them.
  std::int64_t instructions_left() const override { return kNoInstructionLimit; }
  void set_instructions_left(std::int64_t) override {}
  absl::StatusOr<Control> control() const override {
    absl::StatusOr<std::vector<std::byte>> area = State();
    if (!area.ok()) return area.status();
    Control control;
    std::memcpy(&control.mxcsr, area->data() + kMxcsrOffset, sizeof(control.mxcsr));
    std::memcpy(&control.x87_control, area->data() + kX87ControlOffset, sizeof(control.x87_control));
    return control;
  }
  absl::Status Restart(const Control& control) override {
    std::vector<std::byte> area(thread_->extended_state_size());
    const std::uint64_t present = kX87Present | kVectorsPresent;
    std::memcpy(area.data() + abi::kHeaderOffset, &present, sizeof(present));
    std::memcpy(area.data() + kMxcsrOffset, &control.mxcsr, sizeof(control.mxcsr));
    std::memcpy(area.data() + kX87ControlOffset, &control.x87_control, sizeof(control.x87_control));
    return thread_->LoadExtendedState(area);
  }
  void Enter() override { LightFence(); }
  void Leave() override {}

  absl::StatusOr<Vectors> ReadVectors() override {
    const absl::StatusOr<std::vector<std::byte>> area = State();
    if (!area.ok()) return area.status();
    Vectors values{};
    if ((Present(*area) & kVectorsPresent) == 0) return values;
    for (std::size_t i = 0; i < values.size(); ++i) {
      std::memcpy(&values[i], area->data() + PlaceOf(i), sizeof(values[i]));
    }
    return values;
  }

  absl::Status WriteVectors(const Vectors& values) override {
    absl::StatusOr<std::vector<std::byte>> area = State();
    if (!area.ok()) return area.status();
    const std::uint64_t present = Present(*area) | kVectorsPresent;
    std::memcpy(area->data() + abi::kHeaderOffset, &present, sizeof(present));
    for (std::size_t i = 0; i < values.size(); ++i) {
      std::memset(area->data() + PlaceOf(i), 0, kVectorSize);
      std::memcpy(area->data() + PlaceOf(i), &values[i], sizeof(values[i]));
    }
    return thread_->LoadExtendedState(*area);
  }

 private:
  absl::StatusOr<std::vector<std::byte>> State() const {
    std::vector<std::byte> area(thread_->extended_state_size());
    if (absl::Status status = thread_->SaveExtendedState(area); !status.ok()) return status;
    return area;
  }
  static std::uint64_t Present(const std::vector<std::byte>& area) {
    std::uint64_t present;
    std::memcpy(&present, area.data() + abi::kHeaderOffset, sizeof(present));
    return present;
  }
  static constexpr std::size_t PlaceOf(std::size_t number) {
    return kVectorsOffset + number * kVectorSize;
  }

  const std::unique_ptr<runtime::EngineThread> thread_;
  runtime::Registers left_;  // of RunFunction
  runtime::Exit exit_;
};

class KvmGuestEngine final : public GuestEngine {
 public:
  KvmGuestEngine(MachinePermit permit, const kvm::Probe& probe,
                 std::unique_ptr<kvm::KvmEngine> engine)
      : permit_(std::move(permit)), probe_(probe), engine_(std::move(engine)) {}

  absl::StatusOr<std::unique_ptr<GuestCpu>> CreateCpu() override {
    absl::StatusOr<std::unique_ptr<runtime::EngineThread>> thread = engine_->CreateThread();
    if (!thread.ok()) return thread.status();
    return std::make_unique<KvmCpu>(*std::move(thread));
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

absl::StatusOr<std::unique_ptr<GuestEngine>> CreateKvmEngine(memory::AddressSpace& space) {
  static const absl::StatusOr<kvm::Probe> probe = kvm::RunProbe(kvm::HostKvmApi());
  if (!probe.ok()) {
    return absl::UnavailableError(absl::StrCat("engine kvm: ", probe.status().message()));
  }
  absl::StatusOr<MachinePermit> permit = MachinePermit::Take();
  if (!permit.ok()) return permit.status();
  absl::StatusOr<std::unique_ptr<kvm::KvmEngine>> engine =
      kvm::KvmEngine::Create(kvm::HostKvmApi(), *probe, space, kvm::ProgramRing::kRing3);
  if (!engine.ok()) return engine.status();
  return std::make_unique<KvmGuestEngine>(*std::move(permit), *probe, *std::move(engine));
}

}  // namespace dunebox::plugin
