#include "runtime/memory/vma_map.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace dunebox::memory {

std::shared_ptr<const Backing> Named(std::string name) {
  if (name.empty()) return nullptr;
  auto backing = std::make_shared<Backing>();
  backing->name = std::move(name);
  return backing;
}

Protection Protection::FromProt(int prot) {
  return {.read = (prot & PROT_READ) != 0,
          .write = (prot & PROT_WRITE) != 0,
          .execute = (prot & PROT_EXEC) != 0};
}

int Protection::ToProt() const {
  return (read ? PROT_READ : 0) | (write ? PROT_WRITE : 0) | (execute ? PROT_EXEC : 0);
}

int Protection::ToHostProt() const {
  return (any() ? PROT_READ : 0) | (write ? PROT_WRITE : 0);
}

bool IsStack(const Vma& vma) { return vma.backing != nullptr && vma.backing->name == "[stack]"; }

MemorySizes SizesOf(const Vma& vma) {
  if (IsStack(vma)) return {};
  const std::uint64_t bytes = vma.range.size();
  return {.all = bytes,
          .data = vma.protection.write && vma.sharing == Sharing::kPrivate ? bytes : 0};
}

bool IsData(const Vma& vma) {
  if (!vma.protection.write || vma.sealed) return false;
  if (IsStack(vma)) return false;
  const bool segment = vma.backing != nullptr && vma.backing->segment_bytes != 0;
  return vma.sharing == Sharing::kPrivate || !vma.file_backed || segment;
}

const Vma* VmaMap::FindFrom(GuestVirt address) const {
  auto after = vmas_.upper_bound(address.value);
  if (after != vmas_.begin()) {
    const Vma& before = std::prev(after)->second;
    if (before.range.end > address) return &before;
  }
  return after == vmas_.end() ? nullptr : &after->second;
}

const Vma* VmaMap::Find(GuestVirt address) const {
  const Vma* vma = FindFrom(address);
  return vma != nullptr && vma->range.Contains(address) ? vma : nullptr;
}

bool VmaMap::Overlaps(const GuestRange& range) const {
  const Vma* vma = FindFrom(range.start);
  return vma != nullptr && vma->range.Overlaps(range);
}

bool VmaMap::Covers(const GuestRange& range) const {
  GuestVirt next = range.start;
  while (next < range.end) {
    const Vma* vma = Find(next);
    if (vma == nullptr) return false;
    next = vma->range.end;
  }
  return true;
}

bool VmaMap::AnySealed(const GuestRange& range) const {
  bool sealed = false;
  ForEachIn(range, [&](const Vma& vma) {
    sealed = vma.sealed;
    return !sealed;
  });
  return sealed;
}

void VmaMap::SplitAt(GuestVirt address) {
  auto after = vmas_.upper_bound(address.value);
  if (after == vmas_.begin()) return;
  Vma& left = std::prev(after)->second;
  if (left.range.start >= address || left.range.end <= address) return;
  Vma right = left;
  right.range.start = address;
  if (right.file_backed) right.offset += address - left.range.start;
  left.range.end = address;
  vmas_.emplace(address.value, std::move(right));
}

bool VmaMap::CanMerge(const Vma& left, const Vma& right) {
  if (left.range.end != right.range.start || left.protection != right.protection ||
      left.sharing != right.sharing || left.file_backed != right.file_backed ||
      left.sealed != right.sealed || left.is_left_behind != right.is_left_behind ||
      left.is_only_view != right.is_only_view) {
    return false;
  }
  const bool same_backing =
      left.backing == right.backing ||
      (left.backing != nullptr && right.backing != nullptr && *left.backing == *right.backing);
  if (!same_backing) return false;
  return !left.file_backed || left.offset + left.range.size() == right.offset;
}

void VmaMap::MergeAround(const GuestRange& range) {
  auto current = vmas_.lower_bound(range.start.value);
  if (current != vmas_.begin()) --current;
  while (current != vmas_.end() && current->second.range.start <= range.end) {
    auto next = std::next(current);
    if (next == vmas_.end()) return;
    if (CanMerge(current->second, next->second)) {
      current->second.range.end = next->second.range.end;
      vmas_.erase(next);
    } else {
      current = next;
    }
  }
}

void VmaMap::Drop(const GuestRange& range) {
  if (range.empty()) return;  // or it would leave a seam
  SplitAt(range.start);
  SplitAt(range.end);
  const auto first = vmas_.lower_bound(range.start.value);
  const auto end = vmas_.lower_bound(range.end.value);
  for (auto it = first; it != end; ++it) sizes_ -= SizesOf(it->second);
  vmas_.erase(first, end);
}

void VmaMap::Erase(const GuestRange& range) {
  Drop(range);
  used_.Remove(range);
}

void VmaMap::Replace(Vma vma) {
  Drop(vma.range);
  const GuestRange range = vma.range;
  used_.Add(range);
  sizes_ += SizesOf(vma);
  vmas_.insert_or_assign(range.start.value, std::move(vma));
  MergeAround(range);
}

void VmaMap::Change(const GuestRange& range, const std::function<void(Vma&)>& change) {
  if (range.empty()) return;
  SplitAt(range.start);
  SplitAt(range.end);
  for (auto it = vmas_.lower_bound(range.start.value);
       it != vmas_.end() && it->first < range.end.value; ++it) {
    sizes_ -= SizesOf(it->second);
    change(it->second);
    sizes_ += SizesOf(it->second);
  }
  MergeAround(range);
}

void VmaMap::SetProtection(const GuestRange& range, Protection protection) {
  Change(range, [&](Vma& vma) { vma.protection = protection; });
}

void VmaMap::SetLeftBehind(const GuestRange& range, bool is_left_behind) {
  Change(range, [&](Vma& vma) { vma.is_left_behind = is_left_behind; });
}

void VmaMap::EndOnlyView(const GuestRange& range) {
  Change(range, [](Vma& vma) { vma.is_only_view = false; });
}

void VmaMap::ForEach(const std::function<bool(const Vma&)>& visit) const {
  for (const auto& [start, vma] : vmas_) {
    if (!visit(vma)) return;
  }
}

void VmaMap::ForEachIn(const GuestRange& range,
                       const std::function<bool(const Vma&)>& visit) const {
  const Vma* vma = FindFrom(range.start);
  if (vma == nullptr) return;
  for (auto it = vmas_.find(vma->range.start.value);
       it != vmas_.end() && it->first < range.end.value; ++it) {
    if (!visit(it->second)) return;
  }
}

MemorySizes VmaMap::SizesIn(const GuestRange& range) const {
  MemorySizes sizes;
  ForEachIn(range, [&](const Vma& vma) {
    Vma part = vma;
    part.range = {std::max(vma.range.start, range.start), std::min(vma.range.end, range.end)};
    sizes += SizesOf(part);
    return true;
  });
  return sizes;
}

}  // namespace dunebox::memory
