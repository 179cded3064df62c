// What gdb asks while the program stands still, and the answers. Empty: not known here; "E.." an error.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "runtime/debugger/gdb_server.h"
#include "runtime/debugger/signal_numbers.h"

namespace dunebox::debugger {
namespace {

using process::GuestThread;

constexpr std::string_view kOk = "OK";
constexpr std::string_view kBad = "E16";      // EINVAL
constexpr std::string_view kNoMemory = "E0e";  // EFAULT
constexpr std::string_view kNoThread = "E03";  // ESRCH

struct Range {
  std::uint64_t address, size;
};

// "ADDRESS,SIZE".
std::optional<Range> TakeRange(std::string_view& text) {
  const std::optional<std::uint64_t> address = TakeHex(text);
  if (!address || !Take(text, ",")) return std::nullopt;
  const std::optional<std::uint64_t> size = TakeHex(text);
  if (!size || *address + *size < *address) return std::nullopt;
  return Range{*address, *size};
}

// As in "Z2".
std::optional<WatchKind> WatchKindOf(char kind) {
  switch (kind) {
    case '2':
      return WatchKind::kChange;
    case '3':
      return WatchKind::kRead;
    case '4':
      return WatchKind::kAccess;
    default:
      return std::nullopt;
  }
}

}  // namespace

GuestThread* GdbServer::Selected() {
  if (GuestThread* const thread = owner_.threads().Find(selected_)) return thread;
  GuestThread* any = nullptr;
  owner_.threads().ForEach([&](GuestThread& thread) {
    if (any == nullptr) any = &thread;
  });
  return any;
}

std::optional<RegisterFile> GdbServer::RegistersOf(GuestThread& thread) const {
  RegisterFile file;
  if (!thread.engine->FetchBases(thread.registers).ok()) return std::nullopt;
  file.general = thread.registers;
  file.extended.resize(thread.engine->extended_state_size());
  if (!thread.engine->SaveExtendedState(file.extended).ok()) return std::nullopt;
  return file;
}

bool GdbServer::SetRegistersOf(GuestThread& thread, const RegisterFile& file) const {
  const hostcalls::Window& window = thread.memory.window();
  for (const std::uint64_t base : {file.general.fs_base, file.general.gs_base}) {
    if (!window.AllowsSegmentBase(base)) return false;
  }
  if (!thread.engine->LoadExtendedState(file.extended).ok()) return false;
  thread.registers = file.general;
  return true;
}

std::string GdbServer::Answer(std::string_view packet) {
  if (packet.empty()) return {};
  const char kind = packet.front();
  const std::string_view rest = packet.substr(1);
  switch (kind) {
    case '?':
      return last_stop_;
    case 'g':
      return ReadRegisters();
    case 'G':
      return WriteRegisters(rest);
    case 'p':
      return ReadOneRegister(rest);
    case 'P':
      return WriteOneRegister(rest);
    case 'm':
      return ReadMemory(rest);
    case 'M':
    case 'X':
      return WriteMemory(rest, kind == 'X');
    case 'Z':
    case 'z':
      return AnswerBreakpoint(packet);
    case 'H':
      return SelectThread(rest);
    case 'T': {
      std::string_view text = rest;
      const std::optional<ThreadName> name = TakeThread(text);
      const bool is_there = name && owner_.threads().Find(static_cast<pid_t>(name->thread));
      return std::string(is_there ? kOk : kNoThread);
    }
    case 'q':
    case 'Q':
      return AnswerQuery(packet);
    case 'v':
      return AnswerV(rest);
    case 'D':
      Send(kOk);
      Detach();
      return {};
    case 'k':
      Kill();
    default:
      return {};
  }
}

// ---- registers and memory -----------------------------------------------------------------------

std::string GdbServer::ReadRegisters() {
  GuestThread* const thread = Selected();
  const std::optional<RegisterFile> file = thread ? RegistersOf(*thread) : std::nullopt;
  return file ? ToHex(file->GetAll()) : std::string(kNoThread);
}

std::string GdbServer::WriteRegisters(std::string_view hex) {
  GuestThread* const thread = Selected();
  const std::optional<std::string> bytes = FromHex(hex);
  std::optional<RegisterFile> file = thread ? RegistersOf(*thread) : std::nullopt;
  const bool done = bytes && file && file->SetAll(*bytes) && SetRegistersOf(*thread, *file);
  return std::string(done ? kOk : kBad);
}

std::string GdbServer::ReadOneRegister(std::string_view request) {
  GuestThread* const thread = Selected();
  const std::optional<std::uint64_t> number = TakeHex(request);
  const std::optional<RegisterFile> file = thread ? RegistersOf(*thread) : std::nullopt;
  const std::string bytes = number && file ? file->Get(*number) : std::string();
  return bytes.empty() ? std::string(kBad) : ToHex(bytes);
}

std::string GdbServer::WriteOneRegister(std::string_view request) {
  GuestThread* const thread = Selected();
  const std::optional<std::uint64_t> number = TakeHex(request);
  const bool has_value = Take(request, "=");
  const std::optional<std::string> bytes = FromHex(request);
  std::optional<RegisterFile> file = thread ? RegistersOf(*thread) : std::nullopt;
  const bool done = number && has_value && bytes && file && file->Set(*number, *bytes) &&
                    SetRegistersOf(*thread, *file);
  return std::string(done ? kOk : kBad);
}

std::string GdbServer::ReadMemory(std::string_view request) const {
  const std::optional<Range> range = TakeRange(request);
  if (!range || !request.empty()) return std::string(kBad);
  const std::string bytes =
      memory_.Read(range->address, std::min<std::uint64_t>(range->size, kMostPacketBytes / 2 - 8));
  return bytes.empty() && range->size != 0 ? std::string(kNoMemory) : ToHex(bytes);
}

std::string GdbServer::WriteMemory(std::string_view request, bool is_binary) {
  const std::optional<Range> range = TakeRange(request);
  if (!range || !Take(request, ":")) return std::string(kBad);
  const std::optional<std::string> bytes = is_binary ? Unescape(request) : FromHex(request);
  if (!bytes || bytes->size() != range->size) return std::string(kBad);
  return std::string(memory_.Write(range->address, *bytes) ? kOk : kNoMemory);
}

// "Z0,ADDRESS,KIND" and its like.
std::string GdbServer::AnswerBreakpoint(std::string_view request) {
  const bool inserts = request.front() == 'Z';
  request.remove_prefix(1);
  if (request.empty()) return std::string(kBad);
  const char kind = request.front();
  request.remove_prefix(1);
  if (!Take(request, ",")) return std::string(kBad);
  const std::optional<Range> range = TakeRange(request);
  if (!range) return std::string(kBad);
  bool done = false;
  if (kind == '0' || kind == '1') {
    done = inserts ? memory_.AddBreakpoint(range->address) : memory_.RemoveBreakpoint(range->address);
  } else if (const std::optional<WatchKind> watch = WatchKindOf(kind)) {
    done = inserts ? memory_.Watch(*watch, range->address, range->size)
                   : memory_.Unwatch(*watch, range->address, range->size);
    is_stepping_all_ = memory_.is_watching();
  } else {
    return {};
  }
  return std::string(done ? kOk : kNoMemory);
}

// ---- threads ------------------------------------------------------------------------------------

std::string GdbServer::SelectThread(std::string_view request) {
  if (request.empty()) return std::string(kBad);
  const char what = request.front();
  request.remove_prefix(1);
  const std::optional<ThreadName> name = TakeThread(request);
  if (!name) return std::string(kBad);
  if (what != 'g') return std::string(kOk);  // 'c' is for commands that vCont replaces
  if (name->thread <= 0) return std::string(Selected() != nullptr ? kOk : kNoThread);
  if (owner_.threads().Find(static_cast<pid_t>(name->thread)) == nullptr) {
    return std::string(kNoThread);
  }
  selected_ = static_cast<pid_t>(name->thread);
  return std::string(kOk);
}

std::string GdbServer::ListThreads() {
  std::string list;
  owner_.threads().ForEach([&](GuestThread& thread) {
    absl::StrAppend(&list, list.empty() ? "m" : ",", NameOf(thread));
  });
  return list;
}

std::string GdbServer::Resume(std::string_view actions) {
  std::vector<Resumption> all;
  while (!actions.empty()) {
    const std::optional<Resumption> one = TakeResumption(actions);
    if (!one) return std::string(kBad);
    all.push_back(*one);
  }
  struct Chosen {
    GuestThread* thread;
    const Resumption* how;
  };
  std::vector<Chosen> chosen;
  bool has_news = false;
  owner_.threads().ForEach([&](GuestThread& thread) {
    const auto how = std::ranges::find_if(all, [&](const Resumption& one) {
      return one.threads.thread <= 0 || one.threads.thread == thread.id;
    });
    if (how == all.end()) return;
    chosen.push_back({&thread, &*how});
    if (thread.debug.stop && IsStale(thread, *thread.debug.stop)) thread.debug.stop.reset();
    has_news = has_news || thread.debug.stop.has_value();
  });
  if (chosen.empty()) return std::string(kNoThread);
  is_running_ = true;
  resumed_.clear();
  for (const Chosen& one : chosen) {
    process::DebugState& debug = one.thread->debug;
    resumed_.push_back(one.thread->id);
    debug.steps = one.how->kind != Resumption::Kind::kContinue;
    debug.step_start = one.how->start;
    debug.step_end = one.how->end;
    debug.is_step_done = false;
    // A signal that was not told yet comes first.
    if (!debug.stop) debug.signal_to_deliver = FromGdbSignal(one.how->signal);
  }
  if (has_news) {
    TellStop();
    return {};
  }
  for (const Chosen& one : chosen) owner_.threads().Release(*one.thread);
  return {};
}

// The program goes on as if nobody had looked.
void GdbServer::Detach() {
  memory_.Clear();
  is_stepping_all_ = false;
  owner_.threads().ForEach([](GuestThread& thread) {
    process::DebugState& debug = thread.debug;
    const bool has_signal =
        debug.stop && debug.stop->kind == process::StopReason::Kind::kSignal;
    debug.signal_to_deliver = has_signal ? debug.stop->signal : 0;
    debug.stop.reset();
    debug.steps = debug.is_step_done = false;
  });
  is_attached_ = false;
  close(connection_.fd);
  owner_.threads().ReleaseAll();
}

// ---- queries ------------------------------------------------------------------------------------

std::string GdbServer::Features(std::string_view supported) {
  for (const absl::string_view feature :
       absl::StrSplit(absl::string_view(supported.data(), supported.size()), ';')) {
    if (feature == "multiprocess+") connection_.multiprocess = true;
  }
  last_stop_.clear();
  if (GuestThread* const thread = Selected()) {
    Tell(*thread, {.kind = process::StopReason::Kind::kSignal, .signal = SIGTRAP});
  }
  return absl::StrCat(
      "PacketSize=", absl::Hex(kMostPacketBytes),
      ";QStartNoAckMode+;multiprocess+;swbreak+;exec-events+;vContSupported+;QPassSignals+;"
      "qXfer:features:read+;qXfer:auxv:read+;qXfer:exec-file:read+;qXfer:threads:read+;"
      "qXfer:siginfo:read+");
}

std::string GdbServer::AnswerTransfer(std::string_view request) {
  if (Take(request, "features:read:target.xml:")) {
    return SliceForTransfer(TargetDescription(has_avx_), request);
  }
  if (Take(request, "auxv:read::")) return SliceForTransfer(owner_.AuxiliaryVector(), request);
  if (Take(request, "exec-file:read:")) {
    const std::size_t colon = request.find(':');
    if (colon == std::string_view::npos) return std::string(kBad);
    return SliceForTransfer(owner_.executable_path(), request.substr(colon + 1));
  }
  if (Take(request, "threads:read::")) {
    std::string xml = "<?xml version=\"1.0\"?>\n<threads>\n";
    owner_.threads().ForEach([&](GuestThread& thread) {
      absl::StrAppend(&xml, "<thread id=\"", NameOf(thread), "\"/>\n");
    });
    return SliceForTransfer(xml + "</threads>\n", request);
  }
  if (Take(request, "siginfo:read::")) {
    return SliceForTransfer({reinterpret_cast<const char*>(&last_signal_), sizeof(last_signal_)},
                            request);
  }
  return {};
}

std::string GdbServer::AnswerQuery(std::string_view query) {
  if (Take(query, "qSupported")) {
    Take(query, ":");
    return Features(query);
  }
  if (query == "QStartNoAckMode") {
    connection_.without_acks = true;
    return std::string(kOk);
  }
  if (Take(query, "qXfer:")) return AnswerTransfer(query);
  if (query == "qfThreadInfo") return ListThreads();
  if (query == "qsThreadInfo") return "l";
  if (query == "qC") {
    GuestThread* const thread = Selected();
    return thread != nullptr ? absl::StrCat("QC", NameOf(*thread)) : std::string(kNoThread);
  }
  if (query.starts_with("qAttached")) return "0";  // made for gdb: ended with it
  if (Take(query, "QPassSignals:")) {
    passed_.reset();
    while (const std::optional<std::uint64_t> number = TakeHex(query)) {
      const int signal = *number <= 0xff ? FromGdbSignal(static_cast<unsigned>(*number)) : 0;
      if (signal != 0) passed_.set(static_cast<std::size_t>(signal));
      Take(query, ";");
    }
    return std::string(query.empty() ? kOk : kBad);
  }
  return {};
}

std::string GdbServer::AnswerV(std::string_view request) {
  if (request == "Cont?") return "vCont;c;C;s;S;r";
  if (Take(request, "Cont")) return Resume(request);
  if (request.starts_with("Kill")) {
    Send(kOk);
    Kill();
  }
  if (Take(request, "File:")) return files_.Answer(request);
  return {};
}

}  // namespace dunebox::debugger
