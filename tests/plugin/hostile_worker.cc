// A worker whose plugin has broken out of the first wall: native code in its place, with all that
// the worker has. A name that is looked up and begins with "attack." is what it tries; the
// "address" that comes back is an errno, or kThrough when it got what it wanted. What kills it is
// seen by the host.
//
// And a worker that lies about its snapshots: a name that begins with "lie." is how, from then on.
//
// The linker puts three functions of this file in front of the worker's (--wrap, see CMakeLists.txt).
#include "tests/plugin/hostile_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/snapshot_format.h"
#include "sandbox/worker/protocol.h"
#include "sandbox/worker/reset_signals.h"
#include "sandbox/worker/wire.h"
#include "sandbox/worker/worker.h"

namespace dunebox {
namespace {

using worker::Direction;
using worker::Operation;
using worker::Slot;

long OpenBy2(const char* path, std::uint64_t flags) {
  open_how how{};
  how.flags = flags;
  how.mode = (flags & O_CREAT) != 0 ? 0600 : 0;
  return syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
}

long Result(void* mapping) { return mapping == MAP_FAILED ? -1 : 0; }

// The slots, once more.
Slot* Slots(std::size_t& count) {
  struct stat status;
  fstat(worker::kControlFd, &status);
  count = static_cast<std::size_t>(status.st_size) / sizeof(Slot);
  return static_cast<Slot*>(mmap(nullptr, static_cast<std::size_t>(status.st_size),
                                 PROT_READ | PROT_WRITE, MAP_SHARED, worker::kControlFd, 0));
}

constexpr std::uint64_t kOperations = static_cast<std::uint64_t>(Operation::kOutput) + 1;

void Say(Direction& to, Operation operation, const std::string& bytes) {
  std::memcpy(to.payload, bytes.data(), bytes.size());
  to.operation = static_cast<std::uint32_t>(operation);
  to.size = static_cast<std::uint32_t>(bytes.size());
  to.number.fetch_add(1);
  syscall(SYS_futex, &to.number, 1 /* FUTEX_WAKE */, 100, nullptr, nullptr, 0);
}

void SleepFor(std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }

// Of the first callback.
std::string CallbackBytes() {
  worker::Writer writer;
  writer.Put(std::uint32_t{0});
  worker::PutFrame(writer, internal::CallbackFrame{}, false, 0);
  return writer.bytes();
}

std::string OutputBytes() {
  worker::Writer writer;
  writer.Put(std::uint32_t{0});
  writer.PutText("more and more");
  return writer.bytes();
}

std::string DoneBytes(const absl::Status& status, const std::string& answer) {
  worker::Writer writer;
  worker::PutStatus(writer, status);
  return writer.bytes() + answer;
}

// In the slot of the host's first thread, without end. By several threads, of which one is there when a busy machine
// has others wait.
long SayForEver(Operation operation, const std::string& bytes) {
  std::size_t count = 0;
  Direction& to_host = Slots(count)[1].to_host;
  const auto say = [&to_host, operation, bytes] {
    for (;;) {
      Say(to_host, operation, bytes);
      SleepFor(std::chrono::milliseconds(1));
    }
  };
  for (int i = 0; i < 3; ++i) std::thread(say).detach();
  say();
  return 0;
}

// The same in the first slot of the worker's own, as a thread of the plugin's would: it waits for each answer.
long WriteForEver() {
  std::thread([] {
    std::size_t count = 0;
    Slot& slot = Slots(count)[count - 1];
    constexpr std::uint64_t kOnce = 1;
    const std::string bytes = OutputBytes();
    std::uint32_t heard = slot.to_worker.number;
    Say(slot.to_host, Operation::kOutput, bytes);
    (void)!write(worker::kDoorbellFd, &kOnce, sizeof(kOnce));
    for (;;) {
      while (slot.to_worker.number == heard) std::this_thread::yield();
      heard = slot.to_worker.number;
      Say(slot.to_host, Operation::kOutput, bytes);
    }
  }).detach();
  return 0;
}

// Random words all over what both sides map, for a second.
long Scribble(bool with_messages) {
  std::thread([with_messages] {
    std::size_t count = 0;
    Slot* const slots = Slots(count);
    std::mt19937_64 random(7);
    for (int round = 0; round < 200'000; ++round) {
      Direction& to_host = slots[random() % count].to_host;
      const std::uint64_t word = random();
      std::memcpy(&to_host.payload[random() % 512], &word, sizeof(word));
      if (with_messages) {
        to_host.operation = static_cast<std::uint32_t>(random() % kOperations);
        to_host.size = static_cast<std::uint32_t>(round % 2 == 0 ? random() % 600 : random());
        to_host.number.fetch_add(1);
        syscall(SYS_futex, &to_host.number, 1 /* FUTEX_WAKE */, 100, nullptr, nullptr, 0);
      }
    }
  }).detach();
  return 0;
}

long RingForEver() {
  std::thread([] {
    constexpr std::uint64_t kOnce = 1;
    while (write(worker::kDoorbellFd, &kOnce, sizeof(kOnce)) > 0 || errno == EAGAIN) {
    }
  }).detach();
  return 0;
}

// How much memory it can have, beyond what any policy of the test's gives.
long TakeMemory() {
  constexpr std::size_t kPiece = std::size_t{64} << 20;
  for (int pieces = 0; pieces < 256; ++pieces) {
    void* const piece =
        mmap(nullptr, kPiece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (piece == MAP_FAILED) return -1;
  }
  return 0;
}

using Attack = long (*)();
const std::map<std::string, Attack> kAttacks = {
    {"read", [] { return static_cast<long>(open("/etc/passwd", O_RDONLY)); }},
    {"read_by_2", [] { return OpenBy2("/etc/passwd", O_RDONLY); }},
    {"list", [] { return OpenBy2("/", O_RDONLY | O_DIRECTORY); }},
    {"read_through_root", [] { return OpenBy2("/proc/self/root/etc/passwd", O_RDONLY); }},
    {"write", [] { return static_cast<long>(open(HOSTILE_FILE, O_WRONLY | O_CREAT, 0600)); }},
    {"write_by_2", [] { return OpenBy2(HOSTILE_FILE, O_WRONLY | O_CREAT); }},
    {"own_memory", [] { return OpenBy2("/proc/self/mem", O_RDWR); }},
    {"parents_memory", [] { return OpenBy2("/proc/1/mem", O_RDONLY); }},
    {"unlink", [] { return static_cast<long>(unlink("/etc/passwd")); }},
    {"execute", [] { return static_cast<long>(execl("/bin/true", "true", nullptr)); }},
    {"execute_itself",
     [] { return syscall(SYS_execveat, AT_FDCWD, "/proc/self/exe", nullptr, nullptr, 0); }},
    {"fork", [] { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }},
    {"vfork", [] { return syscall(SYS_vfork); }},
    {"socket", [] { return static_cast<long>(socket(AF_INET, SOCK_STREAM, 0)); }},
    {"unix_socket", [] { return static_cast<long>(socket(AF_UNIX, SOCK_STREAM, 0)); }},
    {"kill_all", [] { return static_cast<long>(kill(-1, SIGKILL)); }},
    {"kill_group", [] { return static_cast<long>(kill(0, SIGKILL)); }},
    {"signal_another", [] { return syscall(SYS_tgkill, getpid() + 1, getpid() + 1, SIGKILL); }},
    {"trace", [] { return static_cast<long>(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr)); }},
    {"vm_write", [] { return syscall(SYS_process_vm_writev, 1, nullptr, 0, nullptr, 0, 0); }},
    {"map_code",
     [] {
       return Result(
           mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
     }},
    {"protect_code",
     [] {
       void* const page =
           mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       return static_cast<long>(mprotect(page, 4096, PROT_READ | PROT_EXEC));
     }},
    {"memory_file", [] { return static_cast<long>(memfd_create("hostile", 0)); }},
    {"shrink_shared", [] { return static_cast<long>(ftruncate(worker::kControlFd, 0)); }},
    {"punch_shared", [] { return syscall(SYS_fallocate, worker::kControlFd, 3, 0, 4096); }},
    {"io_uring", [] { return syscall(SYS_io_uring_setup, 1, nullptr); }},
    {"userfaultfd", [] { return syscall(SYS_userfaultfd, 0); }},
    {"bpf", [] { return syscall(SYS_bpf, 0, nullptr, 0); }},
    {"keys", [] { return syscall(SYS_keyctl, 0, 0, 0, 0, 0); }},
    {"namespaces", [] { return static_cast<long>(unshare(CLONE_NEWUSER)); }},
    {"mount", [] { return syscall(SYS_mount, "none", "/", "tmpfs", 0, nullptr); }},
    {"root", [] { return static_cast<long>(chroot("/usr")); }},
    {"open_by_handle", [] { return syscall(SYS_open_by_handle_at, AT_FDCWD, nullptr, 0); }},
    {"outlive_its_parent", [] { return static_cast<long>(prctl(PR_SET_PDEATHSIG, 0)); }},
    {"be_dumped", [] { return static_cast<long>(prctl(PR_SET_DUMPABLE, 1)); }},
    {"raise_limits", [] { return syscall(SYS_prlimit64, 0, RLIMIT_AS, nullptr, nullptr); }},
    {"send_descriptors", [] { return syscall(SYS_sendmsg, worker::kFilesFd, nullptr, 0); }},
    {"console", [] { return syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, "x"); }},
    {"memory", TakeMemory},
    {"uncounted_memory",
     [] {
       return Result(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
     }},
    // Against the protocol.
    {"scribble", [] { return Scribble(false); }},
    {"scribble_messages", [] { return Scribble(true); }},
    {"ring", RingForEver},
    {"call_back_for_ever", [] { return SayForEver(Operation::kCallback, CallbackBytes()); }},
    {"output_for_ever", [] { return SayForEver(Operation::kOutput, OutputBytes()); }},
    {"write_for_ever", WriteForEver},
    // Ends.
    {"spin",
     [] {
       for (;;) __asm__ volatile("");
       return 0l;
     }},
    {"crash",
     [] {
       __builtin_trap();
       return 0l;
     }},
    {"write_to_null",
     [] {
       *static_cast<volatile int*>(nullptr) = 1;
       return 0l;
     }},
    {"exit",
     [] {
       syscall(SYS_exit_group, 9);
       return 0l;
     }},
};

// ---- lies about snapshots -----------------------------------------------------------------------

using plugin::SavedGuest;

const memory::Vma* FirstWhere(const SavedGuest& guest, bool (*is_it)(const memory::Vma& vma)) {
  const memory::Vma* found = nullptr;
  guest.memory.map.ForEach([&](const memory::Vma& vma) {
    if (found == nullptr && is_it(vma)) found = &vma;
    return true;
  });
  return found;
}

void Move(SavedGuest& guest, const memory::Vma* vma, const GuestRange& to) {
  memory::Vma moved = *vma;
  guest.memory.map.Erase(moved.range);
  moved.range = to;
  guest.memory.map.Replace(std::move(moved));
}

GuestRange SharedIn(const SavedGuest& guest) {
  return FirstWhere(guest, memory::IsSharedByHost)->range;
}

// What the guest is said to be.
const std::map<std::string, void (*)(SavedGuest& guest)> kLayouts = {
    {"no_threads", [](SavedGuest& guest) { guest.threads.clear(); }},
    {"one_thread_twice", [](SavedGuest& guest) { guest.threads.push_back(guest.threads.front()); }},
    {"bases_of_the_host", [](SavedGuest& guest) { guest.threads.front().fs_base = 0x7fff'ffff'0000; }},
    {"functions_of_the_host", [](SavedGuest& guest) { guest.table.return_gate = 0x7fff'ffff'0000; }},
    {"names_of_the_host", [](SavedGuest& guest) { guest.names = ~std::uint64_t{0}; }},
    {"heap_beyond", [](SavedGuest& guest) { guest.memory.heap_end = GuestVirt{std::uint64_t{1} << 40}; }},
    {"nothing_shared", [](SavedGuest& guest) { guest.memory.map.Erase(SharedIn(guest)); }},
    {"shared_elsewhere",
     [](SavedGuest& guest) {
       const GuestRange part = SharedIn(guest);
       Move(guest, FirstWhere(guest, memory::IsSharedByHost),
            {GuestVirt{part.start.value - 4096}, GuestVirt{part.end.value - 4096}});
     }},
    {"less_shared",
     [](SavedGuest& guest) {
       const GuestRange part = SharedIn(guest);
       Move(guest, FirstWhere(guest, memory::IsSharedByHost), {part.start, GuestVirt{part.end.value - 4096}});
     }},
    {"more_shared",
     [](SavedGuest& guest) {
       const GuestRange part = SharedIn(guest);
       Move(guest, FirstWhere(guest, memory::IsSharedByHost), {part.start, GuestVirt{part.end.value + 4096}});
     }},
    {"memory_beyond",
     [](SavedGuest& guest) {
       Move(guest, FirstWhere(guest, memory::IsSharedByHost),
            {GuestVirt{std::uint64_t{1} << 32}, GuestVirt{std::uint64_t{1} << 33}});
     }},
    {"contents_nowhere", [](SavedGuest& guest) { guest.contents.Add({GuestVirt{0x1'0000}, GuestVirt{0x2'0000}}); }},
    {"the_hosts_memory",
     [](SavedGuest& guest) { guest.arena.used.emplace(guest.threads.front().stack_pointer & ~63ull, 4096); }},
    {"a_directory_without_end", [](SavedGuest& guest) { guest.directory.assign(100'000, 'x'); }},
    {"a_descriptor_of_nothing",
     [](SavedGuest& guest) {
       guest.files.push_back({.number = 1'000'000, .kind = plugin::OpenFile::Kind::kFile, .name = "/etc/shadow"});
     }},
};

// What is said, as a text. Behind the name of a lie may be a number, by which noise differs: "noise:3".
std::mt19937 random_bytes;
const std::map<std::string, void (*)(std::string& text)> kTexts = {
    {"nothing_said", [](std::string& text) { text.clear(); }},
    {"half_of_it", [](std::string& text) { text.resize(text.size() / 2); }},
    {"some_more", [](std::string& text) { text += "more"; }},
    {"without_end", [](std::string& text) { text.append(std::size_t{80} << 20, 'x'); }},
    {"noise",
     [](std::string& text) {
       for (char& byte : text) byte = static_cast<char>(random_bytes());
     }},
    {"a_word_of_noise",
     [](std::string& text) {
       const std::size_t at = random_bytes() % (text.size() - 8);
       for (std::size_t i = 0; i < 8; ++i) text[at + i] = static_cast<char>(random_bytes());
     }},
};

// What is in the file: null: as it is to be.
const std::map<std::string, void (*)(int file)> kFiles = {
    {"unsealed", [](int) {}},
    {"sealed_half", [](int file) { fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW); }},
    {"empty", [](int file) { fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL); }},
    {"truncated", [](int file) { (void)!ftruncate(file, 4096); }},
    {"grown", [](int file) { (void)!ftruncate(file, off_t{1} << 33); }},
};

// What the first slot's thread does from the next snapshot on, which is refused.
const std::map<std::string, void (*)(Direction& to_host)> kManagers = {
    {"asks_back", [](Direction& to_host) { Say(to_host, Operation::kCallback, CallbackBytes()); }},
    {"answers_in_drops",
     [](Direction& to_host) {
       SleepFor(std::chrono::milliseconds(200));
       Say(to_host, Operation::kDone, DoneBytes(absl::OkStatus(), "x"));
     }},
};

[[noreturn]] void Manage(void (*answer)(Direction& to_host)) {
  std::size_t count = 0;
  Slot& slot = Slots(count)[0];
  std::uint32_t heard = slot.to_worker.number;
  Say(slot.to_host, Operation::kDone, DoneBytes(absl::FailedPreconditionError("no snapshot"), ""));
  for (;;) {
    while (slot.to_worker.number == heard) SleepFor(std::chrono::milliseconds(1));
    heard = slot.to_worker.number;
    answer(slot.to_host);
  }
}

std::string lie;

}  // namespace

// A label of the assembler's replaces the whole name, so these are not members of anything.
using Found = absl::StatusOr<std::uint64_t>;
Found RealFindSymbol(plugin::Instance* instance, const std::string& name) __asm__(
    "__real__ZN7dunebox6plugin8Instance10FindSymbolERKNSt7__cxx1112basic_stringIcSt11char_"
    "traitsIcESaIcEEE");
Found FindSymbolOrAttack(plugin::Instance* instance, const std::string& name) __asm__(
    "__wrap__ZN7dunebox6plugin8Instance10FindSymbolERKNSt7__cxx1112basic_stringIcSt11char_"
    "traitsIcESaIcEEE");

Found FindSymbolOrAttack(plugin::Instance* instance, const std::string& name) {
  constexpr std::string_view kLie = "lie.";
  if (name.starts_with(kLie)) {
    lie = name.substr(kLie.size());
    if (const std::size_t number = lie.find(':'); number != std::string::npos) {
      random_bytes.seed(static_cast<unsigned>(std::stoul(lie.substr(number + 1))));
      lie.resize(number);
    }
    const bool is_known = lie == "none" || kLayouts.contains(lie) || kTexts.contains(lie) || kFiles.contains(lie) ||
                          kManagers.contains(lie);
    return is_known ? kThrough : kNoSuchAttack;
  }
  constexpr std::string_view kPrefix = "attack.";
  if (!name.starts_with(kPrefix)) return RealFindSymbol(instance, name);
  // Of which nothing is true: it goes on.
  if (name == "attack.fail") return ToStatus({.kind = Failure::Kind::kTrap, .signal = SIGSEGV});
  const auto found = kAttacks.find(name.substr(kPrefix.size()));
  if (found == kAttacks.end()) return kNoSuchAttack;
  errno = 0;
  return found->second() >= 0 ? kThrough : static_cast<std::uint64_t>(errno);
}

std::string RealEncodeGuest(const SavedGuest& guest) __asm__(
    "__real__ZN7dunebox6plugin11EncodeGuestB5cxx11ERKNS0_10SavedGuestE");
std::string EncodeGuestOrLie(const SavedGuest& guest) __asm__(
    "__wrap__ZN7dunebox6plugin11EncodeGuestB5cxx11ERKNS0_10SavedGuestE");

std::string EncodeGuestOrLie(const SavedGuest& guest) {
  SavedGuest told = guest;
  if (const auto layout = kLayouts.find(lie); layout != kLayouts.end()) layout->second(told);
  std::string text = RealEncodeGuest(told);
  if (const auto change = kTexts.find(lie); change != kTexts.end()) change->second(text);
  return text;
}

using Taken = absl::StatusOr<std::shared_ptr<const plugin::InstanceSnapshot>>;
using ImageFile = std::optional<runtime::FileDescriptor>;
Taken RealSnapshotInto(plugin::Instance* instance, ImageFile image) __asm__(
    "__real__ZN7dunebox6plugin8Instance12SnapshotIntoESt8optionalINS_7runtime14FileDescriptorEE");
Taken SnapshotIntoOrLie(plugin::Instance* instance, ImageFile image) __asm__(
    "__wrap__ZN7dunebox6plugin8Instance12SnapshotIntoESt8optionalINS_7runtime14FileDescriptorEE");

Taken SnapshotIntoOrLie(plugin::Instance* instance, ImageFile image) {
  if (const auto manager = kManagers.find(lie); manager != kManagers.end()) Manage(manager->second);
  // The last one that was taken as it is to be.
  static std::shared_ptr<const plugin::InstanceSnapshot> honest;
  const auto file = kFiles.find(lie);
  if (file != kFiles.end() && honest != nullptr && image) {
    file->second(image->get());
    return honest;
  }
  Taken taken = RealSnapshotInto(instance, std::move(image));
  if (taken.ok()) honest = *taken;
  return taken;
}

}  // namespace dunebox

int main(int argc, char** argv) {
  dunebox::worker::ResetSignals();
  return dunebox::worker::WorkerMain(argc, argv);
}
