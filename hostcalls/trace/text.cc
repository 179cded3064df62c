#include "hostcalls/trace/text.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace dunebox::hostcalls {
namespace {

constexpr int kFirstRealTimeSignal = 32;  // the kernel's; the C library keeps 32 and 33 for itself
constexpr int kSignalCount = 64;

void AppendEscaped(std::string& text, unsigned char byte) {
  switch (byte) {
    case '\n':
      text += "\\n";
      return;
    case '\r':
      text += "\\r";
      return;
    case '\t':
      text += "\\t";
      return;
    case '"':
    case '\\':
      text += '\\';
      text += static_cast<char>(byte);
      return;
    default:
      if (byte >= 0x20 && byte < 0x7f) {
        text += static_cast<char>(byte);
      } else {
        absl::StrAppendFormat(&text, "\\x%02x", byte);
      }
  }
}

struct CodeName {
  int signal;  // 0: any
  int code;
  const char* name;
};
constexpr CodeName kCodeNames[] = {
    {0, SI_USER, "SI_USER"},
    {0, SI_KERNEL, "SI_KERNEL"},
    {0, SI_QUEUE, "SI_QUEUE"},
    {0, SI_TIMER, "SI_TIMER"},
    {0, SI_MESGQ, "SI_MESGQ"},
    {0, SI_ASYNCIO, "SI_ASYNCIO"},
    {0, SI_SIGIO, "SI_SIGIO"},
    {0, SI_TKILL, "SI_TKILL"},
    {SIGILL, ILL_ILLOPC, "ILL_ILLOPC"},
    {SIGILL, ILL_ILLOPN, "ILL_ILLOPN"},
    {SIGILL, ILL_ILLADR, "ILL_ILLADR"},
    {SIGILL, ILL_ILLTRP, "ILL_ILLTRP"},
    {SIGILL, ILL_PRVOPC, "ILL_PRVOPC"},
    {SIGILL, ILL_PRVREG, "ILL_PRVREG"},
    {SIGILL, ILL_COPROC, "ILL_COPROC"},
    {SIGILL, ILL_BADSTK, "ILL_BADSTK"},
    {SIGFPE, FPE_INTDIV, "FPE_INTDIV"},
    {SIGFPE, FPE_INTOVF, "FPE_INTOVF"},
    {SIGFPE, FPE_FLTDIV, "FPE_FLTDIV"},
    {SIGFPE, FPE_FLTOVF, "FPE_FLTOVF"},
    {SIGFPE, FPE_FLTUND, "FPE_FLTUND"},
    {SIGFPE, FPE_FLTRES, "FPE_FLTRES"},
    {SIGFPE, FPE_FLTINV, "FPE_FLTINV"},
    {SIGFPE, FPE_FLTSUB, "FPE_FLTSUB"},
    {SIGSEGV, SEGV_MAPERR, "SEGV_MAPERR"},
    {SIGSEGV, SEGV_ACCERR, "SEGV_ACCERR"},
    {SIGSEGV, SEGV_BNDERR, "SEGV_BNDERR"},
    {SIGSEGV, SEGV_PKUERR, "SEGV_PKUERR"},
    {SIGBUS, BUS_ADRALN, "BUS_ADRALN"},
    {SIGBUS, BUS_ADRERR, "BUS_ADRERR"},
    {SIGBUS, BUS_OBJERR, "BUS_OBJERR"},
    {SIGBUS, BUS_MCEERR_AR, "BUS_MCEERR_AR"},
    {SIGBUS, BUS_MCEERR_AO, "BUS_MCEERR_AO"},
    {SIGTRAP, TRAP_BRKPT, "TRAP_BRKPT"},
    {SIGTRAP, TRAP_TRACE, "TRAP_TRACE"},
    {SIGTRAP, TRAP_BRANCH, "TRAP_BRANCH"},
    {SIGTRAP, TRAP_HWBKPT, "TRAP_HWBKPT"},
    {SIGCHLD, CLD_EXITED, "CLD_EXITED"},
    {SIGCHLD, CLD_KILLED, "CLD_KILLED"},
    {SIGCHLD, CLD_DUMPED, "CLD_DUMPED"},
    {SIGCHLD, CLD_TRAPPED, "CLD_TRAPPED"},
    {SIGCHLD, CLD_STOPPED, "CLD_STOPPED"},
    {SIGCHLD, CLD_CONTINUED, "CLD_CONTINUED"},
    {SIGSYS, 1, "SYS_SECCOMP"},
};

std::string CodeText(int signal, int code) {
  for (const CodeName& name : kCodeNames) {
    if (name.code == code && (name.signal == 0 || name.signal == signal)) return name.name;
  }
  return absl::StrCat(code);
}

bool IsFault(int signal) {
  return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE ||
         signal == SIGTRAP;
}

// The socket address as a T, when it is long enough to be one.
template <typename T>
std::optional<T> AddressAs(std::span<const std::byte> address) {
  T value{};
  if (address.size() < sizeof value) return std::nullopt;
  memcpy(&value, address.data(), sizeof value);
  return value;
}

std::string InternetText(std::span<const std::byte> address) {
  const auto internet = AddressAs<sockaddr_in>(address);
  char host[INET_ADDRSTRLEN];
  if (!internet || inet_ntop(AF_INET, &internet->sin_addr, host, sizeof host) == nullptr) return "";
  return absl::StrCat(host, ":", ntohs(internet->sin_port));
}

std::string Internet6Text(std::span<const std::byte> address) {
  const auto internet = AddressAs<sockaddr_in6>(address);
  char host[INET6_ADDRSTRLEN];
  if (!internet || inet_ntop(AF_INET6, &internet->sin6_addr, host, sizeof host) == nullptr) {
    return "";
  }
  return absl::StrCat("[", host, "]:", ntohs(internet->sin6_port));
}

std::string NetlinkText(std::span<const std::byte> address) {
  const auto netlink = AddressAs<sockaddr_nl>(address);
  if (!netlink) return "";
  return absl::StrFormat("pid=%d, groups=0x%x", netlink->nl_pid, netlink->nl_groups);
}

std::string UnixText(std::span<const std::byte> address) {
  const auto path = address.subspan(offsetof(sockaddr_un, sun_path));
  std::string_view text(reinterpret_cast<const char*>(path.data()), path.size());
  if (text.empty()) return "unnamed";
  // A name that starts with NUL is abstract: all its bytes count.
  if (text.front() == '\0') return absl::StrCat("@", Quote(text.substr(1), kNoLimit));
  return Quote(text.substr(0, text.find('\0')), kNoLimit);
}

}  // namespace

