// A program that begins in the window: the plugin host's own, or, in its place, a static one that the host
// application has loaded. Either runs until it parks; guest threads for the host's calls are made by its C library.
#include <cpuid.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>

#include <array>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "hostcalls/services/separate_descriptors.h"
#include "runtime/memory/range_set.h"
#include "sandbox/plugin/guest_names.h"
#include "sandbox/plugin/guest_program.h"
#include "sandbox/plugin/host_signals.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/instance_parts.h"
#include "sandbox/plugin/original_process.h"
#include "sandbox/plugin/program_file.h"

namespace dunebox::plugin {

using hostcalls::Errno;
using memory::RangeSet;
using memory::Vma;

namespace {

constexpr std::uint64_t kHwcap2Fsgsbase = 1 << 1;  // [linux]

// CPUID takes some microseconds in a virtual machine.
unsigned AskHardwareCapabilities() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  __cpuid(1, eax, ebx, ecx, edx);
  return edx;
}

loader::HostFacts FactsFor(const Policy& policy, const runtime::EngineThread& engine) {
  static const unsigned capabilities = AskHardwareCapabilities();
  return {.map_vdso = {},
          .hardware_capabilities = capabilities,  // AT_HWCAP [linux]
          .hardware_capabilities2 = getauxval(AT_HWCAP2) & kHwcap2Fsgsbase,
          .minimum_signal_stack = signals::MinimumSignalStack(engine.extended_state_size()),
          .stack_limit = policy.stack};
}

// Stops a thread where it is about to execute the first instruction of `main`, which is another one meanwhile: of
// one byte, as there may be no more of it, that no program can execute.
class StopAt {
 public:
  StopAt(memory::AddressSpace& space, PluginThread& thread, std::uint64_t address)
      : space_(space), thread_(thread), address_(address),
        is_set_(space.memory().Read(address, before_) && space.Poke(address, kHalt)) {
    if (is_set_) thread_.stops_at = address;
  }
  ~StopAt() {
    thread_.stops_at.reset();
    if (is_set_) (void)space_.Poke(address_, before_);
  }
  StopAt(const StopAt&) = delete;
  StopAt& operator=(const StopAt&) = delete;
  bool is_set() const { return is_set_; }

 private:
  static constexpr std::array kHalt = {std::byte{0xf4}};

  memory::AddressSpace& space_;
  PluginThread& thread_;
  const std::uint64_t address_;
  std::array<std::byte, kHalt.size()> before_{};
  const bool is_set_;
};

}  // namespace

// ---- threads ------------------------------------------------------------------------------------

// The first thread, about to execute the program's first instruction. `bias`: as loader::StartState has it.
absl::StatusOr<std::unique_ptr<PluginThread>> Instance::BeginProgram(const loader::Program& program,
                                                                     std::uint64_t& bias) {
  absl::StatusOr<std::unique_ptr<GuestCpu>> cpu = engine_->CreateCpu();
  if (!cpu.ok()) return cpu.status();
  auto thread = std::make_unique<PluginThread>(next_id_++, *std::move(cpu));
  absl::StatusOr<loader::StartState> start = absl::UnknownError("not loaded");
  hostcalls::WithSeparateDescriptors([&] {
    start = loader::Load(program, policy_.environment, space_, FactsFor(policy_, *thread->engine));
  });
  if (!start.ok()) return start.status();
  thread->registers.rip = start->entry.value;
  thread->registers.rsp = start->stack_pointer.value;
  bias = start->bias;
  return thread;
}

// Until it parks at the gate, or something else stops it.
std::optional<Instance::Ready> Instance::RunToGate(PluginThread& thread) {
  const Borrowed borrowed(*this, thread);
  thread.watch.Set(DeadlineIn(policy_.load_deadline));
  Stop stop = Ended{};
  {
    const Entered entered(thread);
    stop = RunThread(thread);
  }
  thread.watch.Set(kNoDeadline);
  const Ready* const ready = std::get_if<Ready>(&stop);
  return ready != nullptr ? std::optional(*ready) : std::nullopt;
}

