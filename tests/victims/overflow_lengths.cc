// Lengths and counts that wrap around, leave the program's half, or are larger than anything: an error, or no more than the
// program has.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "victim.h"

namespace {

using victim::Call;
using victim::Expect;

unsigned char* area;
constexpr std::size_t kArea = 65536;
int file, folder, pair[2], ends[2];

std::uint64_t Number(const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); }

// `most`: what the call may do at most when it does not refuse.
void Judge(const char* name, std::uint64_t length, long result, long most) {
  Expect((result < 0 && result >= -4095) || (result >= 0 && result <= most), "%s with length 0x%lx gives %ld", name, length, result);
  victim::ExpectAlive(name);
}

void Prepare() {
  ftruncate(file, 0);
  (void)!pwrite(file, "0123456789abcdef", 16, 0);
  lseek(file, 0, SEEK_SET);
  lseek(folder, 0, SEEK_SET);
  char drain[64];
  while (recv(pair[1], drain, sizeof(drain), MSG_DONTWAIT) > 0) {
  }
  (void)!send(pair[0], "0123456789abcdef", 16, MSG_DONTWAIT);
}

void Buffers(std::uint64_t length) {
  const auto f = static_cast<std::uint64_t>(file), d = static_cast<std::uint64_t>(folder), s = static_cast<std::uint64_t>(pair[1]);
  const std::uint64_t a = Number(area);
  Prepare();
  Judge("read", length, Call(SYS_read, f, a, length), 16);
  Judge("pread64", length, Call(SYS_pread64, f, a, length, 0), 16);
  // Nothing is mapped behind the area: no more than it can be written.
  Judge("write to a pipe", length, Call(SYS_write, static_cast<std::uint64_t>(ends[1]), a, length), kArea);
  Judge("pwrite64", length, Call(SYS_pwrite64, f, a, length, 0), kArea);
  Prepare();
  Judge("recvfrom", length, Call(SYS_recvfrom, s, a, length, MSG_DONTWAIT, 0, 0), 16);
  Judge("sendto", length, Call(SYS_sendto, s, a, length, MSG_DONTWAIT, 0, 0), kArea);
  Judge("getdents64", length, Call(SYS_getdents64, d, a, length), kArea);
  Judge("getrandom", length, Call(SYS_getrandom, a, length, 0), kArea);
  Judge("getcwd", length, Call(SYS_getcwd, a, length), 4096);
  Judge("readlink", length, Call(SYS_readlink, Number("link"), a, length), 4);
  Judge("getxattr", length, Call(SYS_fgetxattr, f, Number("user.x"), a, length), 0);
  Judge("setxattr", length, Call(SYS_fsetxattr, f, Number("user.x"), a, length, 0), -1);
  Judge("sched_getaffinity", length, Call(SYS_sched_getaffinity, 0, length, a), 8192);
  Judge("sched_setaffinity", length, Call(SYS_sched_setaffinity, 0, length, a), 0);
  Judge("mincore", length, Call(SYS_mincore, a, length, a), 0);
  Judge("msgsnd", length, Call(SYS_msgsnd, ~0ul, a, length, 0), -1);
  Judge("add_key", length, Call(SYS_add_key, Number("user"), Number("x"), a, length, 0), -1);
  Judge("getgroups", length, Call(SYS_getgroups, length, a), 65536);
  Judge("bind", length, Call(SYS_bind, s, a, length), -1);
  Judge("connect", length, Call(SYS_connect, s, a, length), -1);
  Judge("setsockopt", length, Call(SYS_setsockopt, s, SOL_SOCKET, SO_RCVBUF, a, length), 0);
  Judge("setrobust", length, Call(SYS_set_robust_list, a, length), length == 24 ? 0 : -1);
}

