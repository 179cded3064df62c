// Run in the lab under --ring=0: a program in ring 0 that wrecks its own virtual machine or forges what the host sees. Each attack is
// a word on the command line and a process of its own; tests/lab/guest_ring0 says how each has to end.
//
// The runtime must end it cleanly: never hang, never follow a pointer of the program's, never touch memory that is not the guest's.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static sigjmp_buf back;
static void on_signal(int signal) { siglongjmp(back, signal); }
static void catch_faults(void) {
  const int all[] = {SIGSEGV, SIGILL, SIGBUS, SIGTRAP, SIGFPE};
  for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++) signal(all[i], on_signal);
}

static uint64_t read_cr3(void) {
  uint64_t value;
  __asm__ volatile("mov %%cr3, %0" : "=r"(value));
  return value;
}
static void wrmsr(uint32_t index, uint64_t value) {
  __asm__ volatile("wrmsr" ::"c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}
struct __attribute__((packed)) table_register {
  uint16_t limit;
  uint64_t base;
};

// ---- its own virtual CPU ------------------------------------------------------------------------

static void no_idt(void) {
  const struct table_register none = {0, 0};
  __asm__ volatile("lidt %0; int3" ::"m"(none));
}
static void no_gdt(void) {
  const struct table_register none = {0, 0};
  __asm__ volatile("lgdt %0; push $8; lea 1f(%%rip), %%rax; push %%rax; lretq; 1: nop" ::"m"(none) : "rax");
}
// KVM looks for the instruction in tables that are not there, again and again, inside KVM_RUN: as endless as a loop of the program's,
// and a signal has to end it as well.
static void no_tables(void) {
  alarm(3);
  __asm__ volatile("mov %0, %%cr3; nop" ::"r"(0x3ffffff000ul));
}
static void no_paging(void) {
  __asm__ volatile("mov %%cr0, %%rax; btr $31, %%rax; mov %%rax, %%cr0; nop" ::: "rax");
}
static void no_stack_segment(void) {
  // A TSS that is not there, then a fault.
  __asm__ volatile("str %%ax; xor %%ax, %%ax; lldt %%ax; mov $0x10, %%ax; ltr %%ax; ud2" ::: "rax");
}
static void halt(void) { __asm__ volatile("cli; hlt"); }
static void soft_page_fault(void) { __asm__ volatile("int $14"); }
static void entry_elsewhere(void) {
  wrmsr(0xc0000082, 0x400000000000);  // the runtime's half
  syscall(SYS_getpid);
}
static void write_protection_off(void) {
  __asm__ volatile("mov %%cr0, %%rax; btr $16, %%rax; mov %%rax, %%cr0" ::: "rax");
  *(volatile char *)(uintptr_t)&no_idt = 0;  // text: the host's mapping is read-only
}

// Values that no program would write, to every register that KVM may know. The process goes on.
static void model_registers(void) {
  static const uint32_t first[] = {0, 0x10, 0x1b, 0x3a, 0x79, 0x8b, 0xc1, 0x174, 0x186, 0x1a0, 0x1d9, 0x200, 0x250, 0x277, 0x2ff,
                                   0x345, 0x38d, 0x400, 0x480, 0x4c1, 0x600, 0x6e0, 0x800, 0xd90, 0xda0, 0x40000000, 0x40000100,
                                   0x4b564d00, 0xc0000080, 0xc0000103, 0xc0010000, 0xc0010010, 0xc0010114, 0xc0011020};
  const uint64_t values[] = {0, 1, ~0ul, 0x4000000000000001, 0x400000001000, 0x8000000000000000};
  static int written, refused;
  catch_faults();
  for (volatile unsigned i = 0; i < sizeof(first) / sizeof(*first); i++) {
    for (volatile uint32_t index = first[i]; index < first[i] + 4; index++) {
      for (volatile unsigned v = 0; v < sizeof(values) / sizeof(*values); v++) {
        if (index == 0xc0000080 || index == 0xc0000081 || index == 0xc0000082) continue;  // others' attacks
        if (index == 0xc0000083) continue;
        if (sigsetjmp(back, 1) == 0) {
          wrmsr(index, values[v]);
          written++;
        } else {
          refused++;
        }
      }
    }
  }
  __asm__ volatile("mov %0, %%cr8" ::"r"(15ul));
  __asm__ volatile("mov %0, %%cr8" ::"r"(0ul));
  printf("still here: %s\n", written > 0 && refused > 0 ? "some written, some refused" : "unexpected");
  exit(written > 0 && refused > 0 ? 0 : 1);
}

// ---- forged hypercalls --------------------------------------------------------------------------

static uint64_t entry_point(unsigned field) {
  return 0xffffff8000000000 + *(volatile uint64_t *)(0xffffff8000000000 + 8ul * field);
}

static void forged_trap(void) {
  // To the OUT of the trap path, with the stack pointer in the runtime's half.
  __asm__ volatile("mov $0x7fffffff0000, %%rsp; jmp *%0" ::"r"(entry_point(2)));
}

// The frame at the right place, but nothing in it is true.
static void forged_frame(void) {
  uint64_t words[7] = {0xffffffffffff000e, ~0ul, 0x7f0000001000, 0xdead, ~0ul, 0x7f0000002000, 0xbeef};
  struct table_register gdt;
  __asm__ volatile("sgdt %0" : "=m"(gdt));
  char *frame = (char *)gdt.base + 0xc00 - sizeof(words);
  memcpy(frame, words, sizeof(words));
  __asm__ volatile("mov %0, %%rsp; jmp *%1" ::"r"(frame), "r"(entry_point(2)));
}

// Ports elsewhere, and calls with the runtime's addresses. The process goes on.
static void forged_calls(void) {
  static int refused, bad;
  catch_faults();
  for (volatile unsigned port = 0xcf; port < 0xd5; port++) {
    if (sigsetjmp(back, 1) == 0) {
      __asm__ volatile("out %%al, %%dx" ::"a"(0), "d"(port));
    } else {
      refused++;
    }
    if (sigsetjmp(back, 1) == 0) {
      uint32_t value;
      __asm__ volatile("in %%dx, %%eax" : "=a"(value) : "d"(port));
    } else {
      refused++;
    }
  }
  const uint64_t wild[] = {0x400000000000, 0x7ffff0000000, 0x7fffffffe000, 0xffffff8000000000, 0xffff800000000000, ~0xffful};
  for (unsigned i = 0; i < sizeof(wild) / sizeof(*wild); i++) {
    bad += syscall(SYS_read, 0, wild[i], 64) >= 0;
    bad += syscall(SYS_write, 1, wild[i], 64) >= 0;
    bad += syscall(SYS_uname, wild[i]) >= 0;
    bad += syscall(SYS_munmap, wild[i], 4096) >= 0;
    bad += (long)syscall(SYS_mmap, wild[i], 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) >= 0;
    bad += syscall(SYS_rt_sigaction, SIGUSR1, wild[i], 0, 8) >= 0;
  }
  printf("still here: %d port instructions refused, %d calls let through\n", refused, bad);
  exit(refused == 12 && bad == 0 ? 0 : 1);
}

// ---- physical memory ----------------------------------------------------------------------------

// Tables of its own: they map this memory where it is, and guest-physical 0 to 1 GiB, the arena, at kArena.
static struct {
  uint64_t root[512], upper[512], middle[512], lower[512], arena_upper[512], arena_middle[512];
  unsigned char code[4096];
} own __attribute__((aligned(2 << 20)));
#define ARENA 0x008000000000ul /* entry 1 of the root */

// RDI = CR3 for the time, RSI = address, RDX = value, RCX = words; 0 words: reads one. No stack is used.
__asm__(".pushsection .text\n"
        "physical_code:\n"
        "  mov %cr3, %r8\n"
        "  mov %rdi, %cr3\n"
        "  mov %rsi, %rdi\n"
        "  mov (%rdi), %r9\n"
        "  mov %rdx, %rax\n"
        "  rep stosq\n"
        "  mov %r8, %cr3\n"
        "  mov %r9, %rax\n"
        "  ret\n"
        "physical_code_end:\n"
        ".popsection\n");
extern char physical_code[], physical_code_end[];
static uint64_t (*physical)(uint64_t cr3, uint64_t address, uint64_t value, uint64_t words);
static uint64_t own_cr3;

// The window's granules of 1 GiB lie from 4 GiB on in the order of their first use: a guess.
static void make_tables(unsigned granule) {
  const uint64_t at = (uint64_t)&own, physical_at = (4ul << 30) + ((uint64_t)granule << 30) + (at & ((1ul << 30) - 1));
  memset(&own, 0, sizeof(own));
  memcpy(own.code, physical_code, (size_t)(physical_code_end - physical_code));
  const uint64_t page = 4096;
  own.root[at >> 39 & 511] = (physical_at + page) | 7;
  own.upper[at >> 30 & 511] = (physical_at + 2 * page) | 7;
  own.middle[at >> 21 & 511] = (physical_at + 3 * page) | 7;
  for (unsigned i = 0; i < 7; i++) own.lower[(at >> 12 & 511) + i] = (physical_at + i * page) | 7;
  own.root[1] = (physical_at + 4 * page) | 7;
  own.arena_upper[0] = (physical_at + 5 * page) | 7;
  for (unsigned i = 0; i < 512; i++) own.arena_middle[i] = ((uint64_t)i << 21) | 0x87;
  mprotect(&own, sizeof(own), PROT_READ | PROT_WRITE | PROT_EXEC);
  own_cr3 = physical_at;
  physical = (void *)own.code;
}

// Every unused entry of the root becomes a wild one; then the host has work to do in all of them.
static void forge_tables(volatile int *done) {
  const uint64_t root = ARENA + (read_cr3() & ~0xffful);
  for (unsigned i = 0; i < 256; i++) {
    const uint64_t forged[] = {0x000ffffffffff007, 0x0000007ffffff007, (read_cr3() & ~0xffful) | 7};
    const uint64_t entry = physical(own_cr3, root + 8 * i, 0, 0);
    if ((entry & 1) == 0) physical(own_cr3, root + 8 * i, forged[i % 3], 1);
  }
  for (unsigned i = 2; i < 120; i++) {
    char *at = (char *)((uint64_t)i << 39) + (3ul << 30);
    if (mmap(at, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at) continue;
    memset(at, 5, 8192);
    if (at[4096] != 5) _exit(3);
    munmap(at, 8192);
  }
  munmap((void *)(2ul << 39), 16ul << 39);
  *done = 1;
  _exit(0);
}
// Tables, descriptors, stacks and image of everybody.
static void fill_arena(volatile int *done) {
  const uint64_t values[] = {0, ~0ul, 0x000ffffffffff007};
  *done = 1;
  physical(own_cr3, ARENA, values[(unsigned)getpid() % 3], (16ul << 20) / 8);
  syscall(SYS_getpid);
  _exit(0);
}

static void with_physical(void (*attack)(volatile int *)) {
  volatile int *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (unsigned granule = 0; granule < 6 && !*done; granule++) {
    const pid_t child = fork();
    if (child == 0) {
      make_tables(granule);
      physical(own_cr3, ARENA, 0, 0);  // a wrong guess dies here
      attack(done);
    }
    int status = 0;
    waitpid(child, &status, 0);
    printf("guess %u: %s %d\n", granule, WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 3) exit(1);
  }
  printf("still here: %s\n", *done ? "the attack was made" : "no guess was right");
  exit(*done ? 0 : 1);
}
static void forged_tables(void) { with_physical(forge_tables); }
static void trashed_arena(void) { with_physical(fill_arena); }

static const struct {
  const char *name;
  void (*run)(void);
} attacks[] = {{"no_idt", no_idt},
               {"no_gdt", no_gdt},
               {"no_tables", no_tables},
               {"no_paging", no_paging},
               {"no_stack_segment", no_stack_segment},
               {"halt", halt},
               {"soft_page_fault", soft_page_fault},
               {"entry_elsewhere", entry_elsewhere},
               {"write_protection_off", write_protection_off},
               {"model_registers", model_registers},
               {"forged_trap", forged_trap},
               {"forged_frame", forged_frame},
               {"forged_calls", forged_calls},
               {"forged_tables", forged_tables},
               {"trashed_arena", trashed_arena}};

int main(int count, char **words) {
  setvbuf(stdout, NULL, _IONBF, 0);
  for (unsigned i = 0; count == 2 && i < sizeof(attacks) / sizeof(*attacks); i++) {
    if (strcmp(words[1], attacks[i].name) != 0) continue;
    attacks[i].run();
    puts("the attack came back");
    return 3;
  }
  return 2;
}
