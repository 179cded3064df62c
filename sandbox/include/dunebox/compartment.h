// Parts of one program that cannot reach each other's memory: a compartment runs code of the
// program's own, an ordinary shared library, with exactly what it was granted (grants.h). Of the
// process's memory it has its own, and the regions it was given; it makes the system calls and uses
// the descriptors it was given; it leaves by its gates. Meant for code that is trusted to be
// well-meaning until somebody takes it over: a request handler, a parser, whatever holds a key.
//
//   auto code = CompartmentCode::Load({.libraries = {"/srv/handler.so"}});
//   auto handler = Compartment::Create(*code, Grants().Add(page, RegionAccess::kRead));
//   auto handle = (*handler)->Function<int(const char*)>("handle");
//   absl::StatusOr<Tainted<int>> done = (*handle)(page->guest<char>());
//   // "read of region 'key' at offset 0x0"
//   for (const AccessFault& fault : (*handler)->faults()) Log(fault.ToText());
//   absl::Status fresh = (*handler)->Recycle();  // as it was created
//
// Rights only shrink: by Narrow, in a child, over a recycle. It is done by the in-process engine of
// plugins (jit, isolation seg: docs/plugins.md), which works on every machine, or, in a program that is
// in ring 0, by page tables of ring 3's (CompartmentEngine); what that cannot do
// is refused with kUnimplemented. Thread-safe, but for the destructor; Policy::host_threads may be
// in one at once. Not for children of fork.
#ifndef DUNEBOX_SANDBOX_COMPARTMENT_H_
#define DUNEBOX_SANDBOX_COMPARTMENT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dunebox/failure.h"
#include "dunebox/function.h"
#include "dunebox/grants.h"
#include "dunebox/memory.h"
#include "dunebox/policy.h"
#include "dunebox/sandbox.h"
#include "dunebox/tainted.h"

namespace dunebox {

// Something that a compartment was not granted.
struct AccessFault {
  enum class Kind : std::uint8_t {
    kMemory,  // ended the call, unless the code handles SIGSEGV; by a system call: that failed with
              // EFAULT
    kCall,    // failed with EPERM, unless Policy::on_denied ends the compartment
    kGate,    // ended the call
  };
  enum class Access : std::uint8_t { kRead, kWrite, kExecute };
  Kind kind = Kind::kMemory;
  Access access = Access::kRead;  // kMemory
  std::string name;  // of the region, the system call, or the gate; empty: no region lies there
  std::uint64_t address = 0;       // kMemory: guest address
  std::uint64_t offset = 0;        // kMemory: in the region
  std::optional<CallGroup> group;  // kCall: that has it; nothing: it is in none
  std::uint64_t instruction = 0;   // guest address

  // "write of region 'page' at offset 0x10", "system call socket", "gate 'sign'".
  std::string ToText() const;
};

// What keeps compartments of one code apart.
enum class CompartmentEngine : std::uint8_t {
  kBest,        // kRing0 where CompartmentCode::Load is called by a thread in ring 0, with a policy for it
  // Windows of the process's addresses, code translated; not by threads in ring 0 (kFailedPrecondition).
  kTranslator,
  // Ring 3 of page tables of their own (libdune), code as it is: the threads that load, create, call, narrow and
  // recycle have to be in ring 0 (dune::Enter). kUnavailable: they cannot be. Compartments start no threads and handle
  // no signals (kUnimplemented), and one thread of the host's is in one at a time.
  kRing0,
};

struct CodeOptions {
  // Shared libraries, by absolute path, loaded in this order.
  std::vector<std::string> libraries;
  // Names of gates. Each is a variable that one of the libraries exports, a pointer to a function
  // of C.
  std::vector<std::string> gates;
  CompartmentEngine engine = CompartmentEngine::kBest;
  // Deadlines, limits, files that CallGroup::kFiles is about. Engine jit, one wall, files without a
  // broker, and by ring 0 no budgets: else kUnimplemented.
  Policy policy = {.file_access = FileAccess::kDirect};
  // Runs once, in what all compartments begin as copies of, with these grants and all groups of
  // calls, which are taken away afterwards. What is random then is the same in all of them. No gate
  // may be used.
  Grants grants;
  std::function<absl::Status(Compartment&)> initialize;
};

// What compartments run: libraries loaded and initialised once.
class CompartmentCode {
 public:
  // kNotFound: a library or a gate's variable; kUnimplemented: see CodeOptions::policy; what
  // `initialize` says.
  static absl::StatusOr<std::shared_ptr<CompartmentCode>> Load(CodeOptions options);
  ~CompartmentCode();
  CompartmentCode(const CompartmentCode&) = delete;
  CompartmentCode& operator=(const CompartmentCode&) = delete;

