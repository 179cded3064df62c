// The process's virtual machine: what the loops of its threads share, and what each has. One a
// process, in memory that needs no constructor; a forked child finds its copy and makes a virtual
// machine of its own for it.
//
// Everything declared here that a loop calls is free of libc, locks of the program's, allocation
// and thread-local storage. The descriptors are closed by execve.
//
//   Thread* thread = FindThread(id);
//   if (thread != nullptr) thread->run->immediate_exit = 1;
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_VM_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_VM_H_

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "hostcalls/abi/signal_frame.h"
#include "libdune/kvm/kvm_structs.h"
#include "libdune/ring0_backend/layout.h"
#include "libdune/ring0_backend/lock.h"
#include "libdune/ring0_backend/memory_maps.h"

namespace dune::ring0 {

// struct sigaction as the kernel has it. [linux]
struct KernelAction {
  std::uint64_t handler = 0;  // or SIG_DFL, SIG_IGN
  std::uint64_t flags = 0;
  std::uint64_t restorer = 0;
  std::uint64_t mask = 0;

  bool is_function() const { return handler > 1; }
};
static_assert(sizeof(KernelAction) == 32);

inline constexpr unsigned kSignals = 64;
struct Actions {
  KernelAction of[kSignals + 1];  // by signal
};

// A thread's place: block, stacks and vCPU. Used again by later threads.
struct Thread {
  std::uint32_t signalled;  // `info` and the two masks are a signal that was taken from the kernel
  std::atomic<std::uint32_t> id;  // of the host's thread in it; kFreePlace, kTakenPlace, kDeadPlace
  unsigned index;                 // of the vCPU
  int vcpu;                       // kNoVcpu, kSpentVcpu
  bool in_vfork_child;            // its descriptors are of a table that nobody else has
  kvm_run* run;
  VcpuState* state;
  Actions* actions;
  dunebox::abi::AlternateStack alternate_stack;  // the program's
  siginfo_t info;
  std::uint64_t mask_before;   // the program's, which the frame gives back
  std::uint64_t mask_at_signal;  // where the signal came: the same, but for waiting calls with a mask of their own
  bool waits_with_mask;        // in such a call,
  std::uint64_t mask_of_call;  // with this one
  std::uint64_t first_mask;    // what the loop begins with
  unsigned fruitless_repairs;  // EFAULTs of KVM_RUN in a row
  int timer;                   // the kernel's, of the host's thread `timer_of`
  std::uint32_t timer_of;      // 0: there is none
  kvm_regs first_registers;
  Actions own_actions;  // of a vfork child, which shares memory but no actions
  kvm_sregs system_registers;
  alignas(64) kvm_xsave extended;

  std::byte* block() { return reinterpret_cast<std::byte*>(this) - kThreadAt; }
};
static_assert(offsetof(Thread, signalled) == DUNE_THREAD_SIGNALLED);
static_assert(offsetof(Thread, id) == DUNE_THREAD_ID);
static_assert(offsetof(Thread, run) == DUNE_THREAD_RUN);
static_assert(offsetof(kvm_run, s) == DUNE_RUN_REGISTERS);
static_assert(kThreadAt + sizeof(Thread) <= kHandlerStackAt);

inline constexpr int kNoVcpu = -1;     // none yet
inline constexpr int kSpentVcpu = -2;  // its number is used up in this machine, which has none
inline constexpr std::uint32_t kFreePlace = 0;
inline constexpr std::uint32_t kTakenPlace = 0xffff'fffe;
inline constexpr std::uint32_t kDeadPlace = 0xffff'ffff;

struct Vm {
  LoopLock lock;  // of the mirror: VMAs and entries change together
  int device = -1;
  int fd = -1;
  MemoryMaps maps;
  std::size_t run_bytes = 0;
  CpuidTable cpuid;
  std::uint64_t xcr0 = 0;
  bool fsgsbase = false;
  bool pcid = false;  // tables have tags (table_tags.h)
  std::size_t state_bytes = 0;  // of the XSAVE area

