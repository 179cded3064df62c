// Passes addresses of the runtime, of nobody and of the kernel, and lengths that overflow, to one
// call of every argument kind: EFAULT or EINVAL, and nothing changes. Then to every call there is, or to
// every Nth: hostile_pointers [N].
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "contain.h"

static const uint64_t kBad[] = {
    0x400000000000, 0x555555554000, 0x7f0000000000, 0x7ffff7ffd000, 0x7ffffffff000,  // runtime half
    0x800000000000, 0x8000000000000000, 0xffff800000000000, 0xffffff8000000000,      // nobody's
    0xffffffffff600000, 0xfffffffffffff000, 0x3ffffffff000,                          // and unmapped
};
#define BAD_COUNT (sizeof(kBad) / sizeof(kBad[0]))

static void expect_fault(const char* what, long result, long detail) {
  contain_check(result == -1 && (errno == EFAULT || errno == EINVAL), what, result < 0 ? errno : result);
  (void)detail;
}

static int zero_fd, sockets[2];
static char buffer[4096];

static void try_kinds(uint64_t bad) {
  void* p = (void*)bad;
  expect_fault("buffer out", syscall(SYS_read, zero_fd, p, 64), 0);
  expect_fault("buffer in", syscall(SYS_write, sockets[0], p, 64), 0);
  expect_fault("path", syscall(SYS_openat, AT_FDCWD, p, O_RDONLY), 0);
  expect_fault("string", syscall(SYS_memfd_create, p, 0), 0);
  expect_fault("struct out", syscall(SYS_fstat, 0, p), 0);
  expect_fault("struct in", syscall(SYS_nanosleep, p, NULL), 0);
  expect_fault("struct in-out", syscall(SYS_getsockname, sockets[0], buffer, p), 0);
  expect_fault("array in-out", syscall(SYS_poll, p, 2, 0), 0);
  expect_fault("descriptor set", syscall(SYS_select, 64, p, NULL, NULL, NULL), 0);
  expect_fault("iovec array", syscall(SYS_readv, zero_fd, p, 2), 0);
  struct iovec vector[2] = {{buffer, 1}, {p, 64}};
  expect_fault("iovec element in", syscall(SYS_writev, sockets[0], vector, 2), 0);
  expect_fault("iovec element out", syscall(SYS_preadv, zero_fd, vector + 1, 1, 0, 0), 0);
  expect_fault("socket address in", syscall(SYS_connect, sockets[0], p, 16), 0);
  socklen_t length = sizeof(buffer);
  expect_fault("socket address out", syscall(SYS_getsockname, sockets[0], p, &length), 0);
  expect_fault("message header", syscall(SYS_sendmsg, sockets[0], p, MSG_DONTWAIT), 0);
  struct msghdr message = {.msg_iov = vector + 1, .msg_iovlen = 1};
  expect_fault("message data in", syscall(SYS_sendmsg, sockets[0], &message, MSG_DONTWAIT), 0);
  message = (struct msghdr){.msg_iov = p, .msg_iovlen = 1};
  expect_fault("message vector", syscall(SYS_sendmsg, sockets[0], &message, MSG_DONTWAIT), 0);
  struct iovec one = {buffer, 1};
  message = (struct msghdr){.msg_iov = &one, .msg_iovlen = 1, .msg_control = p, .msg_controllen = 64};
  expect_fault("message control", syscall(SYS_sendmsg, sockets[0], &message, MSG_DONTWAIT), 0);
  expect_fault("string array", syscall(SYS_execve, "/bin/true", p, NULL), 0);
  char* arguments[] = {p, NULL};
  expect_fault("string array element", syscall(SYS_execve, "/bin/true", arguments, NULL), 0);
  expect_fault("signal action", syscall(SYS_rt_sigaction, SIGUSR1, p, NULL, 8), 0);
  expect_fault("futex word", syscall(SYS_futex, p, 0, 0, NULL), 0);
  expect_fault("ioctl struct", syscall(SYS_ioctl, sockets[0], 0x541b, p), 0);
}

