// Every descriptor number: only what the program opened itself answers. The runtime's, above the program's limit, can be neither
// used, replaced, closed, listed nor sent.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "victim.h"

namespace {

using victim::Call;
using victim::Expect;

std::uint64_t Number(const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); }

// The first number that the program can have in no way.
const std::uint64_t kFirstOfRuntime = [] {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_max;
}();

void Guess(std::uint64_t end) {
  for (std::uint64_t fd = 3; fd < end; ++fd) {
    const long result = Call(SYS_fcntl, fd, F_GETFD);
    Expect(result == -EBADF, "descriptor %lu answers fcntl with %ld", fd, result);
  }
}

void Use(std::uint64_t fd) {
  static char buffer[4096];
  const std::uint64_t b = Number(buffer);
  const struct {
    const char* name;
    long result;
  } results[] = {
      {"read", Call(SYS_read, fd, b, 16)},
      {"write", Call(SYS_write, fd, b, 0)},
      {"fstat", Call(SYS_fstat, fd, b)},
      {"lseek", Call(SYS_lseek, fd, 0, SEEK_SET)},
      {"ioctl KVM_GET_API_VERSION", Call(SYS_ioctl, fd, 0xae00, 0)},
      {"ioctl KVM_RUN", Call(SYS_ioctl, fd, 0xae80, 0)},
      {"ioctl KVM_CREATE_VCPU", Call(SYS_ioctl, fd, 0xae41, 7)},
      {"ioctl FIOCLEX", Call(SYS_ioctl, fd, 0x5451, 0)},
      {"dup", Call(SYS_dup, fd)},
      {"dup2 from it", Call(SYS_dup2, fd, 50)},
      {"dup2 onto it", Call(SYS_dup2, 1, fd)},
      {"dup3 onto it", Call(SYS_dup3, 1, fd, O_CLOEXEC)},
      {"fcntl F_DUPFD from it", Call(SYS_fcntl, fd, F_DUPFD, 3)},
      {"fcntl F_DUPFD above", Call(SYS_fcntl, 1, F_DUPFD, fd)},
      {"fcntl F_SETFD", Call(SYS_fcntl, fd, F_SETFD, 0)},
      {"fcntl F_SETFL", Call(SYS_fcntl, fd, F_SETFL, O_NONBLOCK)},
      {"close", Call(SYS_close, fd)},
      {"fchdir", Call(SYS_fchdir, fd)},
      {"openat", Call(SYS_openat, fd, Number("."), O_RDONLY)},
      {"newfstatat of itself", Call(SYS_newfstatat, fd, Number(""), b, AT_EMPTY_PATH)},
      {"readlinkat", Call(SYS_readlinkat, fd, Number(""), b, 100)},
      {"mmap", Call(SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED, fd, 0)},
      {"ftruncate", Call(SYS_ftruncate, fd, 0)},
      {"flock", Call(SYS_flock, fd, 2 | 4)},
      {"sendfile", Call(SYS_sendfile, 1, fd, 0, 0)},
      {"execveat", Call(SYS_execveat, fd, Number(""), 0, 0, AT_EMPTY_PATH)},
      {"pidfd_send_signal", Call(SYS_pidfd_send_signal, fd, 0, 0, 0)},
      {"epoll_wait", Call(SYS_epoll_wait, fd, b, 1, 0)},
  };
  for (const auto& one : results) Expect(one.result < 0, "%s with descriptor %lu gives %ld", one.name, fd, one.result);
}

