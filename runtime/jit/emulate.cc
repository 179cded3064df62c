#include "runtime/jit/emulate.h"

#include <cstring>

#include "hostcalls/abi/ring0_abi.h"
#include "hostcalls/host_cpuid.h"
#include "jit-fallback/dispatch/operand_address.h"
#include "runtime/jit/undecoded_features.h"

namespace dunebox::runtime {
namespace {

namespace x86 = dune::x86;
using jit::Instruction;
using jit::Operation;

constexpr std::uint64_t kLowestNonCanonical = std::uint64_t{1} << 47;

Fault GeneralProtection(std::uint64_t error_code = 0) {
  return {.vector = x86::Vector::kGeneralProtection,
          .error_code = error_code,
          .address = 0,
          .memory_error = false};
}

Fault InvalidOpcode() {
  return {
      .vector = x86::Vector::kInvalidOpcode, .error_code = 0, .address = 0, .memory_error = false};
}

Fault BadMemory(std::uint64_t address) {
  return {.vector = x86::Vector::kPageFault,
          .error_code = x86::page_fault::kUser,
          .address = address,
          .memory_error = false};
}

Fault BadStore(std::uint64_t address) {
  Fault fault = BadMemory(address);
  fault.error_code |= x86::page_fault::kWrite;
  return fault;
}

x86::CpuidResult HostCpuid(std::uint32_t function, std::uint32_t index) {
  const hostcalls::HostCpuid found = hostcalls::AskHostCpuid(function, index);
  return {.eax = found.eax, .ebx = found.ebx, .ecx = found.ecx, .edx = found.edx};
}

}  // namespace

void HideFromGuest(std::uint32_t function, std::uint32_t index, x86::CpuidResult& result) {
  x86::HideFeatures(function, index, result);
  x86::HideFeatures(function, index, result, kUndecodedFeatures);
}

// What a process of the host would see, minus what is hidden.
x86::CpuidResult GuestCpuid(std::uint32_t function, std::uint32_t asked_index) {
  const std::uint32_t index = hostcalls::HasSubleaves(function) ? asked_index : 0;
  x86::CpuidResult result = HostCpuid(function, index);
  HideFromGuest(function, index, result);
  if (function == 0xa) return {};  // performance counters
  if (function == 0xd) {
    if (index == 0) {
      result.eax &= static_cast<std::uint32_t>(x86::kExtendedFeatureMask);
      result.edx = 0;
      std::uint32_t size = 512 + 64;
      for (std::uint32_t component = 2; component < 32; ++component) {
        if ((result.eax & x86::Bit(component)) == 0) continue;
        const x86::CpuidResult where = HostCpuid(0xd, component);
        size = std::max(size, where.ebx + where.eax);
      }
      result.ebx = result.ecx = size;
    } else if (index > 1 && (index >= 63 || (x86::kExtendedFeatureMask & x86::Bit(index)) == 0)) {
      return {};
    }
  }
  return result;
}

namespace {

// The registers in the order of their numbers.
std::uint64_t& Gpr(jit::Context& context, unsigned number) { return context.gpr[number & 15]; }

unsigned RegisterField(const Instruction& instruction) {
  return ((instruction.modrm >> 3) & 7U) | ((instruction.rex & 4) != 0 ? 8U : 0U);
}
unsigned RmField(const Instruction& instruction) {
  return (instruction.modrm & 7U) | ((instruction.rex & 1) != 0 ? 8U : 0U);
}

std::uint64_t AddressOf(const Instruction& instruction, const jit::Context& context) {
  return jit::OperandAddress(instruction, {}, jit::AddressRegistersOf(context));
}

class Emulator {
 public:
  Emulator(const Instruction& instruction, jit::Context& context,
           const hostcalls::GuestMemory& memory)
      : instruction_(instruction), context_(context), memory_(memory) {}

  std::optional<Fault> Run();

