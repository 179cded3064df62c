#include "jit-fallback/cache/code_cache.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "hostcalls/check.h"
#include "jit-fallback/cache/kept_blocks.h"
#include "jit-fallback/dispatch/context_offsets.h"

namespace dunebox::jit {
namespace {

constexpr std::uint32_t kBlockAlignment = 16;
constexpr std::size_t kStubNumber = 8;  // where the number is in mov dword [link], number
constexpr std::uint64_t kPageShift = 12;
constexpr std::uint32_t kMostBlocks = 0x7fff'ffff;  // Link::source; there is room for fewer
constexpr std::uint32_t kPageMask = (1U << kPageShift) - 1;

constexpr std::uint32_t AlignUp(std::uint32_t value) {
  return (value + kBlockAlignment - 1) & ~(kBlockAlignment - 1);
}

}  // namespace

// mov dword [link], 0; jmp [pointer]
CodeCache::Stub CodeCache::FirstStub(std::uint8_t context_prefix) {
  Assembler code(context_prefix);
  code.StoreSlotImmediate32(JIT_LINK, 0);
  DUNEBOX_CHECK(code.size() == kStubNumber + sizeof(std::uint32_t), "the number is in another place");
  code.JumpThroughSlot(JIT_TO_LINK);
  Stub stub;
  DUNEBOX_CHECK(code.size() == stub.size(), "an exit stub of another size");
  std::ranges::copy(code.code(), stub.begin());
  return stub;
}

absl::StatusOr<std::unique_ptr<CodeCache>> CodeCache::Create(std::size_t size,
                                                             std::uint8_t context_prefix) {
  absl::StatusOr<CodeMemory> memory = CodeMemory::Create(size);
  if (!memory.ok()) return memory.status();
  std::unique_ptr<CodeCache> cache(new CodeCache(*std::move(memory), context_prefix));
  if (!cache->blocks_.is_reserved() || !cache->links_.is_reserved() ||
      !cache->recoveries_.is_reserved()) {
    return absl::ResourceExhaustedError("no address space for the translator's tables");
  }
  return cache;
}

CodeCache::CodeCache(CodeMemory memory, std::uint8_t context_prefix)
    : memory_(std::move(memory)),
      first_stub_(FirstStub(context_prefix)),
      stubs_(static_cast<std::uint32_t>(memory_.size() / 4 * 3) & ~kPageMask),
      block_memory_(memory_.Part(0, stubs_)),
      stub_memory_(memory_.Part(stubs_, memory_.size() - stubs_)),
      blocks_(static_cast<std::uint32_t>(memory_.size() / 64)),
      links_((static_cast<std::uint32_t>(memory_.size()) - stubs_) / kStubSize),
      recoveries_(static_cast<std::uint32_t>(memory_.size() / 16)) {}

std::uint32_t CodeCache::Find(std::uint64_t pc, EntryKind kind) const {
  const Index& index = kind == EntryKind::kDirect ? direct_ : indirect_;
  const auto found = index.find(pc);
  return found == index.end() ? kNone : found->second;
}

std::uint32_t CodeCache::StubOf(std::uint32_t link) const { return stubs_ + link * kStubSize; }

void CodeCache::PatchTo(const Link& link, std::uint64_t target) {
  const std::uint64_t next = start() + link.patch + 4;
  memory_.WriteAtomic32(link.patch, static_cast<std::int32_t>(target - next));
}

void CodeCache::MakeStub(std::uint32_t number) {
  Stub stub = first_stub_;
  std::memcpy(stub.data() + kStubNumber, &number, sizeof(number));
  if (on_new_code_) {
    on_new_code_({.kind = CodeKind::kExitStub,
                  .pc = links_[number].target,
                  .host = start() + StubOf(number),
                  .generation = generation_,
                  .bytes = stub});
  }
  stub_memory_.Reach((std::size_t{number} + 1) * kStubSize);
  memory_.Write(StubOf(number), stub);
}

void CodeCache::LinkToStub(std::uint32_t number) {
  Link& link = links_[number];
  link.linked_to = kNone;
  if (link.has_stub == 0) {
    link.has_stub = 1;
    MakeStub(number);
  }
  PatchTo(link, start() + StubOf(number));
}

void CodeCache::LinkTo(std::uint32_t number, std::uint32_t block) {
  Link& link = links_[number];
  // Two threads may have left through it at once.
  if (link.linked_to != kNone || blocks_[link.source].dead) return;
  link.linked_to = block;
  link.next_incoming = std::exchange(blocks_[block].first_incoming, number);
  PatchTo(link, AddressOf(block));
}

std::uint32_t CodeCache::Add(const Block& block, EntryKind kind, const EmittedCode& emitted) {
  const auto length = static_cast<std::uint32_t>(emitted.code.size());
  const auto exits = static_cast<std::uint32_t>(emitted.exits.size());
  constexpr std::size_t kMost = 0xffff;  // Recovery::host, CodeBlock
  DUNEBOX_CHECK(length <= kMost && block.length <= kMost && emitted.recovery.size() <= kMost,
                "a block that is too long");
  if (next_ + length > stubs_ || blocks_.room() == 0 || links_.room() < exits ||
      (!emitted.recovery_stays && recoveries_.room() < emitted.recovery.size())) {
    return kNone;
  }
  const std::uint32_t host = std::exchange(next_, AlignUp(next_ + length));
  if (on_new_code_) {
    const bool leads_on =
        kind == EntryKind::kIndirect && Find(block.pc, EntryKind::kDirect) != kNone;
    on_new_code_({.kind = kind == EntryKind::kDirect ? CodeKind::kDirectBlock
                          : leads_on                 ? CodeKind::kIndirectStub
                                                     : CodeKind::kIndirectBlock,
                  .is_self_checking = block.is_self_checking,
                  .is_single = block.is_single,
                  .pc = block.pc,
                  .host = start() + host,
                  .entry = emitted.entry,
                  .generation = generation_,
                  .bytes = emitted.code,
                  .guest = block.bytes.first(std::min(std::max(std::size_t{block.length}, kKeyBytes), block.bytes.size())),
                  .exits = emitted.exits});
  }
  block_memory_.Reach(host + length);
  memory_.Write(host, emitted.code);
  const Recovery* recovery = emitted.recovery.data();
  if (!emitted.recovery_stays) {
    recovery = &recoveries_[recoveries_.size()];
    recoveries_.AppendAll(emitted.recovery);
  }
  const std::uint32_t id = blocks_.Append({.pc = block.pc,
                                           .recovery = recovery,
                                           .host = host,
                                           .first_incoming = kNone,
                                           .guest_length = static_cast<std::uint16_t>(block.length),
                                           .host_length = static_cast<std::uint16_t>(length),
                                           .entry = static_cast<std::uint16_t>(emitted.entry),
                                           .recoveries = static_cast<std::uint16_t>(emitted.recovery.size()),
                                           .kind = kind,
                                           .dead = false});
  IndexOf(kind)[block.pc] = id;
  if (block.length != 0) {
    const std::uint64_t last = (block.pc + block.length - 1) >> kPageShift;
    for (std::uint64_t page = block.pc >> kPageShift; page <= last; ++page) {
      pages_[page].push_back(id);
    }
  }
  for (const ExitSite& exit : emitted.exits) {
    const std::uint32_t link = links_.Append({.target = exit.target,
                                              .patch = host + exit.offset,
                                              .linked_to = kNone,
                                              .next_incoming = kNone,
                                              .source = id & kMostBlocks,
                                              .has_stub = 0});
    const std::uint32_t target = Find(exit.target, EntryKind::kDirect);
    target == kNone || block.is_single ? LinkToStub(link) : LinkTo(link, target);
  }
  ++counters_.blocks;
  counters_.guest_bytes += block.length;
  counters_.host_bytes += length;
  counters_.links += exits;
  return id;
}

void CodeCache::Kill(std::uint32_t id) {
  CodeBlock& block = blocks_[id];
  if (std::exchange(block.dead, true)) return;
  ++counters_.invalidated;
  Index& index = IndexOf(block.kind);
  if (const auto found = index.find(block.pc); found != index.end() && found->second == id) {
    index.erase(found);
  }
  for (std::uint32_t link = std::exchange(block.first_incoming, kNone); link != kNone;) {
    const std::uint32_t next = std::exchange(links_[link].next_incoming, kNone);
    LinkToStub(link);
    link = next;
  }
  if (block.guest_length == 0) return;
  const std::uint64_t last = (block.pc + block.guest_length - 1) >> kPageShift;
  for (std::uint64_t page = block.pc >> kPageShift; page <= last; ++page) {
    const auto found = pages_.find(page);
    if (found == pages_.end()) continue;
    std::erase(found->second, id);
    if (found->second.empty()) pages_.erase(found);
  }
}

std::vector<std::uint32_t> CodeCache::BlocksIn(std::uint64_t begin, std::uint64_t end) const {
  std::vector<std::uint32_t> result;
  if (begin >= end) return result;
  const auto collect = [&](const std::vector<std::uint32_t>& ids) {
    for (const std::uint32_t id : ids) {
      const CodeBlock& block = blocks_[id];
      if (block.pc < end && block.pc + block.guest_length > begin) result.push_back(id);
    }
  };
  const std::uint64_t first = begin >> kPageShift;
  const std::uint64_t last = (end - 1) >> kPageShift;
  if (last - first < pages_.size()) {
    for (std::uint64_t page = first; page <= last; ++page) {
      if (const auto found = pages_.find(page); found != pages_.end()) collect(found->second);
    }
  } else {
    for (const auto& [page, ids] : pages_) {
      if (page >= first && page <= last) collect(ids);
    }
  }
  // A block on two pages was found twice.
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

void CodeCache::UnlinkAll() {
  for (std::uint32_t link = 0; link < links_.size(); ++link) {
    LinkToStub(link);
    links_[link].next_incoming = kNone;
  }
  for (std::uint32_t id = 0; id < blocks_.size(); ++id) blocks_[id].first_incoming = kNone;
}

void CodeCache::PrepareForFork() { may_be_copied_ = true; }

absl::Status CodeCache::TakeOwnMemory() {
  const CodeMemory::Extent parts[] = {{0, next_}, {stubs_, links_.size() * kStubSize}};
  if (absl::Status status = memory_.Renew(parts); !status.ok()) return status;
  may_be_copied_ = false;
  // The parent may have linked some jump to a block that only it has.
  for (std::uint32_t number = 0; number < links_.size(); ++number) {
    const Link& link = links_[number];
    PatchTo(link, link.linked_to == kNone ? start() + StubOf(number) : AddressOf(link.linked_to));
  }
  return absl::OkStatus();
}

absl::Status CodeCache::Clear() {
  direct_.clear();
  indirect_.clear();
  pages_.clear();
  blocks_.Clear();
  links_.Clear();
  recoveries_.Clear();
  next_ = 0;
  block_memory_.Restart();
  stub_memory_.Restart();
  ++counters_.flushes;
  ++generation_;
  absl::Status status = memory_.Renew({});
  if (status.ok()) may_be_copied_ = false;
  // The program may have limited the size of files.
  return absl::IsResourceExhausted(status) && !may_be_copied_ ? absl::OkStatus() : status;
}

std::uint32_t CodeCache::BlockAt(std::uint64_t host) const {
  if (host < start() || host >= code_end()) return kNone;
  const auto offset = static_cast<std::uint32_t>(host - start());
  // Blocks lie in the order they were made.
  std::uint32_t low = 0;
  std::uint32_t high = blocks_.size();
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (blocks_[middle].host <= offset) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return kNone;
  const CodeBlock& block = blocks_[low - 1];
  return offset < block.host + block.host_length ? low - 1 : kNone;
}

std::optional<Recovered> CodeCache::Recover(std::uint64_t host) const {
  const std::uint32_t id = BlockAt(host);
  if (id == kNone) return std::nullopt;
  const CodeBlock& block = blocks_[id];
  const auto offset = static_cast<std::uint32_t>(host - start()) - block.host;
  const Recovery* entry = nullptr;
  for (const Recovery& candidate : std::span(block.recovery, block.recoveries)) {
    if (candidate.host > offset) break;
    entry = &candidate;
  }
  if (entry == nullptr) return std::nullopt;
  std::int64_t guest = entry->guest;
  if (entry->kind == RecoveryKind::kLinear) guest += offset - entry->host;
  return Recovered{.pc = block.pc + static_cast<std::uint64_t>(guest),
                   .kind = entry->kind,
                   .in_slot = entry->in_slot,
                   .scratch = entry->scratch,
                   .confined = entry->confined};
}

}  // namespace dunebox::jit
