#include "runtime/loader/elf_image.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <ostream>

#include "tests/unit/test_elf.h"

namespace dunebox::loader {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr GuestRange kWholeProgram = {{0x1'0000}, {0x4000'0000'0000}};
constexpr GuestRange kEmbedded = {{0x1'0000}, {0x1'0000'0000}};

absl::StatusOr<ElfImage> Parse(const TestElf& elf, const GuestRange& window = kWholeProgram) {
  const std::vector<std::byte> bytes = elf.Bytes();
  return ParseElf(MemoryBytes(bytes), window);
}

std::vector<std::byte> ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(ElfImage, DescribesAWellFormedProgram) {
  const auto image = Parse(TestElf());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->kind, ElfKind::kFixed);
  EXPECT_EQ(image->entry, 0x40'0400);
  EXPECT_EQ(image->program_headers, 0x40'0040);
  EXPECT_EQ(image->program_header_count, 4);
  EXPECT_EQ(image->interpreter, "/lib64/ld.so");
  EXPECT_FALSE(image->is_stack_executable);
  EXPECT_FALSE(image->has_tls);
  EXPECT_EQ(image->alignment, 0x1000);
  EXPECT_EQ(image->span.start, 0x40'0000);
  EXPECT_EQ(image->span.end, 0x40'6000);
  ASSERT_THAT(image->segments, SizeIs(2));
  EXPECT_EQ(image->segments[0].protection, PROT_READ | PROT_EXEC);
  EXPECT_EQ(image->segments[1].protection, PROT_READ | PROT_WRITE);
  EXPECT_EQ(image->segments[1].vaddr, 0x40'2200);
  EXPECT_EQ(image->segments[1].end(), 0x40'5200);
  EXPECT_EQ(image->segments[1].file_offset, 0x1200);
  EXPECT_EQ(image->segments[1].file_size, 0x300);
}

// ---- What is refused, and in which words --------------------------------------------------------

struct Refusal {
  const char* name;
  std::function<void(TestElf&)> bend;
  const char* message;
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.name; }

class ElfRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(ElfRefusal, IsOneClearClause) {
  TestElf elf;
  GetParam().bend(elf);
  const absl::Status status = Parse(elf).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Message(status), GetParam().message);
}

const Refusal kFileHeaderRefusals[] = {
    {"Magic", [](TestElf& elf) { elf.header.e_ident[3] = 'f'; }, "not an ELF file"},
    {"EmptyFile", [](TestElf& elf) { elf.file_size = 0; }, "not an ELF file"},
    {"HalfAHeader", [](TestElf& elf) { elf.file_size = 63; },
     "a truncated ELF: 63 bytes of a 64-byte header"},
    {"Class32",
     [](TestElf& elf) {
       elf.header.e_ident[EI_CLASS] = ELFCLASS32;
       elf.header.e_machine = EM_386;
     },
     "a 32-bit ELF for machine i386 (3)"},
    {"ClassUnknown", [](TestElf& elf) { elf.header.e_ident[EI_CLASS] = 7; },
     "an ELF of unknown class 7"},
    {"BigEndian", [](TestElf& elf) { elf.header.e_ident[EI_DATA] = ELFDATA2MSB; },
     "an ELF that is not little-endian"},
    {"OtherMachine", [](TestElf& elf) { elf.header.e_machine = EM_AARCH64; },
     "an ELF for machine AArch64 (183)"},
    {"UnknownMachine", [](TestElf& elf) { elf.header.e_machine = 4711; },
     "an ELF for machine 4711"},
    {"ObjectFile", [](TestElf& elf) { elf.header.e_type = ET_REL; },
     "an ELF object file, not a linked program"},
    {"CoreDump", [](TestElf& elf) { elf.header.e_type = ET_CORE; },
     "an ELF core dump, not a program"},
    {"UnknownType", [](TestElf& elf) { elf.header.e_type = 9; },
     "an ELF file of type 9, not a program"},
    {"EntrySize", [](TestElf& elf) { elf.header.e_phentsize = 64; },
     "program headers of 64 bytes each instead of 56"},
    {"NoProgramHeaders", [](TestElf& elf) { elf.has_no_program_headers = true; },
     "an ELF without program headers"},
    {"TooManyProgramHeaders", [](TestElf& elf) { elf.header.e_phnum = 1171; },
     "1171 program headers exceed 65536 bytes"},
    {"ProgramHeadersPastTheEnd", [](TestElf& elf) { elf.header.e_phoff = 0x1421; },
     "the program headers at 0x1421+0xe0 are past the end of the file (0x1500 bytes)"},
    {"ProgramHeadersWrap", [](TestElf& elf) { elf.header.e_phoff = ~0ull - 8; },
     "the program headers at 0xfffffffffffffff7+0xe0 are past the end of the file (0x1500 bytes)"},
    {"NoLoad", [](TestElf& elf) { elf.code().p_type = elf.data().p_type = PT_NULL; },
     "an ELF without a loadable segment"},
    {"OnlyEmptyLoads",
     [](TestElf& elf) {
       elf.code().p_filesz = elf.code().p_memsz = 0;
       elf.data().p_filesz = elf.data().p_memsz = 0;
     },
     "an ELF without a loadable segment"},
    {"EntryInData", [](TestElf& elf) { elf.header.e_entry = 0x40'2300; },
     "the entry point 0x402300 is not in an executable segment"},
    {"EntryNowhere", [](TestElf& elf) { elf.header.e_entry = 0; },
     "the entry point 0x0 is not in an executable segment"},
    {"EntryJustBehind", [](TestElf& elf) { elf.header.e_entry = 0x40'1000; },
     "the entry point 0x401000 is not in an executable segment"},
};

const Refusal kSegmentRefusals[] = {
    {"FileSizeAboveMemorySize", [](TestElf& elf) { elf.data().p_memsz = 0x2ff; },
     "program header 2: file size 0x300 is larger than memory size 0x2ff"},
    {"AlignmentNotAPowerOfTwo", [](TestElf& elf) { elf.code().p_align = 0x3000; },
     "program header 0: alignment 0x3000 is not a power of two"},
    {"PastTheEnd", [](TestElf& elf) { elf.data().p_filesz = 0x0e01; },
     "program header 2: file range 0x1200+0xe01 is past the end of the file (0x1500 bytes)"},
    {"StartsPastTheEnd", [](TestElf& elf) { elf.data().p_offset = 0x3200; },
     "program header 2: file range 0x3200+0x300 is past the end of the file (0x1500 bytes)"},
    {"FileRangeWraps", [](TestElf& elf) { elf.data().p_offset = ~0ull - 0xdff; },
     "program header 2: file range 0xfffffffffffff200+0x300 is past the end of the file "
     "(0x1500 bytes)"},
    {"Incongruent", [](TestElf& elf) { elf.data().p_vaddr += 0x10; },
     "program header 2: file offset 0x1200 and address 0x402210 differ within a page"},
    {"Descending", [](TestElf& elf) { elf.data().p_vaddr = 0x30'0200; },
     "program header 2: memory range 0x300200+0x3000 is below its predecessor 0x400000+0x1000"},
    {"Overlapping", [](TestElf& elf) { elf.data().p_vaddr = 0x40'0200; },
     "program header 2: memory range 0x400200+0x3000 overlaps its predecessor 0x400000+0x1000"},
    {"SameStart",
     [](TestElf& elf) {
       elf.data() = elf.code();
       elf.data().p_flags = PF_R | PF_W;
     },
     "program header 2: memory range 0x400000+0x1000 overlaps its predecessor 0x400000+0x1000"},
    {"LastByteShared", [](TestElf& elf) { elf.code().p_memsz = 0x2201; },
     "program header 2: memory range 0x402200+0x3000 overlaps its predecessor 0x400000+0x2201"},
    {"AddressesWrap", [](TestElf& elf) { elf.data().p_memsz = ~0ull - 0xfff; },
     "program header 2: memory range 0x402200+0xfffffffffffff000 is outside the program's "
     "addresses 0x10000..0x400000000000"},
    {"BelowTheWindow", [](TestElf& elf) { elf.code().p_vaddr = 0xf000; },
     "program header 0: memory range 0xf000+0x1000 is outside the program's addresses "
     "0x10000..0x400000000000"},
    {"AboveTheWindow", [](TestElf& elf) { elf.data().p_vaddr = 0x3fff'ffff'e200; },
     "program header 2: memory range 0x3fffffffe200+0x3000 is outside the program's addresses "
     "0x10000..0x400000000000"},
    {"InTheRuntimesHalf", [](TestElf& elf) { elf.data().p_vaddr = 0x7fff'0000'0200; },
     "program header 2: memory range 0x7fff00000200+0x3000 is outside the program's addresses "
     "0x10000..0x400000000000"},
};

const Refusal kInterpreterRefusals[] = {
    {"EmptyField", [](TestElf& elf) { elf.SetInterpreter(""); },
     "program header 1: an empty interpreter path"},
    {"OnlyANul", [](TestElf& elf) { elf.SetInterpreter(std::string(2, '\0')); },
     "program header 1: an empty interpreter path"},
    {"Unterminated", [](TestElf& elf) { elf.SetInterpreter("/lib64/ld.so"); },
     "program header 1: an unterminated interpreter path"},
    {"TooLong", [](TestElf& elf) { elf.interp().p_filesz = 4097; },
     "program header 1: an interpreter path of 4097 bytes"},
    {"PastTheEnd", [](TestElf& elf) { elf.interp().p_offset = 0x1500 - 12; },
     "program header 1: the interpreter path at 0x14f4+0xd is past the end of the file "
     "(0x1500 bytes)"},
    {"OffsetWraps", [](TestElf& elf) { elf.interp().p_offset = ~0ull; },
     "program header 1: the interpreter path at 0xffffffffffffffff+0xd is past the end of the "
     "file (0x1500 bytes)"},
    {"Second", [](TestElf& elf) { elf.stack() = elf.interp(); },
     "program header 3: a second interpreter path"},
};

std::string NameOf(const ::testing::TestParamInfo<Refusal>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(FileHeader, ElfRefusal, ::testing::ValuesIn(kFileHeaderRefusals), NameOf);
INSTANTIATE_TEST_SUITE_P(Segment, ElfRefusal, ::testing::ValuesIn(kSegmentRefusals), NameOf);
INSTANTIATE_TEST_SUITE_P(Interpreter, ElfRefusal, ::testing::ValuesIn(kInterpreterRefusals),
                         NameOf);

// ---- What is unusual but legal ------------------------------------------------------------------

TEST(ElfImage, StackIsExecutableOnlyWhenAskedFor) {
  TestElf elf;
  elf.stack().p_flags = PF_R | PF_W | PF_X;
  EXPECT_TRUE(Parse(elf)->is_stack_executable);
  elf.stack().p_type = PT_NULL;
  EXPECT_FALSE(Parse(elf)->is_stack_executable);
}

TEST(ElfImage, NoInterpreterMeansAStaticProgram) {
  TestElf elf;
  elf.interp().p_type = PT_TLS;
  EXPECT_THAT(Parse(elf)->interpreter, IsEmpty());
  EXPECT_TRUE(Parse(elf)->has_tls);
}

TEST(ElfImage, InterpreterPathEndsAtItsFirstNul) {
  TestElf elf;
  elf.SetInterpreter(std::string("/lib/a.so\0garbage\0", 18));
  EXPECT_EQ(Parse(elf)->interpreter, "/lib/a.so");
}

TEST(ElfImage, SegmentsMayShareAPageButNoByte) {
  TestElf elf;
  elf.code().p_filesz = elf.code().p_memsz = 0x800;
  elf.data().p_offset = 0x800;
  elf.data().p_vaddr = 0x40'0800;
  const auto image = Parse(elf);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->segments[0].end(), image->segments[1].vaddr);
}

TEST(ElfImage, EmptySegmentsAreDroppedWhateverTheySay) {
  TestElf elf;
  elf.stack() = {PT_LOAD, PF_R, ~0ull, 0x123, 0, 0, 0, 0x1000};
  const auto image = Parse(elf);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_THAT(image->segments, SizeIs(2));
}

TEST(ElfImage, ZeroFilledSegmentNeedsNoFileOffset) {
  TestElf elf;
  elf.data().p_filesz = 0;
  elf.data().p_offset = ~0ull;
  EXPECT_TRUE(Parse(elf).ok());
}

TEST(ElfImage, RestOfTheFilesLastPageIsZeroNotAnError) {
  TestElf elf;
  elf.data().p_filesz = 0x0e00;  // To 0x2000; the file ends at 0x1500.
  EXPECT_TRUE(Parse(elf).ok());
}

TEST(ElfImage, EntryMayLieInTheTailOfAnExecutablePage) {
  TestElf elf;
  elf.code().p_filesz = elf.code().p_memsz = 0x900;
  elf.header.e_entry = 0x40'0fff;
  EXPECT_TRUE(Parse(elf).ok());
}

TEST(ElfImage, ProgramHeadersOutsideEverySegmentHaveNoAddress) {
  TestElf elf;
  elf.code().p_offset = 0x1000;
  EXPECT_EQ(Parse(elf)->program_headers, 0);
}

TEST(ElfImage, LastSegmentHoldingTheProgramHeadersGivesTheirAddress) {
  TestElf elf;
  elf.data().p_offset = 0;
  elf.data().p_vaddr = 0x40'2000;
  EXPECT_EQ(Parse(elf)->program_headers, 0x40'2040);
}

TEST(ElfImage, PositionIndependentImageNeedsRoomNotAnAddress) {
  TestElf elf;
  elf.MakePositionIndependent();
  EXPECT_EQ(Parse(elf)->kind, ElfKind::kPositionIndependent);
  EXPECT_TRUE(Parse(elf, kEmbedded).ok());
  TestElf prelinked;
  prelinked.MakePositionIndependent(0x7fff'0000'0000);
  EXPECT_TRUE(Parse(prelinked, kEmbedded).ok());
  // Exactly its size is room enough, a page less is not.
  EXPECT_TRUE(Parse(elf, {{0x1'0000}, {0x1'6000}}).ok());
  EXPECT_EQ(Message(Parse(elf, {{0x1'0000}, {0x1'5000}}).status()),
            "an image of 0x6000 bytes aligned to 0x1000 does not fit into the program's addresses "
            "0x10000..0x15000");
}

TEST(ElfImage, AlignmentTakesRoomToo) {
  TestElf elf;
  elf.MakePositionIndependent();
  elf.data().p_align = 0x20'0000;
  ASSERT_TRUE(Parse(elf).ok());
  EXPECT_EQ(Parse(elf)->alignment, 0x20'0000);
  EXPECT_TRUE(Parse(elf, {{0x1'0000}, {0x20'6000}}).ok());
  EXPECT_FALSE(Parse(elf, {{0x1'0000}, {0x20'5000}}).ok());
  elf.data().p_align = 1ull << 63;
  EXPECT_FALSE(Parse(elf).ok());
}

TEST(ElfImage, PositionIndependentAddressesStayBelowTheTaskSize) {
  TestElf elf;
  elf.MakePositionIndependent(0x7fff'ffff'b000);
  EXPECT_THAT(Message(Parse(elf).status()), HasSubstr("0x0..0x7ffffffff000"));
}

// ---- Truncation and I/O -------------------------------------------------------------------------

TEST(ElfImage, EveryTruncationOfARealProgramIsACleanError) {
  const std::vector<std::byte> file = ReadWholeFile("/bin/true");
  const auto whole = ParseElf(MemoryBytes(file), kWholeProgram);
  ASSERT_TRUE(whole.ok()) << whole.status();
  std::uint64_t needed = 0;
  for (const LoadSegment& segment : whole->segments) {
    needed = std::max(needed, segment.file_offset + segment.file_size);
  }
  // A copy of the exact length lets ASan see a read past the end.
  for (std::size_t length = 0; length <= PageDown(needed - 1); ++length) {
    const std::vector<std::byte> head(file.begin(), file.begin() + static_cast<long>(length));
    const absl::Status status = ParseElf(MemoryBytes(head), kWholeProgram).status();
    ASSERT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << length;
    ASSERT_FALSE(status.message().empty()) << length;
  }
  const auto enough = std::span(file).first(needed);
  EXPECT_TRUE(ParseElf(MemoryBytes(enough), kWholeProgram).ok());
}

TEST(ElfImage, FailedReadsAreNotTheFilesFault) {
  const std::vector<std::byte> file = TestElf().Bytes();
  const ByteSource good = MemoryBytes(file);
  for (int good_reads = 0; good_reads < 3; ++good_reads) {
    int left = good_reads;
    const ByteSource failing = {good.size, [&](std::uint64_t offset, std::span<std::byte> to) {
                                  return left-- > 0 && good.read(offset, to);
                                }};
    EXPECT_EQ(ParseElf(failing, kWholeProgram).status().code(), absl::StatusCode::kDataLoss);
  }
}

TEST(ElfImage, AFileThatShrankIsAFailedRead) {
  const int fd = memfd_create("elf", MFD_CLOEXEC);
  ASSERT_GE(fd, 0);
  const std::vector<std::byte> file = TestElf().Bytes();
  ASSERT_EQ(write(fd, file.data(), 100), 100);
  const absl::Status status = ParseElf(FileBytes(fd, file.size()), kWholeProgram).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  close(fd);
}

// ---- Layouts of real linkers --------------------------------------------------------------------

TEST(ElfImage, EveryLinkersLayoutRunsNativelyAndParses) {
  int fixtures = 0;
  for (const auto& entry : std::filesystem::directory_iterator(ELF_FIXTURES)) {
    const std::string path = entry.path();
    if (!entry.path().filename().string().starts_with("elf_fixture_")) continue;
    ++fixtures;
    EXPECT_EQ(std::system(path.c_str()), 0) << path;
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0) << path;
    const auto image = ParseElf(FileBytes(fd, entry.file_size()), kWholeProgram);
    EXPECT_TRUE(image.ok()) << path << ": " << image.status();
    close(fd);
  }
  EXPECT_GE(fixtures, 8);
}

TEST(ElfImage, LinkerOptionsShowInTheImage) {
  const auto parse = [](const std::string& name) {
    const auto file = ReadWholeFile(std::string(ELF_FIXTURES "/elf_fixture_") + name);
    return *ParseElf(MemoryBytes(file), kWholeProgram);
  };
  EXPECT_EQ(parse("static").kind, ElfKind::kFixed);
  EXPECT_EQ(parse("static_pie").kind, ElfKind::kPositionIndependent);
  EXPECT_EQ(parse("static_pie").interpreter, "");
  EXPECT_EQ(parse("pie").interpreter, "/lib64/ld-linux-x86-64.so.2");
  EXPECT_TRUE(parse("executable_stack").is_stack_executable);
  EXPECT_EQ(parse("large_alignment").alignment, 0x20'0000);
  EXPECT_EQ(parse("writable_text").segments[0].protection, PROT_READ | PROT_WRITE | PROT_EXEC);
}

}  // namespace
}  // namespace dunebox::loader
