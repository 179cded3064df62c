// A victim: ring 3 jumps to where libdune's stubs lie in the upper half, with a stack pointer that says where in the
// program's memory a stub would find its registers. The jump faults; stopped by a signal before it does, it is not to be taken
// for a stub, or what lies there in the program's memory becomes ring 3's registers. Run in the lab; the last line is "ring 0 works".
//
// No program can time a signal so, and the lab's processor looks for none there. What a vCPU reports that was stopped there is
// therefore put in its registers, on the way out of KVM_RUN: by a signal's handler that the kernel calls, and not libdune.
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <ctime>
#include <thread>

#include "dune/page_table.h"
#include "dune/user.h"
#include "libdune/ring0_backend/run_loop.h"
#include "libdune/ring0_backend/symbols.h"
#include "tests/libdune/ring0/expect.h"

asm(R"(
        .pushsection .text
        .balign 4096
jumping_code:
        jmp     jumping_code
        .balign 64
plain_jump:
        jmp     *%rdi
        .balign 4096
        .popsection
)");
extern "C" const char jumping_code[], plain_jump[];  // NOLINT(readability-identifier-naming)

namespace {

using dune::StopReason;

constexpr std::uintptr_t kCode = 0x400000;
constexpr std::uint64_t kSecret = 0x5ec2'e75e'c2e7'5ec2;
constexpr int kRounds = 20;
alignas(64) std::uint64_t secret[64];
// In the middle: at the IRETQ a stub has taken most of the frame already.
const auto kStackPointer = reinterpret_cast<std::uint64_t>(&secret[32]);

std::atomic<std::uint64_t> target{0};
std::atomic<int> jumps{0};
volatile sig_atomic_t alarms = 0;

std::uint64_t AliasOf(const std::byte* label) {
  return DUNE_ALIAS_BASE + static_cast<std::uint64_t>(label - dune_ring0_text);
}

// In the thread of the loop. If ring 3 was stopped in its code: then the jump was there.
void Jump(int, siginfo_t*, void* context) {
  dune::ring0::Thread* const thread = dune::ring0::FindThread(static_cast<std::uint32_t>(syscall(SYS_gettid)));
  if (thread == nullptr || thread->state->in_user == 0) return;
  kvm_regs& registers = dune::ring0::Registers(thread);
  if (registers.rip < kCode || registers.rip >= kCode + 4096) return;
  registers.rip = target;
  registers.rsp = kStackPointer;
  ++jumps;
  syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGALRM);
  // libdune's handler has noted that one.
  sigfillset(&static_cast<ucontext_t*>(context)->uc_sigmask);
}

// Natively: libdune knows nothing of the handler.
void SendJumps(const std::atomic<int>& state, pid_t main_thread) {
  while (state == 0) usleep(1000);
  struct sigaction action {};
  action.sa_sigaction = Jump;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER;
  Expect(sigaction(SIGUSR2, &action, nullptr) == 0, "sigaction");
  while (state == 1) {
    usleep(2000);
    syscall(SYS_tgkill, getpid(), main_thread, SIGUSR2);
  }
}

bool HasSecret(const dune::UserContext& context) {
  for (const std::uint64_t value : {context.rax, context.rbx, context.rcx, context.rdx, context.rsi, context.rdi, context.rbp,
                                    context.rsp, context.r8, context.r9, context.r10, context.r11, context.r12, context.r13,
                                    context.r14, context.r15, context.rip}) {
    if (value == kSecret) return true;
  }
  return false;
}

void StoppedBetween(dune::PageTable& table) {
  for (int round = 0; round < kRounds;) {
    const int before = jumps;
    dune::UserContext context;
    context.rip = kCode;
    context.rbx = 77;
    const absl::StatusOr<dune::Stop> stop = dune::RunUser(context, table);
    Expect(stop.ok() && stop->reason == StopReason::kInterrupted, "a signal stops it");
    Expect(!HasSecret(context), "the program's memory is not in ring 3's registers");
    Expect(context.rbx == 77, "they are its own");
    if (jumps == before) continue;
    Expect(context.rip == target && context.rsp == kStackPointer, "and so are RIP and RSP");
    ++round;
  }
}

void Plainly(dune::PageTable& table) {
  dune::UserContext context;
  context.rip = kCode + static_cast<std::uintptr_t>(plain_jump - jumping_code);
  context.rdi = target;
  context.rsp = kStackPointer;
  absl::StatusOr<dune::Stop> stop = dune::RunUser(context, table);
  while (stop.ok() && stop->reason == StopReason::kInterrupted) stop = dune::RunUser(context, table);
  Expect(stop.ok() && stop->reason == StopReason::kFault && stop->vector == 14, "the jump faults");
  Expect(stop->address == target && (stop->error & 4) != 0 && context.rsp == kStackPointer, "in ring 3");
}

}  // namespace

int main() {
  for (std::uint64_t& word : secret) word = kSecret;
  std::atomic<int> state{0};
  std::thread sender([&, main_thread = gettid()] { SendJumps(state, main_thread); });
  signal(SIGALRM, [](int) { alarms = alarms + 1; });
  EnterRing0();
  absl::StatusOr<dune::PageTable> table = dune::PageTable::Create(dune::PageTable::Contents::kEmpty);
  Expect(table.ok() && table->Map({kCode, 4096}, jumping_code, {.rights = dune::Rights::kReadExecute}).ok(), "a table");
  for (const std::byte* label : {dune_ring0_restore, dune_ring0_iret, dune_ring0_test}) {
    target = AliasOf(label);
    Plainly(*table);
  }
  state = 1;
  for (const std::byte* label : {dune_ring0_restore, dune_ring0_iret, dune_ring0_test}) {
    target = AliasOf(label);
    StoppedBetween(*table);
  }
  state = 2;
  sender.join();
  Expect(alarms == jumps && jumps >= 3 * kRounds, "each has come to the program");
  std::puts("ring 0 works");
}
