#include "jit-fallback/dispatch/thread_context.h"

#include <cpuid.h>
#include <immintrin.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/check.h"
#include "hostcalls/host_cpuid.h"
#include "hostcalls/memory/protection_keys.h"
#include "jit-fallback/cache/growing_memory.h"

extern "C" {
std::uint32_t dunebox_jit_enter();
#define JIT_DECLARE_EXITS(way)                                                           \
  extern const char dunebox_jit_##way##enter_abort[], dunebox_jit_##way##exit_signal[];  \
  extern const char dunebox_jit_##way##exit_link[], dunebox_jit_##way##exit_lookup[];    \
  extern const char dunebox_jit_##way##exit_syscall[], dunebox_jit_##way##exit_emulate[]; \
  extern const char dunebox_jit_##way##exit_trap[], dunebox_jit_##way##exit_stale[];     \
  extern const char dunebox_jit_##way##exit_budget[]
JIT_DECLARE_EXITS();
JIT_DECLARE_EXITS(keyed_);
JIT_DECLARE_EXITS(windowed_);
#undef JIT_DECLARE_EXITS
extern const char dunebox_jit_enter_window[], dunebox_jit_enter_window_end[];
extern const char dunebox_jit_windowed_enter_window[], dunebox_jit_windowed_enter_window_end[];
extern const char dunebox_jit_lookup[], dunebox_jit_lookup_end[];
extern const char dunebox_jit_windowed_lookup[], dunebox_jit_windowed_lookup_end[];
extern unsigned char dunebox_guest_fs_possible, dunebox_windows_possible;
}

