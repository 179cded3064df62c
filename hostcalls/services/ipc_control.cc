#include "hostcalls/services/ipc_control.h"

#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <span>
#include <vector>

#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

enum class ControlKind : unsigned char {
  kValue,   // a number, or not looked at
  kIn,      // a structure to set
  kOut,     // a structure to fill
  kSetAll,  // one value for each semaphore of the set
  kGetAll,
};

struct ControlCommand {
  int number;
  ControlKind kind;
  std::size_t size = 0;
};

constexpr ControlCommand kSemaphoreCommands[] = {
    {IPC_RMID, ControlKind::kValue},
    {IPC_SET, ControlKind::kIn, sizeof(semid_ds)},
    {IPC_STAT, ControlKind::kOut, sizeof(semid_ds)},
    {IPC_INFO, ControlKind::kOut, sizeof(seminfo)},
    {GETPID, ControlKind::kValue},
    {GETVAL, ControlKind::kValue},
    {GETALL, ControlKind::kGetAll},
    {GETNCNT, ControlKind::kValue},
    {GETZCNT, ControlKind::kValue},
    {SETVAL, ControlKind::kValue},
    {SETALL, ControlKind::kSetAll},
    {SEM_STAT, ControlKind::kOut, sizeof(semid_ds)},
    {SEM_INFO, ControlKind::kOut, sizeof(seminfo)},
    {SEM_STAT_ANY, ControlKind::kOut, sizeof(semid_ds)},
};
constexpr ControlCommand kMessageCommands[] = {
    {IPC_RMID, ControlKind::kValue},
    {IPC_SET, ControlKind::kIn, sizeof(msqid_ds)},
    {IPC_STAT, ControlKind::kOut, sizeof(msqid_ds)},
    {IPC_INFO, ControlKind::kOut, sizeof(msginfo)},
    {MSG_STAT, ControlKind::kOut, sizeof(msqid_ds)},
    {MSG_INFO, ControlKind::kOut, sizeof(msginfo)},
    {MSG_STAT_ANY, ControlKind::kOut, sizeof(msqid_ds)},
};
// As the kernel has them. [linux]
static_assert(sizeof(semid_ds) == 104 && sizeof(seminfo) == 40);
static_assert(sizeof(msqid_ds) == 120 && sizeof(msginfo) == 32);
constexpr std::size_t kLargest = 120;

const ControlCommand* Find(std::span<const ControlCommand> commands, int number) {
  const auto found = std::ranges::find(commands, number, &ControlCommand::number);
  return found == commands.end() ? nullptr : &*found;
}

// A call whose argument at `index` is a structure of the command's size.
SyscallResult WithCopy(Caller& caller, std::uint64_t number, ArgumentValues values,
                       std::size_t index, const ControlCommand& command) {
  std::array<std::byte, kLargest> buffer{};
  const auto copy = std::span(buffer).first(command.size);
  const std::uint64_t address = values[index];
  if (!caller.memory.Contains(address, command.size)) return Errno{EFAULT};
  if (command.kind == ControlKind::kIn && !caller.memory.Read(address, copy)) {
    return Errno{EFAULT};
  }
  values[index] = AsArgument(buffer.data());
  const SyscallResult result = RuntimeCall(caller, number, values);
  if (!result.ok() || command.kind == ControlKind::kIn) return result;
  return caller.memory.Write(address, copy) ? result : Errno{EFAULT};
}

// All values of a set. The kernel takes their number from the set, which may be another one than
// a moment ago: so it works on a buffer for the largest set there can be.
SyscallResult AllValues(Caller& caller, ArgumentValues values, ControlKind kind) {
  constexpr std::size_t kLargestSet = 1 << 16;  // twice Linux's default SEMMSL
  semid_ds set{};
  const SyscallResult known = RuntimeCall(
      caller, SYS_semctl, Arguments(AsInt(values[0]), 0, static_cast<int>(IPC_STAT), &set));
  if (!known.ok()) return known;
  if (set.sem_nsems > kLargestSet) return Errno{ENOMEM};
  std::vector<std::uint16_t> buffer(kLargestSet);
  const auto copy = std::as_writable_bytes(std::span(buffer).first(set.sem_nsems));
  const std::uint64_t address = values[3];
  if (kind == ControlKind::kSetAll && !caller.memory.Read(address, copy)) return Errno{EFAULT};
  values[3] = AsArgument(buffer.data());
  const SyscallResult result = RuntimeCall(caller, SYS_semctl, values);
  if (!result.ok() || kind == ControlKind::kSetAll) return result;
  return caller.memory.Write(address, copy) ? result : Errno{EFAULT};
}

}  // namespace

SyscallResult HandleSemctl(Caller& caller, const ArgumentValues& arguments) {
  const ControlCommand* command = Find(kSemaphoreCommands, AsInt(arguments[2]));
  if (command == nullptr) return Errno{EINVAL};
  const ArgumentValues values =
      Arguments(AsInt(arguments[0]), AsInt(arguments[1]), command->number, arguments[3]);
  switch (command->kind) {
    case ControlKind::kValue:
      return HostCall(caller, SYS_semctl,
                      Arguments(AsInt(arguments[0]), AsInt(arguments[1]), command->number,
                                AsInt(arguments[3])));
    case ControlKind::kIn:
    case ControlKind::kOut:
      return WithCopy(caller, SYS_semctl, values, 3, *command);
    case ControlKind::kSetAll:
    case ControlKind::kGetAll:
      return AllValues(caller, values, command->kind);
  }
  return Errno{EINVAL};
}

SyscallResult HandleMsgctl(Caller& caller, const ArgumentValues& arguments) {
  const ControlCommand* command = Find(kMessageCommands, AsInt(arguments[1]));
  if (command == nullptr) return Errno{EINVAL};
  const ArgumentValues values = Arguments(AsInt(arguments[0]), command->number, arguments[2]);
  if (command->kind == ControlKind::kValue) {
    return HostCall(caller, SYS_msgctl, Arguments(AsInt(arguments[0]), command->number, 0));
  }
  return WithCopy(caller, SYS_msgctl, values, 2, *command);
}

void RegisterIpcControlHandlers(HandlerTable& handlers) {
  handlers.Bind("semctl", HandleSemctl);
  handlers.Bind("msgctl", HandleMsgctl);
}

}  // namespace dunebox::hostcalls
