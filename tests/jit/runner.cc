#include "tests/jit/runner.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/check.h"
#include "hostcalls/memory/guest_memory.h"
#include "jit-fallback/dispatch/recover.h"
#include "runtime/jit/emulation.h"

extern "C" {
void jit_test_enter_native(dunebox::jit::Machine* machine, std::uint64_t components);
extern const char jit_test_leave_native[];
void jit_test_signal_entry(int signal, siginfo_t* info, void* machine);
void jit_test_signal_body(int signal, siginfo_t* info, ucontext_t* machine, std::uint64_t fs_base);
extern std::uint64_t jit_test_host_fs, jit_test_host_rsp;
extern std::uint8_t jit_test_has_context_in_fs;
extern const char dunebox_jit_enter[];
}

namespace dunebox::jit {
namespace {

constexpr std::uint64_t kTrapFlag = 0x100, kResumeFlag = 0x1'0000;
constexpr std::uint64_t kDebugVector = 1, kPageFaultVector = 14;
constexpr int kGregOf[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                             REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                             REG_R12, REG_R13, REG_R14, REG_R15};
constexpr hostcalls::GuestMemory kMemory(hostcalls::Window::WholeProgram());
constexpr std::size_t kMostSnapshots = 1 << 20;

enum class Mode { kIdle, kNative, kTranslated };

// What the signal handler works on: the one run under way.
struct Run {
  Mode mode = Mode::kIdle;
  const Arena* arena = nullptr;
  const CodeCache* cache = nullptr;
  Machine* machine = nullptr;
  Ending ending;
  std::vector<Snapshot>* trace = nullptr;
  const Runner::Visit* visit = nullptr;
  unsigned kick_every = 0;
  unsigned countdown = 0;
  Random kick_random;
};
Run run;

[[gnu::target("fsgsbase")]] std::uint64_t ReadFs() { return __builtin_ia32_rdfsbase64(); }
[[gnu::target("fsgsbase")]] std::uint64_t ReadGs() { return __builtin_ia32_rdgsbase64(); }

std::uint64_t Greg(const ucontext_t& machine, int number) {
  return static_cast<std::uint64_t>(machine.uc_mcontext.gregs[number]);
}

Snapshot Take(const ucontext_t& machine) {
  Snapshot snapshot;
  for (unsigned i = 0; i < 16; ++i) snapshot.gpr[i] = Greg(machine, kGregOf[i]);
  snapshot.rip = Greg(machine, REG_RIP);
  snapshot.rflags = Greg(machine, REG_EFL) & ~kTrapFlag & ~kResumeFlag;
  return snapshot;
}

// What the runtime makes of the state in which a signal finds translated code.
Snapshot Recover(Snapshot snapshot, const Context& context, const CodeCache& cache) {
  const std::optional<Recovered> recovered = cache.Recover(snapshot.rip);
  if (!recovered) return {};
  snapshot.rip = RestoreGuest(*recovered, context, snapshot.gpr);
  return snapshot;
}

// Whether a forbidden page has memory is the host's affair; the signal's code says what counts.
std::uint64_t ErrorOf(std::uint64_t vector, std::uint64_t error) {
  return vector == kPageFaultVector ? error & ~std::uint64_t{1} : error;
}

Ending EndOf(const siginfo_t& info, const ucontext_t& machine) {
  return {.signal = info.si_signo,
          .code = info.si_code,
          .vector = Greg(machine, REG_TRAPNO),
          .error = ErrorOf(Greg(machine, REG_TRAPNO), Greg(machine, REG_ERR)),
          .address = info.si_code == SI_KERNEL ? 0 : reinterpret_cast<std::uint64_t>(info.si_addr)};
}

void LeaveNative(const siginfo_t& info, ucontext_t& machine, std::uint64_t fs_base) {
  Machine& to = *run.machine;
  const Snapshot snapshot = Take(machine);
  to.gpr = snapshot.gpr;
  to.rip = snapshot.rip;
  to.rflags = snapshot.rflags;
  to.fs_base = fs_base;
  to.gs_base = ReadGs();
  const auto* area = reinterpret_cast<const std::byte*>(machine.uc_mcontext.fpregs);
  std::memcpy(to.extended.data(), area, std::min(to.extended.size(), VectorLayout().size));
  // A state as well, in case it is outside the code.
  if (run.trace != nullptr) run.trace->push_back(snapshot);
  run.ending = EndOf(info, machine);
  run.mode = Mode::kIdle;
  machine.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(jit_test_leave_native);
  machine.uc_mcontext.gregs[REG_RSP] = static_cast<greg_t>(jit_test_host_rsp);
  machine.uc_mcontext.gregs[REG_EFL] = 0x202;
}

void OnNative(const siginfo_t& info, ucontext_t& machine, std::uint64_t fs_base) {
  const bool is_step = info.si_signo == SIGTRAP && Greg(machine, REG_TRAPNO) == kDebugVector;
  if (!is_step) return LeaveNative(info, machine, fs_base);
  if (run.trace == nullptr || !run.arena->IsCode(Greg(machine, REG_RIP))) return;
  if (run.trace->size() >= kMostSnapshots) return LeaveNative(info, machine, fs_base);
  run.trace->push_back(Take(machine));
}

void Kick(Context& context, ucontext_t& machine) {
  context.kick = 1;
  LeaveTranslatedCode(context, machine);
}

void OnStep(Context& context, ucontext_t& machine) {
  const std::uint64_t rip = Greg(machine, REG_RIP);
  const auto enter = reinterpret_cast<std::uint64_t>(dunebox_jit_enter);
  constexpr std::uint64_t kEnterSize = 0x800;
  const bool is_switch = rip >= enter && rip < enter + kEnterSize;
  const bool is_cache = rip >= run.cache->start() && rip < run.cache->end();
  if (!is_switch && !is_cache) {
    // Back in the runtime: what the guest's RFLAGS are has been stored, with TF in them.
    machine.uc_mcontext.gregs[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
    return;
  }
  if (run.visit != nullptr && rip >= run.cache->start() && rip < run.cache->code_end()) {
    (*run.visit)(Recover(Take(machine), context, *run.cache), rip);
  }
  if (run.kick_every != 0 && run.countdown-- == 0) {
    run.countdown = static_cast<unsigned>(Below(run.kick_random, 2 * run.kick_every));
    Kick(context, machine);
  }
}

// The runtime's own access to guest memory has failed, and will say so.
bool ContinueCopy(ucontext_t& machine) {
  const std::uint64_t fixup = hostcalls::CopyFixupFor(Greg(machine, REG_RIP));
  if (fixup != 0) machine.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(fixup);
  return fixup != 0;
}

[[noreturn]] void Unexpected(int signal, const ucontext_t& machine) {
  const std::string text =
      absl::StrCat("unexpected signal ", signal, " at ", absl::Hex(Greg(machine, REG_RIP)),
                   ", code ", run.arena == nullptr ? "" : run.arena->name(), "\n");
  static_cast<void>(!write(2, text.data(), text.size()));
  _exit(99);
}

void OnTranslated(int signal, const siginfo_t& info, ucontext_t& machine) {
  Context& context = *CurrentContext();
  if (signal == SIGALRM) return Kick(context, machine);
  if (signal == SIGTRAP && Greg(machine, REG_TRAPNO) == kDebugVector) {
    return OnStep(context, machine);
  }
  if (!TakeGuestFault(context, info, machine)) Unexpected(signal, machine);
}

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM};

void InstallHandlers() {
  jit_test_host_fs = ReadFs();
  for (const int signal : kSignals) {
    struct sigaction action {};
    action.sa_sigaction = reinterpret_cast<void (*)(int, siginfo_t*, void*)>(jit_test_signal_entry);
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    // No signal inside the handler: one place to be interrupted at a time.
    sigfillset(&action.sa_mask);
    DUNEBOX_CHECK(sigaction(signal, &action, nullptr) == 0, "sigaction");
  }
}

// While it lives, nothing is accessible where the bare processor would find it.
class NoNativeAccess {
 public:
  explicit NoNativeAccess(const Arena& arena) : arena_(arena) { arena_.SetNativeAccess(false); }
  ~NoNativeAccess() {
    arena_.SetNativeAccess(true);
    DUNEBOX_CHECK(arena_.AreCanariesAlive(), "a store behind the guards of the window");
  }
  NoNativeAccess(const NoNativeAccess&) = delete;
  NoNativeAccess& operator=(const NoNativeAccess&) = delete;

