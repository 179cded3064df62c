// Mapping a program: segments, zero-filled tails, heap start, stack, auxiliary vector.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "hostcalls/services/separate_descriptors.h"
#include "runtime/loader/auxv.h"
#include "runtime/loader/initial_stack.h"
#include "runtime/loader/program.h"

namespace dunebox::loader {
namespace {

using hostcalls::SyscallResult;

absl::Status MapError(const char* what, std::uint64_t address, int error) {
  const std::string text =
      absl::StrFormat("cannot map %s at 0x%x: %s", what, address, strerror(error));
  return error == ENOMEM ? absl::ResourceExhaustedError(text) : absl::FailedPreconditionError(text);
}

// Zeroes what is between a segment's file part and the end of its last file page, also past the
// segment's end: ld.so allocates from there and expects zeros. A page that the program may not
// write is left as the file has it, as Linux does.
absl::Status ZeroTail(const LoadSegment& segment, std::uint64_t bias,
                      const memory::AddressSpace& space) {
  const std::uint64_t start = bias + segment.vaddr + segment.file_size;
  const std::uint64_t bytes = PageUp(start) - start;
  if (bytes == 0 || (segment.protection & PROT_WRITE) == 0) return absl::OkStatus();
  static constexpr std::array<std::byte, kPageSize> kZeros{};
  if (space.memory().Write(start, std::span(kZeros).first(bytes))) return absl::OkStatus();
  return absl::UnavailableError(absl::StrFormat("cannot clear memory at 0x%x", start));
}

absl::Status MapSegment(int fd, const LoadSegment& segment, std::uint64_t bias,
                        memory::AddressSpace& space) {
  const std::uint64_t start = PageDown(bias + segment.vaddr);
  std::uint64_t mapped_end = start;
  if (segment.file_size > 0) {
    const std::uint64_t lead = bias + segment.vaddr - start;
    const SyscallResult mapped = space.Map({.address = start,
                                            .length = lead + segment.file_size,
                                            .prot = segment.protection,
                                            .flags = MAP_PRIVATE | MAP_FIXED,
                                            .fd = fd,
                                            .offset = segment.file_offset - lead});
    if (!mapped.ok()) return MapError("a segment", start, mapped.error());
    mapped_end = PageUp(start + lead + segment.file_size);
    if (absl::Status zeroed = ZeroTail(segment, bias, space); !zeroed.ok()) return zeroed;
  }
  const std::uint64_t end = PageUp(bias + segment.end());
  if (end <= mapped_end) return absl::OkStatus();
  const SyscallResult mapped = space.Map({.address = mapped_end,
                                          .length = end - mapped_end,
                                          .prot = segment.protection,
                                          .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED});
  return mapped.ok() ? absl::OkStatus() : MapError("zeroed memory", mapped_end, mapped.error());
}

// Maps all segments with `bias`. The whole span is reserved first, so that nothing that is there
// already is overwritten, and so that no gap between segments is given to others.
absl::Status MapSegments(int fd, const ElfImage& image, std::uint64_t bias,
                         memory::AddressSpace& space) {
  const LinkSpan& span = image.span;
  const std::uint64_t start = bias + span.start;
  const SyscallResult reserved =
      space.Map({.address = start,
                 .length = span.size(),
                 .prot = PROT_NONE,
                 .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE});
  if (!reserved.ok()) return MapError("the program", start, reserved.error());
  std::uint64_t end = start;
  for (const LoadSegment& segment : image.segments) {
    const std::uint64_t segment_start = PageDown(bias + segment.vaddr);
    if (segment_start > end) {
      const SyscallResult freed = space.Unmap(end, segment_start - end);
      if (!freed.ok()) return MapError("the program", end, freed.error());
    }
    if (absl::Status status = MapSegment(fd, segment, bias, space); !status.ok()) return status;
    end = PageUp(bias + segment.end());
  }
  return absl::OkStatus();
}

absl::Status MapImage(const ElfFile& file, std::uint64_t bias, memory::AddressSpace& space) {
  if (file.kind == ElfFile::Handle::kOpen) return MapSegments(file.handle.get(), file.image, bias, space);
  absl::Status status;
  hostcalls::WithSeparateDescriptors([&] {
    const std::string link = hostcalls::DescriptorPath(file.handle.get());
    const runtime::FileDescriptor fd(open(link.c_str(), O_RDONLY | O_CLOEXEC));
    status = fd.valid() ? MapSegments(fd.get(), file.image, bias, space)
                        : absl::ErrnoToStatus(errno, "cannot open the program again");
  });
  return status;
}

std::uint64_t AlignUp(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

// Link addresses + bias = guest addresses. `what`: its name in an error.
absl::StatusOr<std::uint64_t> BiasAnywhere(const char* what, const ElfImage& image,
                                           const memory::AddressSpace& space) {
  if (image.kind == ElfKind::kFixed) return 0;
  const GuestVirt place = space.FindFreeForImage(image.span.size(), image.alignment);
  if (place.value == 0) return absl::ResourceExhaustedError(absl::StrCat("no room for ", what));
  return place.value - image.span.start;
}

// Where the layout wants it, unless something is there: what a plugin's world keeps when a program is loaded into it.
absl::StatusOr<std::uint64_t> BiasOfProgram(const ElfImage& image, const memory::AddressSpace& space) {
  if (image.kind == ElfKind::kFixed) return 0;
  const GuestVirt start{AlignUp(space.layout().pie_base.value, image.alignment)};
  const GuestRange wanted{start, start + image.span.size()};
  const bool is_free = space.memory().Contains(wanted) && space.WithMap([&](const memory::VmaMap& map) {
    return !map.Overlaps(wanted);
  });
  return is_free ? start.value - image.span.start : BiasAnywhere("the program", image, space);
}

std::vector<AuxEntry> BuildAuxv(const Program& program, std::uint64_t bias,
                                std::uint64_t interpreter_bias, GuestVirt vdso,
                                const HostFacts& facts) {
  const ElfImage& image = program.executable.image;
  std::vector<AuxEntry> auxv;
  if (vdso.value != 0) auxv.push_back({AuxType::kVdso, vdso.value});
  const AuxEntry rest[] = {
      {AuxType::kMinimumSignalStack, facts.minimum_signal_stack},
      {AuxType::kHardwareCapabilities, facts.hardware_capabilities},
      {AuxType::kPageSize, kPageSize},
      {AuxType::kClockTicks, static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK))},
      {AuxType::kProgramHeaders, image.program_headers + bias},
      {AuxType::kProgramHeaderSize, kProgramHeaderSize},
      {AuxType::kProgramHeaderCount, image.program_header_count},
      {AuxType::kInterpreterBase, interpreter_bias},
      {AuxType::kFlags, 0},
      {AuxType::kEntry, image.entry + bias},
      {AuxType::kUid, getuid()},
      {AuxType::kEffectiveUid, geteuid()},
      {AuxType::kGid, getgid()},
      {AuxType::kEffectiveGid, getegid()},
      {AuxType::kSecure, 0},
      {AuxType::kRandom},
      {AuxType::kHardwareCapabilities2, facts.hardware_capabilities2},
      {AuxType::kExecutableName},
      {AuxType::kPlatform},
  };
  auxv.insert(auxv.end(), std::begin(rest), std::end(rest));
  return auxv;
}

// Maps and fills the stack; the result's `entry` is left to the caller.
absl::StatusOr<StartState> MakeStack(const Program& program,
                                     const std::vector<std::string>& environment,
                                     std::span<const AuxEntry> auxv, memory::AddressSpace& space,
                                     const HostFacts& facts) {
  StackContents contents{.arguments = program.arguments,
                         .environment = environment,
                         .executable_name = program.path,
                         .auxv = auxv,
                         .random = {}};
  if (getrandom(contents.random.data(), contents.random.size(), 0) !=
      static_cast<ssize_t>(contents.random.size())) {
    return absl::UnavailableError("getrandom failed");
  }
  const GuestVirt top = space.layout().stack_top;
  absl::StatusOr<InitialStack> stack =
      BuildInitialStack(contents, top, ArgumentLimit(facts.stack_limit));
  if (!stack.ok()) return stack.status();
  const std::uint64_t size = PageUp(
      std::max<std::uint64_t>(facts.stack_limit, stack->bytes.size() + std::uint64_t{64} * 1024));
  const int prot =
      PROT_READ | PROT_WRITE | (program.executable.image.is_stack_executable ? PROT_EXEC : 0);
  const SyscallResult mapped = space.MapNamed(top - size, size, prot, "[stack]");
  if (!mapped.ok()) return MapError("the stack", (top - size).value, mapped.error());
  if (!space.memory().Write(stack->stack_pointer.value, stack->bytes)) {
    return absl::UnavailableError("cannot write the initial stack");
  }
  const auto* bytes = reinterpret_cast<const char*>(stack->bytes.data());
  return StartState{
      .stack_pointer = stack->stack_pointer,
      .auxv = std::string(bytes + (stack->auxv - stack->stack_pointer), stack->auxv_size)};
}

}  // namespace

