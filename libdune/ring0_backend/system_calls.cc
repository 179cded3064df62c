// What a SYSCALL in ring 0 becomes: one of our own calls (own_calls.inc), or the kernel's with the
// same arguments.
#include <cerrno>

#include "libdune/ring0_backend/raw_call.h"
#include "libdune/ring0_backend/run_loop.h"
#include "libdune/ring0_backend/symbols.h"

namespace dune::ring0 {
namespace {

// asm/prctl.h [linux]
constexpr std::uint64_t kSetGs = 0x1001, kSetFs = 0x1002, kGetFs = 0x1003, kGetGs = 0x1004;

std::int64_t ArchPrctl(Thread* thread, const SystemCall& call) {
  const std::uint64_t option = call.arguments[0], value = call.arguments[1];
  if (option < kSetGs || option > kGetGs) return HostCall(thread, call);
  kvm_sregs& registers = thread->system_registers;
  if (RawCall(SYS_ioctl, thread->vcpu, KVM_GET_SREGS, &registers) < 0) return -EINVAL;
  kvm_segment& segment = option == kSetFs || option == kGetFs ? registers.fs : registers.gs;
  if (option == kGetFs || option == kGetGs) {
    const std::uint64_t base = segment.base;
    return WriteProgram(value, &base, sizeof(base)) ? 0 : -EFAULT;
  }
  if (value >= kAddressesEnd) return -EPERM;
  segment.base = value;
  return RawCall(SYS_ioctl, thread->vcpu, KVM_SET_SREGS, &registers);
}

std::int64_t Exit(Thread* thread, const SystemCall& call) {
  return ExitThread(thread, static_cast<int>(call.arguments[0]));
}

// Waiting with another mask: the argument that says where it is, or where a structure is that begins with its address. [linux]
enum class Says : std::uint8_t { kMask, kStructure, kByFlags };
struct MaskedWait {
  std::uint64_t number;
  unsigned argument;
  Says says;
};
constexpr MaskedWait kMaskedWaits[] = {
    {SYS_rt_sigsuspend, 0, Says::kMask},  {SYS_ppoll, 3, Says::kMask},
    {SYS_pselect6, 5, Says::kStructure},  {SYS_epoll_pwait, 4, Says::kMask},
    {SYS_epoll_pwait2, 4, Says::kMask},   {SYS_io_pgetevents, 5, Says::kStructure},
    {SYS_io_uring_enter, 4, Says::kByFlags}};
// Of io_uring_enter's flags, its fourth argument: a structure.
constexpr std::uint64_t kRingExtendedArgument = 1 << 3;

bool IsStructure(const MaskedWait& wait, const SystemCall& call) {
  if (wait.says == Says::kByFlags) return (call.arguments[3] & kRingExtendedArgument) != 0;
  return wait.says == Says::kStructure;
}

// A handler that ends the call begins with the call's mask, not with the one that is there again behind it.
std::int64_t WaitMasked(Thread* thread, const SystemCall& call) {
  for (const MaskedWait& wait : kMaskedWaits) {
    if (wait.number != call.number) continue;
    std::uint64_t place = call.arguments[wait.argument];
    // What cannot be read the kernel cannot read either.
    if (IsStructure(wait, call) && place != 0 && !ReadProgram(place, &place, sizeof(place))) break;
    thread->waits_with_mask = place != 0 && ReadProgram(place, &thread->mask_of_call, sizeof(thread->mask_of_call));
  }
  const std::int64_t result = HostCall(thread, call);
  thread->waits_with_mask = false;
  return result;
}

std::int64_t ReturnFromSignal(Thread* thread, const SystemCall&) { return SignalReturn(thread); }

using OwnCall = std::int64_t (*)(Thread*, const SystemCall&);
constexpr std::uint64_t kNumbers = 512;
struct OwnCalls {
  OwnCall by_number[kNumbers] = {};
};
constexpr OwnCalls MakeOwnCalls() {
  OwnCalls calls;
#define OWN_CALL(name, function) calls.by_number[SYS_##name] = function;
#include "libdune/ring0_backend/own_calls.inc"
  return calls;
}
constinit const OwnCalls kOwnCalls = MakeOwnCalls();

}  // namespace

std::int64_t HostCall(Thread* thread, const SystemCall& call) {
  static_assert(sizeof(SystemCall) == 7 * sizeof(std::uint64_t));
  return dune_host_call(thread, &call.number);
}

std::int64_t Serve(Thread* thread, const SystemCall& call) {
  if (call.number < kNumbers) {
    if (const OwnCall own = kOwnCalls.by_number[call.number]; own != nullptr) {
      return own(thread, call);
    }
  }
  return HostCall(thread, call);
}

}  // namespace dune::ring0
