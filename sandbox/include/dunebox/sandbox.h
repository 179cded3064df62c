// Untrusted native code, called like a function: loads unmodified x86-64 shared libraries of Linux, or a static program, into a
// window of this process, or of a confined one (Demand::kTwoWalls), and calls what is in them. The plugin has its own C library and memory there; it
// cannot reach the host's memory, and its system calls go through a kernel of its own (docs/plugins.md says
// what holds and what does not).
//
//   absl::StatusOr<std::unique_ptr<Sandbox>> sandbox = Sandbox::Create({.deadline = absl::Seconds(1)});
//   absl::Status loaded = (*sandbox)->Load("/usr/lib/x86_64-linux-gnu/libz.so.1");
//   auto crc32 = (*sandbox)->Function<unsigned long(unsigned long, const unsigned char*, unsigned)>("crc32");
//   absl::StatusOr<Memory<unsigned char>> text = (*sandbox)->Allocate<unsigned char>(5);
//   absl::StatusOr<Tainted<unsigned long>> sum = (*crc32)(0ul, *text, 5u);
//
// Everything that fails fails as a value; nothing that a plugin does ends the host. Thread-safe: each host
// thread in a call has a guest thread of its own, of which there are Policy::host_threads. A sandbox that has
// failed (failure.h) stays so until Reset.
//
// Needs a host thread that the process's own signal handling leaves alone while it is in a call: no longjmp
// out of handlers or callbacks over a call, no asynchronous cancellation. Not for children of fork: there
// every call is refused.
#ifndef DUNEBOX_SANDBOX_SANDBOX_H_
#define DUNEBOX_SANDBOX_SANDBOX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dunebox/failure.h"
#include "dunebox/function.h"
#include "dunebox/memory.h"
#include "dunebox/policy.h"
#include "dunebox/tainted.h"

namespace dunebox {

namespace internal {
class Untyped;  // of the C API
class InProcess;
}

class Sandbox {
 public:
  // kUnimplemented: the policy demands what cannot be had yet. kUnavailable: this machine or process cannot
  // have sandboxes. kFailedPrecondition: Policy::late_handlers.
  static absl::StatusOr<std::unique_ptr<Sandbox>> Create(Policy policy);
  // No call is under way.
  ~Sandbox();
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;

  // Loads a shared library and what it needs, and runs its constructors. An absolute path. The plugin's C library starts
  // with the first, or before, when something is looked up or a snapshot taken; kUnavailable: it could not, or there is
  // no broker for its files to be had (FileAccess::kBroker). Or a static program, which is not stripped: it has the
  // sandbox to itself, starts as far as its main, and is called by the names in its symbol table (docs/plugins.md, Static
  // programs). kFailedPrecondition: it cannot be loaded, or not here, and nothing has changed. When it does not come to
  // its main, the sandbox has failed.
  absl::Status Load(const std::string& path);
  // A function of the libraries that were loaded, the last one first, or of the C library.
  template <typename Signature>
  absl::StatusOr<dunebox::Function<Signature>> Function(const std::string& name) {
    internal::Target target(*this, name);
    if (absl::Status status = target.Find(); !status.ok()) return status;
    return dunebox::Function<Signature>(std::move(target));
  }
  // One that the plugin has given a pointer to.
  template <typename Signature>
  dunebox::Function<Signature> FunctionAt(TaintedPtr<Signature> pointer) {
    return dunebox::Function<Signature>(internal::Target(*this, pointer.address()));
  }

  // Makes `callable` a C function for the plugin. It gets Tainted<T> and TaintedPtr<T>, and returns the plain
  // type (TaintedPtr<T> for pointers). It may call into the sandbox. An exception that leaves it, or the end of its
  // thread in it, is std::terminate. The plugin can call it at any time as long as the sandbox lives, from threads of
  // its own, too. At most 512; they survive a reset.
  template <typename Signature, typename Callable>
  absl::StatusOr<FunctionPointer<Signature>> Export(Callable callable) {
    absl::StatusOr<std::uint64_t> address =
        AddCallback(internal::CallbackOf<Signature>::Make(std::move(callable)));
    if (!address.ok()) return address.status();
    return FunctionPointer<Signature>(*address);
  }

  // Zeroed. kResourceExhausted: no room.
  template <typename T>
  absl::StatusOr<Memory<T>> Allocate(std::size_t count) {
    if (count > SIZE_MAX / sizeof(T)) return absl::ResourceExhaustedError("more than there is");
    absl::StatusOr<internal::Block> block = AllocateBytes(count * sizeof(T));
    if (!block.ok()) return block.status();
    return Memory<T>(*std::move(block), count);
  }
  // The text with a NUL behind it.
  absl::StatusOr<Memory<char>> MakeString(std::string_view text);

  // Copies of what the plugin points to; kOutOfRange where that is not its memory.
  template <typename T>
  absl::StatusOr<std::vector<std::remove_const_t<T>>> CopyIn(TaintedPtr<T> from,
                                                             std::size_t count) const {
    static_assert(std::is_trivially_copyable_v<T>);
    constexpr std::size_t kMost = std::size_t{1} << 32;
    if (count > kMost / sizeof(T)) return absl::OutOfRangeError("larger than the sandbox");
    std::vector<std::remove_const_t<T>> values(count);
    absl::Status status =
        CopyBytesIn(from.address(), std::as_writable_bytes(std::span(values)));
    if (!status.ok()) return status;
    return values;
  }
  template <typename T>
  absl::StatusOr<Tainted<std::remove_const_t<T>>> CopyIn(TaintedPtr<T> from) const {
    std::remove_const_t<T> value;
    absl::Status status =
        CopyBytesIn(from.address(), std::as_writable_bytes(std::span(&value, 1)));
    if (!status.ok()) return status;
    return Tainted<std::remove_const_t<T>>(value);
  }
  template <typename T>
  absl::Status CopyOut(TaintedPtr<T> to, std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    return CopyBytesOut(to.address(), std::as_bytes(values));
  }
  // Up to its NUL; kOutOfRange if that is not among the first `most` + 1 bytes.
  absl::StatusOr<std::string> CopyString(TaintedPtr<const char> from, std::size_t most) const;

