#include "dunebox/grants.h"

#include <fcntl.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/file_descriptor.h"
#include "sandbox/plugin/descriptors.h"

namespace dunebox {
namespace {

constexpr const char* kAccessNames[] = {"read", "copy-on-write", "read-write"};
constexpr const char* kGroupNames[] = {"files", "threads", "signals", "time", "random", "system"};
static_assert(std::size(kGroupNames) == std::size(kAllCallGroups));

constexpr std::uint32_t Bit(CallGroup group) { return 1u << static_cast<unsigned>(group); }

std::string LineOf(const Grants::RegionGrant& grant) {
  return absl::StrCat("region ", grant.region->name(), ": ", ToString(grant.access));
}
std::string LineOf(const Descriptor& descriptor) {
  const char* access = "read, write";
  if (descriptor.access() == DescriptorAccess::kRead) access = "read";
  if (descriptor.access() == DescriptorAccess::kWrite) access = "write";
  return absl::StrCat("descriptor ", descriptor.number(), ": ", access);
}
std::string LineOf(CallGroup group) { return absl::StrCat("calls ", ToString(group)); }
std::string LineOf(const Gate& gate) { return absl::StrCat("gate ", gate.name()); }

bool IsWithin(DescriptorAccess access, DescriptorAccess wider) {
  return (static_cast<unsigned>(access) & ~static_cast<unsigned>(wider)) == 0;
}

}  // namespace

const char* ToString(RegionAccess access) { return kAccessNames[static_cast<std::size_t>(access)]; }
const char* ToString(CallGroup group) { return kGroupNames[static_cast<std::size_t>(group)]; }

// ---- descriptors

struct Descriptor::File {
  runtime::FileDescriptor host;
};

absl::StatusOr<Descriptor> Descriptor::Of(int fd, int number, DescriptorAccess access) {
  if (number < 0 || number >= plugin::Descriptors::kMost) {
    return absl::InvalidArgumentError(
        absl::StrCat("a compartment has descriptors from 0 to ", plugin::Descriptors::kMost - 1));
  }
  runtime::FileDescriptor host(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!host.valid())
    return absl::InvalidArgumentError(absl::StrCat("descriptor ", fd, " is not open"));
  return Descriptor(std::make_shared<const File>(File{std::move(host)}), number, access);
}

int Descriptor::fd() const { return file_->host.get(); }

absl::StatusOr<Descriptor> Descriptor::With(DescriptorAccess access) const {
  if (!IsWithin(access, access_)) {
    return absl::PermissionDeniedError(absl::StrCat(LineOf(*this), " is all there is"));
  }
  return Descriptor(file_, number_, access);
}

// ---- grants

Grants& Grants::Add(std::shared_ptr<Region> region, RegionAccess access) {
  std::erase_if(regions_, [&](const RegionGrant& grant) { return grant.region == region; });
  regions_.push_back({std::move(region), access});
  return *this;
}
Grants& Grants::Add(Descriptor descriptor) {
  std::erase_if(descriptors_,
                [&](const Descriptor& other) { return other.number() == descriptor.number(); });
  descriptors_.push_back(std::move(descriptor));
  return *this;
}
Grants& Grants::Add(Gate gate) {
  std::erase_if(gates_, [&](const Gate& other) { return other.name() == gate.name(); });
  gates_.push_back(std::move(gate));
  return *this;
}
Grants& Grants::Add(CallGroup group) {
  calls_ |= Bit(group);
  return *this;
}

bool Grants::Has(CallGroup group) const { return (calls_ & Bit(group)) != 0; }

const Grants::RegionGrant* Grants::Find(const Region& region) const {
  const auto found = std::ranges::find_if(
      regions_, [&](const RegionGrant& grant) { return grant.region.get() == &region; });
  return found == regions_.end() ? nullptr : &*found;
}
const Gate* Grants::FindGate(std::string_view name) const {
  const auto found =
      std::ranges::find_if(gates_, [&](const Gate& gate) { return gate.name() == name; });
  return found == gates_.end() ? nullptr : &*found;
}

Grants Grants::WithDescriptors(std::vector<Descriptor> descriptors) const {
  Grants result = *this;
  result.descriptors_.clear();
  for (Descriptor& descriptor : descriptors) result.Add(std::move(descriptor));
  return result;
}

std::vector<std::string> Grants::Exceeding(const Grants& wider) const {
  std::vector<std::string> lines;
  for (const RegionGrant& grant : regions_) {
    const RegionGrant* const other = wider.Find(*grant.region);
    if (other == nullptr || other->access < grant.access) lines.push_back(LineOf(grant));
  }
  for (const Descriptor& descriptor : descriptors_) {
    const bool is_there = std::ranges::any_of(wider.descriptors_, [&](const Descriptor& other) {
      return other.IsSame(descriptor) && other.number() == descriptor.number() &&
             IsWithin(descriptor.access(), other.access());
    });
    if (!is_there) lines.push_back(LineOf(descriptor));
  }
  for (const CallGroup group : kAllCallGroups) {
    if (Has(group) && !wider.Has(group)) lines.push_back(LineOf(group));
  }
  for (const Gate& gate : gates_) {
    const Gate* const other = wider.FindGate(gate.name());
    if (other == nullptr || !other->IsSame(gate)) lines.push_back(LineOf(gate));
  }
  return lines;
}

std::vector<std::string> Grants::Lines() const { return Exceeding(Grants()); }

}  // namespace dunebox