// The main thread has the plugin's C library make it, and it runs here until it parks.
absl::StatusOr<std::unique_ptr<PluginThread>> Instance::MakeLentThread(PluginThread& main) {
  const absl::StatusOr<internal::Block> id = Allocate(sizeof(std::uint64_t));  // its pthread_t
  if (!id.ok()) return id.status();
  CallFrame frame;
  for (const std::uint64_t argument : {id->address(), std::uint64_t{0}, gates_.ready_gate, std::uint64_t{0}}) {
    frame.AddInteger(argument);
  }
  std::unique_ptr<PluginThread> made;
  absl::Status status = absl::ResourceExhaustedError("no more threads for a sandbox's callers");
  {
    const Borrowed borrowed(*this, main);
    main.made = &made;
    const absl::StatusOr<CallResult> result =
        CallOn(main, GetFunctions().table.make_thread, frame, DeadlineIn(policy_.load_deadline), {});
    main.made = nullptr;
    if (!result.ok()) status = result.status();
    const bool is_made = result.ok() && static_cast<int>(result->integer) == 0 && made != nullptr;
    if (is_made && RunToGate(*made)) return made;
  }
  if (made != nullptr) Dismiss(*made);
  return status;
}

// As many as the policy says, of which `main` is the first.
absl::Status Instance::LendThreads(std::unique_ptr<PluginThread> main) {
  std::vector<std::unique_ptr<PluginThread>> threads;
  threads.push_back(std::move(main));
  while (threads.size() < policy_.host_threads) {
    absl::StatusOr<std::unique_ptr<PluginThread>> made = MakeLentThread(*threads.front());
    if (!made.ok()) {
      for (const auto& thread : threads) Dismiss(*thread);
      return made.status();
    }
    threads.push_back(*std::move(made));
  }
  for (std::size_t i = 0; i < threads.size(); ++i) lent_[i].thread = std::move(threads[i]);
  return absl::OkStatus();
}

// Why the program did not come to its gate.
absl::Status Instance::NotStarted(absl::string_view what) {
  std::string text(what);
  const std::optional<Failure> why = failure();
  if (why) absl::StrAppend(&text, ": ", ToStatus(*why).message());
  if (const std::string output = kernel_.TakeOutput(); !output.empty()) {
    absl::StrAppend(&text, ": ", output);
  }
  return absl::UnavailableError(text);
}

// ---- the plugin host's --------------------------------------------------------------------------

// With the first thing that needs the plugin's C library: a static program brings its own, and what has been started
// before it would be thrown away.
absl::Status Instance::EnsureStarted() {
  if (is_started_.load(std::memory_order_acquire)) return absl::OkStatus();
  if (absl::Status status = CheckOriginalProcess(); !status.ok()) return status;
  // Its start has called back, and waits for this thread.
  if (IsCalledByThisThread()) {
    return absl::FailedPreconditionError("the plugin has just begun to start: nothing can be looked up or loaded yet");
  }
  if (absl::Status status = kernel_.files().Begin(); !status.ok()) return status;
  const std::lock_guard lock(start_mutex_);
  if (is_started_.load(std::memory_order_relaxed)) return absl::OkStatus();
  PrepareThread();
  // Whoever looks for a thread meanwhile gives back at once what he takes.
  for (LentPlace& place : lent_) {
    while (!place.Take()) sched_yield();
  }
  absl::Status status = OrNoFiles(StartMain());
  if (!status.ok()) End({.kind = Failure::Kind::kTrap, .signal = SIGKILL});
  is_started_.store(true, std::memory_order_release);
  ParkAll();
  return status;
}

absl::StatusOr<std::unique_ptr<PluginThread>> Instance::BeginMain(std::uint64_t& bias) {
  // On a program of our own and the dynamic linker.
  const hostcalls::NoLocksYet no_locks;
  const hostcalls::Window& window = memory_.window();
  const absl::StatusOr<loader::Program> program =
      OpenGuestProgram({GuestVirt{window.lowest}, GuestVirt{window.limit}});
  return program.ok() ? BeginProgram(*program, bias) : program.status();
}