 private:
  const Arena& arena_;
};

// A run that does not end by itself ends here.
void SetWatchdog(unsigned seconds) {
  const itimerval value{.it_interval = {}, .it_value = {.tv_sec = seconds, .tv_usec = 0}};
  setitimer(ITIMER_REAL, &value, nullptr);
}

// Once: a period that is shorter than what a kick takes on a busy machine would let nothing else happen.
void SetKickTimer(suseconds_t microseconds) {
  const itimerval value{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_usec = microseconds}};
  setitimer(ITIMER_REAL, &value, nullptr);
}

}  // namespace

std::string Describe(const Snapshot& snapshot) {
  std::string result =
      absl::StrCat("rip ", absl::Hex(snapshot.rip), " rflags ", absl::Hex(snapshot.rflags));
  for (unsigned i = 0; i < 16; ++i) {
    absl::StrAppend(&result, " r", i, "=", absl::Hex(snapshot.gpr[i]));
  }
  return result;
}

Runner::Runner(Arena& arena, const Options& options)
    : arena_(arena), isolation_(arena.is_windowed() ? Isolation::kSeg : options.isolation) {
  InstallHandlers();
  Translator::Options translation;
  translation.cache_size = options.cache_size;
  translation.limits = options.limits;
  translation.emitter.check_by_loop = options.check_by_loop;
  translation.emitter.isolation = isolation_;
  translation.emitter.runs_in_place = [](std::int64_t number) { return number == SYS_getppid; };
  auto translator = Translator::Create(std::move(translation));
  DUNEBOX_CHECK(translator.ok(), "no translator");
  translator_ = *std::move(translator);
  // Handlers look up addresses in it without the lock, as the threads of the translator do.
  translator_->Inspect([&](const CodeCache& cache) { cache_ = &cache; });
  ChangeThread(FreshMemory());
}

