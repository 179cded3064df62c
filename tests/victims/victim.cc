#include "victim.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" {
void victim_attempt(const victim::Start* start, std::uint64_t code);
std::uint64_t victim_rax, victim_rdx, victim_flags;
}

// Entered from: AttemptAt. RDI = Start, RSI = code. Leaves to: `code`, whose RET comes back here; a signal leaves by longjmp.
__asm__(R"(
        .text
victim_attempt:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, victim_rsp(%rip)
        mov     %rdi, %rbx
        mov     %rsi, %rbp
        mov     0(%rbx), %rax
        mov     8(%rbx), %rcx
        mov     16(%rbx), %rdx
        mov     24(%rbx), %rsi
        mov     32(%rbx), %rdi
        mov     40(%rbx), %r8
        mov     48(%rbx), %r9
        mov     56(%rbx), %r10
        mov     64(%rbx), %r11
        call    *%rbp
        mov     victim_rsp(%rip), %rsp
        pushfq
        popq    victim_flags(%rip)
        // DF, AC and NT off again: the compiler relies on it.
        pushfq
        andl    $~0x44500, (%rsp)
        popfq
        mov     %rax, victim_rax(%rip)
        mov     %rdx, victim_rdx(%rip)
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        .local  victim_rsp
        .comm   victim_rsp, 8, 8
)");

namespace victim {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kLandingOffset = 2048;
constexpr int kMostComplaints = 40;
constexpr std::size_t kMostRanges = 64;

const char* victim_name = "";
int failures = 0;
int expectations = 0;
long own_pid = 0;
unsigned char* code_page = nullptr;
sigjmp_buf escape;
volatile bool attempting = false;
Outcome last;
Range ranges[kMostRanges];
std::size_t range_count = 0;
bool driven = false;
std::uint64_t fs_base = 0;

alignas(64) char alternate_stack[65536];

// No stack protector here: FS may point anywhere until it is put back.
__attribute__((no_stack_protector)) void OnSignal(int signal, siginfo_t* info, void* opaque) {
  __asm__ volatile("wrfsbase %0" ::"r"(fs_base));
  __asm__ volatile("pushfq\n\tandl $~0x44400, (%%rsp)\n\tpopfq" ::: "memory", "cc");
  const auto* context = static_cast<ucontext_t*>(opaque);
  const greg_t* registers = context->uc_mcontext.gregs;
  last.signal = signal;
  last.code = info->si_code;
  last.address = reinterpret_cast<std::uint64_t>(info->si_addr);
  last.rip = static_cast<std::uint64_t>(registers[REG_RIP]);
  last.rax = static_cast<std::uint64_t>(registers[REG_RAX]);
  last.rdx = static_cast<std::uint64_t>(registers[REG_RDX]);
  last.flags = static_cast<std::uint64_t>(registers[REG_EFL]);
  last.cs = static_cast<unsigned>(registers[REG_CSGSFS] & 0xffff);
  last.ss = static_cast<unsigned>((static_cast<std::uint64_t>(registers[REG_CSGSFS]) >> 48) & 0xffff);
  if (!attempting) {
    std::printf("signal %d at rip 0x%lx, address 0x%lx, outside of an attack\n", signal, last.rip, last.address);
    std::fflush(stdout);
    _exit(3);
  }
  siglongjmp(escape, 1);
}

bool ReadRanges() {
  std::printf("ready\n");
  std::fflush(stdout);
  char line[512];
  while (std::fgets(line, sizeof(line), stdin) != nullptr) {
    if (std::strcmp(line, "go\n") == 0) return true;
    if (range_count == kMostRanges) continue;
    Range& range = ranges[range_count];
    range = {};
    if (std::sscanf(line, "%lx-%lx %4s %63[^\n]", &range.start, &range.end, range.rights, range.name) >= 3) ++range_count;
  }
  return false;
}

}  // namespace

