#include "runtime/jit/jit_engine.h"

#include <cpuid.h>
#include <immintrin.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/dispatch/arguments.h"
#include "hostcalls/host_cpuid.h"
#include "hostcalls/memory/protection_keys.h"
#include "hostcalls/table/table.h"
#include "jit-fallback/decode/instruction.h"
#include "libdune/x86/guest_cpuid.h"
#include "runtime/jit/clock_pages.h"
#include "runtime/jit/dump.h"
#include "runtime/jit/jit_thread.h"

namespace dunebox::runtime {
namespace {

constexpr std::uint64_t kHwcap2Fsgsbase = 1 << 1;  // [linux] HWCAP2_FSGSBASE
constexpr std::size_t kMostCodeBytes = 4096;

// Calls without arguments that go to the kernel as they are and come back at once: a thread in
// translated code must not block.
constexpr std::uint64_t kInPlaceCalls[] = {SYS_getpid,  SYS_gettid,  SYS_getppid, SYS_getpgrp,
                                           SYS_getuid,  SYS_geteuid, SYS_getgid,  SYS_getegid,
                                           SYS_sched_yield};

bool RunsInPlace(std::int64_t number) {
  const auto call = static_cast<std::uint64_t>(number);
  if (std::ranges::find(kInPlaceCalls, call) == std::end(kInPlaceCalls)) return false;
  const hostcalls::Row* row = hostcalls::FindRow(call);
  return row != nullptr && row->route == hostcalls::Route::kForwarded &&
         row->argument_count() == 0;
}

// LOOP is one operation on AMD's and Hygon's processors and about seven on Intel's.
bool HasFastLoop() {
  constexpr unsigned kHygon = 0x656e6975;  // "uine", the last four letters of the vendor
  const unsigned vendor = hostcalls::AskHostCpuid(0).ecx;
  return vendor == signature_AMD_ecx || vendor == kHygon;
}

// Where executable memory that begins at `pc` ends, at most `most` bytes on.
std::uint64_t ExecutableEnd(const memory::VmaMap& map, std::uint64_t pc, std::uint64_t most) {
  std::uint64_t end = pc;
  while (end < pc + most) {
    const memory::Vma* vma = map.Find(GuestVirt{end});
    if (vma == nullptr || !vma->protection.execute) break;
    end = vma->range.end.value;
  }
  return std::min(end, pc + most);
}

// XCR0's lower half.
[[gnu::target("xsave")]] std::uint32_t EnabledComponents() {
  return static_cast<std::uint32_t>(_xgetbv(0));
}

// Of the second lookup table. [intel/vol2 CPUID] SSE4.2
bool HasCrc32() {
  static const bool has = (hostcalls::FeaturesOfHost(1).ecx & bit_SSE4_2) != 0;
  return has;
}

struct ReasonName {
  jit::ExitReason reason;
  std::string_view name;
};
constexpr ReasonName kReasonNames[] = {
    {jit::ExitReason::kLink, "entries.link_missing"},
    {jit::ExitReason::kLookup, "entries.lookup_miss"},
    {jit::ExitReason::kSystemCall, "entries.system_call"},
    {jit::ExitReason::kEmulate, "entries.emulate"},
    {jit::ExitReason::kTrap, "entries.trap"},
    {jit::ExitReason::kStale, "entries.stale_code"},
    {jit::ExitReason::kSignal, "entries.signal_or_fault"},
    {jit::ExitReason::kKicked, "entries.kicked"},
    {jit::ExitReason::kBudget, "entries.budget"},
};

}  // namespace

absl::Status JitEngine::CheckHost() {
  if ((getauxval(AT_HWCAP2) & kHwcap2Fsgsbase) == 0) {
    return absl::UnavailableError(
        "--engine=jit needs a processor and kernel with FSGSBASE (Linux 5.9)");
  }
  if (!HasCrc32()) return absl::UnavailableError("--engine=jit needs a processor with SSE4.2");
  return absl::OkStatus();
}

absl::Status JitEngine::TryHost() {
  if (absl::Status status = CheckHost(); !status.ok()) return status;
  constexpr int kAnswer = 42;
  constexpr std::array<std::uint8_t, 6> kCode = {0xb8, kAnswer, 0, 0, 0, 0xc3};  // mov eax; ret
  absl::StatusOr<jit::CodeMemory> memory = jit::CodeMemory::Create(kPageSize);
  if (!memory.ok()) return memory.status();
  memory->Write(0, kCode);
  if (reinterpret_cast<int (*)()>(memory->address())() != kAnswer) {
    return absl::InternalError("what is written to translated code's memory is not what runs");
  }
  return absl::OkStatus();
}

JitEngine::JitEngine(memory::AddressSpace& space, jit::Isolation isolation)
    : space_(space),
      isolation_(isolation),
      extended_layout_(jit::ExtendedLayout::OfHost(dune::x86::kExtendedFeatureMask)),
      code_pages_(space.memory()) {}

jit::EmitterOptions JitEngine::EmitterFor(jit::Isolation isolation) {
  const std::uint64_t shown = jit::ExtendedLayout::OfHost(dune::x86::kExtendedFeatureMask).mask;
  static const bool has_fast_loop = HasFastLoop();  // in a virtual machine each CPUID is an exit
  return {.isolation = isolation,
          .runs_in_place = RunsInPlace,
          .check_by_loop = has_fast_loop,
          .hidden_components = EnabledComponents() & ~static_cast<std::uint32_t>(shown)};
}

absl::StatusOr<std::unique_ptr<JitEngine>> JitEngine::Create(JitOptions options,
                                                             memory::AddressSpace& space) {
  if (absl::Status status = CheckHost(); !status.ok()) return status;
  std::unique_ptr<JitEngine> engine(new JitEngine(space, options.isolation));
  if (options.isolation == jit::Isolation::kSeg) {
    engine->window_base_ = space.memory().window().base;
  }
  if (absl::Status status = engine->ReserveGuard(); !status.ok()) return status;
  if (options.isolation == jit::Isolation::kPku) {
    absl::Status status = hostcalls::OpenProtectionKeys();
    if (status.ok()) status = space.UseKey(DUNE_KEY_GUEST);
    if (!status.ok()) return status;
  }
  jit::Translator::Options& translation = engine->translation_;
  translation.cache_size = options.cache_size;
  translation.emitter = EmitterFor(options.isolation);
  // Shared translations outlive the engine that has made them, and nothing is aliased there.
  if (engine->can_alias_host_pages()) {
    translation.emitter.map_target = [raw = engine.get()](std::uint64_t target) {
      const bool aliased = target >= raw->alias_.start.value && target < raw->alias_.end.value;
      return aliased ? raw->alias_host_ + (target - raw->alias_.start.value) : target;
    };
  }
  translation.emitter.counts_instructions = options.counts_instructions;
  translation.emitter.runs_in_place = nullptr;
  if (options.in_place_calls.any()) {
    translation.emitter.runs_in_place = [allowed = options.in_place_calls](std::int64_t number) {
      return RunsInPlace(number) && allowed.test(static_cast<std::size_t>(number));
    };
  }
  translation.measure_time = options.measure_time;
  translation.is_called = options.is_called;
  if (options.keeps_blocks) translation.store = jit::BlockStore::ForProcess(translation.emitter);
  translation.prepared = std::move(options.prepared);
  engine->perf_map_ = std::move(options.perf_map);
  engine->perf_dump_ = std::move(options.perf_dump);
  if (engine->perf_map_ != nullptr || engine->perf_dump_ != nullptr) {
    translation.on_block = [raw = engine.get()](const jit::MadeBlock& block) { raw->TellPerf(block); };
  }
  engine->recorder_ = std::move(options.recorder);
  if (engine->recorder_ != nullptr) engine->recorder_->Describe(translation.emitter);
  if (options.code_fd >= 0) {
    engine->code_writer_ = std::make_unique<GuestCodeWriter>(options.code_fd, options.report_fd);
  }
  if (engine->recorder_ != nullptr || engine->code_writer_ != nullptr) {
    translation.on_new_code = [raw = engine.get()](const jit::NewCode& code) {
      if (raw->recorder_ != nullptr) raw->recorder_->Add(code);
      if (raw->code_writer_ != nullptr) raw->code_writer_->Add(code);
    };
  }
  if (options.shared != nullptr) {
    engine->translator_ = options.shared->translator;
    engine->shared_ = std::move(options.shared);
  } else {
    absl::StatusOr<std::unique_ptr<jit::Translator>> translator =
        jit::Translator::Create(translation);
    if (!translator.ok()) return translator.status();
    engine->translator_ = *std::move(translator);
  }
  space.SetObserver(engine.get());
  space.memory().SetWatcher(engine.get());
  return engine;
}

JitEngine::~JitEngine() {
  if (!guard_.empty()) munmap(guard_.data(), guard_.size());
  space_.memory().SetWatcher(nullptr);
  space_.SetObserver(nullptr);
}

// Nothing may be mapped right above the user half or the window: confined operands, and RSP in a
// window, reach a little further. (Before a window, below address zero, nothing can be.)
absl::Status JitEngine::ReserveGuard() {
  std::uint64_t start = jit::kUserHalfEnd;
  std::size_t size = jit::kGuardSize;
  if (space_.memory().window().is_reserved) return absl::OkStatus();
  if (window_base_) {
    start = *window_base_ + space_.memory().window().limit;
    size = jit::kWindowGuard;
  } else if (!jit::IsMask(isolation_)) {
    return absl::OkStatus();
  }
  void* const at = reinterpret_cast<void*>(start);
  void* const got = mmap(at, size, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got != at) {
    return absl::ErrnoToStatus(errno, "cannot keep the memory above the program's free");
  }
  guard_ = {static_cast<std::byte*>(got), size};
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<jit::ThreadContext>> JitEngine::CreateContext() {
  if (shared_ != nullptr) {
    return jit::ThreadContext::CreateWith(*shared_->known, shared_->empty, extended_layout_, *window_base_);
  }
  std::unique_ptr<jit::ThreadContext> parked = translator_->TakeParked(window_base_.value_or(0));
  if (parked != nullptr) return parked;
  return jit::ThreadContext::Create(extended_layout_, isolation_, window_base_);
}

absl::StatusOr<std::unique_ptr<EngineThread>> JitEngine::CreateThread() {
  const std::lock_guard lock(sharing_mutex_);
  if (translator_ == nullptr) return absl::ResourceExhaustedError("no memory for translated code");
  absl::StatusOr<std::unique_ptr<jit::ThreadContext>> context = CreateContext();
  if (!context.ok()) return context.status();
  return std::make_unique<JitThread>(*this, translator_, *std::move(context));
}

absl::Status JitEngine::AliasHostPages(const GuestRange& at, const void* host) {
  alias_ = at;
  alias_host_ = reinterpret_cast<std::uint64_t>(host);
  return isolation_ == jit::Isolation::kPku ? OpenClockPages() : absl::OkStatus();
}

void JitEngine::TellPerf(const jit::MadeBlock& block) {
  const auto size = static_cast<std::uint32_t>(block.code.size());
  if (perf_map_ != nullptr) perf_map_->Add(block.pc, block.host, size);
  if (perf_dump_ != nullptr) perf_dump_->Add(block);
}

void JitEngine::LockForFork() {
  if (perf_dump_ != nullptr) perf_dump_->LockForFork();
  if (perf_map_ != nullptr) perf_map_->LockForFork();
  sharing_mutex_.lock();
  translator_->LockForFork();
  code_pages_.LockForFork();
  breakpoints_mutex_.lock();
}

void JitEngine::UnlockAfterFork() {
  breakpoints_mutex_.unlock();
  code_pages_.UnlockAfterFork();
  translator_->UnlockAfterFork();
  sharing_mutex_.unlock();
  if (perf_map_ != nullptr) perf_map_->UnlockAfterFork();
  if (perf_dump_ != nullptr) perf_dump_->UnlockAfterFork();
}

std::vector<Counter> JitEngine::Counters() {
  const jit::TranslatorStatistics done = translator_->statistics();
  std::vector<Counter> counters;
  const auto add = [&](std::string_view name, std::uint64_t value) {
    counters.push_back({name, value});
  };
  add("blocks", done.cache.blocks - done.entry_stubs);
  add("blocks.entry_stubs", done.entry_stubs);
  add("blocks.taken", done.taken);
  add("blocks.invalidated", done.cache.invalidated);
  add("bytes.guest", done.cache.guest_bytes);
  add("bytes.host", done.cache.host_bytes);
  add("links", done.cache.links);
  add("flushes", done.cache.flushes);
  add("code_page_write_faults", code_page_faults_.load(std::memory_order_relaxed));
  std::uint64_t entries = 0;
  for (const std::uint64_t count : done.exits) entries += count;
  add("entries", entries);
  for (const ReasonName& row : kReasonNames) {
    add(row.name, done.exits[static_cast<std::size_t>(row.reason)]);
  }
  add("translate_microseconds", done.translate_nanoseconds / 1000);
  return counters;
}

std::string JitEngine::Dump(const std::string& place) {
  return DumpBlocks(*translator_, space_, place);
}

void JitEngine::OnProgramEnd() {
  if (perf_dump_ != nullptr) perf_dump_->Close();
}

absl::StatusOr<bool> JitEngine::ContinueAfterFork(EngineThread& self) {
  absl::Status status = translator_->ContinueAfterFork(static_cast<JitThread&>(self).thread());
  if (!status.ok()) return status;
  code_page_faults_.store(0, std::memory_order_relaxed);
  if (perf_map_ != nullptr) perf_map_->ContinueAfterFork();
  if (perf_dump_ != nullptr) perf_dump_->ContinueAfterFork(translator_->LivingBlocks());
  if (recorder_ != nullptr) recorder_->ContinueAfterFork();
  return true;
}

void JitEngine::Forget(const GuestRange& range) {
  if (IsOfShared(range)) StopSharing();
  if (const auto own = OwnTranslator()) own->Invalidate(range.start.value, range.end.value);
  code_pages_.Forget(range);
  set_watching(code_pages_.any_protected());
}

// What is shared was made of the image itself.
void JitEngine::ForgetMappings(const GuestRange& range) {
  if (!IsSharing()) Forget(range);
}

// The kernel fails with EFAULT where a store of the guest's would be seen as a fault.
void JitEngine::BeforeAccess(std::uint64_t address, std::uint64_t size) {
  const GuestRange range{GuestVirt{address}, GuestVirt{address + size}};
  if (!code_pages_.Unprotect(range)) return;
  if (const auto own = OwnTranslator()) own->Invalidate(PageDown(address), PageUp(range.end.value));
}

// Every page of the range that the guest may write.
bool JitEngine::AllProtected(const memory::VmaMap& map, const GuestRange& range) {
  for (std::uint64_t at = PageDown(range.start.value); at < range.end.value; at += kPageSize) {
    const memory::Vma* vma = map.Find(GuestVirt{at});
    if (vma != nullptr && vma->protection.write && !code_pages_.IsProtected(GuestVirt{at})) {
      return false;
    }
  }
  return true;
}

bool JitEngine::WatchPage(GuestVirt start) {
  const CodePages::Watch watch = code_pages_.Protect(start);
  if (watch != CodePages::Watch::kFresh) return watch == CodePages::Watch::kThere;
  const GuestRange page{start, start + kPageSize};
  if (!IsAnyCallWriting(page)) return true;
  // Who makes blocks of it meanwhile finds them invalid.
  BeforeAccess(start.value, kPageSize);
  return false;
}

bool JitEngine::IsAnyCallWriting(const GuestRange& page) {
  const std::shared_ptr<jit::Translator> translator = CurrentTranslator();
  return translator != nullptr && translator->IsAnyAtCall(*this, [&](const jit::Context& registers) {
    const auto& gpr = registers.gpr;
    const hostcalls::Row* const row = hostcalls::FindRow(gpr[0]);
    if (row == nullptr) return false;
    bool is_writing = false;
    hostcalls::ForEachWritten(*row, {gpr[7], gpr[6], gpr[2], gpr[10], gpr[8], gpr[9]}, space_.memory(),
                              [&](const GuestRange& range) { is_writing = is_writing || range.Overlaps(page); });
    return is_writing;
  });
}

bool JitEngine::SetBreakpoints(std::span<const std::uint64_t> addresses) {
  std::vector<std::uint64_t> changed;
  {
    const std::lock_guard lock(breakpoints_mutex_);
    std::ranges::set_symmetric_difference(breakpoints_, addresses, std::back_inserter(changed));
    breakpoints_.assign(addresses.begin(), addresses.end());
  }
  for (const std::uint64_t address : changed) translator_->Invalidate(address, address + 1);
  return true;
}

std::uint64_t JitEngine::NextBreakpoint(std::uint64_t start, std::uint64_t end) {
  const std::lock_guard lock(breakpoints_mutex_);
  const auto next = std::ranges::lower_bound(breakpoints_, start);
  return next == breakpoints_.end() ? end : std::min(*next, end);
}

void JitEngine::WithCode(std::uint64_t pc, std::size_t most, Purpose purpose, Use use) {
  const bool watch = purpose == Purpose::kBlock;
  std::array<std::uint8_t, kMostCodeBytes> bytes;
  bool is_own = false;
  space_.WithMap([&](const memory::VmaMap& map) {
    const std::uint64_t end = ExecutableEnd(map, pc, std::min(most, bytes.size()));
    // A block that runs once takes the place of one that others may be using.
    is_own = purpose != Purpose::kLook && IsSharing() &&
             (purpose == Purpose::kSingle || !IsShared({GuestVirt{pc}, GuestVirt{end}}));
    if (is_own) return;
    std::size_t have = 0;
    bool is_watched = watch;
    // Page by page: what is past the end of a file is not there.
    for (std::uint64_t at = pc; at < end;) {
      const std::uint64_t part = std::min(end, PageDown(at) + kPageSize) - at;
      const memory::Vma* vma = map.Find(GuestVirt{at});
      // Shared memory changes by other addresses and other processes, too, if there are any.
      if (vma->sharing == memory::Sharing::kShared && !vma->is_only_view) {
        is_watched = false;
      } else if (watch && vma->protection.write) {
        set_watching(true);
        if (!WatchPage(GuestVirt{PageDown(at)})) is_watched = false;
      }
      if (!space_.memory().Read(at, std::as_writable_bytes(std::span(bytes).subspan(have, part)))) {
        break;
      }
      have += part;
      at += part;
    }
    const std::uint64_t breakpoint = NextBreakpoint(pc, pc + have);
    if (have != 0 && breakpoint == pc) {
      // Taken back by Invalidate, whatever happens to the guest's bytes.
      constexpr std::array<std::uint8_t, 1> kInt3 = {0xcc};
      use({.bytes = kInt3, .is_watched = true, .is_still_watched = [] { return true; }});
      return;
    }
    // A block ends before a breakpoint, and behind its first instruction if that is in the middle of it.
    if (breakpoint < pc + have) {
      jit::Instruction first;
      const bool is_one = jit::Decode(std::span(bytes).first(have), first) == jit::DecodeStatus::kOk;
      have = std::max<std::size_t>(breakpoint - pc, is_one ? first.length : 0);
    }
    const GuestRange read{GuestVirt{pc}, GuestVirt{pc + have}};
    const auto is_still_watched = [&] { return AllProtected(map, read); };
    use({.bytes = std::span(bytes).first(have),
         .is_watched = is_watched,
         .is_still_watched = is_still_watched});
  });
  if (!is_own) return;
  StopSharing();
  use({.bytes = {}, .is_watched = false, .is_still_watched = [] { return false; }, .is_own = true});
}

// ---- shared translations ------------------------------------------------------------------------

std::shared_ptr<jit::Translator> JitEngine::CurrentTranslator() {
  const std::lock_guard lock(sharing_mutex_);
  return translator_;
}

std::shared_ptr<jit::Translator> JitEngine::OwnTranslator() {
  const std::lock_guard lock(sharing_mutex_);
  return shared_ == nullptr ? translator_ : nullptr;
}

bool JitEngine::IsSharing() {
  const std::lock_guard lock(sharing_mutex_);
  return shared_ != nullptr;
}

bool JitEngine::IsShared(const GuestRange& code) {
  const std::lock_guard lock(sharing_mutex_);
  return shared_ != nullptr && shared_->ranges.Contains(code);
}

bool JitEngine::IsOfShared(const GuestRange& range) {
  const std::lock_guard lock(sharing_mutex_);
  return shared_ != nullptr && shared_->ranges.SizeIn(range) != 0;
}

void JitEngine::GoOnWith(std::shared_ptr<jit::Translator> translator) {
  if (translator == translator_) return;
  const std::shared_ptr<jit::Translator> before = std::exchange(translator_, std::move(translator));
  if (before != nullptr) before->Evict(*this, kick_);
}

// Something is to be executed that is this guest's alone.
void JitEngine::StopSharing() {
  const std::lock_guard lock(sharing_mutex_);
  if (shared_ == nullptr) return;
  absl::StatusOr<std::unique_ptr<jit::Translator>> own = jit::Translator::Create(translation_);
  GoOnWith(own.ok() ? *std::move(own) : nullptr);
  shared_ = nullptr;
}

absl::StatusOr<std::shared_ptr<const SharedCode>> JitEngine::Share(memory::RangeSet ranges) {
  const std::lock_guard lock(sharing_mutex_);
  absl::StatusOr<std::shared_ptr<const jit::LookupTable>> empty = jit::LookupTable::Empty();
  if (!empty.ok()) return empty.status();
  const bool is_same = shared_ != nullptr && shared_->ranges == ranges;
  if ((shared_ != nullptr && !is_same) || translator_ == nullptr) {
    absl::StatusOr<std::unique_ptr<jit::Translator>> fresh = jit::Translator::Create(translation_);
    if (!fresh.ok()) return fresh.status();
    GoOnWith(*std::move(fresh));
    shared_ = nullptr;
  }
  if (!is_same) InvalidateAllBut(ranges);
  absl::StatusOr<std::shared_ptr<const jit::LookupTable>> known = translator_->MakeTable();
  if (!known.ok()) return known.status();
  if (!is_same) StopWatching();
  shared_ = std::make_shared<const SharedCode>(SharedCode{.translator = translator_,
                                                          .ranges = std::move(ranges),
                                                          .known = *std::move(known),
                                                          .empty = *std::move(empty)});
  return shared_;
}

void JitEngine::KeepOnly(const memory::RangeSet& ranges) {
  InvalidateAllBut(ranges);
  StopWatching();
}

void JitEngine::InvalidateAllBut(const memory::RangeSet& ranges) {
  std::uint64_t end = 0;
  ranges.ForEach([&](const GuestRange& range) {
    translator_->Invalidate(end, range.start.value);
    end = range.end.value;
  });
  translator_->Invalidate(end, space_.memory().window().limit);
}

void JitEngine::ReturnTo(std::shared_ptr<const SharedCode> shared) {
  const std::lock_guard lock(sharing_mutex_);
  if (shared_ == shared) return;
  StopWatching();
  GoOnWith(shared->translator);
  shared_ = std::move(shared);
}

// Nothing is left that was translated from memory that the guest may write.
void JitEngine::StopWatching() {
  code_pages_.Forget({GuestVirt{0}, GuestVirt{space_.memory().window().limit}});
  set_watching(false);
}

bool JitEngine::MayAccess(GuestVirt address, bool write) const {
  return space_.WithVma(address, [&](const memory::Vma* vma) {
    return vma != nullptr && (write ? vma->protection.write : vma->protection.any());
  });
}

JitEngine::WriteFault JitEngine::OnWriteFault(GuestVirt address) {
  const GuestVirt page{PageDown(address.value)};
  return space_.WithMap([&](const memory::VmaMap& map) {
    const memory::Vma* vma = map.Find(address);
    if (vma == nullptr || !vma->protection.write) return WriteFault::kNotOurs;
    // In this order: a thread that is making a block of the page asks, after it has entered the
    // block, whether the page is still protected.
    const bool was_protected = code_pages_.Unprotect({page, page + kPageSize});
    if (was_protected) code_page_faults_.fetch_add(1, std::memory_order_relaxed);
    if (const auto own = OwnTranslator()) own->Invalidate(page.value, page.value + kPageSize);
    return was_protected ? WriteFault::kCodePage : WriteFault::kAllowed;
  });
}

}  // namespace dunebox::runtime
