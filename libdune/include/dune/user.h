// Ring 3 for code that the program does not trust: RunUser runs it in a page table of its own until something
// happens, and says what. A monitor is a loop around it. Needs Capabilities::user_mode. Where there is no ring 0, a
// translator serves these calls if the program has asked for it (<dunebox/ring3.h>, which says what differs).
//
//   dune::UserContext context = image->context;
//   for (;;) {
//     absl::StatusOr<dune::Stop> stop = dune::RunUser(context, table, {.time = absl::Milliseconds(10)});
//     if (stop->reason == dune::StopReason::kSystemCall) context.rax = Answer(context);
//     else break;
//   }
#ifndef DUNE_USER_H_
#define DUNE_USER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "dune/page_table.h"

namespace dune {

// Ring 3's registers. Selectors are not among them: they are always those of flat 64-bit ring 3. Of RFLAGS only the
// status flags, DF, TF and AC are taken.
struct UserContext {
  std::uint64_t rax = 0, rbx = 0, rcx = 0, rdx = 0, rsi = 0, rdi = 0, rbp = 0, rsp = 0;
  std::uint64_t r8 = 0, r9 = 0, r10 = 0, r11 = 0, r12 = 0, r13 = 0, r14 = 0, r15 = 0;
  std::uint64_t rip = 0, rflags = 2;
  std::uint64_t fs_base = 0, gs_base = 0;
  // Vector and floating-point state, [intel/vol1 §13.4] standard form; kept over calls of RunUser.
  alignas(64) std::array<std::byte, 4096> extended{};
};

enum class StopReason : std::uint8_t {
  kSystemCall,  // SYSCALL; RIP is behind it, RAX the number, RAX is the result when it goes on. That it wants to end
                // is such a call, too (exit, exit_group): the caller runs it no more
  kFault,       // an exception: vector, error, address; RIP at the instruction. Memory that the process has given up or
                // made read-only since it was mapped: vector 14, address 0
  kTime,        // the time given is over
  kInterrupted, // a signal came to this thread; its handler has run
};

struct Stop {
  StopReason reason;
  std::uint8_t vector = 0;
  std::uint64_t error = 0;
  std::uintptr_t address = 0;  // of a page fault
};

struct RunOptions {
  // What passes on the clock, from the call on; none at all is kTime at once. It ends some microseconds to milliseconds
  // late. In ring 0 a timer of the kernel's does it by signal 33, which the C library keeps for itself:
  // kFailedPrecondition where the program has blocked it.
  absl::Duration time = absl::InfiniteDuration();
};

// Runs `context` in ring 3 of `table`, whose pages of Ring::kUser are all it can reach. One thread a context at a time;
// several threads may run in one table. Errors: kUnimplemented, kInvalidArgument (RIP or a base not canonical).
absl::StatusOr<Stop> RunUser(UserContext& context, PageTable& table, const RunOptions& options = {});

// A static ELF program (ET_EXEC or static-PIE, x86-64) in a new table, ready to run at its entry point with a stack
// that has `arguments` and `environment` as the ABI says. The file is not trusted: whatever it says stays inside `table`.
struct UserImage {
  PageTable table;
  UserContext context;
  std::uintptr_t heap = 0;  // first address after the image, where brk begins
};
absl::StatusOr<UserImage> LoadProgram(const std::string& path, std::span<const std::string> arguments,
                                      std::span<const std::string> environment);

// Copies between the program and ring 3's memory by `table`'s mappings, with the rights ring 3 has. kOutOfRange where
// it has none: nothing is copied then.
absl::Status CopyFromUser(PageTable& table, void* to, std::uintptr_t from, std::size_t size);
absl::Status CopyToUser(PageTable& table, std::uintptr_t to, const void* from, std::size_t size);

}  // namespace dune

#endif  // DUNE_USER_H_
