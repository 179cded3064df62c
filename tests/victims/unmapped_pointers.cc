// Pointers into the program's own half where nothing is, or where it may not write, in calls that are otherwise right: EFAULT,
// and what could be done before the bad byte is all that happened.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "victim.h"

namespace {

using victim::Call;
using victim::Expect;

unsigned char* area;  // page 0 read-write, 1 unmapped, 2 PROT_NONE, 3 read-only, 4 unmapped
int file, folder, pair[2], epoll;

std::uint64_t Number(const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); }

constexpr std::uint64_t kAt = ~0ul;  // stands for the bad address

struct Case {
  const char* name;
  long number;
  std::uint64_t arguments[6];
  bool writes;  // the kernel writes there: a read-only page is bad, too
};

void Prepare() {
  (void)!pwrite(file, "0123456789abcdef0123456789abcdef", 32, 0);
  lseek(file, 0, SEEK_SET);
  lseek(folder, 0, SEEK_SET);
  char drain[64];
  while (recv(pair[1], drain, sizeof(drain), MSG_DONTWAIT) > 0) {
  }
  (void)!send(pair[0], "0123456789abcdef", 16, MSG_DONTWAIT);
}

void Try(const Case& one, std::uint64_t bad) {
  Prepare();
  std::memset(area, 0, 4096);
  std::uint64_t values[6];
  for (int i = 0; i < 6; ++i) values[i] = one.arguments[i] == kAt ? bad : one.arguments[i];
  if (std::strstr(one.name, "getsockname") != nullptr) area[0] = 64;
  const long result = Call(one.number, values[0], values[1], values[2], values[3], values[4], values[5]);
  Expect(result == -EFAULT, "%s with 0x%lx gives %ld", one.name, bad, result);
}

void Cases(std::uint64_t bad, bool readable) {
  const auto f = static_cast<std::uint64_t>(file), d = static_cast<std::uint64_t>(folder), s = static_cast<std::uint64_t>(pair[1]),
             e = static_cast<std::uint64_t>(epoll), cwd = static_cast<std::uint64_t>(AT_FDCWD);
  static iovec part;
  part = {reinterpret_cast<void*>(bad), 16};
  static msghdr message;
  message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const Case cases[] = {
      {"read", SYS_read, {f, kAt, 16}, true},
      {"pread64", SYS_pread64, {f, kAt, 16, 0}, true},
      {"write", SYS_write, {f, kAt, 16}, false},
      {"pwrite64", SYS_pwrite64, {f, kAt, 16, 0}, false},
      {"readv's array", SYS_readv, {f, kAt, 1}, false},
      {"readv's part", SYS_readv, {f, Number(&part), 1}, true},
      {"writev's part", SYS_writev, {f, Number(&part), 1}, false},
      {"getdents64", SYS_getdents64, {d, kAt, 512}, true},
      {"recvfrom", SYS_recvfrom, {s, kAt, 16, MSG_DONTWAIT, 0, 0}, true},
      {"recvmsg's header", SYS_recvmsg, {s, kAt, MSG_DONTWAIT}, false},
      {"recvmsg's part", SYS_recvmsg, {s, Number(&message), MSG_DONTWAIT}, true},
      {"sendto", SYS_sendto, {s, kAt, 16, MSG_DONTWAIT, 0, 0}, false},
      {"sendmsg's part", SYS_sendmsg, {s, Number(&message), MSG_DONTWAIT}, false},
      {"openat's path", SYS_openat, {cwd, kAt, O_RDONLY, 0}, false},
      {"stat's path", SYS_stat, {kAt, Number(area)}, false},
      {"fstat", SYS_fstat, {f, kAt}, true},
      {"statx", SYS_statx, {f, Number(""), AT_EMPTY_PATH, STATX_ALL, kAt}, true},
      {"fstatfs", SYS_fstatfs, {f, kAt}, true},
      {"getcwd", SYS_getcwd, {kAt, 4096}, true},
      {"uname", SYS_uname, {kAt}, true},
      {"sysinfo", SYS_sysinfo, {kAt}, true},
      {"times", SYS_times, {kAt}, true},
      {"getrusage", SYS_getrusage, {0, kAt}, true},
      {"getrlimit", SYS_getrlimit, {0, kAt}, true},
      {"prlimit64", SYS_prlimit64, {0, 0, 0, kAt}, true},
      {"clock_gettime", SYS_clock_gettime, {1, kAt}, true},
      {"gettimeofday", SYS_gettimeofday, {kAt, 0}, true},
      {"nanosleep", SYS_nanosleep, {kAt, 0}, false},
      {"getitimer", SYS_getitimer, {0, kAt}, true},
      {"getrandom", SYS_getrandom, {kAt, 16, 0}, true},
      {"pipe2", SYS_pipe2, {kAt, 0}, true},
      {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, kAt}, true},
      {"poll", SYS_poll, {kAt, 1, 0}, true},
      {"select", SYS_select, {8, kAt, 0, 0, Number(area)}, true},
      {"epoll_ctl", SYS_epoll_ctl, {e, EPOLL_CTL_ADD, s, kAt}, false},
      {"rt_sigaction's new", SYS_rt_sigaction, {SIGUSR1, kAt, 0, 8}, false},
      {"rt_sigaction's old", SYS_rt_sigaction, {SIGUSR1, 0, kAt, 8}, true},
      {"rt_sigprocmask's old", SYS_rt_sigprocmask, {0, 0, kAt, 8}, true},
      {"rt_sigpending", SYS_rt_sigpending, {kAt, 8}, true},
      {"sigaltstack's old", SYS_sigaltstack, {0, kAt}, true},
      {"sched_getaffinity", SYS_sched_getaffinity, {0, 128, kAt}, true},
      {"getcpu", SYS_getcpu, {kAt, 0, 0}, true},
      {"getresuid", SYS_getresuid, {kAt, Number(area), Number(area)}, true},
      {"getsockname", SYS_getsockname, {s, kAt, Number(area)}, true},
      {"getsockname's length", SYS_getsockname, {s, Number(area), kAt}, true},
      {"getsockopt's length", SYS_getsockopt, {s, SOL_SOCKET, SO_TYPE, Number(area), kAt}, true},
      {"setsockopt", SYS_setsockopt, {s, SOL_SOCKET, SO_RCVBUF, kAt, 4}, false},
      {"ioctl FIONREAD", SYS_ioctl, {s, 0x541b, kAt}, true},
      {"fcntl F_GETLK", SYS_fcntl, {f, F_GETLK, kAt}, true},
      {"arch_prctl ARCH_GET_FS", SYS_arch_prctl, {0x1003, kAt}, true},
      {"prctl PR_GET_NAME", SYS_prctl, {16, kAt}, true},
      {"prctl PR_SET_NAME", SYS_prctl, {15, kAt}, false},
      {"futex", SYS_futex, {kAt, 0, 1, 0, 0, 0}, false},
      {"setitimer", SYS_setitimer, {0, kAt, 0}, false},
      {"utimensat", SYS_utimensat, {f, 0, kAt, 0}, false},
      {"readlink's target", SYS_readlink, {Number("link"), kAt, 64}, true},
      {"readlink's path", SYS_readlink, {kAt, Number(area), 64}, false},
      {"memfd_create", SYS_memfd_create, {kAt, 0}, false},
      {"getxattr's name", SYS_fgetxattr, {f, kAt, 0, 0}, false},
      {"mincore", SYS_mincore, {Number(area), 4096, kAt}, true},
      {"sendfile's offset", SYS_sendfile, {s, f, kAt, 4}, true},
  };
  for (const Case& one : cases) {
    // A read-only page is good enough for what the kernel only reads.
    if (!readable || one.writes) Try(one, bad);
  }
}

