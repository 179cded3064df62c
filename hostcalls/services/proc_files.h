// Where in procfs an opened object is, and what the guest gets instead of it.
//
// Decided from the object, never from the path that the guest named it by: an O_PATH descriptor in
// the reserved range is asked for its file system and for the name the kernel has for it.
//
//   CopyResult<ProcLocation> location = Locate(caller, pinned.get());
//   switch (DecideProc(*location)) { ... }
#ifndef DUNEBOX_HOSTCALLS_SERVICES_PROC_FILES_H_
#define DUNEBOX_HOSTCALLS_SERVICES_PROC_FILES_H_

#include <sys/types.h>

#include <span>
#include <string>
#include <string_view>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/memory/guest_memory.h"

namespace dunebox::hostcalls {

struct ProcLocation {
  bool on_proc = false;  // on a procfs at all
  bool known = false;    // and below /proc, so that what follows means something
  pid_t id = 0;          // of /proc/<pid>, or <tid> of /proc/<pid>/task/<tid>; 0: not below one
  std::string entry;     // the rest: "maps", "fd/5", "" for the directory of the process itself

  // "fd" of "fd/5".
  std::string_view name() const;
  // 5 of "fd/5" and of "fdinfo/5"; -1 for anything else.
  int descriptor() const;
};

// From the kernel's name for an object on procfs. Pure.
ProcLocation ParseProcPath(std::string_view path);

// Of a descriptor that the caller has, reserved or not. EACCES when the kernel has no name for it.
CopyResult<ProcLocation> Locate(const Caller& caller, int fd);
// The same for who knows the kernel's name for it already.
CopyResult<ProcLocation> LocateByName(int fd, std::string_view name);

enum class ProcAnswer : unsigned char {
  kPass,
  kRefuse,
  kMaps,
  kEnvironment,
  kAuxiliaryVector,
  kCommandLine,
  kStatus,      // the kernel's line without addresses
  kProcessors,  // the kernel's text without features that the engine hides
};
// What opening the object gives. Pure; `own` says whether location.id is of the guest's process.
ProcAnswer DecideProc(const ProcLocation& location, bool own);
// The text for an answer that is one; all but kStatus and kProcessors, which need the kernel's.
std::string ProcText(const ProcessView& process, ProcAnswer answer);

// The text of /proc/<pid>/stat without addresses of the runtime's. `maps` is the guest's memory map,
// for the ends of its stack; empty: not known. Pure.
std::string HideAddresses(std::string_view text, std::string_view maps);

// The text of /proc/cpuinfo without these words in its lists of flags. Pure.
std::string HideFlags(std::string_view text, std::span<const std::string> hidden);

// Is `name` in the directory at `location` a magic link: one that leads to an object without
// saying its path (fd/N, exe, cwd, root, ns/X, map_files/X)?
bool IsMagicLink(const ProcLocation& directory, std::string_view name);

// Is the object the entry that procfs has for a descriptor of the runtime's? Of any process: what
// runs there may be a guest of ours, whose runtime has its descriptors at the same numbers.
bool IsOfReserved(const ProcLocation& location, ReservedDescriptors reserved);

// The path, below the root of procfs, of the link to the program of another guest.
std::string ExecutableLink(pid_t process, ReservedDescriptors reserved);

// A decimal number as procfs names its entries, or -1.
int ParseProcNumber(std::string_view text);

// The path, below the root of procfs, of the link for a descriptor of the calling thread. The
// thread's own directory: after CLOSE_RANGE_UNSHARE its table is not that of its process.
std::string DescriptorLink(int fd);
// The same by whatever way is the shortest: for a call with a directory.
struct DescriptorPlace {
  int directory;
  std::string name;
};
DescriptorPlace PlaceOf(const Caller& caller, int fd);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_PROC_FILES_H_
