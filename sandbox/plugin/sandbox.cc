#include "dunebox/sandbox.h"

#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "sandbox/plugin/current_guest.h"
#include "sandbox/plugin/descriptors.h"
#include "sandbox/plugin/guest.h"
#include "sandbox/plugin/in_process.h"
#include "sandbox/plugin/interposed.h"
#include "sandbox/plugin/original_process.h"
#include "sandbox/plugin/snapshot_file.h"
#include "sandbox/plugin/spare_guests.h"

namespace dunebox {

using internal::CallResult;
using plugin::CurrentGuest;

struct Sandbox::State {
  // Before anything that refers to it.
  const std::shared_ptr<const Policy> policy;  // the same for clones
  std::uint64_t random = 0;
  CurrentGuest guest;
  // Of the libraries there are and where they lie; a function that knows another one looks its address up again.
  std::atomic<std::uint64_t> generation{NextGeneration()};

  mutable std::mutex mutex;  // guards what follows: what the next guest gets, too
  std::vector<std::string> libraries;
  std::vector<std::shared_ptr<const internal::Callback>> callbacks;

  // What Reset goes back to and Clone begins with; null: no snapshot.
  struct Kept {
    std::shared_ptr<const plugin::InstanceSnapshot> instance;
    std::uint64_t generation;
    std::vector<std::string> libraries;
    std::shared_ptr<const Policy> policy;  // of the spare guests
    std::unique_ptr<plugin::SpareGuests> spares = std::make_unique<plugin::SpareGuests>();
  };
  std::shared_ptr<const Kept> kept;

  // Of Reset and Snapshot: one at a time. The mutex is not held while code of the plugin's runs, or its threads are
  // waited for: either may be in a callback that asks something of the sandbox.
  std::atomic<bool> is_changing{false};
  class Change;
  absl::Status ReturnTo(const Kept& to);
  absl::Status StartOver();
  // `other` takes the guest's place, with all callbacks: it has as many as `known`.
  absl::Status Replace(std::unique_ptr<plugin::Guest> other, std::size_t known);
  void TakeBack(std::size_t known);
  // With the mutex.
  absl::Status AddCallbacks(plugin::Guest& to, std::size_t known) const;

  // Clones have their original's, so no two sandboxes mean different things by one.
  static std::uint64_t NextGeneration() {
    static std::atomic<std::uint64_t> last{0};
    return last.fetch_add(1, std::memory_order_relaxed) + 1;
  }
};

class Sandbox::State::Change {
 public:
  explicit Change(State& state) : state_(state), is_first_(!state.is_changing.exchange(true)) {}
  ~Change() {
    if (is_first_) state_.is_changing = false;
  }
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;
  absl::Status status() const {
    if (is_first_) return absl::OkStatus();
    return absl::FailedPreconditionError("the sandbox is being reset, or its snapshot is being taken");
  }

