#include "sandbox/compartment/rights.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sandbox/compartment/call_groups.h"

namespace dunebox::compartment {
namespace {

using plugin::MemoryFault;
using plugin::OpenFile;

constexpr std::size_t kMostFaults = 100;

constexpr std::uint32_t Bit(CallGroup group) { return 1u << static_cast<unsigned>(group); }

std::uint32_t GroupsOf(const Grants& grants) {
  std::uint32_t groups = 0;
  for (const CallGroup group : kAllCallGroups) {
    if (grants.Has(group)) groups |= Bit(group);
  }
  return groups;
}

bool Allows(RegionAccess access, MemoryFault::Access wanted) {
  switch (wanted) {
    case MemoryFault::Access::kRead:
      return true;
    case MemoryFault::Access::kWrite:
      return access != RegionAccess::kRead;
    case MemoryFault::Access::kExecute:
      return false;
  }
  return false;
}

absl::StatusOr<std::shared_ptr<OpenFile>> Open(const Descriptor& descriptor) {
  auto file = std::make_shared<OpenFile>();
  const auto access = static_cast<unsigned>(descriptor.access());
  file->kind = OpenFile::Kind::kGranted;
  file->host = runtime::FileDescriptor(fcntl(descriptor.fd(), F_DUPFD_CLOEXEC, 3));
  file->name = absl::StrCat("[descriptor ", descriptor.number(), "]");
  file->may_read = (access & static_cast<unsigned>(DescriptorAccess::kRead)) != 0;
  file->may_write = (access & static_cast<unsigned>(DescriptorAccess::kWrite)) != 0;
  if (!file->host.valid())
    return absl::ResourceExhaustedError("no more descriptors in this process");
  return file;
}

}  // namespace

Rights::Rights(Holder& holder, Grants grants, Learns learns)
    : holder_(holder), learns_(learns == Learns::kYes), granted_(std::move(grants)) {}

// ---- putting into force -------------------------------------------------------------------------

absl::Status Rights::Install() {
  const std::lock_guard lock(mutex_);
  groups_.store(GroupsOf(granted_));
  for (const Grants::RegionGrant& grant : granted_.regions()) {
    if (learns_) continue;
    if (absl::Status put = holder_.Put(*grant.region, grant.access); !put.ok()) return put;
    mapped_[grant.region.get()] = grant.access;
  }
  return InstallDescriptorsLocked();
}

absl::Status Rights::InstallDescriptorsLocked() {
  open_.clear();
  for (const Descriptor& descriptor : granted_.descriptors()) {
    absl::StatusOr<std::shared_ptr<OpenFile>> file = Open(descriptor);
    if (!file.ok()) return file.status();
    if (learns_) {
      auto& uses = descriptor_uses_[descriptor.number()];
      if (uses == nullptr) uses = std::make_shared<std::atomic<unsigned>>(0);
      (*file)->uses = uses;
    }
    holder_.kernel().descriptors().Set(descriptor.number(), *file, false);
    open_[descriptor.number()] = *std::move(file);
  }
  return absl::OkStatus();
}

// Its own copies under other numbers, too.
void Rights::NarrowDescriptorsLocked(const Grants& grants) {
  for (const Descriptor& had : granted_.descriptors()) {
    const auto has = std::ranges::find(grants.descriptors(), had.number(), &Descriptor::number);
    const bool is_left = has != grants.descriptors().end();
    if (is_left && has->access() == had.access()) continue;
    std::shared_ptr<const OpenFile> less;
    if (is_left) {
      absl::StatusOr<std::shared_ptr<OpenFile>> file = Open(*has);
      if (file.ok())
        less = *std::move(file);  // without a descriptor to spare: nothing is less, too
    }
    holder_.kernel().descriptors().Replace(open_[had.number()].get(), less);
    open_[had.number()] = std::move(less);
  }
}

void Rights::Narrow(const Grants& grants) {
  const std::lock_guard lock(mutex_);
  groups_.store(GroupsOf(grants));
  for (const Grants::RegionGrant& had : granted_.regions()) {
    const Grants::RegionGrant* const has = grants.Find(*had.region);
    if (has != nullptr && has->access == had.access) continue;
    std::optional<RegionAccess> access;
    if (has != nullptr) access = has->access;
    // It mostly takes mappings that there are. Half a narrowing would be none: where it cannot be, nothing runs there any more, and
    // no other life begins before it could.
    unsettled_.erase(had.region);
    if (!holder_.Put(*had.region, access).ok()) {
      unsettled_[had.region] = access;
      holder_.End({.kind = Failure::Kind::kMismatch});
    }
    mapped_.erase(had.region.get());
    if (access) mapped_[had.region.get()] = *access;
  }
  NarrowDescriptorsLocked(grants);
  granted_ = grants;
}

absl::Status Rights::Renew(Grants grants) {
  const std::lock_guard lock(mutex_);
  granted_ = std::move(grants);
  faults_.clear();
  for (const auto& [region, access] : unsettled_) {
    if (absl::Status put = holder_.Put(*region, access); !put.ok()) {
      holder_.End({.kind = Failure::Kind::kMismatch});
      return put;
    }
  }
  unsettled_.clear();
  for (const auto& [region, access] : mapped_) {
    if (access != RegionAccess::kCopyOnWrite) continue;
    if (absl::Status put = holder_.Put(*region, access); !put.ok()) return put;
  }
  return InstallDescriptorsLocked();
}

// ---- being asked --------------------------------------------------------------------------------

std::optional<RegionAccess> Rights::AccessLocked(const Region* region) const {
  const auto found = mapped_.find(region);
  if (found == mapped_.end()) return std::nullopt;
  return found->second;
}

// True: it has what it wants. The least that will do of what is offered.
bool Rights::LearnLocked(const RegionPlace& place, MemoryFault::Access access) {
  const std::optional<RegionAccess> has = AccessLocked(place.region);
  // Another thread was faster.
  if (has && Allows(*has, access)) return true;
  const auto offered = std::ranges::find_if(
      granted_.regions(), [&](const auto& grant) { return grant.region.get() == place.region; });
  if (offered == granted_.regions().end() || !Allows(offered->access, access)) return false;
  const RegionAccess given =
      access == MemoryFault::Access::kRead ? RegionAccess::kRead : offered->access;
  if (!holder_.Put(*offered->region, given).ok()) return false;
  mapped_[place.region] = given;
  return true;
}

namespace {

AccessFault::Access Told(MemoryFault::Access access) {
  switch (access) {
    case MemoryFault::Access::kRead:
      return AccessFault::Access::kRead;
    case MemoryFault::Access::kWrite:
      return AccessFault::Access::kWrite;
    case MemoryFault::Access::kExecute:
      return AccessFault::Access::kExecute;
  }
  return AccessFault::Access::kRead;
}

}  // namespace

AccessFault Rights::NoteLocked(const MemoryFault& fault, const std::optional<RegionPlace>& place) {
  AccessFault noted{.kind = AccessFault::Kind::kMemory,
                    .access = Told(fault.access),
                    .address = fault.address,
                    .instruction = fault.instruction};
  if (place) {
    noted.name = place->name;
    noted.offset = place->offset;
  }
  if (faults_.size() < kMostFaults) faults_.push_back(noted);
  return noted;
}

void Rights::NoteOnceLocked(AccessFault fault) {
  const bool is_known = std::ranges::any_of(faults_, [&](const AccessFault& other) {
    return other.kind == fault.kind && other.name == fault.name;
  });
  if (!is_known && faults_.size() < kMostFaults) faults_.push_back(std::move(fault));
}

std::optional<std::string> Rights::Mend(const MemoryFault& fault) {
  const std::lock_guard lock(mutex_);
  const std::optional<RegionPlace> place = FindRegion(fault.address);
  if (learns_ && place && LearnLocked(*place, fault.access)) return std::nullopt;
  const AccessFault noted = NoteLocked(fault, place);
  return place ? noted.ToText() : std::string();
}

bool Rights::MendArgument(const MemoryFault& fault) {
  const std::lock_guard lock(mutex_);
  const std::optional<RegionPlace> place = FindRegion(fault.address);
  if (!place) return false;
  const std::optional<RegionAccess> has = AccessLocked(place->region);
  // It was another argument.
  if (has && Allows(*has, fault.access)) return false;
  if (learns_ && LearnLocked(*place, fault.access)) return true;
  NoteLocked(fault, place);
  return false;
}

bool Rights::Permits(const hostcalls::Row& call, std::uint64_t instruction) {
  const CallNeed need = NeedOf(call.number);
  if (need.kind == CallNeed::Kind::kAlways) return true;
  AccessFault fault{
      .kind = AccessFault::Kind::kCall, .name = call.name, .instruction = instruction};
  if (need.kind == CallNeed::Kind::kGroup) {
    if ((groups_.load(std::memory_order_relaxed) & Bit(need.group)) != 0) {
      if (learns_) learned_groups_.fetch_or(Bit(need.group), std::memory_order_relaxed);
      return true;
    }
    fault.group = need.group;
  }
  const std::lock_guard lock(mutex_);
  NoteOnceLocked(std::move(fault));
  return false;
}

bool Rights::MayPass(const std::string& gate) {
  AccessFault fault{.kind = AccessFault::Kind::kGate, .name = gate};
  {
    const std::lock_guard lock(mutex_);
    if (granted_.FindGate(gate) != nullptr) {
      if (learns_ && std::ranges::find(learned_gates_, gate) == learned_gates_.end()) {
        learned_gates_.push_back(gate);
      }
      return true;
    }
    NoteOnceLocked(fault);
  }
  holder_.End({.kind = Failure::Kind::kDenied, .missing_grant = fault.ToText()});
  return false;
}

// ---- telling ------------------------------------------------------------------------------------

Grants Rights::granted() const {
  const std::lock_guard lock(mutex_);
  return granted_;
}

Grants Rights::learned() const {
  const std::lock_guard lock(mutex_);
  Grants learned;
  if (!learns_) return learned;
  for (const Grants::RegionGrant& grant : granted_.regions()) {
    const std::optional<RegionAccess> has = AccessLocked(grant.region.get());
    if (has) learned.Add(grant.region, *has);
  }
  for (const Descriptor& descriptor : granted_.descriptors()) {
    const auto uses = descriptor_uses_.find(descriptor.number());
    const unsigned used = uses == descriptor_uses_.end() ? 0 : uses->second->load();
    if (used == 0) continue;
    static_assert(OpenFile::kRead == static_cast<unsigned>(DescriptorAccess::kRead) &&
                  OpenFile::kWritten == static_cast<unsigned>(DescriptorAccess::kWrite));
    // A recycle may have offered less.
    const auto access = static_cast<DescriptorAccess>(used & static_cast<unsigned>(descriptor.access()));
    const absl::StatusOr<Descriptor> less = descriptor.With(access);
    if (less.ok()) learned.Add(*less);
  }
  for (const CallGroup group : kAllCallGroups) {
    if ((learned_groups_.load() & Bit(group)) != 0) learned.Add(group);
  }
  for (const std::string& gate : learned_gates_) learned.Add(*granted_.FindGate(gate));
  return learned;
}

std::vector<AccessFault> Rights::faults() const {
  const std::lock_guard lock(mutex_);
  return faults_;
}

}  // namespace dunebox::compartment
