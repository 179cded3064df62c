#include "runtime/process/core_file.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/procfs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/quiet_write.h"
#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/separate_descriptors.h"
#include "hostcalls/trace/write_line.h"
#include "runtime/file_descriptor.h"
#include "runtime/process/process.h"

namespace dunebox::process {
namespace {

constexpr std::size_t kFpuBytes = 512;        // the legacy part of XSAVE's format
constexpr std::size_t kFeaturesOffset = 464;  // where gdb looks for XCR0 in NT_X86_XSTATE [linux]
constexpr std::size_t kStateBytes = 2696;     // what gdb wants, whatever the processor has
constexpr std::size_t kMostFiles = 65'000;

template <typename T>
std::string_view BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

void AppendNote(std::string& notes, const char* owner, unsigned type, std::string_view content) {
  constexpr std::size_t kAlignment = 4;
  const auto pad = [&] { notes.resize((notes.size() + kAlignment - 1) / kAlignment * kAlignment); };
  const Elf64_Nhdr header{.n_namesz = static_cast<Elf64_Word>(strlen(owner) + 1),
                          .n_descsz = static_cast<Elf64_Word>(content.size()),
                          .n_type = type};
  notes += BytesOf(header);
  notes.append(owner, strlen(owner) + 1);
  pad();
  notes += content;
  pad();
}

// ---- a thread -----------------------------------------------------------------------------------

elf_prstatus StatusOf(const GuestThread& thread, int signal) {
  constexpr std::uint64_t kNoCall = ~std::uint64_t{0};
  constexpr std::uint64_t kUserCode = 0x33, kUserStack = 0x2b;
  const runtime::Registers& r = thread.registers;
  // As struct user_regs_struct has them. [linux]
  const std::uint64_t registers[] = {
      r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx, r.rsi,
      r.rdi, kNoCall, r.rip, kUserCode, r.rflags, r.rsp, kUserStack, r.fs_base, r.gs_base, 0, 0, 0, 0};
  elf_prstatus status{};
  static_assert(sizeof(registers) == sizeof(status.pr_reg));
  std::memcpy(&status.pr_reg, registers, sizeof(registers));
  status.pr_info.si_signo = signal;
  status.pr_cursig = static_cast<short>(signal);
  status.pr_sighold = thread.signal.mask;
  status.pr_pid = thread.id;
  status.pr_ppid = getppid();
  status.pr_pgrp = getpgrp();
  status.pr_sid = getsid(0);
  status.pr_fpvalid = 1;
  return status;
}

// The notes of one thread; `between` are the process's, which come behind the first one's status.
void AppendThread(std::string& notes, GuestThread& thread, int signal, std::string_view between) {
  if (!thread.engine->FetchBases(thread.registers).ok()) return;
  AppendNote(notes, "CORE", NT_PRSTATUS, BytesOf(StatusOf(thread, signal)));
  notes += between;
  std::vector<std::byte> area(thread.engine->extended_state_size());
  if (area.size() < kFpuBytes || !thread.engine->SaveExtendedState(area).ok()) return;
  area.resize(std::max(area.size(), kStateBytes));
  const std::uint64_t features = thread.engine->extended_features();
  std::memcpy(area.data() + kFeaturesOffset, &features, sizeof(features));
  const std::string_view bytes(reinterpret_cast<const char*>(area.data()), area.size());
  AppendNote(notes, "CORE", NT_FPREGSET, bytes.substr(0, kFpuBytes));
  AppendNote(notes, "LINUX", NT_X86_XSTATE, bytes);
}

// ---- the process --------------------------------------------------------------------------------

elf_prpsinfo InfoOf(const Process& owner) {
  elf_prpsinfo info{};
  info.pr_sname = 'R';
  info.pr_pid = getpid();
  info.pr_ppid = getppid();
  info.pr_pgrp = getpgrp();
  info.pr_sid = getsid(0);
  info.pr_uid = getuid();
  info.pr_gid = getgid();
  const std::string name(runtime::BaseName(owner.executable_path()));
  std::memcpy(info.pr_fname, name.data(), std::min(name.size(), sizeof(info.pr_fname) - 1));
  std::string arguments = owner.CommandLine();
  std::ranges::replace(arguments, '\0', ' ');
  std::memcpy(info.pr_psargs, arguments.data(),
              std::min(arguments.size(), sizeof(info.pr_psargs) - 1));
  return info;
}

// NT_FILE: which part of which file is mapped where. [linux]
std::string FilesOf(const std::vector<memory::Vma>& vmas) {
  std::string numbers, names;
  std::uint64_t count = 0;
  for (const memory::Vma& vma : vmas) {
    if (!vma.file_backed || vma.backing == nullptr || count == kMostFiles) continue;
    for (const std::uint64_t number :
         {vma.range.start.value, vma.range.end.value, vma.offset / kPageSize}) {
      numbers += BytesOf(number);
    }
    names.append(vma.backing->name.c_str(), vma.backing->name.size() + 1);
    ++count;
  }
  std::string files(BytesOf(count));
  files += BytesOf(std::uint64_t{kPageSize});
  return files + numbers + names;
}

// How much of it goes into the file: what no file has. Code that was read from one is there still, but
// for its ELF header, by which gdb finds its build id.
std::uint64_t DumpedBytes(const memory::Vma& vma) {
  if (!vma.protection.any()) return 0;
  if (!vma.file_backed) return vma.range.size();
  if (vma.sharing == memory::Sharing::kShared) return 0;
  if (!vma.protection.execute) return vma.range.size();
  return vma.offset == 0 ? kPageSize : 0;
}

Elf64_Word FlagsOf(const memory::Protection& protection) {
  return (protection.read ? PF_R : 0u) | (protection.write ? PF_W : 0u) |
         (protection.execute ? PF_X : 0u);
}

struct CoreHead {
  std::string bytes;  // up to the first page of memory
  std::vector<memory::Vma> vmas;
};

CoreHead MakeHead(GuestThread& dying, const siginfo_t& info) {
  Process& owner = dying.owner;
  CoreHead head;
  owner.space().ForEachVma([&](const memory::Vma& vma) {
    head.vmas.push_back(vma);
    return true;
  });
  std::string of_process, notes;
  AppendNote(of_process, "CORE", NT_PRPSINFO, BytesOf(InfoOf(owner)));
  AppendNote(of_process, "CORE", NT_SIGINFO, BytesOf(info));
  AppendNote(of_process, "CORE", NT_AUXV, owner.AuxiliaryVector());
  AppendNote(of_process, "CORE", NT_FILE, FilesOf(head.vmas));
  AppendThread(notes, dying, info.si_signo, of_process);
  owner.threads().ForEach([&](GuestThread& thread) {
    if (&thread != &dying) AppendThread(notes, thread, info.si_signo, {});
  });

  const std::size_t segments = std::min<std::size_t>(head.vmas.size(), PN_XNUM - 2);
  head.vmas.resize(segments);
  Elf64_Ehdr elf{};
  std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
  elf.e_ident[EI_CLASS] = ELFCLASS64;
  elf.e_ident[EI_DATA] = ELFDATA2LSB;
  elf.e_ident[EI_VERSION] = EV_CURRENT;
  elf.e_type = ET_CORE;
  elf.e_machine = EM_X86_64;
  elf.e_version = EV_CURRENT;
  elf.e_phoff = sizeof(elf);
  elf.e_ehsize = sizeof(elf);
  elf.e_phentsize = sizeof(Elf64_Phdr);
  elf.e_phnum = static_cast<Elf64_Half>(segments + 1);
  head.bytes = BytesOf(elf);
  std::uint64_t offset = sizeof(elf) + (segments + 1) * sizeof(Elf64_Phdr);
  head.bytes += BytesOf(Elf64_Phdr{
      .p_type = PT_NOTE, .p_flags = 0, .p_offset = offset, .p_vaddr = 0, .p_paddr = 0,
      .p_filesz = notes.size(), .p_memsz = 0, .p_align = 4});
  offset = (offset + notes.size() + kPageSize - 1) / kPageSize * kPageSize;
  const std::uint64_t first = offset;
  for (const memory::Vma& vma : head.vmas) {
    const std::uint64_t dumped = DumpedBytes(vma);
    head.bytes += BytesOf(Elf64_Phdr{.p_type = PT_LOAD,
                                     .p_flags = FlagsOf(vma.protection),
                                     .p_offset = offset,
                                     .p_vaddr = vma.range.start.value,
                                     .p_paddr = 0,
                                     .p_filesz = dumped,
                                     .p_memsz = vma.range.size(),
                                     .p_align = kPageSize});
    offset += dumped;
  }
  head.bytes += notes;
  head.bytes.resize(first, '\0');
  return head;
}

// ---- the file -----------------------------------------------------------------------------------

// Writes at one place after the other, up to a limit; pages of zeros are left out.
class Writer {
 public:
  Writer(int fd, std::uint64_t limit) : fd_(fd), left_(limit) {}
  // False: no more, for `error`, or since the limit is reached.
  bool Put(std::span<const char> bytes) {
    const std::size_t count = std::min<std::uint64_t>(bytes.size(), left_);
    const bool is_empty = std::ranges::all_of(bytes, [](char byte) { return byte == 0; });
    for (std::size_t done = 0; done < count && !is_empty;) {
      const ssize_t written = hostcalls::Quietly(
          [&] { return pwrite(fd_, bytes.data() + done, count - done, static_cast<off_t>(at_ + done)); });
      if (written <= 0) {
        error_ = written < 0 ? errno : EIO;
        return false;
      }
      done += static_cast<std::size_t>(written);
    }
    at_ += count;
    left_ -= count;
    return count == bytes.size();
  }
  // What was left out at the end belongs to the file.
  void Finish() {
    const ssize_t result = hostcalls::Quietly([&]() -> ssize_t { return ftruncate(fd_, static_cast<off_t>(at_)); });
    if (result != 0 && error_ == 0) error_ = errno;
  }
  int error() const { return error_; }