  // Where all compartments have a name of the libraries'. kNotFound: nowhere.
  absl::StatusOr<std::uint64_t> AddressOf(const std::string& name) const;

 private:
  friend class Compartment;
  struct State;
  explicit CompartmentCode(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

class Compartment {
 public:
  enum class Mode : std::uint8_t {
    kEnforce,
    // Begins with nothing of what the grants offer, gets each thing when it is first used, and
    // notes it: Learned(). What is not offered is refused as ever. Descriptors are there from the
    // start; learnt is what was read from and written to.
    kLearn,
  };

  // kInvalidArgument: a gate that the code does not have. kResourceExhausted: no memory, mappings
  // or descriptors.
  static absl::StatusOr<std::shared_ptr<Compartment>> Create(std::shared_ptr<CompartmentCode> code,
                                                             Grants grants,
                                                             Mode mode = Mode::kEnforce);
  // No call is under way.
  ~Compartment();
  Compartment(const Compartment&) = delete;
  Compartment& operator=(const Compartment&) = delete;

  // Another one of the same code, in its first state, with no more than this has now. What this
  // loses later the child keeps. kPermissionDenied: names what is more.
  absl::StatusOr<std::shared_ptr<Compartment>> CreateChild(Grants grants) const;
  // From now on no more than these, which are a part of what it has; also for calls under way,
  // except a system call that has begun. kPermissionDenied: they are more, and nothing has changed.
  // kFailedPrecondition: in kLearn.
  absl::Status Narrow(const Grants& grants);
  // As it was created, also after a failure: its memory, its copies of regions, its descriptor
  // table, its threads. What it was granted is as it is now; what is in regions to be written
  // stays. kFailedPrecondition: a call is under way.
  absl::Status Recycle();
  // The same for another request: with these descriptors in place of those it had.
  // kPermissionDenied: it is a child, and they are not its.
  absl::Status RecycleFor(std::vector<Descriptor> descriptors);

  // What it may use now; in kLearn what is offered.
  Grants grants() const;
  // kLearn: the part of that it has used, with the least access that would have done. Else nothing.
  Grants Learned() const;
  // What it was refused since it was created or recycled, the first hundred.
  std::vector<AccessFault> faults() const;

  // ---- as of a Sandbox

  template <typename Signature>
  absl::StatusOr<dunebox::Function<Signature>> Function(const std::string& name) {
    const absl::StatusOr<std::uint64_t> address = AddressOf(name);
    if (!address.ok()) return address.status();
    return dunebox::Function<Signature>(internal::Target(sandbox(), *address));
  }
  template <typename T>
  absl::StatusOr<Memory<T>> Allocate(std::size_t count) {
    return sandbox().Allocate<T>(count);
  }
  absl::StatusOr<Memory<char>> MakeString(std::string_view text) {
    return sandbox().MakeString(text);
  }
  template <typename T>
  absl::StatusOr<std::vector<std::remove_const_t<T>>> CopyIn(TaintedPtr<T> from,
                                                             std::size_t count) const {
    return sandbox().CopyIn(from, count);
  }
  template <typename T>
  absl::Status CopyOut(TaintedPtr<T> to, std::span<const T> from) {
    return sandbox().CopyOut(to, from);
  }
  absl::StatusOr<std::string> CopyString(TaintedPtr<const char> from, std::size_t most) const {
    return sandbox().CopyString(from, most);
  }
  std::optional<Failure> failure() const { return sandbox().failure(); }
  std::string TakeOutput() { return sandbox().TakeOutput(); }
  // How it is kept: "jit", "seg"; or "ring 0", "page table".
  std::string engine() const { return sandbox().engine(); }
  std::string isolation() const { return sandbox().isolation(); }

 private:
  friend class CompartmentCode;
  friend class Gate;
  struct State;
  explicit Compartment(std::unique_ptr<State> state);
  Sandbox& sandbox() const;
  absl::StatusOr<std::uint64_t> AddressOf(const std::string& name) const;

  const std::unique_ptr<State> state_;
};

}  // namespace dunebox

#endif  // DUNEBOX_SANDBOX_COMPARTMENT_H_