// Every call that takes a path, with one that leads to a descriptor of the runtime's.
void Name(const char* path) {
  static char buffer[4096];
  const std::uint64_t b = Number(buffer);
  const std::uint64_t p = Number(path);
  const std::uint64_t x = Number("user.x");
  const std::uint64_t other = Number("other");
  const auto at = static_cast<std::uint64_t>(AT_FDCWD);
  const struct {
    const char* name;
    long result;
  } results[] = {
      {"stat", Call(SYS_stat, p, b)},
      {"lstat", Call(SYS_lstat, p, b)},
      {"newfstatat", Call(SYS_newfstatat, at, p, b, 0)},
      {"statx", Call(SYS_statx, at, p, 0, 0x7ff, b)},
      {"access", Call(SYS_access, p, F_OK)},
      {"faccessat2", Call(SYS_faccessat2, at, p, F_OK, 0)},
      {"statfs", Call(SYS_statfs, p, b)},
      {"chdir", Call(SYS_chdir, p)},
      {"chroot", Call(SYS_chroot, p)},
      {"chmod", Call(SYS_chmod, p, 0777)},
      {"fchmodat", Call(SYS_fchmodat, at, p, 0777)},
      {"chown", Call(SYS_chown, p, 0, 0)},
      {"lchown", Call(SYS_lchown, p, 0, 0)},
      {"fchownat", Call(SYS_fchownat, at, p, 0, 0, 0)},
      {"truncate", Call(SYS_truncate, p, 0)},
      {"utime", Call(SYS_utime, p, 0)},
      {"utimes", Call(SYS_utimes, p, 0)},
      {"futimesat", Call(SYS_futimesat, at, p, 0)},
      {"utimensat", Call(SYS_utimensat, at, p, 0, 0)},
      {"setxattr", Call(SYS_setxattr, p, x, b, 1, 0)},
      {"lsetxattr", Call(SYS_lsetxattr, p, x, b, 1, 0)},
      {"getxattr", Call(SYS_getxattr, p, x, b, 16)},
      {"lgetxattr", Call(SYS_lgetxattr, p, x, b, 16)},
      {"listxattr", Call(SYS_listxattr, p, b, 16)},
      {"llistxattr", Call(SYS_llistxattr, p, b, 16)},
      {"removexattr", Call(SYS_removexattr, p, x)},
      {"lremovexattr", Call(SYS_lremovexattr, p, x)},
      {"link", Call(SYS_link, p, other)},
      {"linkat", Call(SYS_linkat, at, p, at, other, AT_SYMLINK_FOLLOW)},
      {"rename", Call(SYS_rename, p, other)},
      {"unlink", Call(SYS_unlink, p)},
      {"mkdir", Call(SYS_mkdir, p, 0700)},
      {"symlink", Call(SYS_symlink, other, p)},
      {"execve", Call(SYS_execve, p, 0, 0)},
  };
  for (const auto& one : results) Expect(one.result == -ENOENT, "%s of %s gives %ld", one.name, path, one.result);
}

// Arrays that name descriptors: the runtime's are as if they were closed.
void Poll(int fd) {
  pollfd entries[2] = {{fd, POLLIN, 0}, {1, 0, 0}};
  Expect(poll(entries, 2, 0) == 1 && entries[0].revents == POLLNVAL, "poll of %d gives %x", fd, entries[0].revents);
  entries[0].revents = 0;
  timespec none{};
  Expect(ppoll(entries, 2, &none, nullptr) == 1 && entries[0].revents == POLLNVAL && entries[0].fd == fd,
         "ppoll of %d gives %x", fd, entries[0].revents);
  alignas(8) unsigned char set[1024] = {};
  set[fd / 8] = static_cast<unsigned char>(1 << (fd % 8));
  timeval now{};
  const auto count = static_cast<std::uint64_t>(fd) + 1;
  const long selected = Call(SYS_select, count, Number(set), 0, 0, Number(&now));
  Expect(selected == -EBADF, "select of %d gives %ld", fd, selected);
  const long selected6 = Call(SYS_pselect6, count, 0, Number(set), 0, Number(&none), 0);
  Expect(selected6 == -EBADF, "pselect6 of %d gives %ld", fd, selected6);
  const int watcher = epoll_create1(0);
  epoll_event event{};
  Expect(epoll_ctl(watcher, EPOLL_CTL_ADD, fd, &event) < 0 && errno == EBADF, "epoll_ctl of %d gives %d", fd, errno);
  close(watcher);
}

