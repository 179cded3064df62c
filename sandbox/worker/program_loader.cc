// The executable that is any other: maps an executable that is part of another file, and goes on in it as the kernel
// would have. So what lies in the host's own file need not be copied to be executed.
//
// The last argument is the number of a descriptor of that file, whose position is where the executable begins: a PIE.
// Freestanding: no libraries, no relocations, system calls alone. [System V ABI, AMD64: Process Initialization]
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::size_t kMostSegments = 16;
constexpr std::size_t kMostPath = 256;
constexpr int kCannotExecute = 126;

long Call(long number, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0, std::uint64_t d = 0,
          std::uint64_t e = 0, std::uint64_t f = 0) {
  long result;
  register std::uint64_t r10 asm("r10") = d;
  register std::uint64_t r8 asm("r8") = e;
  register std::uint64_t r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

[[noreturn]] void Fail() {
  for (;;) Call(SYS_exit_group, kCannotExecute);
}

std::uint64_t Require(long result) {
  if (result < 0) Fail();
  return static_cast<std::uint64_t>(result);
}

std::uint64_t Map(std::uint64_t address, std::uint64_t size, int rights, int flags, int fd = -1, std::uint64_t offset = 0) {
  return Require(Call(SYS_mmap, address, size, static_cast<std::uint64_t>(rights),
                      static_cast<std::uint64_t>(MAP_PRIVATE | flags), static_cast<std::uint64_t>(fd), offset));
}

void Read(int fd, void* to, std::uint64_t size, std::uint64_t offset) {
  const long got = Call(SYS_pread64, static_cast<std::uint64_t>(fd), reinterpret_cast<std::uint64_t>(to), size, offset);
  if (got < 0 || static_cast<std::uint64_t>(got) != size) Fail();
}

constexpr std::uint64_t Down(std::uint64_t address) { return address & ~(kPage - 1); }
constexpr std::uint64_t Up(std::uint64_t address) { return Down(address + kPage - 1); }

int RightsOf(const Elf64_Phdr& segment) {
  return ((segment.p_flags & PF_R) != 0 ? PROT_READ : 0) | ((segment.p_flags & PF_W) != 0 ? PROT_WRITE : 0) |
         ((segment.p_flags & PF_X) != 0 ? PROT_EXEC : 0);
}

void MapSegment(const Elf64_Phdr& segment, std::uint64_t base, int fd, std::uint64_t begin) {
  const std::uint64_t start = Down(base + segment.p_vaddr);
  const std::uint64_t file_end = base + segment.p_vaddr + segment.p_filesz;
  const std::uint64_t end = base + segment.p_vaddr + segment.p_memsz;
  if (segment.p_filesz != 0) {
    Map(start, Up(file_end) - start, RightsOf(segment), MAP_FIXED, fd, begin + Down(segment.p_offset));
  }
  if (end <= file_end) return;
  // What the file has behind the segment is none of its.
  if (segment.p_filesz != 0) {
    for (std::uint64_t address = file_end; address < Up(file_end); ++address) {
      *reinterpret_cast<volatile char*>(address) = 0;
    }
  }
  const std::uint64_t rest = segment.p_filesz != 0 ? Up(file_end) : start;
  if (end > rest) Map(rest, Up(end) - rest, RightsOf(segment), MAP_FIXED | MAP_ANONYMOUS);
}

int NumberIn(const char* text) {
  int number = 0;
  for (; *text != 0; ++text) number = number * 10 + (*text - '0');
  return number;
}

// Where a file, from `begin` on, was mapped to.
struct Image {
  std::uint64_t base, entry, headers, count;
  std::uint64_t interpreter = 0;  // where its path lies in the file; 0: it has none
};

Image MapFrom(int fd, std::uint64_t begin) {
  Elf64_Ehdr header{};
  Read(fd, &header, sizeof(header), begin);
  Elf64_Phdr segments[kMostSegments] = {};
  if (header.e_type != ET_DYN || header.e_phnum > kMostSegments) Fail();
  Read(fd, segments, header.e_phnum * sizeof(Elf64_Phdr), begin + header.e_phoff);
  Image image{};
  std::uint64_t size = 0;
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    if (segments[i].p_type == PT_INTERP) image.interpreter = begin + segments[i].p_offset;
    if (segments[i].p_type == PT_LOAD) size = Up(segments[i].p_vaddr + segments[i].p_memsz);
  }
  image.base = Map(0, size, PROT_NONE, MAP_ANONYMOUS);
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    if (segments[i].p_type == PT_LOAD) MapSegment(segments[i], image.base, fd, begin);
  }
  image.entry = image.base + header.e_entry;
  image.headers = image.base + header.e_phoff;
  image.count = header.e_phnum;
  return image;
}

// The dynamic linker's: a build with sanitizers cannot be linked statically.
Image MapInterpreter(int fd, std::uint64_t offset) {
  char path[kMostPath] = {};
  // The terminating zero is the file's, or there is none that fits.
  Call(SYS_pread64, static_cast<std::uint64_t>(fd), reinterpret_cast<std::uint64_t>(path), sizeof(path) - 1, offset);
  const std::uint64_t file = Require(Call(SYS_open, reinterpret_cast<std::uint64_t>(path), O_RDONLY | O_CLOEXEC));
  const Image image = MapFrom(static_cast<int>(file), 0);
  Call(SYS_close, file);
  return image;
}

}  // namespace

// `stack` as the kernel has made it: the number of arguments, these, the environment, the auxiliary vector. Where to go
// on.
extern "C" __attribute__((visibility("hidden"))) std::uint64_t MapImage(std::uint64_t* stack) {
  const std::uint64_t arguments = *stack;
  Call(SYS_prctl, PR_SET_NAME, stack[1]);
  const int fd = NumberIn(reinterpret_cast<const char*>(stack[arguments]));
  const Image image = MapFrom(fd, Require(Call(SYS_lseek, static_cast<std::uint64_t>(fd), 0, SEEK_CUR)));
  const Image linker = image.interpreter != 0 ? MapInterpreter(fd, image.interpreter) : Image{.entry = image.entry};
  Call(SYS_close, static_cast<std::uint64_t>(fd));
  std::uint64_t* word = stack + 1 + arguments + 1;
  while (*word != 0) ++word;
  for (auto* entry = reinterpret_cast<Elf64_auxv_t*>(word + 1); entry->a_type != AT_NULL; ++entry) {
    if (entry->a_type == AT_PHDR) entry->a_un.a_val = image.headers;
    if (entry->a_type == AT_PHNUM) entry->a_un.a_val = image.count;
    if (entry->a_type == AT_ENTRY) entry->a_un.a_val = image.entry;
    if (entry->a_type == AT_BASE) entry->a_un.a_val = linker.base;
  }
  return linker.entry;
}

// No function for the kernel to call at exit: RDX is 0.
asm(R"(
        .globl  _start
_start: movq    %rsp, %rbx
        movq    %rsp, %rdi
        xorl    %ebp, %ebp
        andq    $-16, %rsp
        call    MapImage
        movq    %rbx, %rsp
        xorl    %edx, %edx
        jmp     *%rax
)");
