// Gives system calls addresses of the runtime's in every place where a call takes one: in
// arguments, in structures, in lists of them, for later.
#include <arpa/inet.h>
#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "attack.h"

static int files[8];  // of kinds that answer differently
enum { kFile, kPipeOut, kPipeIn, kSocket, kSocketPeer, kZero, kNull, kEvents };

static void open_files(void) {
  files[kFile] = (int)CALL2(SYS_memfd_create, "attacked", 0);
  static const char kText[4096] = "ordinary text";
  (void)!write(files[kFile], kText, sizeof(kText));
  int pair[2];
  (void)!pipe2(pair, O_NONBLOCK);
  files[kPipeOut] = pair[0], files[kPipeIn] = pair[1];
  socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
  files[kSocket] = pair[0], files[kSocketPeer] = pair[1];
  files[kZero] = open("/dev/zero", O_RDWR);
  files[kNull] = open("/dev/null", O_RDWR);
  files[kEvents] = epoll_create1(0);
}

// Places to write to and to read from.
static void for_each_address(void (*attack)(const char* place, u64 address)) {
  for (int i = 0; i < place_count; ++i) {
    if (places[i].write != 0) attack(places[i].name, places[i].write);
    attack(places[i].name, places[i].read);
    attack(places[i].name, places[i].start);
  }
  attack("the edge", USER_HALF_END);
  attack("before the edge", USER_HALF_END - 1);
  attack("nowhere", 0x800000000000);
  attack("the kernel's half", 0xffff800000000000);
  attack("the last page", 0xfffffffffffff000);
}

#define EXPECT_FAULT(what, result)                                             \
  do {                                                                         \
    const long got = (result);                                                 \
    if (got >= 0) breach("%s at %s %lx gives %ld", what, place, address, got); \
  } while (0)

// What came through a pipe or a socket is what the kernel read at an address.
static void drain(const char* what, const char* place, u64 address) {
  unsigned char buffer[8192];
  for (int i = 0; i < 2; ++i) {
    const ssize_t got = read(files[i == 0 ? kPipeOut : kSocketPeer], buffer, sizeof(buffer));
    if (got >= 8) {
      u64 value;
      memcpy(&value, buffer, 8);
      say("loot %s %s %lx 8 %lx", what, place, address, value);
    }
    if (got > 0) breach("%s at %s %lx: %zd bytes came through", what, place, address, got);
  }
}

// ---- every call of the table
// -----------------------------------------------------------------------

struct table_row {
  int number;
  const char* name;
  const char* arguments;
};
static const struct table_row kTable[] = {
#define SYSCALL(number, name, route, family, note, ...) {number, #name, #__VA_ARGS__},
#include "hostcalls/table/syscalls.inc"
#undef SYSCALL
};

// What would end or hang this program or touch the machine, whatever it is given.
static int is_left_out(int number) {
  static const int kLeftOut[] = {SYS_exit,
                                 SYS_exit_group,
                                 SYS_fork,
                                 SYS_vfork,
                                 SYS_clone,
                                 SYS_pause,
                                 SYS_rt_sigreturn,
                                 SYS_kill,
                                 SYS_tkill,
                                 SYS_tgkill,
                                 SYS_close,
                                 SYS_close_range,
                                 SYS_dup2,
                                 SYS_dup3,
                                 SYS_reboot,
                                 SYS_sync,
                                 SYS_syncfs,
                                 SYS_vhangup,
                                 SYS_setsid,
                                 SYS_setuid,
                                 SYS_setgid,
                                 SYS_setreuid,
                                 SYS_setregid,
                                 SYS_setresuid,
                                 SYS_setresgid,
                                 SYS_setfsuid,
                                 SYS_setfsgid,
                                 SYS_setgroups,
                                 SYS_capset,
                                 SYS_chroot,
                                 SYS_setrlimit,
                                 SYS_prlimit64,
                                 SYS_sethostname,
                                 SYS_setdomainname,
                                 SYS_settimeofday,
                                 SYS_clock_settime,
                                 SYS_adjtimex,
                                 SYS_clock_adjtime,
                                 SYS_syslog,
                                 SYS_shmget,
                                 SYS_semget,
                                 SYS_msgget,
                                 SYS_fallocate,
                                 SYS_wait4,
                                 SYS_waitid,
                                 SYS_rt_sigsuspend,
                                 SYS_rt_sigtimedwait,
                                 SYS_munmap,
                                 SYS_mprotect,
                                 SYS_mmap,
                                 SYS_mremap,
                                 SYS_brk,
                                 SYS_arch_prctl,
                                 SYS_set_tid_address,
                                 SYS_personality,
                                 SYS_sched_setscheduler,
                                 SYS_sched_setparam,
                                 SYS_setpriority,
                                 SYS_ioprio_set,
                                 SYS_umask,
                                 SYS_rt_sigprocmask,
                                 SYS_rt_sigaction,
                                 SYS_sigaltstack,
                                 SYS_alarm,
                                 SYS_setitimer,
                                 SYS_ftruncate,
                                 SYS_set_robust_list};
  for (size_t i = 0; i < sizeof(kLeftOut) / sizeof(int); ++i) {
    if (kLeftOut[i] == number) return 1;
  }
  return 0;
}

