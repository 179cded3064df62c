// A guest thread under translation, as the supervisor sees it.
#ifndef DUNEBOX_RUNTIME_JIT_JIT_THREAD_H_
#define DUNEBOX_RUNTIME_JIT_JIT_THREAD_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "jit-fallback/dispatch/translator.h"
#include "runtime/engine.h"

namespace dunebox::runtime {

class JitEngine;

// The registers that a function of the guest's gets. [abi §3.2.3]
struct FunctionEntry {
  std::uint64_t address = 0, stack_pointer = 0;
  const std::array<std::uint64_t, 6>& integers;  // RDI RSI RDX RCX R8 R9
  std::uint64_t vector_count = 0;           // AL
  std::uint64_t fs_base = 0, gs_base = 0;
};

class JitThread final : public EngineThread {
 public:
  JitThread(JitEngine& engine, std::shared_ptr<jit::Translator> translator,
            std::unique_ptr<jit::ThreadContext> context);

  jit::TranslatedThread& thread() { return thread_; }
  // Instead of Run's attaching for good, around a stretch of Runs: jit::ThreadContext::Borrow.
  jit::ThreadContext& context() { return thread_.context(); }
  // Like a new one, but for what functions leave alone (jit::ThreadContext::InitializeState).
  void Restart(std::uint32_t mxcsr, std::uint16_t x87_control);

  Exit Run(Registers& registers) override;
  // As Run from the entry of a function, with `entry` in place of all registers: the others are what the guest
  // had in them. True: at a system call; else `exit` is what Run would return. ReadRegisters shows what the
  // registers are.
  bool RunFunction(const FunctionEntry& entry, Exit& exit) {
    namespace flags = dune::x86::rflags;
    if (!thread_.context().IsAttached()) thread_.context().Attach();
    jit::Context& context = thread_.context().context();
    auto& gpr = context.gpr;
    gpr[0] = entry.vector_count;
    gpr[7] = entry.integers[0], gpr[6] = entry.integers[1], gpr[2] = entry.integers[2];
    gpr[1] = entry.integers[3], gpr[8] = entry.integers[4], gpr[9] = entry.integers[5];
    gpr[4] = entry.stack_pointer;
    context.rip = entry.address;
    context.rflags = flags::kReserved1 | flags::kInterrupt;
    context.fs_base = entry.fs_base;
    context.gs_base = entry.gs_base;
    run_one_ = false;
    return ContinueToSystemCall(exit);
  }
  void ReadRegisters(Registers& registers);
  // The same from anywhere, with all registers.
  bool RunToSystemCall(const Registers& registers, Exit& exit);
  void Kick() override;
  void Unkick() override;
  std::size_t extended_state_size() const override;
  absl::Status SaveExtendedState(std::span<std::byte> area) override;
  absl::Status LoadExtendedState(std::span<const std::byte> area) override;
  std::uint64_t extended_features() const override;

 private:
  // From the block at context().rip: true at a system call, and else `exit` is what has happened.
  bool ContinueToSystemCall(Exit& exit) {
    jit::Context& context = thread_.context().context();
    if (run_one_ || (context.rflags & dune::x86::rflags::kTrap) != 0) {
      return IsSystemCall(Continue(), exit);
    }
    jit::Stop stop;
    if (!thread_.RunToSystemCall(stop)) return IsSystemCall(stop, exit);
    context.gpr[1] = context.rip;
    context.gpr[11] = context.rflags;
    return true;
  }
  // What is left of that behind a stop.
  bool IsSystemCall(jit::Stop stop, Exit& exit);
  jit::Stop Continue();
  // A stop as an exit; nothing when the guest goes on.
  std::optional<Exit> OnStop(const jit::Stop& stop);
  std::optional<Exit> OnFault(const jit::AtFault& fault);
  std::optional<Exit> OnInstruction(const jit::AtInstruction& at);
  std::optional<Exit> OnFailedCopy(Fault fault);
  // A store to `address` has failed: whether the guest may store there, so that it can be repeated.
  bool MayBeStored(GuestVirt address);
  std::optional<Exit> WithoutHiddenState();
  Exit OnTrap(const jit::Instruction& instruction);
  Exit OnSoftwareInterrupt(const jit::Instruction& instruction);

  JitEngine& engine_;
  jit::TranslatedThread thread_;
  bool run_one_ = false;
  unsigned fruitless_retries_ = 0;
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_JIT_THREAD_H_
