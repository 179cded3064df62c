#include "runtime/process/crash.h"

#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "hostcalls/trace/text.h"
#include "hostcalls/trace/write_line.h"
#include "runtime/diagnostics.h"
#include "runtime/process/code_names.h"
#include "runtime/process/core_file.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"
#include "runtime/unwind/unwinder.h"

namespace dunebox::process {
namespace {

using signals::MaskOf;

// [POSIX] those whose default action is to end "with additional actions".
constexpr std::uint64_t kCrashSignals = MaskOf(SIGQUIT) | MaskOf(SIGILL) | MaskOf(SIGTRAP) |
                                        MaskOf(SIGABRT) | MaskOf(SIGBUS) | MaskOf(SIGFPE) |
                                        MaskOf(SIGSEGV) | MaskOf(SIGXCPU) | MaskOf(SIGXFSZ) |
                                        MaskOf(SIGSYS);
constexpr std::size_t kMostFrames = 64;
constexpr std::size_t kMostHeaders = 64;  // of an ELF file's segments

bool WantsBacktrace(const Process& owner) { return owner.session().diagnostics.backtrace; }

unwind::Frame InnermostOf(const runtime::Registers& from) {
  return {.registers = {from.rax, from.rdx, from.rcx, from.rbx, from.rsi, from.rdi, from.rbp, from.rsp, from.r8,
                        from.r9, from.r10, from.r11, from.r12, from.r13, from.r14, from.r15, from.rip},
          .is_interrupted = true};
}

// Where the beginning of the file is mapped that `vma` is a part of; nothing if it is not.
std::optional<std::uint64_t> FindBeginning(const memory::VmaMap& map, const memory::Vma& vma) {
  std::optional<std::uint64_t> beginning;
  if (vma.backing == nullptr) return beginning;
  for (const memory::Vma* other = map.FindFrom(GuestVirt{0});
       other != nullptr && other->range.start.value <= vma.range.start.value;
       other = map.FindFrom(other->range.end)) {
    const bool is_same = other->backing != nullptr && other->backing->name == vma.backing->name &&
                         other->backing->device == vma.backing->device && other->backing->inode == vma.backing->inode;
    if (is_same && other->offset == 0) beginning = other->range.start.value;
  }
  return beginning;
}

// What the headers of a mapped file say, as they are in memory.
struct Headers {
  std::uint64_t bias = 0;  // from the file's own addresses to those in memory
  std::optional<std::uint64_t> frame_table{};
};

std::optional<Headers> ReadHeaders(const hostcalls::GuestMemory& memory, std::uint64_t beginning) {
  Elf64_Ehdr header;
  if (!memory.Read(beginning, std::as_writable_bytes(std::span(&header, 1)))) return std::nullopt;
  if (!std::equal(header.e_ident, header.e_ident + SELFMAG, ELFMAG) || header.e_phentsize != sizeof(Elf64_Phdr)) {
    return std::nullopt;
  }
  std::array<Elf64_Phdr, kMostHeaders> room;
  const auto segments = std::span(room).first(std::min<std::size_t>(header.e_phnum, kMostHeaders));
  if (!memory.Read(beginning + header.e_phoff, std::as_writable_bytes(segments))) return std::nullopt;
  const auto of_type = [&](std::uint32_t type) { return std::ranges::find(segments, type, &Elf64_Phdr::p_type); };
  const auto first = of_type(PT_LOAD);
  if (first == segments.end()) return std::nullopt;
  Headers result{.bias = beginning - (first->p_vaddr - first->p_offset)};
  if (const auto table = of_type(PT_GNU_EH_FRAME); table != segments.end()) {
    result.frame_table = result.bias + table->p_vaddr;
  }
  return result;
}

unwind::Code LookUp(const GuestThread& thread, CodeNames& names, std::uint64_t address) {
  unwind::Code code;
  const std::optional<std::uint64_t> beginning =
      thread.owner.space().WithMap([&](const memory::VmaMap& map) -> std::optional<std::uint64_t> {
        const memory::Vma* const vma = map.Find(GuestVirt{address});
        code.is_code = vma != nullptr && vma->protection.execute;
        return code.is_code ? FindBeginning(map, *vma) : std::nullopt;
      });
  const std::optional<Headers> headers = beginning ? ReadHeaders(thread.memory, *beginning) : std::nullopt;
  if (!headers) return code;
  if (headers->frame_table) {
    code.table = unwind::FrameTable{.address = *headers->frame_table};
  } else if (const auto section = names.FrameSectionAt(address)) {
    code.table = unwind::FrameTable{.address = headers->bias + section->address, .size = section->size};
  }
  return code;
}

std::string Backtrace(GuestThread& thread, const siginfo_t& info) {
  const std::string front = absl::StrCat("dunebox: [", getpid(), "] crash: ");
  std::string text = absl::StrCat(
      front, hostcalls::Escape(runtime::BaseName(thread.owner.executable_path())), " ",
      hostcalls::FormatSignal(info), "\n");
  CodeNames names(thread);
  const std::vector<unwind::Frame> frames = unwind::Unwind(
      [&](std::uint64_t from, std::span<std::byte> to) { return thread.memory.Read(from, to); },
      [&](std::uint64_t address) { return LookUp(thread, names, address); }, InnermostOf(thread.registers), kMostFrames);
  for (std::size_t number = 0; number < frames.size(); ++number) {
    const unwind::Frame& frame = frames[number];
    absl::StrAppend(&text, front, "#", number, " ", hostcalls::Escape(names.TextAt(frame.place())), "\n");
  }
  return text;
}

}  // namespace

void TakeCrashSignals(Process& owner) {
  if (!WantsCoreFile(owner) && !WantsBacktrace(owner)) return;
  owner.signal_handlers().TakeDefaults(kCrashSignals & ~signals::kSynchronous);
}

void OnDeath(GuestThread& thread, const siginfo_t& info) {
  Process& owner = thread.owner;
  const bool wants_core_file = WantsCoreFile(owner);
  if ((kCrashSignals & MaskOf(info.si_signo)) == 0 || (!wants_core_file && !WantsBacktrace(owner))) return;
  owner.threads().HoldForEnd(thread);
  if (WantsBacktrace(owner)) hostcalls::WriteLine(owner.session().report_fd, Backtrace(thread, info));
  if (wants_core_file) WriteCoreFile(thread, info);
}

}  // namespace dunebox::process