 private:
  std::optional<Fault> Done() {
    context_.rip += instruction_.length;
    return std::nullopt;
  }
  template <typename T>
  bool Load(std::uint64_t address, T& value) {
    return memory_.Read(address, std::as_writable_bytes(std::span(&value, 1)));
  }
  unsigned OperandBytes() const {
    if ((instruction_.rex & 8) != 0) return 8;
    return instruction_.operand_size ? 2 : 4;
  }
  std::optional<Fault> Cpuid();
  std::optional<Fault> ExtendedControl();
  std::optional<Fault> ReadBase(std::uint64_t base);
  std::optional<Fault> WriteBase(std::uint64_t& base);
  std::optional<Fault> LoadSegment(unsigned segment, std::uint16_t selector);
  std::optional<Fault> MoveToSegment();
  std::optional<Fault> MoveFromSegment();
  std::optional<Fault> PushSegment();
  std::optional<Fault> PopSegment();
  std::optional<Fault> PopFlags();
  std::optional<Fault> LoadFarPointer();
  std::optional<Fault> FarTransfer(std::uint64_t rip, std::uint16_t code);
  std::optional<Fault> ReturnFar();
  std::optional<Fault> InterruptReturn();
  std::optional<Fault> JumpFar(bool is_call);
  std::optional<Fault> ReadFar(std::uint64_t& target, std::uint16_t& selector);