void Begin(const char* name) {
  victim_name = name;
  own_pid = getpid();
  __asm__ volatile("rdfsbase %0" : "=r"(fs_base));
  stack_t stack{};
  stack.ss_sp = alternate_stack;
  stack.ss_size = sizeof(alternate_stack);
  sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_sigaction = OnSignal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS}) sigaction(signal, &action, nullptr);
  code_page = static_cast<unsigned char*>(mmap(nullptr, kPage, PROT_READ | PROT_WRITE | PROT_EXEC,
                                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
  if (code_page == MAP_FAILED) std::exit(4);
  // pushfq; pop %rax; mov %cs, %edx; ud2
  static constexpr unsigned char kLanding[] = {0x9c, 0x58, 0x8c, 0xca, 0x0f, 0x0b};
  std::memcpy(code_page + kLandingOffset, kLanding, sizeof(kLanding));
  driven = ReadRanges();
}

std::uint64_t Landing() { return reinterpret_cast<std::uint64_t>(code_page) + kLandingOffset; }

Outcome AttemptAt(const Start& start, std::uint64_t code) {
  last = {};
  attempting = true;
  if (sigsetjmp(escape, 1) == 0) {
    victim_attempt(&start, code);
    last.rax = victim_rax;
    last.rdx = victim_rdx;
    last.flags = victim_flags;
    last.cs = 0x33;
    last.ss = 0x2b;
  }
  attempting = false;
  Expect((last.cs & 3) == 3, "ran at privilege level %u, cs 0x%x", last.cs & 3, last.cs);
  Expect((last.flags & 0x3000) == 0, "I/O privilege level in the flags 0x%lx", last.flags);
  return last;
}

Outcome Attempt(const Start& start, std::string_view code) {
  std::memcpy(code_page, code.data(), code.size());
  code_page[code.size()] = 0xc3;
  return AttemptAt(start, reinterpret_cast<std::uint64_t>(code_page));
}

long Call(long number, std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d, std::uint64_t e, std::uint64_t f) {
  long result;
  register std::uint64_t r10 __asm__("r10") = d;
  register std::uint64_t r8 __asm__("r8") = e;
  register std::uint64_t r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

void Expect(bool condition, const char* format, ...) {
  ++expectations;
  if (condition || ++failures > kMostComplaints) return;
  va_list arguments;
  va_start(arguments, format);
  std::printf("NOT CONTAINED: ");
  std::vprintf(format, arguments);
  std::printf("\n");
  std::fflush(stdout);
  va_end(arguments);
}

void Note(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  std::printf("\n");
  va_end(arguments);
}

void ExpectAlive(const char* after) {
  unsigned cs = 0;
  __asm__ volatile("mov %%cs, %0" : "=r"(cs));
  Expect(Call(SYS_getpid) == own_pid, "no system call works after %s", after);
  Expect((cs & 3) == 3, "in ring %u after %s", cs & 3, after);
}

std::span<const Range> RuntimeRanges() { return {ranges, range_count}; }

std::size_t ForbiddenAddresses(std::uint64_t* addresses, std::size_t most) {
  static constexpr std::uint64_t kAlways[] = {
      kRuntimeHalf,          // the first of the runtime's half
      kRuntimeHalf - 4,      // across its border
      0x7ffffffff000,        // its last page
      0x800000000000,        // the first non-canonical one
      0x8000000000000000,    // in their middle
      0xffffff8000000000,    // the ring-0 image
      0xffffffffffffffc0,    // wraps
  };
  std::size_t count = 0;
  for (const std::uint64_t address : kAlways) {
    if (count < most) addresses[count++] = address;
  }
  // Evenly over what the runtime has: image, heap, arena, vCPU, stack.
  const std::size_t room = most - count;
  const std::size_t step = range_count > room && room > 0 ? (range_count + room - 1) / room : 1;
  for (std::size_t i = 0; i < range_count && count < most; i += step) addresses[count++] = ranges[i].start + 64;
  return count;
}

int Verdict() {
  ExpectAlive("all");
  std::printf("over\n");
  std::fflush(stdout);
  if (driven) {
    char byte;
    while (read(STDIN_FILENO, &byte, 1) == 1) {
    }
  }
  std::printf("verdict: %s: %s (%d of %d expectations failed)\n", victim_name, failures == 0 ? "contained" : "NOT CONTAINED",
              failures, expectations);
  std::fflush(stdout);
  return failures == 0 ? 0 : 1;
}

}  // namespace victim
