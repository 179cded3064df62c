#include "sandbox/compartment/translated_holder.h"

#include <sys/mman.h>

#include "sandbox/compartment/region_area.h"

namespace dunebox::compartment {

absl::Status TranslatedHolder::Put(const Region& region, std::optional<RegionAccess> access) {
  memory::AddressSpace& space = instance_.space();
  const GuestRange range = RangeOf(region);
  if (!access)
    return space.BackSealed(range, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  const int prot = *access == RegionAccess::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  const int sharing = *access == RegionAccess::kCopyOnWrite ? MAP_PRIVATE : MAP_SHARED;
  return space.BackSealed(range, prot, sharing | MAP_NORESERVE, region.file());
}

}  // namespace dunebox::compartment