  const Instruction& instruction_;
  jit::Context& context_;
  const hostcalls::GuestMemory& memory_;
};

std::optional<Fault> Emulator::Cpuid() {
  const x86::CpuidResult result = GuestCpuid(static_cast<std::uint32_t>(Gpr(context_, 0)),
                                             static_cast<std::uint32_t>(Gpr(context_, 1)));
  Gpr(context_, 0) = result.eax;
  Gpr(context_, 3) = result.ebx;
  Gpr(context_, 1) = result.ecx;
  Gpr(context_, 2) = result.edx;
  return Done();
}

// XGETBV: XCR0, or which of its components are in use.
std::optional<Fault> Emulator::ExtendedControl() {
  constexpr std::size_t kPresentOffset = 512;  // XSTATE_BV [intel/vol1 §13.4.2]
  std::uint64_t value = context_.extended_mask;
  const auto index = static_cast<std::uint32_t>(Gpr(context_, 1));
  if (index == 1) {
    std::memcpy(&value, context_.extended_area + kPresentOffset, sizeof(value));
  } else if (index != 0) {
    return GeneralProtection();
  }
  Gpr(context_, 0) = value & 0xffff'ffff;
  Gpr(context_, 2) = value >> 32;
  return Done();
}

std::optional<Fault> Emulator::ReadBase(std::uint64_t base) {
  const bool wide = (instruction_.rex & 8) != 0;
  Gpr(context_, RmField(instruction_)) = wide ? base : base & 0xffff'ffff;
  return Done();
}

std::optional<Fault> Emulator::WriteBase(std::uint64_t& base) {
  const bool wide = (instruction_.rex & 8) != 0;
  const std::uint64_t reg = Gpr(context_, RmField(instruction_));
  const std::uint64_t value = wide ? reg : reg & 0xffff'ffff;
  if (!memory_.window().AllowsSegmentBase(value)) return GeneralProtection();
  base = value;
  return Done();
}

// Only what a 64-bit Linux process can load without effect on its memory: null selectors and the
// flat user data segment. A null selector in FS or GS clears the base.
std::optional<Fault> Emulator::LoadSegment(unsigned segment, std::uint16_t selector) {
  constexpr unsigned kSs = 2, kFs = 4, kGs = 5;
  const bool is_null = selector < 4;
  const bool is_data = selector == DUNE_SELECTOR_USER_DATA;
  if (segment == 1 || segment > kGs) return InvalidOpcode();
  if (segment == kSs ? !is_data : !is_null && !is_data) return GeneralProtection(selector & 0xfffc);
  if (segment == kFs) context_.fs_base = 0;
  if (segment == kGs) context_.gs_base = 0;
  context_.selectors[segment] = selector;
  return std::nullopt;
}

std::optional<Fault> Emulator::MoveFromSegment() {
  const std::uint16_t selector = context_.selectors[((instruction_.modrm >> 3) & 7U) % 6];
  if (instruction_.has_memory) {
    const std::uint64_t address = AddressOf(instruction_, context_);
    if (!memory_.Write(address, std::as_bytes(std::span(&selector, 1)))) return BadStore(address);
    return Done();
  }
  std::uint64_t& reg = Gpr(context_, RmField(instruction_));
  reg = OperandBytes() == 2 ? (reg & ~std::uint64_t{0xffff}) | selector : selector;
  return Done();
}

std::optional<Fault> Emulator::PushSegment() {
  std::uint64_t& rsp = Gpr(context_, 4);
  const unsigned bytes = instruction_.operand_size ? 2 : 8;
  // 0f a0 push fs, 0f a8 push gs
  const std::uint64_t value = context_.selectors[instruction_.opcode == 0xa0 ? 4 : 5];
  if (!memory_.Write(rsp - bytes, std::as_bytes(std::span(&value, 1)).first(bytes))) {
    return BadStore(rsp - bytes);
  }
  rsp -= bytes;
  return Done();
}

std::optional<Fault> Emulator::MoveToSegment() {
  std::uint16_t selector = 0;
  if (instruction_.has_memory) {
    const std::uint64_t address = AddressOf(instruction_, context_);
    if (!Load(address, selector)) return BadMemory(address);
  } else {
    selector = static_cast<std::uint16_t>(Gpr(context_, RmField(instruction_)));
  }
  if (auto fault = LoadSegment((instruction_.modrm >> 3) & 7U, selector)) return fault;
  return Done();
}

std::optional<Fault> Emulator::PopSegment() {
  std::uint64_t& rsp = Gpr(context_, 4);
  std::uint16_t selector = 0;
  if (!Load(rsp, selector)) return BadMemory(rsp);
  // 0f a1 pop fs, 0f a9 pop gs
  if (auto fault = LoadSegment(instruction_.opcode == 0xa1 ? 4 : 5, selector)) return fault;
  rsp += instruction_.operand_size ? 2 : 8;
  return Done();
}

std::optional<Fault> Emulator::ReadFar(std::uint64_t& target, std::uint16_t& selector) {
  const std::uint64_t address = AddressOf(instruction_, context_);
  const unsigned bytes = OperandBytes();
  target = 0;
  if (!memory_.Read(address, std::as_writable_bytes(std::span(&target, 1)).first(bytes)) ||
      !Load(address + bytes, selector)) {
    return BadMemory(address);
  }
  return std::nullopt;
}

// Not copied: it may set the trap flag.
std::optional<Fault> Emulator::PopFlags() {
  std::uint64_t& rsp = Gpr(context_, 4);
  const unsigned bytes = instruction_.operand_size ? 2 : 8;
  std::uint64_t flags = 0;
  if (!memory_.Read(rsp, std::as_writable_bytes(std::span(&flags, 1)).first(bytes))) {
    return BadMemory(rsp);
  }
  if (bytes == 2) flags |= context_.rflags & ~std::uint64_t{0xffff};
  constexpr std::uint64_t kPoppable = x86::rflags::kUserSettable & ~x86::rflags::kResume;
  const std::uint64_t settable =
      kPoppable | x86::rflags::kIdentification | x86::rflags::kNestedTask;
  context_.rflags = (context_.rflags & ~settable) | (flags & settable);
  rsp += bytes;
  return Done();
}

std::optional<Fault> Emulator::LoadFarPointer() {
  std::uint64_t value = 0;
  std::uint16_t selector = 0;
  if (auto fault = ReadFar(value, selector)) return fault;
  // 0f b2 lss, 0f b4 lfs, 0f b5 lgs
  const unsigned segment = instruction_.opcode == 0xb2 ? 2 : instruction_.opcode == 0xb4 ? 4 : 5;
  if (auto fault = LoadSegment(segment, selector)) return fault;
  std::uint64_t& reg = Gpr(context_, RegisterField(instruction_));
  const unsigned bytes = OperandBytes();
  reg = bytes == 2 ? (reg & ~std::uint64_t{0xffff}) | value : value;
  return Done();
}

// 64-bit code only: a 32-bit code segment would leave what is translated.
std::optional<Fault> Emulator::FarTransfer(std::uint64_t rip, std::uint16_t code) {
  if (code != DUNE_SELECTOR_USER_CODE) return GeneralProtection(code & 0xfffcU);
  if (rip >= kLowestNonCanonical) return GeneralProtection();
  context_.rip = rip;
  return std::nullopt;
}

std::optional<Fault> Emulator::ReturnFar() {
  std::uint64_t& rsp = Gpr(context_, 4);
  const unsigned bytes = OperandBytes();
  std::uint64_t rip = 0;
  std::uint64_t code = 0;
  if (!memory_.Read(rsp, std::as_writable_bytes(std::span(&rip, 1)).first(bytes)) ||
      !memory_.Read(rsp + bytes, std::as_writable_bytes(std::span(&code, 1)).first(bytes))) {
    return BadMemory(rsp);
  }
  if (auto fault = FarTransfer(rip, static_cast<std::uint16_t>(code))) return fault;
  rsp += std::uint64_t{2} * bytes + instruction_.immediate16;
  return std::nullopt;
}

std::optional<Fault> Emulator::InterruptReturn() {
  if (OperandBytes() != 8) return GeneralProtection();
  std::array<std::uint64_t, 5> frame;  // RIP, CS, RFLAGS, RSP, SS
  const std::uint64_t rsp = Gpr(context_, 4);
  if (!Load(rsp, frame)) return BadMemory(rsp);
  if (static_cast<std::uint16_t>(frame[4]) != DUNE_SELECTOR_USER_DATA) {
    return GeneralProtection(frame[4] & 0xfffc);
  }
  if (auto fault = FarTransfer(frame[0], static_cast<std::uint16_t>(frame[1]))) return fault;
  context_.rflags = x86::rflags::ForUser(frame[2]);
  Gpr(context_, 4) = frame[3];
  return std::nullopt;
}

std::optional<Fault> Emulator::JumpFar(bool is_call) {
  std::uint64_t target = 0;
  std::uint16_t selector = 0;
  if (auto fault = ReadFar(target, selector)) return fault;
  const std::uint64_t next = context_.rip + instruction_.length;
  const std::uint64_t start = context_.rip;
  if (auto fault = FarTransfer(target, selector)) return fault;
  if (!is_call) return std::nullopt;
  const unsigned bytes = OperandBytes();
  std::uint64_t& rsp = Gpr(context_, 4);
  const std::uint64_t code = DUNE_SELECTOR_USER_CODE;
  if (!memory_.Write(rsp - bytes, std::as_bytes(std::span(&code, 1)).first(bytes)) ||
      !memory_.Write(rsp - 2U * bytes, std::as_bytes(std::span(&next, 1)).first(bytes))) {
    context_.rip = start;
    return BadStore(rsp - 2U * bytes);
  }
  rsp -= 2U * bytes;
  return std::nullopt;
}

std::optional<Fault> Emulator::Run() {
  switch (instruction_.operation) {
    case Operation::kCpuid:
      return Cpuid();
    case Operation::kXgetbv:
      return ExtendedControl();
    case Operation::kReadGsBase:
      return ReadBase(context_.gs_base);
    case Operation::kWriteGsBase:
      return WriteBase(context_.gs_base);
    case Operation::kRdFsGsBase:
      return ReadBase(context_.fs_base);
    case Operation::kWrFsBase:
      return WriteBase(context_.fs_base);
    case Operation::kMoveToSegment:
      return MoveToSegment();
    case Operation::kMoveFromSegment:
      return MoveFromSegment();
    case Operation::kPushSegment:
      return PushSegment();
    case Operation::kPopSegment:
      return PopSegment();
    case Operation::kPopFlags:
      return PopFlags();
    case Operation::kLoadFarPointer:
      return LoadFarPointer();
    case Operation::kJumpFar:
      return JumpFar(false);
    case Operation::kCallFar:
      return JumpFar(true);
    case Operation::kReturnFar:
      return ReturnFar();
    case Operation::kInterruptReturn:
      return InterruptReturn();
    default:
      // What CPUID does not offer: protection keys, transactions.
      return InvalidOpcode();
  }
}

}  // namespace

std::optional<Fault> Emulate(const jit::Instruction& instruction, jit::Context& context,
                             const hostcalls::GuestMemory& memory) {
  return Emulator(instruction, context, memory).Run();
}

}  // namespace dunebox::runtime
