// Feeds arbitrary bytes to the reader of saved sandboxes. What is accepted keeps to its window, gives the host only
// memory that the host can use, and is written as it was read.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sandbox/plugin/snapshot_format.h"

namespace dunebox::plugin {
namespace {

constexpr hostcalls::Window kWindow = hostcalls::Window::Embedded(0);

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "saved sandbox violates: %s\n", what);
  std::abort();
}

void CheckPieces(const SavedGuest& guest, const std::map<std::uint64_t, std::uint64_t>& pieces) {
  for (const auto& [address, size] : pieces) {
    const GuestRange range{GuestVirt{address}, GuestVirt{address + size}};
    Require(guest.memory.map.Covers(range), "the host's memory is mapped");
    guest.memory.map.ForEachIn(range, [](const memory::Vma& vma) {
      Require(vma.sealed && vma.protection.read && vma.protection.write, "and can be used");
      return true;
    });
  }
}

void Check(std::string_view bytes) {
  const absl::StatusOr<SavedGuest> guest = DecodeGuest(bytes, kWindow);
  if (!guest.ok()) return;
  guest->memory.map.ForEach([](const memory::Vma& vma) {
    Require(vma.range.start.value >= kWindow.lowest && vma.range.end.value <= kWindow.limit,
            "mappings are in the window");
    return true;
  });
  guest->contents.ForEach([&](const GuestRange& range) {
    Require(guest->memory.map.Covers(range), "contents are mapped");
  });
  CheckPieces(*guest, guest->arena.free);
  CheckPieces(*guest, guest->arena.used);
  CheckPieces(*guest, guest->shared.free);
  CheckPieces(*guest, guest->shared.used);
  const std::string written = EncodeGuest(*guest);
  const absl::StatusOr<SavedGuest> again = DecodeGuest(written, kWindow);
  Require(again.ok() && EncodeGuest(*again) == written, "it is written as it was read");
}

}  // namespace
}  // namespace dunebox::plugin

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  dunebox::plugin::Check({reinterpret_cast<const char*>(data), size});
  return 0;
}
