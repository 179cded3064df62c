#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "sandbox/compartment/region_area.h"
#include "sandbox/worker/shared_memory.h"

namespace dunebox {

using compartment::kRegionArea;

struct Region::State {
  std::string name;
  std::uint64_t address;
  worker::SharedMemory memory;
};

namespace {

// All regions of the process, by guest address.
class Places {
 public:
  static Places& Instance() {
    static auto* const places = new Places;  // regions may outlive static destructors
    return *places;
  }

  // The lowest place with a free page behind it. 0: there is none.
  std::uint64_t Take(std::uint64_t size) {
    const std::lock_guard lock(mutex_);
    std::uint64_t at = kRegionArea.start.value;
    for (const auto& [start, taken] : taken_) {
      if (start - at >= size + kPageSize) break;
      at = start + taken.size + kPageSize;
    }
    if (kRegionArea.end.value - at < size + kPageSize) return 0;
    taken_.emplace(at, Taken{size, nullptr});
    return at;
  }
  void Name(std::uint64_t address, const Region* region) {
    const std::lock_guard lock(mutex_);
    taken_.at(address).region = region;
  }
  void GiveBack(std::uint64_t address) {
    const std::lock_guard lock(mutex_);
    taken_.erase(address);
  }
  std::optional<compartment::RegionPlace> Find(std::uint64_t address) {
    const std::lock_guard lock(mutex_);
    auto found = taken_.upper_bound(address);
    if (found == taken_.begin()) return std::nullopt;
    --found;
    const Region* const region = found->second.region;
    if (address - found->first >= found->second.size || region == nullptr) return std::nullopt;
    return compartment::RegionPlace{region, region->name(), address - found->first};
  }

 private:
  struct Taken {
    std::uint64_t size;
    const Region* region;  // null: not made yet
  };
  std::mutex mutex_;
  std::map<std::uint64_t, Taken> taken_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Region>> Region::Create(std::string name, std::size_t bytes) {
  const bool is_text = std::ranges::none_of(
      name, [](char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); });
  if (name.empty() || !is_text || bytes == 0) {
    return absl::InvalidArgumentError("a region has a printable name and a size");
  }
  const absl::Status none = absl::ResourceExhaustedError(
      absl::StrCat("no room for region '", name, "' of ", bytes, " bytes"));
  if (bytes > kRegionArea.size()) return none;
  const std::uint64_t size = PageUp(bytes);
  absl::StatusOr<worker::SharedMemory> memory =
      worker::SharedMemory::Create("dunebox-region", size);
  if (!memory.ok()) return memory.status();
  const std::uint64_t address = Places::Instance().Take(size);
  if (address == 0) return none;
  std::shared_ptr<Region> region(new Region(std::make_unique<State>(
      State{.name = std::move(name), .address = address, .memory = *std::move(memory)})));
  Places::Instance().Name(address, region.get());
  return region;
}

Region::Region(std::unique_ptr<State> state) : state_(std::move(state)) {}
Region::~Region() { Places::Instance().GiveBack(state_->address); }

const std::string& Region::name() const { return state_->name; }
std::span<std::byte> Region::span() const { return state_->memory.bytes(); }
std::uint64_t Region::address() const { return state_->address; }
int Region::file() const { return state_->memory.fd(); }

namespace compartment {

std::optional<RegionPlace> FindRegion(std::uint64_t address) {
  return Places::Instance().Find(address);
}

GuestRange RangeOf(const Region& region) {
  const GuestVirt start{region.address()};
  return {start, start + region.span().size()};
}

}  // namespace compartment
}  // namespace dunebox
