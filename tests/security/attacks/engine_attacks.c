// What the engine has to hold: addresses that change, odd ways into the kernel, odd state.
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attack.h"

static char own_bytes[64];
static struct iovec changing_vector = {own_bytes, sizeof(own_bytes)};

static void change_vector(void) {
  *(void* volatile*)&changing_vector.iov_base = RUNTIME_ADDRESS;
  stay_a_moment();
  *(void* volatile*)&changing_vector.iov_base = own_bytes;
  stay_a_moment();
}

static void vector_race(void) {
  int ends[2];
  char got[sizeof(own_bytes)];
  unsigned written = 0;
  if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return hole("no pipe: %d", errno);
  memset(own_bytes, 'o', sizeof(own_bytes));
  begin_race(change_vector);
  while (still_racing()) {
    if (writev(ends[1], &changing_vector, 1) <= 0) continue;
    ++written;
    for (ssize_t i = 0, count = read(ends[0], got, sizeof(got)); i < count; ++i) {
      if (got[i] != 'o') hole("a byte of the runtime's: %x", got[i]);
    }
  }
  end_race();
  if (written == 0) hole("nothing was written, so nothing was tried");
}

// The control length changes under sendmsg.
static struct msghdr changing_message;
static void change_length(void) {
  *(volatile size_t*)&changing_message.msg_controllen = ~0ul >> 1;
  stay_a_moment();
  *(volatile size_t*)&changing_message.msg_controllen = 0x100000;
  stay_a_moment();
  *(volatile size_t*)&changing_message.msg_controllen = CMSG_SPACE(sizeof(int));
  stay_a_moment();
}

static void message_race(void) {
  int pair[2];
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec data = {own_bytes, 1};
  if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) != 0) return hole("no sockets: %d", errno);
  changing_message = (struct msghdr){.msg_iov = &data, .msg_iovlen = 1, .msg_control = control};
  struct cmsghdr* const header = (struct cmsghdr*)control;
  *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
  begin_race(change_length);
  while (still_racing()) {
    char bytes[64];
    sendmsg(pair[0], &changing_message, MSG_DONTWAIT);
    recv(pair[1], bytes, sizeof(bytes), MSG_DONTWAIT);
  }
  end_race();
}

// ---- Instructions -------------------------------------------------------------------------------

static void move_ss_int3(void) { __asm__ volatile("mov %%ss, %%eax; mov %%eax, %%ss; int3" ::: "rax"); }
static void move_ss_call(void) {
  __asm__ volatile("mov %%ss, %%ecx; mov %%ecx, %%ss; syscall" ::"a"(SYS_getpid) : "rcx", "r11", "memory");
}
static void move_ss_icebp(void) { __asm__ volatile("mov %%ss, %%eax; mov %%eax, %%ss; .byte 0xf1" ::: "rax"); }
static void move_ss_step(void) {
  __asm__ volatile("pushfq; orl $0x100, (%%rsp); mov %%ss, %%eax; popfq; mov %%eax, %%ss; nop; nop" ::: "rax", "cc");
}
static void stack_segment(void) {
  const int int3 = signal_of(move_ss_int3), icebp = signal_of(move_ss_icebp), step = signal_of(move_ss_step);
  if (int3 == 0) hole("int3 behind mov ss does nothing");
  if (icebp == 0) hole("icebp behind mov ss does nothing");
  if (step == 0) hole("a step over mov ss is lost");
  signal_of(move_ss_call);
}

static void int80(void) { __asm__ volatile("int $0x80" ::"a"(20) : "memory"); }
static void sysenter(void) { __asm__ volatile("sysenter" ::"a"(20) : "memory"); }
static void far_jump(void) {
  // retf to the 32-bit code segment, at an address that both can hold.
  __asm__ volatile("pushq $0x23; lea 1f(%%rip), %%rax; push %%rax; lretq; 1: ud2" ::: "rax", "memory");
}
static void other_entries(void) {
  if (signal_of(int80) == 0) hole("int 0x80 is a call");
  if (signal_of(sysenter) == 0) hole("sysenter is a call");
  if (signal_of(far_jump) == 0) hole("32-bit code runs");
  // The numbers of x32, and those with something in the upper half, would be others to a filter.
  for (long number = 0; number < 600; ++number) {
    if (syscall(number | 0x40000000) != -1 || errno != ENOSYS) hole("x32 call %ld", number);
  }
  const long file = syscall(0x40000000 | SYS_openat, AT_FDCWD, in_work("secret/canary"), O_RDONLY);
  must_not_be_secret("x32 openat", (int)file);
}

