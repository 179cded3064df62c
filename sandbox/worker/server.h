// The worker's end of the conversations: an Instance that does what the host asks for, one thread a
// slot. Of the host everything is believed.
//
//   Server server(*instance, slots, counts);
//   server.Run();    // for ever: the host ends the process
#ifndef DUNEBOX_SANDBOX_WORKER_SERVER_H_
#define DUNEBOX_SANDBOX_WORKER_SERVER_H_

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/file_descriptor.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/worker/channel.h"
#include "sandbox/worker/wire.h"

namespace dunebox::worker {

class Server {
 public:
  // `snapshot`: what the instance was made from; null: it has begun anew.
  Server(plugin::Instance& instance, std::span<Slot> slots, SlotCounts counts,
         std::shared_ptr<const plugin::InstanceSnapshot> snapshot);
  // From now on what the plugin writes there goes to the host at once.
  void Relay(bool relays_stdout, bool relays_stderr);
  // With the channel of the first slot, in which the worker was started.
  [[noreturn]] void Run(Channel& manager);

 private:
  struct Line {
    Channel channel;
    bool is_taken = false;
    bool was_rung_for = false;
  };

  [[noreturn]] void Serve(Channel& channel);
  void Do(Channel& channel, const Message& message);
  absl::Status Handle(const Message& message, Writer& answer);
  absl::Status Load(Reader& reader);
  absl::Status AddCallback(Reader& reader, Writer& answer);
  void Read(Reader& reader, Writer& answer);
  absl::Status Write(Reader& reader);
  void PutText(Reader& reader, Writer& answer);
  absl::Status TakeSnapshot(Reader& reader);
  absl::Status Reset();
  runtime::FileDescriptor TakeFile(std::uint32_t number);

  // What a callback of the host's is, and of its arguments what it uses.
  struct CallbackNeeds {
    std::uint32_t number = 0;
    bool uses_vectors = false;
    unsigned stack_words = 0;
  };
  void CallBack(const CallbackNeeds& needs, internal::CallbackFrame& frame);
  void CallBackOn(Channel& channel, const CallbackNeeds& needs, internal::CallbackFrame& frame);
  hostcalls::SyscallResult PassOn(const plugin::OpenFile& output, std::string_view text);
  hostcalls::SyscallResult PassOnOver(Channel& channel, const plugin::OpenFile& output,
                                      std::string_view text);
  // To the host, which may have to be told that this slot is in use.
  void Tell(Channel& channel, Operation operation, std::string_view bytes);
  Line& TakeLine();
  void GiveBack(Line& line);

  plugin::Instance& instance_;
  std::vector<Channel> host_threads_;
  // Of the first slot's thread.
  std::string text_;   // what is being fetched
  std::string guest_;  // of the last snapshot, until it is fetched
  std::shared_ptr<const plugin::InstanceSnapshot> snapshot_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<Line> plugin_threads_;
  std::map<std::uint32_t, runtime::FileDescriptor> files_;
};

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_SERVER_H_