void Vectors() {
  const auto f = static_cast<std::uint64_t>(file);
  const auto s = static_cast<std::uint64_t>(pair[1]);
  static iovec parts[2048];
  for (iovec& part : parts) part = {area, 1};
  for (const std::uint64_t count : {1025ul, 2048ul, 0x10000ul, 0x7ffffffful, 0x80000000ul, 0xfffffffful, 0x100000000ul, 1ul << 60, 1ul << 63, ~0ul}) {
    Judge("readv", count, Call(SYS_readv, f, Number(parts), count), count == 0x100000000ul ? 0 : -1);
    Judge("writev", count, Call(SYS_writev, f, Number(parts), count), count == 0x100000000ul ? 0 : -1);
    Judge("preadv", count, Call(SYS_preadv, f, Number(parts), count, 0, 0), count == 0x100000000ul ? 0 : -1);
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = count;
    Judge("sendmsg", count, Call(SYS_sendmsg, s, Number(&message), MSG_DONTWAIT), -1);
    Judge("recvmsg", count, Call(SYS_recvmsg, s, Number(&message), MSG_DONTWAIT), -1);
  }
  for (const std::uint64_t length : {~0ul, 1ul << 63, (1ul << 63) - 1, victim::kRuntimeHalf, 0ul - Number(area) + 8}) {
    iovec two[2] = {{area, 8}, {area, length}};
    Prepare();
    Judge("readv's part", length, Call(SYS_readv, f, Number(two), 2), 16);
    Judge("writev's part", length, Call(SYS_writev, f, Number(two), 2), kArea + 8);
    iovec both[2] = {{area, length}, {area, length}};
    Judge("readv's sum", length, Call(SYS_readv, f, Number(both), 2), 16);
    for (int field = 0; field < 3; ++field) {
      msghdr message{};
      iovec one = {area, 8};
      message.msg_iov = &one;
      message.msg_iovlen = 1;
      if (field == 0) message.msg_control = area, message.msg_controllen = length;
      if (field == 1) message.msg_name = area, message.msg_namelen = static_cast<socklen_t>(length);
      if (field == 2) one.iov_len = length;
      Prepare();
      std::memset(area, 0, 64);
      Judge("recvmsg's field", length, Call(SYS_recvmsg, s, Number(&message), MSG_DONTWAIT), 16);
      Judge("sendmsg's field", length, Call(SYS_sendmsg, s, Number(&message), MSG_DONTWAIT), kArea);
    }
  }
}

void Counts() {
  std::memset(area, 0xff, kArea);
  for (const std::uint64_t count : {0x10000ul, 0x7ffffffful, 0x80000000ul, 0xfffffffful, 0x1000000000ul, ~0ul}) {
    if (static_cast<std::uint32_t>(count) != 0) {
      Judge("poll", count, Call(SYS_poll, Number(area), count, 0), 65536);
      Judge("epoll_wait", count, Call(SYS_epoll_wait, ~0ul, Number(area), count, 0), -1);
    }
    Judge("select", count, Call(SYS_select, count, Number(area), 0, 0, Number(area + 4096)), 65536);
    Judge("setgroups", count, Call(SYS_setgroups, count, Number(area)), count == 0x1000000000ul ? 0 : -1);
    Judge("accept's length", count, Call(SYS_accept, static_cast<std::uint64_t>(pair[1]), Number(area), Number(area)), -1);
    Judge("recvmmsg", count, Call(SYS_recvmmsg, static_cast<std::uint64_t>(pair[1]), Number(area), count, MSG_DONTWAIT, 0), count == 0x1000000000ul ? 0 : -1);
    Judge("io_submit", count, Call(SYS_io_submit, 0, count, Number(area)), -1);
    Judge("move_pages", count, Call(SYS_move_pages, 0, count, Number(area), 0, Number(area), 0), -1);
  }
}

