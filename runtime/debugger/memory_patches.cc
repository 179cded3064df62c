#include "runtime/debugger/memory_patches.h"

#include <algorithm>
#include <memory>
#include <span>

namespace dunebox::debugger {
namespace {

constexpr std::byte kInt3{0xcc};
constexpr std::uint64_t kMostWatched = 4096;

std::span<std::byte> BytesOf(std::string& text) {
  return std::as_writable_bytes(std::span(text.data(), text.size()));
}

}  // namespace

std::string MemoryPatches::Read(std::uint64_t address, std::uint64_t size) const {
  const std::lock_guard lock(mutex_);
  return ReadLocked(address, size);
}

std::string MemoryPatches::ReadLocked(std::uint64_t address, std::uint64_t size) const {
  std::string bytes(size, '\0');
  if (!space_.memory().Read(address, BytesOf(bytes))) {
    // Page by page, to have the pages that are there.
    std::uint64_t have = 0;
    while (have < size) {
      const std::uint64_t at = address + have;
      const std::uint64_t part = std::min(kPageSize - at % kPageSize, size - have);
      if (!space_.memory().Read(at, BytesOf(bytes).subspan(have, part))) break;
      have += part;
    }
    bytes.resize(have);
  }
  if (!HasInt3sLocked()) return bytes;
  for (auto it = breakpoints_.lower_bound(address);
       it != breakpoints_.end() && it->first - address < bytes.size(); ++it) {
    bytes[it->first - address] = static_cast<char>(it->second);
  }
  return bytes;
}

bool MemoryPatches::Write(std::uint64_t address, std::string_view bytes) {
  const std::lock_guard lock(mutex_);
  std::string patched(bytes);
  for (auto it = breakpoints_.lower_bound(address);
       it != breakpoints_.end() && it->first - address < bytes.size(); ++it) {
    it->second = static_cast<std::byte>(bytes[it->first - address]);
    if (HasInt3sLocked()) patched[it->first - address] = static_cast<char>(kInt3);
  }
  return space_.Poke(address, BytesOf(patched));
}

bool MemoryPatches::PokeLocked(std::uint64_t address, std::byte byte) {
  return space_.Poke(address, std::span(&byte, 1));
}

// What engine or memory have becomes what `breakpoints_` says.
void MemoryPatches::ApplyLocked() {
  if (lifted_ != 0) return;
  if (engine_stops_) {
    std::vector<std::uint64_t> addresses;
    for (const auto& [address, byte] : breakpoints_) addresses.push_back(address);
    engine_->SetBreakpoints(addresses);
    return;
  }
  for (const auto& [address, byte] : breakpoints_) PokeLocked(address, kInt3);
}

bool MemoryPatches::AddBreakpoint(std::uint64_t address) {
  const std::lock_guard lock(mutex_);
  if (breakpoints_.contains(address)) return true;
  std::string byte(1, '\0');
  if (!space_.memory().Read(address, BytesOf(byte))) return false;
  // Found out now, where it can be said.
  if (!engine_stops_ && !space_.Poke(address, BytesOf(byte))) return false;
  breakpoints_[address] = static_cast<std::byte>(byte[0]);
  ApplyLocked();
  return true;
}

bool MemoryPatches::RemoveBreakpoint(std::uint64_t address) {
  const std::lock_guard lock(mutex_);
  const auto found = breakpoints_.find(address);
  if (found == breakpoints_.end()) return false;
  if (HasInt3sLocked()) PokeLocked(address, found->second);
  breakpoints_.erase(found);
  ApplyLocked();
  return true;
}

bool MemoryPatches::HasBreakpoint(std::uint64_t address) const {
  const std::lock_guard lock(mutex_);
  return breakpoints_.contains(address);
}

void MemoryPatches::Lift() {
  const std::lock_guard lock(mutex_);
  LiftLocked();
  ++lifted_;
}

void MemoryPatches::LiftLocked() {
  if (engine_stops_) engine_->SetBreakpoints({});
  if (!HasInt3sLocked()) return;
  for (const auto& [address, byte] : breakpoints_) PokeLocked(address, byte);
}

void MemoryPatches::PutBack() {
  const std::lock_guard lock(mutex_);
  --lifted_;
  ApplyLocked();
}

void MemoryPatches::Clear() {
  const std::lock_guard lock(mutex_);
  LiftLocked();
  breakpoints_.clear();
  watched_.clear();
}

void MemoryPatches::ClearInChild(runtime::ExecutionEngine& engine) {
  std::construct_at(&mutex_);
  engine_ = &engine;
  Clear();
  lifted_ = 0;  // those that wait for children are not there
}

bool MemoryPatches::Watched::IsHitBy(const AccessedRange& range) const {
  if (kind == WatchKind::kChange || (kind == WatchKind::kRead && !range.reads)) return false;
  return range.address - address < value.size() || address - range.address < range.size;
}

bool MemoryPatches::Watch(WatchKind kind, std::uint64_t address, std::uint64_t size) {
  if (size == 0 || size > kMostWatched) return false;
  const std::lock_guard lock(mutex_);
  std::string value = ReadLocked(address, size);
  if (value.size() != size) return false;
  watched_.push_back({.kind = kind, .address = address, .value = std::move(value)});
  return true;
}

bool MemoryPatches::Unwatch(WatchKind kind, std::uint64_t address, std::uint64_t size) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(watched_, [&](const Watched& watched) {
    return watched.kind == kind && watched.address == address && watched.value.size() == size;
  });
  if (found == watched_.end()) return false;
  watched_.erase(found);
  return true;
}

bool MemoryPatches::is_watching() const {
  const std::lock_guard lock(mutex_);
  return !watched_.empty();
}

bool MemoryPatches::is_watching_accesses() const {
  const std::lock_guard lock(mutex_);
  return std::ranges::any_of(watched_, [](const Watched& watched) { return watched.kind != WatchKind::kChange; });
}

std::optional<WatchHit> MemoryPatches::Hit(std::span<const AccessedRange> accessed) {
  const std::lock_guard lock(mutex_);
  for (Watched& watched : watched_) {
    if (watched.kind != WatchKind::kChange) continue;
    std::string now = ReadLocked(watched.address, watched.value.size());
    if (now == watched.value || now.size() != watched.value.size()) continue;
    watched.value = std::move(now);
    return WatchHit{watched.kind, watched.address};
  }
  for (const Watched& watched : watched_) {
    const auto hits = [&](const AccessedRange& range) { return watched.IsHitBy(range); };
    if (std::ranges::any_of(accessed, hits)) return WatchHit{watched.kind, watched.address};
  }
  return std::nullopt;
}

}  // namespace dunebox::debugger
