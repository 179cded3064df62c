// One vCPU: enters the program with a thread's registers and comes back with an Exit.
//
// Between two Run calls the vCPU is either at a stub in ring 0 (after a trap or SYSCALL) or was
// stopped in ring 3; Enter knows both. When KVM_RUN is interrupted inside the ring-0 image, an
// entry runs on to its hypercall, and a return is undone: ring 3 has not executed anything since
// the registers were written, so they are still exact.
//
// With ProgramRing::kRing0 the program is in ring 0 too (vcpu_ring0.cc): the image then only lends it
// stacks, and "ring 3" below means the program. Trap frames are the program's to forge; they are
// copied once, and what is in them is used for nothing but to enter the program again.
//
// Used by one host thread at a time; Kick is async-signal-safe.
#ifndef DUNEBOX_RUNTIME_KVM_VCPU_H_
#define DUNEBOX_RUNTIME_KVM_VCPU_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/abi/ring0_abi.h"
#include "hostcalls/counter.h"
#include "runtime/engine.h"
#include "runtime/kvm/cpu_setup.h"
#include "runtime/kvm/descriptor.h"
#include "runtime/kvm/exit_decoder.h"
#include "runtime/kvm/mmu.h"
#include "runtime/kvm/probe.h"
#include "runtime/kvm/program_ring.h"
#include "runtime/kvm/vm.h"

namespace dunebox::kvm {

// What KVM_RUN comes back for; counted for --stats.
enum class VcpuEvent : std::uint8_t {
  kEnter,        // KVM_RUN was called
  kSystemCall,
  kResumed,      // the engine's own business, nearly always a page table entry to be filled in
  kFault,        // an exception the guest hears of
  kInterrupted,  // by a signal
};
inline constexpr std::size_t kVcpuEvents = 5;
inline constexpr std::array<std::string_view, kVcpuEvents> kVcpuEventNames = {
    "entries", "exits.system_call", "exits.resumed", "exits.fault", "exits.interrupted"};

class Vcpu final : public runtime::EngineThread {
 public:
  // `index` < layout::kMostVcpus names the vCPU's block in the arena. Vm and Mmu outlive it.
  static absl::StatusOr<std::unique_ptr<Vcpu>> Create(Vm& vm, Mmu& mmu, const Probe& probe,
                                                      unsigned index, ProgramRing ring);
  // Descriptors, system registers and MSRs as a thread finds them when it starts.
  absl::Status SetSystemState();
  // Whether Run comes back without the system registers: nearly every exit is a hypercall of the image's,
  // which shows what is needed of them, and KVM takes long to collect them. On an emulated KVM ring 3
  // can be where the image is, and a program in ring 0 is there: their privilege has to be asked for.
  static bool LeavesSystemRegisters(const Probe& probe, ProgramRing ring) {
    return probe.is_hardware() && ring == ProgramRing::kRing3;
  }
  // Brings them here, if they are not.
  absl::Status FetchSystemRegisters();
  absl::Status FetchBases(runtime::Registers& registers) override;

  runtime::Exit Run(runtime::Registers& registers) override;
  void Kick() override;
  void Unkick() override;
  std::size_t extended_state_size() const override { return features_.xsave_size; }
  std::uint64_t extended_features() const override { return features_.xcr0; }
  // A program in ring 0 owns its entry and its GS bases.
  bool uses_known_answers() const override {
    return probe_.is_hardware() && ring_ == ProgramRing::kRing3;
  }
  void KnowAnswers(std::span<const runtime::KnownAnswer> answers) override;
  void Lend(const runtime::OwnState& state) override;
  runtime::OwnState TakeBack() override;
  abi::SignalActions* signal_actions() override;
  // One for all vCPUs of the machine.
  abi::PostedWrites* posted_writes() override;
  void BeginFutex(runtime::FutexUse use, std::uint64_t word) override;
  void EndFutex(runtime::FutexUse use, std::uint64_t word) override;
  // Calls that ring 0 has answered; what the guest's side says.
  std::uint64_t answered() const { return state().answered; }
  // The same of page faults.
  std::uint64_t faults_answered() const { return state().faults; }
  std::uint64_t traps_delivered() const { return state().traps_delivered; }
  // Pages that KVM has mapped before they were touched.
  std::uint64_t mapped_ahead() const { return mapped_ahead_.Get(); }
  // While there is a limit ring 3 runs with TF set, and a flag of the program's own is lost. Ring 0 counts (entry.S, `step`); each
  // iteration of REP is one. Not for a program in ring 0.
  std::int64_t instructions_left() const override;
  void set_instructions_left(std::int64_t number) override;
  absl::Status SaveExtendedState(std::span<std::byte> area) override;
  absl::Status LoadExtendedState(std::span<const std::byte> area) override;
  // By VcpuEvent.
  const std::array<Counter, kVcpuEvents>& events() const { return events_; }