  // Keeps the sandbox as it is now, between calls, in place of an older snapshot: for Reset and Clone.
  // kFailedPrecondition: a call is under way, or a reset; the sandbox has failed, or threads run that the plugin has
  // started. It takes some milliseconds.
  absl::Status Snapshot();
  bool has_snapshot() const;

  // With a snapshot: everything is as it was then, in microseconds: memory, descriptors, dispositions, signal
  // masks, registers; what the plugin has started since ends. Memory keeps its place: what was allocated
  // before has its old contents, what was allocated after has any. Functions and callbacks go on, callbacks
  // from after the snapshot too. Output and denials are forgotten. Behind two walls the process stays the same,
  // unless it is gone.
  //
  // Without one it starts over: a new guest, the same libraries, functions and callbacks. Functions go on,
  // under whatever address they have now; pointers that the plugin gave, and memory, are those of the old
  // guest.
  //
  // Callbacks of the libraries' constructors find the new guest. No call is under way: kFailedPrecondition in a callback,
  // and during another Reset or Snapshot. Whatever is no call may be done meanwhile, by any thread.
  absl::Status Reset();

  // A new sandbox that begins as this one was when its snapshot was taken, at the same guest addresses, and has
  // that snapshot, too. Both share memory until one of them writes to it, and translated code; behind two walls
  // it is a process of its own, without such code, and under kvm a machine of its own. It has the
  // callbacks that there were, which may then be called for both at once. Any thread, at any time.
  // kFailedPrecondition: there is no snapshot.
  absl::StatusOr<std::unique_ptr<Sandbox>> Clone() const;

  // The snapshot as a file, for Open in this or another process, at once or not at all. Callbacks are not in it.
  // kFailedPrecondition: there is no snapshot.
  absl::Status Save(const std::string& path) const;
  // A sandbox that begins as the one was that was saved, and has that snapshot. The file is trusted as a plugin
  // is: what is in it has no more rights than the policy gives. Callbacks are to be exported again, in the same
  // order; until then the plugin's calls of them end the sandbox. kInvalidArgument: no such file, or damaged.
  // kFailedPrecondition: saved on a processor that can do more, or under another
  // engine, or it had files open that are not to be had. The demand may be another one.
  static absl::StatusOr<std::unique_ptr<Sandbox>> Open(const std::string& path, Policy policy);

  // In a clone: its own copy of memory that was allocated in the sandbox that the snapshot was taken of, before
  // that. Each once, and before Reset or after it. kNotFound: there is no such memory, or it was asked for.
  template <typename T>
  absl::StatusOr<Memory<T>> CounterpartOf(const Memory<T>& original) {
    absl::StatusOr<internal::Block> block =
        ClaimBlock(original.guest().address(), original.size() * sizeof(T));
    if (!block.ok()) return block.status();
    return Memory<T>(*std::move(block), original.size());
  }
  // A function of another sandbox's here. It is not looked up again where both have the same snapshot; otherwise
  // by its name, when it is called.
  template <typename Signature>
  dunebox::Function<Signature> CounterpartOf(const dunebox::Function<Signature>& original) {
    return dunebox::Function<Signature>(internal::Target(*this, original.target()));
  }

  // Why calls fail; nothing while they do not.
  std::optional<Failure> failure() const;
  // What the plugin has written to its stdout and stderr since the last time.
  std::string TakeOutput();
  // What it asked for and was not permitted, each once: "call socket", "read /etc/passwd".
  std::vector<std::string> Denials() const;
  std::string engine() const;  // "jit", "kvm"
  // The first wall: "seg", "virtual machine (hardware)", "virtual machine (emulated)".
  std::string isolation() const;
  // What the host's kernel keeps the plugin in besides, the second wall: "seccomp", "landlock 7", "pid
  // namespace", ... With one wall, what the broker of its files is kept in (FileAccess::kBroker), which is started where
  // there is none: "files: seccomp", ... Nothing: there is nothing of the kind, or it cannot be started.
  std::vector<std::string> confinement() const;

 private:
  friend class internal::Target;
  friend class internal::Untyped;
  friend class internal::InProcess;
  struct State;

  explicit Sandbox(std::unique_ptr<State> state);
  absl::StatusOr<std::uint64_t> AddCallback(internal::Callback callback);
  absl::StatusOr<internal::Block> AllocateBytes(std::size_t size);
  absl::StatusOr<internal::Block> ClaimBlock(std::uint64_t address, std::size_t size);
  absl::Status CopyBytesIn(std::uint64_t from, std::span<std::byte> to) const;
  absl::Status CopyBytesOut(std::uint64_t to, std::span<const std::byte> from);

  std::unique_ptr<State> state_;
};

}  // namespace dunebox

#endif  // DUNEBOX_SANDBOX_SANDBOX_H_
