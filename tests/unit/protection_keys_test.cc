// Isolation pku's parts. What needs protection keys is skipped where there are none; the lab has
// them.
#include "hostcalls/memory/protection_keys.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "runtime/jit/key_probe.h"
#include "runtime/memory/host_mapper.h"

namespace dunebox {
namespace {

constexpr std::size_t kSize = 0x4000;
constexpr int kReadWrite = PROT_READ | PROT_WRITE;
constexpr int kFresh = MAP_PRIVATE | MAP_ANONYMOUS;

// As /proc/self/smaps has it; -1 when nothing is mapped there.
int KeyOf(const void* address) {
  const auto wanted = reinterpret_cast<unsigned long>(address);
  FILE* file = std::fopen("/proc/self/smaps", "r");
  char line[512];
  bool here = false;
  int key = -1;
  while (file != nullptr && std::fgets(line, sizeof(line), file) != nullptr) {
    unsigned long start = 0, end = 0;
    if (std::sscanf(line, "%lx-%lx ", &start, &end) == 2) here = wanted >= start && wanted < end;
    if (here) std::sscanf(line, "ProtectionKey: %d", &key);
  }
  if (file != nullptr) std::fclose(file);
  return key;
}

void* Place() { return mmap(nullptr, kSize, kReadWrite, kFresh, -1, 0); }

TEST(HostMapper, WithoutAKeyReplacesAsMmapDoes) {
  void* place = Place();
  std::memset(place, 1, kSize);
  const memory::HostMapper mapper;
  EXPECT_EQ(mapper.Map(place, kSize, kReadWrite, kFresh | MAP_FIXED, -1, 0), place);
  EXPECT_EQ(*static_cast<char*>(place), 0);
  EXPECT_EQ(mapper.Map(place, kSize, kReadWrite, kFresh | MAP_FIXED_NOREPLACE, -1, 0), MAP_FAILED);
  EXPECT_EQ(errno, EEXIST);
  munmap(place, kSize);
}

TEST(KeyProbe, SaysWhatIsMissing) {
  const absl::Status processor = hostcalls::CheckProtectionKeys();
  const absl::Status probe = runtime::ProbeKeys();
  if (processor.ok()) GTEST_SKIP() << "the processor has keys: " << probe;
  EXPECT_EQ(probe, processor);
}

class Keys : public testing::Test {
 protected:
  void SetUp() override {
    const absl::Status opened = hostcalls::OpenProtectionKeys();
    if (!opened.ok()) GTEST_SKIP() << opened;
    mapper_.SetKey(DUNE_KEY_GUEST);
  }
  memory::HostMapper mapper_;
};

TEST_F(Keys, FreshAndReplacingMappingsHaveTheGuestsKey) {
  void* place = Place();
  std::memset(place, 1, kSize);
  ASSERT_EQ(mapper_.Map(place, kSize, kReadWrite, kFresh | MAP_FIXED, -1, 0), place);
  EXPECT_EQ(KeyOf(place), DUNE_KEY_GUEST);
  EXPECT_EQ(*static_cast<char*>(place), 0);
  ASSERT_EQ(mprotect(place, kSize, PROT_READ), 0);
  EXPECT_EQ(KeyOf(place), DUNE_KEY_GUEST);
  munmap(place, kSize);
  ASSERT_EQ(mapper_.Map(place, kSize, PROT_NONE, kFresh | MAP_FIXED_NOREPLACE, -1, 0), place);
  EXPECT_EQ(KeyOf(place), DUNE_KEY_GUEST);
  munmap(place, kSize);
}

TEST_F(Keys, AMappingThatCannotBeMadeLeavesWhatWasThere) {
  void* place = Place();
  std::memset(place, 1, kSize);
  EXPECT_EQ(mapper_.Map(place, kSize, kReadWrite, MAP_PRIVATE | MAP_FIXED, -1, 0), MAP_FAILED);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(*static_cast<char*>(place), 1);
  munmap(place, kSize);
}

TEST_F(Keys, AreOpenedOnce) { EXPECT_TRUE(hostcalls::OpenProtectionKeys().ok()); }

}  // namespace
}  // namespace dunebox
