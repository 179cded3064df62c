#include "runtime/kvm/fault_around.h"

#include <sys/mman.h>

#include <algorithm>

#include "runtime/kvm/kvm_structs.h"

namespace dunebox::kvm {

FaultAround::Window FaultAround::Choose(const GuestRange& part, GuestVirt page, TableState table) {
  constexpr std::uint64_t kLeastBytes = kLeastPages * kPageSize;
  const GuestVirt aligned = std::max(part.start, GuestVirt{page.value & ~(kLeastBytes - 1)});
  const auto followed = std::ranges::find_if(
      streams_, [&](const Stream& stream) { return stream.pages != 0 && stream.end == aligned; });
  const bool goes_on = followed != streams_.end();
  Stream& stream = goes_on ? *followed : streams_[next_];
  if (!goes_on) next_ = (next_ + 1) % streams_.size();
  stream.pages = goes_on ? std::min(2 * stream.pages, kMostPages) : kLeastPages;
  // The first one ends where an aligned one does, so that those that follow are aligned.
  const GuestVirt first_end{(page.value & ~(kLeastBytes - 1)) + kLeastBytes};
  stream.end = std::min(part.end, goes_on ? aligned + stream.pages * kPageSize : first_end);
  const GuestRange window{aligned, stream.end};
  return {.filled = goes_on || table == TableState::kNew ? window : part, .mapped = window};
}

std::uint64_t MapResident(KvmApi& api, int vcpu_fd, void* host, const Ahead& ahead) {
  std::array<unsigned char, FaultAround::kMostPages> resident;
  const std::uint64_t pages = ahead.range.size() / kPageSize;
  if (mincore(host, ahead.range.size(), resident.data()) != 0) return 0;
  const auto is_resident = [&](std::uint64_t page) { return (resident[page] & 1) != 0; };
  std::uint64_t mapped = 0;
  for (std::uint64_t page = 0; page < pages;) {
    if (!is_resident(page)) {
      ++page;
      continue;
    }
    std::uint64_t end = page + 1;
    while (end < pages && is_resident(end)) ++end;
    kvm_pre_fault_memory wanted{.gpa = ahead.first.value + page * kPageSize,
                                .size = (end - page) * kPageSize,
                                .flags = 0,
                                .padding = {}};
    // A signal, or a mapping that changes meanwhile: KVM says how far it has come.
    const int result = api.Ioctl(vcpu_fd, KVM_PRE_FAULT_MEMORY, &wanted);
    if (result < 0) break;
    mapped += end - page - wanted.size / kPageSize;
    if (wanted.size != 0) break;
    page = end;
  }
  return mapped;
}

}  // namespace dunebox::kvm
