#include "runtime/process/guest_vdso.h"

#include <elf.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <vector>

#include "runtime/maps_line.h"
#include "runtime/process/clock_code.h"
#include "runtime/text_file.h"

namespace dunebox::process {
namespace {

constexpr std::uint32_t kNoSystemCall = ~std::uint32_t{0};

// Functions of the vDSO that have to be system calls in the copy: getcpu reads what the host kernel
// put into the CPU for it, which the guest's virtual CPU does not have; the others read clock data.
struct FunctionRow {
  const char* name;
  std::uint32_t number;
  bool needs_clock_data;
};
constexpr FunctionRow kFunctions[] = {
    {"__vdso_getcpu", SYS_getcpu, false},
    {"__vdso_clock_gettime", SYS_clock_gettime, true},
    {"__vdso_clock_getres", SYS_clock_getres, true},
    {"__vdso_gettimeofday", SYS_gettimeofday, true},
    {"__vdso_time", SYS_time, true},
    {"__vdso_getrandom", kNoSystemCall, true},
};

// mov eax, number; syscall; ret
using FunctionBody = std::array<unsigned char, 8>;
FunctionBody BodyFor(std::uint32_t number) {
  // mov rax, -ENOSYS; ret: callers use the system call then.
  if (number == kNoSystemCall) return {0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, 0xc3};
  FunctionBody body = {0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3};
  std::memcpy(&body[1], &number, sizeof(number));
  return body;
}

// Offset of a dynamic symbol's code in a vDSO image; 0 when there is none. The image is the
// kernel's own, so its headers are believed.
std::uint64_t SymbolOffset(std::span<const std::byte> image, const char* name) {
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(image.data());
  const auto* programs = reinterpret_cast<const Elf64_Phdr*>(image.data() + header->e_phoff);
  const Elf64_Dyn* dynamic = nullptr;
  std::uint64_t link_base = 0;
  for (int i = 0; i < header->e_phnum; ++i) {
    if (programs[i].p_type == PT_LOAD) link_base = programs[i].p_vaddr - programs[i].p_offset;
    if (programs[i].p_type == PT_DYNAMIC) {
      dynamic = reinterpret_cast<const Elf64_Dyn*>(image.data() + programs[i].p_offset);
    }
  }
  const Elf64_Sym* symbols = nullptr;
  const char* strings = nullptr;
  for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; ++dynamic) {
    const std::byte* target = image.data() + (dynamic->d_un.d_ptr - link_base);
    if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const Elf64_Sym*>(target);
    if (dynamic->d_tag == DT_STRTAB) strings = reinterpret_cast<const char*>(target);
  }
  if (symbols == nullptr || strings == nullptr) return 0;
  // The string table follows the symbol table in every vDSO the kernel links.
  const auto* end = reinterpret_cast<const Elf64_Sym*>(strings);
  for (const Elf64_Sym* symbol = symbols; symbol + 1 <= end; ++symbol) {
    if (strcmp(strings + symbol->st_name, name) == 0) return symbol->st_value - link_base;
  }
  return 0;
}

// The function by which ring 0 may tell the time itself, where there is one that it can run.
absl::Status ShowClock(const HostVdso& host, Machine& machine) {
  const std::span image(reinterpret_cast<const std::byte*>(host.code), host.end - host.code);
  const std::uint64_t entry = SymbolOffset(image, "__vdso_clock_gettime");
  if (entry == 0) return absl::OkStatus();
  std::optional<std::vector<std::byte>> code = ClockCode(image, entry, host.code - host.data);
  return code ? machine.TakeClock(*std::move(code), entry) : absl::OkStatus();
}

absl::Status ShowClockData(const HostVdso& host, const GuestRange& data, Machine& machine) {
  memory::AddressSpace& space = machine.space();
  // The host has nothing at the guest's vvar address but a reservation.
  const auto reserved = space.MapNamed(data.start, data.size(), PROT_NONE, "[vvar]");
  if (!reserved.ok()) return absl::ResourceExhaustedError("no room for the vDSO");
  absl::Status aliased = machine.AliasHostPages(data, reinterpret_cast<const void*>(host.data));
  if (!aliased.ok()) return aliased;
  space.AddSealed(data, {.read = true}, "[vvar]");
  return ShowClock(host, machine);
}

absl::Status CopyCode(const HostVdso& host, GuestVirt code, bool has_clock_data,
                      memory::AddressSpace& space) {
  const std::span image(reinterpret_cast<const std::byte*>(host.code), host.end - host.code);
  const auto mapped =
      space.MapNamed(code, image.size(), PROT_READ | PROT_WRITE, "[vdso]");
  if (!mapped.ok()) return absl::ResourceExhaustedError("no room for the vDSO");
  bool written = space.memory().Write(code.value, image);
  for (const FunctionRow& row : kFunctions) {
    if (row.needs_clock_data && has_clock_data) continue;
    const std::uint64_t offset = SymbolOffset(image, row.name);
    if (offset == 0) continue;
    const FunctionBody body = BodyFor(row.number);
    written =
        written && space.memory().Write((code + offset).value, std::as_bytes(std::span(body)));
  }
  if (!written || !space.Protect(code.value, image.size(), PROT_READ | PROT_EXEC).ok()) {
    return absl::InternalError("cannot write the vDSO");
  }
  space.AddSealed({code, code + image.size()}, {.read = true, .execute = true}, "[vdso]");
  return absl::OkStatus();
}

}  // namespace

std::optional<HostVdso> FindHostVdso(std::string_view maps) {
  HostVdso found;
  for (const runtime::MapsLine& line : runtime::ParseMaps(maps)) {
    if (line.name == "[vvar]") found.data = line.start;
    if (line.name == "[vdso]") {
      found.code = line.start;
      found.end = line.end;
    }
  }
  const bool known = found.data != 0 && found.code > found.data && found.end > found.code;
  return known ? std::optional(found) : std::nullopt;
}

absl::StatusOr<GuestVirt> MapGuestVdso(Machine& machine) {
  memory::AddressSpace& space = machine.space();
  const absl::StatusOr<std::string> maps = runtime::ReadTextFile("/proc/self/maps");
  if (!maps.ok()) return maps.status();
  const std::optional<HostVdso> host = FindHostVdso(*maps);
  if (!host) return GuestVirt{0};

  const std::uint64_t data_size = host->code - host->data;
  const GuestVirt start = space.FindFreeForImage(host->end - host->data);
  if (start.value == 0) return absl::ResourceExhaustedError("no room for the vDSO");
  const GuestRange data{start, start + data_size};
  const bool has_clock_data = machine.engine().can_alias_host_pages();
  if (has_clock_data) {
    if (absl::Status shown = ShowClockData(*host, data, machine); !shown.ok()) return shown;
  }
  if (absl::Status copied = CopyCode(*host, data.end, has_clock_data, space); !copied.ok()) {
    return copied;
  }
  return data.end;
}

}  // namespace dunebox::process
