// Every system call of the table, with addresses that are not the program's in every argument, one at a time: the runtime's
// mappings, the rest of its half, the kernel's, none at all. The call has to fail or to leave the address alone; which of the two
// the driver sees by what became of the runtime.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "hostcalls/table/argument.h"
#include "victim.h"

namespace {

// The table's columns that matter here have types of other headers; only the arguments are wanted.
using namespace dunebox::hostcalls;

struct Row {
  int number;
  const char* name;
  Argument arguments[6];
};

constexpr Row kRows[] = {
#define SYSCALL(number, name, route, family, note, ...) {number, #name, {__VA_ARGS__}},
#include "hostcalls/table/syscalls.inc"
#undef SYSCALL
};

struct Exception {
  int number;
  bool pointers_only;  // otherwise not called at all
  const char* reason;
};

constexpr Exception kExceptions[] = {
    {SYS_exit, false, "ends the victim"},
    {SYS_exit_group, false, "ends the victim"},
    {SYS_rt_sigreturn, false, "jumps by what is on the stack; forged_sigreturn has it"},
    {SYS_fork, false, "makes a second victim"},
    {SYS_vfork, false, "makes a second victim"},
    {SYS_clone, false, "makes a second victim; with a flag of zero it is fork"},
    {SYS_clone3, true, "makes a second victim"},
    {SYS_pause, false, "waits"},
    {SYS_kill, false, "process 0 is the driver's process group"},
    {SYS_tkill, false, "as kill"},
    {SYS_tgkill, false, "as kill"},
    {SYS_close, false, "descriptor 0 is the driver's"},
    {SYS_dup2, false, "replaces descriptor 0"},
    {SYS_dup3, false, "replaces descriptor 0"},
    {SYS_close_range, false, "closes descriptor 0"},
    {SYS_setrlimit, true, "limits of zero end the victim"},
    {SYS_prlimit64, true, "limits of zero end the victim"},
    {SYS_setsid, false, "leaves the driver's session"},
    {SYS_setuid, false, "changes who the victim is"},
    {SYS_setgid, false, "changes who the victim is"},
    {SYS_setreuid, false, "changes who the victim is"},
    {SYS_setregid, false, "changes who the victim is"},
    {SYS_setresuid, false, "changes who the victim is"},
    {SYS_setresgid, false, "changes who the victim is"},
    {SYS_setfsuid, false, "changes who the victim is"},
    {SYS_setfsgid, false, "changes who the victim is"},
    {SYS_setgroups, true, "changes who the victim is"},
    {SYS_capset, true, "changes what the victim may do"},
    {SYS_personality, false, "changes how addresses are chosen"},
    {SYS_seccomp, true, "could forbid the victim's own calls"},
    {SYS_shmget, false, "leaves an object behind on the machine"},
    {SYS_semget, false, "leaves an object behind on the machine"},
    {SYS_msgget, false, "leaves an object behind on the machine"},
    {SYS_chroot, false, "makes the runtime give up a descriptor that it opens files from, on purpose"},
    {SYS_reboot, false, "is about the machine"},
    {SYS_vhangup, false, "hangs up the driver's terminal"},
    {SYS_sync, false, "is about the machine, and slow"},
    {SYS_kexec_load, false, "is about the machine"},
    {SYS_kexec_file_load, false, "is about the machine"},
    {SYS_init_module, true, "is about the machine"},
    {SYS_finit_module, true, "is about the machine"},
    {SYS_delete_module, true, "is about the machine"},
    {SYS_swapon, true, "is about the machine"},
    {SYS_swapoff, true, "is about the machine"},
    {SYS_acct, true, "is about the machine"},
    {SYS_syslog, true, "is about the machine"},
    {SYS_settimeofday, true, "is about the machine"},
    {SYS_clock_settime, true, "is about the machine"},
    {SYS_clock_adjtime, true, "is about the machine"},
    {SYS_adjtimex, true, "is about the machine"},
    {SYS_sethostname, true, "is about the machine"},
    {SYS_setdomainname, true, "is about the machine"},
    {SYS_mount, true, "is about the machine"},
    {SYS_umount2, true, "is about the machine"},
    {SYS_pivot_root, true, "is about the machine"},
    {SYS_quotactl, true, "is about the machine"},
    {SYS_fallocate, false, "fills the disk when the address is a length"},
};

constexpr std::size_t kScratch = 65536;
unsigned char* scratch;     // valid for every struct and buffer
unsigned char* throw_away;  // for calls that change the mapping they are given
int file;
int calls = 0, failed = 0, skipped = 0;

const Exception* FindException(int number) {
  for (const Exception& exception : kExceptions) {
    if (exception.number == number) return &exception;
  }
  return nullptr;
}

bool IsPointer(ArgumentKind kind) { return kind >= ArgumentKind::kPath; }

bool IsLengthOf(const Row& row, int index) {
  for (const Argument& argument : row.arguments) {
    if (argument.length_argument == index) return true;
  }
  return false;
}

// A value that lets the call get as far as possible.
std::uint64_t Plausible(const Row& row, int index) {
  const Argument& argument = row.arguments[index];
  switch (argument.kind) {
    case ArgumentKind::kFd:
      return static_cast<std::uint64_t>(file);
    case ArgumentKind::kDirFd:
      return static_cast<std::uint64_t>(AT_FDCWD);
    case ArgumentKind::kPid:
      return static_cast<std::uint64_t>(getpid());
    case ArgumentKind::kSize:
      return IsLengthOf(row, index) ? 2 : (row.number == SYS_rt_sigaction || row.number == SYS_rt_sigprocmask ? 8 : 64);
    case ArgumentKind::kMode:
      return 0600;
    case ArgumentKind::kSignal:
      return SIGUSR2;
    case ArgumentKind::kAddress:
      return reinterpret_cast<std::uint64_t>(throw_away);
    case ArgumentKind::kPath:
    case ArgumentKind::kString:
      return reinterpret_cast<std::uint64_t>("missing/file");
    case ArgumentKind::kNone:
      return 0;
    default:
      if (IsPointer(argument.kind)) return reinterpret_cast<std::uint64_t>(scratch);
      return IsLengthOf(row, index) ? 2 : 0;
  }
}

void OnAlarm(int) {}

// What a call may have changed: mask, handlers, timer, descriptors, mappings.
void Restore() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  struct sigaction action {};
  action.sa_handler = OnAlarm;
  sigaction(SIGALRM, &action, nullptr);
  sigaction(SIGUSR2, &action, nullptr);
  // No SA_RESTART: what blocks, ends.
  const itimerval timer{{0, 20000}, {0, 20000}};
  setitimer(ITIMER_REAL, &timer, nullptr);
  (void)!mmap(scratch, kScratch, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  (void)!mmap(throw_away, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  victim::Call(SYS_close_range, static_cast<std::uint64_t>(file), 4095);
  const int opened = open("scratch", O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (opened != file) {
    dup2(opened, file);
    close(opened);
  }
}

void CallRow(const Row& row, std::span<const std::uint64_t> addresses) {
  const Exception* exception = FindException(row.number);
  if (exception != nullptr && !exception->pointers_only) {
    ++skipped;
    victim::Note("not called: %s: %s", row.name, exception->reason);
    return;
  }
  // Descriptors come back as those the table has no arguments for; those get addresses, too.
  for (int index = 0; index < 6; ++index) {
    const ArgumentKind kind = row.arguments[index].kind;
    if (exception != nullptr && !IsPointer(kind)) continue;
    for (const std::uint64_t address : addresses) {
      std::uint64_t values[6];
      for (int i = 0; i < 6; ++i) values[i] = Plausible(row, i);
      values[index] = address;
      std::memset(scratch, 0, 256);
      const long result = victim::Call(row.number, values[0], values[1], values[2], values[3], values[4], values[5]);
      ++calls;
      failed += result < 0;
      victim::Expect(result >= -4095 || row.number == SYS_mmap, "%s gives %ld", row.name, result);
      // What the kernel has to read or write, with a length that is not zero: success would mean that it did.
      const bool must_fail = kind >= ArgumentKind::kPath && kind <= ArgumentKind::kString;
      victim::Expect(!must_fail || result < 0, "%s accepts the string %s at 0x%lx", row.name, row.arguments[index].name, address);
    }
  }
}

// Addresses one level down: what a valid iovec or message points to.
void Nested(std::span<const std::uint64_t> addresses) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) != 0) return;
  const timeval soon{0, 10000};
  setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
  const auto file_descriptor = static_cast<std::uint64_t>(file);
  for (const std::uint64_t address : addresses) {
    iovec parts[2] = {{scratch, 16}, {reinterpret_cast<void*>(address), 64}};
    const auto vector = reinterpret_cast<std::uint64_t>(parts);
    ftruncate(file, 4096);
    for (const long number : {SYS_readv, SYS_writev, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2}) {
      lseek(file, 0, SEEK_SET);
      const long result = victim::Call(number, file_descriptor, vector, 2, 0, 0, 0);
      victim::Expect(result == -EFAULT || result == 16, "vector call %ld with 0x%lx gives %ld", number, address, result);
    }
    victim::Expect(victim::Call(SYS_vmsplice, static_cast<std::uint64_t>(pair[0]), vector, 2, 0) < 0, "vmsplice");
    const auto own = static_cast<std::uint64_t>(getpid());
    victim::Expect(victim::Call(SYS_process_vm_readv, own, vector, 1, reinterpret_cast<std::uint64_t>(parts + 1), 1, 0) < 0, "process_vm_readv");
    victim::Expect(victim::Call(SYS_process_vm_writev, own, vector, 1, reinterpret_cast<std::uint64_t>(parts + 1), 1, 0) < 0, "process_vm_writev");
    for (int field = 0; field < 3; ++field) {
      msghdr message{};
      message.msg_iov = parts;
      message.msg_iovlen = 1;
      if (field == 0) message.msg_iovlen = 2;
      if (field == 1) message.msg_name = reinterpret_cast<void*>(address), message.msg_namelen = 64;
      if (field == 2) message.msg_control = reinterpret_cast<void*>(address), message.msg_controllen = 64;
      const auto header = reinterpret_cast<std::uint64_t>(&message);
      const long sent = victim::Call(SYS_sendmsg, static_cast<std::uint64_t>(pair[0]), header, MSG_DONTWAIT);
      victim::Expect(sent < 0, "sendmsg, field %d at 0x%lx: %ld", field, address, sent);
      (void)!write(pair[0], "0123456789abcdefghijklmnopqrstuvwxyz", 36);
      // A datagram's sender has no name and there is no control data: those two need not be touched.
      const long received = victim::Call(SYS_recvmsg, static_cast<std::uint64_t>(pair[1]), header, MSG_DONTWAIT);
      victim::Expect(received < 0 || field != 0, "recvmsg to 0x%lx: %ld", address, received);
      struct {
        msghdr header;
        unsigned length;
      } several = {message, 0};
      victim::Call(SYS_sendmmsg, static_cast<std::uint64_t>(pair[0]), reinterpret_cast<std::uint64_t>(&several), 1, MSG_DONTWAIT);
      victim::Call(SYS_recvmmsg, static_cast<std::uint64_t>(pair[1]), reinterpret_cast<std::uint64_t>(&several), 1, MSG_DONTWAIT, 0);
      while (victim::Call(SYS_recvfrom, static_cast<std::uint64_t>(pair[1]), reinterpret_cast<std::uint64_t>(scratch), 100, MSG_DONTWAIT) >= 0) {
      }
    }
    // sigevent, sigaltstack, robust list, futex, prctl: addresses that are kept for later.
    const stack_t stack{reinterpret_cast<void*>(address), 0, 8192};
    victim::Call(SYS_set_robust_list, address, 24);
    victim::Call(SYS_set_tid_address, address);
    victim::Call(SYS_rseq, address, 32, 0, 0x53053053);
    victim::Call(SYS_prctl, 40 /* PR_GET_TID_ADDRESS */, address);
    for (const std::uint64_t option : {2ul, 15ul, 16ul, 19ul, 25ul, 35ul, 37ul, 59ul, 0x53564d41ul}) {
      const long result = victim::Call(SYS_prctl, option, address, address, address, address);
      victim::Expect(result < 0 || option == 35 || option == 59, "prctl %lu with 0x%lx gives %ld", option, address, result);
    }
    for (std::uint64_t operation = 0; operation < 14; ++operation) {
      const long result = victim::Call(SYS_futex, address, operation | 128, 1, 1, address, 0);
      // Waking at an address of its own where nothing is touches nothing.
      victim::Expect(result < 0 || address < victim::kRuntimeHalf, "futex %lu at 0x%lx gives %ld", operation, address, result);
    }
    for (const std::uint64_t command : {5ul, 6ul, 7ul, 9ul, 15ul, 16ul, 36ul, 37ul, 1035ul, 1036ul}) {
      const long result = victim::Call(SYS_fcntl, file_descriptor, command, address);
      victim::Expect(result < 0 || command == 9, "fcntl %lu with 0x%lx gives %ld", command, address, result);
    }
    for (const std::uint64_t request : {0x5401ul, 0x5413ul, 0x5421ul, 0x541bul, 0x5402ul, 0x80086601ul, 0xc020660bul}) {
      const long result = victim::Call(SYS_ioctl, file_descriptor, request, address);
      victim::Expect(result < 0, "ioctl 0x%lx with 0x%lx gives %ld", request, address, result);
    }
    victim::Expect(victim::Call(SYS_modify_ldt, 0x11, address, 16) < 0, "modify_ldt");
    (void)stack;
    victim::ExpectAlive("nested addresses");
  }
  close(pair[0]);
  close(pair[1]);
}

}  // namespace

int main() {
  victim::Begin("runtime_pointers");
  scratch = static_cast<unsigned char*>(mmap(nullptr, kScratch, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  throw_away = static_cast<unsigned char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  file = 20;
  std::uint64_t addresses[16];
  const std::size_t count = victim::ForbiddenAddresses(addresses, 13);
  for (const Row& row : kRows) {
    Restore();
    CallRow(row, {addresses, count});
    victim::ExpectAlive(row.name);
  }
  Restore();
  Nested({addresses, count});
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  victim::Note("%d calls, %d failed, %d rows not called", calls, failed, skipped);
  return victim::Verdict();
}
