#include "sandbox/cli/option_table.h"

#include <algorithm>
#include <array>

namespace dunebox::cli {
namespace {

constexpr std::array<std::string_view, 3> kEngines = {"auto", "kvm", "jit"};
constexpr std::array<std::string_view, 6> kIsolations = {"auto", "pku", "seg", "mask", "mask-writes", "none"};
constexpr std::array<std::string_view, 3> kTraceFormats = {"text", "json", "chrome"};
constexpr std::array<std::string_view, 2> kStatisticsFormats = {"text", "json"};
constexpr std::array<std::string_view, 2> kRings = {"3", "0"};
constexpr std::array<std::string_view, 5> kAllowed = {"all", "build", "python",
                                                      "network-client", "server"};

constexpr OptionRow kHelpOption = {
    .id = OptionId::kHelp, .name = "--help", .help = "print this text"};

constexpr std::array<OptionRow, 52> kRunOptions = {{
    {.id = OptionId::kPolicy,
     .name = "--engine",
     .values = kEngines,
     .default_value = "auto",
     .help = "auto is kvm on virtualization hardware, else jit"},
    {.id = OptionId::kRing,
     .name = "--ring",
     .values = kRings,
     .default_value = "3",
     .help = "privilege level in the guest; 0 needs virtualization hardware"},
    {.id = OptionId::kPostedWrites,
     .name = "--posted-writes",
     .help = "engine kvm: small writes wait for the next exit; an error comes with a later call"},
    {.id = OptionId::kPolicy,
     .name = "--allow",
     .values = kAllowed,
     .help = "rights for a common job; 'all': every right of the caller",
     .is_repeatable = true},
    {.id = OptionId::kPolicyFile,
     .name = "--policy",
     .value_name = "FILE",
     .help = "rules of a TOML file; other options come on top of them",
     .is_repeatable = true},
    {.id = OptionId::kPolicy,
     .name = "--no-defaults",
     .help = "start from nothing instead of the default policy"},
    {.id = OptionId::kPolicy,
     .name = "--ro",
     .value_name = "PATH[:AT]",
     .help = "the tree PATH may be read and executed; the program finds it at AT",
     .is_repeatable = true},
    {.id = OptionId::kPolicy,
     .name = "--rw",
     .value_name = "PATH[:AT]",
     .help = "the same, and written, with files made and removed in it",
     .is_repeatable = true},
    {.id = OptionId::kPolicy,
     .name = "--ro-bind",
     .value_name = "SRC DEST",
     .help = "the same as --ro SRC:DEST",
     .is_repeatable = true,
     .word_count = 2},
    {.id = OptionId::kPolicy,
     .name = "--bind",
     .value_name = "SRC DEST",
     .help = "the same as --rw SRC:DEST",
     .is_repeatable = true,
     .word_count = 2},
    {.id = OptionId::kPolicy,
     .name = "-v",
     .value_name = "SRC:DEST[:ro]",
     .help = "the same as --rw SRC:DEST, or with :ro as --ro SRC:DEST",
     .is_repeatable = true},
    {.id = OptionId::kPolicy,
     .name = "--tmpfs",
     .value_name = "PATH[:SIZE]",
     .help = "an empty tree in memory, of this session alone",
     .is_repeatable = true},
    {.id = OptionId::kPolicy,
     .name = "--hide",
     .value_name = "PATH",
     .help = "nothing is to be seen of PATH, as the program names it",
     .is_repeatable = true},
    {.id = OptionId::kPolicy,
     .name = "--device",
     .value_name = "PATH",
     .help = "the device PATH may be read and written",
     .is_repeatable = true},
    {.id = OptionId::kPolicy,
     .name = "--net",
     .value_name = "WHERE",
     .help = "none, loopback, host, unix, tcp:HOST:PORT or listen:PORT",
     .is_repeatable = true},
    {.id = OptionId::kPolicy,
     .name = "--call",
     .value_name = "RULE",
     .help = "'deny ptrace', 'kill @module', 'allow ioctl if arg1 == 0x5401'",
     .is_repeatable = true},
    {.id = OptionId::kPolicy,
     .name = "--call-default",
     .value_name = "ACTION",
     .help = "for calls without a rule: allow, deny, deny=ERRNO or kill"},
    {.id = OptionId::kPolicy,
     .name = "--hostname",
     .value_name = "NAME",
     .help = "the host name that the program sees"},
    {.id = OptionId::kPolicy,
     .name = "--uid",
     .value_name = "N",
     .help = "the user id that the program sees"},
    {.id = OptionId::kPolicy,
     .name = "--gid",
     .value_name = "N",
     .help = "the group id that the program sees"},
    {.id = OptionId::kPolicy, .name = "--audit", .help = "say what would be denied, and allow it"},
    {.id = OptionId::kPolicy,
     .name = "--require",
     .value_name = "LIST",
     .help = "fail when these are not to be had: wall2, or mechanisms of it",
     .is_repeatable = true},
    {.id = OptionId::kArgs,
     .name = "--args",
     .value_name = "FD",
     .help = "more arguments, with a NUL behind each, from descriptor FD",
     .is_repeatable = true},
    {.id = OptionId::kTrace,
     .name = "--trace",
     .values = kTraceFormats,
     .bare_value = "text",
     .help = "print one line for each system call; chrome: for Perfetto"},
    {.id = OptionId::kTraceFile,
     .name = "--trace-file",
     .value_name = "FILE",
     .help = "where --trace goes instead of standard error"},
    {.id = OptionId::kStats,
     .name = "--stats",
     .values = kStatisticsFormats,
     .bare_value = "text",
     .help = "print what the engine did when a process ends; json: its calls, too"},
    {.id = OptionId::kStatsFile,
     .name = "--stats-file",
     .value_name = "FILE",
     .help = "where --stats goes instead of standard error"},
    {.id = OptionId::kMetricsFile,
     .name = "--metrics-file",
     .value_name = "FILE",
     .help = "write statistics of all processes to FILE at the end, for Prometheus"},
    {.id = OptionId::kGdb,
     .name = "--gdb",
     .value_name = "WHERE",
     .bare_value = "0",
     .help = "wait for gdb on port WHERE of 127.0.0.1 (0: any), or on unix:PATH"},
    {.id = OptionId::kBacktrace,
     .name = "--backtrace",
     .help = "say of a program that crashes where it was, and by which calls it came there"},
    {.id = OptionId::kCoreFile,
     .name = "--core-file",
     .value_name = "FILE",
     .help = "where the core file of a program that crashes goes, whatever RLIMIT_CORE is"},
    {.id = OptionId::kJitCache,
     .name = "--jit-cache",
     .value_name = "MIB",
     .default_value = "256",
     .help = "engine jit: room for translated code, 1 to 1024; emptied when it is full"},
    {.id = OptionId::kPolicy,
     .name = "--jit-isolation",
     .values = kIsolations,
     .default_value = "auto",
     .help = "engine jit: what keeps the program's code away from the runtime's memory"},
    {.id = OptionId::kJitPerfMap,
     .name = "--jit-perf-map",
     .help = "engine jit: name translated code for perf, in /tmp/perf-PID.map"},
    {.id = OptionId::kJitPerfDump,
     .name = "--jit-perf-dump",
     .value_name = "DIR",
     .help = "engine jit: code and names for 'perf inject --jit', in DIR/jit-PID.dump"},
    {.id = OptionId::kJitDump,
     .name = "--jit-dump",
     .value_name = "ADDR",
     .help = "engine jit: print guest and host code at ADDR when a process ends"},
    {.id = OptionId::kJitRecord,
     .name = "--jit-record",
     .value_name = "DIR",
     .help = "engine jit: record all emitted code in DIR, a file for each process"},
    {.id = OptionId::kJitPrepared,
     .name = "--jit-prepared",
     .value_name = "DIR",
     .default_value = "/var/cache/dunebox",
     .help = "engine jit: translations that 'dunebox prepare' has made; 'none': none"},
    {.id = OptionId::kPolicy,
     .name = "--time",
     .value_name = "DURATION",
     .help = "kill all processes after so much time, as in 500ms, 10s, 5m, 1h"},
    {.id = OptionId::kPolicy,
     .name = "--cpu-time",
     .value_name = "DURATION",
     .help = "the same for the CPU time of all processes together"},
    {.id = OptionId::kPolicy,
     .name = "--mem",
     .value_name = "SIZE",
     .help = "memory that each process may have for its data, as in 512M, 2G"},
    {.id = OptionId::kPolicy,
     .name = "--pids",
     .value_name = "N",
     .help = "how many processes and threads there may be, 1 to 32768"},
    {.id = OptionId::kPolicy,
     .name = "--nofile",
     .value_name = "N",
     .help = "how many files each process may have open, 16 or more; 4096 if not said"},
    {.id = OptionId::kPolicy,
     .name = "--fsize",
     .value_name = "SIZE",
     .help = "how large a file may become by writing, 1M or more"},
    {.id = OptionId::kPolicy,
     .name = "--output",
     .value_name = "SIZE",
     .help = "how much may be written to the files it begins with, as to a pipe"},
    {.id = OptionId::kPolicy, .name = "--chdir", .value_name = "DIR", .help = "start in DIR"},
    {.id = OptionId::kPolicy,
     .name = "--env",
     .value_name = "K[=V]",
     .help = "set the variable K to V, or pass the caller's K; may be repeated",
     .is_repeatable = true},
    {.id = OptionId::kPolicy,
     .name = "--clearenv",
     .help = "pass no variable of the caller's but those of --env"},
    {.id = OptionId::kPolicy,
     .name = "--die-with-parent",
     .help = "kill all processes when the one that started dunebox is gone"},
    {.id = OptionId::kJsonStatusFd,
     .name = "--json-status-fd",
     .value_name = "N",
     .help = "write a JSON line to descriptor N at the start and at the end"},
    {.id = OptionId::kDryRun,
     .name = "--dry-run",
     .help = "print what would be run and how, and run nothing"},
    kHelpOption,
}};

constexpr std::array<std::string_view, 2> kExplainFormats = {"text", "oci-seccomp"};

// What a session takes, and how to say what it comes to.
constexpr auto kExplainOptions = [] {
  std::array<OptionRow, kRunOptions.size() + 1> options;
  options[0] = {
      .id = OptionId::kExplainFormat,
      .name = "--format",
      .values = kExplainFormats,
      .default_value = "text",
      .help = "oci-seccomp: the rules about system calls as engines of containers read them"};
  std::ranges::copy(kRunOptions, options.begin() + 1);
  return options;
}();

constexpr OptionRow kJsonOption = {
    .id = OptionId::kJson, .name = "--json", .help = "print the report as JSON"};

// Those of a run, but for its own kind of statistics.
constexpr auto kStatOptions = [] {
  std::array<OptionRow, kRunOptions.size()> options;
  options[0] = kJsonOption;
  std::ranges::copy_if(kRunOptions, options.begin() + 1,
                       [](const OptionRow& option) { return option.id != OptionId::kStats; });
  return options;
}();

constexpr std::array<std::string_view, 2> kMeasuredEngines = {"kvm", "jit"};

constexpr std::array<OptionRow, 4> kBenchOptions = {{
    {.id = OptionId::kBenchEngine,
     .name = "--engine",
     .values = kMeasuredEngines,
     .help = "measure this one, and fail without it; else those that run here",
     .is_repeatable = true},
    {.id = OptionId::kRepeat,
     .name = "--repeat",
     .value_name = "N",
     .default_value = "5",
     .help = "how often each is run, 1 to 1000"},
    kJsonOption,
    kHelpOption,
}};

constexpr std::array<OptionRow, 2> kDoctorOptions = {{kJsonOption, kHelpOption}};

constexpr std::array<OptionRow, 11> kLearnOptions = {{
    {.id = OptionId::kLearnOutput,
     .name = "-o",
     .value_name = "FILE",
     .help = "where the proposed policy goes instead of standard output"},
    {.id = OptionId::kLearnLog,
     .name = "--merge",
     .value_name = "LOG",
     .help = "learn from the runs recorded in LOG, too, and record this one there"},
    {.id = OptionId::kPolicyFile,
     .name = "--policy",
     .value_name = "FILE",
     .help = "what this file allows is not learnt again",
     .is_repeatable = true},
    {.id = OptionId::kPolicy,
     .name = "--no-defaults",
     .help = "learn what the default policy allows, too"},
    {.id = OptionId::kPolicy,
     .name = "--engine",
     .values = kEngines,
     .default_value = "auto",
     .help = "auto is kvm on virtualization hardware, else jit"},
    {.id = OptionId::kPolicy,
     .name = "--jit-isolation",
     .values = kIsolations,
     .default_value = "auto",
     .help = "engine jit: what keeps the program's code away from the runtime's memory"},
    {.id = OptionId::kPolicy,
     .name = "--env",
     .value_name = "K[=V]",
     .help = "set the variable K to V, or pass the caller's K; may be repeated",
     .is_repeatable = true},
    {.id = OptionId::kPolicy, .name = "--chdir", .value_name = "DIR", .help = "start in DIR"},
    {.id = OptionId::kPolicy,
     .name = "--time",
     .value_name = "DURATION",
     .help = "kill all processes after so much time, as in 500ms, 10s, 5m, 1h"},
    {.id = OptionId::kPolicy,
     .name = "--die-with-parent",
     .help = "kill all processes when the process that started dunebox has gone"},
    kHelpOption,
}};

constexpr std::array<OptionRow, 1> kCheckOptions = {{kHelpOption}};

constexpr std::array<OptionRow, 1> kExplainMessageOptions = {{kHelpOption}};

constexpr std::array<OptionRow, 1> kCompletionOptions = {{kHelpOption}};

constexpr std::array<std::string_view, 2> kLogFormats = {"text", "json"};
constexpr std::array<std::string_view, 2> kCgroupManagers = {"cgroupfs", "disabled"};
constexpr std::array<std::string_view, 2> kListFormats = {"table", "json"};

// What engines give to every command.
constexpr std::array<OptionRow, 7> kOciOptions = {{
    {.id = OptionId::kOci,
     .name = "--root",
     .value_name = "DIR",
     .default_value = "/run/dunebox",
     .help = "where the states of containers are kept"},
    {.id = OptionId::kOci,
     .name = "--log",
     .value_name = "FILE",
     .help = "also write messages to FILE, and warnings to nowhere else"},
    {.id = OptionId::kOci,
     .name = "--log-format",
     .values = kLogFormats,
     .default_value = "text",
     .help = "the form of --log"},
    {.id = OptionId::kOci,
     .name = "--cgroup-manager",
     .values = kCgroupManagers,
     .default_value = "cgroupfs",
     .help = "disabled: no control groups"},
    {.id = OptionId::kOci, .name = "--systemd-cgroup", .help = "refused: groups are made through the file system"},
    {.id = OptionId::kOci, .name = "--debug", .help = "without effect"},
    kHelpOption,
}};

template <std::size_t count>
constexpr std::array<OptionRow, count + kOciOptions.size()> WithOciOptions(
    const std::array<OptionRow, count>& own) {
  std::array<OptionRow, count + kOciOptions.size()> all{};
  std::copy(kOciOptions.begin(), kOciOptions.end(), std::copy(own.begin(), own.end(), all.begin()));
  return all;
}

constexpr auto kOciCreateOptions = WithOciOptions(std::array<OptionRow, 6>{{
    {.id = OptionId::kOci,
     .name = "--bundle",
     .value_name = "DIR",
     .default_value = ".",
     .help = "the directory with config.json"},
    {.id = OptionId::kOci,
     .name = "--pid-file",
     .value_name = "FILE",
     .help = "write the id of the container's process to FILE"},
    {.id = OptionId::kOci,
     .name = "--console-socket",
     .value_name = "PATH",
     .help = "send the terminal to the socket PATH; with process.terminal alone"},
    {.id = OptionId::kOci,
     .name = "--preserve-fds",
     .value_name = "N",
     .default_value = "0",
     .help = "the program has N descriptors more, from 3 on"},
    {.id = OptionId::kOci, .name = "--no-pivot", .help = "refused: the old root could be reached"},
    {.id = OptionId::kOci,
     .name = "--no-new-keyring",
     .help = "without effect: the caller's keys are never shown"},
}});
constexpr auto kOciKillOptions = WithOciOptions(std::array<OptionRow, 1>{{
    {.id = OptionId::kOci, .name = "--all", .help = "send it to every process of the container"},
}});
constexpr auto kOciDeleteOptions = WithOciOptions(std::array<OptionRow, 1>{{
    {.id = OptionId::kOci, .name = "--force", .help = "end it first if it runs; fine if there is none"},
}});
constexpr auto kOciListOptions = WithOciOptions(std::array<OptionRow, 1>{{
    {.id = OptionId::kOci,
     .name = "--format",
     .values = kListFormats,
     .default_value = "table",
     .help = "for people or for programs"},
}});

constexpr std::array<CommandRow, 18> kCommands = {{
    {.name = "run",
     .synopsis = "[OPTIONS] [--] PROG [ARGS...]",
     .summary = "Run the program PROG, unmodified, in the sandbox",
     .details =
         R"(PROG is searched in PATH when it has no slash. Everything after PROG belongs to the
program, options included; '--' may stand before PROG.

What a program may do: without options it reads and executes the directories of the
system and its own, writes to a /tmp of its own, and has no network and a clean
environment; the current directory has to be named (--ro . or --rw .). 'dunebox policy
explain' says what options come to. --allow=all is every right of the caller.

Several PATHs, WHEREs and so on are several options. --policy and --args may be
repeated; options come on top of files. In --call, ACTION is allow, deny, deny=ERRNO or
kill. A name in --net is looked up once, before PROG starts.

--jit-dump takes a hexadecimal guest address, or FILE+0xOFFSET in a mapped file, as
--jit-perf-map names places. A process that a signal ends, other than for a fault of
its own, prints no --stats and no --jit-dump. What --jit-record writes is for the
checker of emitted code, dunebox_check_code; what --jit-perf-dump writes is for perf
('perf record -k mono', then 'perf inject --jit'). DIR has to exist. Engine kvm refuses
the --jit options.

--gdb says where it waits, and begins with the program when gdb has connected ('target
remote'). Whoever can connect can do what you can. Children are not debugged; docs/debugging.md
has the rest.

--mem counts what RLIMIT_DATA counts, and shared memory without a file: writable memory,
filled or not, of each process for itself, the stack excepted. The program gets ENOMEM
beyond it. The runtime's own memory does not count, nor do files in memory (memfd,
tmpfs). With --pids it gets EAGAIN, with --nofile EMFILE, with --fsize SIGXFSZ, and it
cannot raise any of them, not even as root. Sizes take K, M, G. --cpu-time is looked at
ten times a second. PROG is searched with the caller's PATH, after --chdir.

--metrics-file is written in one piece, under a name of its own first; not together with
--stats.

--json-status-fd: {"event":"started","pid":...,"engine":...,"isolation":...}, then
{"event":"ended","exit_status":...,"signal":...,"reason":...,"limit":...,"refused":[...]}.
The program does not have descriptor N.

Exit status: that of the program; 128+N when signal N ended it; 124 when --time,
--cpu-time or --output did; 125 when Dunebox itself failed; 126 when PROG cannot be
executed; 127 when it was not found.
)",
     .options = kRunOptions,
     .operands = Operands::kProgram},
    {.name = "stat",
     .synopsis = "[OPTIONS] [--] PROG [ARGS...]",
     .summary = "Run PROG, and say at the end what it and its children did and cost",
     .details =
         R"(Takes the options of 'dunebox run'. The report goes to standard error, or to --stats-file.
It adds up what --stats=json says of each process: of those that a signal ended, other
than for a fault of their own, nothing is known. While calls are counted no engine
answers one by itself, so that each is seen.

Exit status: that of 'dunebox run'.
)",
     .options = kStatOptions,
     .operands = Operands::kProgram},
    {.name = "prepare",
     .synopsis = "[OPTIONS] [--] [PROG [ARGS...]]",
     .summary = "Run PROG, and keep the translations of its code for later runs",
     .details =
         R"(Takes the options of 'dunebox run', and runs PROG under engine jit. What has been translated is put
with what is in DIR (--jit-prepared) already, for the isolation of this run and for those that DIR has
files for. Programs that begin with the same code then start faster, whatever they are. Without PROG
what is there is made anew, as another version of Dunebox or another processor needs.

Only what the code was is taken from the run; it is translated by the command itself, so that no
program can bring in anything of its own. Whoever can write to DIR can execute code outside of every
sandbox: it has to belong to root or the caller, and the system's to root. DIR is made if it is not there.

Exit status: that of 'dunebox run', or 125 when nothing could be kept; without PROG 0.
)",
     .options = kRunOptions,
     .operands = Operands::kProgram},
    {.name = "policy explain",
     .synopsis = "[OPTIONS] [--] [PROG [ARGS...]]",
     .summary = "Say in plain words what a program may do, and which option or line says so",
     .details =
         R"(Takes the options of 'dunebox run', and runs nothing. With PROG its own files are told, too.
With --format=oci-seccomp the output is a profile for an engine of containers, or for --policy: the
seccomp section of an OCI runtime configuration. It has nothing about files, network and limits, nor
what Dunebox refuses in any case.
)",
     .options = kExplainOptions,
     .operands = Operands::kProgram},
    {.name = "policy check",
     .synopsis = "FILE...",
     .summary = "Look for mistakes in policy files, together and in this order",
     .details =
         R"(Names what cannot be understood or carried out, and rules without effect, wider than they
look or dangerous.

Exit status: 0 when there is nothing to say, 1 when there is, 125 when a file cannot be read.
)",
     .options = kCheckOptions,
     .operands = Operands::kFiles},
    {.name = "policy learn",
     .synopsis = "[OPTIONS] [--] [PROG [ARGS...]]",
     .summary = "Run PROG with everything allowed, and propose a policy for what it did",
     .details =
         R"(Runs with the rights of the caller: nothing is denied. Proposes rules for what the default
policy and --policy would have denied, each with a comment about who needed it. Read them before
you use them. Without PROG the proposal is made from LOG alone.

Exit status: that of the program, 125 when no policy could be proposed.
)",
     .options = kLearnOptions,
     .operands = Operands::kProgram},
    {.name = "explain",
     .synopsis = "[ID]",
     .summary = "Say what a message means, and what to do about it",
     .details =
         R"(Messages on standard error end with their id: 'dunebox: ls: not found in PATH [E0301]'. Without
ID all are listed. An id keeps its meaning in later versions; messages with one cause share it.

Exit status: 0, or 125 when no message has this id.
)",
     .options = kExplainMessageOptions,
     .operands = Operands::kMessage},
    {.name = "doctor",
     .synopsis = "[OPTIONS]",
     .summary = "Report what this machine offers and what to do about the rest",
     .details =
         R"(Exit status: 0 when some engine can run programs here, 1 when none can.
)",
     .options = kDoctorOptions},
    {.name = "bench",
     .synopsis = "[OPTIONS] [--] [PROG [ARGS...]]",
     .summary = "Measure what the sandbox costs on this machine",
     .details =
         R"(Without PROG single operations are measured, such as a system call, a page fault and a fork,
and the start of a program; with PROG its time, with all rights and its output thrown away. Native
runs and each engine take turns: compare the ratios, not the times of two reports.

Exit status: 0, or 125 when something could not be run.
)",
     .options = kBenchOptions,
     .operands = Operands::kProgram},
    {.name = "completion",
     .synopsis = "bash|zsh|fish",
     .summary = "Print a script that makes the shell complete dunebox's commands and options",
     .details =
         R"(An installation has them where the shells look for them. For this shell alone:

  source <(dunebox completion bash)
  source <(dunebox completion zsh)
  dunebox completion fish | source
)",
     .options = kCompletionOptions,
     .operands = Operands::kShell},
    {.name = "oci create",
     .synopsis = "[OPTIONS] ID",
     .summary = "Make a container from a bundle, for a container engine; its program waits for start",
     .details =
         R"(The commands of an OCI runtime, for podman, containerd and others. The program is executed by
Dunebox's engine, within the namespaces, mounts, limits and system calls of config.json; the
annotation dunebox.engine names the engine. Invoked as dunebox-oci, Dunebox takes these commands
without the word oci, as engines want it. docs/oci.md says what of config.json does what.

Exit status: 0, or 125 when it failed.
)",
     .options = kOciCreateOptions,
     .operands = Operands::kContainer},
    {.name = "oci start",
     .synopsis = "[OPTIONS] ID",
     .summary = "Let the program of a created container run",
     .details = R"(Exit status: 0, or 125 when it failed.
)",
     .options = kOciOptions,
     .operands = Operands::kContainer},
    {.name = "oci state",
     .synopsis = "[OPTIONS] ID",
     .summary = "Print the state of a container, as JSON",
     .details = R"(Exit status: 0, or 125 when it failed.
)",
     .options = kOciOptions,
     .operands = Operands::kContainer},
    {.name = "oci kill",
     .synopsis = "[OPTIONS] ID [SIGNAL]",
     .summary = "Send a signal to a container's program",
     .details = R"(SIGNAL is a name or a number, and SIGTERM if it is not there.

Exit status: 0, or 125 when it failed.
)",
     .options = kOciKillOptions,
     .operands = Operands::kContainer},
    {.name = "oci delete",
     .synopsis = "[OPTIONS] ID",
     .summary = "Remove what is left of a stopped container",
     .details = R"(Exit status: 0, or 125 when it failed.
)",
     .options = kOciDeleteOptions,
     .operands = Operands::kContainer},
    {.name = "oci run",
     .synopsis = "[OPTIONS] ID",
     .summary = "Create a container, start it, wait for its end and delete it",
     .details = R"(Exit status: that of the program, 128+N when signal N ended it, 125 when Dunebox failed.
)",
     .options = kOciCreateOptions,
     .operands = Operands::kContainer},
    {.name = "oci list",
     .synopsis = "[OPTIONS]",
     .summary = "List the containers below --root",
     .details = R"(Exit status: 0, or 125 when it failed.
)",
     .options = kOciListOptions},
    {.name = "oci features",
     .synopsis = "[OPTIONS]",
     .summary = "Print what of the OCI runtime specification is known, as JSON",
     .details = R"(Exit status: 0, or 125 when it failed.
)",
     .options = kOciOptions},
}};

}  // namespace

std::span<const CommandRow> Commands() { return kCommands; }

const CommandRow* FindCommand(std::string_view name) {
  const auto* row = std::ranges::find(kCommands, name, &CommandRow::name);
  return row == kCommands.end() ? nullptr : row;
}

bool IsGroupOfCommands(std::string_view word) {
  return std::ranges::any_of(kCommands, [&](const CommandRow& row) {
    return row.name.starts_with(word) && row.name.substr(word.size()).starts_with(' ');
  });
}

const OptionRow* FindOption(const CommandRow& command, std::string_view name) {
  if (name == "-h") name = "--help";
  for (const OptionRow& option : command.options) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

}  // namespace dunebox::cli