std::unique_ptr<ThreadContext> Runner::FreshMemory() const {
  const auto window = arena_.is_windowed() ? std::optional(arena_.HostAddress(0)) : std::nullopt;
  auto context = ThreadContext::Create(VectorLayout(), isolation_, window);
  DUNEBOX_CHECK(context.ok(), "no context");
  return *std::move(context);
}

std::unique_ptr<TranslatedThread> Runner::ChangeThread(std::unique_ptr<ThreadContext> memory) {
  std::unique_ptr<TranslatedThread> before = std::move(thread_);
  thread_ = std::make_unique<TranslatedThread>(translator_, arena_, std::move(memory));
  thread_->context().Attach();
  return before;
}

Runner::~Runner() {
  SetWatchdog(0);
  for (const int signal : kSignals) ::signal(signal, SIG_DFL);
}

// ---- native -------------------------------------------------------------------------------------

Ending Runner::RunNative(Machine& machine) {
  constexpr unsigned kPatience = 20;
  SetWatchdog(kPatience);
  run = Run{.mode = Mode::kNative, .arena = &arena_, .machine = &machine};
  jit_test_enter_native(&machine, VectorLayout().mask);
  if (arena_.is_windowed()) machine.gpr[kRsp] &= 0xffff'ffff;
  return run.ending;
}

Ending Runner::TraceNative(Machine& machine, std::vector<Snapshot>& trace) {
  trace.clear();
  trace.reserve(kMostSnapshots + 1);  // the handler must not allocate
  run = Run{.mode = Mode::kNative, .arena = &arena_, .machine = &machine, .trace = &trace};
  machine.rflags |= kTrapFlag;
  jit_test_enter_native(&machine, VectorLayout().mask);
  if (arena_.is_windowed()) {
    machine.gpr[kRsp] &= 0xffff'ffff;
    for (Snapshot& snapshot : trace) snapshot.gpr[kRsp] &= 0xffff'ffff;
  }
  return run.ending;
}

// ---- translated ---------------------------------------------------------------------------------

void Runner::Load(const Machine& machine) {
  Context& to = context();
  to.gpr = machine.gpr;
  to.rip = machine.rip;
  to.rflags = machine.rflags;
  to.fs_base = machine.fs_base;
  to.gs_base = machine.gs_base;
  to.kick = 0;
  const std::span<std::byte> area = thread_->context().extended_area();
  std::memcpy(area.data(), machine.extended.data(), area.size());
}

