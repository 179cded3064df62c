#include "libdune/loader/load_program.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace dune {
namespace {

using Table = PageTable::Implementation;

constexpr std::size_t kStackBytes = std::size_t{1} << 20;
constexpr std::size_t kMostFileBytes = std::size_t{256} << 20;
constexpr std::size_t kMostArguments = std::size_t{128} << 10;

absl::StatusOr<std::vector<std::byte>> ReadFile(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return absl::ErrnoToStatus(errno, path);
  struct stat status {};
  std::vector<std::byte> bytes;
  if (fstat(file, &status) == 0 && status.st_size > 0 &&
      static_cast<std::size_t>(status.st_size) <= kMostFileBytes) {
    bytes.resize(static_cast<std::size_t>(status.st_size));
  }
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = read(file, bytes.data() + done, bytes.size() - done);
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  close(file);
  bytes.resize(done);
  if (bytes.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": nothing to read"));
  return bytes;
}

// Into pages that were just mapped, and can be written to.
void Put(const Table& table, std::uintptr_t address, std::span<const std::byte> bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const std::size_t offset = (address + done) % kPageSize;
    const std::size_t part = std::min(bytes.size() - done, kPageSize - offset);
    const absl::StatusOr<Mapping> page = table.Walk(address + done);
    std::memcpy(reinterpret_cast<std::byte*>(page->memory) + offset, bytes.data() + done, part);
    done += part;
  }
}

absl::Status MapParts(const StaticProgram& program, Table& table) {
  for (const auto& [page, rights] : program.pages) {
    absl::Status mapped = table.MapFresh({page, kPageSize}, Rights::kReadWrite);
    if (!mapped.ok()) return mapped;
  }
  for (const StaticProgram::Part& part : program.parts) Put(table, part.address, part.bytes);
  for (const auto& [page, rights] : program.pages) {
    if (rights == Rights::kReadWrite) continue;
    if (absl::Status limited = table.Protect({page, kPageSize}, rights); !limited.ok()) return limited;
  }
  return absl::OkStatus();
}

// The stack from its top down: strings, then the words that point to them.
class InitialStack {
 public:
  explicit InitialStack(std::uintptr_t top) : top_(top) {}

  std::uint64_t AddBytes(const void* bytes, std::size_t size) {
    const auto* const from = static_cast<const std::byte*>(bytes);
    strings_.insert(strings_.begin(), from, from + size);
    return top_ - strings_.size();
  }
  std::uint64_t AddString(const std::string& text) {
    return AddBytes(text.c_str(), text.size() + 1);
  }
  // RSP, and all below the top, 16-aligned with argc at RSP.
  std::uintptr_t Finish(const std::vector<std::uint64_t>& words, const Table& table) {
    const std::size_t size = words.size() * sizeof(std::uint64_t);
    const std::uintptr_t rsp = (top_ - strings_.size() - size) & ~std::uintptr_t{15};
    Put(table, rsp, std::as_bytes(std::span(words)));
    Put(table, top_ - strings_.size(), strings_);
    return rsp;
  }

 private:
  const std::uintptr_t top_;
  std::vector<std::byte> strings_;
};

std::uintptr_t WriteStack(const std::string& path, std::span<const std::string> arguments,
                          std::span<const std::string> environment, const StaticProgram& program,
                          std::uintptr_t top, const Table& table) {
  InitialStack stack(top);
  std::array<std::byte, 16> random{};
  static_cast<void>(getrandom(random.data(), random.size(), 0));
  const std::uint64_t random_at = stack.AddBytes(random.data(), random.size());
  const std::uint64_t path_at = stack.AddString(path);
  std::vector<std::uint64_t> words{arguments.size()};
  for (const std::string& argument : arguments) words.push_back(stack.AddString(argument));
  words.push_back(0);
  for (const std::string& variable : environment) words.push_back(stack.AddString(variable));
  words.push_back(0);
  for (const auto& [type, value] : std::initializer_list<std::pair<std::uint64_t, std::uint64_t>>{
           {AT_PHDR, program.headers},
           {AT_PHENT, sizeof(Elf64_Phdr)},
           {AT_PHNUM, program.header_count},
           {AT_PAGESZ, kPageSize},
           {AT_ENTRY, program.entry},
           {AT_UID, 0},
           {AT_EUID, 0},
           {AT_GID, 0},
           {AT_EGID, 0},
           {AT_SECURE, 0},
           {AT_RANDOM, random_at},
           {AT_EXECFN, path_at},
           {AT_NULL, 0}}) {
    words.push_back(type);
    words.push_back(value);
  }
  return stack.Finish(words, table);
}

}  // namespace

absl::Status LoadStaticProgram(const std::string& path, std::span<const std::string> arguments,
                               std::span<const std::string> environment, const UserPlaces& places,
                               Table& table, UserContext& context, std::uintptr_t& heap) {
  std::size_t bytes = path.size();
  for (const std::string& argument : arguments) bytes += argument.size() + 16;
  for (const std::string& variable : environment) bytes += variable.size() + 16;
  if (bytes > kMostArguments) return absl::InvalidArgumentError("too many arguments");
  const absl::StatusOr<std::vector<std::byte>> file = ReadFile(path);
  if (!file.ok()) return file.status();
  const absl::StatusOr<StaticProgram> program = ParseStaticProgram(*file, places);
  if (!program.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", program.status().message()));
  }
  if (absl::Status mapped = MapParts(*program, table); !mapped.ok()) return mapped;
  const Range stack{places.stack_top - kStackBytes, kStackBytes};
  if (absl::Status mapped = table.MapFresh(stack, Rights::kReadWrite); !mapped.ok()) return mapped;
  context.rsp = WriteStack(path, arguments, environment, *program, places.stack_top, table);
  context.rip = program->entry;
  heap = program->end;
  return absl::OkStatus();
}

}  // namespace dune
