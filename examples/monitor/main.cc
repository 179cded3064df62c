// A system-call monitor for unmodified static programs, in a hundred lines: the program runs in ring 3 of a page table of
// its own, and every system call comes here. What kAnswers lists is passed on, emulated or answered; all else is denied,
// and told. It reads the files of one directory, which is its "/", and writes to standard output and error.
//
//   monitor DIRECTORY PROGRAM [ARGUMENT...]
//
// Where the machine has no ring 0, ring 3 is the translator's: addresses are below 4 GiB then, and memory is shared.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "dune/dune.h"
#include "dune/user.h"
#include "dunebox/ring3.h"

namespace {

struct Monitored {
  dune::UserImage image;
  int directory;
  std::uintptr_t heap_end = image.heap, mapping_end = 0x9000'0000;  // what it has got so far ends there
  std::set<std::uint64_t> readable{0};                              // its descriptors
  std::map<std::uint64_t, int> denied;
};

constexpr std::size_t kMostMemory = 32 << 20;  // for its heap, and as much for its mappings
constexpr std::size_t kMostAtOnce = 1 << 20;

std::uint64_t WholePages(std::uint64_t bytes) { return (bytes + 4095) & ~std::uint64_t{4095}; }

// Memory at `where` for ring 3; the kernel has to find pages only for what is used of it.
absl::Status Give(Monitored& program, std::uintptr_t where) {
  const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
  void* const memory = mmap(nullptr, kMostMemory, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "memory for the program");
  return program.image.table.Map({where, kMostMemory}, memory, {});
}

// Neither gets back what the program gives up: memory that it is given is zero.
std::int64_t Break(Monitored& program, dune::UserContext& call) {
  if (call.rdi > program.heap_end && call.rdi - program.image.heap <= kMostMemory) program.heap_end = call.rdi;
  return static_cast<std::int64_t>(program.heap_end);
}

std::int64_t MapAnonymous(Monitored& program, dune::UserContext& call) {
  if ((call.r10 & MAP_ANONYMOUS) == 0 || (call.r10 & MAP_FIXED) != 0) return -EPERM;
  const std::uint64_t size = WholePages(call.rsi);
  if (size == 0 || size > 0x9000'0000 + kMostMemory - program.mapping_end) return -ENOMEM;
  program.mapping_end += size;
  return static_cast<std::int64_t>(program.mapping_end - size);
}

std::int64_t Protect(Monitored& program, dune::UserContext& call) {
  const auto rights = static_cast<dune::Rights>((call.rdx & 7) != 0 ? (call.rdx & 7) | 1 : 0);
  return program.image.table.Protect({call.rdi, WholePages(call.rsi)}, rights).ok() ? 0 : -ENOMEM;
}

std::int64_t ResultOf(std::int64_t returned) { return returned < 0 ? -errno : returned; }

// Reading, writing, opening: through copies, so that what is checked is what is used.
std::int64_t Write(Monitored& program, dune::UserContext& call) {
  if (call.rdi != 1 && call.rdi != 2) return -EBADF;
  std::vector<char> text(std::min<std::uint64_t>(call.rdx, kMostAtOnce));
  if (!dune::CopyFromUser(program.image.table, text.data(), call.rsi, text.size()).ok()) return -EFAULT;
  return ResultOf(write(static_cast<int>(call.rdi), text.data(), text.size()));
}

std::int64_t Read(Monitored& program, dune::UserContext& call) {
  if (!program.readable.contains(call.rdi)) return -EBADF;
  std::vector<char> text(std::min<std::uint64_t>(call.rdx, kMostAtOnce));
  const ssize_t count = read(static_cast<int>(call.rdi), text.data(), text.size());
  if (count > 0 && !dune::CopyToUser(program.image.table, call.rsi, text.data(), count).ok()) return -EFAULT;
  return ResultOf(count);
}

std::int64_t Open(Monitored& program, dune::UserContext& call) {
  std::string path;
  for (char c = 1; c != '\0' && path.size() < 4096; path += c) {
    if (!dune::CopyFromUser(program.image.table, &c, call.rsi + path.size(), 1).ok()) return -EFAULT;
  }
  if ((call.rdx & (O_ACCMODE | O_CREAT | O_TRUNC)) != O_RDONLY || program.readable.size() > 64) return -EPERM;
  const open_how how{.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, .mode = 0, .resolve = RESOLVE_IN_ROOT};
  const long opened = syscall(SYS_openat2, program.directory, path.c_str(), &how, sizeof(how));
  if (opened >= 0) program.readable.insert(opened);
  return ResultOf(opened);
}

std::int64_t Close(Monitored& program, dune::UserContext& call) {
  return program.readable.erase(call.rdi) == 1 ? ResultOf(close(static_cast<int>(call.rdi))) : -EBADF;
}

std::int64_t Clock(Monitored& program, dune::UserContext& call) {
  std::timespec now{};
  if (clock_gettime(static_cast<clockid_t>(call.rdi), &now) != 0) return -EINVAL;
  return dune::CopyToUser(program.image.table, call.rsi, &now, sizeof(now)).ok() ? 0 : -EFAULT;
}

// ARCH_SET_FS; RunUser looks at the address.
std::int64_t SetBase(Monitored&, dune::UserContext& call) {
  if (call.rdi == 0x1002) call.fs_base = call.rsi;
  return call.rdi == 0x1002 ? 0 : -EINVAL;
}

template <std::int64_t kValue>
std::int64_t Always(Monitored&, dune::UserContext&) { return kValue; }

// It is nobody, and process 1 of its world; its C library does without what is ENOSYS.
const std::map<std::uint64_t, std::int64_t (*)(Monitored&, dune::UserContext&)> kAnswers = {
    {SYS_write, Write}, {SYS_read, Read}, {SYS_openat, Open}, {SYS_close, Close}, {SYS_brk, Break},
    {SYS_mmap, MapAnonymous}, {SYS_munmap, Always<0>}, {SYS_mprotect, Protect}, {SYS_arch_prctl, SetBase},
    {SYS_clock_gettime, Clock}, {SYS_setuid, Always<-EPERM>}, {SYS_setgid, Always<-EPERM>},
    {SYS_getpid, Always<1>}, {SYS_set_tid_address, Always<1>}, {SYS_getuid, Always<65534>},
    {SYS_geteuid, Always<65534>}, {SYS_getgid, Always<65534>}, {SYS_getegid, Always<65534>},
    {SYS_set_robust_list, Always<-ENOSYS>}, {SYS_rseq, Always<-ENOSYS>}, {SYS_prlimit64, Always<-ENOSYS>},
    {SYS_readlink, Always<-ENOSYS>}, {SYS_getrandom, Always<-ENOSYS>}, {SYS_newfstatat, Always<-ENOSYS>},
    {SYS_fstat, Always<-ENOSYS>}, {SYS_prctl, Always<-EINVAL>}, {SYS_ioctl, Always<-ENOTTY>},
};

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "dunebox: monitor: %s\n", std::string(status.message()).c_str());
  return 125;
}

