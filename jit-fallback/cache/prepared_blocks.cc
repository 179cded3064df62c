#include "jit-fallback/cache/prepared_blocks.h"

#include <nmmintrin.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace dunebox::jit {
namespace {

constexpr std::array<char, 8> kMagic = {'D', 'U', 'N', 'E', 'B', 'L', 'K', '2'};
constexpr std::size_t kAlignment = 64;
// A slot's block is at most so many behind the key's own: half of the slots are free.
constexpr std::uint32_t kMostProbes = 64;

constexpr std::size_t AlignUp(std::size_t value) {
  return (value + kAlignment - 1) / kAlignment * kAlignment;
}

[[gnu::target("sse4.2")]] std::uint32_t Crc(std::uint32_t sum, std::span<const std::byte> bytes) {
  std::uint64_t wide = sum;
  std::size_t at = 0;
  for (; at + sizeof(std::uint64_t) <= bytes.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + at, sizeof(word));
    wide = _mm_crc32_u64(wide, word);
  }
  auto narrow = static_cast<std::uint32_t>(wide);
  for (; at < bytes.size(); ++at) {
    narrow = _mm_crc32_u8(narrow, static_cast<std::uint8_t>(bytes[at]));
  }
  return narrow;
}

std::uint32_t CheckOf(const KeptBlock& kept) {
  constexpr std::uint32_t kStart = ~std::uint32_t{0};  // that of zeros is not zero
  return Crc(kStart, std::as_bytes(kept.record().subspan(sizeof(KeptHead::check))));
}

}  // namespace

struct PreparedBlocks::Header {
  std::array<char, 8> magic;
  std::uint64_t translator;
  std::uint32_t isolation;
  std::uint32_t checks_by_loop, counts_instructions, hidden_components;
  std::uint32_t slots, blocks;
  std::uint64_t bytes;  // of records
  std::uint32_t zero;
  std::uint32_t check;  // of what is above
};

namespace {

template <typename Header>
std::uint32_t HeaderCheck(const Header& header) {
  const auto bytes = std::as_bytes(std::span(&header, 1));
  return Crc(0, bytes.first(bytes.size() - sizeof(header.check)));
}

}  // namespace

// What is not of the file's size.
PreparedBlocks::Header PreparedBlocks::HeaderFor(const EmitterOptions& options) {
  return {.magic = kMagic,
          .translator = kTranslatorIdentity,
          .isolation = static_cast<std::uint32_t>(options.isolation),
          .checks_by_loop = options.check_by_loop ? 1U : 0U,
          .counts_instructions = options.counts_instructions ? 1U : 0U,
          .hidden_components = options.hidden_components};
}

std::string PreparedFile(const BlockStore& store, const EmitterOptions& options) {
  const std::uint32_t size = std::bit_ceil(std::max(store.size(), 1U) * 2);
  std::vector<PreparedBlocks::Slot> slots(size);
  std::vector<std::uint8_t> records;
  PreparedBlocks::Header header = PreparedBlocks::HeaderFor(options);
  header.slots = size;
  for (std::uint32_t number = 0; number < store.size(); ++number) {
    const std::uint64_t key = store.key(number);
    auto at = static_cast<std::uint32_t>(key) & (size - 1);
    std::uint32_t probes = 0;
    while (slots[at].record != 0 && ++probes < kMostProbes) at = (at + 1) & (size - 1);
    if (slots[at].record != 0) continue;  // it would not be found
    ++header.blocks;
    slots[at] = {.tag = static_cast<std::uint32_t>(key >> 32),
                 .record = static_cast<std::uint32_t>(records.size() / KeptBlock::kAlignment) + 1};
    const KeptBlock kept = store.block(number);
    const std::uint32_t check = CheckOf(kept);
    const auto* const first = reinterpret_cast<const std::uint8_t*>(&check);
    static_assert(offsetof(KeptHead, check) == 0);
    records.insert(records.end(), first, first + sizeof(check));
    const std::span<const std::uint8_t> rest = kept.record().subspan(sizeof(check));
    records.insert(records.end(), rest.begin(), rest.end());
  }
  header.bytes = records.size();
  header.check = HeaderCheck(header);
  std::string file;
  const auto append = [&](auto array) {
    const auto bytes = std::as_bytes(array);
    file.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    file.resize(AlignUp(file.size()));
  };
  append(std::span(&header, 1));
  append(std::span(slots));
  append(std::span(records));
  return file;
}