// The kind of argument `index`: the word before its bracket; Nullable(...) is looked through.
static int kind_of(const char* arguments, int index, char* kind, size_t size) {
  int depth = 0, at = 0;
  const char* start = arguments;
  for (const char* c = arguments;; ++c) {
    if (*c == '(' || *c == '{') ++depth;
    if (*c == ')' || *c == '}') --depth;
    if (*c != 0 && !(*c == ',' && depth == 0)) continue;
    if (at++ == index) break;
    if (*c == 0) return 0;
    start = c + 1;
  }
  while (*start == ' ') ++start;
  if (strncmp(start, "Nullable(", 9) == 0) start += 9;
  size_t length = 0;
  while (length + 1 < size && start[length] != '(' && start[length] != 0) {
    kind[length] = start[length];
    ++length;
  }
  kind[length] = 0;
  return length != 0;
}

static int is_pointer(const char* kind) {
  static const char* const kPointers[] = {"Address",     "Path",       "String",     "StringArray",
                                          "BufferIn",    "BufferOut",  "StructIn",   "StructOut",
                                          "StructInOut", "ArrayIn",    "ArrayOut",   "ArrayInOut",
                                          "IovecIn",     "IovecOut",   "SockaddrIn", "SockaddrOut",
                                          "MessageIn",   "MessageOut", "FdSet"};
  for (size_t i = 0; i < sizeof(kPointers) / sizeof(char*); ++i) {
    if (strcmp(kind, kPointers[i]) == 0) return 1;
  }
  return strcmp(kind, "Hex") == 0;  // of ioctl, fcntl, semctl: may be one
}

// A call with benign values but for argument `attacked`; -1: none is.
static long call_with(const struct table_row* row, int attacked, u64 address, int file) {
  u64 values[6] = {0};
  for (int i = 0; i < 6; ++i) {
    char kind[32];
    if (!kind_of(row->arguments, i, kind, sizeof(kind))) break;
    if (strcmp(kind, "Fd") == 0 || strcmp(kind, "DirFd") == 0)
      values[i] = (u64)file;
    else if (strcmp(kind, "Size") == 0 || strcmp(kind, "Unsigned") == 0)
      values[i] = 64;
    else if (strcmp(kind, "Int") == 0)
      values[i] = 8;
    else if (strcmp(kind, "Signal") == 0)
      values[i] = SIGURG;
    else if (is_pointer(kind) && strcmp(kind, "Hex") != 0) {
      memset(attack_scratch, 0, sizeof(attack_scratch));
      values[i] = (u64)attack_scratch + 1024 + (u64)i * 1024;
    }
    if (i == attacked) values[i] = address;
  }
  return raw_call(row->number, values[0], values[1], values[2], values[3], values[4], values[5]);
}

static int calls_made, calls_failed;