void Runner::Store(Machine& machine) {
  const Context& from = context();
  machine.gpr = from.gpr;
  machine.rip = from.rip;
  machine.rflags = from.rflags & ~kTrapFlag & ~kResumeFlag;
  machine.fs_base = from.fs_base;
  machine.gs_base = from.gs_base;
  const std::span<const std::byte> area = thread_->context().extended_area();
  std::memcpy(machine.extended.data(), area.data(), area.size());
}

// As the runtime and the supervisor would report it.
Ending Runner::EndOf(const AtInstruction& at) {
  Context& state = context();
  switch (at.instruction.operation) {
    case Operation::kInt3:
      state.rip += at.instruction.length;
      return {.signal = SIGTRAP, .code = SI_KERNEL, .vector = 3};
    case Operation::kIntN:
      if (const std::uint64_t vector = at.instruction.immediate16 & 0xffU; vector == 3 || vector == 4) {
        state.rip += at.instruction.length;
        return {.signal = vector == 3 ? SIGTRAP : SIGSEGV, .code = SI_KERNEL, .vector = vector};
      }
      return {.signal = SIGSEGV,
              .code = SI_KERNEL,
              .vector = 13,
              .error = (at.instruction.immediate16 & 0xffU) * 8U + 2U};
    case Operation::kPrivileged:
      return {.signal = SIGSEGV, .code = SI_KERNEL, .vector = 13};
    default:
      return {.signal = SIGILL, .code = ILL_ILLOPN, .vector = 6, .address = state.rip};
  }
}

Ending Runner::EndOf(const runtime::Fault& fault) {
  const auto vector = static_cast<std::uint64_t>(fault.vector);
  const auto is = [&](dune::x86::Vector other) { return fault.vector == other; };
  if (is(dune::x86::Vector::kPageFault)) {
    return {.signal = SIGSEGV,
            .code = arena_.IsMapped(fault.address) ? SEGV_ACCERR : SEGV_MAPERR,
            .vector = vector,
            .error = fault.error_code,
            .address = fault.address};
  }
  if (is(dune::x86::Vector::kInvalidOpcode)) {
    return {.signal = SIGILL, .code = ILL_ILLOPN, .vector = vector, .address = context().rip};
  }
  if (is(dune::x86::Vector::kAlignmentCheck)) {
    return {.signal = SIGBUS, .code = BUS_ADRALN, .vector = vector};
  }
  const int signal = is(dune::x86::Vector::kStackFault) ? SIGBUS : SIGSEGV;
  return {.signal = signal, .code = SI_KERNEL, .vector = vector};
}

// The runtime's part, for stacks that are there.
void Runner::PopFlags(const Instruction& instruction) {
  constexpr std::uint64_t kOfUser = 0x24'4dd5, kAlways = 0x202;
  Context& state = context();
  std::uint64_t flags;
  std::memcpy(&flags, reinterpret_cast<const void*>(arena_.HostAddress(state.gpr[kRsp])),
              sizeof(flags));
  state.rflags = (flags & kOfUser) | kAlways;
  state.gpr[kRsp] += sizeof(flags);
  state.rip += instruction.length;
}

