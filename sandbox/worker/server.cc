#include "sandbox/worker/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "hostcalls/memory/address.h"
#include "sandbox/plugin/saved_guest.h"
#include "sandbox/worker/descriptors.h"

namespace dunebox::worker {
namespace {

using internal::Callback;
using internal::CallbackFrame;
using internal::CallFrame;
using internal::CallResult;

// When the host dies, the kernel ends this process.
const std::atomic<bool> kNeverEnds{false};

// The conversation that the calling thread is in; null: a thread of the plugin's own that has none.
thread_local Channel* current = nullptr;

}  // namespace

Server::Server(plugin::Instance& instance, std::span<Slot> slots, SlotCounts counts,
               std::shared_ptr<const plugin::InstanceSnapshot> snapshot)
    : instance_(instance), snapshot_(std::move(snapshot)) {
  for (std::uint32_t i = 0; i < counts.all(); ++i) {
    const Channel channel(slots[i].to_host, slots[i].to_worker);
    if (i >= counts.first_of_worker()) {
      plugin_threads_.push_back({.channel = channel});
    } else if (i > 0) {
      host_threads_.push_back(channel);
    }
  }
}

void Server::Run(Channel& manager) {
  for (Channel& channel : host_threads_) {
    std::thread([this, &channel] { Serve(channel); }).detach();
  }
  Serve(manager);
}

void Server::Serve(Channel& channel) {
  current = &channel;
  for (;;) {
    Message message;
    channel.Receive(message, kNever, kNeverEnds);
    Do(channel, message);
  }
}

void Server::Do(Channel& channel, const Message& message) {
  Writer answer;
  const absl::Status status = Handle(message, answer);
  Writer reply;
  PutStatus(reply, status);
  channel.Send(Operation::kDone, status.ok() ? reply.bytes() + answer.bytes() : reply.bytes());
}

absl::Status Server::Handle(const Message& message, Writer& answer) {
  Reader reader(message.bytes);
  switch (static_cast<Operation>(message.operation)) {
    case Operation::kLoad:
      return Load(reader);
    case Operation::kFind: {
      const absl::StatusOr<std::uint64_t> address = instance_.FindSymbol(reader.GetText());
      if (address.ok()) answer.Put(*address);
      return address.status();
    }
    case Operation::kCall: {
      const auto function = reader.Get<std::uint64_t>();
      const CallFrame frame = GetFrame(reader);
      const absl::StatusOr<CallResult> result = instance_.Call(function, frame);
      if (result.ok()) answer.Put(*result);
      return result.status();
    }
    case Operation::kAddCallback:
      return AddCallback(reader, answer);
    case Operation::kRead:
      Read(reader, answer);
      return absl::OkStatus();
    case Operation::kWrite:
      return Write(reader);
    case Operation::kText:
      PutText(reader, answer);
      return absl::OkStatus();
    case Operation::kFailure: {
      const std::optional<Failure> failure = instance_.failure();
      return failure ? ToStatus(*failure) : absl::OkStatus();
    }
    case Operation::kSnapshot:
      return TakeSnapshot(reader);
    case Operation::kReset:
      return Reset();
    case Operation::kStart:
    case Operation::kCallbackDone:
    case Operation::kOutputDone:
    case Operation::kDone:
    case Operation::kCallback:
    case Operation::kOutput:
      break;
  }
  return absl::InternalError("the host has asked for something else");
}

// ---- requests -----------------------------------------------------------------------------------

// Sent before it is asked for, perhaps behind others'.
runtime::FileDescriptor Server::TakeFile(std::uint32_t number) {
  const std::lock_guard lock(mutex_);
  while (!files_.contains(number)) {
    std::uint32_t sent = 0;
    std::vector<runtime::FileDescriptor> came;
    if (!ReceiveWithDescriptors(kFilesFd, sent, came, MSG_DONTWAIT) || came.size() != 1) return {};
    files_[sent] = std::move(came.front());
  }
  return std::move(files_.extract(number).mapped());
}

absl::Status Server::Load(Reader& reader) {
  const auto number = reader.Get<std::uint32_t>();
  const std::string path = reader.GetText(), name = reader.GetText();
  if (number != 0) instance_.kernel().files().Grant(name, TakeFile(number));
  return instance_.Load(path);
}

absl::Status Server::AddCallback(Reader& reader, Writer& answer) {
  CallbackNeeds needs;
  needs.uses_vectors = reader.Get<std::uint32_t>() != 0;
  needs.stack_words = reader.Get<std::uint32_t>();
  const bool has_large_result = reader.Get<std::uint32_t>() != 0;
  needs.number = reader.Get<std::uint32_t>();
  const absl::StatusOr<std::uint64_t> address =
      instance_.AddCallback(std::make_shared<const Callback>(
          Callback{.run = [this, needs](CallbackFrame& frame) { CallBack(needs, frame); },
                   .uses_vectors = needs.uses_vectors,
                   .stack_words = needs.stack_words,
                   .has_large_result = has_large_result}));
  if (address.ok()) answer.Put(*address);
  return address.status();
}

// As much as there is.
void Server::Read(Reader& reader, Writer& answer) {
  const auto from = reader.Get<std::uint64_t>();
  const auto size = std::min<std::uint64_t>(reader.Get<std::uint64_t>(), kMostPayload / 2);
  std::string bytes(size, '\0');
  const auto all = std::as_writable_bytes(std::span(bytes));
  std::uint64_t done = 0;
  if (instance_.Read(from, all)) {
    done = size;
  } else {
    while (done < size) {
      const std::uint64_t part =
          std::min(PageDown(from + done) + kPageSize - (from + done), size - done);
      if (!instance_.Read(from + done, all.subspan(done, part))) break;
      done += part;
    }
  }
  answer.PutBytes(std::string_view(bytes).substr(0, done));
}

absl::Status Server::Write(Reader& reader) {
  const auto to = reader.Get<std::uint64_t>();
  const std::string bytes = reader.GetText();
  if (instance_.Write(to, std::as_bytes(std::span(bytes)))) return absl::OkStatus();
  return absl::OutOfRangeError("the plugin points to what it cannot write");
}

void Server::PutText(Reader& reader, Writer& answer) {
  const auto which = reader.Get<std::uint32_t>();
  const auto offset = reader.Get<std::uint64_t>();
  if (offset == 0) {
    text_ = which == kTextOutput ? instance_.TakeOutput() : std::string();
    if (which == kTextGuest) text_ = std::exchange(guest_, {});
    if (which == kTextDenials) {
      for (const std::string& denial : instance_.Denials()) text_.append(denial).push_back('\0');
    }
  }
  answer.PutBytes(std::string_view(text_).substr(std::min<std::size_t>(offset, text_.size()),
                                                 kMostPayload / 2));
}

absl::Status Server::TakeSnapshot(Reader& reader) {
  runtime::FileDescriptor image = TakeFile(reader.Get<std::uint32_t>());
  if (!image.valid()) return absl::InternalError("the host has sent no file for a snapshot");
  absl::StatusOr<std::shared_ptr<const plugin::InstanceSnapshot>> taken =
      instance_.SnapshotInto(std::move(image));
  if (!taken.ok()) return taken.status();
  snapshot_ = *std::move(taken);
  guest_ = plugin::EncodeGuest(plugin::Describe(*snapshot_));
  return absl::OkStatus();
}

absl::Status Server::Reset() {
  if (snapshot_ == nullptr) return absl::InternalError("the host has taken no snapshot");
  return instance_.ReturnTo(*snapshot_);
}

// ---- callbacks ----------------------------------------------------------------------------------

void Server::CallBack(const CallbackNeeds& needs, CallbackFrame& frame) {
  if (current != nullptr) return CallBackOn(*current, needs, frame);
  Line& line = TakeLine();
  current = &line.channel;
  CallBackOn(line.channel, needs, frame);
  current = nullptr;
  GiveBack(line);
}

void Server::CallBackOn(Channel& channel, const CallbackNeeds& needs, CallbackFrame& frame) {
  Writer writer;
  writer.Put(needs.number);
  PutFrame(writer, frame, needs.uses_vectors, needs.stack_words);
  Tell(channel, Operation::kCallback, writer.bytes());
  for (;;) {
    Message message;
    channel.Receive(message, kNever, kNeverEnds);
    if (message.operation == static_cast<std::uint32_t>(Operation::kCallbackDone)) {
      Reader reader(message.bytes);
      frame.result = reader.Get<CallResult>();
      const std::string large = reader.GetText();
      const auto bytes = std::as_bytes(std::span(large));
      frame.large_result.assign(bytes.begin(), bytes.end());
      return;
    }
    Do(channel, message);
  }
}

void Server::Tell(Channel& channel, Operation operation, std::string_view bytes) {
  channel.Send(operation, bytes);
  // The first time that the host hears of this slot.
  for (Line& line : plugin_threads_) {
    if (&line.channel != &channel || std::exchange(line.was_rung_for, true)) continue;
    constexpr std::uint64_t kOnce = 1;
    [[maybe_unused]] const ssize_t written = write(kDoorbellFd, &kOnce, sizeof(kOnce));
  }
}

// ---- output -------------------------------------------------------------------------------------

void Server::Relay(bool relays_stdout, bool relays_stderr) {
  if (!relays_stdout && !relays_stderr) return;
  instance_.kernel().SetRelay(
      [=, this](const plugin::OpenFile& output, std::string_view text) -> hostcalls::SyscallResult {
        const bool is_relayed = output.name == plugin::kStderr ? relays_stderr : relays_stdout;
        if (is_relayed) return PassOn(output, text);
        return hostcalls::SyscallResult(static_cast<std::int64_t>(text.size()));
      });
}

hostcalls::SyscallResult Server::PassOn(const plugin::OpenFile& output, std::string_view text) {
  if (current != nullptr) return PassOnOver(*current, output, text);
  Line& line = TakeLine();
  const hostcalls::SyscallResult passed = PassOnOver(line.channel, output, text);
  GiveBack(line);
  return passed;
}

hostcalls::SyscallResult Server::PassOnOver(Channel& channel, const plugin::OpenFile& output,
                                            std::string_view text) {
  Writer writer;
  writer.Put(static_cast<std::uint32_t>(output.name == plugin::kStderr));
  writer.PutText(text);
  Tell(channel, Operation::kOutput, writer.bytes());
  // The host asks for nothing before that.
  Message message;
  channel.Receive(message, kNever, kNeverEnds);
  const auto passed = Reader(message.bytes).Get<std::int64_t>();
  if (passed < 0) return hostcalls::Errno{static_cast<int>(-passed)};
  return hostcalls::SyscallResult(passed);
}

// ---- lines of the plugin's own threads ----------------------------------------------------------

Server::Line& Server::TakeLine() {
  std::unique_lock lock(mutex_);
  const auto is_free = [](const Line& line) { return !line.is_taken; };
  auto found = plugin_threads_.end();
  changed_.wait(lock, [&] {
    found = std::ranges::find_if(plugin_threads_, is_free);
    return found != plugin_threads_.end();
  });
  found->is_taken = true;
  return *found;
}

void Server::GiveBack(Line& line) {
  const std::lock_guard lock(mutex_);
  line.is_taken = false;
  changed_.notify_one();
}

}  // namespace dunebox::worker
