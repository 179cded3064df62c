// One thread's state as translated code sees it: GS base points at it while the thread lives, so
// its fields are reached without a register. (Under isolation `seg` translated code has the window
// in GS and this in FS; everywhere else it is as always.) Guest registers are in the CPU while
// translated code runs and here while the runtime runs.
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_CONTEXT_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_CONTEXT_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "jit-fallback/dispatch/context_offsets.h"

namespace dunebox::jit {

inline constexpr std::size_t kContextPage = 0x1000;

struct Context {
  // ---- what emitted code writes. Whatever is read from here is the guest's word: threads of its
  // own may write here, too.

  // Where emitted code keeps a guest register whose place it needs for a while.
  std::uint64_t slot_rcx, slot_r11;
  std::array<std::uint64_t, 2> slot_scratch;
  std::uint64_t emitted_rip;   // where it leaves; becomes `rip`
  std::uint32_t emitted_link;  // becomes `link`
  std::uint64_t gs_base;
  // Guest registers on the way in or out, while protection key 0 is shut: RAX RCX RDX RBX.
  std::array<std::uint64_t, 4> passed;
  std::int64_t instructions_left;
  // How often blocks that check themselves may be entered before it is asked whether they still have to.
  std::int64_t checks_left;
  // Under isolation `seg` emitted code has no way to write the rest of the page. This is the
  // object's own address: what a signal handler finds in FS is a Context if and only if it says so
  // itself; the host's thread block has to be readable at the same offset.
  std::array<std::uint64_t, 25> unused;
  std::uint64_t self;

  // ---- what only the runtime sees

  alignas(kContextPage) std::array<std::uint64_t, 16> gpr;  // by number: RAX RCX RDX RBX RSP ...
  std::uint64_t rip, rflags, fs_base;

  std::uint64_t host_rsp, host_fs;
  std::byte* extended_area;  // 64-byte aligned, standard format
  std::uint64_t extended_mask;  // the components that the guest has
  // Set by a signal handler of this thread: leave translated code, or do not enter it.
  std::uint32_t kick;
  std::uint32_t link;  // of JIT_EXIT_LINK: which exit was taken
  std::uint32_t host_mxcsr;
  std::uint32_t has_xsaveopt;
  std::uint64_t cache_rip;               // of JIT_EXIT_SIGNAL: the interrupted host address
  std::uint64_t cache_start, cache_end;  // translated code lies here, exit stubs behind it
  // Of JIT_EXIT_SIGNAL when the signal is an exception of the guest's: what the kernel said of it.
  std::uint64_t fault_vector, fault_error, fault_address;
  std::uint32_t uses_keys;     // isolation pku
  std::uint32_t fault_signal;  // 0: it was another signal
  std::int32_t fault_code;     // si_code
  // What the guest believes to be in ES, CS, SS, DS, FS and GS.
  std::array<std::uint16_t, 6> selectors;
  // Constants of emitted code.
  std::uint64_t confining_mask;
  std::array<std::uint64_t, 3> bit_places;
  std::uint64_t window_base, minus_window_base;
  std::uint32_t is_windowed;  // isolation seg
  // The guest was left by a gate: of its vector registers only the first eight are in the area.
  std::uint32_t is_bare;
  std::uint32_t gate;             // what gates have above JIT_GATE_BITS; 0: there are none
  std::uint32_t must_be_initial;  // components that a bare guest has to find so and nothing clears quickly
  std::uint64_t host_gs;          // in a window: what GS base is to be outside; 0: it need not be changed
  std::uint64_t own_components;   // of the extended mask, those that are saved and loaded: TakeX87