static void attack_row(const struct table_row* row, u64 address) {
  for (int i = 0; i < 6; ++i) {
    char kind[32];
    if (!kind_of(row->arguments, i, kind, sizeof(kind))) break;
    if (!is_pointer(kind)) continue;
    static const int kTried[] = {kFile, kPipeIn, kPipeOut, kSocket, kZero, kEvents};
    for (size_t file = 0; file < sizeof(kTried) / sizeof(int); ++file) {
      const long result = call_with(row, i, address, files[kTried[file]]);
      ++calls_made;
      calls_failed += result < 0;
      // What an Address or a Hex means depends on the call; the driver sees what became of it.
      const int is_plain = strcmp(kind, "Hex") != 0 && strcmp(kind, "Address") != 0;
      if (result >= 0 && is_plain) {
        breach("%s with argument %d at %lx gives %ld", row->name, i, address, result);
      }
      if (strstr(row->arguments, "Fd(") == NULL) break;
    }
  }
}

static void attack_every_call(const char* place, u64 address) {
  for (size_t i = 0; i < sizeof(kTable) / sizeof(kTable[0]); ++i) {
    if (!is_left_out(kTable[i].number)) attack_row(&kTable[i], address);
  }
  drain("table", place, address);
}

static void interrupt_handler(int signal_number) {}
static void run_every_call(void) {
  open_files();
  // What blocks after all is interrupted.
  struct sigaction action = {.sa_handler = interrupt_handler};
  sigaction(SIGALRM, &action, NULL);
  const struct itimerval every = {{0, 200000}, {0, 200000}};
  setitimer(ITIMER_REAL, &every, NULL);
  for_each_address(attack_every_call);
  const struct itimerval never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &never, NULL);
  note("%d calls, %d failed", calls_made, calls_failed);
}

// ---- pointers in structures
// ------------------------------------------------------------------------

static char good[4096] = "good";

static void attack_iovecs(const char* place, u64 address) {
  static const long kReads[] = {SYS_readv, SYS_preadv, SYS_preadv2};
  static const long kWrites[] = {SYS_writev, SYS_pwritev, SYS_pwritev2, SYS_vmsplice};
  for (u64 length = 1; length <= 4096; length *= 64) {
    struct iovec vectors[3] = {{good, 4}, {(void*)address, length}, {good, 4}};
    for (int i = 0; i < 3; ++i) {
      EXPECT_FAULT("an element to read into",
                   CALL6(kReads[i], files[kZero], vectors + 1, 1, 0, 0, 0));
      const long both = CALL6(kReads[i], files[kZero], vectors, 3, 0, 0, 0);
      if (both > 4) breach("%ld bytes were read past a bad element", both);
    }
    for (int i = 0; i < 4; ++i) {
      EXPECT_FAULT(
          "an element to write from",
          CALL6(kWrites[i], files[i == 3 || i == 0 ? kPipeIn : kFile], vectors + 1, 1, 0, 0, 0));
      (void)CALL6(kWrites[i], files[kPipeIn], vectors, 3, 0, 0, 0);
    }
    // Into the program's side of a pipe: a splice out of it writes to the elements.
    (void)!write(files[kPipeIn], good, 64);
    EXPECT_FAULT("vmsplice to an element", CALL4(SYS_vmsplice, files[kPipeOut], vectors + 1, 1, 0));
    EXPECT_FAULT("the array", CALL3(SYS_writev, files[kPipeIn], address, 2));
    EXPECT_FAULT("the array", CALL3(SYS_readv, files[kZero], address, 2));
  }
  unsigned char buffer[8192];
  const ssize_t got = read(files[kPipeOut], buffer, sizeof(buffer));
  for (ssize_t i = 0; i < got; ++i) {
    if (buffer[i] != 0 && memchr("good", buffer[i], 4) == NULL) {
      breach("a byte %x came through the pipe with elements at %s", buffer[i], place);
      break;
    }
  }
  while (read(files[kPipeOut], buffer, sizeof(buffer)) > 0) {
  }
}
static void run_iovecs(void) {
  open_files();
  for_each_address(attack_iovecs);
}

