#include "jit-fallback/dispatch/translator.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "hostcalls/asymmetric_fence.h"
#include "hostcalls/check.h"
#include "jit-fallback/dispatch/confined_fault.h"
#include "jit-fallback/dispatch/recover.h"

namespace dunebox::jit {
namespace {

// Of what threads have left there may be as much as has so many entries of first tables: 4 MiB of them, in eight that are
// whole or 32 that are folded, and what their threads have touched besides. A fork takes 6 us longer for each.
constexpr std::uint64_t kMostParkedEntries = std::uint64_t{8} * JIT_TABLE_ENTRIES;

// Enough for the longest block: Limits::instructions of at most 15 bytes, in practice 4 each.
constexpr std::size_t kMostCodeBytes = 512;

constexpr std::size_t kMostInstructionBytes = 30;  // with superfluous prefixes

// Copying more than this at a fork takes longer than a child is likely to need for translating.
constexpr std::size_t kMostCopiedCode = std::size_t{8} << 20;

// The check at the entry covers what runs until the next store.
constexpr Limits kSelfCheckingLimits = {.instructions = 16, .branches = 1, .ends_at_store = true};

std::uint64_t Nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// Adds the time it lives to a sum, if somebody wants to know.
class Stopwatch {
 public:
  Stopwatch(bool measure, std::uint64_t& sum)
      : sum_(measure ? &sum : nullptr), begin_(measure ? Nanoseconds() : 0) {}
  ~Stopwatch() {
    if (sum_ != nullptr) *sum_ += Nanoseconds() - begin_;
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  std::uint64_t* const sum_;
  const std::uint64_t begin_;
};

// Executable memory is readable.
MadeBlock CopyOf(const CodeCache& cache, std::uint32_t id) {
  const CodeBlock& block = cache.block(id);
  const auto* const code = reinterpret_cast<const std::uint8_t*>(cache.StartOf(id));
  return {.pc = block.pc, .host = cache.StartOf(id), .code = {code, code + block.host_length}};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Translator>> Translator::Create(Options options) {
  absl::StatusOr<std::unique_ptr<CodeCache>> cache =
      CodeCache::Create(options.cache_size, ContextPrefix(options.emitter.isolation));
  if (!cache.ok()) return cache.status();
  (*cache)->SetListener(options.on_new_code);
  return std::unique_ptr<Translator>(new Translator(std::move(options), *std::move(cache)));
}

Translator::Translator(Options options, std::unique_ptr<CodeCache> cache)
    : options_(std::move(options)),
      cache_(std::move(cache)),
      emitter_(options_.emitter) {}

void Translator::Enlist(TranslatedThread& thread) {
  thread.context().SetCache(cache_->start(), cache_->code_end());
  std::lock_guard lock(mutex_);
  // What it has been told was right before the cache was emptied.
  const std::optional<std::uint32_t> known = thread.context().known_generation();
  if (known && *known != cache_->generation()) thread.context().ForgetTargets();
  const std::optional<std::uint64_t> as_of = thread.context().targets_as_of();
  if (as_of && *as_of != taken_back_) thread.context().ClearTargets();
  threads_.push_back(&thread);
}

void Translator::Dismiss(TranslatedThread& thread) {
  std::lock_guard lock(mutex_);
  Forget(thread);
}

// Preconditions: the lock is held.
void Translator::Forget(TranslatedThread& thread) {
  std::erase(threads_, &thread);
  for (std::size_t i = 0; i < kExitReasons; ++i) past_exits_[i] += thread.exits_[i].Get();
}

// What there is no room for goes with the thread, behind the lock: all processors take part in unmapping it.
void Translator::Retire(TranslatedThread& thread) {
  thread.context().Detach();
  std::lock_guard lock(mutex_);
  Forget(thread);
  const std::uint64_t entries = thread.context().table_entries();
  if (options_.is_called || parked_entries_ + entries > kMostParkedEntries) return;
  thread.context().KeepTargets(taken_back_);
  parked_entries_ += entries;
  parked_.push_back(std::move(thread.context_));
}

std::unique_ptr<ThreadContext> Translator::TakeParked(std::uint64_t window_base) {
  std::lock_guard lock(mutex_);
  if (parked_.empty() || parked_.back()->window_base() != window_base) return nullptr;
  std::unique_ptr<ThreadContext> context = std::move(parked_.back());
  parked_.pop_back();
  parked_entries_ -= context->table_entries();
  return context->Renew() ? std::move(context) : nullptr;
}

// A child has no use for what is parked, and to copy it would take longer than all the rest of a fork.
void Translator::LockForFork() {
  mutex_.lock();
  for (const std::unique_ptr<ThreadContext>& context : parked_) context->LeaveAtFork();
  cache_->PrepareForFork();
}

TranslatorStatistics Translator::statistics() {
  std::lock_guard lock(mutex_);
  TranslatorStatistics result{.cache = cache_->counters(),
                              .entry_stubs = entry_stubs_,
                              .taken = taken_,
                              .translate_nanoseconds = translate_nanoseconds_,
                              .exits = past_exits_};
  result.cache.guest_bytes -= entry_stub_guest_bytes_;
  for (const TranslatedThread* thread : threads_) {
    for (std::size_t i = 0; i < kExitReasons; ++i) result.exits[i] += thread->exits_[i].Get();
  }
  return result;
}

void Translator::Inspect(absl::FunctionRef<void(const CodeCache&)> look) {
  std::lock_guard lock(mutex_);
  look(*cache_);
}

std::vector<MadeBlock> Translator::LivingBlocks() {
  std::vector<MadeBlock> blocks;
  Inspect([&](const CodeCache& cache) {
    for (std::uint32_t id = 0; id < cache.size(); ++id) {
      if (!cache.block(id).dead) blocks.push_back(CopyOf(cache, id));
    }
  });
  return blocks;
}

absl::StatusOr<std::shared_ptr<const LookupTable>> Translator::MakeTable() {
  std::vector<KnownTarget> known;
  std::uint32_t generation = 0;
  Inspect([&](const CodeCache& cache) {
    generation = cache.generation();
    cache.ForEachIndirect([&](std::uint64_t pc, std::uint64_t host) { known.push_back({pc, host}); });
  });
  return LookupTable::Create(known, generation);
}

void Translator::Announce() {
  if (!options_.on_block) return;
  std::vector<MadeBlock> made;
  {
    std::lock_guard lock(mutex_);
    made.swap(made_);
  }
  for (const MadeBlock& block : made) options_.on_block(block);
}

// Preconditions: the lock is held and block_ is translated.
std::uint32_t Translator::Make(EntryKind kind) {
  const std::uint32_t id = MakeNow(kind);
  TellOf(id);
  return id;
}

void Translator::TellOf(std::uint32_t id) {
  if (options_.on_block) made_.push_back(CopyOf(*cache_, id));
}

std::optional<FoundBlock> Translator::FindKept(std::uint64_t pc, std::span<const std::uint8_t> bytes,
                                               EntryKind kind) {
  if (!keeps_copies()) return std::nullopt;
  // A stub is enough for it.
  if (kind == EntryKind::kIndirect && cache_->Find(pc, EntryKind::kDirect) != kNone) return std::nullopt;
  std::optional<FoundBlock> found;
  if (options_.prepared != nullptr) found = options_.prepared->Find(pc, bytes, kind, moved_);
  if (!found && options_.store != nullptr) found = options_.store->Find(pc, bytes, kind, moved_);
  // It was made where nothing is shown at another place.
  const auto& map = options_.emitter.map_target;
  const auto is_elsewhere = [&](std::uint64_t target) { return map(target) != target; };
  if (found && map && std::ranges::any_of(moved_.addresses, is_elsewhere)) return std::nullopt;
  return found;
}

bool Translator::WouldAdmitX87(const FoundBlock& kept) const {
  return kept.may_use_x87 && options_.is_called && !may_use_x87_.load(std::memory_order_relaxed);
}

std::uint32_t Translator::Add(std::uint64_t pc, std::span<const std::uint8_t> bytes, EntryKind kind,
                              const FoundBlock& kept) {
  block_.pc = pc;
  block_.length = kept.length;
  block_.bytes = bytes;
  block_.steps.clear();
  block_.is_self_checking = block_.is_single = false;
  std::uint32_t link = cache_->links();
  const std::uint32_t id = cache_->Add(block_, kind, kept.emitted);
  if (id == kNone) return kNone;
  // If no exit leads there, it may be that a call returns there.
  const std::uint64_t next = pc + kept.length;
  bool goes_on = false;
  for (const ExitSite& exit : kept.emitted.exits) {
    goes_on |= exit.target == next;
    ways_.push_back({exit.target, link++});
  }
  if (!goes_on) ways_.push_back({next, kNone});
  ++taken_;
  TellOf(id);
  return id;
}

std::uint32_t Translator::Take(std::uint64_t pc, std::span<const std::uint8_t> bytes, EntryKind kind) {
  ways_.clear();
  const std::optional<FoundBlock> kept = FindKept(pc, bytes, kind);
  if (!kept) return kNone;
  if (WouldAdmitX87(*kept)) AdmitX87();
  std::uint32_t id = Add(pc, bytes, kind, *kept);
  if (id == kNone) {
    Flush();
    id = Add(pc, bytes, kind, *kept);
  }
  if (id != kNone) TakeAlong(pc, bytes);
  return id;
}

// They are there because they were executed when they were made: this costs less than to come back for each.
void Translator::TakeAlong(std::uint64_t start, std::span<const std::uint8_t> bytes) {
  constexpr std::size_t kMost = 32;
  while (!ways_.empty() && taken_along_.size() < kMost) {
    const Way way = ways_.back();
    ways_.pop_back();
    if (way.target < start || way.target - start >= bytes.size()) continue;
    const EntryKind kind = way.link == kNone ? EntryKind::kIndirect : EntryKind::kDirect;
    std::uint32_t id = cache_->Find(way.target, kind);
    if (id == kNone) {
      const std::span<const std::uint8_t> rest = bytes.subspan(way.target - start);
      const std::optional<FoundBlock> kept = FindKept(way.target, rest, kind);
      if (!kept || WouldAdmitX87(*kept)) continue;
      id = Add(way.target, rest, kind, *kept);
      if (id == kNone) return;  // no room
      taken_along_.push_back(id);
    }
    if (way.link != kNone) cache_->LinkTo(way.link, id);
  }
}

std::uint32_t Translator::MakeNow(EntryKind kind) {
  const bool is_kept = options_.store != nullptr && !block_.is_self_checking && !block_.is_single;
  const bool asks_for_x87 = options_.is_called && !may_use_x87_.load(std::memory_order_relaxed);
  const bool may_use_x87 = (is_kept || asks_for_x87) && MayUseX87(block_);
  if (asks_for_x87 && may_use_x87) AdmitX87();
  for (;;) {
    if (kind == EntryKind::kIndirect && cache_->Find(block_.pc, EntryKind::kDirect) != kNone) {
      emitter_.EmitIndirectStub(block_, cache_->NextAddress());
      ++entry_stubs_;
      entry_stub_guest_bytes_ += block_.length;
    } else {
      emitter_.Emit(block_, kind, cache_->NextAddress());
      if (is_kept) options_.store->Add(block_, kind, emitter_, may_use_x87);
    }
    const std::uint32_t id = cache_->Add(block_, kind, emitter_.emitted());
    if (id != kNone) return id;
    Flush();
  }
}

// Preconditions: the lock is held, the calling thread is not running.
void Translator::StopThreads() {
  version_.fetch_add(1, std::memory_order_seq_cst);
  HeavyFence();
  cache_->UnlinkAll();
  // Others see the version before they enter translated code, and their tables cost memory.
  for (TranslatedThread* thread : threads_) {
    if (thread->IsRunning()) thread->context().ClearTargets();
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  // Every way on leads out now: this takes no longer than the longest block.
  for (TranslatedThread* thread : threads_) {
    while (thread->IsRunning()) sched_yield();
  }
}

void Translator::Flush() {
  StopThreads();
  for (TranslatedThread* thread : threads_) thread->context().ClearTargets();
  ++taken_back_;
  DUNEBOX_CHECK(cache_->Clear().ok(), "no memory for translated code");
}

// Threads that run now have the host's contents in the unit: they leave before there is a block to read them.
void Translator::AdmitX87() {
  may_use_x87_.store(true, std::memory_order_seq_cst);
  StopThreads();
}

// A guest can change its bytes at any time, for a moment also those that are watched. What becomes of
// that is its own affair, but what a store gives to others has to be what the bytes mean that it is
// found by: both are of one copy.
std::span<const std::uint8_t> Translator::BytesOf(const CodeSource::Code& code) {
  if (!keeps_copies()) return code.bytes;
  copied_.assign(code.bytes.begin(), code.bytes.end());
  return copied_;
}

BlockOutcome Translator::WithBlock(TranslatedThread& thread, std::uint64_t pc, EntryKind kind,
                                   Apply apply) {
  const auto apply_if_known = [&] {
    const std::uint32_t id = cache_->Find(pc, kind);
    if (id == kNone) return false;
    apply({id, cache_->AddressOf(id), version()});
    return true;
  };
  {
    std::lock_guard lock(mutex_);
    if (apply_if_known()) return BlockFound{};
  }
  std::optional<BlockOutcome> outcome;
  const auto make = [&](const CodeSource::Code& code) {
    if (code.is_own) {
      outcome = CodeNotShared{};
      return;
    }
    std::lock_guard lock(mutex_);
    if (apply_if_known()) {
      outcome = BlockFound{};
      return;
    }
    const Stopwatch stopwatch(options_.measure_time, translate_nanoseconds_);
    const std::span<const std::uint8_t> bytes = BytesOf(code);
    taken_along_.clear();
    std::uint32_t id = code.is_watched ? Take(pc, bytes, kind) : kNone;
    if (id == kNone) {
      Translate(pc, bytes, code.is_watched ? options_.limits : kSelfCheckingLimits, block_);
      if (const auto* fault = std::get_if<FetchFault>(&block_.terminal)) {
        outcome = CodeMissing{fault->address};
        return;
      }
      block_.is_self_checking = !code.is_watched;
      id = Make(kind);
    }
    // Whoever ends the watch does so before it invalidates: it has not seen these blocks, or will.
    if (code.is_watched && !code.is_still_watched()) {
      for (const std::uint32_t taken : taken_along_) cache_->Kill(taken);
      return cache_->Kill(id);
    }
    for (const std::uint32_t taken : taken_along_) {
      const CodeBlock& block = cache_->block(taken);
      if (block.kind == EntryKind::kIndirect) thread.context().SetTarget(block.pc, cache_->AddressOf(taken));
    }
    apply({id, cache_->AddressOf(id), version()});
    outcome = BlockFound{};
  };
  while (!outcome) thread.source_.WithCode(pc, kMostCodeBytes, CodeSource::Purpose::kBlock, make);
  Announce();
  return *outcome;
}

BlockOutcome Translator::WithSingle(CodeSource& source, std::uint64_t pc, Apply apply) {
  BlockOutcome outcome = BlockFound{};
  source.WithCode(pc, kMostCodeBytes, CodeSource::Purpose::kSingle, [&](const CodeSource::Code& code) {
    if (code.is_own) {
      outcome = CodeNotShared{};
      return;
    }
    std::lock_guard lock(mutex_);
    const Stopwatch stopwatch(options_.measure_time, translate_nanoseconds_);
    Translate(pc, code.bytes, {.instructions = 1, .branches = 1}, block_);
    if (const auto* fault = std::get_if<FetchFault>(&block_.terminal)) {
      outcome = CodeMissing{fault->address};
      return;
    }
    block_.is_single = true;
    // In place of a block that may be there: that one is stale, or made again.
    if (const std::uint32_t old = cache_->Find(pc, EntryKind::kDirect); old != kNone) {
      cache_->Kill(old);
      version_.fetch_add(1, std::memory_order_seq_cst);
    }
    const std::uint32_t id = Make(EntryKind::kDirect);
    cache_->Kill(id);
    apply({id, cache_->AddressOf(id), version()});
  });
  Announce();
  return outcome;
}

void Translator::Invalidate(std::uint64_t start, std::uint64_t end) {
  std::lock_guard lock(mutex_);
  const std::vector<std::uint32_t> blocks = cache_->BlocksIn(start, end);
  if (blocks.empty()) return;
  version_.fetch_add(1, std::memory_order_seq_cst);
  for (const std::uint32_t id : blocks) {
    const CodeBlock& block = cache_->block(id);
    if (block.kind == EntryKind::kIndirect) {
      ++taken_back_;
      for (TranslatedThread* thread : threads_) thread->context().ClearTarget(block.pc);
    }
    cache_->Kill(id);
  }
}

bool Translator::IsAnyAtCall(const CodeSource& source, absl::FunctionRef<bool(const Context& registers)> is_one) {
  std::lock_guard lock(mutex_);
  if (threads_.size() == 1) return false;  // it asks
  HeavyFence();
  return std::ranges::any_of(threads_, [&](const TranslatedThread* thread) {
    return &thread->source_ == &source && thread->where_.load(std::memory_order_acquire) == TranslatedThread::Where::kAtCall &&
           is_one(thread->context_->context());
  });
}

void Translator::Evict(const CodeSource& source, absl::FunctionRef<void()> kick) {
  std::lock_guard lock(mutex_);
  for (TranslatedThread* thread : threads_) {
    if (&thread->source_ == &source) thread->must_move_.store(true, std::memory_order_seq_cst);
  }
  kick();
  HeavyFence();
  for (TranslatedThread* thread : threads_) {
    while (&thread->source_ == &source && thread->IsRunning()) {
      sched_yield();
    }
  }
}

absl::Status Translator::ContinueAfterFork(TranslatedThread& self) {
  std::lock_guard lock(mutex_);
  threads_ = {&self};
  // Their memory is not here; by now something else may be at its place.
  for (std::unique_ptr<ThreadContext>& context : parked_) (void)context.release();
  parked_.clear();
  parked_entries_ = 0;
  for (Counter& count : self.exits_) count.Reset();
  past_exits_ = {};
  entry_stubs_ = entry_stub_guest_bytes_ = taken_ = translate_nanoseconds_ = 0;
  cache_->ResetCounters();
  made_.clear();
  if (absl::Status status = self.context().ContinueAfterFork(); !status.ok()) return status;
  if (cache_->used() > kMostCopiedCode) {
    // Most children run little before they execute another program.
    version_.fetch_add(1, std::memory_order_seq_cst);
    self.context().ClearTargets();
    return cache_->Clear();
  }
  return cache_->TakeOwnMemory();
}

// ---- threads ------------------------------------------------------------------------------------

TranslatedThread::TranslatedThread(std::shared_ptr<Translator> translator, CodeSource& source,
                                   std::unique_ptr<ThreadContext> context)
    : translator_(std::move(translator)), source_(source), context_(std::move(context)) {
  translator_->Enlist(*this);
}

TranslatedThread::~TranslatedThread() { translator_->Retire(*this); }

bool TranslatedThread::Move() {
  std::shared_ptr<Translator> next = source_.CurrentTranslator();
  if (next == nullptr) return false;
  must_move_.store(false, std::memory_order_seq_cst);
  if (next == translator_) return true;
  translator_->Dismiss(*this);
  translator_ = std::move(next);
  context_->ForgetTargets();
  resumes_ = {};
  translator_->Enlist(*this);
  return true;
}

// kKicked also when the address is not good any more; nothing has happened then.
ExitReason TranslatedThread::EnterAt(std::uint64_t host, EntryKind kind, std::uint64_t version) {
  return Begin(version) ? context_->Enter(host, kind) : ExitReason::kKicked;
}

// What the guest sees of it: only that its code is not there.
std::optional<Stop> TranslatedThread::StopAfter(const BlockOutcome& outcome) {
  const auto* const missing = std::get_if<CodeMissing>(&outcome);
  return missing != nullptr ? std::optional<Stop>(AtFetchFault{missing->address}) : std::nullopt;
}

std::optional<Stop> TranslatedThread::OnLink() {
  Context& state = context_->context();
  const std::uint32_t link = state.link;
  state.rip = translator_->cache_->TargetOfLink(link);
  const std::uint64_t version = translator_->version();
  Stand(Where::kOutside);
  const auto connect = [&](const Translator::Found& found) {
    // A flush has made the number another link's.
    if (found.version == version) translator_->cache_->LinkTo(link, found.block);
    next_ = Resume{state.rip, found.host, found.version};
    next_kind_ = EntryKind::kDirect;
  };
  return StopAfter(translator_->WithBlock(*this, state.rip, EntryKind::kDirect, connect));
}

std::optional<Stop> TranslatedThread::OnLookup() {
  Context& state = context_->context();
  Stand(Where::kOutside);
  const auto enter = [&](const Translator::Found& found) {
    context_->SetTarget(state.rip, found.host);
    next_ = Resume{state.rip, found.host, found.version};
    next_kind_ = EntryKind::kIndirect;
  };
  return StopAfter(translator_->WithBlock(*this, state.rip, EntryKind::kIndirect, enter));
}

std::optional<Stop> TranslatedThread::OnSignal() {
  Context& state = context_->context();
  const std::optional<Recovered> recovered = translator_->cache_->Recover(state.cache_rip);
  Stand(Where::kOutside);
  DUNEBOX_CHECK(recovered.has_value(), "interrupted where no code is");
  state.rip = RestoreGuest(*recovered, state, state.gpr);
  if (state.fault_signal == 0) return AtKick{};
  const AtFault fault{.vector = state.fault_vector,
                      .error_code = state.fault_error,
                      .address = state.fault_address,
                      .signal = static_cast<int>(state.fault_signal),
                      .code = state.fault_code};
  return IsMask(translator_->options_.emitter.isolation) ? AsNative(fault) : Stop(fault);
}

// What the guest's instruction would have raised in place of what its confined form did.
Stop TranslatedThread::AsNative(const AtFault& fault) {
  constexpr std::uint64_t kStackFault = 12, kGeneralProtection = 13;
  if (fault.vector != kStackFault && fault.vector != kGeneralProtection) return fault;
  const Context& state = context_->context();
  Instruction instruction;
  std::optional<NativeFault> native;
  source_.WithCode(
      state.rip, kMostInstructionBytes, CodeSource::Purpose::kLook, [&](const CodeSource::Code& code) {
        if (Decode(code.bytes, instruction) != DecodeStatus::kOk) return;
        native = FaultOutsideUserHalf(instruction, code.bytes.first(instruction.length), state);
      });
  // Which element it was only the runtime can tell, when it goes on with the instruction.
  if (instruction.operation == Operation::kGatherScatter) {
    return AtInstruction{.instruction = instruction, .is_too_long = false};
  }
  if (!native) return fault;
  return AtFault{.vector = native->vector,
                 .error_code = native->error_code,
                 .address = native->address,
                 .signal = native->signal,
                 .code = native->code};
}

// A self-checking block has found that the guest's bytes are not those it was made from; or many have found that they
// are, and this one is made anew if it need not look any more. Which one that is chance decides, so it is one that runs often.
std::optional<Stop> TranslatedThread::OnStale() {
  Stand(Where::kOutside);
  Context& state = context_->context();
  const bool is_to_ask = state.checks_left < 0;
  if (is_to_ask) state.checks_left = kChecksBeforeAsking;
  if (!is_to_ask || MayBeWatched(state.rip)) translator_->Invalidate(state.rip, state.rip + 1);
  return std::nullopt;
}

bool TranslatedThread::MayBeWatched(std::uint64_t pc) {
  bool may_be = false;
  source_.WithCode(pc, kMostCodeBytes, CodeSource::Purpose::kBlock,
                   [&](const CodeSource::Code& code) { may_be = code.is_watched; });
  return may_be;
}

// The same instruction with fewer prefixes is one, and its length with all of them is over 15.
bool IsTooLong(std::span<const std::uint8_t> bytes) {
  constexpr std::size_t kLongest = 15;
  Instruction shorter;
  for (std::size_t prefixes = 1; prefixes < bytes.size(); ++prefixes) {
    if (Decode(bytes.subspan(prefixes), shorter) != DecodeStatus::kOk) continue;
    return shorter.klass != Class::kRefuse && prefixes + shorter.length > kLongest;
  }
  return false;
}

namespace {

// Whether a block may end at the instruction so.
bool MayLeaveAt(const Instruction& instruction, ExitReason reason) {
  switch (instruction.klass) {
    case Class::kEmulate:
    case Class::kTrap:
    case Class::kRefuse:
      return true;
    case Class::kCopy:  // some are left to the runtime wherever they cannot be copied
      return reason == ExitReason::kEmulate && instruction.operation != Operation::kOther;
    case Class::kJump:
    case Class::kBranch:
    case Class::kCall:
    case Class::kJumpIndirect:
    case Class::kCallIndirect:
    case Class::kReturn:
    case Class::kSystemCall:
      return false;
  }
  return false;
}

}  // namespace

// The block ended here because of its class; what it is exactly is read again. It may be another one by then: a sibling has
// written there, or the block checks of itself what it has decoded, which is one byte of what is none. What is there now is
// executed alone then. So is what there is no code for: it comes to the same.
std::optional<Stop> TranslatedThread::OnInstruction(ExitReason reason) {
  Context& state = context_->context();
  AtInstruction at{};
  std::uint64_t missing = 0;
  source_.WithCode(
      state.rip, kMostInstructionBytes, CodeSource::Purpose::kLook, [&](const CodeSource::Code& code) {
        if (Decode(code.bytes, at.instruction) == DecodeStatus::kTruncated) {
          missing = state.rip + code.bytes.size();
        }
        at.is_too_long = at.instruction.klass == Class::kRefuse && IsTooLong(code.bytes);
      });
  if (missing != 0) return AtFetchFault{missing};
  if (MayLeaveAt(at.instruction, reason)) return at;
  const Stop stop = Step();
  // Whoever goes on sees by itself why it could not run.
  const bool goes_on = std::holds_alternative<AtStep>(stop) || std::holds_alternative<AtKick>(stop);
  return goes_on ? std::nullopt : std::optional<Stop>(stop);
}

// What it was translated from is what has been executed.
AtInstruction TranslatedThread::AtStepped(const Instruction& stepped) {
  AtInstruction at{.instruction = stepped, .is_too_long = false};
  if (stepped.klass != Class::kRefuse) return at;
  source_.WithCode(context_->context().rip, kMostInstructionBytes, CodeSource::Purpose::kLook,
                   [&](const CodeSource::Code& code) { at.is_too_long = IsTooLong(code.bytes); });
  return at;
}

std::optional<Stop> TranslatedThread::Leave(ExitReason reason, const Instruction* stepped) {
  exits_[static_cast<std::size_t>(reason)].Add();
  next_.reset();
  switch (reason) {
    case ExitReason::kLink:
      return OnLink();
    case ExitReason::kLookup:
      return OnLookup();
    case ExitReason::kSignal:
      return OnSignal();
    case ExitReason::kStale:
      return OnStale();
    case ExitReason::kSystemCall:
    case ExitReason::kEmulate:
    case ExitReason::kTrap:
    case ExitReason::kKicked:
    case ExitReason::kBudget:
      break;
  }
  if (reason == ExitReason::kSystemCall) {
    StandAtCall();
    return AtSystemCall{};
  }
  Stand(Where::kOutside);
  if (reason == ExitReason::kBudget) return AtKick{};
  if (reason == ExitReason::kKicked) return std::nullopt;
  return stepped != nullptr ? AtStepped(*stepped) : OnInstruction(reason);
}

Stop TranslatedThread::Run() {
  next_.reset();
  return GoOn();
}

bool TranslatedThread::GoOnToSystemCall(std::optional<ExitReason> reason, Stop& stop) {
  next_.reset();
  const std::optional<Stop> left = reason ? Leave(*reason) : std::nullopt;
  stop = left ? *left : GoOn();
  return std::holds_alternative<AtSystemCall>(stop);
}

Stop TranslatedThread::GoOn() {
  Context& state = context_->context();
  Stand(Where::kOutside);
  for (;;) {
    if (__atomic_load_n(&state.kick, __ATOMIC_RELAXED) != 0) return AtKick{};
    if (must_move_.load(std::memory_order_seq_cst)) {
      if (!Move()) return AtNoTranslator{};
      next_.reset();
    }
    if (!next_) {
      next_kind_ = EntryKind::kDirect;
      Resume& known = KnownAt(state.rip);
      if (known.pc == state.rip && known.version == translator_->version()) {
        next_ = known;
      } else {
        const auto remember = [&](const Translator::Found& found) {
          known = {state.rip, found.host, found.version};
        };
        const BlockOutcome outcome =
            translator_->WithBlock(*this, state.rip, EntryKind::kDirect, remember);
        if (auto stop = StopAfter(outcome)) return *stop;
        if (std::holds_alternative<CodeNotShared>(outcome)) continue;
        next_ = known;
      }
    }
    if (auto stop = Leave(EnterAt(next_->host, next_kind_, next_->version))) return *stop;
  }
}

Stop TranslatedThread::Step() {
  Context& state = context_->context();
  Stand(Where::kOutside);
  Resume single;
  Instruction instruction;
  const auto remember = [&](const Translator::Found& found) {
    single = {state.rip, found.host, found.version};
    instruction = translator_->block_.steps.front().instruction;
  };
  for (bool is_found = false; !is_found;) {
    if (must_move_.load(std::memory_order_seq_cst) && !Move()) return AtNoTranslator{};
    const BlockOutcome outcome = translator_->WithSingle(source_, state.rip, remember);
    if (auto stop = StopAfter(outcome)) return *stop;
    is_found = std::holds_alternative<BlockFound>(outcome);
  }
  const ExitReason reason = EnterAt(single.host, EntryKind::kDirect, single.version);
  auto stop = Leave(reason, &instruction);
  next_.reset();
  if (reason == ExitReason::kKicked) return AtKick{};  // nothing has run
  return stop ? *stop : AtStep{};
}

}  // namespace dunebox::jit
