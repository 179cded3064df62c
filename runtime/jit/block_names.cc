#include "runtime/jit/block_names.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/diagnostics.h"

namespace dunebox::runtime {
namespace {

std::string PlainName(const std::optional<FilePlace>& place, std::uint64_t pc) {
  if (!place) return absl::StrFormat("guest:0x%x", pc);
  return absl::StrFormat("guest:%s+0x%x", std::string(BaseName(place->path)), place->offset);
}

}  // namespace

std::optional<FilePlace> FilePlaceOf(const memory::AddressSpace& space, std::uint64_t pc) {
  return space.WithVma(GuestVirt{pc}, [&](const memory::Vma* vma) -> std::optional<FilePlace> {
    if (vma == nullptr || vma->backing == nullptr || vma->backing->name.empty()) return {};
    return FilePlace{vma->backing->name, pc - vma->range.start.value + vma->offset};
  });
}

std::string PlaceName(const memory::AddressSpace& space, std::uint64_t pc) {
  return PlainName(FilePlaceOf(space, pc), pc);
}

std::string BlockNames::NameOf(const std::optional<FilePlace>& place, std::uint64_t pc) {
  if (!place || !place->path.starts_with('/')) return PlainName(place, pc);
  const hostcalls::LowDescriptors::Window window(limits_.low_descriptors);
  const std::optional<std::string> symbol = symbols_.NameOf(place->path, place->offset);
  if (!symbol) return PlainName(place, pc);
  return absl::StrCat(PlainName(place, pc), " ", *symbol);
}

}  // namespace dunebox::runtime
