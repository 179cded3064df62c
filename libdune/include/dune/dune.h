// libdune: a trusted program owns privileged hardware. After Enter() the calling thread, and every thread it makes,
// runs in ring 0 of a virtual machine that shares the process's addresses: libc, malloc, threads, files and signals
// work as before, and page tables, traps and ring 3 are the program's. Where ring 0 is not to be had, the software
// backend serves the same calls from mprotect, signals and userfaultfd; what a backend cannot do is reported by
// Capabilities and refused (kUnimplemented), never imitated.
//
//   absl::Status entered = dune::Enter();
//   if (!entered.ok()) return Fail(entered);
//   if (dune::GetCapabilities().separate_tables) UseTablesOfItsOwn();
//
// Nothing here is a sandbox for the program itself: who is in ring 0 can do whatever the process can. [Belay et al.,
// "Dune: Safe User-level Access to Privileged CPU Features", OSDI 2012]
#ifndef DUNE_DUNE_H_
#define DUNE_DUNE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"

namespace dune {

// Who serves the calls.
enum class Backend : std::uint8_t {
  kNone,      // Enter was not called, or Leave was
  kRing0,     // a KVM guest's ring 0, on Intel VT-x or AMD SVM
  kSoftware,  // the host kernel: mprotect, signals, userfaultfd, PAGEMAP_SCAN
};

enum class Wanted : std::uint8_t {
  kBest,      // kRing0 where the machine has it, otherwise kSoftware
  kRing0,     // kRing0, or an error that says what is missing
  kSoftware,  // for comparison, and for programs that want the same behaviour everywhere
};

// How kSoftware finds out what was written to.
enum class DirtyMethod : std::uint8_t {
  kBest,    // kKernel where the kernel has it, otherwise kFaults
  kKernel,  // userfaultfd's asynchronous write protection and PAGEMAP_SCAN: Linux 6.7, or kUnavailable
  kFaults,  // mprotect and SIGSEGV
};

struct EnterOptions {
  Wanted backend = Wanted::kBest;
  // Memory that page tables and copies of copy-on-write pages are taken from, reserved at once and used as needed. The last quarter
  // is for tables of Current() alone: whatever ring 3, clones and other tables use up, the process can go on.
  // Range: 1 MiB to 1 TiB.
  std::size_t frame_pool = std::size_t{256} << 20;
  DirtyMethod dirty_method = DirtyMethod::kBest;  // of kSoftware; ring 0 asks the page tables
};

// Moves the calling thread; in a thread that is in already it does nothing. One backend a process: a thread that was
// not made by one in it has to call Enter by itself, with the same backend (kFailedPrecondition otherwise). Threads
// made from here on are in it from their start; a forked child is in it too, with a machine of its own.
// Errors: kUnavailable (no /dev/kvm, no virtualization hardware; the message says which), kPermissionDenied,
// kInvalidArgument, kResourceExhausted.
absl::Status Enter(const EnterOptions& options = {});

// The calling thread runs natively again. What the process's page tables were told stays for the other threads;
// kFailedPrecondition if this thread is not in, or has a PageTable other than Current() active.
absl::Status Leave();

// Of the calling thread.
Backend CurrentBackend();

// What the backend of this process can do. All false before the first Enter. Thread-safe.
struct Capabilities {
  bool privileged_instructions = false;  // MOV CR3, INVLPG, RDMSR, ... are the program's
  bool protect = false;                  // PageTable::Current().Protect
  bool dirty = false;                    // TestAndClearDirty
  // A system call may write to a clean page, as the program may, and is told of too. Without it such a call fails in
  // software with EFAULT until the program itself has written to the page; in ring 0 it writes, by the kernel's own
  // tables, and is not told: write to the pages it fills.
  bool dirty_system_calls = false;
  bool accessed = false;                 // TestAndClearAccessed
  bool separate_tables = false;          // PageTable::Create, Clone, Activate; see user_mode
  bool process_clones = false;           // PageTable::Current().Clone, and Read of what it made
  bool large_pages = false;              // 2 MiB leaves, in tables other than Current()
  bool page_fault_handler = false;       // SetPageFaultHandler
  std::uint32_t trap_vectors = 0;        // bit N: SetTrapHandler(N)
  // RunUser, and PageTable::Create(Contents::kEmpty) for it. In software it is an addition: <dunebox/ring3.h>.
  bool user_mode = false;
  bool pcid = false;                     // Activate keeps translations of other tables
};
const Capabilities& GetCapabilities();

}  // namespace dune

#endif  // DUNE_DUNE_H_
