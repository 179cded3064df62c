#include "jit-fallback/cache/guest_code.h"

#include <cstring>

namespace dunebox::jit {
namespace {

struct Header {
  std::uint16_t size;
  std::uint8_t kind, zero;
};
static_assert(sizeof(Header) == 4);

}  // namespace

void AppendGuestCode(EntryKind kind, std::span<const std::uint8_t> bytes, std::string& records) {
  const Header header{.size = static_cast<std::uint16_t>(bytes.size()),
                      .kind = static_cast<std::uint8_t>(kind),
                      .zero = 0};
  records.append(reinterpret_cast<const char*>(&header), sizeof(header));
  records.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

absl::Status ForEachGuestCode(
    std::string_view records,
    absl::FunctionRef<void(EntryKind kind, std::span<const std::uint8_t> bytes)> use) {
  while (!records.empty()) {
    Header header;
    if (records.size() < sizeof(header)) return absl::DataLossError("a record is cut off");
    std::memcpy(&header, records.data(), sizeof(header));
    records.remove_prefix(sizeof(header));
    if (header.size == 0 || header.size > kMostGuestCode || header.size > records.size() ||
        header.kind > static_cast<std::uint8_t>(EntryKind::kIndirect) || header.zero != 0) {
      return absl::DataLossError("a record that is none");
    }
    use(static_cast<EntryKind>(header.kind),
        {reinterpret_cast<const std::uint8_t*>(records.data()), header.size});
    records.remove_prefix(header.size);
  }
  return absl::OkStatus();
}

}  // namespace dunebox::jit
