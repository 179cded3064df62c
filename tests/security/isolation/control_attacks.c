// Tries to execute what was never translated: the runtime's code, the code cache, the host's vDSO,
// the middle of instructions; and instructions that would change who we are.
#include <sys/mman.h>
#include <sys/wait.h>

#include "attack.h"

// ---- jumps
// -----------------------------------------------------------------------------------------

ATTACK_CODE(code_jmp, "jmp *%%rdi")
ATTACK_CODE(code_call, "call *%%rdi")
ATTACK_CODE(code_jmp_memory, "movq %%rdi, (%%rsi)\n\tjmp *(%%rsi)")
ATTACK_CODE(code_call_memory, "movq %%rdi, (%%rsi)\n\tcall *(%%rsi)")
ATTACK_CODE(code_ret, "pushq %%rdi\n\tret")
ATTACK_CODE(code_ret_immediate, "pushq %%rdi\n\tret $8")
ATTACK_CODE(code_jmp_r11, "movq %%rdi, %%r11\n\tjmp *%%r11")
ATTACK_CODE(code_jmp_rcx, "movq %%rdi, %%rcx\n\tjmp *%%rcx")
ATTACK_CODE(code_far_ret, "pushq $0x33\n\tpushq %%rdi\n\tlretq")
ATTACK_CODE(code_iret,
            "movq %%rsp, %%rbx\n\tpushq $0x2b\n\tpushq %%rbx\n\tpushq $0x202\n\tpushq "
            "$0x33\n\tpushq %%rdi\n\tiretq")
ATTACK_CODE(code_far_jmp, "movq %%rdi, (%%rsi)\n\tmovq $0x33, 8(%%rsi)\n\trex64 ljmp *(%%rsi)")
ATTACK_CODE(code_far_call, "movq %%rdi, (%%rsi)\n\tmovq $0x33, 8(%%rsi)\n\trex64 lcall *(%%rsi)")