// Ranges of the program's own mappings that wrap or leave its half.
void Ranges() {
  const std::uint64_t a = Number(area);
  for (const std::uint64_t length : {0ul - a, ~0ul, ~0ul - 4095, 1ul << 63, victim::kRuntimeHalf - a + 4096, victim::kRuntimeHalf, 0x800000000000ul - a}) {
    Judge("munmap", length, Call(SYS_munmap, a, length), -1);
    Judge("mprotect", length, Call(SYS_mprotect, a, length, PROT_READ), length > ~0ul - 4095 ? 0 : -1);
    Judge("madvise", length, Call(SYS_madvise, a, length, MADV_DONTNEED), length > ~0ul - 4095 ? 0 : -1);
    Judge("msync", length, Call(SYS_msync, a, length, MS_SYNC), length > ~0ul - 4095 ? 0 : -1);
    Judge("mlock", length, Call(SYS_mlock, a, length), length > ~0ul - 4095 ? 0 : -1);
    Judge("munlock", length, Call(SYS_munlock, a, length), length > ~0ul - 4095 ? 0 : -1);
    Judge("mremap's old size", length, Call(SYS_mremap, a, length, 4096, MREMAP_MAYMOVE, 0), -1);
    if (length >= victim::kRuntimeHalf) Judge("mremap's new size", length, Call(SYS_mremap, a, 4096, length, MREMAP_MAYMOVE, 0), -1);
    // Elsewhere there may be room for what does not fit behind the area.
    if (length >= victim::kRuntimeHalf) Judge("mmap", length, Call(SYS_mmap, 0, length, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, ~0ul, 0), -1);
    Judge("mmap, fixed", length, Call(SYS_mmap, a, length, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, ~0ul, 0), -1);
    Judge("mmap of a file", ~0ul << 12, Call(SYS_mmap, 0, 8192, PROT_READ, MAP_PRIVATE, static_cast<std::uint64_t>(file), ~0ul << 12), -1);
    Judge("mbind", length, Call(SYS_mbind, a, length, 0, 0, 0, 0), length > ~0ul - 4095 ? 0 : -1);
  }
  mprotect(area, kArea, PROT_READ | PROT_WRITE);
  for (std::size_t i = 0; i < kArea; i += 4096) area[i] = 1;
  // Strings without an end.
  auto* text = static_cast<unsigned char*>(mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  std::memset(text, 'x', 65536);
  const auto cwd = static_cast<std::uint64_t>(AT_FDCWD);
  Expect(Call(SYS_openat, cwd, Number(text), 0, 0) == -ENAMETOOLONG, "a path of 64 KiB");
  Expect(Call(SYS_execve, Number(text), 0, 0) < 0, "a program's path of 64 KiB");
  Expect(Call(SYS_memfd_create, Number(text), 0) < 0, "a name of 64 KiB");
  Expect(Call(SYS_symlink, Number(text), Number("a")) < 0, "a link's target of 64 KiB");
}

}  // namespace

int main() {
  victim::Begin("overflow_lengths");
  // Alone: unmapped pages around.
  auto* reserved = static_cast<unsigned char*>(mmap(nullptr, kArea + 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  area = reserved + 4096;
  mprotect(area, kArea, PROT_READ | PROT_WRITE);
  munmap(reserved, 4096);
  munmap(area + kArea, 4096);
  file = open("data", O_RDWR | O_CREAT, 0600);
  folder = open(".", O_RDONLY | O_DIRECTORY);
  (void)!symlink("data", "link");
  socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
  (void)!pipe2(ends, O_NONBLOCK);
  for (const std::uint64_t length : {~0ul, ~0ul - 4095, 1ul << 63, (1ul << 63) - 1, 0ul - Number(area), 0ul - Number(area) + 8,
                                     victim::kRuntimeHalf - Number(area) + 1, victim::kRuntimeHalf - Number(area) + 4096, victim::kRuntimeHalf,
                                     0x800000000000ul, 0xfffffffful, 0x80000000ul}) {
    Buffers(length);
  }
  Vectors();
  Counts();
  Ranges();
  return victim::Verdict();
}