bool Runner::Continue(Ending& ending) {
  Context& state = context();
  for (;;) {
    run.mode = Mode::kTranslated;
    jit_test_has_context_in_fs = arena_.is_windowed();
    const Stop stop = thread_->Run();
    jit_test_has_context_in_fs = 0;
    run.mode = Mode::kIdle;
    if (std::holds_alternative<AtSystemCall>(stop)) {
      // All there are in tests: getppid, and a number that no kernel knows.
      state.gpr[kRax] = state.gpr[kRax] == SYS_getppid ? static_cast<std::uint64_t>(getppid())
                                                       : static_cast<std::uint64_t>(-ENOSYS);
      state.gpr[kRcx] = state.rip;
      state.gpr[11] = state.rflags;
      continue;
    }
    if (const auto* at = std::get_if<AtInstruction>(&stop)) {
      if (at->instruction.operation == Operation::kPopFlags) {
        PopFlags(at->instruction);
        continue;
      }
      const runtime::Emulation emulation = runtime::EmulationOf(at->instruction);
      if (at->instruction.klass == Class::kCopy && emulation != nullptr) {
        const auto fault = emulation(at->instruction, state, thread_->context().extended_area(),
                                     VectorLayout(), kMemory);
        if (!fault) continue;
        ending = EndOf(*fault);
        return true;
      }
      if (at->instruction.operation == Operation::kRdFsGsBase) {
        const bool wide = (at->instruction.rex & 8) != 0;
        state.gpr[(at->instruction.modrm & 7U) | ((at->instruction.rex & 1U) << 3)] =
            wide ? state.fs_base : state.fs_base & 0xffff'ffff;
        state.rip += at->instruction.length;
        continue;
      }
      ending = EndOf(*at);
      return true;
    }
    if (const auto* fault = std::get_if<AtFault>(&stop)) {
      // Signals other than of page faults say where the instruction is, which is the guest's RIP.
      const bool is_page_fault = fault->vector == kPageFaultVector;
      const bool names_code = fault->signal == SIGFPE || fault->signal == SIGILL;
      ending = {.signal = fault->signal,
                .code = fault->code,
                .vector = fault->vector,
                .error = ErrorOf(fault->vector, fault->error_code),
                .address = is_page_fault ? fault->address
                           : names_code  ? state.rip
                                         : 0};
      return true;
    }
    if (const auto* fault = std::get_if<AtFetchFault>(&stop)) {
      const bool mapped = fault->address >= arena_.memory() && fault->address < arena_.stack_top();
      ending = {.signal = SIGSEGV,
                .code = mapped ? SEGV_ACCERR : SEGV_MAPERR,
                .vector = kPageFaultVector,
                .error = 0x14,
                .address = fault->address};
      return true;
    }
    return false;
  }
}

Ending Runner::RunTranslated(Machine& machine) {
  Load(machine);
  const NoNativeAccess no_access(arena_);
  SetWatchdog(0);
  run = Run{.arena = &arena_, .cache = cache_};
  Ending ending;
  DUNEBOX_CHECK(Continue(ending), "kicked by nobody");
  Store(machine);
  return ending;
}

Ending Runner::StepTranslated(Machine& machine, const Visit& visit) {
  Load(machine);
  const NoNativeAccess no_access(arena_);
  SetWatchdog(0);
  run = Run{.arena = &arena_, .cache = cache_, .visit = &visit};
  context().rflags |= kTrapFlag;
  Ending ending;
  DUNEBOX_CHECK(Continue(ending), "kicked by nobody");
  Store(machine);
  return ending;
}

Ending Runner::KickTranslated(Machine& machine, const Kicks& kicks,
                              const std::function<void(const Snapshot&)>& visit) {
  Load(machine);
  const NoNativeAccess no_access(arena_);
  SetWatchdog(0);
  run = Run{.arena = &arena_,
            .cache = cache_,
            .kick_every = kicks.every,
            .kick_random = Random(kicks.seed)};
  constexpr suseconds_t kShortest = 1, kRange = 30, kLongest = 500'000;
  const suseconds_t first = kShortest + static_cast<suseconds_t>(kicks.seed % kRange);
  suseconds_t delay = first;
  if (kicks.every != 0) {
    run.countdown = static_cast<unsigned>(Below(run.kick_random, 2 * kicks.every));
    context().rflags |= kTrapFlag;
  } else {
    SetKickTimer(delay);
  }
  Ending ending;
  std::uint64_t kicked_at = machine.rip;
  while (!Continue(ending)) {
    const Context& state = context();
    visit({.rip = state.rip, .rflags = state.rflags & ~kTrapFlag & ~kResumeFlag, .gpr = state.gpr});
    context().kick = 0;
    if (kicks.every != 0) continue;
    // Where the way to the program takes longer than that, the next kick gives it more time.
    delay = state.rip == kicked_at ? std::min(2 * delay, kLongest) : first;
    kicked_at = state.rip;
    SetKickTimer(delay);
  }
  SetWatchdog(0);
  Store(machine);
  return ending;
}

}  // namespace dunebox::jit

void jit_test_signal_body(int signal, siginfo_t* info, ucontext_t* machine, std::uint64_t fs_base) {
  using namespace dunebox::jit;
  switch (run.mode) {
    case Mode::kIdle:
      if (signal == SIGALRM) return;
      if (ContinueCopy(*machine)) return;
      Unexpected(signal, *machine);
    case Mode::kNative:
      return OnNative(*info, *machine, fs_base);
    case Mode::kTranslated:
      return OnTranslated(signal, *info, *machine);
  }
}
