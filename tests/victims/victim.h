// What the victims share. A victim is a program that attacks the sandbox it runs in: it tries, notes what came of it, and ends
// with one verdict line and 0 only if every attack was contained.
//
// It attacks from inside and cannot see the runtime's memory; run.sh, which drives it, can: it tells the victim where the
// runtime's mappings are and compares them before and after.
//
//   int main() {
//     victim::Begin("jump_somewhere");
//     victim::Outcome outcome = victim::Attempt({.rdi = 0x1000}, "\xff\xe7");        // jmp *%rdi
//     victim::Expect(outcome.signal == SIGSEGV, "a jump to page 0 ended with signal %d", outcome.signal);
//     return victim::Verdict();
//   }
#ifndef DUNEBOX_TESTS_VICTIMS_VICTIM_H_
#define DUNEBOX_TESTS_VICTIMS_VICTIM_H_

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace victim {

// The registers an attack starts with; the others hold nothing of interest.
struct Start {
  std::uint64_t rax = 0, rcx = 0, rdx = 0, rsi = 0, rdi = 0, r8 = 0, r9 = 0, r10 = 0, r11 = 0;
};

struct Outcome {
  int signal = 0;               // 0: the code returned
  int code = 0;                 // si_code
  std::uint64_t address = 0;    // si_addr
  std::uint64_t rip = 0;        // where the signal came
  std::uint64_t rax = 0, rdx = 0;  // as the code left them
  std::uint64_t flags = 0;
  unsigned cs = 0, ss = 0;      // in the signal frame
  // One of the signals by which a processor refuses something.
  bool refused() const {
    return signal == SIGSEGV || signal == SIGILL || signal == SIGBUS || signal == SIGTRAP;
  }
};

struct Range {
  std::uint64_t start, end;
  char rights[5];
  char name[64];
};

// Installs handlers on a stack of their own, asks the driver where the runtime is.
void Begin(const char* name);

// Copies machine code into a page below 2 GiB, followed by RET, and calls it.
Outcome Attempt(const Start& start, std::string_view code);
// The page, and where in it the landing is: code that reads its flags and privilege level and ends in UD2. Far transfers and
// returns to other privilege levels aim at it.
std::uint64_t Landing();
// The same for code that is elsewhere.
Outcome AttemptAt(const Start& start, std::uint64_t code);

// A system call with errno as a negative result, straight from the register.
long Call(long number, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0, std::uint64_t d = 0,
          std::uint64_t e = 0, std::uint64_t f = 0);

// Counts what was not as expected and says so, at most a few dozen times.
[[gnu::format(printf, 2, 3)]] void Expect(bool condition, const char* format, ...);
[[gnu::format(printf, 1, 2)]] void Note(const char* format, ...);
// A system call still works, and we are still in ring 3.
void ExpectAlive(const char* after);

// Mappings of the runtime, by the driver; addresses in its half when there is no driver.
std::span<const Range> RuntimeRanges();
// Where the runtime half starts: every guest address is below.
inline constexpr std::uint64_t kRuntimeHalf = 0x400000000000;
inline constexpr std::uint64_t kWindowEnd = kRuntimeHalf - 0x10000;  // of what the program may map
// Up to `most` addresses no guest may touch: in the runtime's mappings, in its half, non-canonical, the kernel's.
std::size_t ForbiddenAddresses(std::uint64_t* addresses, std::size_t most);

// Lets the driver look, then prints the verdict; the program's exit status.
int Verdict();

}  // namespace victim

#endif  // DUNEBOX_TESTS_VICTIMS_VICTIM_H_