 private:
  const int fd_;
  std::uint64_t at_ = 0, left_;
  int error_ = 0;
};

int Write(int fd, const CoreHead& head, const hostcalls::GuestMemory& memory, std::uint64_t limit) {
  Writer writer(fd, limit);
  bool goes_on = writer.Put(head.bytes);
  std::vector<char> page(kPageSize);
  for (const memory::Vma& vma : head.vmas) {
    const std::uint64_t end = vma.range.start.value + DumpedBytes(vma);
    for (std::uint64_t at = vma.range.start.value; goes_on && at < end; at += kPageSize) {
      // What cannot be read, as behind the end of a file, is zeros.
      if (!memory.Read(at, std::as_writable_bytes(std::span(page)))) std::ranges::fill(page, '\0');
      goes_on = writer.Put(page);
    }
  }
  writer.Finish();
  return writer.error();
}

// May the program create "core" in its directory?
int MayCreate(const Process& owner) {
  const hostcalls::policy::Rules& rules = owner.session().rules;
  if (rules.allow_all || rules.audit) return 0;
  const runtime::FileDescriptor directory(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return errno;
  hostcalls::CopyResult<std::string> name =
      hostcalls::ObjectName(owner.reserved(), directory.get());
  if (!name.ok()) return name.error().value;
  constexpr auto kNeeded = hostcalls::policy::kWriteFile | hostcalls::policy::kCreateFile;
  const auto allowed = hostcalls::RightsOnName(rules, absl::StrCat(*name, "/core"));
  return (allowed.rights & kNeeded) == kNeeded ? 0 : EACCES;
}

// As the kernel makes it: the user's own, no link to anything. [linux, do_coredump]
int OpenHere(const Process& owner, runtime::FileDescriptor& file) {
  if (const int error = MayCreate(owner); error != 0) return error;
  constexpr int kFlags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  file = runtime::FileDescriptor(open("core", kFlags, 0600));
  struct stat status{};
  if (!file.valid() || fstat(file.get(), &status) != 0) return errno;
  if (!S_ISREG(status.st_mode) || status.st_nlink != 1 || status.st_uid != geteuid()) return EPERM;
  return ftruncate(file.get(), 0) == 0 ? 0 : errno;
}

// The session's file is that of the first process that dies so.
int WriteToSessionFile(int fd, const CoreHead& head, const hostcalls::GuestMemory& memory,
                       std::uint64_t limit) {
  struct stat status{};
  if (fstat(fd, &status) != 0) return errno;
  return status.st_size != 0 ? EEXIST : Write(fd, head, memory, limit);
}

}  // namespace

bool WantsCoreFile(Process& owner) {
  return owner.limits().Get(RLIMIT_CORE).rlim_cur != 0 && owner.limits().dumpable == 1;
}

void WriteCoreFile(GuestThread& thread, const siginfo_t& info) {
  Process& owner = thread.owner;
  const CoreHead head = MakeHead(thread, info);
  const std::uint64_t limit = owner.limits().Get(RLIMIT_CORE).rlim_cur;
  const int session_fd = owner.session().core_fd;
  int error = 0;
  hostcalls::WithSeparateDescriptors([&] {
    if (session_fd >= 0) {
      error = WriteToSessionFile(session_fd, head, thread.memory, limit);
      return;
    }
    runtime::FileDescriptor file;
    error = OpenHere(owner, file);
    if (error == 0) error = Write(file.get(), head, thread.memory, limit);
  });
  const std::string of_process = absl::StrCat("[", getpid(), "] ");
  if (error == 0) {
    hostcalls::WriteLine(owner.session().report_fd, absl::StrCat("dunebox: ", of_process, "core file written\n"));
  } else {
    errors::Say(errors::Id::kNoCoreFile,
                absl::StrCat(of_process, "no whole core file: ", strerror(error)));
  }
}

}  // namespace dunebox::process
