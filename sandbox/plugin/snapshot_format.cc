#include "sandbox/plugin/snapshot_format.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <type_traits>
#include <utility>

#include "jit-fallback/dispatch/thread_context.h"
#include "libdune/x86/guest_cpuid.h"
#include "sandbox/plugin/kernel.h"

namespace dunebox::plugin {
namespace {

using memory::RangeSet;
using memory::Vma;

constexpr std::uint64_t kMostText = 4096;
constexpr std::uint64_t kMostThreads = 256, kMostVmas = 16384, kMostRanges = 1 << 20;

// ---- bytes --------------------------------------------------------------------------------------

class Writer {
 public:
  template <typename T>
  void Number(T value) {
    static_assert(std::is_integral_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Text(std::string_view text) {
    Number<std::uint64_t>(text.size());
    bytes_.append(text);
  }
  void Range(const GuestRange& range) {
    Number(range.start.value);
    Number(range.end.value);
  }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// After something that cannot be it reads zeros, and ok() says so.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  bool is_at_end() const { return bytes_.empty(); }
  // What follows makes no sense otherwise.
  bool Require(bool condition) {
    ok_ = ok_ && condition;
    return ok_;
  }
  template <typename T>
  T Number() {
    T value{};
    if (!Require(bytes_.size() >= sizeof(value))) return T{};
    std::memcpy(&value, bytes_.data(), sizeof(value));
    bytes_.remove_prefix(sizeof(value));
    return value;
  }
  template <typename T>
  T Number(T least, T most) {
    const T value = Number<T>();
    return Require(value >= least && value <= most) ? value : least;
  }
  bool Flag() { return Number<std::uint8_t>(0, 1) != 0; }
  std::string Text() {
    const auto size = Number<std::uint64_t>(0, kMostText);
    if (!Require(size <= bytes_.size())) return {};
    std::string text(bytes_.substr(0, size));
    bytes_.remove_prefix(size);
    Require(text.find('\0') == std::string::npos);
    return text;
  }
  // Of whole pages in the window, behind `least`.
  GuestRange Pages(const hostcalls::Window& window, std::uint64_t least) {
    const auto start = Number<std::uint64_t>(std::max(least, window.lowest), window.limit);
    const auto end = Number<std::uint64_t>(start, window.limit);
    Require(start < end && IsPageAligned(start) && IsPageAligned(end));
    return {GuestVirt{start}, GuestVirt{end}};
  }
  // How often something follows.
  std::uint64_t Count(std::uint64_t most) { return Number<std::uint64_t>(0, most); }

 private:
  std::string_view bytes_;
  bool ok_ = true;
};

// ---- parts: what is written, and below it how it is read ----------------------------------------

void Write(Writer& to, const ThreadState& thread) {
  to.Number(thread.id);
  to.Number(thread.stack_pointer);
  to.Number(thread.fs_base);
  to.Number(thread.gs_base);
  to.Number(thread.mxcsr);
  to.Number(thread.x87_control);
  to.Number(thread.signal_mask);
  to.Number(thread.pending_signals);
  to.Number(thread.alternate_stack.base);
  to.Number(thread.alternate_stack.flags);
  to.Number(thread.alternate_stack.size);
  to.Number(thread.clear_child_tid);
}

ThreadState ReadThread(Reader& from, const hostcalls::Window& window) {
  ThreadState thread;
  thread.id = from.Number<pid_t>(kVirtualPid, 1 << 30);
  thread.stack_pointer = from.Number<std::uint64_t>();
  thread.fs_base = from.Number<std::uint64_t>();
  thread.gs_base = from.Number<std::uint64_t>();
  from.Require(window.AllowsSegmentBase(thread.fs_base) && window.AllowsSegmentBase(thread.gs_base));
  thread.mxcsr = from.Number<std::uint32_t>();
  thread.x87_control = from.Number<std::uint16_t>();
  thread.signal_mask = from.Number<std::uint64_t>() & ~signals::kUnblockable;
  thread.pending_signals = from.Number<std::uint64_t>();
  thread.alternate_stack.base = from.Number<decltype(thread.alternate_stack.base)>();
  thread.alternate_stack.flags = from.Number<decltype(thread.alternate_stack.flags)>();
  thread.alternate_stack.size = from.Number<decltype(thread.alternate_stack.size)>();
  thread.clear_child_tid = from.Number<std::uint64_t>();
  return thread;
}

void Write(Writer& to, const SavedFile& file) {
  to.Number<std::int32_t>(file.number);
  to.Number(static_cast<std::uint8_t>(file.kind));
  to.Number<std::uint8_t>(file.closes_on_exec ? 1 : 0);
  to.Number<std::int32_t>(file.same_as);
  to.Text(file.name);
  to.Number(file.offset);
}

SavedFile ReadFile(Reader& from, int least) {
  SavedFile file;
  file.number = from.Number<std::int32_t>(least, Descriptors::kMost - 1);
  file.kind = static_cast<OpenFile::Kind>(from.Number<std::uint8_t>(0, 2));
  file.closes_on_exec = from.Flag();
  file.same_as = from.Number<std::int32_t>(-1, file.number - 1);
  file.name = from.Text();
  file.offset = from.Number<std::uint64_t>(0, std::uint64_t{1} << 62);
  return file;
}

void Write(Writer& to, const Vma& vma) {
  const memory::Backing none;
  const memory::Backing& backing = vma.backing != nullptr ? *vma.backing : none;
  to.Range(vma.range);
  to.Number<std::int32_t>(vma.protection.ToProt());
  to.Number<std::uint8_t>(vma.sharing == memory::Sharing::kShared ? 1 : 0);
  to.Number<std::uint8_t>(vma.file_backed ? 1 : 0);
  to.Number<std::uint8_t>(vma.sealed ? 1 : 0);
  to.Number<std::uint8_t>(vma.backing != nullptr ? 1 : 0);
  to.Number(vma.offset);
  to.Text(backing.name);
  to.Number(backing.device);
  to.Number(backing.inode);
}

Vma ReadVma(Reader& from, const hostcalls::Window& window, std::uint64_t least) {
  Vma vma;
  vma.range = from.Pages(window, least);
  vma.protection = memory::Protection::FromProt(from.Number<std::int32_t>(0, 7));
  vma.sharing = from.Flag() ? memory::Sharing::kShared : memory::Sharing::kPrivate;
  vma.file_backed = from.Flag();
  vma.sealed = from.Flag();
  const bool has_backing = from.Flag();
  vma.offset = from.Number<std::uint64_t>();
  memory::Backing backing;
  backing.name = from.Text();
  backing.device = from.Number<std::uint64_t>();
  backing.inode = from.Number<std::uint64_t>();
  if (has_backing) vma.backing = std::make_shared<const memory::Backing>(std::move(backing));
  return vma;
}

void Write(Writer& to, const std::map<std::uint64_t, std::uint64_t>& pieces) {
  to.Number<std::uint64_t>(pieces.size());
  for (const auto& [address, size] : pieces) {
    to.Number(address);
    to.Number(size);
  }
}

// The host uses them by pointer: they are where it can, and nothing lies twice in the same place.
std::map<std::uint64_t, std::uint64_t> ReadPieces(Reader& from, const memory::VmaMap& map,
                                                  bool is_shared, RangeSet& taken) {
  constexpr std::uint64_t kUnit = 64;
  std::map<std::uint64_t, std::uint64_t> pieces;
  for (std::uint64_t left = from.Count(kMostRanges); left > 0 && from.ok(); --left) {
    const auto address = from.Number<std::uint64_t>(0, std::uint64_t{1} << 32);
    const auto size = from.Number<std::uint64_t>(kUnit, std::uint64_t{1} << 32);
    if (!from.Require(address % kUnit == 0 && size % kUnit == 0)) break;
    const GuestRange range{GuestVirt{address}, GuestVirt{address + size}};
    if (!from.Require(map.Covers(range) && taken.SizeIn(range) == 0)) break;
    map.ForEachIn(range, [&](const Vma& vma) {
      return from.Require(vma.sealed && memory::IsSharedByHost(vma) == is_shared &&
                          vma.protection == memory::Protection{.read = true, .write = true});
    });
    taken.Add(range);
    pieces.emplace(address, size);
  }
  return pieces;
}

void ReadMemory(Reader& from, const hostcalls::Window& window, SavedGuest& guest) {
  memory::MemoryImage::State& state = guest.memory;
  state.heap_start = GuestVirt{from.Number<std::uint64_t>(window.lowest, window.limit)};
  state.heap_end = GuestVirt{from.Number<std::uint64_t>(state.heap_start.value, window.limit)};
  std::uint64_t end = window.lowest;
  bool has_shared = false;
  for (std::uint64_t left = from.Count(kMostVmas); left > 0 && from.ok(); --left) {
    Vma vma = ReadVma(from, window, end);
    if (!from.ok()) return;
    end = vma.range.end.value;
    if (memory::IsSharedByHost(vma)) from.Require(!std::exchange(has_shared, true));
    if (memory::IsData(vma)) state.data.Add(vma.range);
    if (vma.protection.any()) state.touchable.Add(vma.range);
    state.map.Replace(std::move(vma));
  }
  end = window.lowest;
  for (std::uint64_t left = from.Count(kMostRanges); left > 0 && from.ok(); --left) {
    const GuestRange range = from.Pages(window, end);
    if (!from.Require(from.ok() && state.map.Covers(range))) return;
    end = range.end.value;
    guest.contents.Add(range);
  }
}

}  // namespace

ProcessorFeatures ProcessorFeatures::OfHost() {
  static const ProcessorFeatures host = [] {
    ProcessorFeatures found;
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0) {
      // Whether the system saves vector state is not the processor's.
      found.words[0] = ecx, found.words[1] = edx;
    }
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) {
      found.words[2] = ebx, found.words[3] = ecx, found.words[4] = edx;
    }
    if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) != 0) found.words[5] = ecx;
    found.state = jit::ExtendedLayout::OfHost(dune::x86::kExtendedFeatureMask).mask;
    return found;
  }();
  return host;
}

