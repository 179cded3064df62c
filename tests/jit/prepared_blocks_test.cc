// Translations in a file: what is found there is what translating makes, whatever has become of the
// file meanwhile.
#include "jit-fallback/cache/prepared_blocks.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "jit-fallback/cache/guest_code.h"
#include "tests/jit/kept.h"

namespace dunebox::jit {
namespace {

class File {
 public:
  explicit File(const std::string& bytes) : fd_(memfd_create("blocks", MFD_CLOEXEC)) {
    EXPECT_EQ(write(fd_, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  ~File() { close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

absl::StatusOr<std::unique_ptr<PreparedBlocks>> Open(const std::string& bytes,
                                                     const EmitterOptions& options) {
  const File file(bytes);
  return PreparedBlocks::Open(file.fd(), options);
}

struct Place {
  std::size_t at;
  EntryKind kind;
};

// The C library's first blocks, kept as for `options`, and where they begin.
std::string FileOfSomeCode(const EmitterOptions& options, std::size_t count, std::vector<Place>& places) {
  const Bytes code = SomeCode();
  BlockStore store;
  for (std::size_t at = 0; at + kMost < code.size() && places.size() < count;) {
    const EntryKind kind = places.size() % 3 == 0 ? EntryKind::kIndirect : EntryKind::kDirect;
    const Made made(kHere + at, code.subspan(at, kMost), kind, options);
    Keep(store, made, kind);
    places.push_back({at, kind});
    at += made.block.length;
  }
  return PreparedFile(store, options);
}

// Whatever is found is right; how much is.
std::size_t FindAll(const PreparedBlocks& blocks, const EmitterOptions& options, const std::vector<Place>& places) {
  const Bytes code = SomeCode();
  std::size_t found = 0;
  MovedCode moved;
  for (const auto& [at, kind] : places) {
    const Bytes bytes = code.subspan(at, kMost);
    const auto block = blocks.Find(kElsewhere + at, bytes, kind, moved);
    if (!block) continue;
    ++found;
    const Made there(kElsewhere + at, bytes, kind, options);
    EXPECT_EQ(block->length, there.block.length);
    EXPECT_EQ(block->may_use_x87, MayUseX87(there.block));
    ExpectSame(block->emitted, there.emitter.emitted(), at);
    if (testing::Test::HasFailure()) break;
  }
  return found;
}

class PreparedOf : public testing::TestWithParam<Isolation> {};

TEST_P(PreparedOf, CodeIsWhatTranslatingItMakes) {
  const EmitterOptions options = Isolated(GetParam());
  std::vector<Place> places;
  const std::string file = FileOfSomeCode(options, 9'000, places);
  const auto blocks = Open(file, options);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_GT(FindAll(**blocks, options, places), places.size() * 9 / 10);
}

INSTANTIATE_TEST_SUITE_P(AnyIsolation, PreparedOf,
                         testing::Values(Isolation::kNone, Isolation::kPku, Isolation::kSeg,
                                         Isolation::kMask, Isolation::kMaskWrites),
                         [](const auto& one) {
                           std::string name(NameOf(one.param));
                           std::erase(name, '-');
                           return name;
                         });

TEST(PreparedBlocks, AreForTheOptionsTheyWereMadeFor) {
  std::vector<Place> places;
  const EmitterOptions options = Isolated(Isolation::kMask);
  const std::string file = FileOfSomeCode(options, 50, places);
  EXPECT_TRUE(Open(file, options).ok());
  const auto expect_refused = [&](const EmitterOptions& other) {
    EXPECT_EQ(Open(file, other).status().code(), absl::StatusCode::kFailedPrecondition);
  };
  expect_refused(Isolated(Isolation::kNone));
  EmitterOptions other = options;
  other.check_by_loop = true;
  expect_refused(other);
  other = options;
  other.counts_instructions = true;
  expect_refused(other);
  other = options;
  other.hidden_components = 0xe0;
  expect_refused(other);
}

TEST(PreparedBlocks, OfAnotherVersionAreNotUsed) {
  std::vector<Place> places;
  const EmitterOptions options = Isolated(Isolation::kMask);
  std::string file = FileOfSomeCode(options, 50, places);
  constexpr std::size_t kIdentity = 8;  // behind the magic number
  std::uint64_t identity = 0;
  std::memcpy(&identity, file.data() + kIdentity, sizeof(identity));
  EXPECT_EQ(identity, kTranslatorIdentity);
  EXPECT_NE(identity, 0U);
  file[kIdentity] = static_cast<char>(file[kIdentity] ^ 1);
  // The header's checksum is wrong, too.
  EXPECT_EQ(Open(file, options).status().code(), absl::StatusCode::kDataLoss);
}

TEST(PreparedBlocks, AreNotTakenFromAFileThatIsCutOff) {
  std::vector<Place> places;
  const EmitterOptions options = Isolated(Isolation::kMask);
  const std::string file = FileOfSomeCode(options, 100, places);
  for (std::size_t size = 0; size < file.size(); size += 61) {
    const auto blocks = Open(file.substr(0, size), options);
    // At the end there may be nothing but what fills it up.
    EXPECT_TRUE(!blocks.ok() || size + 64 > file.size()) << size;
  }
}

// Not one byte makes it find something wrong, let alone read where nothing is.
TEST(PreparedBlocks, ThatAreDamagedAreNotFoundAnyMore) {
  std::vector<Place> places;
  const EmitterOptions options = Isolated(Isolation::kMask);
  const std::string whole = FileOfSomeCode(options, 200, places);
  std::mt19937 random(1);
  std::size_t damaged = 0;
  for (int round = 0; round < 400; ++round) {
    std::string file = whole;
    for (int i = 0; i < 20; ++i) {
      const std::size_t at = 64 + random() % (file.size() - 64);  // the header has its own
      file[at] = static_cast<char>(file[at] ^ static_cast<char>(1U << random() % 8));
    }
    const auto blocks = Open(file, options);
    ASSERT_TRUE(blocks.ok()) << blocks.status();
    if (FindAll(**blocks, options, places) < places.size() * 9 / 10) ++damaged;
    if (HasFailure()) return;
  }
  EXPECT_GT(damaged, 0U);
}

// What a disk has that has lost what was written to it. Whatever is looked for, zeros are no block of it.
TEST(PreparedBlocks, AreNotFoundInZeros) {
  std::vector<Place> places;
  const EmitterOptions options = Isolated(Isolation::kMask);
  std::string file = FileOfSomeCode(options, 200, places);
  const std::size_t records = file.size() / 4;  // behind the header and the slots
  file.replace(records, file.size() - records, file.size() - records, '\0');
  const auto blocks = Open(file, options);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_LT(FindAll(**blocks, options, places), places.size() / 2);
}

TEST(PreparedBlocks, OfNothingAreAFileToo) {
  const EmitterOptions options = Isolated(Isolation::kSeg);
  const BlockStore store;
  const auto blocks = Open(PreparedFile(store, options), options);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_EQ((*blocks)->size(), 0U);
  MovedCode moved;
  const std::vector<std::uint8_t> bytes(kMost, 0x90);
  EXPECT_FALSE((*blocks)->Find(kHere, bytes, EntryKind::kDirect, moved).has_value());
}

TEST(GuestCode, ComesBackAsItWas) {
  std::string records;
  const std::vector<std::vector<std::uint8_t>> all = {{0xc3}, std::vector<std::uint8_t>(kMostGuestCode, 0x90), {1, 2, 3}};
  for (const auto& bytes : all) AppendGuestCode(EntryKind::kIndirect, bytes, records);
  std::size_t number = 0;
  const absl::Status status = ForEachGuestCode(records, [&](EntryKind kind, Bytes bytes) {
    EXPECT_EQ(kind, EntryKind::kIndirect);
    ASSERT_LT(number, all.size());
    EXPECT_TRUE(std::ranges::equal(bytes, all[number++]));
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(number, all.size());
}

TEST(GuestCode, OfWhateverBytesIsReadOrRefused) {
  std::mt19937 random(2);
  std::string good;
  AppendGuestCode(EntryKind::kDirect, std::vector<std::uint8_t>(40, 0x90), good);
  for (int round = 0; round < 2'000; ++round) {
    std::string records = good;
    for (unsigned i = random() % 60; i > 0; --i) records.push_back(static_cast<char>(random()));
    std::size_t bytes_seen = 0;
    (void)ForEachGuestCode(records, [&](EntryKind, Bytes bytes) { bytes_seen += bytes.size(); });
    EXPECT_GE(bytes_seen, 40U);
    EXPECT_LE(bytes_seen, records.size());
  }
  EXPECT_FALSE(ForEachGuestCode(good.substr(0, good.size() - 1), [](EntryKind, Bytes) {}).ok());
}

}  // namespace
}  // namespace dunebox::jit