static void attack_messages(const char* place, u64 address) {
  struct iovec own = {good, 4}, bad = {(void*)address, 64};
  void* at = (void*)address;
  struct msghdr names = {.msg_name = at, .msg_namelen = 16, .msg_iov = &own, .msg_iovlen = 1};
  struct msghdr data = {.msg_iov = &bad, .msg_iovlen = 1};
  struct msghdr list = {.msg_iov = at, .msg_iovlen = 1};
  struct msghdr control = {
      .msg_iov = &own, .msg_iovlen = 1, .msg_control = at, .msg_controllen = 256};
  struct msghdr* all[] = {&names, &data, &list, &control};
  for (int i = 0; i < 4; ++i) {
    EXPECT_FAULT("sendmsg", CALL3(SYS_sendmsg, files[kSocket], all[i], MSG_DONTWAIT));
    (void)!write(files[kSocketPeer], good, 16);
    EXPECT_FAULT("recvmsg", CALL3(SYS_recvmsg, files[kSocket], all[i], MSG_DONTWAIT));
    struct mmsghdr many[2] = {{*all[i], 0}, {*all[i], 0}};
    EXPECT_FAULT("sendmmsg", CALL4(SYS_sendmmsg, files[kSocket], many, 2, MSG_DONTWAIT));
    EXPECT_FAULT("recvmmsg", CALL5(SYS_recvmmsg, files[kSocket], many, 2, MSG_DONTWAIT, 0));
  }
  EXPECT_FAULT("recvmmsg", CALL5(SYS_recvmmsg, files[kSocket], at, 2, MSG_DONTWAIT, 0));
  EXPECT_FAULT("sendmsg", CALL3(SYS_sendmsg, files[kSocket], at, MSG_DONTWAIT));
  // Lengths that point elsewhere than the address, and the other way round.
  socklen_t length = 128;
  EXPECT_FAULT("getsockname", CALL3(SYS_getsockname, files[kSocket], at, &length));
  EXPECT_FAULT("getsockname", CALL3(SYS_getsockname, files[kSocket], good, at));
  EXPECT_FAULT("getsockopt",
               CALL5(SYS_getsockopt, files[kSocket], SOL_SOCKET, SO_TYPE, at, &length));
  EXPECT_FAULT("getsockopt", CALL5(SYS_getsockopt, files[kSocket], SOL_SOCKET, SO_TYPE, good, at));
  EXPECT_FAULT("setsockopt", CALL5(SYS_setsockopt, files[kSocket], SOL_SOCKET, SO_SNDBUF, at, 4));
  for (int option = 0; option < 80; ++option) {
    (void)CALL5(SYS_setsockopt, files[kSocket], SOL_SOCKET, option, at, 16);
    length = 64;
    (void)CALL5(SYS_getsockopt, files[kSocket], SOL_SOCKET, option, at, &length);
    // Programs of packet filters are pointers in a structure.
    struct {
      unsigned short count;
      void* program;
    } filter = {4, at};
    if (option == SO_ATTACH_FILTER || option == 51) {
      EXPECT_FAULT("a filter", CALL5(SYS_setsockopt, files[kSocket], SOL_SOCKET, option, &filter,
                                     sizeof(filter)));
    }
  }
  unsigned char buffer[4096];
  while (read(files[kSocket], buffer, sizeof(buffer)) > 0) {
  }
  drain("messages", place, address);
}
static void run_messages(void) {
  open_files();
  for_each_address(attack_messages);
}