void Send() {
  int pair[2];
  socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
  for (int fd = 4000; fd < 4400; fd += 1) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    char byte = 0;
    iovec part = {&byte, 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    Expect(sendmsg(pair[0], &message, MSG_DONTWAIT) < 0, "descriptor %d can be sent", fd);
  }
  close(pair[0]);
  close(pair[1]);
}

void List(const char* path) {
  DIR* folder = opendir(path);
  if (folder == nullptr) {
    victim::Note("%s cannot be listed", path);
    return;
  }
  for (dirent* entry; (entry = readdir(folder)) != nullptr;) {
    const int fd = std::atoi(entry->d_name);
    Expect(fd < static_cast<int>(kFirstOfRuntime), "%s shows %s", path, entry->d_name);
  }
  closedir(folder);
}

void Limits() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  for (const rlim_t wanted : {limit.rlim_max, limit.rlim_max + 1, static_cast<rlim_t>(65536), RLIM_INFINITY}) {
    const rlimit more{wanted, wanted};
    setrlimit(RLIMIT_NOFILE, &more);
    rlimit now{};
    getrlimit(RLIMIT_NOFILE, &now);
    const long above = Call(SYS_dup2, 1, now.rlim_cur);
    Expect(above == -EBADF, "dup2 onto the limit %lu gives %ld", now.rlim_cur, above);
    const long last = Call(SYS_dup2, 1, now.rlim_cur - 1);
    Expect(last == static_cast<long>(now.rlim_cur) - 1, "dup2 below the limit %lu gives %ld", now.rlim_cur, last);
    Call(SYS_close, now.rlim_cur - 1);
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  // All of the program's, and no more.
  int count = 0;
  while (count < 70000 && dup(1) >= 0) ++count;
  Expect(errno == EMFILE, "dup ends with %d", errno);
  Expect(count < static_cast<int>(limit.rlim_cur), "%d descriptors with a limit of %lu", count, limit.rlim_cur);
  Expect(Call(SYS_close_range, 3, 0xffffffff, 0) == 0, "close_range of all fails");
  Expect(Call(SYS_close_range, kFirstOfRuntime, 0xffffffff, 0) <= 0, "close_range above");
  Expect(Call(SYS_close_range, 3, 0xffffffff, 4 /* CLOSE_RANGE_CLOEXEC */) <= 0, "close_range marking");
}

}  // namespace

int main(int argc, char** argv) {
  victim::Begin("descriptor_guess");
  Guess(argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 65536);
  for (std::uint64_t fd = kFirstOfRuntime; fd < kFirstOfRuntime + 44; ++fd) Use(fd);
  for (const std::uint64_t fd : {kFirstOfRuntime + 900, 8191ul, 8192ul, 20000ul, 65535ul, 1048575ul, 0x7ffffffful, 0xfffffffful, 0x80000000ul}) Use(fd);
  Send();
  List("/proc/self/fd");
  List("/proc/self/fdinfo");
  List("/dev/fd");
  const int first = static_cast<int>(kFirstOfRuntime);
  for (int fd = first; fd < first + 24; ++fd) {
    for (const char* form : {"/proc/self/fd/%d", "/proc/thread-self/fd/%d", "/dev/fd/%d", "/proc/self/fdinfo/%d"}) {
      char path[64], target[64];
      std::snprintf(path, sizeof(path), form, fd);
      Expect(open(path, O_RDONLY) < 0, "%s can be opened", path);
      Expect(readlink(path, target, sizeof(target)) < 0, "%s can be read", path);
      Name(path);
    }
    Poll(fd);
  }
  Limits();
  victim::ExpectAlive("descriptors");
  // Memory still works, which takes the runtime's descriptors.
  auto* page = static_cast<volatile char*>(mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (int i = 0; i < 1 << 20; i += 4096) page[i] = 1;
  return victim::Verdict();
}
