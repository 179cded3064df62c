// What a compartment may be given, as values: named regions of memory, descriptors, groups of
// system calls, and gates to code with other rights. A compartment has what its Grants name and
// nothing else; there is no way to say "all".
//
//   absl::StatusOr<std::shared_ptr<Region>> key = Region::Create("key", 4096);
//   Grants grants;
//   grants.Add(*key, RegionAccess::kRead).Add(CallGroup::kTime).Add(sign);
//
// Regions, descriptors and gates are handles: a copy is the same one, and only the same one is
// granted. Reading them is thread-safe; a Grants value belongs to one thread at a time.
#ifndef DUNEBOX_SANDBOX_GRANTS_H_
#define DUNEBOX_SANDBOX_GRANTS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dunebox/call.h"
#include "dunebox/function.h"
#include "dunebox/tainted.h"

namespace dunebox {

class Compartment;

// Each has the rights of those before it.
enum class RegionAccess : std::uint8_t {
  kRead,
  kCopyOnWrite,  // writes go into pages of the compartment's own, which a recycle takes away
  kReadWrite,
};
const char* ToString(RegionAccess access);

// Memory with a name, of whole pages, zeroed. The host has all of it; a compartment that is granted
// it has it at the same guest address as any other, so pointers into a region can be passed on, and
// stored in it. Between two regions lies a page that nobody has.
class Region {
 public:
  // kInvalidArgument: no printable name or no size. kResourceExhausted: all regions of a process
  // have 239 MiB.
  static absl::StatusOr<std::shared_ptr<Region>> Create(std::string name, std::size_t bytes);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  const std::string& name() const;
  // Who else has it may change it at any time.
  std::span<std::byte> span() const;
  std::uint64_t address() const;  // the guests'
  template <typename T>
  TaintedPtr<T> guest() const {
    return TaintedPtr<T>(address());
  }
  // The file that is mapped. Its size cannot change.
  int file() const;

 private:
  struct State;
  explicit Region(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

enum class DescriptorAccess : std::uint8_t { kRead = 1, kWrite = 2, kReadWrite = 3 };

// An open file, pipe or socket that a compartment may read or write under a number of its own; it
// can neither be mapped, positioned, nor sent. One that does not block gives EAGAIN: there is no
// poll.
class Descriptor {
 public:
  // A duplicate of the host's, so that that may be closed. 0 to 2 as `number` replace the
  // compartment's own streams. kInvalidArgument: `fd` is not open, or `number` is not from 0 to
  // 255.
  static absl::StatusOr<Descriptor> Of(int fd, int number, DescriptorAccess access);

  int fd() const;
  int number() const { return number_; }
  DescriptorAccess access() const { return access_; }
  // The same with less. kPermissionDenied: it is more.
  absl::StatusOr<Descriptor> With(DescriptorAccess access) const;
  bool IsSame(const Descriptor& other) const { return file_ == other.file_; }

 private:
  struct File;
  Descriptor(std::shared_ptr<const File> file, int number, DescriptorAccess access)
      : file_(std::move(file)), number_(number), access_(access) {}
  std::shared_ptr<const File> file_;
  int number_;
  DescriptorAccess access_;
};

// System calls beside those that every compartment has: its own memory, futexes, reading and
// writing descriptors that it has, its own identity, ending itself.
enum class CallGroup : std::uint8_t {
  kFiles,    // opening and looking at files by name, within Policy::readable and Policy::libraries
  kThreads,  // starting threads
  kSignals,  // handlers, and signals to itself
  kTime,     // clocks and sleeping
  kRandom,   // getrandom
  kSystem,   // what machine, user and limits it has
};
inline constexpr CallGroup kAllCallGroups[] = {CallGroup::kFiles,   CallGroup::kThreads,
                                               CallGroup::kSignals, CallGroup::kTime,
                                               CallGroup::kRandom,  CallGroup::kSystem};
const char* ToString(CallGroup group);

// A way out of a compartment to one function, with an argument that the compartment can neither see
// nor change: the creator gives it, and it stays outside of the compartment's memory. The
// compartment calls it as a C function, by a variable of the gate's name in its code
// (CompartmentCode).
class Gate {
 public:
  // To `callable(const Trusted&, Compartment& caller, arguments...)` in the host, with the host's
  // rights. Arguments are the compartment's: Tainted<T> and TaintedPtr<T>, as of Sandbox::Export.
  // Called by several threads at once where a compartment has several.
  template <typename Signature, typename Trusted, typename Callable>
  static Gate ToHost(std::string name, Trusted trusted, Callable callable) {
    auto kept = std::make_shared<const Trusted>(std::move(trusted));
    return Gate(std::move(name), [kept, callable](Compartment& caller) {
      return internal::CallbackOf<Signature>::Make([kept, callable, &caller](auto... arguments) {
        return callable(*kept, caller, arguments...);
      });
    });
  }
  // Into a function of another compartment, which gets `trusted` and then the first five of the
  // caller's arguments as they are, integers and pointers. It has its own rights: of a pointer of
  // the caller's it sees what both were granted. A caller gets `on_failure` when the other has
  // failed. Two compartments with gates into each other are never freed. kNotFound: there is no
  // such function.
  static absl::StatusOr<Gate> Into(std::string name, std::shared_ptr<Compartment> callee,
                                   const std::string& function, std::uint64_t trusted,
                                   std::uint64_t on_failure);

  const std::string& name() const { return body_->name; }
  bool IsSame(const Gate& other) const { return body_ == other.body_; }
  // For the compartment that is granted it.
  internal::Callback CallbackFor(Compartment& caller) const { return body_->make(caller); }

 private:
  using Make = std::function<internal::Callback(Compartment&)>;
  struct Body {
    std::string name;
    Make make;
  };
  Gate(std::string name, Make make)
      : body_(std::make_shared<const Body>(Body{std::move(name), std::move(make)})) {}
  std::shared_ptr<const Body> body_;
};

class Grants {
 public:
  struct RegionGrant {
    std::shared_ptr<Region> region;
    RegionAccess access;
  };

  // In place of what was said of the same region, number, or gate's name.
  Grants& Add(std::shared_ptr<Region> region, RegionAccess access);
  Grants& Add(Descriptor descriptor);
  Grants& Add(Gate gate);
  Grants& Add(CallGroup group);

  const std::vector<RegionGrant>& regions() const { return regions_; }
  const std::vector<Descriptor>& descriptors() const { return descriptors_; }
  const std::vector<Gate>& gates() const { return gates_; }
  bool Has(CallGroup group) const;
  // Null: not granted.
  const RegionGrant* Find(const Region& region) const;
  const Gate* FindGate(std::string_view name) const;
  // The same with these descriptors instead.
  Grants WithDescriptors(std::vector<Descriptor> descriptors) const;

  // What is in this and not in `wider`, as lines of text; nothing: this is no more.
  std::vector<std::string> Exceeding(const Grants& wider) const;
  // A line each: "region key: read", "descriptor 3: read, write", "calls time", "gate sign".
  std::vector<std::string> Lines() const;

 private:
  std::vector<RegionGrant> regions_;
  std::vector<Descriptor> descriptors_;
  std::vector<Gate> gates_;
  std::uint32_t calls_ = 0;  // a bit a CallGroup
};

}  // namespace dunebox

#endif  // DUNEBOX_SANDBOX_GRANTS_H_