static void attack_other_structures(const char* place, u64 address) {
  void* at = (void*)address;
  struct {
    void* mask;
    size_t size;
  } mask = {at, 8};
  struct timespec no_time = {0, 0};
  EXPECT_FAULT("pselect6's mask", CALL6(SYS_pselect6, 0, 0, 0, 0, &no_time, &mask));
  EXPECT_FAULT("pselect6's argument", CALL6(SYS_pselect6, 0, 0, 0, 0, &no_time, at));
  EXPECT_FAULT("ppoll's mask", CALL5(SYS_ppoll, 0, 0, &no_time, at, 8));
  EXPECT_FAULT("epoll_pwait's mask", CALL6(SYS_epoll_pwait, files[kEvents], good, 1, 0, at, 8));
  struct ifconf interfaces = {.ifc_len = 400, .ifc_buf = at};
  EXPECT_FAULT("SIOCGIFCONF's buffer", CALL3(SYS_ioctl, files[kSocket], SIOCGIFCONF, &interfaces));
  static const unsigned kRequests[] = {
      FIONREAD,   FIONBIO,    0x5401, 0x5402, 0x5413, SIOCGIFCONF, SIOCGIFFLAGS, 0xc020660b,
      0x4020940d, 0x80045430, 0xae03, 0xaa3f, 0x8946, 0x89f0,      0xc0185879};
  for (size_t i = 0; i < sizeof(kRequests) / sizeof(unsigned); ++i) {
    for (int file = 0; file < 8; ++file)
      EXPECT_FAULT("ioctl", CALL3(SYS_ioctl, files[file], kRequests[i], at));
  }
  for (int command = 0; command < 1050; ++command) {
    if (command == F_GETLK || command == F_SETLK || command == 36 || command == 37 ||
        command == 15 || command == 16) {
      EXPECT_FAULT("fcntl", CALL3(SYS_fcntl, files[kFile], command, at));
    }
    if (command == 17) command = 1034;
    if (command > 1034 && command < 1039)
      EXPECT_FAULT("fcntl's hint", CALL3(SYS_fcntl, files[kFile], command, at));
  }
  char* arguments[] = {at, NULL};
  char* list[] = {"x", at, NULL};
  EXPECT_FAULT("execve's argv", CALL3(SYS_execve, "/bin/true", at, 0));
  EXPECT_FAULT("execve's argv[0]", CALL3(SYS_execve, "/bin/true", arguments, 0));
  EXPECT_FAULT("execve's envp[1]", CALL3(SYS_execve, "/bin/true", list + 2, list));
  EXPECT_FAULT("execveat's path", CALL5(SYS_execveat, AT_FDCWD, at, 0, 0, 0));
  EXPECT_FAULT("timer_create's event", CALL3(SYS_timer_create, CLOCK_MONOTONIC, at, good));
  EXPECT_FAULT("timer_create's id", CALL3(SYS_timer_create, CLOCK_MONOTONIC, 0, at));
  EXPECT_FAULT("mq_notify", CALL2(SYS_mq_notify, files[kFile], at));
  EXPECT_FAULT("name_to_handle_at", CALL5(SYS_name_to_handle_at, AT_FDCWD, "/", at, good, 0));
  EXPECT_FAULT("rt_sigaction", CALL4(SYS_rt_sigaction, SIGURG, at, 0, 8));
  EXPECT_FAULT("rt_sigaction, old", CALL4(SYS_rt_sigaction, SIGURG, 0, at, 8));
  EXPECT_FAULT("rt_sigprocmask", CALL4(SYS_rt_sigprocmask, SIG_BLOCK, at, 0, 8));
  EXPECT_FAULT("rt_sigprocmask, old", CALL4(SYS_rt_sigprocmask, SIG_BLOCK, 0, at, 8));
  EXPECT_FAULT("sigaltstack", CALL2(SYS_sigaltstack, at, 0));
  EXPECT_FAULT("sigaltstack, old", CALL2(SYS_sigaltstack, 0, at));
  EXPECT_FAULT("rt_sigtimedwait", CALL4(SYS_rt_sigtimedwait, at, 0, &no_time, 8));
  EXPECT_FAULT("rt_sigtimedwait's info", CALL4(SYS_rt_sigtimedwait, good, at, &no_time, 8));
  EXPECT_FAULT("getrlimit", CALL2(SYS_getrlimit, 7, at));
  EXPECT_FAULT("prlimit64", CALL4(SYS_prlimit64, 0, 7, 0, at));
  EXPECT_FAULT("prlimit64, new", CALL4(SYS_prlimit64, 0, 7, at, 0));
  EXPECT_FAULT("wait4", CALL4(SYS_wait4, -1, at, WNOHANG, 0) == 0 ? 0 : -1);
}
static void run_other_structures(void) {
  open_files();
  for_each_address(attack_other_structures);
}