  // Granules: guest-physical memory by number, and a hash of them by address.
  std::atomic<unsigned> granules{0};
  unsigned most_granules = 0;
  std::uint64_t granule_address[kMostGranules] = {};
  struct Slot {
    std::atomic<std::uint64_t> key{0};  // address of the granule >> kGranuleShift, + 1
    std::uint64_t physical = 0;
  };
  static constexpr unsigned kHashSlots = 1024;
  Slot hash[kHashSlots];

  // Frames of page tables.
  std::uint64_t pool = 0;
  std::uint64_t pool_bytes = 0;
  std::atomic<std::uint64_t> pool_used{0};    // bytes of it that have ever been
  std::atomic<std::uint64_t> frames_used{0};  // that are taken now
  std::atomic<std::uint64_t> free_frames{0};  // a stack: index + 1 in the low half, a count above

  std::atomic<std::uint32_t>* references = nullptr;  // by frame: leaves of PageTables that own it
  std::atomic<std::uint64_t> tracking_lost{0};       // tracked pages that were unmapped
  std::uint64_t root = 0;                            // guest-physical, of Current()
  std::atomic<std::uint64_t> retired_tables{0};      // that are gone
  static constexpr unsigned kMostClones = 16;
  std::uint64_t clones[kMostClones] = {};  // of Current(), their roots, 0: a free place; with the lock (clones.h)
  std::byte* shared_page = nullptr;
  SharedState* shared = nullptr;
  std::byte* flush_page = nullptr;  // see FlushAll

  std::atomic<unsigned> places{0};
  Thread* threads[kMostThreads] = {};
  std::atomic<unsigned> entered{0};  // threads in ring 0
  bool is_copy = false;              // the process is a child of a thread that was out; it has no machine yet
  Actions actions;
};
extern Vm vm;

// The message on stderr, then exit_group(125): nothing here can be repaired.
[[noreturn]] void Fatal(const char* what, long value = 0);

// ---- places ----
Thread* FindThread(std::uint32_t id);
// A place with a block and a vCPU, its id kTakenPlace. Null: none, with *error = -errno. In a vfork
// child every place is new, and the parent's never sees it again.
Thread* TakePlace(bool in_vfork_child, long* error);
void ReleasePlace(Thread* thread, bool in_vfork_child);

// ---- vCPUs ----
// Opens `thread`'s vCPU in the machine of this process. -errno on failure, after which it may be tried again with kNoVcpu.
long OpenVcpu(Thread* thread);
// Everything but general registers: `like` null, or a thread whose system registers and extended
// state are taken over.
void SetSegments(kvm_sregs& registers, unsigned index);
long SetUpVcpu(Thread* thread, const kvm_sregs* like, std::uint64_t fs_base, std::uint64_t gs_base);
// The machine itself, with the memory of all granules: for Enter, and for a forked child.
long OpenMachine();
// In a forked child: its memory is a copy, its machine is the parent's and of no use to it. All places but `self` are
// free from here on; null: of nobody.
long RenewMachine(const Thread* self);

// ---- guest-physical memory ----
// 0: no granule is there.
std::uint64_t PhysicalOf(std::uint64_t address);
// Makes the granule if it is not there. False: no room. With the lock.
bool AddGranule(std::uint64_t address);
std::uint64_t AddressOf(std::uint64_t physical);
// A zeroed page of the pool; 0: none left. The last quarter is for tables of Current() alone, without which the process could not
// go on: whatever ring 3 and clones use up, it is there.
enum class FrameFor : std::uint8_t { kCurrent, kOthers };
std::uint64_t TakeFrame(FrameFor whom);
void GiveFrame(std::uint64_t address);
// Of a frame that leaves own: one leaf more, or less; without any it is given back. Of a table that page tables share
// (bits::kShared): one entry that leads there.
void KeepFrame(std::uint64_t physical);
// False: no leaf owns it any more.
bool TryKeepFrame(std::uint64_t physical);
// The same for anything that counts references to a frame: whether there is none now.
bool DropReference(std::uint64_t physical);
void DropFrame(std::uint64_t physical);
std::uint32_t ReferencesOf(std::uint64_t physical);

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_VM_H_
