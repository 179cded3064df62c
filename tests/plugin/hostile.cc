// A library whose functions are out to harm whoever calls them: each does one thing to stack,
// control flow, state or memory that a plugin should not. Addresses come from the test, which knows
// the host's.
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

extern "C" {
int sound() { return 42; }

// ---- the stack

// Goes on with another stack pointer: pushes, calls and returns there.
void use_stack_at(unsigned long address) {
  __asm__ volatile(
      "movq %0, %%rsp\n\t"
      "pushq %%rax\n\t"
      "call 1f\n\t"
      "1: ret"
      :
      : "r"(address)
      : "memory");
}
// Leaves by the host's own gate, as a call that is over, with that stack.
void leave_with_stack_at(unsigned long address) {
  __asm__ volatile("movq %0, %%rsp\n\tsyscall"
                   :
                   : "r"(address), "a"(0x44420001u), "D"(7ul)
                   : "memory");
}
// Calls back with that stack: the host may call the plugin again from there.
void call_back_with_stack_at(void (*function)(), unsigned long address) {
  __asm__ volatile("movq %1, %%rsp\n\tcall *%0" : : "r"(function), "r"(address) : "memory");
}
void return_to(unsigned long address) {
  __asm__ volatile("pushq %0\n\tret" : : "r"(address) : "memory");
}
void fill_stack_with(unsigned long value) {
  auto* const frame = static_cast<unsigned long*>(__builtin_frame_address(0));
  for (int i = -8; i < 512; ++i) frame[i] = value;
}
void unmap_own_stack() {
  const auto here = reinterpret_cast<unsigned long>(__builtin_frame_address(0)) & ~4095ul;
  munmap(reinterpret_cast<void*>(here - 16 * 4096), 32 * 4096);
}
static jmp_buf of_an_older_call;
int remember_call() { return setjmp(of_an_older_call); }
void jump_to_older_call() { longjmp(of_an_older_call, 9); }

// ---- control flow

int call_at(unsigned long address) { return reinterpret_cast<int (*)()>(address)(); }
void jump_to(unsigned long address) { __asm__ volatile("jmp *%0" : : "r"(address)); }
// Every entry of this library's table of functions.
int overwrite_got(unsigned long value) {
  unsigned long *table = nullptr, size = 0;
  for (const ElfW(Dyn)* entry = _DYNAMIC; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_PLTGOT) table = reinterpret_cast<unsigned long*>(entry->d_un.d_ptr);
    if (entry->d_tag == DT_PLTRELSZ) size = entry->d_un.d_val;
  }
  const unsigned long count = 3 + size / sizeof(ElfW(Rela));
  for (unsigned long i = 1; i < count; ++i) table[i] = value;
  return getppid();
}
// The program that holds the gates, and the dynamic linker's data.
int overwrite_program(unsigned long value) {
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* raw) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& part = info->dlpi_phdr[i];
          if (part.p_type != PT_LOAD || info->dlpi_addr == 0) continue;
          const unsigned long start = (info->dlpi_addr + part.p_vaddr) & ~4095ul;
          const unsigned long size = (part.p_memsz + 8191) & ~4095ul;
          if (mprotect(reinterpret_cast<void*>(start), size, PROT_READ | PROT_WRITE) != 0) continue;
          for (unsigned long at = 0; at + 8 <= size; at += 8) {
            *reinterpret_cast<volatile unsigned long*>(start + at) =
                *static_cast<unsigned long*>(raw);
          }
        }
        return 0;
      },
      &value);
  return 0;
}

// ---- memory