bool ProcessorFeatures::HasAllOf(const ProcessorFeatures& needed) const {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if ((needed.words[i] & ~words[i]) != 0) return false;
  }
  return (needed.state & ~state) == 0;
}

std::string EncodeGuest(const SavedGuest& guest) {
  Writer to;
  for (const std::uint32_t word : guest.features.words) to.Number(word);
  to.Number(guest.features.state);
  to.Number(guest.random);
  to.Number(guest.next_id);
  for (const std::uint64_t address :
       {guest.table.open_library, guest.table.find_symbol, guest.table.last_error,
        guest.table.make_thread, guest.table.ready_gate, guest.table.return_gate, guest.table.callbacks,
        guest.names}) {
    to.Number(address);
  }
  to.Number<std::uint64_t>(guest.threads.size());
  for (const ThreadState& thread : guest.threads) Write(to, thread);
  for (const signals::KernelAction& action : guest.actions) {
    to.Number(action.handler);
    to.Number(action.flags);
    to.Number(action.restorer);
    to.Number(action.mask);
  }
  to.Text(guest.directory);
  to.Number(guest.mask);
  to.Number<std::uint64_t>(guest.files.size());
  for (const SavedFile& file : guest.files) Write(to, file);
  to.Number(guest.memory.heap_start.value);
  to.Number(guest.memory.heap_end.value);
  to.Number<std::uint64_t>(guest.memory.map.size());
  guest.memory.map.ForEach([&](const Vma& vma) {
    Write(to, vma);
    return true;
  });
  std::uint64_t ranges = 0;
  guest.contents.ForEach([&](const GuestRange&) { ++ranges; });
  to.Number(ranges);
  guest.contents.ForEach([&](const GuestRange& range) { to.Range(range); });
  Write(to, guest.arena.free);
  Write(to, guest.arena.used);
  Write(to, guest.shared.free);
  Write(to, guest.shared.used);
  return to.Take();
}