absl::StatusOr<StartState> Load(const Program& program, const std::vector<std::string>& environment,
                                memory::AddressSpace& space, const HostFacts& facts) {
  const ElfImage& image = program.executable.image;
  const absl::StatusOr<std::uint64_t> bias = BiasOfProgram(image, space);
  if (!bias.ok()) return bias.status();
  if (absl::Status status = MapImage(program.executable, *bias, space); !status.ok()) return status;
  const memory::Layout& layout = space.layout();
  const bool own_heap = image.kind == ElfKind::kPositionIndependent && layout.heap_base.value != 0;
  const GuestVirt behind{*bias + image.span.end};
  space.SetHeapStart((own_heap ? layout.heap_base : behind) + layout.heap_gap);

  std::uint64_t entry = image.entry + *bias;
  std::uint64_t interpreter_base = 0;
  if (program.interpreter) {
    absl::StatusOr<std::uint64_t> place =
        BiasAnywhere("the interpreter", program.interpreter->image, space);
    if (!place.ok()) return place.status();
    absl::Status status = MapImage(*program.interpreter, *place, space);
    if (!status.ok()) return status;
    interpreter_base = *place;
    entry = program.interpreter->image.entry + *place;
  }
  const absl::StatusOr<GuestVirt> vdso = facts.map_vdso ? facts.map_vdso() : GuestVirt{0};
  if (!vdso.ok()) return vdso.status();
  const std::vector<AuxEntry> auxv = BuildAuxv(program, *bias, interpreter_base, *vdso, facts);
  absl::StatusOr<StartState> start = MakeStack(program, environment, auxv, space, facts);
  if (start.ok()) {
    start->entry = GuestVirt{entry};
    start->bias = *bias;
  }
  return start;
}

}  // namespace dunebox::loader