 private:
  // How often sched_yield is answered before the host's kernel hears of one.
  static constexpr std::uint64_t kCheapYields = 15;
  // Where the vCPU stands between two Runs: at a stub of the image, or in the program.
  enum class Place : std::uint8_t { kRing0, kRing3 };
  // What one KVM_RUN meant: go on as the vCPU stands, or something for the supervisor.
  struct Resume {};

  Vcpu(Vm& vm, Mmu& mmu, const Probe& probe, unsigned index, ProgramRing ring);
  absl::Status Initialize();

  void Enter(const runtime::Registers& registers);
  void EnterRing0(const runtime::Registers& registers, kvm_regs& regs);
  void ReadGeneral(runtime::Registers& registers) const;
  void ReadUserState(runtime::Registers& registers) const;
  void ReadBases(runtime::Registers& registers) const;

  using Step = std::variant<Resume, runtime::Exit>;
  void Count(const Step& step);
  // What ends the engine, or where the program owns the vCPU, the program.
  Step Failed(std::string reason) const;
  bool StandsInProgram() const;
  bool StandsInProgramOfRing0() const;
  absl::Status ClearWhatRing0MaySet();
  Step RunOnce(runtime::Registers& registers);
  runtime::Exit RunToExit(runtime::Registers& registers);
  runtime::Exit RunCounted(runtime::Registers& registers);
  // What ring 0 says, within what the host has granted.
  std::int64_t StepsLeft() const;
  VmExit Decode() const;
  bool IsHypercallOfImage(int result) const;
  std::uint64_t FaultAddress() const;
  // Whether ring 0 has what its routine for such calls needs.
  bool CanAnswer(runtime::Answer answer) const;
  void LendHandler(const runtime::FaultHandler& handler);
  Step OnTrap(runtime::Registers& registers);
  Step GoOn() const;
  Step OnPageFault(runtime::Registers& registers, std::uint64_t error_code);
  void MapAhead(const Ahead& ahead);
  Step OnRoutineFault(const abi::TrapFrame& trap);
  void ReadAfterSyscall(runtime::Registers& registers);
  Step OnInterrupted(runtime::Registers& registers);
  Step OnMemoryError(runtime::Registers& registers);
  Step OnUserPort(const UserPortExit& exit, runtime::Registers& registers);
  Step OnUserInvalid(const UserInvalidExit& exit, runtime::Registers& registers);

  kvm_run& run() const { return *static_cast<kvm_run*>(run_area_.get()); }
  abi::TrapFrame& frame() const;
  abi::Ring0State& state() const;
  abi::FutexWaits& futex_waits() const;

  Vm& vm_;
  Mmu& mmu_;
  const Probe& probe_;
  const unsigned index_;
  const ProgramRing ring_;
  const bool leaves_system_registers_;
  const Stubs stubs_;
  const CpuidTable offered_cpuid_;
  const CpuFeatures features_;
  KvmFd vcpu_;
  RunArea run_area_;
  std::byte* block_ = nullptr;
  GuestVirt block_address_;
  Place place_ = Place::kRing0;
  std::uint64_t code_selector_;    // with which the program goes on
  std::uint64_t stack_selector_;
  bool at_syscall_ = false;        // in ring 0 by SYSCALL: SYSRET may be the way back
  std::uint64_t frame_offset_ = 0; // of the current trap frame in the block
  BackingCheck next_check_ = BackingCheck::kAssume;
  std::array<Counter, kVcpuEvents> events_;
  Counter mapped_ahead_;
  runtime::OwnState lent_;
  TranslationFlushes::Visit visit_;
  bool has_system_registers_ = true;  // the run area's are the vCPU's
  bool is_counting_ = false;
  // Ring0State::steps is what is left of these.
  std::int64_t steps_granted_ = 0;
  bool is_used_up_ = false;        // and one more was wanted
  unsigned fruitless_repairs_ = 0; // EFAULTs in a row with nothing to repair
  unsigned fruitless_faults_ = 0;  // page faults in a row at pages that were there
};

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_VCPU_H_