std::string Escape(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) AppendEscaped(text, static_cast<unsigned char>(byte));
  return text;
}

std::string Quote(std::string_view bytes, std::size_t limit) {
  std::string text = absl::StrCat("\"", Escape(bytes.substr(0, limit)), "\"");
  if (bytes.size() > limit) text += "...";
  return text;
}

std::string AddressText(std::uint64_t address) {
  return address == 0 ? "NULL" : absl::StrFormat("0x%x", address);
}

std::string FlagsText(std::uint64_t value, FlagSet set) {
  std::string text;
  std::uint64_t rest = value;
  for (const FlagName& name : NamesOf(set)) {
    // A field that is named when it is zero leaves nothing to take away, so a field that was
    // taken away would look like it: ask the value as it was.
    const std::uint64_t source = name.value == 0 ? value : rest;
    if ((source & name.mask) != name.value) continue;
    absl::StrAppend(&text, text.empty() ? "" : "|", name.name);
    rest &= ~name.mask;
  }
  if (rest != 0) absl::StrAppendFormat(&text, "%s0x%x", text.empty() ? "" : "|", rest);
  return text.empty() ? "0" : text;
}

std::string SignalText(int signal) {
  if (const char* name = sigabbrev_np(signal); name != nullptr) return absl::StrCat("SIG", name);
  if (signal >= kFirstRealTimeSignal && signal <= kSignalCount) {
    return absl::StrCat("SIGRT_", signal - kFirstRealTimeSignal);
  }
  return absl::StrCat(signal);
}

std::string SignalSetText(std::uint64_t set) {
  if (set == ~std::uint64_t{0}) return "{all}";
  std::string text;
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    if ((set >> (signal - 1) & 1) == 0) continue;
    absl::StrAppend(&text, text.empty() ? "" : ",", SignalText(signal));
  }
  return absl::StrCat("{", text, "}");
}

std::string SocketAddressText(std::span<const std::byte> address) {
  const auto family = AddressAs<sa_family_t>(address);
  if (!family) return "{}";
  std::string detail;
  if (*family == AF_UNIX) detail = UnixText(address);
  if (*family == AF_INET) detail = InternetText(address);
  if (*family == AF_INET6) detail = Internet6Text(address);
  if (*family == AF_NETLINK) detail = NetlinkText(address);
  if (detail.empty()) detail = absl::StrCat(address.size(), " bytes");
  return absl::StrCat("{", FlagsText(*family, FlagSet::kSocketDomain), ", ", detail, "}");
}

bool ReturnsAddress(const Row* row) {
  if (row == nullptr) return false;
  return row->number == SYS_mmap || row->number == SYS_mremap || row->number == SYS_brk ||
         row->number == SYS_shmat;
}

std::string ResultText(const Row* row, SyscallResult result) {
  if (result.is_registers_set()) return "?";
  if (result.is_restart()) return "? (interrupted, to be executed again)";
  if (result.ok()) {
    return ReturnsAddress(row) ? absl::StrFormat("0x%x", result.ToRegister())
                               : absl::StrCat(result.value());
  }
  const std::string name = ErrnoName(result.error());
  if (name.empty()) return absl::StrCat("-1 errno ", result.error());
  return absl::StrCat("-1 ", name, " (", strerrordesc_np(result.error()), ")");
}

std::string ErrnoName(int error) {
  const char* name = strerrorname_np(error);
  return name == nullptr ? "" : name;
}

std::vector<SignalField> SignalFields(const siginfo_t& info) {
  std::vector<SignalField> fields = {{"si_code", CodeText(info.si_signo, info.si_code)}};
  if (info.si_code > 0 && IsFault(info.si_signo)) {
    const auto address = reinterpret_cast<std::uintptr_t>(info.si_addr);
    fields.push_back({"si_addr", absl::StrFormat("0x%x", address)});
  } else if (info.si_code > 0 && info.si_signo == SIGCHLD) {
    fields.push_back({"si_pid", absl::StrCat(info.si_pid)});
    fields.push_back({"si_status", absl::StrCat(info.si_status)});
  } else if (info.si_code == SI_USER || info.si_code == SI_TKILL || info.si_code == SI_QUEUE) {
    fields.push_back({"si_pid", absl::StrCat(info.si_pid)});
    fields.push_back({"si_uid", absl::StrCat(info.si_uid)});
  }
  return fields;
}

std::string FormatSignal(const siginfo_t& info) {
  std::string text;
  for (const SignalField& field : SignalFields(info)) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", std::string(field.name), "=", field.value);
  }
  return absl::StrCat("--- ", SignalText(info.si_signo), " {", text, "} ---");
}

}  // namespace dunebox::hostcalls
