// The engines of sandboxes: what calls need of one beside running guest code. Under jit a host
// thread lends the guest its own registers, and has to find its own again; under kvm the guest has
// a virtual processor's.
//
//   absl::StatusOr<std::unique_ptr<GuestEngine>> engine = GuestEngine::Create(policy, space);
//   absl::StatusOr<std::unique_ptr<GuestCpu>> cpu = (*engine)->CreateCpu();
#ifndef DUNEBOX_SANDBOX_PLUGIN_GUEST_ENGINE_H_
#define DUNEBOX_SANDBOX_PLUGIN_GUEST_ENGINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dunebox/call.h"
#include "dunebox/policy.h"
#include "runtime/engine.h"
#include "runtime/memory/address_space.h"
#include "runtime/memory/range_set.h"

namespace dunebox::runtime {
struct SharedCode;
}

namespace dunebox::plugin {

// The lower halves of the vector registers that arguments are passed in.
using Vectors = std::array<std::uint64_t, internal::kVectorRegisters>;

// Of one guest thread. Used by one host thread at a time, but for what EngineThread says of Kick,
// which may here be called by any thread.
class GuestCpu {
 public:
  virtual ~GuestCpu() = default;
  virtual runtime::EngineThread& thread() = 0;

  // A function that is called, its stack with the return address laid out, and how it comes back.
  struct Entry {
    std::uint64_t function, stack_pointer;
    const internal::CallFrame& frame;
    std::uint64_t fs_base, gs_base;
  };
  struct Returned {
    std::uint64_t integer, second_integer;
  };
  enum class Left : std::uint8_t {
    kByReturn,  // at the gate by which functions return, with the stack as they leave it
    kByCall,    // any other system call
    kOtherwise,
  };
  // Enter, Run from the function's entry, and Leave. TakeRegisters has the registers, but after kByReturn.
  virtual Left RunFunction(const Entry& entry, Returned& returned) = 0;
  virtual void TakeRegisters(runtime::Registers& registers) = 0;
  // The same from within a function that has called the host; it leaves the stack at `stack_after`.
  virtual Left Continue(const runtime::Registers& registers, std::uint64_t stack_after, Returned& returned) = 0;
  // What kOtherwise was, once.
  virtual runtime::Exit TakeExit() = 0;

  // Around a stretch of Runs, by the same host thread. In each Run is a LightFence: who has been kicked before it without
  // being known as a runner sees the kick.
  virtual void Enter() = 0;
  virtual void Leave() = 0;

  // Where instructions are counted (Policy::instruction_budget): how many may still run; less than 0 when Run has
  // returned Interrupted because there were too few.
  virtual std::int64_t instructions_left() const = 0;
  virtual void set_instructions_left(std::int64_t number) = 0;

  // Not between Enter and Leave: at a gate.
  struct Control {
    std::uint32_t mxcsr = 0x1f80;
    std::uint16_t x87_control = 0x37f;
  };
  virtual absl::StatusOr<Control> control() const = 0;
  // Like a new one, but for what functions leave alone.
  virtual absl::Status Restart(const Control& control) = 0;
  virtual absl::StatusOr<Vectors> ReadVectors() = 0;
  virtual absl::Status WriteVectors(const Vectors& values) = 0;
};

class GuestEngine {
 public:
  // For the window of `space`, which outlives it; `shared`, which Share has given: code that its guest has in
  // common with others. kUnavailable: this machine does not have it, or
  // not to this process. kResourceExhausted: there are kMostMachines with engine kvm.
  static absl::StatusOr<std::unique_ptr<GuestEngine>> Create(const Policy& policy,
                                                             memory::AddressSpace& space,
                                                             std::shared_ptr<const runtime::SharedCode> shared = nullptr);
  virtual ~GuestEngine() = default;

  virtual absl::StatusOr<std::unique_ptr<GuestCpu>> CreateCpu() = 0;
  // For snapshots: what runtime::JitEngine says of the same functions. Null where guests' code is executed as it is.
  virtual absl::StatusOr<std::shared_ptr<const runtime::SharedCode>> Share(memory::RangeSet ranges) = 0;
  virtual void ReturnTo(std::shared_ptr<const runtime::SharedCode> shared) = 0;
  virtual void KeepOnly(const memory::RangeSet& ranges) = 0;
  virtual void SetKick(std::function<void()> kick) = 0;
  // As Sandbox shows them.
  virtual std::string name() const = 0;
  virtual std::string isolation() const = 0;
  // For tests and diagnostics.
  virtual std::vector<runtime::Counter> Counters() = 0;
};

using runtime::kNoInstructionLimit;

// Each sandbox under kvm is a virtual machine of its own, and every change of the process's
// mappings is told to all of them: with their number munmap and fork take longer.
inline constexpr unsigned kMostMachines = 64;

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_GUEST_ENGINE_H_