// ---- addresses for later
// ---------------------------------------------------------------------------

static void attack_futexes(const char* place, u64 address) {
  static unsigned word;
  const struct timespec soon = {0, 1000};
  for (int operation = 0; operation < 16; ++operation) {
    for (int flags = 0; flags <= 128; flags += 128) {
      EXPECT_FAULT("futex", CALL6(SYS_futex, address, operation | flags, 0, &soon, &word, 0));
      const long second = CALL6(SYS_futex, &word, operation | flags, 0, 1, address, 0);
      const int uses_second = operation == FUTEX_REQUEUE || operation == FUTEX_CMP_REQUEUE ||
                              operation == FUTEX_WAKE_OP || operation == FUTEX_CMP_REQUEUE_PI;
      if (uses_second && second >= 0)
        breach("futex operation %d with its second word at %s", operation, place);
      if (operation == FUTEX_LOCK_PI || operation == 13)
        CALL6(SYS_futex, &word, FUTEX_UNLOCK_PI | flags, 0, 0, 0, 0);
      word = 0;
    }
    EXPECT_FAULT("futex's timeout", CALL6(SYS_futex, &word, FUTEX_WAIT, 0, address, 0, 0));
  }
  // FUTEX_WAKE_OP writes what it is told to: every operation.
  for (unsigned code = 0; code < 16; ++code) {
    EXPECT_FAULT("FUTEX_WAKE_OP",
                 CALL6(SYS_futex, &word, FUTEX_WAKE_OP, 1, 1, address, code << 28 | 0x0a5000));
  }
  struct {
    u64 value, address;
    unsigned flags, reserved;
  } waiter = {0, address, 2, 0};
  EXPECT_FAULT("futex_waitv", CALL5(449, &waiter, 1, 0, &soon, CLOCK_MONOTONIC));
  EXPECT_FAULT("futex_wake", CALL4(454, address, 1, 1, 2));
  EXPECT_FAULT("futex_wait", CALL6(455, address, 0, 1, 2, &soon, CLOCK_MONOTONIC));
  EXPECT_FAULT("futex_requeue", CALL4(456, &waiter, 0, 1, 1));
}
static void run_futexes(void) { for_each_address(attack_futexes); }

// What the kernel writes when a thread ends: by the address it was given while it lived.
static u64 exit_address;
static int exit_kind;
static struct {
  u64 first;
  long offset;
  u64 pending;
} robust_head;
static u64 robust_entry[2];

static void* end_with_address(void* ignored) {
  switch (exit_kind) {
    case 0:
      CALL1(SYS_set_tid_address, exit_address);
      break;
    case 1:
      CALL2(SYS_set_robust_list, exit_address, 24);
      break;
    case 2:  // the list is ours, an entry is not
      robust_head.first = exit_address, robust_head.offset = 0, robust_head.pending = 0;
      CALL2(SYS_set_robust_list, &robust_head, 24);
      break;
    case 3:  // the entry is ours, the word is not
      robust_entry[0] = (u64)&robust_head;
      robust_head.first = (u64)robust_entry,
      robust_head.offset = (long)(exit_address - (u64)robust_entry);
      robust_head.pending = 0;
      CALL2(SYS_set_robust_list, &robust_head, 24);
      break;
    case 4:
      robust_head.first = (u64)&robust_head, robust_head.offset = 0,
      robust_head.pending = exit_address;
      CALL2(SYS_set_robust_list, &robust_head, 24);
      break;
    case 5:
      robust_head.first = (u64)&robust_head, robust_head.pending = (u64)robust_entry | 1;
      robust_head.offset = (long)(exit_address - (u64)robust_entry);
      CALL2(SYS_set_robust_list, &robust_head, 24);
      break;
  }
  return NULL;
}

