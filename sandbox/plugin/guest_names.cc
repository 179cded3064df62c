#include "sandbox/plugin/guest_names.h"

#include <sys/mman.h>

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "hostcalls/result.h"

namespace dunebox::plugin {
namespace {

// As it lies in the window: the header, so many entries by length and then name, and behind them the names.
struct Header {
  std::uint32_t count = 0;
  std::uint32_t unused = 0;
};
struct Entry {
  std::uint64_t address = 0;
  std::uint32_t name = 0;  // where among the names
  std::uint32_t length = 0;
  std::uint64_t is_indirect = 0;
};
static_assert(sizeof(Header) == 8 && sizeof(Entry) == 24);

template <typename T>
void Append(std::vector<std::byte>& bytes, const T& value) {
  const auto more = std::as_bytes(std::span(&value, 1));
  bytes.insert(bytes.end(), more.begin(), more.end());
}

}  // namespace

absl::StatusOr<std::uint64_t> PutNames(memory::AddressSpace& space,
                                       const loader::ProgramSymbols& symbols, std::uint64_t bias) {
  std::vector<std::byte> bytes;
  Append(bytes, Header{.count = static_cast<std::uint32_t>(symbols.symbols.size())});
  for (const loader::ProgramSymbol& symbol : symbols.symbols) {
    Append(bytes, Entry{.address = symbol.address + bias,
                        .name = symbol.name,
                        .length = symbol.length,
                        .is_indirect = symbol.is_indirect});
  }
  const auto names = std::as_bytes(std::span(symbols.names));
  bytes.insert(bytes.end(), names.begin(), names.end());
  const hostcalls::SyscallResult mapped = space.Map({.length = bytes.size(),
                                                     .prot = PROT_READ | PROT_WRITE,
                                                     .flags = MAP_PRIVATE | MAP_ANONYMOUS});
  const absl::Status no_room = absl::ResourceExhaustedError("no room for the names of its functions");
  if (!mapped.ok()) return no_room;
  const std::uint64_t address = mapped.ToRegister();
  if (!space.memory().Write(address, bytes) ||
      !space.Protect(address, bytes.size(), PROT_READ).ok()) {
    return no_room;
  }
  return address;
}

std::optional<FoundName> FindName(const hostcalls::GuestMemory& memory, std::uint64_t names,
                                  std::string_view name) {
  const hostcalls::CopyResult<Header> read = memory.CopyIn(GuestPtr<Header>{names});
  if (!read.ok()) return std::nullopt;
  const std::uint64_t count = (*read).count;
  const std::uint64_t entries = names + sizeof(Header);
  const std::uint64_t texts = entries + count * sizeof(Entry);
  std::string text(name.size(), '\0');
  // Halves what is left each time, whatever it reads.
  std::uint64_t first = 0, end = count;
  while (first < end) {
    const std::uint64_t middle = first + (end - first) / 2;
    const hostcalls::CopyResult<Entry> found =
        memory.CopyIn(GuestPtr<Entry>{entries + middle * sizeof(Entry)});
    if (!found.ok()) return std::nullopt;
    const Entry entry = *found;
    int order = entry.length < name.size() ? -1 : entry.length > name.size() ? 1 : 0;
    if (order == 0) {
      if (!memory.Read(texts + entry.name, std::as_writable_bytes(std::span(text)))) return std::nullopt;
      order = text.compare(name);
    }
    if (order == 0) return FoundName{.address = entry.address, .is_indirect = entry.is_indirect != 0};
    (order < 0 ? first : end) = order < 0 ? middle + 1 : middle;
  }
  return std::nullopt;
}

}  // namespace dunebox::plugin