absl::Status Instance::StartMain() {
  constexpr absl::string_view kNotStarted = "the plugin's C library did not start";
  const auto not_even_begun = [&](const absl::Status& why) {
    return absl::UnavailableError(absl::StrCat(kNotStarted, ": ", why.message()));
  };
  std::uint64_t bias = 0;
  absl::StatusOr<std::unique_ptr<PluginThread>> thread = BeginMain(bias);
  if (!thread.ok()) return not_even_begun(thread.status());
  Enlist(**thread);
  const std::optional<Ready> ready = RunToGate(**thread);
  const hostcalls::CopyResult<PluginTable> table =
      ready ? memory_.CopyIn(GuestPtr<PluginTable>{ready->table})
            : hostcalls::CopyResult<PluginTable>(Errno{EFAULT});
  if (!table.ok()) {
    Dismiss(**thread);
    return NotStarted(kNotStarted);
  }
  // It is the guest's word: what it says of gates counts for nothing.
  Functions functions{.table = gates_};
  functions.table.open_library = (*table).open_library;
  functions.table.find_symbol = (*table).find_symbol;
  functions.table.last_error = (*table).last_error;
  functions.table.make_thread = (*table).make_thread;
  SetFunctions(functions);
  return LendThreads(*std::move(thread));
}

// ---- a static one -------------------------------------------------------------------------------

// What stays of the window when a program begins in it: the gates, whose addresses the host has given out.
RangeSet Instance::Gates() const {
  RangeSet gates;
  const std::pair<std::uint64_t, std::uint64_t> places[] = {
      {gates_.ready_gate, DUNEBOX_GATE_SIZE},
      {gates_.return_gate, DUNEBOX_GATE_SIZE},
      {gates_.callbacks, DUNEBOX_MOST_CALLBACKS * DUNEBOX_CALLBACK_SIZE}};
  for (const auto& [address, size] : places) {
    if (!memory_.Contains(address, size)) continue;
    gates.Add({GuestVirt{PageDown(address)}, GuestVirt{PageUp(address + size)}});
  }
  return gates;
}

// Whether the program can be put in the place of what there is, which is only touched if it can.
absl::Status Instance::CheckProgram(const ProgramFile& file) {
  const auto refuse = [&](absl::string_view why) {
    return absl::FailedPreconditionError(absl::StrCat(file.program.path, ": ", why));
  };
  const Functions functions = GetFunctions();
  if (functions.names != 0) return refuse("a sandbox has one program, and this one has one");
  if (is_started_.load()) {
    const absl::StatusOr<CallResult> loaded = CallWithin(
        {.time = policy_.load_deadline, .budget = {}}, functions.table.open_library, WithArgument(0));
    if (!loaded.ok()) return loaded.status();
    if (loaded->integer != 0) {
      return refuse("a program has a sandbox to itself, and in this one a library is loaded");
    }
  }
  if (policy_.host_threads > 1 && file.symbols.Find("pthread_create") == nullptr) {
    return refuse(absl::StrCat(
        "the policy is for ", policy_.host_threads,
        " host threads at once (host_threads), and the program has no pthread_create to make guest threads with: link "
        "it with -Wl,-u,pthread_create, or let one call be made at a time"));
  }
  const loader::ElfImage& image = file.program.executable.image;
  if (image.kind == loader::ElfKind::kPositionIndependent) return absl::OkStatus();
  const GuestRange wanted{GuestVirt{image.span.start}, GuestVirt{image.span.end}};
  const bool is_free = space_.WithMap([&](const memory::VmaMap& map) {
    return !map.AnySealed(wanted) && Gates().SizeIn(wanted) == 0;
  });
  return is_free ? absl::OkStatus()
                 : refuse(absl::StrFormat(
                       "its addresses 0x%x..0x%x are taken by memory of the host's: load it before anything else, or "
                       "link it with -static-pie",
                       image.span.start, image.span.end));
}