static void attack_exit(const char* place, u64 address) {
  for (exit_kind = 0; exit_kind < 6; ++exit_kind) {
    exit_address = address & ~7UL;
    pthread_t thread;
    if (pthread_create(&thread, NULL, end_with_address, NULL) != 0) return breach("no thread");
    if (exit_kind != 0) {
      pthread_join(thread, NULL);
    } else {
      // Joining waits for the word that is not cleared any more.
      pthread_detach(thread);
      usleep(2000);
    }
  }
}
// The room holds zeros, which clearing does not change; in the page of exits it would show.
static void run_thread_exit(void) { for_each_address(attack_exit); }

static void attack_clone(const char* place, u64 address) {
  // Ids are not reported when they cannot be written, as on Linux: the driver looks.
  static const unsigned long kIds[] = {
      CLONE_PARENT_SETTID, CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID,
      CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID};
  for (int i = 0; i < 4; ++i) {
    const long child = CALL5(SYS_clone, kIds[i] | SIGCHLD, 0, address, address, 0);
    if (child == 0) _exit(0);
    int status;
    if (child > 0) waitpid((pid_t)child, &status, 0);
    struct clone_args arguments = {
        .flags = kIds[i], .exit_signal = SIGCHLD, .parent_tid = address, .child_tid = address};
    const long second = CALL2(SYS_clone3, &arguments, sizeof(arguments));
    if (second == 0) _exit(0);
    if (second > 0) waitpid((pid_t)second, &status, 0);
  }
  const u64 tls = address < USER_HALF_END ? USER_HALF_END : address;
  struct clone_args bad[] = {
      {.flags = CLONE_PIDFD, .exit_signal = SIGCHLD, .pidfd = address},
      {.exit_signal = SIGCHLD, .set_tid = address, .set_tid_size = 1},
      {.flags = CLONE_SETTLS, .exit_signal = SIGCHLD, .tls = tls},
      {.flags = 0x200000000UL, .exit_signal = SIGCHLD, .cgroup = address},
  };
  for (int i = 0; i < 4; ++i) {
    const long child = CALL2(SYS_clone3, &bad[i], sizeof(bad[i]));
    if (child == 0) _exit(0);
    if (child > 0)
      breach("clone3 with structure %d at %s works", i, place), waitpid((pid_t)child, NULL, 0);
  }
  EXPECT_FAULT("clone3's structure", CALL2(SYS_clone3, address, sizeof(struct clone_args)));
  const long child = CALL5(SYS_clone, CLONE_SETTLS | SIGCHLD, 0, 0, 0, tls);
  if (child == 0) _exit(0);
  if (child > 0) breach("clone with TLS at %s works", place), waitpid((pid_t)child, NULL, 0);
}
static void run_clone_pointers(void) { for_each_address(attack_clone); }

// A thread whose stack is the runtime's memory: it is the thread that faults, in a child process.
static void start_thread_on(u64 stack) {
  const unsigned long flags =
      CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  register u64 r10 __asm__("r10") = 0;
  register u64 r8 __asm__("r8") = 0;
  long result;
  __asm__ volatile("syscall\n\ttestq %%rax, %%rax\n\tjnz 1f\n\tpushq %%rax\n\tud2\n\t1:"
                   : "=a"(result)
                   : "a"(SYS_clone), "D"(flags), "S"(stack), "d"(0), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  if (result < 0) _exit(9);
  for (;;) pause();
}
static void run_clone_stack_stores(void) {
  for (int i = 0; i < place_count; ++i) {
    if (places[i].write == 0) continue;
    // SIGILL: it has pushed and gone on. The memory is the child's copy.
    const int status = attempt_in_child(start_thread_on, places[i].write + 64);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGILL)
      say("completed store %s", places[i].name);
    else if (!addresses_are_cut() && (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV))
      breach("a thread's stack on %s: status %x", places[i].name, status);
  }
}

