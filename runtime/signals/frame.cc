#include "runtime/signals/frame.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "hostcalls/abi/ring0_abi.h"
#include "libdune/x86/control.h"

namespace dunebox::signals {

namespace rflags = dune::x86::rflags;

namespace {

using abi::ExtendedHeader;
using abi::kContextFlags;
using abi::kHeaderOffset;
using abi::kLegacyFeatures;
using abi::kMagic1;
using abi::kMagic2;
using abi::kMxcsrMask;
using abi::kMxcsrOffset;
using abi::kRedZone;
using abi::kSoftwareReservedOffset;
using abi::SoftwareReserved;

template <typename T>
T LoadAt(std::span<const std::byte> area, std::size_t offset) {
  T value;
  std::memcpy(&value, area.data() + offset, sizeof(value));
  return value;
}
template <typename T>
void StoreAt(std::span<std::byte> area, std::size_t offset, const T& value) {
  std::memcpy(area.data() + offset, &value, sizeof(value));
}

// Where a frame goes, from the top down.
struct FrameStack {
  std::uint64_t top;
  bool is_alternate;  // a frame that does not fit on it must not be written at all
};

FrameStack HandlerStack(const DeliveryState& state, const KernelAction& action) {
  const std::uint64_t rsp = state.registers->rsp;
  const AlternateStack& alternate = *state.alternate_stack;
  const bool stands_there = StandsOn(alternate, rsp);
  if ((action.flags & kSaOnStack) != 0 && alternate.enabled() && !stands_there) {
    return {.top = alternate.base + alternate.size, .is_alternate = true};
  }
  return {.top = rsp - kRedZone, .is_alternate = stands_there};
}

SignalContext SaveRegisters(const runtime::Registers& registers, const TrapInfo& trap) {
  SignalContext context{};
  context.r8 = registers.r8, context.r9 = registers.r9, context.r10 = registers.r10;
  context.r11 = registers.r11, context.r12 = registers.r12, context.r13 = registers.r13;
  context.r14 = registers.r14, context.r15 = registers.r15, context.rdi = registers.rdi;
  context.rsi = registers.rsi, context.rbp = registers.rbp, context.rbx = registers.rbx;
  context.rdx = registers.rdx, context.rax = registers.rax, context.rcx = registers.rcx;
  context.rsp = registers.rsp, context.rip = registers.rip, context.rflags = registers.rflags;
  context.cs = DUNE_SELECTOR_USER_CODE;
  context.ss = DUNE_SELECTOR_USER_DATA;
  context.error_code = trap.error_code;
  context.trap_number = trap.vector;
  context.cr2 = trap.address;
  return context;
}

// Selectors in a returning frame are not used: ring 3 has one code and one stack segment.
void RestoreRegisters(runtime::Registers& registers, const SignalContext& context) {
  registers.r8 = context.r8, registers.r9 = context.r9, registers.r10 = context.r10;
  registers.r11 = context.r11, registers.r12 = context.r12, registers.r13 = context.r13;
  registers.r14 = context.r14, registers.r15 = context.r15, registers.rdi = context.rdi;
  registers.rsi = context.rsi, registers.rbp = context.rbp, registers.rbx = context.rbx;
  registers.rdx = context.rdx, registers.rax = context.rax, registers.rcx = context.rcx;
  registers.rsp = context.rsp, registers.rip = context.rip;
  registers.rflags = rflags::ForUser((registers.rflags & ~rflags::kUserSettable) |
                                     (context.rflags & rflags::kUserSettable));
}

// Writes the XSAVE area below `top`; returns its address, 0 when it cannot be written.
absl::StatusOr<std::uint64_t> PushExtendedState(const DeliveryState& state, std::uint64_t top) {
  const std::size_t size = state.engine->extended_state_size();
  const std::size_t with_magic = size + sizeof(kMagic2);
  std::vector<std::byte> area(with_magic);
  absl::Status saved = state.engine->SaveExtendedState(std::span(area).first(size));
  if (!saved.ok()) return saved;
  const SoftwareReserved software{.magic1 = kMagic1,
                                  .extended_size = static_cast<std::uint32_t>(with_magic),
                                  .features = state.engine->extended_features(),
                                  .state_size = static_cast<std::uint32_t>(size),
                                  .padding = {}};
  StoreAt(area, kSoftwareReservedOffset, software);
  // As XSAVE in a signal frame: x87 and SSE always count as present. [linux] Components that the
  // guest does not have (KVM may report protection keys) are left out.
  StoreAt(area, kHeaderOffset,
          (LoadAt<std::uint64_t>(area, kHeaderOffset) & state.engine->extended_features()) |
              kLegacyFeatures);
  StoreAt(area, size, kMagic2);
  const std::uint64_t address = abi::ExtendedStatePlace(top, size);
  return state.memory->Write(address, area) ? address : 0;
}

// The state of a fresh process, for a frame without an extended state. x87 and SSE are said to be there: KVM
// takes MXCSR over only with them.
std::vector<std::byte> InitialExtendedState(std::size_t size) {
  std::vector<std::byte> area(size);
  StoreAt(area, 0, abi::kInitialControl);
  StoreAt(area, kMxcsrOffset, abi::kInitialMxcsr);
  StoreAt(area, kHeaderOffset, kLegacyFeatures);
  return area;
}

// Reads and checks the XSAVE area of a returning frame. Empty: bad.
std::vector<std::byte> ReadExtendedState(const DeliveryState& state, std::uint64_t address) {
  const std::size_t size = state.engine->extended_state_size();
  std::vector<std::byte> area(size + sizeof(kMagic2));
  if (!state.memory->Read(address, std::span(area).first(kHeaderOffset))) return {};
  const auto software = LoadAt<SoftwareReserved>(area, kSoftwareReservedOffset);
  const bool extended = software.magic1 == kMagic1 && software.state_size == size &&
                        software.extended_size == size + sizeof(kMagic2) &&
                        state.memory->Read(address, area) &&
                        LoadAt<std::uint32_t>(area, size) == kMagic2;
  ExtendedHeader header{};
  if (extended) {
    header = LoadAt<ExtendedHeader>(area, kHeaderOffset);
    if (header.compact != 0 || (header.present & ~state.engine->extended_features()) != 0 ||
        std::ranges::any_of(header.reserved, [](std::uint64_t word) { return word != 0; })) {
      return {};
    }
  } else {
    // A frame with the legacy part only: the rest starts afresh. [linux]
    std::fill(area.begin() + kHeaderOffset, area.end(), std::byte{0});
    header.present = kLegacyFeatures;
  }
  if ((LoadAt<std::uint32_t>(area, kMxcsrOffset) & ~kMxcsrMask) != 0) return {};
  StoreAt(area, kHeaderOffset, header);
  area.resize(size);
  return area;
}

}  // namespace

bool StandsOn(const AlternateStack& stack, std::uint64_t rsp) {
  return stack.enabled() && (stack.flags & kAutoDisarm) == 0 && stack.Contains(rsp);
}

std::optional<AlternateStack> AlternateStackFor(const AlternateStack& wanted) {
  const std::int32_t mode = wanted.flags & ~kAutoDisarm;
  if (mode == SS_DISABLE) return AlternateStack{};
  if (mode != 0 && mode != SS_ONSTACK) return std::nullopt;
  AlternateStack stack = wanted;
  stack.flags &= ~SS_ONSTACK;
  return stack;
}

absl::StatusOr<bool> PushFrame(const DeliveryState& state, const KernelAction& action,
                               const siginfo_t& info, const TrapInfo& trap) {
  const FrameStack stack = HandlerStack(state, action);
  const std::uint64_t bottom = abi::FramePlace(
      abi::ExtendedStatePlace(stack.top, state.engine->extended_state_size()));
  if (stack.is_alternate && !state.alternate_stack->Contains(bottom)) return false;
  const absl::StatusOr<std::uint64_t> extended_state = PushExtendedState(state, stack.top);
  if (!extended_state.ok()) return extended_state.status();
  if (*extended_state == 0) return false;

  runtime::Registers& registers = *state.registers;
  SignalFrame frame{.return_address = action.restorer, .user = {}, .info = info};
  frame.user.flags = kContextFlags;
  frame.user.stack = *state.alternate_stack;
  frame.user.context = SaveRegisters(registers, trap);
  frame.user.context.extended_state = *extended_state;
  frame.user.context.old_mask = state.mask;
  frame.user.mask = state.mask;
  const std::uint64_t address = abi::FramePlace(*extended_state);
  if (!state.memory->Write(address, std::as_bytes(std::span(&frame, 1)))) return false;

  // The handler starts with a fresh x87 and vector state. [linux]
  const std::vector<std::byte> fresh = InitialExtendedState(state.engine->extended_state_size());
  if (absl::Status loaded = state.engine->LoadExtendedState(fresh); !loaded.ok()) return loaded;
  const bool disarm = (state.alternate_stack->flags & kAutoDisarm) != 0;
  if (disarm && state.alternate_stack->Contains(address)) *state.alternate_stack = {};
  registers.rdi = static_cast<std::uint64_t>(info.si_signo);
  registers.rsi = address + offsetof(SignalFrame, info);
  registers.rdx = address + offsetof(SignalFrame, user);
  registers.rax = 0;
  registers.rsp = address;
  registers.rip = action.handler;
  registers.rflags &= ~(rflags::kDirection | rflags::kResume | rflags::kTrap);
  return true;
}

absl::StatusOr<bool> PopFrame(const DeliveryState& state, std::uint64_t* mask) {
  runtime::Registers& registers = *state.registers;
  const std::uint64_t address = registers.rsp - sizeof(std::uint64_t);
  auto frame = state.memory->CopyIn(GuestPtr<SignalFrame>{address});
  if (!frame.ok()) return false;
  const SignalContext& context = frame->user.context;
  *mask = frame->user.mask & ~kUnblockable;

  std::vector<std::byte> area;
  if (context.extended_state == 0) {
    area = InitialExtendedState(state.engine->extended_state_size());
  } else {
    area = ReadExtendedState(state, context.extended_state);
    if (area.empty()) return false;
  }
  absl::Status loaded = state.engine->LoadExtendedState(area);
  if (absl::IsInvalidArgument(loaded)) return false;  // KVM has a rule more than we do
  if (!loaded.ok()) return loaded;
  RestoreRegisters(registers, context);
  // Linux restores the alternate stack too, ignoring a bad one.
  const std::optional<AlternateStack> stack = AlternateStackFor(frame->user.stack);
  const bool is_usable =
      stack && (!stack->enabled() || (stack->size >= kMinimumAlternateStack &&
                                      state.memory->Contains(stack->base, stack->size)));
  if (is_usable && !StandsOn(*state.alternate_stack, registers.rsp)) *state.alternate_stack = *stack;
  return true;
}

std::uint64_t MinimumSignalStack(std::size_t extended_state_size) {
  return sizeof(SignalFrame) + extended_state_size + sizeof(kMagic2) + 64 + 16 + kRedZone;
}

}  // namespace dunebox::signals
