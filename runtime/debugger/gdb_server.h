// The debugger of one process: serves one gdb on one connection, from a host thread of its own.
//
// All-stop: when one thread of the program has something to tell, all are held, gdb is told, and
// looks at them until it lets them go on. Stepping is the processor's trap flag, which the program
// does not see; while memory is watched all threads step, one after the other. What gdb may do is
// what the user may do. When the connection breaks off the program is killed: its state is gdb's.
//
// A forked or vforked child is not debugged. An execve hands the connection over (Connection).
//
//   GdbServer server(process, thread, session.gdb, GdbServer::Start::kProgram);
//   if (absl::Status status = server.Begin(); !status.ok()) ...
//   process.SetDebugger(&server);
#ifndef DUNEBOX_RUNTIME_DEBUGGER_GDB_SERVER_H_
#define DUNEBOX_RUNTIME_DEBUGGER_GDB_SERVER_H_

#include <atomic>
#include <bitset>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "runtime/debugger/memory_patches.h"
#include "runtime/debugger/packet.h"
#include "runtime/debugger/register_file.h"
#include "runtime/debugger/target_files.h"
#include "runtime/debugger/turn_lock.h"
#include "runtime/process/debugger.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"

namespace dunebox::debugger {

class GdbServer final : public process::Debugger {
 public:
  enum class Start : unsigned char {
    kSession,  // gdb has just connected and asks first
    kExec,     // gdb waits to hear how its last command ended
  };
  // `first` is the process's only thread, and has not run.
  GdbServer(process::Process& owner, process::GuestThread& first,
            const process::GdbConnection& connection, Start start);
  // Starts serving; `first` is held from now on.
  absl::Status Begin();

  // process::Debugger
  runtime::Exit Run(process::GuestThread& thread) override;
  bool Takes(process::GuestThread& thread, const runtime::Fault& fault) override;
  int OnSignal(process::GuestThread& thread, const siginfo_t& info) override;
  void OnExit(int status) override;
  void OnDeath(int signal) override;
  void BeforeVfork(process::GuestThread& thread) override;
  void AfterVfork(process::GuestThread& thread) override;
  void ForgetInChild() override;
  process::GdbConnection Connection() override;

 private:
  using StopReason = process::StopReason;
  using GuestThread = process::GuestThread;

  // ---- in threads of the program (stepping.cc) ----
  // Returns when gdb lets the thread go on.
  void Stop(GuestThread& thread, const StopReason& reason);
  runtime::Exit StepOnce(GuestThread& thread);
  void End(const std::string& packet);

  // ---- in the serving thread ----
  static void* Main(void* self);
  void Serve();
  bool Receive();
  void Handle(const PacketEvent& event);
  void Send(std::string_view body);
  void SendRaw(std::string_view bytes) const;
  void LostConnection();
  void StopAll();
  void TellStop();
  void Tell(GuestThread& thread, const StopReason& reason);
  bool IsStale(const GuestThread& thread, const StopReason& reason) const;

  // ---- packets (packets.cc); what is sent back ----
  std::string Answer(std::string_view packet);
  std::string AnswerQuery(std::string_view query);
  std::string AnswerTransfer(std::string_view request);
  std::string AnswerV(std::string_view request);
  std::string AnswerBreakpoint(std::string_view request);
  std::string SelectThread(std::string_view request);
  std::string ReadMemory(std::string_view request) const;
  std::string WriteMemory(std::string_view request, bool is_binary);
  std::string ReadRegisters();
  std::string WriteRegisters(std::string_view hex);
  std::string ReadOneRegister(std::string_view request);
  std::string WriteOneRegister(std::string_view request);
  std::string ListThreads();
  // Answers by what happens next; a reply only when it cannot be done.
  std::string Resume(std::string_view actions);
  void Detach();
  [[noreturn]] static void Kill();
  std::string Features(std::string_view supported);

  std::string NameOf(const GuestThread& thread) const;
  GuestThread* Selected();
  std::optional<RegisterFile> RegistersOf(GuestThread& thread) const;
  bool SetRegistersOf(GuestThread& thread, const RegisterFile& file) const;

  process::Process& owner_;
  process::GuestThread& first_;
  process::GdbConnection connection_;
  const Start start_;
  const bool has_avx_;
  MemoryPatches memory_;
  TargetFiles files_;

  std::atomic<bool> is_attached_ = true;
  std::atomic<bool> has_news_ = false;      // some thread has a stop to tell
  std::atomic<bool> is_stepping_all_ = false;  // memory is watched
  TurnLock turns_;                          // while memory is watched: who may step
  std::mutex wire_mutex_;                   // what is sent, and is_over_
  bool is_over_ = false;                    // the end has been told
  std::bitset<signals::kSignalCount + 1> passed_;  // signals that gdb does not want to hear of

  // Of the serving thread alone.
  std::atomic<pid_t> server_id_ = 0;
  std::atomic<std::uint32_t> wake_ = 0;
  signals::PendingSignals pending_;
  PacketReader reader_;
  bool is_running_ = false;   // gdb waits for a stop
  pid_t selected_ = 0;        // Hg
  std::vector<pid_t> resumed_;  // whom the last vCont was for
  std::string last_stop_;
  siginfo_t last_signal_{};
};

}  // namespace dunebox::debugger

#endif  // DUNEBOX_RUNTIME_DEBUGGER_GDB_SERVER_H_
