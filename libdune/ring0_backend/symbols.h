// What the assembler files and the C++ of this folder call each other.
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_SYMBOLS_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_SYMBOLS_H_

#include <signal.h>

#include <cstdint>

#include "dune/trap.h"
#include "libdune/ring0_backend/vm.h"

#define DUNE_HIDDEN __attribute__((visibility("hidden")))

extern "C" {
// ring0_entry.S: labels in the stubs, at the addresses they are linked at.
extern const std::byte dune_ring0_text[] DUNE_HIDDEN;
extern const std::byte dune_ring0_text_end[] DUNE_HIDDEN;
extern const std::byte dune_ring0_vectors[] DUNE_HIDDEN;
extern const std::byte dune_ring0_syscall[] DUNE_HIDDEN;
extern const std::byte dune_ring0_deliver[] DUNE_HIDDEN;
extern const std::byte dune_ring0_enter_user[] DUNE_HIDDEN;
extern const std::byte dune_ring0_from_user[] DUNE_HIDDEN;
extern const std::byte dune_ring0_test[] DUNE_HIDDEN;
extern const std::byte dune_ring0_restore[] DUNE_HIDDEN;
extern const std::byte dune_ring0_iret[] DUNE_HIDDEN;
extern const std::byte dune_begin_ring0[] DUNE_HIDDEN;
extern const std::byte dune_hypercall_return[] DUNE_HIDDEN;
std::uint64_t dune_hypercall(std::uint64_t operation, std::uint64_t first,
                             std::uint64_t second) DUNE_HIDDEN;

void dune_run_user(std::uint64_t frame, std::uint64_t table_word, void* extended, std::uint64_t features,
                   std::uint64_t alias, std::uint64_t enter) DUNE_HIDDEN;

// host_entry.S.
extern const std::byte dune_host_call_window[] DUNE_HIDDEN;
extern const std::byte dune_host_call_end[] DUNE_HIDDEN;
extern const std::byte dune_host_call_stopped[] DUNE_HIDDEN;
std::int64_t dune_host_call(dune::ring0::Thread* thread, const std::uint64_t* call) DUNE_HIDDEN;
int dune_enter(dune::ring0::Thread* thread, void* loop_stack, kvm_regs* registers) DUNE_HIDDEN;
[[noreturn]] void dune_leave(const kvm_regs* registers, std::atomic<std::uint32_t>* id) DUNE_HIDDEN;
std::int64_t dune_clone(void* arguments, std::uint64_t size,
                        dune::ring0::Thread* child) DUNE_HIDDEN;
[[noreturn]] void dune_exit_thread(std::atomic<std::uint32_t>* id, int status) DUNE_HIDDEN;
void dune_restorer() DUNE_HIDDEN;

// C++, from the assembler's side.
[[noreturn]] void dune_begin_loop(dune::ring0::Thread* thread) DUNE_HIDDEN;
[[noreturn]] void dune_begin_child(dune::ring0::Thread* thread) DUNE_HIDDEN;
void dune_host_signal(int signal, siginfo_t* info, void* context) DUNE_HIDDEN;
int dune_dispatch_trap(dune::TrapFrame* frame, std::uint64_t address, unsigned asked) DUNE_HIDDEN;
}

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_SYMBOLS_H_
