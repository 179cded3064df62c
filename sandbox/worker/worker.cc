#include "sandbox/worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/signals/action.h"
#include "sandbox/plugin/host_files.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/saved_guest.h"
#include "sandbox/worker/confine.h"
#include "sandbox/worker/descriptors.h"
#include "sandbox/worker/server.h"
#include "sandbox/worker/shared_memory.h"

namespace dunebox::worker {
namespace {

using plugin::Instance;
using plugin::InstanceSnapshot;

// The next file of those that the host has sent. `number`: the one that it has to be.
absl::StatusOr<runtime::FileDescriptor> TakeFile(std::uint32_t number) {
  std::uint32_t sent = 0;
  std::vector<runtime::FileDescriptor> came;
  if (!ReceiveWithDescriptors(kFilesFd, sent, came, MSG_DONTWAIT) || sent != number ||
      came.size() != 1) {
    return absl::InternalError("the host has sent another file");
  }
  return std::move(came.front());
}

absl::StatusOr<std::string> ReadFile(const runtime::FileDescriptor& file) {
  struct stat status {};
  if (fstat(file.get(), &status) != 0) return absl::ErrnoToStatus(errno, "a snapshot");
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t got = pread(file.get(), bytes.data() + done, bytes.size() - done,
                              static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return absl::ErrnoToStatus(errno, "a snapshot");
    done += static_cast<std::size_t>(got);
  }
  return bytes;
}

// Files come in the order in which they are taken here.
absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> ReceiveSnapshot(const StartOrder& order,
                                                                        plugin::Files& files) {
  absl::StatusOr<runtime::FileDescriptor> image = TakeFile(order.image);
  if (!image.ok()) return image.status();
  const absl::StatusOr<runtime::FileDescriptor> described = TakeFile(order.guest);
  if (!described.ok()) return described.status();
  for (const auto& [number, name] : order.named) {
    absl::StatusOr<runtime::FileDescriptor> file = TakeFile(number);
    if (!file.ok()) return file.status();
    files.Grant(name, *std::move(file));
  }
  const absl::StatusOr<std::string> bytes = ReadFile(*described);
  if (!bytes.ok()) return bytes.status();
  constexpr hostcalls::Window kWindow = hostcalls::Window::Embedded(0);
  absl::StatusOr<plugin::SavedGuest> guest = plugin::DecodeGuest(*bytes, kWindow);
  if (!guest.ok()) return guest.status();
  absl::StatusOr<hostcalls::SealedFile> sealed =
      hostcalls::SealedFile::Adopt(image->release(), kWindow.limit);
  if (!sealed.ok()) return sealed.status();
  absl::StatusOr<std::shared_ptr<const memory::MemoryImage>> memory = memory::MemoryImage::Of(
      guest->memory, kWindow.limit, *std::move(sealed), guest->contents);
  if (!memory.ok()) return memory.status();
  absl::StatusOr<InstanceSnapshot> snapshot =
      plugin::Revive(*std::move(guest), *std::move(memory), &files);
  if (!snapshot.ok()) return snapshot.status();
  return std::make_shared<const InstanceSnapshot>(*std::move(snapshot));
}

// What has begun.
struct Begun {
  std::unique_ptr<Instance> instance;
  std::shared_ptr<const InstanceSnapshot> snapshot;  // null: anew
};

absl::Status Start(const StartOrder& order, int namespaces, Begun& begun, Writer& answer) {
  std::vector<std::string> confinement;
  const auto confine = [&]() -> absl::Status {
    absl::StatusOr<std::vector<std::string>> confined =
        Confine(Role::kWorker, order.policy, namespaces);
    if (!confined.ok()) return confined.status();
    confinement = *std::move(confined);
    return absl::OkStatus();
  };
  const auto open =
      [&](plugin::Files& files) -> absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> {
    if (absl::Status status = confine(); !status.ok()) return status;
    absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> received = ReceiveSnapshot(order, files);
    if (received.ok()) begun.snapshot = *received;
    return received;
  };
  auto files = std::make_unique<plugin::HostFiles>(order.policy);
  absl::StatusOr<std::unique_ptr<Instance>> made =
      order.image == 0
          ? Instance::Create(order.policy, order.random, std::move(files), confine)
          : Instance::CreateFrom(order.policy, order.random, std::move(files), open);
  if (!made.ok()) return made.status();
  begun.instance = *std::move(made);
  const absl::StatusOr<GuestRange> shared =
      begun.instance->MapHostMemory(kArenaFd, order.arena_size);
  if (!shared.ok()) return shared.status();
  close(kArenaFd);
  answer.Put(shared->start.value);
  PutTexts(answer, confinement);
  answer.PutText(begun.instance->engine());
  answer.PutText(begun.instance->isolation());
  return absl::OkStatus();
}

}  // namespace

int WorkerMain(int argc, const char* const* argv) {
  if (argc != 3) return 2;
  // Of the fork server: the kernel has forgotten it if this program's rights are others.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  absl::StatusOr<SharedMemory> control = SharedMemory::Map(runtime::FileDescriptor(kControlFd));
  if (!control.ok()) return 1;
  const std::span<Slot> slots(control->As<Slot>(), control->bytes().size() / sizeof(Slot));
  Channel manager(slots[0].to_host, slots[0].to_worker);
  const std::atomic<bool> never_ends{false};
  Message message;
  manager.Receive(message, kNever, never_ends);
  const std::optional<StartOrder> order = ParseStartOrder(message.bytes);
  if (!order) return 1;
  // For good: what refers to them runs until the process is killed.
  static Begun& begun = *new Begun;
  static const StartOrder& kept = *new StartOrder(*order);
  Writer answer, reply;
  const absl::Status started = Start(kept, std::atoi(argv[1]), begun, answer);
  PutStatus(reply, started);
  if (started.ok()) reply.PutBytes(answer.bytes());
  manager.Send(Operation::kDone, reply.bytes());
  // The host ends it when it has read that.
  while (!started.ok()) manager.Receive(message, kNever, never_ends);
  const auto host_threads = static_cast<std::uint32_t>(kept.policy.host_threads);
  Server server(*begun.instance, slots,
                {.host_threads = host_threads,
                 .plugin_threads = static_cast<std::uint32_t>(slots.size()) - 1 - host_threads},
                std::move(begun.snapshot));
  server.Relay(kept.relays_stdout != 0, kept.relays_stderr != 0);
  server.Run(manager);
}

}  // namespace dunebox::worker