static void call_vsyscall(void) { ((long (*)(void*))0xffffffffff600400)(NULL); }
static void read_vsyscall(void) { (void)*(volatile char*)0xffffffffff600000; }
static void vsyscall_page(void) {
  const int called = signal_of(call_vsyscall), was_read = signal_of(read_vsyscall);
  if (called != 0 && called != SIGSEGV) hole("a call ends with signal %d", called);
  if (was_read != 0 && was_read != SIGSEGV) hole("a read ends with signal %d", was_read);
}

static uint16_t selector;
static void load_selector(void) { __asm__ volatile("mov %0, %%fs" ::"r"((uint32_t)selector)); }
static void far_call(void) {
  struct __attribute__((packed)) {
    uint64_t offset;
    uint16_t selector;
  } gate = {0x1000, selector};
  __asm__ volatile("rex.w lcall *%0" ::"m"(gate) : "memory");
}
static void try_selector(void) {
  signal_of(far_call);
  signal_of(load_selector);
}
static void descriptor_tables(void) {
  struct {
    unsigned entry, base, limit, flags;
  } description = {0, 0, 0xfffff, 0x51};
  refused("modify_ldt", syscall(SYS_modify_ldt, 1, &description, sizeof(description)));
  refused("set_thread_area", syscall(SYS_set_thread_area, &description));
  static const uint16_t kSelectors[] = {0x08, 0x10, 0x40, 0x07, 0x0f, 0x23, 0x2b, 0xfffb};
  for (int i = 0; i < 8; ++i) {
    selector = kSelectors[i];
    // FS is spoiled there; what counts is that the child is all that can come to harm.
    status_of_child(try_selector);
  }
  uint16_t code;
  __asm__ volatile("mov %%cs, %0" : "=r"(code));
  if ((code & 3) != 3) hole("privilege level %d", code & 3);
}

// ---- Writes of the kernel's ---------------------------------------------------------------------

static void* leave_addresses(void* unused) {
  (void)unused;
  syscall(SYS_set_robust_list, RUNTIME_ADDRESS, 24);
  syscall(SYS_set_tid_address, RUNTIME_ADDRESS);
  syscall(SYS_exit, 0);
  return NULL;
}
static void leave_process(void) { leave_addresses(NULL); }

static void kernel_writes(void) {
  refused("rseq", syscall(SYS_rseq, RUNTIME_ADDRESS, 32, 0, 0x53053053));
  refused("get_robust_list", syscall(SYS_get_robust_list, 0, RUNTIME_ADDRESS, RUNTIME_ADDRESS));
  refused("futex", syscall(SYS_futex, RUNTIME_ADDRESS, FUTEX_WAKE, 1, NULL, NULL, 0));
  static uint32_t word;
  refused("futex requeue", syscall(SYS_futex, &word, FUTEX_CMP_REQUEUE, 1, 1, RUNTIME_ADDRESS, 0));
  void* pages[] = {RUNTIME_ADDRESS};
  int nodes[] = {0}, status[] = {-1};
  if (syscall(SYS_move_pages, 0, 1, pages, nodes, status, 0) == 0 && status[0] >= 0) hole("move_pages moved the runtime's");
  for (int i = 0; i < 20; ++i) {
    const int left = status_of_child(leave_process);
    if (left != 0) hole("the end of a process: %x", (unsigned)left);
  }
}

// ---- What the processor tells -------------------------------------------------------------------

static void read_counter(void) { __asm__ volatile("rdpmc" ::"c"(0) : "rax", "rdx"); }
static void read_register(void) { __asm__ volatile("rdmsr" ::"c"(0x10) : "rax", "rdx"); }

static void processor_facts(void) {
  unsigned a, b, c, d;
  if (signal_of(read_counter) == 0) hole("rdpmc counts");
  if (signal_of(read_register) == 0) hole("rdmsr reads");
  // What is hidden because its state would be nobody's: AMX.
  __cpuid_count(7, 0, a, b, c, d);
  if ((d & (1u << 24)) != 0 || (d & (1u << 22)) != 0 || (d & (1u << 25)) != 0) hole("AMX is shown");
  __cpuid_count(13, 0, a, b, c, d);
  if ((a & 0x60000) != 0) hole("its state is shown");
  // A mitigation that the caller has switched on stays on.
  const int before = prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0);
  prctl(PR_SET_SPECULATION_CTRL, 0, 2 /* PR_SPEC_ENABLE */, 0, 0);
  const int after = prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0);
  if (before > 0 && (before & 4) != 0 && after != before) hole("speculation: %x, was %x", after, before);
  contained("side channels are out of scope");
}

const struct attack engine_attacks[] = {
    {"vector_race", vector_race},
    {"message_race", message_race},
    {"stack_segment", stack_segment},
    {"other_entries", other_entries},
    {"vsyscall_page", vsyscall_page},
    {"descriptor_tables", descriptor_tables},
    {"kernel_writes", kernel_writes},
    {"processor_facts", processor_facts},
    {NULL, NULL},
};
