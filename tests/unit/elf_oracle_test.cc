// Compares ParseElf with libelf on the programs and libraries of this machine.
#include <fcntl.h>
#include <gelf.h>
#include <gtest/gtest.h>
#include <libelf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "runtime/loader/elf_image.h"

namespace dunebox::loader {
namespace {

constexpr GuestRange kWholeProgram = {{0x1'0000}, {0x4000'0000'0000}};
constexpr std::size_t kMostFiles = 5000;

// One file as libelf sees it.
class Oracle {
 public:
  explicit Oracle(int fd) : elf_(elf_begin(fd, ELF_C_READ_MMAP, nullptr)) {
    if (elf_ == nullptr || elf_kind(elf_) != ELF_K_ELF) return;
    if (gelf_getehdr(elf_, &header) == nullptr) return;
    std::size_t count = 0;
    elf_getphdrnum(elf_, &count);
    for (std::size_t index = 0; index < count; ++index) {
      GElf_Phdr phdr;
      if (gelf_getphdr(elf_, static_cast<int>(index), &phdr) != nullptr) phdrs.push_back(phdr);
    }
    is_program = gelf_getclass(elf_) == ELFCLASS64 && header.e_machine == EM_X86_64 &&
                 (header.e_type == ET_EXEC || header.e_type == ET_DYN) && !Loads().empty();
  }
  ~Oracle() { elf_end(elf_); }
  Oracle(const Oracle&) = delete;
  Oracle& operator=(const Oracle&) = delete;

  std::vector<GElf_Phdr> Loads() const {
    std::vector<GElf_Phdr> loads;
    for (const GElf_Phdr& phdr : phdrs) {
      if (phdr.p_type == PT_LOAD && phdr.p_memsz > 0) loads.push_back(phdr);
    }
    return loads;
  }
  const GElf_Phdr* Find(std::uint32_t type) const {
    const auto found = std::ranges::find(phdrs, type, &GElf_Phdr::p_type);
    return found == phdrs.end() ? nullptr : &*found;
  }
  std::string Interpreter() const {
    const GElf_Phdr* interp = Find(PT_INTERP);
    std::size_t size = 0;
    const char* raw = elf_rawfile(elf_, &size);
    return interp == nullptr ? "" : std::string(raw + interp->p_offset);
  }

  GElf_Ehdr header = {};
  std::vector<GElf_Phdr> phdrs;
  bool is_program = false;

 private:
  Elf* elf_;
};

// Most libraries have no entry point and are no programs; give them one so that the rest of
// their headers can be compared.
ByteSource WithEntry(ByteSource file, std::uint64_t entry) {
  auto read = file.read;
  file.read = [read, entry](std::uint64_t offset, std::span<std::byte> to) {
    if (!read(offset, to)) return false;
    if (offset == 0 && to.size() == sizeof(Elf64_Ehdr)) {
      std::memcpy(to.data() + offsetof(Elf64_Ehdr, e_entry), &entry, sizeof(entry));
    }
    return true;
  };
  return file;
}

std::optional<std::uint64_t> CodeAddress(const Oracle& oracle) {
  for (const GElf_Phdr& load : oracle.Loads()) {
    if ((load.p_flags & PF_X) != 0) return load.p_vaddr;
  }
  return std::nullopt;
}

void CompareSegments(const ElfImage& image, const Oracle& oracle) {
  const std::vector<GElf_Phdr> loads = oracle.Loads();
  ASSERT_EQ(image.segments.size(), loads.size());
  for (std::size_t index = 0; index < loads.size(); ++index) {
    const LoadSegment& segment = image.segments[index];
    const GElf_Phdr& load = loads[index];
    EXPECT_EQ(segment.vaddr, load.p_vaddr);
    EXPECT_EQ(segment.memory_size, load.p_memsz);
    EXPECT_EQ(segment.file_offset, load.p_offset);
    EXPECT_EQ(segment.file_size, load.p_filesz);
    EXPECT_EQ((segment.protection & PROT_EXEC) != 0, (load.p_flags & PF_X) != 0);
    EXPECT_EQ((segment.protection & PROT_WRITE) != 0, (load.p_flags & PF_W) != 0);
    EXPECT_EQ((segment.protection & PROT_READ) != 0, (load.p_flags & PF_R) != 0);
  }
}

void Compare(const ElfImage& image, const Oracle& oracle) {
  EXPECT_EQ(image.kind == ElfKind::kFixed, oracle.header.e_type == ET_EXEC);
  EXPECT_EQ(image.program_header_count, oracle.phdrs.size());
  EXPECT_EQ(image.interpreter, oracle.Interpreter());
  EXPECT_EQ(image.has_tls, oracle.Find(PT_TLS) != nullptr);
  const GElf_Phdr* stack = oracle.Find(PT_GNU_STACK);
  EXPECT_EQ(image.is_stack_executable, stack != nullptr && (stack->p_flags & PF_X) != 0);
  if (const GElf_Phdr* table = oracle.Find(PT_PHDR)) {
    EXPECT_EQ(image.program_headers, table->p_vaddr);
  }
  CompareSegments(image, oracle);
}

void CompareProgram(const ByteSource& file, const Oracle& oracle) {
  const std::optional<std::uint64_t> code = CodeAddress(oracle);
  const auto image = ParseElf(WithEntry(file, code.value_or(0)), kWholeProgram);
  if (!code.has_value()) {  // A library of data only.
    EXPECT_FALSE(image.ok());
    return;
  }
  ASSERT_TRUE(image.ok()) << image.status();
  Compare(*image, oracle);
  if (oracle.Find(PT_INTERP) == nullptr) return;
  const auto unchanged = ParseElf(file, kWholeProgram);
  ASSERT_TRUE(unchanged.ok()) << unchanged.status();
  EXPECT_EQ(unchanged->entry, oracle.header.e_entry);
}

// Returns whether the file was one to compare.
bool CompareFile(const std::filesystem::path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const Oracle oracle(fd);
  const ByteSource file = FileBytes(fd, std::filesystem::file_size(path));
  if (oracle.is_program) {
    CompareProgram(file, oracle);
  } else {
    EXPECT_FALSE(ParseElf(file, kWholeProgram).ok());
  }
  close(fd);
  return oracle.is_program;
}

std::vector<std::filesystem::path> SomeFiles() {
  using std::filesystem::directory_options;
  std::vector<std::filesystem::path> paths;
  for (const char* root : {"/usr/bin", "/usr/lib/x86_64-linux-gnu"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(
             root, directory_options::skip_permission_denied)) {
      if (entry.is_regular_file() && !entry.is_symlink()) paths.push_back(entry.path());
    }
  }
  std::ranges::sort(paths);
  std::ranges::shuffle(paths, std::mt19937(1));
  return paths;
}

TEST(ElfOracle, AgreesWithLibelfOnInstalledFiles) {
  ASSERT_NE(elf_version(EV_CURRENT), EV_NONE);
  std::size_t compared = 0;
  for (const auto& path : SomeFiles()) {
    SCOPED_TRACE(path.string());
    compared += CompareFile(path) ? 1 : 0;
    if (compared == kMostFiles) break;
  }
  EXPECT_GE(compared, 100u);
  std::printf("compared %zu files\n", compared);
}

}  // namespace
}  // namespace dunebox::loader