static const struct {
  const char* name;
  void (*code)(u64);
} kJumps[] = {
#define JUMP(name) \
  { #name, code_##name }
    JUMP(jmp),     JUMP(call),          JUMP(jmp_memory), JUMP(call_memory),
    JUMP(ret),     JUMP(ret_immediate), JUMP(jmp_r11),    JUMP(jmp_rcx),
    JUMP(far_ret), JUMP(iret),          JUMP(far_jmp),    JUMP(far_call),
};

// Nothing of the place may run: the one signal is that of a jump to nowhere.
static void jump_to(u64 target, const char* place) {
  for (size_t i = 0; i < sizeof(kJumps) / sizeof(kJumps[0]); ++i) {
    const int signal_number = attempt(kJumps[i].code, target);
    const int there = signal_number == SIGSEGV && (caught.rip == target || addresses_are_cut());
    // A far transfer may be refused where it is.
    const int refused = signal_number == SIGSEGV && caught.rip >= (u64)kJumps[i].code &&
                        caught.rip < (u64)kJumps[i].code + 256;
    if (!there && !refused) {
      breach("%s to %s %lx: signal %d at %lx", kJumps[i].name, place, target, signal_number,
             caught.rip);
    }
  }
}

static void jump_to_place(const char* name, int step, int count) {
  const struct place* place = find_place(name);
  if (place == NULL) return breach("no place %s", name);
  for (int i = 0; i < count; ++i) jump_to(place->start + (u64)(i * step), name);
  for (int i = 0; i < 16; ++i) jump_to(place->read + (u64)i, name);
}

static void run_jump_to_runtime(void) {
  jump_to_place("text", 4099, 40);
  jump_to_place("rodata", 4096, 4);
  jump_to_place("heap", 4096, 4);
  jump_to_place("stack", 4096, 4);
  // The ways out of translated code: the addresses are in the exit page.
  jump_to_place("exits", 8, 4);
  jump_to_place("tables", 8, 4);
}

// Blocks and what lies in the middle of them: stubs, entries, second bytes of instructions.
static void run_jump_to_code_cache(void) {
  jump_to_place("code", 1, 200);
  jump_to_place("code", 64, 60);
  jump_to_place("code_writable", 64, 20);
}

static void run_jump_to_host_vdso(void) {
  jump_to_place("vdso", 16, 200);
  if (find_place("vvar") != NULL) jump_to_place("vvar", 4096, 2);
}

static void run_jump_to_nowhere(void) {
  static const u64 kNowhere[] = {0,
                                 0x10,
                                 0x400000000000,
                                 0x400000001000,
                                 0x7fffffffffff,
                                 0x7ffffffff000,
                                 0xffff800000000000,
                                 0xffffffffff600800,
                                 0xfffffffffffffff0};
  for (size_t i = 0; i < sizeof(kNowhere) / sizeof(u64); ++i) {
    for (size_t j = 0; j < 8; ++j) {  // not the far ones: they may be refused
      const int signal_number = attempt(kJumps[j].code, kNowhere[i]);
      if (signal_number != SIGSEGV && signal_number != SIGBUS) {
        breach("%s to %lx: signal %d", kJumps[j].name, kNowhere[i], signal_number);
      }
    }
  }
}

// ---- bytes as code
// ---------------------------------------------------------------------------------

static unsigned char* code_page;

static void make_code_page(void) {
  code_page =
      mmap(NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

ATTACK_CODE(code_run_bytes, "movl $0xc0000102, %%ecx\n\tcall *%%rdi")

struct bytes {
  const char* name;
  int length;
  unsigned char code[24];
  int may_return;  // as an ordinary instruction
};
#define BYTES(name, ...) \
  { name, sizeof((unsigned char[]){__VA_ARGS__}), {__VA_ARGS__}, 0 }
#define HARMLESS(name, ...) \
  { name, sizeof((unsigned char[]){__VA_ARGS__}), {__VA_ARGS__}, 1 }

static void run_bytes(const struct bytes* rows, size_t count) {
  make_code_page();
  for (size_t i = 0; i < count; ++i) {
    // In a fresh place each: nothing translated before is there.
    unsigned char* at = code_page + 64 + i * 64;
    memcpy(at, rows[i].code, (size_t)rows[i].length);
    at[rows[i].length] = 0xc3;
    const int signal_number = attempt(code_run_bytes, (u64)at);
    if (signal_number == 0 && !rows[i].may_return) breach("%s came back", rows[i].name);
    if (signal_number != 0 && !is_refusal(signal_number)) {
      breach("%s: signal %d", rows[i].name, signal_number);
    }
    if (CALL1(SYS_getppid, 0) <= 0) breach("after %s, getppid fails", rows[i].name);
  }
}
#define RUN_BYTES(rows) run_bytes(rows, sizeof(rows) / sizeof((rows)[0]))

static void run_privileged(void) {
  static const struct bytes kRows[] = {
      BYTES("hlt", 0xf4),
      BYTES("cli", 0xfa),
      BYTES("sti", 0xfb),
      BYTES("in al, imm8", 0xe4, 0x60),
      BYTES("in eax, dx", 0xed),
      BYTES("out imm8, al", 0xe6, 0x80),
      BYTES("out dx, eax", 0xef),
      BYTES("insb", 0x6c),
      BYTES("rep outsb", 0xf3, 0x6e),
      BYTES("rdmsr", 0x0f, 0x32),
      BYTES("wrmsr", 0x0f, 0x30),
      BYTES("mov rax, cr0", 0x0f, 0x20, 0xc0),
      BYTES("mov rax, cr3", 0x0f, 0x20, 0xd8),
      BYTES("mov rax, cr4", 0x0f, 0x20, 0xe0),
      BYTES("mov cr3, rax", 0x0f, 0x22, 0xd8),
      BYTES("mov cr4, rax", 0x0f, 0x22, 0xe0),
      BYTES("mov cr8, rax", 0x44, 0x0f, 0x22, 0xc0),
      BYTES("mov dr7, rax", 0x0f, 0x23, 0xf8),
      BYTES("mov rax, dr0", 0x0f, 0x21, 0xc0),
      BYTES("lgdt", 0x0f, 0x01, 0x14, 0x24),
      BYTES("lidt", 0x0f, 0x01, 0x1c, 0x24),
      BYTES("lldt", 0x0f, 0x00, 0xd0),
      BYTES("ltr", 0x0f, 0x00, 0xd8),
      BYTES("lmsw", 0x0f, 0x01, 0xf0),
      BYTES("clts", 0x0f, 0x06),
      BYTES("invlpg", 0x0f, 0x01, 0x3c, 0x24),
      BYTES("invd", 0x0f, 0x08),
      BYTES("wbinvd", 0x0f, 0x09),
      BYTES("swapgs", 0x0f, 0x01, 0xf8),
      BYTES("xsetbv", 0x0f, 0x01, 0xd1),
      BYTES("vmcall", 0x0f, 0x01, 0xc1),
      BYTES("vmmcall", 0x0f, 0x01, 0xd9),
      BYTES("vmrun", 0x0f, 0x01, 0xd8),
      BYTES("clac", 0x0f, 0x01, 0xca),
      BYTES("stac", 0x0f, 0x01, 0xcb),
      BYTES("sysret", 0x48, 0x0f, 0x07),
      BYTES("sysexit", 0x0f, 0x35),
      BYTES("rsm", 0x0f, 0xaa),
      BYTES("monitor", 0x0f, 0x01, 0xc8),
      BYTES("mwait", 0x0f, 0x01, 0xc9),
      BYTES("invpcid", 0x66, 0x0f, 0x38, 0x82, 0x04, 0x24),
      BYTES("wrussq", 0x66, 0x48, 0x0f, 0x38, 0xf5, 0x04, 0x24),
      BYTES("uiret", 0xf3, 0x0f, 0x01, 0xec),
      BYTES("rdpmc", 0x0f, 0x33),
  };
  RUN_BYTES(kRows);
}

// ---- protection keys
// -------------------------------------------------------------------------------

static unsigned pkru_of_cpu(void) {
  unsigned value = 0, ignored;
  __asm__ volatile("xorl %%ecx, %%ecx\n\t.byte 0x0f, 0x01, 0xee"
                   : "=a"(value), "=d"(ignored)
                   :
                   : "rcx");
  return value;
}
static volatile unsigned pkru_seen;
static void read_pkru(u64 ignored) { pkru_seen = pkru_of_cpu(); }

// WRPKRU in every guise: plain, in an immediate that is jumped into, over the end of a page,
// written while it is being executed. Opening key 0 is the attack; whoever got it would show in a
// store.
static void run_wrpkru(void) {
  static const struct bytes kRows[] = {
      BYTES("wrpkru", 0x31, 0xc0, 0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xef),
      BYTES("wrpkru behind prefixes", 0x31, 0xc0, 0x31, 0xc9, 0x31, 0xd2, 0x2e, 0x0f, 0x01, 0xef),
      BYTES("wrpkru with rex", 0x31, 0xc0, 0x31, 0xc9, 0x31, 0xd2, 0x48, 0x0f, 0x01, 0xef),
      BYTES("jump into an immediate", 0x31, 0xc0, 0x31, 0xc9, 0x31, 0xd2, 0xeb, 0x01, 0xb8, 0x0f,
            0x01, 0xef, 0x90),
  };
  RUN_BYTES(kRows);
  // The immediate first as such, so that its bytes are in the code cache; then as code.
  unsigned char* at = code_page + 8192;
  const unsigned char both[] = {0x31, 0xc0, 0x31, 0xc9, 0x31, 0xd2,
                                0xb8, 0x0f, 0x01, 0xef, 0xc3, 0xc3};
  memcpy(at, both, sizeof(both));
  if (attempt(code_run_bytes, (u64)at) != 0) note("a plain mov was refused");
  if (!is_refusal(attempt(code_run_bytes, (u64)at + 7)))
    breach("wrpkru from an immediate came back");
  // Over the end of a page.
  at = code_page + 12288 - 2;
  memcpy(at, "\x0f\x01\xef\xc3", 4);
  if (!is_refusal(attempt(code_run_bytes, (u64)at))) breach("wrpkru over two pages came back");
  // Turned into it after it was translated.
  at = code_page + 16384;
  memcpy(at, "\x90\x90\x90\xc3", 4);
  if (attempt(code_run_bytes, (u64)at) != 0) breach("three no-ops: signal %d", caught.signal);
  at[0] = 0x0f, at[1] = 0x01, at[2] = 0xef;
  if (!is_refusal(attempt(code_run_bytes, (u64)at)))
    breach("wrpkru that was written later came back");
}

static void run_rdpkru(void) {
  const int signal_number = attempt(read_pkru, 0);
  if (signal_number == 0) breach("RDPKRU gives %x: CPUID does not offer it", pkru_seen);
  if (signal_number != 0 && !is_refusal(signal_number)) breach("RDPKRU: signal %d", signal_number);
  if (cpu_has(NEEDS_PKU)) breach("CPUID offers protection keys");
}

// A state that holds PKRU = 0, asked for with bit 9 and without.
static unsigned char state[8192] __attribute__((aligned(64)));
ATTACK_CODE(code_xrstor_all, "orl $-1, %%eax\n\torl $-1, %%edx\n\txrstor (%%rdi)")
ATTACK_CODE(code_xrstor64_pkru, "movl $0x200, %%eax\n\txrstor64 (%%rdi)")
ATTACK_CODE(code_xrstor_most, "movl $0x2e7, %%eax\n\txrstor64 (%%rdi)")
ATTACK_CODE(code_xrstors, "movl $0x2e7, %%eax\n\t.byte 0x48, 0x0f, 0xc7, 0x1f")
ATTACK_CODE(code_xsaves, "movl $0x2e7, %%eax\n\t.byte 0x48, 0x0f, 0xc7, 0x2f")
ATTACK_CODE(code_store_directly, "movq %%rax, (%%rdi)")

static void run_xrstor_pkru(void) {
  static void (*const kRestores[])(u64) = {code_xrstor_all, code_xrstor64_pkru, code_xrstor_most,
                                           code_xrstors};
  for (u64 present = 0; present < 3; ++present) {
    for (size_t i = 0; i < sizeof(kRestores) / sizeof(kRestores[0]); ++i) {
      memset(state, 0, sizeof(state));
      state[24] = 0x80, state[25] = 0x1f;  // MXCSR
      state[0] = 0x7f, state[1] = 0x03;
      const u64 features[] = {0x200, 0x2e7, 0};
      memcpy(state + 512, &features[present], 8);
      const int signal_number = attempt(kRestores[i], (u64)state);
      if (signal_number != 0 && !is_refusal(signal_number))
        breach("xrstor %zu: signal %d", i, signal_number);
      if (signal_number == 0 && i == 3) breach("xrstors came back");
    }
  }
  if (attempt(code_xsaves, (u64)state) == 0) breach("xsaves came back");
  // The keys that matter are still closed: nothing of the runtime's can be written. Without
  // isolation it always can; then this proves nothing.
  if (strcmp(isolation, "none") == 0) return;
  for (int j = 0; j < place_count; ++j) {
    if (places[j].write == 0 || strncmp(places[j].name, "slots", 5) == 0) continue;
    if (attempt(code_store_directly, places[j].write) == 0)
      say("completed store %s", places[j].name);
  }
}

// ---- segments, gates
// -------------------------------------------------------------------------------

static void run_selectors(void) {
  static const struct bytes kRows[] = {
      BYTES("mov ss, 0x10", 0xb8, 0x10, 0, 0, 0, 0x8e, 0xd0),
      BYTES("mov ss, 0", 0x31, 0xc0, 0x8e, 0xd0),
      BYTES("mov ss, 0x33", 0xb8, 0x33, 0, 0, 0, 0x8e, 0xd0),
      BYTES("mov ds, 0x10", 0xb8, 0x10, 0, 0, 0, 0x8e, 0xd8),
      BYTES("mov es, ldt", 0xb8, 0x07, 0, 0, 0, 0x8e, 0xc0),
      BYTES("mov fs, 0x3b", 0xb8, 0x3b, 0, 0, 0, 0x8e, 0xe0),
      BYTES("mov gs, 0x7", 0xb8, 0x07, 0, 0, 0, 0x8e, 0xe8),
      BYTES("mov fs, tss", 0xb8, 0x40, 0, 0, 0, 0x8e, 0xe0),
      BYTES("mov cs, eax", 0xb8, 0x33, 0, 0, 0, 0x8e, 0xc8),
      HARMLESS("mov gs, 0", 0x31, 0xc0, 0x8e, 0xe8),
      HARMLESS("mov gs, user data", 0xb8, 0x2b, 0, 0, 0, 0x8e, 0xe8),
      HARMLESS("mov ds, user data", 0xb8, 0x2b, 0, 0, 0, 0x8e, 0xd8),
      HARMLESS("mov ss, user data", 0xb8, 0x2b, 0, 0, 0, 0x8e, 0xd0),
      HARMLESS("push 0, pop gs", 0x6a, 0x00, 0x0f, 0xa9),
      BYTES("push 7, pop fs", 0x6a, 0x07, 0x0f, 0xa1),
      BYTES("lss", 0x48, 0x0f, 0xb2, 0x06),
      BYTES("les in 64 bits", 0xc4, 0x06),
      BYTES("push cs", 0x0e),
      BYTES("pop ss", 0x17),
  };
  RUN_BYTES(kRows);
}

// FS = 0 by a selector clears the base: with it, nothing of the runtime's shows.
ATTACK_CODE(
    code_null_fs,
    "rdfsbase %%r13\n\txorl %%eax, %%eax\n\tmovl %%eax, %%fs\n\trdfsbase %%rax\n\twrfsbase %%r13")
ATTACK_CODE(code_null_gs, "xorl %%eax, %%eax\n\tmovl %%eax, %%gs\n\trdgsbase %%rax")
ATTACK_CODE(code_read_gs, "rdgsbase %%rax")
static void run_segment_bases_hide_the_runtime(void) {
  static void (*const kReads[])(u64) = {code_read_gs, code_null_gs, code_null_fs, code_read_gs};
  for (size_t i = 0; i < 4; ++i) {
    const int signal_number = attempt(kReads[i], 0);
    if (signal_number == 0 && attack_loot >= USER_HALF_END)
      breach("a segment base is %lx", attack_loot);
  }
}

static void run_far_transfers(void) {
  static const u64 kSelectors[] = {0x08, 0x10, 0x18, 0x23, 0x28, 0x2b,
                                   0x40, 0x07, 0x0f, 0x00, 0x03, 0x3b};
  make_code_page();
  unsigned char* landing = code_page + 32768;
  memcpy(landing, "\x0f\x0b", 2);  // ud2: would show as SIGILL there
  for (size_t i = 0; i < sizeof(kSelectors) / sizeof(u64); ++i) {
    const unsigned char selector = (unsigned char)kSelectors[i];
    const struct bytes rows[] = {
        BYTES("lretq", 0x6a, selector, 0x57, 0x48, 0xcb),
        BYTES("lretd", 0x6a, selector, 0x57, 0xcb),
        BYTES("iretq", 0x48, 0x89, 0xe3, 0x6a, 0x2b, 0x53, 0x9c, 0x6a, selector, 0x57, 0x48, 0xcf),
        BYTES("iretq to ss", 0x48, 0x89, 0xe3, 0x6a, selector, 0x53, 0x9c, 0x6a, 0x33, 0x57, 0x48,
              0xcf),
        BYTES("iretd", 0x6a, 0x2b, 0x53, 0x9c, 0x6a, selector, 0x57, 0xcf),
        BYTES("ljmp", 0x48, 0x89, 0x3e, 0x66, 0xc7, 0x46, 0x08, selector, 0, 0x48, 0xff, 0x2e),
        BYTES("lcall", 0x48, 0x89, 0x3e, 0x66, 0xc7, 0x46, 0x08, selector, 0, 0x48, 0xff, 0x1e),
    };
    for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); ++j) {
      unsigned char* at = code_page + 64 + (i * 8 + j) * 64;
      // mov rdi, landing in front
      memcpy(at, "\x48\xbf", 2);
      memcpy(at + 2, &landing, 8);
      memcpy(at + 10, rows[j].code, (size_t)rows[j].length);
      at[10 + rows[j].length] = 0xc3;
      const int signal_number = attempt(code_run_bytes, (u64)at);
      if (caught.rip == (u64)landing && selector != 0x33 && !(j == 3 && (selector == 0x2b))) {
        breach("%s with selector %x arrived", rows[j].name, selector);
      }
      if (!is_refusal(signal_number))
        breach("%s with %x: signal %d", rows[j].name, selector, signal_number);
    }
  }
}

// The kernel's other doors. An `int 0x80` that is executed would see our 32-bit registers.
static void run_old_entries(void) {
  static const struct bytes kRows[] = {
      BYTES("int 0x80", 0xb8, 0x14, 0, 0, 0, 0xcd, 0x80),
      BYTES("sysenter", 0xb8, 0x14, 0, 0, 0, 0x0f, 0x34),
      BYTES("int 3 as int n", 0xcd, 0x03),
      BYTES("int 0x2e", 0xcd, 0x2e),
      BYTES("into", 0xce),
      BYTES("int1", 0xf1),
      BYTES("int3", 0xcc),
      BYTES("icebp behind mov ss", 0x8c, 0xd0, 0x8e, 0xd0, 0xf1),
      BYTES("int 0x80 behind mov ss", 0xb8, 0x2b, 0, 0, 0, 0x8e, 0xd0, 0xcd, 0x80),
      BYTES("call vsyscall", 0x48, 0xc7, 0xc0, 0x00, 0x00, 0x60, 0xff, 0xff, 0xd0),
      BYTES("vsyscall + 0x400", 0x48, 0xc7, 0xc0, 0x00, 0x04, 0x60, 0xff, 0xff, 0xd0),
  };
  RUN_BYTES(kRows);
  // x32 numbers are no second table.
  for (long number = 0; number < 600; ++number) {
    const long result = raw_call(0x40000000 | number, 0, 0, 0, 0, 0, 0);
    if (result != -38) breach("call %lx: %ld", 0x40000000 | number, result);
  }
}

static void run_software_interrupts(void) {
  make_code_page();
  for (int vector = 0; vector < 256; ++vector) {
    unsigned char* at = code_page + vector * 16;
    const unsigned char code[] = {0xb8, 0x14, 0, 0, 0, 0xcd, (unsigned char)vector, 0xc3};
    memcpy(at, code, sizeof(code));
    if (!is_refusal(attempt(code_run_bytes, (u64)at)))
      breach("int %d: signal %d", vector, caught.signal);
  }
}

// Flags that would change how the runtime's own code runs.
ATTACK_CODE(code_flags_over_call,
            "pushq $0x40602\n\tpopfq\n\tmovl $110, %%eax\n\tsyscall\n\tpushq $0x202\n\tpopfq")
ATTACK_CODE(code_unmasked_exceptions,
            "movl $0, (%%rsi)\n\tldmxcsr (%%rsi)\n\tmovw $0, (%%rsi)\n\tfldcw (%%rsi)\n\t"
            "movl $110, %%eax\n\tsyscall\n\tmovl $0x1f80, (%%rsi)\n\tldmxcsr (%%rsi)\n\tfninit")
ATTACK_CODE(code_full_x87,
            "fninit\n\t.rept 8\n\tfld1\n\t.endr\n\tmovl $110, %%eax\n\tsyscall\n\tfninit")
static void run_flags_over_calls(void) {
  static void (*const kRows[])(u64) = {code_flags_over_call, code_unmasked_exceptions,
                                       code_full_x87};
  for (size_t i = 0; i < 3; ++i) {
    const int signal_number = attempt(kRows[i], 0);
    if (signal_number != 0) breach("flags %zu: signal %d", i, signal_number);
    if (signal_number == 0 && attack_loot != (u64)CALL1(SYS_getppid, 0))
      breach("flags %zu: getppid gives %lx", i, attack_loot);
  }
}

const struct attack_case attack_cases[] = {
    {"jump_to_runtime", run_jump_to_runtime},
    {"jump_to_code_cache", run_jump_to_code_cache},
    {"jump_to_host_vdso", run_jump_to_host_vdso},
    {"jump_to_nowhere", run_jump_to_nowhere},
    {"privileged", run_privileged},
    {"wrpkru", run_wrpkru},
    {"rdpkru", run_rdpkru},
    {"xrstor_pkru", run_xrstor_pkru},
    {"selectors", run_selectors},
    {"segment_bases_hide_the_runtime", run_segment_bases_hide_the_runtime},
    {"far_transfers", run_far_transfers},
    {"old_entries", run_old_entries},
    {"software_interrupts", run_software_interrupts},
    {"flags_over_calls", run_flags_over_calls},
    {NULL, NULL},
};
