// A static program that the host has named, opened and judged before anything of a sandbox is given up for it.
//
//   absl::StatusOr<std::optional<ProgramFile>> program = ReadProgramFile(path, file, window);
//   if (program.ok() && !*program) ...   // a library: the plugin's dynamic linker's business
#ifndef DUNEBOX_SANDBOX_PLUGIN_PROGRAM_FILE_H_
#define DUNEBOX_SANDBOX_PLUGIN_PROGRAM_FILE_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "hostcalls/memory/address.h"
#include "hostcalls/memory/guest_memory.h"
#include "runtime/loader/program.h"
#include "runtime/loader/program_symbols.h"
#include "sandbox/plugin/descriptors.h"

namespace dunebox::plugin {

struct ProgramFile {
  loader::Program program;
  loader::ProgramSymbols symbols;
};

// kFailedPrecondition: a program, but none that can be loaded; the message says why. Nothing: it is no program, or
// cannot be read, and what would load it as a library is to say so.
absl::StatusOr<std::optional<ProgramFile>> ReadProgramFile(const std::string& path,
                                                           hostcalls::CopyResult<OpenFile> file,
                                                           const GuestRange& window);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_PROGRAM_FILE_H_