static void attack_segment_bases(const char* place, u64 address) {
  if (address < USER_HALF_END) return;
  EXPECT_FAULT("ARCH_SET_FS", CALL2(SYS_arch_prctl, ARCH_SET_FS, address));
  EXPECT_FAULT("ARCH_SET_GS", CALL2(SYS_arch_prctl, ARCH_SET_GS, address));
  EXPECT_FAULT("ARCH_GET_FS", CALL2(SYS_arch_prctl, ARCH_GET_FS, address));
  EXPECT_FAULT("ARCH_GET_GS", CALL2(SYS_arch_prctl, ARCH_GET_GS, address));
  u64 now = 1;
  CALL2(SYS_arch_prctl, ARCH_GET_FS, &now);
  if (now != attack_fs_base) breach("FS base is %lx", now);
  for (int code = 0x1000; code < 0x6010; ++code) {
    if (code == 0x1001 || code == 0x1002) continue;
    if (code == 0x1030) code = 0x2000;
    if (code == 0x2010) code = 0x3000;
    if (code == 0x3010) code = 0x4000;
    if (code == 0x4010) code = 0x5000;
    if (code == 0x5010) code = 0x6000;
    if (code == 0x1011 || code == 0x1012) continue;
    EXPECT_FAULT("arch_prctl", CALL2(SYS_arch_prctl, code, address));
  }
}
static void run_segment_base_calls(void) {
  // FS base is as it must be even if a call should work: nothing here uses thread-local storage.
  for_each_address(attack_segment_bases);
  CALL2(SYS_arch_prctl, ARCH_SET_FS, attack_fs_base);
}

static void attack_prctl(const char* place, u64 address) {
  for (long option = 0; option < 90; ++option) {
    if (option == 1 || option == 4 || option == 8 || option == 24 || option == 28 || option == 29 ||
        option == 36 || option == 38)
      continue;
    const long result = CALL5(SYS_prctl, option, address, address, address, address);
    const int is_number = option == 3 || option == 7 || option == 13 || option == 21 ||
                          option == 23 || option == 27 || option == 30 || option == 39 ||
                          option == 41 || option == 42 || option == 47 || option == 52;
    if (result >= 0 && !is_number) breach("prctl %ld with %s gives %ld", option, place, result);
  }
  for (long what = 1; what < 16; ++what)
    EXPECT_FAULT("PR_SET_MM", CALL5(SYS_prctl, 35, what, address, 0, 0));
  EXPECT_FAULT("PR_SET_MM_MAP", CALL5(SYS_prctl, 35, 14, address, 128, 0));
  static unsigned char selector;
  EXPECT_FAULT("system call user dispatch", CALL5(SYS_prctl, 59, 1, 0, 0, address));
  EXPECT_FAULT("system call user dispatch", CALL5(SYS_prctl, 59, 1, address, 4096, &selector));
  EXPECT_FAULT("PR_SET_VMA", CALL5(SYS_prctl, 0x53564d41, 0, address, 4096, "name"));
  EXPECT_FAULT("PR_GET_AUXV", CALL5(SYS_prctl, 0x41555856, address, 512, 0, 0));
  EXPECT_FAULT("seccomp", CALL3(SYS_seccomp, 1, 0, address));
  EXPECT_FAULT("seccomp, actions", CALL3(SYS_seccomp, 2, 0, address));
  EXPECT_FAULT("seccomp, sizes", CALL3(SYS_seccomp, 3, 0, address));
  struct {
    unsigned short count;
    u64 program;
  } filter = {4, address};
  EXPECT_FAULT("seccomp's program", CALL3(SYS_seccomp, 1, 0, &filter));
  EXPECT_FAULT("PR_SET_SECCOMP's program", CALL3(SYS_prctl, 22, 2, &filter));
}
static void run_prctls(void) { for_each_address(attack_prctl); }

const struct attack_case attack_cases[] = {
    {"every_call", run_every_call},
    {"iovecs", run_iovecs},
    {"messages", run_messages},
    {"other_structures", run_other_structures},
    {"futexes", run_futexes},
    {"thread_exit", run_thread_exit},
    {"clone_pointers", run_clone_pointers},
    {"clone_stack_stores", run_clone_stack_stores},
    {"segment_base_calls", run_segment_base_calls},
    {"prctls", run_prctls},
    {NULL, NULL},
};