namespace dunebox::jit {
namespace {

// Context (two pages, with the vector state), pointers (4 KiB), lookup tables, then the signal stack. Under
// isolation pku the Context's first page has the guest's key, pointers and tables have the tables'.
constexpr std::size_t kExtendedOffset = offsetof(Context, extended);
constexpr std::size_t kExtendedRoom = sizeof(Context::extended);
static_assert(sizeof(Context) == JIT_POINTERS);
constexpr std::size_t kFirstTableSize = std::size_t{JIT_TABLE_ENTRIES} * sizeof(std::uint64_t);
constexpr std::size_t kSecondTableEntries = JIT_SECOND_TABLE_ENTRIES;
constexpr std::size_t kSignalStackOffset =
    JIT_SECOND_TABLE + kSecondTableEntries * 2 * sizeof(std::uint64_t);
constexpr std::size_t kSignalStackSize = 64 * 1024;
// From the top of the stack wherever RSP is: a guest whose RSP lies in it is not on it. [linux]
// sigaltstack(2), SS_AUTODISARM
constexpr int kAutoDisarm = static_cast<int>(1U << 31);
constexpr std::size_t kTotalSize = kSignalStackOffset + kSignalStackSize;

// So many in a folded table, and its thread gets a whole one: half as many as 700 targets are likely to bring about.
constexpr unsigned kMostDisplaced = 16;

constexpr std::uint16_t kUserCode = 0x33, kUserData = 0x2b;  // [linux] of 64-bit processes
constexpr std::array<std::uint16_t, 6> kFirstSelectors = {0, kUserCode, kUserData, 0, 0, 0};
constexpr std::uint64_t kFirstFlags = 0x202;

constexpr std::size_t kLegacySize = 512 + 64;  // with the XSAVE header
// The legacy region, the header behind it. [intel/vol1 §13.4]
constexpr std::size_t kMxcsrOffset = 24, kX87RegistersOffset = 32, kVectorsOffset = 160,
                      kVectorsSize = 256, kPresentOffset = 512;
constexpr std::uint32_t kDefaultMxcsr = 0x1f80;
// What every x86-64 processor has of it; loading others would fault. [intel/vol1 §10.2.3]
constexpr std::uint32_t kMxcsrBits = 0xffff;
constexpr std::uint16_t kInitialControlWord = 0x37f;

constexpr std::uint64_t kWindowSize = std::uint64_t{1} << 32;

bool IsGuestFsPossible() { return __atomic_load_n(&dunebox_guest_fs_possible, __ATOMIC_ACQUIRE) != 0; }

std::uint64_t AddressOf(const char* label) { return reinterpret_cast<std::uint64_t>(label); }

[[gnu::target("fsgsbase")]] std::uint64_t ReadGsBase() { return _readgsbase_u64(); }
[[gnu::target("fsgsbase")]] void WriteGsBase(std::uint64_t value) { _writegsbase_u64(value); }
[[gnu::target("fsgsbase")]] std::uint64_t ReadFsBase() { return _readfsbase_u64(); }

constexpr int kGregOfRegister[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                     REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                     REG_R12, REG_R13, REG_R14, REG_R15};

// Flags with which the runtime's own code may run.
constexpr greg_t kPlainFlags = 0x202;

ExitPointers& PointersOf(Context& context) {
  return *reinterpret_cast<ExitPointers*>(reinterpret_cast<std::byte*>(&context) + JIT_POINTERS);
}

void ContinueAt(Context& context, ucontext_t& machine, const char* label) {
  machine.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(AddressOf(label));
  machine.uc_mcontext.gregs[REG_RSP] = static_cast<greg_t>(context.host_rsp);
  machine.uc_mcontext.gregs[REG_EFL] = kPlainFlags;
}

// The code of switch.S for one way into translated code and out: plain, keyed (isolation pku) and
// windowed (seg).
struct Way {
  const char *enter_window, *enter_window_end, *lookup, *lookup_end, *enter_abort;
  const char *exit_link, *exit_lookup, *exit_syscall, *exit_emulate, *exit_trap, *exit_stale;
  const char *exit_budget, *exit_signal;
};
constexpr Way kPlain =
    {.enter_window = dunebox_jit_enter_window,
     .enter_window_end = dunebox_jit_enter_window_end,
     .lookup = dunebox_jit_lookup,
     .lookup_end = dunebox_jit_lookup_end,
     .enter_abort = dunebox_jit_enter_abort,
     .exit_link = dunebox_jit_exit_link,
     .exit_lookup = dunebox_jit_exit_lookup,
     .exit_syscall = dunebox_jit_exit_syscall,
     .exit_emulate = dunebox_jit_exit_emulate,
     .exit_trap = dunebox_jit_exit_trap,
     .exit_stale = dunebox_jit_exit_stale,
     .exit_budget = dunebox_jit_exit_budget,
     .exit_signal = dunebox_jit_exit_signal};
constexpr Way kKeyed =
    {.enter_window = dunebox_jit_enter_window,
     .enter_window_end = dunebox_jit_enter_window_end,
     .lookup = dunebox_jit_lookup,
     .lookup_end = dunebox_jit_lookup_end,
     .enter_abort = dunebox_jit_keyed_enter_abort,
     .exit_link = dunebox_jit_keyed_exit_link,
     .exit_lookup = dunebox_jit_keyed_exit_lookup,
     .exit_syscall = dunebox_jit_keyed_exit_syscall,
     .exit_emulate = dunebox_jit_keyed_exit_emulate,
     .exit_trap = dunebox_jit_keyed_exit_trap,
     .exit_stale = dunebox_jit_keyed_exit_stale,
     .exit_budget = dunebox_jit_keyed_exit_budget,
     .exit_signal = dunebox_jit_keyed_exit_signal};
constexpr Way kWindowed =
    {.enter_window = dunebox_jit_windowed_enter_window,
     .enter_window_end = dunebox_jit_windowed_enter_window_end,
     .lookup = dunebox_jit_windowed_lookup,
     .lookup_end = dunebox_jit_windowed_lookup_end,
     .enter_abort = dunebox_jit_windowed_enter_abort,
     .exit_link = dunebox_jit_windowed_exit_link,
     .exit_lookup = dunebox_jit_windowed_exit_lookup,
     .exit_syscall = dunebox_jit_windowed_exit_syscall,
     .exit_emulate = dunebox_jit_windowed_exit_emulate,
     .exit_trap = dunebox_jit_windowed_exit_trap,
     .exit_stale = dunebox_jit_windowed_exit_stale,
     .exit_budget = dunebox_jit_windowed_exit_budget,
     .exit_signal = dunebox_jit_windowed_exit_signal};

const Way& WayOf(const Context& context) {
  if (context.is_windowed != 0) return kWindowed;
  return context.uses_keys != 0 ? kKeyed : kPlain;
}

bool IsTranslatedCode(const Context& context, std::uint64_t rip) {
  return rip >= context.cache_start && rip < context.cache_end;
}

// Takes the registers as they are at an address in translated code and leaves.
void LeaveAt(Context& context, ucontext_t& machine) {
  for (unsigned reg = 0; reg < 16; ++reg) {
    context.gpr[reg] = static_cast<std::uint64_t>(machine.uc_mcontext.gregs[kGregOfRegister[reg]]);
  }
  context.rflags = static_cast<std::uint64_t>(machine.uc_mcontext.gregs[REG_EFL]);
  context.cache_rip = static_cast<std::uint64_t>(machine.uc_mcontext.gregs[REG_RIP]);
  ContinueAt(context, machine, WayOf(context).exit_signal);
}

}  // namespace

namespace {

struct StateFacts {
  std::uint64_t supported;
  std::array<ExtendedLayout::Place, 64> places;
  bool has_xsaveopt, tells_use;
  bool clears_at_once;  // AVX512VL: the 128-bit form of an operation clears all above
};

StateFacts AskStateFacts() {
  constexpr unsigned kXsaveopt = 1;
  constexpr unsigned kTellsUse = 4;  // XGETBV with ECX 1 [intel/vol1 §13.2]
  StateFacts facts{};
  const auto leaf = [](unsigned subleaf) { return hostcalls::FeaturesOfHost(0xd, subleaf); };
  facts.supported = (std::uint64_t{leaf(0).edx} << 32) | leaf(0).eax;
  for (unsigned component = 2; component < 63; ++component) {
    if (((facts.supported >> component) & 1) == 0) continue;
    facts.places[component] = {.offset = leaf(component).ebx, .size = leaf(component).eax};
  }
  facts.has_xsaveopt = (leaf(1).eax & kXsaveopt) != 0;
  facts.tells_use = (leaf(1).eax & kTellsUse) != 0;
  facts.clears_at_once = (hostcalls::FeaturesOfHost(7).ebx & bit_AVX512VL) != 0;
  return facts;
}

const StateFacts& FactsOfHost() {
  static const StateFacts facts = AskStateFacts();
  return facts;
}

}  // namespace

ExtendedLayout ExtendedLayout::OfHost(std::uint64_t wanted) {
  const StateFacts& facts = FactsOfHost();
  ExtendedLayout layout{.mask = facts.supported & wanted,
                        .size = kLegacySize,
                        .has_xsaveopt = facts.has_xsaveopt,
                        .places = {}};
  for (unsigned component = 2; component < 63; ++component) {
    if (((layout.mask >> component) & 1) == 0) continue;
    const Place& place = layout.places[component] = facts.places[component];
    layout.size = std::max<std::size_t>(layout.size, std::size_t{place.offset} + place.size);
  }
  return layout;
}

void ExtendedLayout::Initialize(std::uint64_t components, std::byte* area) const {
  if ((components & 1) != 0) {
    std::memset(area, 0, kMxcsrOffset);
    std::memcpy(area, &kInitialControlWord, sizeof(kInitialControlWord));
    std::memset(area + kX87RegistersOffset, 0, kVectorsOffset - kX87RegistersOffset);
  }
  if ((components & 2) != 0) std::memset(area + kVectorsOffset, 0, kVectorsSize);
  for (unsigned component = 2; component < places.size(); ++component) {
    const Place& place = places[component];
    if (((components >> component) & 1) != 0) std::memset(area + place.offset, 0, place.size);
  }
}

namespace {

absl::StatusOr<std::byte*> MapContext(const ExtendedLayout& layout) {
  DUNEBOX_CHECK(layout.size <= kExtendedRoom, "vector state is larger than its place");
  void* const memory =
      mmap(nullptr, kTotalSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory != MAP_FAILED) return static_cast<std::byte*>(memory);
  return absl::ResourceExhaustedError(absl::StrCat("no memory for a thread: ", strerror(errno)));
}

absl::Status NoTable() {
  return absl::ResourceExhaustedError(absl::StrCat("no memory for a lookup table: ", strerror(errno)));
}

bool MapWhole(std::byte* place) {
  return mmap(place, kFirstTableSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
         MAP_FAILED;
}

// The same `size` bytes again and again; only shared memory can be had so. A forked child has nothing there, whichever thread forks:
// it must not be able to write where its parent's translated code jumps.
bool MapFolded(std::byte* place, std::size_t size) {
  void* const piece =
      mmap(place, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (piece == MAP_FAILED) return false;
  for (std::size_t at = size; at < kFirstTableSize; at += size) {
    if (mremap(piece, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, place + at) == MAP_FAILED) return false;
  }
  return madvise(place, kFirstTableSize, MADV_DONTFORK) == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ThreadContext>> ThreadContext::Create(
    const ExtendedLayout& layout, Isolation isolation, std::optional<std::uint64_t> window_base) {
  const absl::StatusOr<std::byte*> memory = MapContext(layout);
  if (!memory.ok()) return memory.status();
  std::unique_ptr<ThreadContext> thread(
      new ThreadContext(*memory, layout, isolation, window_base, nullptr));
  // A window's thread stays whole: its host application may fork at any time.
  const std::uint64_t entries = window_base ? JIT_TABLE_ENTRIES : JIT_FOLDED_ENTRIES;
  if (!thread->MapFirst(entries)) return NoTable();
  if (isolation == Isolation::kPku && !thread->SetKeys()) {
    return absl::ResourceExhaustedError(absl::StrCat("pkey_mprotect: ", strerror(errno)));
  }
  return thread;
}

absl::StatusOr<std::unique_ptr<ThreadContext>> ThreadContext::CreateWith(
    const LookupTable& known, std::shared_ptr<const LookupTable> empty,
    const ExtendedLayout& layout, std::uint64_t window_base) {
  DUNEBOX_CHECK(layout.size <= kExtendedRoom, "vector state is larger than its place");
  const absl::StatusOr<std::byte*> memory = known.MapWithThread();
  if (!memory.ok()) return memory.status();
  GrowingMemory::Populate(*memory, JIT_TABLE);
  std::unique_ptr<ThreadContext> thread(
      new ThreadContext(*memory, layout, Isolation::kSeg, window_base, std::move(empty)));
  thread->known_generation_ = known.generation();
  thread->entries_ = JIT_TABLE_ENTRIES;
  thread->second_.set();
  return thread;
}

// A whole table is 128 pages to be filled before the first jump, and short programs have too few targets to be worth it.
// Folded, addresses with the same low 14 bits share an entry in place of those with the same 16.
bool ThreadContext::MapFirst(std::uint64_t entries) {
  std::byte* const place = memory_ + JIT_TABLE;
  if (entries != JIT_TABLE_ENTRIES && !MapFolded(place, entries * sizeof(std::uint64_t))) {
    entries = JIT_TABLE_ENTRIES;
  }
  if (entries == JIT_TABLE_ENTRIES && !MapWhole(place)) return false;
  if (isolation_ == Isolation::kPku &&
      !hostcalls::SetProtectionKey(place, kFirstTableSize, PROT_READ | PROT_WRITE, DUNE_KEY_TABLES)) {
    DUNEBOX_CHECK(entries_ == 0, "a lookup table that was in use is gone");
    return false;
  }
  entries_ = entries;
  displaced_ = 0;
  GrowingMemory::Populate(place, entries * sizeof(std::uint64_t));
  std::fill_n(reinterpret_cast<std::uint64_t*>(place), entries, NoTarget());
  return true;
}

// What is folded has stayed with the parent.
absl::Status ThreadContext::ContinueAfterFork() {
  const bool is_own = entries_ == JIT_TABLE_ENTRIES;
  return is_own || MapFirst(JIT_FOLDED_ENTRIES) ? absl::OkStatus() : NoTable();
}

bool ThreadContext::SetKeys() {
  constexpr int kReadWrite = PROT_READ | PROT_WRITE;
  return hostcalls::SetProtectionKey(memory_, kContextPage, kReadWrite, DUNE_KEY_GUEST) &&
         hostcalls::SetProtectionKey(memory_ + JIT_POINTERS, kSignalStackOffset - JIT_POINTERS,
                                     kReadWrite, DUNE_KEY_TABLES);
}

ExitPointers& ThreadContext::pointers() { return PointersOf(context()); }

ThreadContext::ThreadContext(std::byte* memory, const ExtendedLayout& layout, Isolation isolation,
                             std::optional<std::uint64_t> window_base,
                             std::shared_ptr<const LookupTable> empty)
    : memory_(memory), layout_(layout), isolation_(isolation), empty_(std::move(empty)) {
  Context& fresh = context();
  fresh.rflags = kFirstFlags;
  fresh.selectors = kFirstSelectors;
  fresh.instructions_left = kNoInstructionLimit;
  fresh.checks_left = kChecksBeforeAsking;
  fresh.extended_area = memory_ + kExtendedOffset;
  fresh.extended_mask = fresh.own_components = layout.mask;
  fresh.host_mxcsr = kDefaultMxcsr;
  fresh.has_xsaveopt = layout.has_xsaveopt ? 1 : 0;
  fresh.confining_mask = kConfiningMask;
  fresh.bit_places = {15, 31, 63};
  fresh.uses_keys = isolation == Isolation::kPku ? 1 : 0;
  fresh.self = reinterpret_cast<std::uint64_t>(memory_);
  fresh.is_windowed = isolation == Isolation::kSeg ? 1 : 0;
  DUNEBOX_CHECK(window_base.has_value() == (isolation == Isolation::kSeg),
                "isolation seg, and no other, has a window");
  fresh.window_base = window_base.value_or(0);
  DUNEBOX_CHECK(fresh.window_base % kWindowSize == 0, "a window that is not aligned");
  fresh.minus_window_base = ~fresh.window_base + 1;
  // The x87 and SSE state a Linux process starts with. [abi §3.4.1]
  std::memcpy(fresh.extended_area, &kInitialControlWord, sizeof(kInitialControlWord));
  std::memcpy(fresh.extended_area + kMxcsrOffset, &kDefaultMxcsr, sizeof(kDefaultMxcsr));
  const Way& way = WayOf(fresh);
  pointers() = {.link = AddressOf(way.exit_link),
                .lookup = AddressOf(way.lookup),
                .system_call = AddressOf(way.exit_syscall),
                .emulate = AddressOf(way.exit_emulate),
                .trap = AddressOf(way.exit_trap),
                .stale = AddressOf(way.exit_stale),
                .exit_lookup = AddressOf(way.exit_lookup),
                .budget = AddressOf(way.exit_budget),
                .resume = 0};
  if (empty_ == nullptr) ClearEmptySecond();
  // Threads are made at the same time, and handlers that see the second look at the first.
  __atomic_store_n(&dunebox_windows_possible, window_base ? 1 : 0, __ATOMIC_RELAXED);
  __atomic_store_n(&dunebox_guest_fs_possible, 1, __ATOMIC_RELEASE);
}

ThreadContext::~ThreadContext() {
  Detach();
  munmap(memory_, empty_ != nullptr ? LookupTable::kThreadSize : kTotalSize);
}

std::span<std::byte> ThreadContext::extended_area() {
  dirty_ = layout_.mask;
  return {memory_ + kExtendedOffset, layout_.size};
}

void ThreadContext::InitializeState(std::uint32_t mxcsr, std::uint16_t x87_control) {
  constexpr std::uint64_t kX87 = 1;
  constexpr std::uint16_t kX87Control = 0x0f3f, kAlwaysSet = 0x40;  // [intel/vol1 §8.1.5]
  const std::span<std::byte> area = extended_area();
  layout_.Initialize(layout_.mask, area.data());
  const std::uint32_t allowed = mxcsr & kMxcsrBits;
  const auto control = static_cast<std::uint16_t>((x87_control & kX87Control) | kAlwaysSet);
  // What is not present is loaded as initial, but for MXCSR, which always comes from here.
  const std::uint64_t present = control == kInitialControlWord ? 0 : kX87;
  std::memcpy(area.data(), &control, sizeof(control));
  std::memcpy(area.data() + kMxcsrOffset, &allowed, sizeof(allowed));
  std::memset(area.data() + kPresentOffset, 0, kLegacySize - kPresentOffset);
  std::memcpy(area.data() + kPresentOffset, &present, sizeof(present));
  Context& state = context();
  std::memset(memory_, 0, offsetof(Context, self));
  state.instructions_left = kNoInstructionLimit;
  state.checks_left = kChecksBeforeAsking;
  state.gpr = {};
  state.is_bare = 0;
  state.rflags = kFirstFlags;
  state.selectors = kFirstSelectors;
}

std::uint32_t ThreadContext::mxcsr() const {
  std::uint32_t value;
  std::memcpy(&value, memory_ + kExtendedOffset + kMxcsrOffset, sizeof(value));
  return value;
}

std::uint16_t ThreadContext::x87_control() const {
  std::uint64_t present;
  std::uint16_t value = kInitialControlWord;
  std::memcpy(&present, memory_ + kExtendedOffset + kPresentOffset, sizeof(present));
  if ((present & 1) != 0) std::memcpy(&value, memory_ + kExtendedOffset, sizeof(value));
  return value;
}

bool ThreadContext::Renew() {
  // What is folded stays with the parent whoever has it.
  const bool is_folded = entries_ != JIT_TABLE_ENTRIES;
  const std::size_t first_part = is_folded ? JIT_TABLE : JIT_SECOND_TABLE;
  if (is_left_at_fork_ && (madvise(memory_, first_part, MADV_DOFORK) != 0 ||
                           madvise(memory_ + JIT_SECOND_TABLE, kTotalSize - JIT_SECOND_TABLE, MADV_DOFORK) != 0)) {
    return false;
  }
  is_left_at_fork_ = false;
  InitializeState(kDefaultMxcsr, kInitialControlWord);
  context().kick = 0;
  return true;
}

void ThreadContext::LeaveAtFork() {
  // Without that there would be a copy which nobody uses.
  if (!is_left_at_fork_) is_left_at_fork_ = madvise(memory_, kTotalSize, MADV_DONTFORK) == 0;
}

void ThreadContext::SetCache(std::uint64_t start, std::uint64_t code_end) {
  context().cache_start = start;
  context().cache_end = code_end;
}

std::uint64_t& ThreadContext::Entry(std::uint64_t pc) {
  return reinterpret_cast<std::uint64_t*>(memory_ + JIT_TABLE)[pc % entries_];
}

// An entry of the first table without contents: then the second has none for the address either.
std::uint64_t ThreadContext::NoTarget() { return pointers().exit_lookup; }

SecondEntry& ThreadContext::Second(std::uint64_t pc) {
  return reinterpret_cast<SecondEntry*>(memory_ + JIT_SECOND_TABLE)[SecondIndex(pc)];
}

// The second gets only what the first has no room for: most threads never touch it. What has been put in
// another's place in the first comes to the second when it is missed. Where tables are shared until they are
// written to, the first keeps what it has. Where many have had to share a folded one, it is time for a whole one.
void ThreadContext::SetTarget(std::uint64_t pc, std::uint64_t host) {
  std::uint64_t& entry = Entry(pc);
  bool has_room = __atomic_load_n(&entry, __ATOMIC_RELAXED) == NoTarget();
  if (!has_room && entries_ != JIT_TABLE_ENTRIES && ++displaced_ >= kMostDisplaced) {
    has_room = MapFirst(JIT_TABLE_ENTRIES);
  }
  if (has_room || empty_ == nullptr) __atomic_store_n(&entry, host, __ATOMIC_RELAXED);
  if (has_room) return;
  Second(pc) = {.negative = ~pc, .host = host};
  second_.set(SecondIndex(pc) / kSecondPerPage);
}

// The owner may be reading.
void ThreadContext::ClearTarget(std::uint64_t pc) {
  __atomic_store_n(&Entry(pc), NoTarget(), __ATOMIC_RELAXED);
  if (!second_.test(SecondIndex(pc) / kSecondPerPage)) return;
  SecondEntry& second = Second(pc);
  if (second.negative == ~pc) __atomic_store_n(&second.host, pointers().exit_lookup, __ATOMIC_RELAXED);
}

// Of the one address that an entry without contents would take for its own.
void ThreadContext::ClearEmptySecond() {
  __atomic_store_n(&Second(~std::uint64_t{0}).host, pointers().exit_lookup, __ATOMIC_RELAXED);
}

void ThreadContext::ForgetTargets() {
  known_generation_.reset();
  if (empty_ == nullptr || !empty_->MapAt(memory_ + JIT_TABLE).ok()) ClearTargets();
}

void ThreadContext::ClearTargets() {
  for (std::uint64_t pc = 0; pc < entries_; ++pc) {
    // Writing would give it memory.
    if (__atomic_load_n(&Entry(pc), __ATOMIC_RELAXED) == NoTarget()) continue;
    __atomic_store_n(&Entry(pc), NoTarget(), __ATOMIC_RELAXED);
  }
  ClearSecond();
}

// Most pages of it have never been touched: to look there would be a fault each.
void ThreadContext::ClearSecond() {
  auto* const table = reinterpret_cast<SecondEntry*>(memory_ + JIT_SECOND_TABLE);
  for (std::size_t page = 0; page < kSecondPages; ++page) {
    if (!second_.test(page)) continue;
    for (SecondEntry& entry : std::span(table + page * kSecondPerPage, kSecondPerPage)) {
      if (entry.negative == 0) continue;  // never used
      __atomic_store_n(&entry.host, pointers().exit_lookup, __ATOMIC_RELAXED);
    }
  }
}

void ThreadContext::Attach() {
  DUNEBOX_CHECK(empty_ == nullptr, "a thread without a signal stack, which is only borrowed");
  UnregisterRseq();
  context().host_fs = ReadFsBase();
  const stack_t stack{
      .ss_sp = memory_ + kSignalStackOffset, .ss_flags = kAutoDisarm, .ss_size = kSignalStackSize};
  DUNEBOX_CHECK(sigaltstack(&stack, nullptr) == 0, "cannot set a signal stack");
  WriteGsBase(reinterpret_cast<std::uint64_t>(memory_));
}

// A vforked child's goes on its parent's thread, which has its own.
void ThreadContext::Detach() {
  if (!IsAttached()) return;
  WriteGsBase(0);
  const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  sigaltstack(&none, nullptr);
}

void ThreadContext::SetGate(std::uint32_t number) {
  // What VZEROALL clears, and where there are masks and 16 more registers, a few instructions more.
  constexpr std::uint64_t kAvx = 4, kUpperZmm = 64, kMoreZmm = 128;
  constexpr std::uint64_t kCleared =
      JIT_SSE_COMPONENT | kAvx | JIT_OPMASK_COMPONENT | kUpperZmm | kMoreZmm;
  if (!FactsOfHost().tells_use || (layout_.mask & kAvx) == 0) return;
  if ((layout_.mask & kMoreZmm) != 0 && !FactsOfHost().clears_at_once) return;
  context().own_components &= ~std::uint64_t{JIT_X87_COMPONENT};
  context().must_be_initial =
      static_cast<std::uint32_t>(layout_.mask & ~(kCleared | JIT_X87_COMPONENT));
  context().gate = number >> JIT_GATE_BITS;
}

void ThreadContext::TakeX87Now() {
  NoteX87Control();
  context().own_components |= JIT_X87_COMPONENT;
  context().must_be_initial |= JIT_X87_COMPONENT;
  context().is_bare = 0;  // so that all is loaded
}

void ThreadContext::NoteX87Control() { asm volatile("fnstcw %0" : "=m"(host_x87_control_)); }

void ThreadContext::GiveBackX87() {
  // The bit says whether the unit was in its initial state when the guest was left.
  std::uint64_t present;
  std::memcpy(&present, memory_ + kExtendedOffset + kPresentOffset, sizeof(present));
  if ((present & JIT_X87_COMPONENT) != 0 || host_x87_control_ != kInitialControlWord) {
    asm volatile("fninit\n\tfldcw %0" : : "m"(host_x87_control_));
  }
}

void ThreadContext::ClearFlags() {
  __builtin_ia32_writeeflags_u64(static_cast<std::uint64_t>(kPlainFlags));
}

bool ThreadContext::IsInGs() const {
  return ReadGsBase() == reinterpret_cast<std::uint64_t>(memory_);
}

// A processor may leave the initial state without a change of contents: AMD's Zen 4 counts AVX as
// in use after a legacy SSE instruction, if the upper halves of ZMM registers are. XSAVEOPT then
// sets the bit in XSTATE_BV, but as nothing has been modified since XRSTOR it writes nothing: what
// is in the area has to be the initial contents.
void ThreadContext::InitializeStale(std::uint64_t components) {
  layout_.Initialize(components, memory_ + kExtendedOffset);
}

// Blocks rely on RSP and the FS base being what isolation says they are.
ExitReason ThreadContext::EnterNow() {
  Context& state = context();
  std::uint64_t& rsp = state.gpr[kRsp];
  if (IsMask(isolation_)) {
    DUNEBOX_CHECK(state.fs_base < kUserHalfEnd, "the guest's FS base is not in the user half");
    rsp = Confine(rsp);
    const auto reason = static_cast<ExitReason>(dunebox_jit_enter());
    if (reason != ExitReason::kSignal) rsp = Unconfine(rsp);  // else RestoreGuest does
    return reason;
  }
  if (isolation_ == Isolation::kSeg) return EnterWindowNow();
  return static_cast<ExitReason>(dunebox_jit_enter());
}

[[gnu::flatten]] ExitReason ThreadContext::Enter(std::uint64_t host, EntryKind kind) {
  ClearInitialComponents();
  Context& state = context();
  pointers().resume = host;
  if (kind == EntryKind::kDirect) return EnterNow();
  // As an indirect jump of translated code leaves them.
  std::uint64_t& r11 = state.gpr[static_cast<unsigned>(Reg::kR11)];
  state.slot_rcx = state.gpr[static_cast<unsigned>(Reg::kRcx)];
  state.slot_r11 = std::exchange(r11, state.rip);
  const ExitReason reason = EnterNow();
  if (reason == ExitReason::kKicked) r11 = state.slot_r11;
  return reason;
}

// The kernel writes the area that libc has registered for each thread whenever the thread is moved,
// and ends the process when protection key 0 is shut; and FS base, by which libc finds it, is the
// guest's. libc goes on without.
void UnregisterRseq() {
  constexpr unsigned kRegisteredSize = 32;  // [linux] struct rseq as of its first version
  constexpr unsigned kSignature = 0x53053053;
  if (__rseq_size == 0) return;
  std::byte* const area = static_cast<std::byte*>(__builtin_thread_pointer()) + __rseq_offset;
  // Fails when this thread has done it before.
  syscall(SYS_rseq, area, std::max(__rseq_size, kRegisteredSize), RSEQ_FLAG_UNREGISTER, kSignature);
}

thread_local constinit bool internal::is_host_thread_ready = false;

namespace {

// Of one host thread: destructors that run behind the stack's own may bring the thread into a sandbox again, of its
// thread-local objects, and in the first thread of static ones.
thread_local constinit stack_t stack_before{};
thread_local constinit void* stack_memory = nullptr;

// What it leaves behind when the thread ends is as it was before.
class HostThreadStack {
 public:
  HostThreadStack() = default;
  ~HostThreadStack() {
    if (stack_memory == nullptr) return;
    internal::is_host_thread_ready = false;
    syscall(SYS_sigaltstack, &stack_before, nullptr);
    munmap(std::exchange(stack_memory, nullptr), kSignalStackSize);
  }
  HostThreadStack(const HostThreadStack&) = delete;
  HostThreadStack& operator=(const HostThreadStack&) = delete;

  void Prepare() {
    UnregisterRseq();
    DUNEBOX_CHECK(syscall(SYS_sigaltstack, nullptr, &stack_before) == 0, "cannot ask for the signal stack");
    if ((stack_before.ss_flags & SS_DISABLE) != 0 || stack_before.ss_size < kLeastHostStack) Renew();
    internal::is_host_thread_ready = true;
  }
  void Renew() {
    if (stack_memory == nullptr) {
      stack_memory = mmap(nullptr, kSignalStackSize, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      DUNEBOX_CHECK(stack_memory != MAP_FAILED, "no memory for a signal stack");
    }
    const stack_t ours{.ss_sp = stack_memory, .ss_flags = 0, .ss_size = kSignalStackSize};
    DUNEBOX_CHECK(syscall(SYS_sigaltstack, &ours, nullptr) == 0, "cannot set a signal stack");
  }
};

thread_local HostThreadStack host_thread_stack;

}  // namespace

bool PrepareHostThread() {
  if (IsHostThreadReady()) return false;
  host_thread_stack.Prepare();
  return true;
}

void RenewHostThreadStack() { host_thread_stack.Renew(); }

void ForgetContext() {
  if (IsGuestFsPossible()) WriteGsBase(0);
}

// ---- signal handlers ----------------------------------------------------------------------------

Context* CurrentContext() {
  if (!IsGuestFsPossible()) return nullptr;
  return reinterpret_cast<Context*>(ReadGsBase());
}

void LeaveTranslatedCode(Context& context, ucontext_t& machine) {
  const Way& way = WayOf(context);
  const auto rip = static_cast<std::uint64_t>(machine.uc_mcontext.gregs[REG_RIP]);
  if (IsTranslatedCode(context, rip)) {
    context.fault_signal = 0;
    LeaveAt(context, machine);
  } else if (rip >= AddressOf(way.enter_window) && rip < AddressOf(way.enter_window_end)) {
    ContinueAt(context, machine, way.enter_abort);
  }
  if (rip >= AddressOf(way.lookup) && rip < AddressOf(way.lookup_end)) {
    // The lookup would go back into translated code.
    if (rip != AddressOf(way.lookup)) {
      machine.uc_mcontext.gregs[REG_RDX] = static_cast<greg_t>(context.slot_scratch[0]);
    }
    machine.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(AddressOf(way.exit_lookup));
  }
  // In an exit stub or behind it: the runtime sees the flag when it is there.
}

bool TakeGuestFault(Context& context, const siginfo_t& info, ucontext_t& machine) {
  const auto rip = static_cast<std::uint64_t>(machine.uc_mcontext.gregs[REG_RIP]);
  if (!IsTranslatedCode(context, rip)) return false;
  context.fault_signal = static_cast<std::uint32_t>(info.si_signo);
  context.fault_code = info.si_code;
  context.fault_vector = static_cast<std::uint64_t>(machine.uc_mcontext.gregs[REG_TRAPNO]);
  context.fault_error = static_cast<std::uint64_t>(machine.uc_mcontext.gregs[REG_ERR]);
  context.fault_address = reinterpret_cast<std::uint64_t>(info.si_addr) - context.window_base;
  LeaveAt(context, machine);
  return true;
}

}  // namespace dunebox::jit