unsigned long load_at(unsigned long address) {
  return *reinterpret_cast<volatile unsigned long*>(address);
}
void copy_bytes(unsigned long to, unsigned long from, unsigned long count) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}
void copy_backwards(unsigned long to, unsigned long from, unsigned long count) {
  __asm__ volatile("std\n\trep movsb\n\tcld" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}
void store_wide(unsigned long address) {
  __asm__ volatile("pxor %%xmm0, %%xmm0\n\tmovdqu %%xmm0, (%0)"
                   :
                   : "r"(address)
                   : "xmm0", "memory");
}
void store_state(unsigned long address) {
  __asm__ volatile("xsave (%0)" : : "r"(address), "a"(7), "d"(0) : "memory");
}
void free_pointer(void* pointer) { free(pointer); }
int discard(void* pointer, unsigned long size) {
  return madvise(pointer, size, MADV_DONTNEED) == 0 ? 0 : errno;
}
int move_away(void* pointer, unsigned long size) {
  return mremap(pointer, size, size * 2, MREMAP_MAYMOVE) == MAP_FAILED ? errno : 0;
}
// What it may unmap of everything, itself included.
void unmap_everything() {
  for (unsigned long at = 0; at < 0x1'0000'0000; at += 0x1000'0000) {
    syscall(SYS_munmap, at, 0x1000'0000);
  }
}
int map_beyond(unsigned long address) {
  return mmap(reinterpret_cast<void*>(address), 0x10000, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED
             ? errno
             : 0;
}
int read_into(unsigned long address, unsigned long size) {
  const int fd = open("/etc/ld.so.cache", O_RDONLY);
  const long got = syscall(SYS_read, fd, address, size);
  const int error = errno;
  close(fd);
  return got >= 0 ? 0 : error;
}
int write_from(unsigned long address, unsigned long size) {
  return syscall(SYS_write, 1, address, size) >= 0 ? 0 : errno;
}
int write_vector_at(unsigned long address, unsigned long count) {
  return syscall(SYS_writev, 1, address, count) >= 0 ? 0 : errno;
}
int vector_of(unsigned long address, unsigned long size) {
  const iovec vector{reinterpret_cast<void*>(address), size};
  return syscall(SYS_writev, 1, &vector, 1) >= 0 ? 0 : errno;
}
// Every system call with the same word for all arguments.
int call_everything(unsigned long word) {
  for (long number = 0; number < 512; ++number) {
    if (number == SYS_exit || number == SYS_exit_group || number == SYS_rt_sigreturn ||
        number == SYS_pause || number == SYS_rt_sigsuspend || number == SYS_munmap ||
        number == SYS_mprotect || number == SYS_mmap || number == SYS_mremap ||
        number == SYS_arch_prctl || number == SYS_rt_sigtimedwait || number == SYS_poll) {
      continue;
    }
    syscall(number, word, word, word, word, word, word);
  }
  return 42;
}

// ---- signals

int raise_all(int how) {
  for (int number = 1; number <= 64; ++number) {
    if (number == SIGKILL || number == SIGSTOP) continue;
    signal(number, SIG_IGN);
    switch (how) {
      case 0:
        raise(number);
        break;
      case 1:
        kill(getpid(), number);
        break;
      case 2:
        syscall(SYS_tkill, gettid(), number);
        break;
      default:
        kill(0, number);
        break;
    }
  }
  return 42;
}
int handle_with(int number, unsigned long handler, unsigned long stack, unsigned long restorer) {
  struct {
    unsigned long handler, flags, restorer, mask;
  } const action{handler, 0x0400'0000 | (stack != 0 ? 0x0800'0000ul : 0), restorer, 0};
  if (stack != 0) {
    const stack_t alternate{reinterpret_cast<void*>(stack), 0, 65536};
    if (sigaltstack(&alternate, nullptr) != 0) return errno;
  }
  if (syscall(SYS_rt_sigaction, number, &action, nullptr, 8) != 0) return errno;
  return raise(number);
}
void block_all_and_trap() {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
  __asm__ volatile("ud2");
}
static unsigned long wanted_rip, wanted_rsp, wanted_flags, wanted_selectors, wanted_state;
// Returns from a handler with registers as the test wants them.
void forge_frame(unsigned long rip, unsigned long rsp, unsigned long flags, unsigned long selectors,
                 unsigned long state) {
  wanted_rip = rip, wanted_rsp = rsp, wanted_flags = flags, wanted_selectors = selectors;
  wanted_state = state;
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int, siginfo_t*, void* raw) {
    auto& context = static_cast<ucontext_t*>(raw)->uc_mcontext;
    if (wanted_rip != 0) context.gregs[REG_RIP] = static_cast<long>(wanted_rip);
    if (wanted_rsp != 0) context.gregs[REG_RSP] = static_cast<long>(wanted_rsp);
    if (wanted_flags != 0) context.gregs[REG_EFL] = static_cast<long>(wanted_flags);
    if (wanted_selectors != 0) context.gregs[REG_CSGSFS] = static_cast<long>(wanted_selectors);
    if (wanted_state == 1) context.fpregs = reinterpret_cast<fpregset_t>(0xffff'ffff'ff00ul);
    if (wanted_state == 2) memset(context.fpregs, 0xff, 1024);
    if (wanted_state == 3) context.fpregs = reinterpret_cast<fpregset_t>(0xffff'fff0ul);
  };
  sigaction(SIGUSR1, &action, nullptr);
  raise(SIGUSR1);
}
void return_from_no_handler() { __asm__ volatile("syscall" : : "a"(15) : "rcx", "r11", "memory"); }

// ---- the state of the thread

void set_flags(unsigned long flags) {
  __asm__ volatile("pushfq\n\torq %0, (%%rsp)\n\tpopfq" : : "r"(flags) : "cc", "memory");
}
// The upper halves, where there are any.
static void DirtyWideRegisters() {
  if (__builtin_cpu_supports("avx2")) {
    __asm__ volatile("vpcmpeqd %%ymm9, %%ymm9, %%ymm9" : : : "xmm9");
  }
}
// With everything changed that a function has to leave alone.
int call_back_in_a_mess(int (*function)(int), unsigned long flags) {
  const unsigned mxcsr = 0x7f80;  // rounds towards zero, flushes; exceptions masked
  const unsigned short control = 0x0c3f;
  __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
  __asm__ volatile("fldcw %0; fldz; fldz; fldz; fldz; fldz; fldz; fldz; fldz" : : "m"(control));
  DirtyWideRegisters();
  int result = 0;
  __asm__ volatile(
      "pushfq\n\torq %2, (%%rsp)\n\tpopfq\n\t"
      "call *%1\n\t"
      "pushfq\n\tandq $~0x40500, (%%rsp)\n\tpopfq\n\tcld"
      : "=a"(result)
      : "r"(function), "r"(flags), "D"(5)
      : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "cc", "memory");
  return result;
}
void trap_in_a_mess(unsigned long flags) {
  const unsigned mxcsr = 0x7f80;
  const unsigned short control = 0x0c3f;
  __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
  __asm__ volatile("fldcw %0; fldz; fldz; fldz; fldz; fldz; fldz; fldz; fldz" : : "m"(control));
  DirtyWideRegisters();
  __asm__ volatile("pushfq\n\torq %0, (%%rsp)\n\tpopfq\n\tud2" : : "r"(flags) : "cc", "memory");
}
void set_fs_base(unsigned long base) { syscall(SYS_arch_prctl, 0x1002, base); }
void write_fs_base(unsigned long base) { __asm__ volatile("wrfsbase %0" : : "r"(base)); }
void write_gs_base(unsigned long base) {
  __asm__ volatile("wrgsbase %0\n\tmovq %%gs:0, %%rax" : : "r"(base) : "rax", "memory");
}
void load_segment() {
  __asm__ volatile("movl $0x2b, %%eax\n\tmovl %%eax, %%fs\n\tmovl %%eax, %%gs\n\tmovl %%eax, %%ds"
                   :
                   :
                   : "rax");
}

// ---- never returning

void wait_in(int how) {
  sigset_t all;
  sigfillset(&all);
  switch (how) {
    case 0:
      for (;;) __asm__ volatile("pause");
    case 1: {
      auto to = reinterpret_cast<unsigned long>(&all);
      for (;;) {
        unsigned long count = 1;
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0) : "memory");
        to = reinterpret_cast<unsigned long>(&all);
      }
    }
    case 2:
      sigprocmask(SIG_BLOCK, &all, nullptr);
      for (;;) syscall(SYS_sched_yield);
    case 3: {
      const timespec long_time{1000, 0};
      for (;;) nanosleep(&long_time, nullptr);
    }
    case 4: {
      static jmp_buf here;
      if (setjmp(here) >= 0) longjmp(here, 1);
      break;
    }
    default: {
      pthread_cond_t never = PTHREAD_COND_INITIALIZER;
      pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
      pthread_mutex_lock(&mutex);
      for (;;) pthread_cond_wait(&never, &mutex);
    }
  }
}

