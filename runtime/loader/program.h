// User-space exec: opens a program, follows its `#!` lines, maps it and its interpreter into an
// empty address space and builds the initial stack.
//
// FindProgram and OpenProgram can fail without harm; Load changes the address space, so it comes
// after the point of no return.
//
//   absl::StatusOr<Program> program = OpenProgram(path, arguments, window, may_execute);
//   absl::StatusOr<StartState> start = Load(*program, environment, space, vdso);
#ifndef DUNEBOX_RUNTIME_LOADER_PROGRAM_H_
#define DUNEBOX_RUNTIME_LOADER_PROGRAM_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"
#include "runtime/loader/elf_image.h"
#include "runtime/memory/address_space.h"

namespace dunebox::loader {

// One ELF file, parsed. It is held by an O_PATH descriptor and opened again to be mapped; or by one that is open for
// reading, where it could not be opened again.
struct ElfFile {
  enum class Handle : unsigned char { kPath, kOpen };
  runtime::FileDescriptor handle;
  ElfImage image;
  Handle kind = Handle::kPath;
};

// All that is known before anything is mapped.
struct Program {
  ElfFile executable;
  std::optional<ElfFile> interpreter;
  std::string path;                    // as given; AT_EXECFN
  std::string resolved_path;           // what /proc/self/exe says
  std::vector<std::string> arguments;  // with what `#!` lines put in front
  bool is_script = false;              // what is executed is named by a `#!` line
};

// The path execvp would take for `name`: itself when it has a slash, else the first match in
// PATH. kNotFound (127) or kPermissionDenied (126).
absl::StatusOr<std::string> FindProgram(const std::string& name);

// kNotFound: no such file, or no such interpreter. kPermissionDenied: not executable for us.
// kFailedPrecondition: no format we can run, and the message says why. kOutOfRange: scripts upon
// scripts or links upon links. kInvalidArgument: the name is too long. Anything else: I/O errors.
// Every file that is executed, scripts and interpreters included, is shown to `may_execute` by the
// descriptor that it is then read from; not OK: that is the answer.
using MayExecute = absl::FunctionRef<absl::Status(int fd, const std::string& path)>;
absl::StatusOr<Program> OpenProgram(const std::string& path, std::vector<std::string> arguments,
                                    const GuestRange& window, MayExecute may_execute);

// What the program is told about the machine.
struct HostFacts {
  // Maps the vDSO, when the program's own files have their places; 0 when there is none. Null: none.
  std::function<absl::StatusOr<GuestVirt>()> map_vdso;
  std::uint64_t hardware_capabilities = 0;
  std::uint64_t hardware_capabilities2 = 0;
  std::uint64_t minimum_signal_stack = 0;
  std::uint64_t stack_limit = 0;  // bytes; the stack is mapped whole
};

struct StartState {
  GuestVirt entry;
  GuestVirt stack_pointer;
  std::uint64_t bias = 0;  // of the program: guest address = address as linked + bias
  std::string auxv;        // as in /proc/self/auxv
};

// kResourceExhausted: arguments too long, or no room. kFailedPrecondition: a segment is where
// something else already is.
absl::StatusOr<StartState> Load(const Program& program, const std::vector<std::string>& environment,
                                memory::AddressSpace& space, const HostFacts& facts);

}  // namespace dunebox::loader

#endif  // DUNEBOX_RUNTIME_LOADER_PROGRAM_H_
