// The network, other processes, and the kernel's services that reach beyond a program's own memory.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attack.h"

// ---- Network: `run` listens on both ports and sees what arrives ---------------------------------

static struct sockaddr_in changing_address;

static void change_port(void) {
  *(volatile in_port_t*)&changing_address.sin_port = htons(closed_port);
  stay_a_moment();
  *(volatile in_port_t*)&changing_address.sin_port = htons(open_port);
  stay_a_moment();
}

static void begin_changing_port(void) {
  changing_address = (struct sockaddr_in){
      .sin_family = AF_INET, .sin_port = htons(open_port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  begin_race(change_port);
}

static void connection_race(void) {
  int went = 0;
  begin_changing_port();
  while (still_racing()) {
    const int file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    went += connect(file, (struct sockaddr*)&changing_address, sizeof(changing_address)) == 0;
    close(file);
  }
  end_race();
  if (went == 0) hole("no connection was made, so nothing was tried");
}

static void datagram_race(void) {
  const int file = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct iovec data = {"x", 1};
  struct msghdr message = {.msg_name = &changing_address, .msg_namelen = sizeof(changing_address),
                           .msg_iov = &data, .msg_iovlen = 1};
  int went = 0;
  begin_changing_port();
  while (still_racing()) {
    went += sendto(file, "x", 1, 0, (struct sockaddr*)&changing_address, sizeof(changing_address)) == 1;
    went += sendmsg(file, &message, 0) == 1;
  }
  end_race();
  if (went == 0) hole("no datagram was sent, so nothing was tried");
}

static void sockets(void) {
  const struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(closed_port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  const int stream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  refused("a connection", connect(stream, (const struct sockaddr*)&address, sizeof(address)));
  refused("a raw socket", socket(AF_INET, SOCK_RAW, 1));
  refused("a packet socket", socket(AF_PACKET, SOCK_RAW, 0));
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  const int size = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "dunebox-attacks-%d", bystander);
  const int local = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  refused("an abstract socket outside",
          connect(local, (struct sockaddr*)&name, (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)size)));
}

// ---- Other processes ----------------------------------------------------------------------------

static void other_processes(void) {
  char path[600];
  DIR* const proc = opendir("/proc");
  for (const struct dirent* entry; proc != NULL && (entry = readdir(proc)) != NULL;) {
    const int pid = atoi(entry->d_name);
    // With a pid namespace the first process is the session's own.
    if (pid > 1 && pid != getpid()) hole("/proc lists process %d", pid);
  }
  static const char* const kFiles[] = {"environ", "maps", "mem", "cwd/", "root/etc/shadow", "fd/0", "stack"};
  for (int i = 0; i < 7; ++i) {
    const int pids[] = {1, bystander, getppid()};
    for (int j = 0; j < 3; ++j) {
      snprintf(path, sizeof(path), "/proc/%d/%s", pids[j], kFiles[i]);
      const int file = pids[j] == 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
      if (file >= 0) hole("%s can be opened", path);
    }
  }
  FILE* const maps = fopen("/proc/self/maps", "re");
  unsigned long start, end;
  while (maps != NULL && fgets(path, sizeof(path), maps) != NULL) {
    if (sscanf(path, "%lx-%lx", &start, &end) == 2 && end > (1ul << 46) && start < (1ul << 47)) {
      hole("a mapping of the runtime's is listed: %.17s", path);
    }
  }
}

static void signals_outside(void) {
  refused("the bystander", kill(bystander, SIGKILL));
  refused("the bystander stopped", kill(bystander, SIGSTOP));
  refused("one thread of it", (int)syscall(SYS_tgkill, bystander, bystander, SIGKILL));
  refused("queued", (int)syscall(SYS_rt_sigqueueinfo, bystander, SIGTERM, &(siginfo_t){.si_code = SI_QUEUE}));
  const struct rlimit limit = {1, 1};
  refused("its limits", prlimit(bystander, RLIMIT_CPU, &limit, NULL));
  refused("its priority", setpriority(PRIO_PROCESS, (id_t)bystander, 5));
}

static void own_memory_file(void) {
  const int file = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  static const uint64_t kPlaces[] = {0x555555554000, 0x7f0000000000, 0x7ffff7ffd000, 0x400000000000, 1ul << 47};
  for (int i = 0; file >= 0 && i < 5; ++i) {
    char byte = 0;
    refused("a write into the runtime", pwrite(file, "x", 1, (off_t)kPlaces[i]));
    refused("a read from the runtime", pread(file, &byte, 1, (off_t)kPlaces[i]));
  }
  // Its own code it may change or not; either way it is the program's alone.
  if (file >= 0 && pwrite(file, "\xc3", 1, (off_t)(uintptr_t)own_memory_file) == 1) contained("its own memory");
}

static void process_memory(void) {
  char byte = 'x';
  const struct iovec here = {&byte, 1}, there = {RUNTIME_ADDRESS, 1};
  const pid_t pids[] = {getpid(), getppid(), bystander, 1};
  for (int i = 0; i < 4; ++i) {
    if (pids[i] == 0) continue;
    refused("a write", process_vm_writev(pids[i], &here, 1, &there, 1, 0));
    refused("a read", process_vm_readv(pids[i], &here, 1, &there, 1, 0));
  }
}

static void attach_to_child(void) { pause(); }

static void trace(void) {
  refused("the bystander", ptrace(PTRACE_ATTACH, bystander, NULL, NULL));
  refused("the bystander seized", ptrace(PTRACE_SEIZE, bystander, NULL, NULL));
  refused("the parent", ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
  refused("the first process", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
  // Of its own child the tracer would see the runtime.
  const pid_t child = fork();
  if (child == 0) attach_to_child();
  refused("the own child", ptrace(PTRACE_SEIZE, child, NULL, NULL));
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  refused("to be traced", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static void process_descriptors(void) {
  const int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
  for (int number = 0; number < 8192; ++number) {
    if (syscall(SYS_pidfd_getfd, self, number, 0) >= 0) return hole("number %d of its own", number);
  }
  const pid_t pids[] = {getppid(), bystander, 1};
  for (int i = 0; i < 3; ++i) {
    const int other = pids[i] == 0 ? -1 : (int)syscall(SYS_pidfd_open, pids[i], 0);
    if (other >= 0) refused("a descriptor of another process", syscall(SYS_pidfd_getfd, other, 0, 0));
  }
}

// ---- Requests -----------------------------------------------------------------------------------

// Standard input is a terminal; `run` looks whether something was typed.
static void terminal_requests(void) {
  const int line = 15;
  if (!isatty(0)) return hole("standard input is no terminal");
  refused("TIOCSTI", ioctl(0, TIOCSTI, "x"));
  refused("TIOCLINUX", ioctl(0, 0x541C, "\x0b"));
  refused("TIOCSETD", ioctl(0, TIOCSETD, &line));
  refused("TIOCCONS", ioctl(0, TIOCCONS));
  // The upper half of the number is not the kernel's.
  refused("TIOCSTI in 64 bits", syscall(SYS_ioctl, 0, 0x100005412, "x"));
}

static void unknown_requests(void) {
  static const unsigned kDangerous[] = {
      0xC0045877 /* FIFREEZE */, 0xC0045878 /* FITHAW */, 0x40086602 /* FS_IOC_SETFLAGS */,
      0x40049409 /* FICLONE */, 0x125d /* BLKRRPART */, 0x4C00 /* LOOP_SET_FD */, 0xAE01 /* KVM_CREATE_VM */,
      0x8914 /* SIOCSIFFLAGS */, 0x89a0 /* SIOCBRADDBR */, 0xB701 /* NS_GET_USERNS */,
      0xC0185500 /* USBDEVFS_CONTROL */, 0x5603 /* VT_GETSTATE */, 0x4B3A /* KDSETMODE */, 0x2285 /* SG_IO */};
  int pair[2], pipes[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || pipe(pipes) != 0) exit(2);
  const int files[] = {open(in_work("given/canary"), O_RDWR | O_CLOEXEC), pair[0], pipes[0],
                       open("/dev/null", O_RDWR | O_CLOEXEC), open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)};
  static char argument[4096];
  uint64_t random = 42;
  for (int i = 0; i < 5; ++i) {
    if (files[i] < 0) continue;
    for (unsigned j = 0; j < sizeof(kDangerous) / sizeof(kDangerous[0]); ++j) {
      if (ioctl(files[i], kDangerous[j], argument) >= 0) hole("request %x on file %d", kDangerous[j], i);
    }
    for (int round = 0; round < 1500; ++round) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      if (ioctl(files[i], (unsigned)(random >> 32) | 0x10000, argument) >= 0) {
        hole("request %x on file %d", (unsigned)(random >> 32) | 0x10000, i);
      }
    }
  }
}

static void rings(void) {
  char parameters[120] = {0};
  refused("io_uring_setup", syscall(SYS_io_uring_setup, 8, parameters));
  ((uint32_t*)parameters)[2] = 2;  // IORING_SETUP_SQPOLL
  refused("io_uring_setup with a thread", syscall(SYS_io_uring_setup, 8, parameters));
  refused("io_uring_enter", syscall(SYS_io_uring_enter, 0, 1, 0, 0, NULL, 0));
  refused("io_uring_register", syscall(SYS_io_uring_register, 0, 0, NULL, 0));
}

static void stalls(void) {
  refused("userfaultfd", syscall(SYS_userfaultfd, 0));
  refused("userfaultfd, user mode only", syscall(SYS_userfaultfd, 1));
  refused("one by its device", ioctl(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), 0xAA00, O_CLOEXEC));
  refused("a file system of its own", mount("fuse", in_work("given"), "fuse", 0, "fd=3,rootmode=40000,user_id=0,group_id=0"));
  char parameters[128] = {0};
  refused("perf_event_open", syscall(SYS_perf_event_open, parameters, 0, -1, -1, 0));
}

static void process_options(void) {
  refused("PR_SET_MM", prctl(PR_SET_MM, PR_SET_MM_START_CODE, RUNTIME_ADDRESS, 0, 0));
  refused("PR_SET_MM_MAP", prctl(PR_SET_MM, 14, &(char[104]){0}, 104, 0));
  refused("PR_SET_SYSCALL_USER_DISPATCH", prctl(59, 1, 0, 0, &(char){0}));
  struct {
    uint16_t code;
    uint8_t jt, jf;
    uint32_t k;
  } kill_everything = {6, 0, 0, 0x80000000};
  struct {
    uint16_t length;
    void* filter;
  } filter = {1, &kill_everything};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  refused("a filter", prctl(PR_SET_SECCOMP, 2, &filter, 0, 0));
  refused("a filter by seccomp", syscall(SYS_seccomp, 1, 0, &filter));
  refused("strict mode", prctl(PR_SET_SECCOMP, 1, 0, 0, 0));
  // Whatever it believes of itself, nobody can look into the runtime.
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  own_memory_file();
  contained("what it is told about itself");
}

const struct attack reach_attacks[] = {
    {"connection_race", connection_race},
    {"datagram_race", datagram_race},
    {"sockets", sockets},
    {"other_processes", other_processes},
    {"signals_outside", signals_outside},
    {"own_memory_file", own_memory_file},
    {"process_memory", process_memory},
    {"trace", trace},
    {"process_descriptors", process_descriptors},
    {"terminal_requests", terminal_requests},
    {"unknown_requests", unknown_requests},
    {"rings", rings},
    {"stalls", stalls},
    {"process_options", process_options},
    {NULL, NULL},
};