// ---- threads of its own

static int (*of_threads)(int);
static void* CallForEver(void*) {
  for (;;) of_threads(1);
}
static void* CallGate(void* raw) {
  __asm__ volatile("syscall" : : "a"(raw), "D"(1ul) : "rcx", "r11", "memory");
  return nullptr;
}
static void* Leave(void*) { _exit(5); }
int start_threads_that_call(int (*function)(int), int count) {
  of_threads = function;
  int started = 0;
  for (pthread_t thread; started < count; ++started) {
    if (pthread_create(&thread, nullptr, CallForEver, nullptr) != 0) break;
  }
  return started;
}
int start_thread_at_gate(unsigned long gate) {
  pthread_t thread;
  return pthread_create(&thread, nullptr, CallGate, reinterpret_cast<void*>(gate));
}
void start_thread_that_leaves() {
  pthread_t thread;
  pthread_create(&thread, nullptr, Leave, nullptr);
}
int join_thread_at_gate(unsigned long gate) {
  pthread_t thread;
  if (pthread_create(&thread, nullptr, CallGate, reinterpret_cast<void*>(gate)) != 0) return 1;
  return pthread_join(thread, nullptr);
}
// The guest thread that is lent to the host ends itself.
void end_this_thread() { pthread_exit(nullptr); }
int call_back(int (*function)(int), int value) { return function(value) + 1; }
}
