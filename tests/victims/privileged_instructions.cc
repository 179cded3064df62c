// Every instruction that only ring 0 may execute, and every way to ask for another privilege level.
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstdio>
#include <cstring>

#include "victim.h"

namespace {

using victim::Attempt;
using victim::Expect;
using victim::Outcome;
using victim::Start;

enum class Wanted {
  kRefused,     // one of the processor's signals
  kHarmless,    // may also run: it reads or changes nothing beyond the program's own
  kHypercall,   // KVM answers it itself, and refuses ring 3 with a negative number
};

struct Row {
  const char* name;
  std::string_view code;
  Wanted wanted = Wanted::kRefused;
};

#define BYTES(text) std::string_view(text, sizeof(text) - 1)

constexpr Row kRows[] = {
    {"hlt", BYTES("\xf4")},
    {"cli", BYTES("\xfa")},
    {"sti", BYTES("\xfb")},
    {"clts", BYTES("\x0f\x06")},
    {"mov cr0, rax", BYTES("\x0f\x22\xc0")},
    {"mov cr2, rax", BYTES("\x0f\x22\xd0")},
    {"mov cr3, rax", BYTES("\x0f\x22\xd8")},
    {"mov cr4, rax", BYTES("\x0f\x22\xe0")},
    {"mov cr8, rax", BYTES("\x44\x0f\x22\xc0")},
    {"mov rax, cr0", BYTES("\x0f\x20\xc0")},
    {"mov rax, cr2", BYTES("\x0f\x20\xd0")},
    {"mov rax, cr3", BYTES("\x0f\x20\xd8")},
    {"mov rax, cr4", BYTES("\x0f\x20\xe0")},
    {"mov rax, cr8", BYTES("\x44\x0f\x20\xc0")},
    {"mov dr0, rax", BYTES("\x0f\x23\xc0")},
    {"mov dr7, rax", BYTES("\x0f\x23\xf8")},
    {"mov rax, dr0", BYTES("\x0f\x21\xc0")},
    {"mov rax, dr6", BYTES("\x0f\x21\xf0")},
    {"mov rax, dr7", BYTES("\x0f\x21\xf8")},
    {"lmsw ax", BYTES("\x0f\x01\xf0")},
    {"smsw rax", BYTES("\x48\x0f\x01\xe0"), Wanted::kHarmless},
    {"lgdt", BYTES("\x0f\x01\x17")},
    {"lidt", BYTES("\x0f\x01\x1f")},
    {"sgdt", BYTES("\x0f\x01\x07"), Wanted::kHarmless},
    {"sidt", BYTES("\x0f\x01\x0f"), Wanted::kHarmless},
    {"lldt ax", BYTES("\x0f\x00\xd0")},
    {"ltr ax", BYTES("\x0f\x00\xd8")},
    {"sldt rax", BYTES("\x48\x0f\x00\xc0"), Wanted::kHarmless},
    {"str rax", BYTES("\x48\x0f\x00\xc8"), Wanted::kHarmless},
    {"invlpg", BYTES("\x0f\x01\x3f")},
    {"invd", BYTES("\x0f\x08")},
    {"wbinvd", BYTES("\x0f\x09")},
    {"invpcid", BYTES("\x66\x0f\x38\x82\x07")},
    {"swapgs", BYTES("\x0f\x01\xf8")},
    {"xsetbv", BYTES("\x0f\x01\xd1")},
    {"clac", BYTES("\x0f\x01\xca")},
    {"stac", BYTES("\x0f\x01\xcb")},
    {"monitor", BYTES("\x0f\x01\xc8")},
    {"mwait", BYTES("\x0f\x01\xc9")},
    {"rsm", BYTES("\x0f\xaa")},
    {"xsaves", BYTES("\x0f\xc7\x2f")},
    {"xrstors", BYTES("\x0f\xc7\x1f")},
    {"rdpmc", BYTES("\x0f\x33")},
    {"sysenter", BYTES("\x0f\x34")},
    {"sysexit", BYTES("\x0f\x35")},
    {"sysexitq", BYTES("\x48\x0f\x35")},
    {"sysretq", BYTES("\x48\x0f\x07")},
    {"sysretl", BYTES("\x0f\x07")},
    {"vmcall", BYTES("\x0f\x01\xc1"), Wanted::kHypercall},
    {"vmmcall", BYTES("\x0f\x01\xd9"), Wanted::kHypercall},
    {"vmlaunch", BYTES("\x0f\x01\xc2")},
    {"vmresume", BYTES("\x0f\x01\xc3")},
    {"vmxoff", BYTES("\x0f\x01\xc4")},
    {"vmxon", BYTES("\xf3\x0f\xc7\x37")},
    {"vmptrld", BYTES("\x0f\xc7\x37")},
    {"vmread", BYTES("\x0f\x78\xc0")},
    {"vmwrite", BYTES("\x0f\x79\xc0")},
    {"vmfunc", BYTES("\x0f\x01\xd4")},
    {"vmrun", BYTES("\x0f\x01\xd8")},
    {"vmload", BYTES("\x0f\x01\xda")},
    {"vmsave", BYTES("\x0f\x01\xdb")},
    {"stgi", BYTES("\x0f\x01\xdc")},
    {"clgi", BYTES("\x0f\x01\xdd")},
    {"skinit", BYTES("\x0f\x01\xde")},
    {"invlpga", BYTES("\x0f\x01\xdf")},
    {"encls", BYTES("\x0f\x01\xcf")},
    {"int1", BYTES("\xf1")},
    {"int3", BYTES("\xcc")},
    {"into", BYTES("\xce")},
    {"ud0", BYTES("\x0f\xff\xc0")},
    {"ud1", BYTES("\x0f\xb9\xc0")},
    {"ud2", BYTES("\x0f\x0b")},
    {"far jump, direct", BYTES("\xea\x00\x00\x00\x00\x08\x00")},
    {"far call, direct", BYTES("\x9a\x00\x00\x00\x00\x08\x00")},
    {"push cs, as in 32-bit code", BYTES("\x0e")},
    {"lock nop", BYTES("\xf0\x90")},
    {"16 bytes of prefixes", BYTES("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x90")},
    {"mov ss, then int3", BYTES("\x8c\xd0\x8e\xd0\xcc")},
    {"mov ss, then syscall", BYTES("\x8c\xd1\xb8\x27\x00\x00\x00\x8e\xd1\x0f\x05"), Wanted::kHarmless},
    {"mov ss, then ud2", BYTES("\x8c\xd0\x8e\xd0\x0f\x0b")},
    {"rdpkru", BYTES("\x31\xc9\x0f\x01\xee"), Wanted::kHarmless},
};

unsigned char scratch[4096];
int refused_count = 0;

void Judge(const char* name, const Outcome& outcome, Wanted wanted) {
  refused_count += outcome.refused();
  const bool negative = static_cast<std::int64_t>(outcome.rax) < 0 && static_cast<std::int64_t>(outcome.rax) >= -1000;
  const bool fine = outcome.refused() || (outcome.signal == 0 && (wanted == Wanted::kHarmless ||
                                                                  (wanted == Wanted::kHypercall && negative)));
  Expect(fine, "%s: signal %d, rax 0x%lx", name, outcome.signal, outcome.rax);
  victim::ExpectAlive(name);
}

Start Usual() {
  const auto at = reinterpret_cast<std::uint64_t>(scratch);
  return {.rax = 0x10, .rcx = 0, .rdx = 0, .rsi = at, .rdi = at, .r11 = 0x202};
}

void Table() {
  for (const Row& row : kRows) {
    std::memset(scratch, 0, sizeof(scratch));
    Judge(row.name, Attempt(Usual(), row.code), row.wanted);
  }
}

void ModelSpecificRegisters() {
  constexpr std::uint64_t kRegisters[] = {0x10,       0x1b,       0x174,      0x176,      0x1d9,      0x277,     0x2ff,
                                          0x4b564d00, 0x4b564d01, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000084,
                                          0xc0000100, 0xc0000101, 0xc0000102, 0xc0010117, 0xffffffff};
  char name[64];
  for (const std::uint64_t index : kRegisters) {
    std::snprintf(name, sizeof(name), "rdmsr 0x%lx", index);
    Judge(name, Attempt({.rcx = index}, BYTES("\x0f\x32")), Wanted::kRefused);
    std::snprintf(name, sizeof(name), "wrmsr 0x%lx", index);
    Judge(name, Attempt({.rcx = index}, BYTES("\x0f\x30")), Wanted::kRefused);
  }
}

// Ports: ours, a diagnostic one, a keyboard's, PCI's, and the last.
void Ports() {
  constexpr std::uint64_t kPorts[] = {0xd0, 0xd1, 0xd2, 0x80, 0x60, 0xcf8, 0x3f8, 0xffff};
  constexpr Row kForms[] = {
      {"outb dx", BYTES("\xee")},       {"outl dx", BYTES("\xef")},       {"inb dx", BYTES("\xec")},
      {"inl dx", BYTES("\xed")},        {"outsb", BYTES("\x6e")},         {"insb", BYTES("\x6c")},
      {"rep outsb", BYTES("\xf3\x6e")}, {"rep insb", BYTES("\xf3\x6c")},  {"rep outsl", BYTES("\xf3\x6f")},
  };
  char name[64];
  for (const std::uint64_t port : kPorts) {
    for (const Row& form : kForms) {
      Start start = Usual();
      start.rcx = 4;
      start.rdx = port;
      std::snprintf(name, sizeof(name), "%s, port 0x%lx", form.name, port);
      Judge(name, Attempt(start, form.code), Wanted::kRefused);
    }
    if (port > 0xff) continue;
    for (const char opcode : {'\xe4', '\xe5', '\xe6', '\xe7'}) {
      const char code[] = {opcode, static_cast<char>(port)};
      std::snprintf(name, sizeof(name), "opcode 0x%x, port 0x%lx", opcode & 0xff, port);
      Judge(name, Attempt(Usual(), {code, 2}), Wanted::kRefused);
    }
  }
  // An operand that is not there: the port must not be reached first.
  Start start = Usual();
  start.rdx = 0xd0;
  start.rcx = 4;
  start.rsi = start.rdi = victim::kRuntimeHalf;
  Judge("rep outsb from the runtime's half", Attempt(start, BYTES("\xf3\x6e")), Wanted::kRefused);
  Judge("rep insb to the runtime's half", Attempt(start, BYTES("\xf3\x6c")), Wanted::kRefused);
}

void Interrupts() {
  char name[64];
  for (int vector = 0; vector < 256; ++vector) {
    const char code[] = {'\xcd', static_cast<char>(vector)};
    std::snprintf(name, sizeof(name), "int 0x%x", vector);
    // RAX = 20 is getpid of 32-bit programs.
    const Outcome outcome = Attempt({.rax = 20}, {code, 2});
    const bool no_such_call = vector == 0x80 && outcome.signal == 0 && static_cast<std::int64_t>(outcome.rax) == -38;
    // The paravirtual KVM of some hosts takes INT 0x1a for CPUID, here with a leaf that is zero. Nobody but that KVM sees it.
    const bool is_cpuid = vector == 0x1a && outcome.signal == 0 && outcome.rax == 0;
    if (is_cpuid) victim::Note("%s is CPUID on this host", name);
    Judge(name, outcome, no_such_call || is_cpuid ? Wanted::kHarmless : Wanted::kRefused);
  }
}

constexpr unsigned kSelectors[] = {0x0,  0x3,  0x4,  0x7,  0x8,  0xb,  0x10, 0x13, 0x18, 0x1b, 0x20, 0x23,
                                   0x28, 0x2b, 0x30, 0x33, 0x38, 0x3b, 0x40, 0x43, 0x48, 0x50, 0x53, 0x7b};

// Whether it arrives or not: AttemptAt sees to it that the frame shows ring 3, Landing that it shows no I/O privilege.
void FarTransfers() {
  char name[64];
  char code[64];
  const auto landing = static_cast<std::uint32_t>(victim::Landing());
  for (const unsigned selector : kSelectors) {
    // push $selector; push $landing; lretq
    std::size_t length = 0;
    code[length++] = '\x6a';
    code[length++] = static_cast<char>(selector);
    code[length++] = '\x68';
    std::memcpy(code + length, &landing, 4);
    length += 4;
    code[length++] = '\x48';
    code[length++] = '\xcb';
    std::snprintf(name, sizeof(name), "far return to selector 0x%x", selector);
    Outcome outcome = Attempt({}, {code, length});
    Judge(name, outcome, Wanted::kRefused);
    if (outcome.signal == SIGILL && outcome.cs == 0x33) Expect((outcome.rdx & 3) == 3, "%s: arrived in ring %lu", name, outcome.rdx & 3);

    std::memset(scratch, 0, sizeof(scratch));
    std::memcpy(scratch, &landing, 4);
    scratch[4] = static_cast<unsigned char>(selector);
    std::snprintf(name, sizeof(name), "far jump to selector 0x%x", selector);
    Judge(name, Attempt(Usual(), BYTES("\xff\x2f")), Wanted::kRefused);
    std::snprintf(name, sizeof(name), "far call to selector 0x%x", selector);
    Judge(name, Attempt(Usual(), BYTES("\xff\x1f")), Wanted::kRefused);
  }
}

void InterruptReturns() {
  char name[96];
  for (const unsigned cs : {0x8u, 0xbu, 0x10u, 0x33u, 0x23u, 0x0u}) {
    for (const unsigned ss : {0x2bu, 0x10u, 0x13u, 0x0u, 0x33u}) {
      for (const std::uint64_t flags : {0x202ul, 0x3202ul, 0x23202ul, 0x4202ul}) {
        // push rcx (ss); push rsp's value rsi; push rdx (flags); push rax (cs); push rdi (rip); iretq
        Start start = {.rax = cs, .rcx = ss, .rdx = flags, .rsi = reinterpret_cast<std::uint64_t>(scratch + 2048), .rdi = victim::Landing()};
        std::snprintf(name, sizeof(name), "iretq to cs 0x%x, ss 0x%x, flags 0x%lx", cs, ss, flags);
        const Outcome outcome = Attempt(start, BYTES("\x51\x56\x52\x50\x57\x48\xcf"));
        Judge(name, outcome, Wanted::kRefused);
        if (outcome.signal == SIGILL) {
          Expect((outcome.rax & 0x3000) == 0 && (outcome.rdx & 3) == 3, "%s: flags 0x%lx in ring %lu", name, outcome.rax, outcome.rdx & 3);
        }
      }
    }
  }
}

void SegmentLoads() {
  constexpr Row kLoads[] = {{"mov ss, ax", BYTES("\x8e\xd0")},
                            {"mov ds, ax", BYTES("\x8e\xd8")},
                            {"mov es, ax", BYTES("\x8e\xc0")},
                            {"mov gs, ax", BYTES("\x8e\xe8")}};
  char name[64];
  for (const Row& load : kLoads) {
    for (const unsigned selector : kSelectors) {
      std::snprintf(name, sizeof(name), "%s with 0x%x", load.name, selector);
      Judge(name, Attempt({.rax = selector}, load.code), Wanted::kHarmless);
    }
    Judge(load.name, Attempt({.rax = 0xffff}, load.code), Wanted::kRefused);
  }
}

// POPF may not raise the I/O privilege or switch interrupts off.
void Flags() {
  const Outcome outcome = Attempt({.rdx = 0x3002}, BYTES("\x52\x9d\x9c\x58"));  // push rdx; popfq; pushfq; pop rax
  Expect(outcome.signal == 0 && (outcome.rax & 0x3200) == 0x200, "popf gave flags 0x%lx", outcome.rax);
}

}  // namespace

int main() {
  victim::Begin("privileged_instructions");
  Table();
  ModelSpecificRegisters();
  Ports();
  Interrupts();
  FarTransfers();
  InterruptReturns();
  SegmentLoads();
  Flags();
  victim::Note("%d instructions refused", refused_count);
  return victim::Verdict();
}
