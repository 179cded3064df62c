#include "runtime/jit/jit_thread.h"

#include <signal.h>

#include <cstring>
#include <utility>

#include "runtime/jit/emulation.h"
#include "runtime/jit/jit_engine.h"

namespace dunebox::runtime {
namespace {

namespace x86 = dune::x86;

// A store that fails although the guest may write there has raced with a sibling; this many in a
// row are something else.
constexpr unsigned kMostFruitlessRetries = 10'000;

constexpr std::size_t kPresentOffset = 512;  // XSTATE_BV [intel/vol1 §13.4.2]

void CopyOut(const jit::Context& context, Registers& registers) {
  const auto& gpr = context.gpr;
  registers.rax = gpr[0], registers.rcx = gpr[1], registers.rdx = gpr[2], registers.rbx = gpr[3];
  registers.rsp = gpr[4], registers.rbp = gpr[5], registers.rsi = gpr[6], registers.rdi = gpr[7];
  registers.r8 = gpr[8], registers.r9 = gpr[9], registers.r10 = gpr[10], registers.r11 = gpr[11];
  registers.r12 = gpr[12], registers.r13 = gpr[13], registers.r14 = gpr[14];
  registers.r15 = gpr[15];
  registers.rip = context.rip;
  registers.rflags = context.rflags;
  registers.fs_base = context.fs_base;
  registers.gs_base = context.gs_base;
}

void CopyIn(const Registers& registers, jit::Context& context) {
  context.gpr = {registers.rax, registers.rcx, registers.rdx, registers.rbx,
                 registers.rsp, registers.rbp, registers.rsi, registers.rdi,
                 registers.r8,  registers.r9,  registers.r10, registers.r11,
                 registers.r12, registers.r13, registers.r14, registers.r15};
  context.rip = registers.rip;
  // Linux lets a program keep the nested-task flag that it has popped.
  context.rflags =
      x86::rflags::ForUser(registers.rflags) | (registers.rflags & x86::rflags::kNestedTask);
  context.fs_base = registers.fs_base;
  context.gs_base = registers.gs_base;
}

Fault FaultOf(x86::Vector vector, std::uint64_t error_code = 0) {
  return {.vector = vector, .error_code = error_code, .address = 0, .memory_error = false};
}

}  // namespace

JitThread::JitThread(JitEngine& engine, std::shared_ptr<jit::Translator> translator,
                     std::unique_ptr<jit::ThreadContext> context)
    : engine_(engine), thread_(std::move(translator), engine, std::move(context)) {}

void JitThread::Restart(std::uint32_t mxcsr, std::uint16_t x87_control) {
  run_one_ = false;
  fruitless_retries_ = 0;
  thread_.context().InitializeState(mxcsr, x87_control);
}

Exit JitThread::Run(Registers& registers) {
  if (!thread_.context().IsAttached()) thread_.context().Attach();
  jit::Context& context = thread_.context().context();
  CopyIn(registers, context);
  for (;;) {
    if (std::optional<Exit> exit = OnStop(Continue())) {
      CopyOut(context, registers);
      return *std::move(exit);
    }
  }
}

bool JitThread::RunToSystemCall(const Registers& registers, Exit& exit) {
  if (!thread_.context().IsAttached()) thread_.context().Attach();
  CopyIn(registers, thread_.context().context());
  return ContinueToSystemCall(exit);
}

bool JitThread::IsSystemCall(jit::Stop stop, Exit& exit) {
  for (;;) {
    if (std::optional<Exit> other = OnStop(stop)) {
      if (std::holds_alternative<SystemCall>(*other)) return true;
      exit = *std::move(other);
      return false;
    }
    stop = Continue();
  }
}

void JitThread::ReadRegisters(Registers& registers) {
  CopyOut(thread_.context().context(), registers);
}

jit::Stop JitThread::Continue() {
  jit::Context& context = thread_.context().context();
  if ((context.rflags & x86::rflags::kTrap) == 0) {
    if (!std::exchange(run_one_, false)) return thread_.Run();
    const jit::Stop stop = thread_.Step();
    return std::holds_alternative<jit::AtStep>(stop) ? thread_.Run() : stop;
  }
  // The flag must not be set in translated code: it would count our own instructions.
  run_one_ = false;
  context.rflags &= ~x86::rflags::kTrap;
  const std::uint64_t start = context.rip;
  const jit::Stop stop = thread_.Step();
  context.rflags |= x86::rflags::kTrap;
  // A kick behind the instruction does not undo its trap; the kick is still set.
  const bool is_done = std::holds_alternative<jit::AtKick>(stop) && context.rip != start;
  return is_done ? jit::Stop(jit::AtStep{}) : stop;
}

std::optional<Exit> JitThread::OnStop(const jit::Stop& stop) {
  jit::Context& context = thread_.context().context();
  return std::visit(
      Overloaded{
          [&](const jit::AtSystemCall&) -> std::optional<Exit> {
            context.gpr[1] = context.rip;
            context.gpr[11] = context.rflags;
            return SystemCall{};
          },
          [&](const jit::AtInstruction& at) { return OnInstruction(at); },
          [&](const jit::AtFault& fault) { return OnFault(fault); },
          [&](const jit::AtFetchFault& fault) -> std::optional<Exit> {
            const bool mapped = engine_.space().WithVma(
                GuestVirt{fault.address},
                [](const memory::Vma* vma) { return vma != nullptr && !vma->protection.execute; });
            return Fault{.vector = x86::Vector::kPageFault,
                         .error_code = x86::page_fault::kUser | x86::page_fault::kInstruction |
                                       (mapped ? x86::page_fault::kPresent : 0),
                         .address = fault.address,
                         .memory_error = false};
          },
          [](const jit::AtKick&) -> std::optional<Exit> { return Interrupted{}; },
          [](const jit::AtNoTranslator&) -> std::optional<Exit> {
            return EngineFailure{"no memory for translated code"};
          },
          [](const jit::AtStep&) -> std::optional<Exit> { return FaultOf(x86::Vector::kDebug); },
      },
      stop);
}

std::optional<Exit> JitThread::OnFault(const jit::AtFault& fault) {
  const auto vector = static_cast<x86::Vector>(fault.vector);
  if (vector != x86::Vector::kPageFault) {
    return Fault{
        .vector = vector, .error_code = fault.error_code, .address = 0, .memory_error = false};
  }
  const bool is_store = (fault.error_code & x86::page_fault::kWrite) != 0;
  if (is_store && fault.signal == SIGSEGV && MayBeStored(GuestVirt{fault.address})) {
    return std::nullopt;
  }
  // A mapping is there before it has its key.
  if (fault.code == SEGV_PKUERR && engine_.MayAccess(GuestVirt{fault.address}, is_store) &&
      ++fruitless_retries_ < kMostFruitlessRetries) {
    return std::nullopt;
  }
  fruitless_retries_ = 0;
  // The kernel's verdict, not the bit: a page that was never touched may be forbidden all the same.
  std::uint64_t error_code =
      fault.error_code & ~(x86::page_fault::kPresent | x86::page_fault::kProtectionKey);
  if (fault.code == SEGV_ACCERR) error_code |= x86::page_fault::kPresent;
  return Fault{.vector = vector,
               .error_code = error_code,
               .address = fault.address,
               .memory_error = fault.signal == SIGBUS};
}

bool JitThread::MayBeStored(GuestVirt address) {
  switch (engine_.OnWriteFault(address)) {
    case JitEngine::WriteFault::kCodePage:
      // The store may be about to change the instruction behind it.
      run_one_ = true;
      return true;
    case JitEngine::WriteFault::kAllowed:
      if (++fruitless_retries_ < kMostFruitlessRetries) return true;
      break;
    case JitEngine::WriteFault::kNotOurs:
      break;
  }
  fruitless_retries_ = 0;
  return false;
}

std::optional<Exit> JitThread::OnInstruction(const jit::AtInstruction& at) {
  const jit::Instruction& instruction = at.instruction;
  if (at.is_too_long) return FaultOf(x86::Vector::kGeneralProtection);
  if (instruction.operation == jit::Operation::kXsaveFamily) return WithoutHiddenState();
  const Emulation emulation = EmulationOf(instruction);
  if (emulation == nullptr) return OnTrap(instruction);
  jit::Context& context = thread_.context().context();
  const bool stepping = (context.rflags & x86::rflags::kTrap) != 0;
  const std::optional<Fault> fault =
      emulation(instruction, context, thread_.context().extended_area(), engine_.extended_layout(),
                engine_.space().memory());
  if (fault) return OnFailedCopy(*fault);
  if (stepping) return FaultOf(x86::Vector::kDebug);
  return std::nullopt;
}

// The runtime's copies say only that they have failed; the guest is told what the kernel would say.
std::optional<Exit> JitThread::OnFailedCopy(Fault fault) {
  if (fault.vector != x86::Vector::kPageFault) return fault;
  const bool is_store = (fault.error_code & x86::page_fault::kWrite) != 0;
  if (is_store && MayBeStored(GuestVirt{fault.address})) return std::nullopt;
  // As Linux says it of its own half.
  constexpr std::uint64_t kUserEnd = std::uint64_t{1} << 47;
  if (fault.address >= kUserEnd) fault.error_code |= x86::page_fault::kPresent;
  engine_.space().WithVma(GuestVirt{fault.address}, [&](const memory::Vma* vma) {
    if (vma == nullptr) return;
    const memory::Protection& protection = vma->protection;
    const bool is_allowed = is_store ? protection.write : protection.any();
    // Behind the end of a file; or a sibling has allowed it meanwhile.
    fault.memory_error = is_allowed && vma->file_backed;
    if (!fault.memory_error) fault.error_code |= x86::page_fault::kPresent;
  });
  return fault;
}

// XSAVE or XRSTOR with hidden components in its mask: the same without, as on a processor that has
// none.
std::optional<Exit> JitThread::WithoutHiddenState() {
  jit::Context& context = thread_.context().context();
  const std::uint64_t trap = context.rflags & x86::rflags::kTrap;
  context.rflags &= ~trap;
  const std::uint64_t mask = context.gpr[0];
  context.gpr[0] &= extended_features();
  const jit::Stop stop = thread_.Step();
  context.gpr[0] = mask;
  context.rflags |= trap;
  if (!std::holds_alternative<jit::AtStep>(stop)) return OnStop(stop);
  if (trap != 0) return FaultOf(x86::Vector::kDebug);
  return std::nullopt;
}

// Linux has two gates that programs may use, and one more for 32-bit calls, which are refused. [linux] arch/x86/kernel/idt.c
Exit JitThread::OnSoftwareInterrupt(const jit::Instruction& instruction) {
  const auto number = static_cast<std::uint8_t>(instruction.immediate16);
  const auto vector = static_cast<x86::Vector>(number);
  if (vector != x86::Vector::kBreakpoint && vector != x86::Vector::kOverflow) {
    constexpr std::uint64_t kInIdt = 2;  // of the error code, the number being times eight
    return FaultOf(x86::Vector::kGeneralProtection, std::uint64_t{number} * 8 + kInIdt);
  }
  thread_.context().context().rip += instruction.length;
  return FaultOf(vector);
}

Exit JitThread::OnTrap(const jit::Instruction& instruction) {
  jit::Context& context = thread_.context().context();
  switch (instruction.operation) {
    case jit::Operation::kInt3:
      context.rip += instruction.length;
      return FaultOf(x86::Vector::kBreakpoint);
    case jit::Operation::kInt1:
      context.rip += instruction.length;
      return FaultOf(x86::Vector::kDebug);
    case jit::Operation::kIntN:
      return OnSoftwareInterrupt(instruction);
    case jit::Operation::kPrivileged:
      return FaultOf(x86::Vector::kGeneralProtection);
    default:
      return FaultOf(x86::Vector::kInvalidOpcode);
  }
}

void JitThread::Kick() { __atomic_store_n(&thread_.context().context().kick, 1, __ATOMIC_RELAXED); }

void JitThread::Unkick() {
  __atomic_store_n(&thread_.context().context().kick, 0, __ATOMIC_RELAXED);
}

// ---- extended state -----------------------------------------------------------------------------

std::size_t JitThread::extended_state_size() const { return engine_.extended_layout().size; }
std::uint64_t JitThread::extended_features() const { return engine_.extended_layout().mask; }

absl::Status JitThread::SaveExtendedState(std::span<std::byte> area) {
  const std::span<const std::byte> from = thread_.context().extended_area();
  std::memcpy(area.data(), from.data(), std::min(area.size(), from.size()));
  // XSAVEOPT leaves alone what is in its initial state.
  std::uint64_t present;
  std::memcpy(&present, area.data() + kPresentOffset, sizeof(present));
  engine_.extended_layout().Initialize(extended_features() & ~present, area.data());
  return absl::OkStatus();
}

absl::Status JitThread::LoadExtendedState(std::span<const std::byte> area) {
  const std::span<std::byte> to = thread_.context().extended_area();
  std::memcpy(to.data(), area.data(), std::min(area.size(), to.size()));
  return absl::OkStatus();
}

}  // namespace dunebox::runtime
