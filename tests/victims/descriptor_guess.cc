// Every descriptor number: only what the program opened itself answers. The runtime's, above the program's limit, can be neither
// used, replaced, closed, listed nor sent.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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

void Guess() {
  for (std::uint64_t fd = 3; fd < 65536; ++fd) {
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
  } kResults[] = {
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
  for (const auto& one : kResults) Expect(one.result < 0, "%s with descriptor %lu gives %ld", one.name, fd, one.result);
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
    Expect(fd < 4096, "%s shows %s", path, entry->d_name);
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
  Expect(Call(SYS_close_range, 4096, 0xffffffff, 0) <= 0, "close_range above");
  Expect(Call(SYS_close_range, 3, 0xffffffff, 4 /* CLOSE_RANGE_CLOEXEC */) <= 0, "close_range marking");
}

}  // namespace

int main() {
  victim::Begin("descriptor_guess");
  Guess();
  for (std::uint64_t fd = 4096; fd < 4140; ++fd) Use(fd);
  for (const std::uint64_t fd : {5000ul, 8191ul, 8192ul, 20000ul, 65535ul, 1048575ul, 0x7ffffffful, 0xfffffffful, 0x80000000ul}) Use(fd);
  Send();
  List("/proc/self/fd");
  List("/proc/self/fdinfo");
  List("/dev/fd");
  int looked_at = 0;
  for (int fd = 4096; fd < 4120; ++fd) {
    for (const char* form : {"/proc/self/fd/%d", "/proc/thread-self/fd/%d", "/dev/fd/%d", "/proc/self/fdinfo/%d"}) {
      char path[64], target[64];
      std::snprintf(path, sizeof(path), form, fd);
      Expect(open(path, O_RDONLY) < 0, "%s can be opened", path);
      Expect(readlink(path, target, sizeof(target)) < 0, "%s can be read", path);
      // That something is there, and its type, stat() tells: it is forwarded as it is.
      struct stat info;
      looked_at += stat(path, &info) == 0;
    }
  }
  victim::Note("stat() finds %d of the runtime's descriptors", looked_at);
  Limits();
  victim::ExpectAlive("descriptors");
  // Memory still works, which takes the runtime's descriptors.
  auto* page = static_cast<volatile char*>(mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (int i = 0; i < 1 << 20; i += 4096) page[i] = 1;
  return victim::Verdict();
}
