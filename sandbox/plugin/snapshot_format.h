// What a snapshot is as bytes in a file, but for the contents of its memory. A file is trusted as a plugin is: it
// says what guest memory, registers and the virtual kernel are to be, and nothing it says reaches beyond the
// window. Whatever the host itself relies upon is checked here: that ranges lie in the window and do not
// overlap, that memory of the host's is memory which it can use.
//
// Little-endian, no padding; lists and texts have their length in front, with a limit for each.
//
//   const std::string bytes = EncodeGuest(guest);
//   absl::StatusOr<SavedGuest> again = DecodeGuest(bytes, hostcalls::Window::Embedded(0));
#ifndef DUNEBOX_SANDBOX_PLUGIN_SNAPSHOT_FORMAT_H_
#define DUNEBOX_SANDBOX_PLUGIN_SNAPSHOT_FORMAT_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "hostcalls/memory/guest_memory.h"
#include "runtime/memory/memory_image.h"
#include "sandbox/plugin/snapshot.h"

namespace dunebox::plugin {

// What the plugin's libraries may have looked at when they chose their code.
struct ProcessorFeatures {
  std::array<std::uint32_t, 6> words{};  // CPUID 1 ECX EDX, 7 EBX ECX EDX, 0x80000001 ECX
  std::uint64_t state = 0;               // vector state that guests have: bits of XCR0

  static ProcessorFeatures OfHost();
  bool HasAllOf(const ProcessorFeatures& needed) const;
};

struct SavedFile {
  int number = 0;
  OpenFile::Kind kind = OpenFile::Kind::kEmpty;
  bool closes_on_exec = false;
  int same_as = -1;  // kFile: the number of an earlier one that dup has made it from
  std::string name;  // kFile
  std::uint64_t offset = 0;
};

struct SavedGuest {
  ProcessorFeatures features;
  std::uint64_t random = 0;
  pid_t next_id = 0;
  PluginTable table{};
  std::uint64_t names = 0;
  std::vector<ThreadState> threads;
  std::array<signals::KernelAction, signals::kSignalCount + 1> actions{};
  std::string directory;
  std::uint32_t mask = 0;
  std::vector<SavedFile> files;
  ArenaState arena;
  ArenaState shared;  // parts of the one range that is IsSharedByHost
  memory::MemoryImage::State memory;  // what is counted in it is counted again
  memory::RangeSet contents;          // whose bytes follow elsewhere, in this order
};

std::string EncodeGuest(const SavedGuest& guest);
// kInvalidArgument: it says something that cannot be.
absl::StatusOr<SavedGuest> DecodeGuest(std::string_view bytes, const hostcalls::Window& window);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_SNAPSHOT_FORMAT_H_