absl::Status Instance::ClearWindow() {
  RangeSet gone;
  space_.WithMap([&](const memory::VmaMap& map) {
    map.ForEach([&](const Vma& vma) {
      if (!vma.sealed) gone.Add(vma.range);
      return true;
    });
  });
  Gates().ForEach([&](const GuestRange& gates) { gone.Remove(gates); });
  absl::Status status = absl::OkStatus();
  gone.ForEach([&](const GuestRange& range) {
    if (!space_.Unmap(range.start.value, range.size()).ok()) {
      status = absl::ResourceExhaustedError("no mappings to make room for a program with");
    }
  });
  return status;
}

absl::Status Instance::LoadProgram(const ProgramFile& file) {
  if (IsCalledByThisThread()) return absl::FailedPreconditionError("a call is under way");
  const std::lock_guard start_lock(start_mutex_);
  if (absl::Status status = CheckProgram(file); !status.ok()) return status;
  {
    const std::lock_guard lock(mutex_);
    if (running_by_themselves_ != 0) {
      return absl::FailedPreconditionError("threads run that the plugin has started");
    }
  }
  if (!TakeAllParked()) return absl::FailedPreconditionError("a call is under way");
  // As with execve there is no way back from here.
  for (LentPlace& place : lent_) {
    if (place.thread != nullptr) Dismiss(*place.thread);
    place.thread = nullptr;
  }
  absl::Status status = ClearWindow();
  if (status.ok()) status = Execute(file);
  if (!status.ok()) End({.kind = Failure::Kind::kTrap, .signal = SIGKILL});
  is_started_.store(true, std::memory_order_release);
  ParkAll();
  return status;
}

absl::Status Instance::Execute(const ProgramFile& file) {
  const auto failed = [&](absl::string_view why) { return absl::StrCat(file.program.path, ": ", why); };
  kernel_.Execute();
  next_id_.store(kVirtualPid);
  std::uint64_t bias = 0;
  absl::StatusOr<std::unique_ptr<PluginThread>> thread = BeginProgram(file.program, bias);
  if (!thread.ok()) return absl::Status(thread.status().code(), failed(thread.status().message()));
  const absl::StatusOr<std::uint64_t> names = PutNames(space_, file.symbols, bias);
  if (!names.ok()) return absl::Status(names.status().code(), failed(names.status().message()));
  const loader::ProgramSymbol* const maker = file.symbols.Find("pthread_create");
  Functions functions{.table = gates_, .names = *names};
  functions.table.open_library = functions.table.find_symbol = functions.table.last_error = 0;
  functions.table.make_thread = maker != nullptr ? maker->address + bias : 0;
  SetFunctions(functions);
  Enlist(**thread);
  bool is_ready = false;
  {
    std::optional<StopAt> stop;
    if (const loader::ProgramSymbol* const main = file.symbols.Find("main")) {
      stop.emplace(space_, **thread, main->address + bias);
      if (!stop->is_set()) {
        Dismiss(**thread);
        return absl::FailedPreconditionError(failed("its main is not code that could be stopped at"));
      }
    }
    is_ready = RunToGate(**thread).has_value();
    if (!is_ready) {
      Dismiss(**thread);
      return NotStarted(failed(
          stop ? "did not come to its main"
               : "has no main to be stopped at, and did not execute the gate for programs without one"));
    }
  }
  return LendThreads(*std::move(thread));
}

absl::StatusOr<std::uint64_t> Instance::FindInProgram(std::uint64_t names, const std::string& name) {
  if (absl::Status status = CheckOriginalProcess(); !status.ok()) return status;
  if (has_ended_.load()) return EndedStatus();
  PrepareThread();
  const std::optional<FoundName> found = FindName(memory_, names, name);
  if (!found) return absl::NotFoundError(absl::StrCat("the program has no ", name));
  if (!found->is_indirect) return found->address;
  const absl::StatusOr<CallResult> address =
      CallWithin({.time = policy_.load_deadline, .budget = {}}, found->address, {});
  if (!address.ok()) return address.status();
  return address->integer;
}

}  // namespace dunebox::plugin