 private:
  State& state_;
  const bool is_first_;
};

namespace {

absl::Status CheckDemands(const Policy& policy) {
  constexpr std::uint64_t kLeastStack = 64 << 10, kMostStack = 256 << 20;
  if (policy.stack < kLeastStack || policy.stack > kMostStack) {
    return absl::InvalidArgumentError("the stack of a sandbox has 64 KiB to 256 MiB");
  }
  constexpr unsigned kMostThreads = 256;
  if (policy.host_threads == 0 || policy.host_threads > kMostThreads) {
    return absl::InvalidArgumentError("a sandbox is for 1 to 256 host threads");
  }
  constexpr unsigned kLeastFiles = 3;  // stdin, stdout, stderr
  // Each level is some frames of the host thread's stack, and its callbacks'.
  constexpr unsigned kMostNesting = 1024;
  if (policy.nesting > kMostNesting) {
    return absl::InvalidArgumentError("calls and callbacks nest to a depth of 1,024 at most");
  }
  if (policy.open_files < kLeastFiles || policy.open_files > unsigned{plugin::Descriptors::kMost}) {
    return absl::InvalidArgumentError("a sandbox has 3 to 256 open files");
  }
  if (policy.memory_limit == 0) return absl::InvalidArgumentError("a sandbox needs some memory");
  if (policy.deadline <= absl::ZeroDuration() || policy.load_deadline <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("a deadline has to be in the future");
  }
  if (policy.cpu_budget <= absl::ZeroDuration() || policy.idle_cpu_budget <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("a budget of processor time has to be some");
  }
  if (policy.engine == Engine::kJit && policy.least_isolation > LeastIsolation::kTranslation) {
    return absl::InvalidArgumentError(
        "engine jit keeps a plugin by translation, and not by a virtual machine (least_isolation)");
  }
  const bool must_guard = policy.demand == Demand::kOneWall && policy.late_handlers == LateHandlers::kGuarded;
  if (must_guard && !plugin::IsSigactionOurs()) {
    return absl::FailedPreconditionError(
        "signal handlers that this process sets later would not be guarded: the library was opened by dlopen; preload "
        "it, or promise that there will be none (late_handlers = none)");
  }
  return absl::OkStatus();
}

// Everything else asks for the engine.
void ChooseEngine(Policy& policy) {
  if (policy.engine != Engine::kAuto) return;
  policy.engine = policy.least_isolation > LeastIsolation::kTranslation ? Engine::kKvm : Engine::kJit;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Sandbox>> Sandbox::Create(Policy policy) {
  if (absl::Status status = CheckDemands(policy); !status.ok()) return status;
  ChooseEngine(policy);
  std::uint64_t random = 0;
  if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
    return absl::UnavailableError("getrandom failed");
  }
  std::unique_ptr<State> state(new State{
      .policy = std::make_shared<const Policy>(std::move(policy)), .random = random});
  absl::StatusOr<std::unique_ptr<plugin::Guest>> guest = plugin::MakeGuest(*state->policy, random);
  if (!guest.ok()) return guest.status();
  state->guest.Begin(*std::move(guest));
  return std::unique_ptr<Sandbox>(new Sandbox(std::move(state)));
}

Sandbox::Sandbox(std::unique_ptr<State> state) : state_(std::move(state)) {}
Sandbox::~Sandbox() {
  // A forked child has none of the threads that its end would wait for: it leaves everything as it is.
  if (!plugin::IsOriginalProcess()) {
    (void)state_.release();
    return;
  }
  const std::shared_ptr<const State::Kept>& kept = state_->kept;
  if (kept != nullptr && kept->spares->has_room() && state_->guest.get()->BeginAgain(*kept->instance)) {
    kept->spares->Put(state_->guest.Take());
  }
}

absl::Status Sandbox::Load(const std::string& path) {
  if (path.empty() || path.front() != '/') {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not an absolute path"));
  }
  if (path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("a path has no NUL in it");
  }
  {
    const CurrentGuest::Use guest(state_->guest);
    if (absl::Status status = guest->Load(path); !status.ok()) return status;
  }
  const std::lock_guard lock(state_->mutex);
  // Clones of an older snapshot do not have it. What is loaded first may be a program, whose C library is another.
  if (state_->kept != nullptr || state_->libraries.empty()) {
    state_->generation = State::NextGeneration();
  }
  state_->libraries.push_back(path);
  return absl::OkStatus();
}

absl::Status Sandbox::Snapshot() {
  const State::Change change(*state_);
  if (!change.status().ok()) return change.status();
  absl::StatusOr<std::shared_ptr<const plugin::InstanceSnapshot>> taken = state_->guest.get()->Snapshot();
  if (!taken.ok()) return taken.status();
  const std::lock_guard lock(state_->mutex);
  state_->kept = std::make_shared<const State::Kept>(State::Kept{
      .instance = *std::move(taken),
      .generation = state_->generation,
      .libraries = state_->libraries,
      .policy = state_->policy});
  return absl::OkStatus();
}

bool Sandbox::has_snapshot() const {
  const std::lock_guard lock(state_->mutex);
  return state_->kept != nullptr;
}

absl::StatusOr<std::unique_ptr<Sandbox>> Sandbox::Clone() const {
  std::shared_ptr<const State::Kept> kept;
  {
    const std::lock_guard lock(state_->mutex);
    kept = state_->kept;
  }
  if (kept == nullptr) return absl::FailedPreconditionError("there is no snapshot to make a clone of");
  std::unique_ptr<State> state(new State{.policy = state_->policy,
                                         .random = state_->random,
                                         .generation = kept->generation,
                                         .libraries = kept->libraries,
                                         .callbacks = kept->instance->callbacks,
                                         .kept = kept});
  if (absl::Status status = plugin::CheckOriginalProcess(); !status.ok()) return status;
  std::unique_ptr<plugin::Guest> guest = kept->spares->Take();
  if (guest == nullptr) {
    absl::StatusOr<std::unique_ptr<plugin::Guest>> made = plugin::CloneGuest(*state->policy, *kept->instance);
    if (!made.ok()) return made.status();
    guest = *std::move(made);
  }
  state->guest.Begin(std::move(guest));
  return std::unique_ptr<Sandbox>(new Sandbox(std::move(state)));
}

absl::Status Sandbox::Save(const std::string& path) const {
  std::shared_ptr<const State::Kept> kept;
  {
    const std::lock_guard lock(state_->mutex);
    kept = state_->kept;
  }
  if (kept == nullptr) return absl::FailedPreconditionError("there is no snapshot to save");
  return plugin::SaveSnapshot(*kept->instance, path);
}

absl::StatusOr<std::unique_ptr<Sandbox>> Sandbox::Open(const std::string& path, Policy policy) {
  if (absl::Status status = CheckDemands(policy); !status.ok()) return status;
  ChooseEngine(policy);
  std::unique_ptr<State> state(new State{.policy = std::make_shared<const Policy>(std::move(policy))});
  absl::StatusOr<plugin::OpenedGuest> opened = plugin::OpenGuest(*state->policy, path);
  if (!opened.ok()) return opened.status();
  state->random = opened->snapshot->random;
  state->guest.Begin(std::move(opened->guest));
  state->kept = std::make_shared<const State::Kept>(State::Kept{
      .instance = std::move(opened->snapshot),
      .generation = state->generation,
      .libraries = {},
      .policy = state->policy});
  return std::unique_ptr<Sandbox>(new Sandbox(std::move(state)));
}

absl::StatusOr<internal::Block> Sandbox::ClaimBlock(std::uint64_t address, std::size_t size) {
  return CurrentGuest::Use(state_->guest)->Claim(address, size);
}

absl::Status Sandbox::State::AddCallbacks(plugin::Guest& to, std::size_t known) const {
  for (std::size_t i = known; i < callbacks.size(); ++i) {
    if (absl::StatusOr<std::uint64_t> added = to.AddCallback(callbacks[i]); !added.ok()) return added.status();
  }
  return absl::OkStatus();
}

absl::Status Sandbox::State::Replace(std::unique_ptr<plugin::Guest> other, std::size_t known) {
  const std::lock_guard lock(mutex);
  if (absl::Status added = AddCallbacks(*other, known); !added.ok()) return added;
  guest.Replace(std::move(other));
  generation = NextGeneration();
  return absl::OkStatus();
}

// One that has ended may take no callbacks any more; it makes no calls either.
void Sandbox::State::TakeBack(std::size_t known) {
  const std::lock_guard lock(mutex);
  guest.TakeBack();
  (void)AddCallbacks(*guest.get(), known);
  generation = NextGeneration();
}

absl::Status Sandbox::State::ReturnTo(const Kept& to) {
  absl::Status status = guest.get()->ReturnTo(*to.instance);
  if (absl::IsAborted(status)) {
    absl::StatusOr<std::unique_ptr<plugin::Guest>> fresh = plugin::ReplaceGuest(*guest.get(), *to.instance);
    if (!fresh.ok()) return fresh.status();
    status = Replace(*std::move(fresh), to.instance->callbacks.size());
    guest.DropOther();
  }
  if (!status.ok()) return status;
  const std::lock_guard lock(mutex);
  libraries = to.libraries;
  generation = to.generation;
  return absl::OkStatus();
}

// The new guest takes its place before anything is loaded, so that callbacks of constructors find it.
absl::Status Sandbox::State::StartOver() {
  absl::StatusOr<std::unique_ptr<plugin::Guest>> fresh = plugin::MakeGuest(*policy, random);
  if (!fresh.ok()) return fresh.status();
  std::vector<std::string> paths;
  std::size_t known = 0;
  {
    const std::lock_guard lock(mutex);
    paths = libraries;
    known = callbacks.size();  // of the one that there is
  }
  if (absl::Status replaced = Replace(*std::move(fresh), 0); !replaced.ok()) return replaced;
  absl::Status status = absl::OkStatus();
  for (const std::string& path : paths) {
    status = guest.get()->Load(path);
    if (!status.ok()) break;
  }
  if (status.ok()) {
    generation = NextGeneration();
  } else {
    TakeBack(known);
  }
  guest.DropOther();
  return status;
}

absl::Status Sandbox::Reset() {
  if (CurrentGuest::Use(state_->guest)->IsCalledByThisThread()) {
    return absl::FailedPreconditionError("a call is under way");
  }
  const State::Change change(*state_);
  if (!change.status().ok()) return change.status();
  std::shared_ptr<const State::Kept> kept;
  {
    const std::lock_guard lock(state_->mutex);
    kept = state_->kept;
  }
  return kept != nullptr ? state_->ReturnTo(*kept) : state_->StartOver();
}

absl::StatusOr<std::uint64_t> Sandbox::AddCallback(internal::Callback callback) {
  auto shared = std::make_shared<const internal::Callback>(std::move(callback));
  const std::lock_guard lock(state_->mutex);
  absl::StatusOr<std::uint64_t> address = CurrentGuest::Use(state_->guest)->AddCallback(shared);
  if (address.ok()) state_->callbacks.push_back(std::move(shared));
  return address;
}

absl::StatusOr<internal::Block> Sandbox::AllocateBytes(std::size_t size) {
  return CurrentGuest::Use(state_->guest)->Allocate(size);
}

absl::StatusOr<Memory<char>> Sandbox::MakeString(std::string_view text) {
  absl::StatusOr<Memory<char>> memory = Allocate<char>(text.size() + 1);
  if (memory.ok()) std::ranges::copy(text, memory->span().data());
  return memory;
}

absl::Status Sandbox::CopyBytesIn(std::uint64_t from, std::span<std::byte> to) const {
  if (CurrentGuest::Use(state_->guest)->Read(from, to)) return absl::OkStatus();
  return absl::OutOfRangeError("the plugin points to what is not its memory");
}

absl::Status Sandbox::CopyBytesOut(std::uint64_t to, std::span<const std::byte> from) {
  if (CurrentGuest::Use(state_->guest)->Write(to, from)) return absl::OkStatus();
  return absl::OutOfRangeError("the plugin points to what it cannot write");
}

absl::StatusOr<std::string> Sandbox::CopyString(TaintedPtr<const char> from,
                                                std::size_t most) const {
  return CurrentGuest::Use(state_->guest)->ReadString(from.address(), most);
}

std::optional<Failure> Sandbox::failure() const { return CurrentGuest::Use(state_->guest)->failure(); }
std::string Sandbox::TakeOutput() { return CurrentGuest::Use(state_->guest)->TakeOutput(); }
std::vector<std::string> Sandbox::Denials() const { return CurrentGuest::Use(state_->guest)->Denials(); }
std::string Sandbox::engine() const { return CurrentGuest::Use(state_->guest)->engine(); }
std::string Sandbox::isolation() const { return CurrentGuest::Use(state_->guest)->isolation(); }
std::vector<std::string> Sandbox::confinement() const { return CurrentGuest::Use(state_->guest)->confinement(); }

namespace internal {

plugin::Instance* InProcess::InstanceOf(Sandbox& sandbox) {
  const Policy& policy = *sandbox.state_->policy;
  if (policy.demand == Demand::kTwoWalls) return nullptr;
  return static_cast<plugin::Instance*>(sandbox.state_->guest.get());
}

std::shared_ptr<const plugin::InstanceSnapshot> InProcess::SnapshotOf(const Sandbox& sandbox) {
  const std::lock_guard lock(sandbox.state_->mutex);
  return sandbox.state_->kept == nullptr ? nullptr : sandbox.state_->kept->instance;
}

std::unique_ptr<Sandbox> InProcess::Around(std::unique_ptr<plugin::Guest> guest) {
  std::unique_ptr<Sandbox::State> state(new Sandbox::State{.policy = {}});
  state->guest.Begin(std::move(guest));
  return std::unique_ptr<Sandbox>(new Sandbox(std::move(state)));
}

absl::Status Target::Find() {
  Sandbox::State& state = *sandbox_.state_;
  const std::uint64_t generation = state.generation.load();  // of that guest, or of one before
  const CurrentGuest::Use guest(state.guest);
  return FindIn(*guest, generation);
}

absl::Status Target::FindIn(plugin::Guest& guest, std::uint64_t generation) {
  if (generation_ == generation || name_.empty()) return absl::OkStatus();
  if (name_.find('\0') != std::string::npos) return absl::NotFoundError("no name has a NUL in it");
  const absl::StatusOr<std::uint64_t> address = guest.FindSymbol(name_);
  if (!address.ok()) return address.status();
  address_ = *address;
  generation_ = generation;
  return absl::OkStatus();
}

absl::StatusOr<CallResult> Target::FindAndCall(const CallFrame& frame) {
  Sandbox::State& state = *sandbox_.state_;
  const std::uint64_t generation = state.generation.load();
  const CurrentGuest::Use guest(state.guest);
  if (absl::Status status = FindIn(*guest, generation); !status.ok()) return status;
  return guest->Call(address_, frame);
}

// No reset comes between, unless a thread of the plugin's calls that has called back: what it calls then is its own
// guest, which waits for it, or was found by what is looked at in this order to be that of a reset.
absl::StatusOr<CallResult> Target::Call(const CallFrame& frame) {
  const Sandbox::State& state = *sandbox_.state_;
  plugin::Guest* const guest = state.guest.get();
  if (state.is_changing.load() || generation_ != state.generation.load()) return FindAndCall(frame);
  return guest->Call(address_, frame);
}

absl::StatusOr<CallResult> Target::CallInto(CallFrame& frame, void* result, std::size_t size) {
  if (absl::Status status = Find(); !status.ok()) return status;
  const absl::StatusOr<Block> block = sandbox_.AllocateBytes(size);
  if (!block.ok()) return block.status();
  frame.integers[0] = block->address();
  absl::StatusOr<CallResult> called = Call(frame);
  if (called.ok()) std::memcpy(result, block->host(), size);
  return called;
}

}  // namespace internal
}  // namespace dunebox