absl::StatusOr<SavedGuest> DecodeGuest(std::string_view bytes, const hostcalls::Window& window) {
  Reader from(bytes);
  SavedGuest guest;
  for (std::uint32_t& word : guest.features.words) word = from.Number<std::uint32_t>();
  guest.features.state = from.Number<std::uint64_t>();
  guest.random = from.Number<std::uint64_t>();
  guest.next_id = from.Number<pid_t>(kVirtualPid, 1 << 30);
  for (std::uint64_t* const address :
       {&guest.table.open_library, &guest.table.find_symbol, &guest.table.last_error,
        &guest.table.make_thread, &guest.table.ready_gate, &guest.table.return_gate,
        &guest.table.callbacks, &guest.names}) {
    *address = from.Number<std::uint64_t>(0, window.limit);
  }
  for (std::uint64_t left = from.Count(kMostThreads); left > 0 && from.ok(); --left) {
    const ThreadState thread = ReadThread(from, window);
    from.Require(std::ranges::find(guest.threads, thread.id, &ThreadState::id) == guest.threads.end());
    guest.threads.push_back(thread);
  }
  from.Require(!guest.threads.empty());
  for (signals::KernelAction& action : guest.actions) {
    action.handler = from.Number<std::uint64_t>();
    action.flags = from.Number<std::uint64_t>();
    action.restorer = from.Number<std::uint64_t>();
    action.mask = from.Number<std::uint64_t>() & ~signals::kUnblockable;
  }
  guest.directory = from.Text();
  guest.mask = from.Number<std::uint32_t>(0, 0777);
  for (std::uint64_t left = from.Count(Descriptors::kMost); left > 0 && from.ok(); --left) {
    SavedFile file = ReadFile(from, guest.files.empty() ? 0 : guest.files.back().number + 1);
    const auto original = std::ranges::find(guest.files, file.same_as, &SavedFile::number);
    from.Require(file.same_as < 0 || (original != guest.files.end() && original->same_as < 0 &&
                                      original->kind == OpenFile::Kind::kFile));
    guest.files.push_back(std::move(file));
  }
  ReadMemory(from, window, guest);
  RangeSet taken;
  guest.arena.free = ReadPieces(from, guest.memory.map, false, taken);
  guest.arena.used = ReadPieces(from, guest.memory.map, false, taken);
  guest.shared.free = ReadPieces(from, guest.memory.map, true, taken);
  guest.shared.used = ReadPieces(from, guest.memory.map, true, taken);
  if (!from.ok() || !from.is_at_end()) {
    return absl::InvalidArgumentError("a saved sandbox that says what cannot be");
  }
  return guest;
}

}  // namespace dunebox::plugin