int Run(Monitored& program) {
  dune::UserContext& context = program.image.context;
  for (;;) {
    const absl::StatusOr<dune::Stop> stop = dune::RunUser(context, program.image.table);
    if (!stop.ok()) return Fail(stop.status());
    if (stop->reason == dune::StopReason::kFault) {
      std::fprintf(stderr, "monitor: exception %u, address 0x%lx\n", stop->vector, stop->address);
      return 139;
    }
    if (stop->reason != dune::StopReason::kSystemCall) continue;
    if (context.rax == SYS_exit_group || context.rax == SYS_exit) return static_cast<int>(context.rdi & 255);
    const auto found = kAnswers.find(context.rax);
    if (found == kAnswers.end()) ++program.denied[context.rax];
    context.rax = static_cast<std::uint64_t>(found == kAnswers.end() ? -EPERM : found->second(program, context));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int directory = argc < 3 ? -1 : open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return Fail(absl::InvalidArgumentError("usage: monitor DIRECTORY PROGRAM [ARGUMENT...]"));
  absl::Status ready = dunebox::ProvideRing3();
  ready.Update(dune::Enter());
  if (!ready.ok()) return Fail(ready);
  auto image = dune::LoadProgram(argv[2], std::vector<std::string>(argv + 2, argv + argc), {});
  if (!image.ok()) return Fail(image.status());
  Monitored program{.image = *std::move(image), .directory = directory, .denied = {}};
  ready.Update(Give(program, WholePages(program.heap_end)));
  ready.Update(Give(program, program.mapping_end));
  if (!ready.ok()) return Fail(ready);
  const int status = Run(program);
  for (const auto& [number, times] : program.denied) {
    std::fprintf(stderr, "monitor: denied system call %lu, %d times\n", number, times);
  }
  return status;
}