// A buffer whose first bytes are there: those may be used, and the call says how many.
void Straddling() {
  const auto f = static_cast<std::uint64_t>(file);
  const std::uint64_t edge = Number(area) + 4096 - 5;
  for (const long number : {SYS_read, SYS_write, SYS_pread64, SYS_pwrite64}) {
    Prepare();
    std::memset(area + 4091, 'z', 5);
    const long result = Call(number, f, edge, 16, 0);
    Expect(result == -EFAULT || (result >= 0 && result <= 5), "call %ld across the end of a mapping gives %ld", number, result);
  }
  std::memset(area, 'p', 4096);  // a path with no end
  Expect(Call(SYS_openat, static_cast<std::uint64_t>(AT_FDCWD), Number(area) + 4090, 0, 0) == -EFAULT, "a path that runs into nothing");
  Expect(Call(SYS_fstat, f, Number(area) + 4096 - 100) == -EFAULT, "fstat across the end of a mapping");
  Expect(Call(SYS_uname, Number(area) + 4096 - 300) == -EFAULT, "uname across the end of a mapping");
}

}  // namespace

int main() {
  victim::Begin("unmapped_pointers");
  area = static_cast<unsigned char*>(mmap(nullptr, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  std::memset(area, 0, 5 * 4096);
  munmap(area + 4096, 4096);
  munmap(area + 4 * 4096, 4096);
  mprotect(area + 2 * 4096, 4096, PROT_NONE);
  mprotect(area + 3 * 4096, 4096, PROT_READ);
  file = open("data", O_RDWR | O_CREAT, 0600);
  folder = open(".", O_RDONLY | O_DIRECTORY);
  epoll = epoll_create1(0);
  (void)!symlink("data", "link");
  socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
  for (const std::uint64_t bad : {Number(area) + 4096, Number(area) + 4096 + 8, Number(area) + 4 * 4096, 8ul, 0x1000ul, 0x3ffffffff000ul}) {
    if (bad == 0x3ffffffff000ul && mmap(reinterpret_cast<void*>(bad), 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED) continue;
    Cases(bad, false);
  }
  Cases(Number(area) + 2 * 4096, false);
  Cases(Number(area) + 3 * 4096, true);
  Straddling();
  return victim::Verdict();
}
