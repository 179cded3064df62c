// A well-formed little ELF program whose headers a test bends one by one.
//
//   TestElf elf;
//   elf.data().p_align = 3;
//   auto image = ParseElf(MemoryBytes(elf.Bytes()), window);
#ifndef DUNEBOX_TESTS_UNIT_TEST_ELF_H_
#define DUNEBOX_TESTS_UNIT_TEST_ELF_H_

#include <elf.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace dunebox::loader {

class TestElf {
 public:
  static constexpr std::uint64_t kInterpreterOffset = 0x800;

  TestElf() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_phoff = sizeof(Elf64_Ehdr);
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_entry = 0x40'0400;
    program_headers = {
        {PT_LOAD, PF_R | PF_X, 0, 0x40'0000, 0x40'0000, 0x1000, 0x1000, 0x1000},
        {PT_INTERP, PF_R, kInterpreterOffset, 0, 0, 0, 0, 1},
        {PT_LOAD, PF_R | PF_W, 0x1200, 0x40'2200, 0x40'2200, 0x300, 0x3000, 0x1000},
        {PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 0, 16},
    };
    SetInterpreter(std::string("/lib64/ld.so") + '\0');
  }

  Elf64_Phdr& code() { return program_headers[0]; }
  Elf64_Phdr& interp() { return program_headers[1]; }
  Elf64_Phdr& data() { return program_headers[2]; }
  Elf64_Phdr& stack() { return program_headers[3]; }

  // The bytes of the field, with the NUL if there is to be one.
  void SetInterpreter(const std::string& field) {
    interpreter = field;
    interp().p_filesz = interp().p_memsz = field.size();
  }

  void MakePositionIndependent(std::uint64_t base = 0) {
    header.e_type = ET_DYN;
    header.e_entry = header.e_entry - 0x40'0000 + base;
    code().p_vaddr = base;
    data().p_vaddr = base + 0x2200;
  }

  std::vector<std::byte> Bytes() const {
    std::vector<std::byte> file(file_size);
    Elf64_Ehdr written = header;
    if (written.e_phnum == 0) written.e_phnum = static_cast<Elf64_Half>(program_headers.size());
    if (has_no_program_headers) written.e_phnum = 0;
    Put(file, kInterpreterOffset, interpreter.data(), interpreter.size());
    Put(file, 0, &written, sizeof(written));
    Put(file, sizeof(written), program_headers.data(), program_headers.size() * sizeof(Elf64_Phdr));
    return file;
  }

  Elf64_Ehdr header = {};
  std::vector<Elf64_Phdr> program_headers;
  std::string interpreter;
  std::size_t file_size = 0x1500;
  bool has_no_program_headers = false;

 private:
  static void Put(std::vector<std::byte>& file, std::size_t at, const void* from,
                  std::size_t size) {
    if (at >= file.size()) return;
    std::memcpy(file.data() + at, from, std::min(size, file.size() - at));
  }
};

}  // namespace dunebox::loader

#endif  // DUNEBOX_TESTS_UNIT_TEST_ELF_H_
