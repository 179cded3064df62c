// The serving thread: the connection, and telling gdb what has happened.
#include "runtime/debugger/gdb_server.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "hostcalls/dispatch/host_call.h"
#include "hostcalls/errors/message.h"
#include "runtime/debugger/signal_numbers.h"
#include "runtime/signals/host_signals.h"

namespace dunebox::debugger {
namespace {

using process::StopReason;

constexpr std::size_t kHostStack = std::size_t{512} << 10;
constexpr std::uint64_t kAllSignals = ~std::uint64_t{0};

// What the program leaves to its default, gdb hears of all the same: but what nothing comes of, and
// job control, which is the kernel's.
constexpr std::uint64_t kNotTaken =
    signals::kUnblockable | signals::MaskOf(SIGCHLD) | signals::MaskOf(SIGCONT) |
    signals::MaskOf(SIGURG) | signals::MaskOf(SIGWINCH) | signals::MaskOf(SIGTSTP) |
    signals::MaskOf(SIGTTIN) | signals::MaskOf(SIGTTOU);

}  // namespace

GdbServer::GdbServer(process::Process& owner, GuestThread& first,
                     const process::GdbConnection& connection, Start start)
    : owner_(owner),
      first_(first),
      connection_(connection),
      start_(start),
      has_avx_(RegistersOf(first).value_or(RegisterFile{}).count() == kRegistersWithAvx),
      memory_(owner.space(), owner.machine().engine()),
      files_(owner) {
  pending_.Attach(&wake_, [](void*) {}, nullptr);
}

absl::Status GdbServer::Begin() {
  owner_.signal_handlers().TakeDefaults(~kNotTaken);
  const bool is_exec = start_ == Start::kExec;
  first_.debug.stop =
      StopReason{.kind = is_exec ? StopReason::Kind::kExec : StopReason::Kind::kSignal,
                 .signal = is_exec ? 0 : SIGTRAP};
  first_.is_held = true;
  has_news_ = is_exec;
  is_running_ = is_exec;
  selected_ = getpid();
  resumed_ = {selected_};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kHostStack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t handle;
  // It begins with the program's signals shut out, as it goes on.
  const std::uint64_t mask = signals::HostMask();
  signals::SetHostMask(kAllSignals);
  const int error = pthread_create(&handle, &attributes, Main, this);
  signals::SetHostMask(mask);
  pthread_attr_destroy(&attributes);
  if (error != 0) return absl::ErrnoToStatus(error, "cannot start the thread that serves gdb");
  return absl::OkStatus();
}

void* GdbServer::Main(void* self) {
  static_cast<GdbServer*>(self)->Serve();
  return nullptr;
}

void GdbServer::Serve() {
  signals::SetCurrentPending(&pending_);
  server_id_ = gettid();
  if (start_ == Start::kSession) {
    StopAll();
    Tell(first_, *std::exchange(first_.debug.stop, std::nullopt));
  }
  while (is_attached_) {
    wake_ = 0;
    if (is_running_ && has_news_) {
      StopAll();
      TellStop();
    }
    if (!Receive()) return LostConnection();
    while (is_attached_) {
      const std::optional<PacketEvent> event = reader_.Next();
      if (!event) break;
      Handle(*event);
    }
  }
  signals::SetCurrentPending(nullptr);
}

// False: there will be no more.
bool GdbServer::Receive() {
  pollfd connection{.fd = connection_.fd, .events = POLLIN, .revents = 0};
  const hostcalls::SyscallResult ready = hostcalls::InterruptibleCall(
      wake_, SYS_ppoll, {reinterpret_cast<std::uint64_t>(&connection), 1, 0, 0, 0});
  if (ready.is_restart() || ready.error() == EINTR || connection.revents == 0) return true;
  std::array<char, 4096> bytes;
  const ssize_t count = read(connection_.fd, bytes.data(), bytes.size());
  if (count < 0 && errno == EINTR) return true;
  if (count <= 0) return false;
  reader_.Add(std::string_view(bytes.data(), static_cast<std::size_t>(count)));
  return true;
}

void GdbServer::LostConnection() {
  errors::Say(errors::Id::kLostGdb, "the connection to gdb broke off; the program is ended");
  Kill();
}

void GdbServer::Kill() {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

void GdbServer::Handle(const PacketEvent& event) {
  switch (event.kind) {
    case PacketEvent::Kind::kAck:
    case PacketEvent::Kind::kNack:  // over a reliable connection nothing is sent twice
      return;
    case PacketEvent::Kind::kBroken:
      if (!connection_.without_acks) SendRaw("-");
      return;
    case PacketEvent::Kind::kInterrupt:
      if (!is_running_) return;
      StopAll();
      if (has_news_) return TellStop();
      if (GuestThread* const thread = Selected(); thread != nullptr) {
        Tell(*thread, {.kind = StopReason::Kind::kSignal, .signal = SIGINT});
        is_running_ = false;
      }
      return;
    case PacketEvent::Kind::kPacket:
      if (!connection_.without_acks) SendRaw("+");
      // While the program runs there is nothing to ask.
      if (is_running_) return;
      const std::string answer = Answer(event.body);
      if (!is_running_ && is_attached_) Send(answer);
      return;
  }
}

void GdbServer::SendRaw(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t written = write(connection_.fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // reading says so, too
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void GdbServer::Send(std::string_view body) {
  const std::lock_guard lock(wire_mutex_);
  if (!is_over_) SendRaw(Frame(body));
}

void GdbServer::StopAll() { owner_.threads().Hold(nullptr); }

// What a thread has stopped for may not be so any more when it is told at last.
bool GdbServer::IsStale(const GuestThread& thread, const StopReason& reason) const {
  return reason.kind == StopReason::Kind::kBreakpoint &&
         !memory_.HasBreakpoint(thread.registers.rip);
}

// One of those that gdb waits for; the others' turn comes when it lets them go on.
void GdbServer::TellStop() {
  has_news_ = false;
  GuestThread* chosen = nullptr;
  owner_.threads().ForEach([&](GuestThread& thread) {
    if (!thread.debug.stop) return;
    if (IsStale(thread, *thread.debug.stop)) {
      thread.debug.stop.reset();
    } else if (chosen == nullptr) {
      chosen = &thread;
    }
  });
  if (chosen == nullptr) {
    // Nobody has anything to say after all.
    for (const pid_t id : resumed_) {
      if (GuestThread* const thread = owner_.threads().Find(id)) owner_.threads().Release(*thread);
    }
    return;
  }
  Tell(*chosen, *std::exchange(chosen->debug.stop, std::nullopt));
  is_running_ = false;
}

std::string GdbServer::NameOf(const GuestThread& thread) const {
  return connection_.multiprocess ? absl::StrFormat("p%x.%x", getpid(), thread.id)
                                  : absl::StrFormat("%x", thread.id);
}

void GdbServer::Tell(GuestThread& thread, const StopReason& reason) {
  unsigned signal = ToGdbSignal(SIGTRAP);
  std::string why;
  switch (reason.kind) {
    case StopReason::Kind::kSignal:
      signal = ToGdbSignal(reason.signal);
      break;
    case StopReason::Kind::kStep:
      break;
    case StopReason::Kind::kBreakpoint:
      why = "swbreak:;";
      break;
    case StopReason::Kind::kWatchpoint:
      why = absl::StrFormat("watch:%x;", reason.address);
      break;
    case StopReason::Kind::kReadWatchpoint:
      why = absl::StrFormat("rwatch:%x;", reason.address);
      break;
    case StopReason::Kind::kAccessWatchpoint:
      why = absl::StrFormat("awatch:%x;", reason.address);
      break;
    case StopReason::Kind::kExec:
      why = absl::StrCat("exec:", ToHex(owner_.executable_path()), ";");
      break;
  }
  std::string registers;
  if (const std::optional<RegisterFile> file = RegistersOf(thread)) {
    for (const std::size_t number : {kRbp, kRsp, kRip}) {
      absl::StrAppend(&registers, absl::Hex(number, absl::kZeroPad2), ":", ToHex(file->Get(number)),
                      ";");
    }
  }
  selected_ = thread.id;
  last_signal_ = thread.debug.signal_info;
  last_stop_ =
      absl::StrCat(absl::StrFormat("T%02x", signal), why, "thread:", NameOf(thread), ";", registers);
  // The first stop is told when gdb asks.
  if (is_running_) Send(last_stop_);
}

}  // namespace dunebox::debugger
