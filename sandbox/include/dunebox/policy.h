// What a sandbox for a plugin may do and how it is kept. Everything not named here is denied: a plugin
// computes in its own memory, reads the system's libraries, and no more.
//
//   Policy policy{.deadline = absl::Milliseconds(100), .memory_limit = 64 << 20};
//   policy.readable.push_back("/usr/share/fonts");
#ifndef DUNEBOX_SANDBOX_POLICY_H_
#define DUNEBOX_SANDBOX_POLICY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace dunebox {

enum class Engine : std::uint8_t {
  kAuto,  // jit; kvm where Policy::least_isolation asks for more
  kJit,   // the plugin's code is translated, in the calling thread
  // It runs in a virtual machine of its own, of which a process has 64 at most (each worker of two walls is a
  // process). A call is an exit of the
  // machine. kUnavailable where there is no /dev/kvm that this process may use.
  kKvm,
};

// What keeps the plugin from the host's memory. A sandbox that cannot have what is demanded is not made.
enum class Demand : std::uint8_t {
  kOneWall,  // the engine's: under jit, every operand stays in the window (isolation `seg`); under kvm the
             // virtual machine has no other memory
  // The host's kernel confines it as well: all of it runs in a worker process, behind seccomp and Landlock. A
  // call costs a switch to that process. Memory that is shared with the host is at most 1 GiB.
  kTwoWalls,
};

// What has to keep the plugin from the host's memory at the least, from the weakest to the strongest. With
// Engine::kAuto an engine is taken that has it; a sandbox is not made with less: kInvalidArgument where the engine that
// is asked for never has it, kUnavailable where this machine does not.
enum class LeastIsolation : std::uint8_t {
  kTranslation,     // its code is made to stay in the window: engine jit
  kVirtualMachine,  // it has page tables of its own, in a virtual machine, be it emulated: engine kvm
  kHardware,        // the same, by the processor's virtualization (VT-x, AMD-V)
};

// Who opens the files that the plugin may read.
enum class FileAccess : std::uint8_t {
  kDirect,  // this process, with its rights, behind the sandbox's checks. With two walls: the confined worker
  kBroker,  // a confined process that can reach nothing but those files, for all sandboxes with the same ones
};

enum class OnDenied : std::uint8_t {
  kError,       // the system call fails with EPERM, and the plugin goes on
  kEndSandbox,  // Failure::Kind::kDenied
};

// Handlers of signals that the host sets after its first sandbox with one wall, and masks and signal stacks: they have to
// come by this library's functions, which are in front of the C library's unless what has this library in it was
// opened by dlopen. Then a sandbox is kFailedPrecondition, but for who promises that there will be none. (A host that breaks
// that promise can be ended, or worse, by a plugin. An object with this library in it is never to be closed.)
enum class LateHandlers : std::uint8_t {
  kGuarded,
  kNone,  // the promise
};

struct Policy {
  Engine engine = Engine::kAuto;
  Demand demand = Demand::kOneWall;
  LeastIsolation least_isolation = LeastIsolation::kTranslation;

  // Of each call, callbacks into the host included (which are not interrupted). Kept to within some
  // milliseconds.
  absl::Duration deadline = absl::InfiniteDuration();
  // Of starting, of loading a library with its constructors, and of looking a name up.
  absl::Duration load_deadline = absl::Seconds(30);
  // Of each call: what the host thread may use of a processor in it, callbacks included. For hosts whose load
  // must not decide; a call costs a look at the thread's clock more. What threads that the plugin has started use
  // is not in it. Failure::Kind::kCpuBudget.
  absl::Duration cpu_budget = absl::InfiniteDuration();
  // Of each call: how many instructions the calling thread may run of the plugin's, the same number on every machine
  // and however busy it is. Under engine jit they are counted before they run, up to 64 at once: as far as the next jump that
  // is taken at most, so a call has never run more, and may end some sooner; one with REP counts once. Under kvm each is an
  // exception of the guest's, which takes long, none is counted before it runs, and each iteration of REP counts. What threads
  // that the plugin has started run is not in it, nor is what Load and looking names up run. 0: no limit, and nothing is
  // counted, which takes time. Failure::Kind::kInstructionBudget.
  std::uint64_t instruction_budget = 0;
  // What each thread that the plugin has started may use of a processor while the host makes no call; the next
  // call, and a call under way, begin it anew. More of it ends the sandbox: Failure::Kind::kCpuBudget.
  absl::Duration idle_cpu_budget = absl::Seconds(1);
  // What the plugin may allocate, its libraries' data and its stacks' room included; it gets ENOMEM. With one wall
  // Sandbox::Allocate is counted, too; with two that has as much again for itself.
  std::uint64_t memory_limit = std::uint64_t{512} << 20;
  // Bytes of the first guest thread's stack.
  std::uint64_t stack = std::uint64_t{1} << 20;
  // How many host threads can be in the sandbox at once; others wait. Guest threads are made for them
  // when the plugin's C library, or the static program, starts.
  unsigned host_threads = 1;
  // Threads that the plugin may start by itself.
  unsigned plugin_threads = 16;
  // Numbers that the plugin has for open files, stdin, stdout and stderr included; 3 to 256. Each file that it has opened
  // is a descriptor of the host process's, too (of the worker's with two walls).
  unsigned open_files = 64;
  // How deep calls and callbacks may nest; 1,024 at most, since the host's stack grows with each.
  unsigned nesting = 32;

  // Files and directory trees that the plugin may read, beside libraries. Absolute, without links.
  std::vector<std::string> readable;
  // Where libraries are. What lies below may be read and mapped to be executed.
  std::vector<std::string> libraries = {"/usr/lib", "/lib", "/lib64", "/usr/lib64",
                                        "/etc/ld.so.cache"};
  FileAccess file_access = FileAccess::kBroker;
  std::vector<std::string> environment;  // "NAME=value", for the plugin's C library

  OnDenied on_denied = OnDenied::kError;
  // How much of what the plugin writes to its stdout and stderr is kept (Sandbox::TakeOutput). What is
  // more is thrown away.
  std::uint64_t captured_output = std::uint64_t{64} << 10;
  // Descriptors of the host's to which it goes besides, errors included; -1: none. They are open when the sandbox
  // is created, cloned and reset; what happens to those numbers between that is the host's business.
  int stdout_to = -1;
  int stderr_to = -1;

  LateHandlers late_handlers = LateHandlers::kGuarded;

  // Address space for translated code.
  std::uint64_t code_cache = std::uint64_t{32} << 20;
  // Engine jit: the directory with translations that `dunebox prepare --jit-isolation=seg` has made, or "none". What lies
  // there is code that runs in this process as it is: only root and the caller may be able to write to it. The default
  // is used if it is there and fits; another that cannot be used is kFailedPrecondition. With two walls, and where
  // instructions are counted, everything is translated anew.
  std::string prepared_translations = "/var/cache/dunebox";
};

}  // namespace dunebox

#endif  // DUNEBOX_SANDBOX_POLICY_H_