static void try_lengths(void) {
  const uint64_t lengths[] = {1UL << 46, 1UL << 47, 1UL << 63, ~0UL, ~0UL - 4095};
  for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); ++i) {
    expect_fault("length of read", syscall(SYS_read, zero_fd, buffer, lengths[i]), 0);
    expect_fault("length of write", syscall(SYS_write, sockets[0], buffer, lengths[i]), 0);
    struct iovec vector = {buffer, lengths[i]};
    expect_fault("length of an iovec", syscall(SYS_readv, zero_fd, &vector, 1), 0);
  }
  expect_fault("count of iovecs", syscall(SYS_readv, zero_fd, buffer, 1UL << 61), 0);
}

static void try_mappings(void) {
  for (size_t i = 0; i < 5; ++i) {  // the runtime half
    void* p = (void*)kBad[i];
    contain_check(mmap(p, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED,
                  "mmap over the runtime", (long)i);
    contain_check(munmap(p, 1 << 20) != 0, "munmap of the runtime", (long)i);
    contain_check(mprotect(p, 4096, PROT_NONE) != 0, "mprotect of the runtime", (long)i);
    contain_check(madvise(p, 4096, MADV_DONTNEED) != 0, "madvise of the runtime", (long)i);
    contain_check(mremap(p, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED, "mremap of the runtime", (long)i);
    void* own = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    contain_check(mremap(own, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, p) == MAP_FAILED,
                  "mremap onto the runtime", (long)i);
  }
}

// Calls that end, stop or block this program whatever their arguments, or change the machine.
static int is_left_out(long number) {
  static const long kLeftOut[] = {SYS_exit, SYS_exit_group, SYS_fork, SYS_vfork, SYS_clone, SYS_pause,
                                  SYS_rt_sigreturn, SYS_reboot, SYS_kill, SYS_tkill, SYS_tgkill,
                                  SYS_sync, SYS_vhangup, SYS_setsid, SYS_wait4, SYS_waitid,
                                  SYS_rt_sigsuspend, SYS_close, SYS_close_range, SYS_munmap,
                                  SYS_mprotect, SYS_brk, SYS_mmap, SYS_mremap, SYS_madvise,
                                  SYS_sethostname, SYS_setdomainname, SYS_settimeofday,
                                  SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime, SYS_unlink,
                                  SYS_syslog, SYS_arch_prctl, SYS_rt_sigqueueinfo,
                                  SYS_rt_tgsigqueueinfo, SYS_set_tid_address, SYS_prctl};
  for (size_t i = 0; i < sizeof(kLeftOut) / sizeof(kLeftOut[0]); ++i) {
    if (kLeftOut[i] == number) return 1;
  }
  return 0;
}

// Each in a child with an alarm: it may block, and the child may break itself.
static void try_every_call(long stride) {
  for (long number = 0; number < 470; number += stride) {
    if (is_left_out(number)) continue;
    const pid_t child = fork();
    if (child == 0) {
      for (int i = 0; i < 64; ++i) signal(i, SIG_DFL);
      alarm(1);
      for (size_t i = 0; i < BAD_COUNT; ++i) {
        for (int position = 0; position < 6; ++position) {
          uint64_t a[6] = {0, 0, 0, 0, 0, 0};
          a[position] = kBad[i];
          syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        }
        const uint64_t b = kBad[i];
        syscall(number, b, b, b, b, b, b);
      }
      _exit(0);
    }
    int status = 0;
    contain_check(child > 0 && waitpid(child, &status, 0) == child, "fork", number);
    const int fine = (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
                     (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
    contain_check(fine, "a call broke the runtime", number * 1000 + status);
  }
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IONBF, 0);
  zero_fd = open("/dev/zero", O_RDONLY);
  socketpair(AF_UNIX, SOCK_STREAM, 0, sockets);
  // Descriptor 0 is what calls with an argument of 0 change: not the machine's /dev/null.
  dup2(memfd_create("descriptor 0", 0), 0);
  for (size_t i = 0; i < BAD_COUNT; ++i) try_kinds(kBad[i]);
  try_lengths();
  try_mappings();
  contain_alive("hostile pointers");
  try_every_call(argc > 1 ? atol(argv[1]) : 1);
  contain_alive("every call");
  return contain_verdict("hostile_pointers");
}
