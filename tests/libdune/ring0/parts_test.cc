// The parts of the ring-0 backend that need no ring 0: what is read from the kernel and from files
// that nobody trusts.
#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "libdune/ring0_backend/memory_maps.h"
#include "libdune/ring0_backend/trap_handlers.h"
#include "libdune/loader/static_program.h"

namespace dune::ring0 {
namespace {

bool Parse(std::string_view line, Area* area) {
  return ParseMapsLine(line.data(), line.size(), area);
}

TEST(MemoryMaps, ALineOfAFile) {
  Area area;
  ASSERT_TRUE(Parse("55d0c0a00000-55d0c0a21000 r-xp 00001000 08:01 1234   /bin/x", &area));
  EXPECT_EQ(area.begin, 0x55d0c0a00000u);
  EXPECT_EQ(area.end, 0x55d0c0a21000u);
  EXPECT_EQ(area.rights, Area::kRead | Area::kExecute);
  EXPECT_TRUE(area.of_file);
}

TEST(MemoryMaps, ALineWithoutAFile) {
  Area area;
  ASSERT_TRUE(Parse("7ffff000-80000000 -w-s 00000000 00:00 0 ", &area));
  EXPECT_EQ(area.rights, Area::kWrite);
  EXPECT_FALSE(area.of_file);
}

TEST(MemoryMaps, WhatIsNoLineIsRefused) {
  Area area;
  for (const std::string_view line :
       {"", "x", "1000", "1000-2000", "1000-2000 rw", "1000-2000 rw-p", "1000-2000 rw-p 0 0",
        "1000-2000 rw-p 0 00:00"}) {
    EXPECT_FALSE(Parse(line, &area)) << line;
  }
}

class TheProcessItself : public ::testing::TestWithParam<MemoryMaps::Source> {};
INSTANTIATE_TEST_SUITE_P(MemoryMaps, TheProcessItself,
                         ::testing::Values(MemoryMaps::Source::kBest, MemoryMaps::Source::kText));

TEST_P(TheProcessItself, IsFoundAreaByArea) {
  MemoryMaps maps(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  maps.Use(GetParam());
  ASSERT_EQ(maps.Open(), 0);
  void* const memory =
      mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const auto begin = reinterpret_cast<std::uint64_t>(memory);
  ASSERT_EQ(mprotect(memory, 4096, PROT_READ), 0);
  ASSERT_EQ(munmap(reinterpret_cast<void*>(begin + 4096), 4096), 0);
  Area area;
  ASSERT_TRUE(maps.Find(begin + 5, &area));
  EXPECT_EQ(area.end, begin + 4096);
  EXPECT_EQ(area.rights, Area::kRead);
  EXPECT_FALSE(maps.Find(begin + 4096, &area));
  ASSERT_TRUE(maps.FindFrom(begin + 4096, &area));
  EXPECT_EQ(area.begin, begin + 8192);
  EXPECT_FALSE(maps.Find(0xffff'ffff'ffff'f000, &area));
  EXPECT_FALSE(area.of_file);
  ASSERT_TRUE(maps.Find(reinterpret_cast<std::uint64_t>(&Parse), &area));
  EXPECT_TRUE(area.of_file);
  EXPECT_EQ(area.rights, Area::kRead | Area::kExecute);
}

// A program without a descriptor left is served as well, and what it does with the lowest free one is its own affair.
TEST_P(TheProcessItself, IsFoundWithoutAFreeDescriptor) {
  MemoryMaps maps(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  maps.Use(GetParam());
  ASSERT_EQ(maps.Open(), 0);
  const pid_t child = fork();
  if (child == 0) {
    const rlimit few{32, 32};
    setrlimit(RLIMIT_NOFILE, &few);
    while (dup(0) >= 0) {
    }
    void* const memory = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Area area;
    // Of the parent until it is opened anew.
    const bool unknown = !maps.Find(reinterpret_cast<std::uint64_t>(memory), &area);
    const bool opened = maps.Open() == 0;
    _exit(unknown && opened && maps.Find(reinterpret_cast<std::uint64_t>(memory), &area) ? 42 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

// Nobody ever finds one handler with the other's kind.
TEST(ChosenHandler, ChangesWithItsKind) {
  ChosenHandler<TrapHandler> chosen;
  EXPECT_EQ(chosen.Get().handler, nullptr);
  static constexpr TrapHandler kFull = [](TrapFrame&) { return Resolution::kResume; };
  static constexpr TrapHandler kLight = [](TrapFrame&) { return Resolution::kPass; };
  chosen.Set(kFull, HandlerKind::kFull);
  std::atomic<bool> stop{false};
  std::thread changing([&] {
    while (!stop) {
      chosen.Set(kLight, HandlerKind::kLight);
      chosen.Set(kFull, HandlerKind::kFull);
    }
  });
  int light = 0;
  for (int round = 0; round < 1'000'000 || light == 0; ++round) {
    const auto [handler, kind] = chosen.Get();
    ASSERT_EQ(handler == kLight, kind == HandlerKind::kLight);
    light += kind == HandlerKind::kLight ? 1 : 0;
  }
  stop = true;
  changing.join();
}

// A program of one segment, code at its beginning.
struct File {
  Elf64_Ehdr elf{};
  Elf64_Phdr header{};
  char rest[256] = {};

  File() {
    std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
    elf.e_ident[EI_CLASS] = ELFCLASS64;
    elf.e_ident[EI_DATA] = ELFDATA2LSB;
    elf.e_machine = EM_X86_64;
    elf.e_type = ET_EXEC;
    elf.e_phentsize = sizeof(header);
    elf.e_phnum = 1;
    elf.e_phoff = sizeof(elf);
    elf.e_entry = 0x400100;
    header.p_type = PT_LOAD;
    header.p_flags = PF_R | PF_X;
    header.p_vaddr = 0x400000;
    header.p_filesz = sizeof(File);
    header.p_memsz = 0x3000;
  }
  absl::StatusOr<StaticProgram> Parse() const {
    constexpr UserPlaces kPlaces{.bias = 0x5555'5540'0000, .end = std::uintptr_t{1} << 46, .stack_top = 0};
    return ParseStaticProgram(std::as_bytes(std::span(this, 1)), kPlaces);
  }
};

TEST(StaticProgram, OneSegment) {
  const File file;
  const absl::StatusOr<StaticProgram> program = file.Parse();
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(program->entry, 0x400100u);
  EXPECT_EQ(program->headers, 0x400000u + sizeof(Elf64_Ehdr));
  EXPECT_EQ(program->end, 0x403000u);
  EXPECT_EQ(program->pages.size(), 3u);
  EXPECT_EQ(program->pages.at(0x402000), Rights::kReadExecute);
  EXPECT_EQ(program->parts.at(0).bytes.size(), sizeof(File));
}

TEST(StaticProgram, WhatLiesOutsideIsRefused) {
  const auto refused = [](void (*change)(File&)) {
    File file;
    change(file);
    return absl::IsInvalidArgument(file.Parse().status());
  };
  EXPECT_TRUE(refused([](File& file) { file.elf.e_ident[1] = 'x'; }));
  EXPECT_TRUE(refused([](File& file) { file.elf.e_machine = EM_386; }));
  EXPECT_TRUE(refused([](File& file) { file.elf.e_phnum = 60000; }));
  EXPECT_TRUE(refused([](File& file) { file.elf.e_phoff = ~0ull - 8; }));
  EXPECT_TRUE(refused([](File& file) { file.elf.e_entry = 0x500000; }));
  EXPECT_TRUE(refused([](File& file) { file.header.p_type = PT_NULL; }));
  EXPECT_TRUE(refused([](File& file) { file.header.p_type = PT_INTERP; }));
  EXPECT_TRUE(refused([](File& file) { file.header.p_filesz = 0x2000; }));
  EXPECT_TRUE(refused([](File& file) { file.header.p_offset = ~0ull; }));
  EXPECT_TRUE(refused([](File& file) { file.header.p_memsz = 1; }));
  EXPECT_TRUE(refused([](File& file) { file.header.p_memsz = ~0ull; }));
  EXPECT_TRUE(refused([](File& file) { file.header.p_vaddr = ~0ull - 0x1000; }));
  EXPECT_TRUE(refused([](File& file) { file.header.p_vaddr = 0x1000; }));
  EXPECT_TRUE(refused([](File& file) { file.header.p_vaddr = std::uint64_t{1} << 46; }));
}

// Whatever a file says, what comes out lies in the file and where programs may.
TEST(StaticProgram, BrokenFilesStayInside) {
  std::mt19937_64 random(7);
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    File file;
    const unsigned changes = random() % 4;
    for (unsigned change = 0; change < changes; ++change) {
      auto* const bytes = reinterpret_cast<unsigned char*>(&file);
      bytes[random() % (sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr))] =
          static_cast<unsigned char>(random());
    }
    const absl::StatusOr<StaticProgram> program = file.Parse();
    if (!program.ok()) continue;
    ++accepted;
    for (const StaticProgram::Part& part : program->parts) {
      ASSERT_GE(part.bytes.data(), reinterpret_cast<std::byte*>(&file));
      ASSERT_LE(part.bytes.data() + part.bytes.size(), reinterpret_cast<std::byte*>(&file + 1));
      ASSERT_TRUE(part.bytes.empty() ||
                  program->pages.contains(part.address & ~std::uintptr_t{4095}));
      ASSERT_LE(part.address + part.bytes.size(), program->end);
    }
    ASSERT_GE(program->pages.begin()->first, 0x10000u);
    ASSERT_LE(program->end, std::uintptr_t{1} << 46);
  }
  EXPECT_GT(accepted, 1000);
}

}  // namespace
}  // namespace dune::ring0
