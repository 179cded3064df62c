#include "runtime/main/option_table.h"

#include <algorithm>
#include <array>

namespace dunebox::cli {
namespace {

constexpr std::array<std::string_view, 3> kEngines = {"auto", "kvm", "jit"};
constexpr std::array<std::string_view, 6> kIsolations = {"auto", "pku", "seg", "mask", "mask-writes", "none"};
constexpr std::array<std::string_view, 2> kRings = {"3", "0"};
constexpr std::array<std::string_view, 1> kAllowed = {"all"};

constexpr OptionRow kHelpOption = {
    .id = OptionId::kHelp, .name = "--help", .help = "print this text"};

constexpr std::array<OptionRow, 11> kRunOptions = {{
    {.id = OptionId::kEngine,
     .name = "--engine",
     .values = kEngines,
     .default_value = "auto",
     .help = "auto is kvm on virtualization hardware, else jit"},
    {.id = OptionId::kRing,
     .name = "--ring",
     .values = kRings,
     .default_value = "3",
     .help = "privilege level in the guest; 0 needs virtualization hardware"},
    {.id = OptionId::kAllow,
     .name = "--allow",
     .values = kAllowed,
     .default_value = "all",
     .help = "'all': the program has every right of its caller"},
    {.id = OptionId::kTrace,
     .name = "--trace",
     .help = "print one line for each system call to standard error"},
    {.id = OptionId::kStats,
     .name = "--stats",
     .help = "print what the engine did when a process ends, to standard error"},
    {.id = OptionId::kJitCache,
     .name = "--jit-cache",
     .value_name = "MIB",
     .default_value = "256",
     .help = "engine jit: room for translated code, 1 to 1024; emptied when it is full"},
    {.id = OptionId::kJitIsolation,
     .name = "--jit-isolation",
     .values = kIsolations,
     .default_value = "auto",
     .help = "engine jit: what keeps the program's code away from the runtime's memory"},
    {.id = OptionId::kJitPerfMap,
     .name = "--jit-perf-map",
     .help = "engine jit: name translated code for perf, in /tmp/perf-PID.map"},
    {.id = OptionId::kJitDump,
     .name = "--jit-dump",
     .value_name = "ADDR",
     .help = "engine jit: print guest and host code at ADDR when a process ends"},
    {.id = OptionId::kJitRecord,
     .name = "--jit-record",
     .value_name = "DIR",
     .help = "engine jit: record all emitted code in DIR, a file for each process"},
    kHelpOption,
}};

constexpr std::array<OptionRow, 2> kDoctorOptions = {{
    {.id = OptionId::kJson, .name = "--json", .help = "print the report as JSON"},
    kHelpOption,
}};

constexpr std::array<CommandRow, 2> kCommands = {{
    {.name = "run",
     .synopsis = "[OPTIONS] [--] PROG [ARGS...]",
     .summary = "Run the program PROG, unmodified, in the sandbox",
     .details =
         R"(PROG is searched in PATH when it has no slash. Everything after PROG belongs to the
program, options included; '--' may stand before PROG.

This version has no policy yet: a program may do whatever its caller may, with or
without --allow=all. Say --allow=all where you rely on that, because later
versions deny by default.

--jit-dump takes a hexadecimal guest address, or FILE+0xOFFSET in a mapped file, as
--jit-perf-map names places. A process that a signal ends, other than for a fault of
its own, prints no --stats and no --jit-dump. What --jit-record writes is for the
checker of emitted code, dunebox_check_code; DIR has to exist. Engine kvm refuses the
--jit options.

Exit status: that of the program; 128+N when signal N ended it; 125 when Dunebox
itself failed; 126 when PROG cannot be executed; 127 when it was not found.
)",
     .options = kRunOptions},
    {.name = "doctor",
     .synopsis = "[OPTIONS]",
     .summary = "Report what this machine offers and what to do about the rest",
     .details =
         R"(Exit status: 0 when some engine can run programs here, 1 when none can.
)",
     .options = kDoctorOptions},
}};

}  // namespace

std::span<const CommandRow> Commands() { return kCommands; }

const CommandRow* FindCommand(std::string_view name) {
  const auto* row = std::ranges::find(kCommands, name, &CommandRow::name);
  return row == kCommands.end() ? nullptr : row;
}

const OptionRow* FindOption(const CommandRow& command, std::string_view name) {
  if (name == "-h") name = "--help";
  for (const OptionRow& option : command.options) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

}  // namespace dunebox::cli
