#include "runtime/loader/symbols.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

namespace dunebox::loader {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;

// A function of this program whose name is the same in every symbol table.
extern "C" [[gnu::noinline]] int dunebox_symbols_test_marker(int value) { return value * 3 + 1; }

const Symbol* Find(const Symbols& symbols, const char* name) {
  const auto found = std::ranges::find(symbols.functions(), name,
                                       [&](const Symbol& symbol) { return symbols.NameOf(symbol); });
  return found == symbols.functions().end() ? nullptr : &*found;
}

std::string PathFor(const char* name) { return ::testing::TempDir() + "/" + name; }

TEST(Symbols, AFunctionIsFoundByAnyOfItsBytesAndNoFurther) {
  ASSERT_EQ(dunebox_symbols_test_marker(2), 7);
  const Symbols symbols = ReadSymbols("/proc/self/exe");
  const Symbol* marker = Find(symbols, "dunebox_symbols_test_marker");
  ASSERT_NE(marker, nullptr);
  SymbolNames names;
  const std::string name = "dunebox_symbols_test_marker";
  EXPECT_EQ(names.NameOf("/proc/self/exe", marker->offset), name);
  EXPECT_EQ(names.NameOf("/proc/self/exe", marker->offset + 1), name + "+0x1");
  EXPECT_NE(names.NameOf("/proc/self/exe", marker->offset + marker->size), name);
}

TEST(Symbols, WhatIsNoElfFileHasNoNames) {
  EXPECT_TRUE(ReadSymbols("/no/such/file").empty());
  EXPECT_TRUE(ReadSymbols("/etc/passwd").empty());
  EXPECT_TRUE(ReadSymbols("/").empty());
  SymbolNames names;
  EXPECT_EQ(names.NameOf("/no/such/file", 0x1000), std::nullopt);
}

// Wherever a damaged file points, nothing but names can be lost.
TEST(Symbols, ADamagedFileIsReadWithoutHarm) {
  std::ifstream self("/proc/self/exe", std::ios::binary);
  const std::string image(std::istreambuf_iterator<char>(self), {});
  ASSERT_THAT(image, Not(IsEmpty()));
  const std::string path = PathFor("damaged_symbols");
  for (std::size_t at = 16; at < 64; ++at) {
    for (const char value : {'\x00', '\x7f', '\xff'}) {
      std::string damaged = image.substr(0, 4096);
      damaged[at] = value;
      std::ofstream(path, std::ios::binary | std::ios::trunc) << damaged;
      ReadSymbols(path);
    }
  }
  std::remove(path.c_str());
}

// A file of `symbols` functions, all at its first byte, whose names are all the same text of `length` letters.
std::string ForgedFile(std::size_t symbols, std::size_t length, std::uint16_t segments = 1) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_machine = EM_X86_64;
  header.e_phoff = sizeof(header);
  header.e_phnum = segments;
  header.e_shoff = sizeof(header) + segments * sizeof(Elf64_Phdr);
  header.e_shnum = 2;
  const Elf64_Phdr segment{.p_type = PT_LOAD, .p_flags = 0, .p_offset = 0, .p_vaddr = 0, .p_paddr = 0,
                           .p_filesz = 4096, .p_memsz = 4096, .p_align = 0};
  Elf64_Shdr sections[2] = {};
  sections[0] = {.sh_name = 0, .sh_type = SHT_SYMTAB, .sh_flags = 0, .sh_addr = 0,
                 .sh_offset = header.e_shoff + sizeof(sections), .sh_size = symbols * sizeof(Elf64_Sym),
                 .sh_link = 1, .sh_info = 0, .sh_addralign = 0, .sh_entsize = 0};
  sections[1].sh_type = SHT_STRTAB;
  sections[1].sh_offset = sections[0].sh_offset + sections[0].sh_size;
  sections[1].sh_size = length;
  const Elf64_Sym symbol{.st_name = 0, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_other = 0,
                         .st_shndx = 1, .st_value = 0, .st_size = 16};
  std::string file(reinterpret_cast<const char*>(&header), sizeof(header));
  for (unsigned i = 0; i < segments; ++i) file.append(reinterpret_cast<const char*>(&segment), sizeof(segment));
  file.append(reinterpret_cast<const char*>(sections), sizeof(sections));
  for (std::size_t i = 0; i < symbols; ++i) file.append(reinterpret_cast<const char*>(&symbol), sizeof(symbol));
  return file.append(length, 'A');
}

// A megabyte of a stranger's is not a gigabyte of ours.
TEST(Symbols, ManyLongNamesTakeNoMoreThanTheirFile) {
  constexpr std::size_t kSymbols = 1000, kLength = std::size_t{256} << 10;
  const std::string path = PathFor("forged_symbols");
  const std::string file = ForgedFile(kSymbols, kLength);
  std::ofstream(path, std::ios::binary | std::ios::trunc) << file;
  const auto in_use = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const std::size_t before = in_use();
  const Symbols symbols = ReadSymbols(path);
  EXPECT_EQ(symbols.functions().size(), kSymbols);
  EXPECT_LT(in_use(), before + 4 * file.size());
  EXPECT_EQ(symbols.NameAt(0).value_or(""), std::string(kLongestSymbol, 'A'));
  std::remove(path.c_str());
}

TEST(Symbols, AFileOfMoreSegmentsThanAnyHasNoNames) {
  const std::string path = PathFor("segmented_symbols");
  std::ofstream(path, std::ios::binary | std::ios::trunc) << ForgedFile(1, 8, 256);
  EXPECT_FALSE(ReadSymbols(path).empty());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << ForgedFile(1, 8, 257);
  EXPECT_TRUE(ReadSymbols(path).empty());
  std::remove(path.c_str());
}

}  // namespace
}  // namespace dunebox::loader