absl::StatusOr<std::unique_ptr<PreparedBlocks>> PreparedBlocks::Open(
    int fd, const EmitterOptions& options) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return absl::ErrnoToStatus(errno, "cannot look at it");
  if (status.st_size < static_cast<off_t>(sizeof(Header))) return absl::DataLossError("it is cut off");
  const auto size = static_cast<std::size_t>(status.st_size);
  void* const memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "cannot map it");
  std::unique_ptr<PreparedBlocks> blocks(
      new PreparedBlocks({static_cast<const std::byte*>(memory), size}));
  if (absl::Status read = blocks->Read(options); !read.ok()) return read;
  return blocks;
}

PreparedBlocks::~PreparedBlocks() {
  munmap(const_cast<std::byte*>(file_.data()), file_.size());
}

template <typename T>
bool PreparedBlocks::Take(std::size_t& at, std::uint64_t count, std::span<const T>& array) const {
  const std::size_t bytes = count * sizeof(T);
  if (at > file_.size() || bytes > file_.size() - at) return false;
  array = {reinterpret_cast<const T*>(file_.data() + at), count};
  at = AlignUp(at + bytes);
  return true;
}

absl::Status PreparedBlocks::Read(const EmitterOptions& options) {
  Header header;
  std::memcpy(&header, file_.data(), sizeof(header));
  const Header own = HeaderFor(options);
  if (header.magic != own.magic) return absl::DataLossError("it is no file of prepared translations");
  if (header.check != HeaderCheck(header)) return absl::DataLossError("its first bytes are damaged");
  if (header.translator != own.translator) {
    return absl::FailedPreconditionError("another version of Dunebox has made it");
  }
  if (header.isolation != own.isolation || header.counts_instructions != own.counts_instructions) {
    return absl::FailedPreconditionError("it is for another isolation");
  }
  if (header.checks_by_loop != own.checks_by_loop ||
      header.hidden_components != own.hidden_components) {
    return absl::FailedPreconditionError("it is for another processor");
  }
  std::size_t at = AlignUp(sizeof(header));
  if (!std::has_single_bit(header.slots) || !Take(at, header.slots, slots_) ||
      !Take(at, header.bytes, records_)) {
    return absl::DataLossError("it is cut off");
  }
  size_ = header.blocks;
  return absl::OkStatus();
}

std::optional<FoundBlock> PreparedBlocks::Find(std::uint64_t pc,
                                               std::span<const std::uint8_t> bytes, EntryKind kind,
                                               MovedCode& moved) const {
  if (bytes.size() < kKeyBytes || pc >= kLow2GiB) return std::nullopt;
  const std::uint64_t key = KeyOf(bytes, kind);
  const auto tag = static_cast<std::uint32_t>(key >> 32);
  const auto mask = static_cast<std::uint32_t>(slots_.size() - 1);
  for (std::uint32_t probe = 0; probe < kMostProbes; ++probe) {
    const Slot& slot = slots_[(static_cast<std::uint32_t>(key) + probe) & mask];
    if (slot.record == 0) break;
    if (slot.tag != tag) continue;
    const std::size_t at = std::size_t{slot.record - 1} * KeptBlock::kAlignment;
    const std::optional<KeptBlock> kept = KeptBlock::In(records_, at);
    if (!kept || !kept->IsAt(pc, bytes, kind) || kept->head().check != CheckOf(*kept)) continue;
    return kept->MoveTo(pc, moved);
  }
  return std::nullopt;
}

}  // namespace dunebox::jit