  // What of the page is left; `extended_area` is here.
  alignas(64) std::array<std::byte, kContextPage - 0x180> extended;
};

#define JIT_ASSERT_OFFSET(field, offset) static_assert(offsetof(Context, field) == (offset))
JIT_ASSERT_OFFSET(slot_rcx, JIT_SLOT_RCX);
JIT_ASSERT_OFFSET(slot_r11, JIT_SLOT_R11);
JIT_ASSERT_OFFSET(slot_scratch, JIT_SLOT_SCRATCH0);
JIT_ASSERT_OFFSET(emitted_rip, JIT_RIP);
JIT_ASSERT_OFFSET(emitted_link, JIT_LINK);
JIT_ASSERT_OFFSET(gs_base, JIT_GS_BASE);
JIT_ASSERT_OFFSET(passed, JIT_PASSED_RAX);
JIT_ASSERT_OFFSET(instructions_left, JIT_INSTRUCTIONS_LEFT);
static_assert(JIT_INSTRUCTIONS_SIGN == JIT_INSTRUCTIONS_LEFT + sizeof(std::int64_t) - 1);
JIT_ASSERT_OFFSET(checks_left, JIT_CHECKS_LEFT);
static_assert(JIT_CHECKS_SIGN == JIT_CHECKS_LEFT + sizeof(std::int64_t) - 1);
JIT_ASSERT_OFFSET(gpr, JIT_GPR);
JIT_ASSERT_OFFSET(rip, JIT_LEFT_RIP);
JIT_ASSERT_OFFSET(rflags, JIT_RFLAGS);
JIT_ASSERT_OFFSET(fs_base, JIT_FS_BASE);
JIT_ASSERT_OFFSET(host_rsp, JIT_HOST_RSP);
JIT_ASSERT_OFFSET(host_fs, JIT_HOST_FS);
JIT_ASSERT_OFFSET(extended_area, JIT_EXTENDED_AREA);
JIT_ASSERT_OFFSET(kick, JIT_KICK);
JIT_ASSERT_OFFSET(link, JIT_LEFT_LINK);
JIT_ASSERT_OFFSET(host_mxcsr, JIT_HOST_MXCSR);
JIT_ASSERT_OFFSET(has_xsaveopt, JIT_HAS_XSAVEOPT);
JIT_ASSERT_OFFSET(cache_rip, JIT_CACHE_RIP);
JIT_ASSERT_OFFSET(cache_start, JIT_CACHE_START);
JIT_ASSERT_OFFSET(cache_end, JIT_CACHE_END);
JIT_ASSERT_OFFSET(fault_vector, JIT_FAULT_VECTOR);
JIT_ASSERT_OFFSET(confining_mask, JIT_CONFINING_MASK);
JIT_ASSERT_OFFSET(bit_places, JIT_BIT_PLACE_16);
JIT_ASSERT_OFFSET(uses_keys, JIT_USES_KEYS);
JIT_ASSERT_OFFSET(self, JIT_SELF);
JIT_ASSERT_OFFSET(window_base, JIT_WINDOW_BASE);
JIT_ASSERT_OFFSET(minus_window_base, JIT_MINUS_WINDOW_BASE);
JIT_ASSERT_OFFSET(is_windowed, JIT_IS_WINDOWED);
JIT_ASSERT_OFFSET(is_bare, JIT_IS_BARE);
JIT_ASSERT_OFFSET(gate, JIT_GATE);
JIT_ASSERT_OFFSET(must_be_initial, JIT_MUST_BE_INITIAL);
JIT_ASSERT_OFFSET(host_gs, JIT_HOST_GS);
JIT_ASSERT_OFFSET(own_components, JIT_OWN_COMPONENTS);
#undef JIT_ASSERT_OFFSET
static_assert(sizeof(Context) == 2 * kContextPage);

// Why translated code was left.
enum class ExitReason : std::uint32_t {
  kLink = JIT_EXIT_LINK,           // a direct exit without a target yet: `link`
  kLookup = JIT_EXIT_LOOKUP,       // an indirect target that is not in the table: `rip`
  kSystemCall = JIT_EXIT_SYSCALL,  // `rip` is behind it
  kEmulate = JIT_EXIT_EMULATE,     // the instruction at `rip`
  kTrap = JIT_EXIT_TRAP,           // the same
  kStale = JIT_EXIT_STALE,         // the code at `rip` has changed since it was translated, or no checks are left
  kSignal = JIT_EXIT_SIGNAL,  // a host signal came at `cache_rip`; registers are as they were there
  kKicked = JIT_EXIT_KICKED,  // not entered at all, or between blocks: registers are exact
  kBudget = JIT_EXIT_BUDGET,  // at `rip`, a block's first instruction: its instructions are more than are left
};

inline constexpr std::size_t kExitReasons = JIT_EXIT_BUDGET + 1;  // for arrays by reason

// A check takes some ten nanoseconds, so that asking takes a hundredth of what so many of them do.
inline constexpr std::int64_t kChecksBeforeAsking = 8192;

// What is left where nobody has set a limit.
inline constexpr std::int64_t kNoInstructionLimit = std::int64_t{1} << 55;

// Where emitted code goes to leave, in the order of JIT_TO_*, and where it is entered.
struct ExitPointers {
  std::uint64_t link, lookup, system_call, emulate, trap, stale, exit_lookup, budget;
  std::uint64_t resume;  // host address at which dunebox_jit_enter goes on
};
static_assert(offsetof(ExitPointers, resume) == JIT_TO_RESUME - JIT_POINTERS);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_CONTEXT_H_
