// Which of the machine's memory a program's comes from (NUMA): the policies of its threads and of its mappings, and where its
// pages are.
//
// A policy says where new pages are put and never what is in them, so a thread's is the kernel's own, forwarded: what the
// runtime allocates for the thread comes from there, too, as for a library in the program. What names addresses reaches the
// program's own mappings only. An address elsewhere becomes one at which no process has memory, and so the kernel says of it
// what it says of any such, and in its own order.
#include <linux/mempolicy.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "hostcalls/dispatch/host_call.h"
#include "hostcalls/services/session_processes.h"
#include "hostcalls/services/support.h"
#include "runtime/process/calls/calls.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"

namespace dunebox::process {
namespace {

using hostcalls::Arguments;
using hostcalls::ArgumentValues;
using hostcalls::Caller;
using hostcalls::Errno;
using hostcalls::HostCall;
using hostcalls::kSuccess;
using hostcalls::RuntimeCall;
using hostcalls::SyscallResult;

constexpr std::uint64_t kNowhere = 8;  // in the lowest 64 KiB, which no window has

std::uint64_t InsideOrNowhere(const Caller& caller, std::uint64_t address, std::uint64_t size) {
  return address == 0 || caller.memory.Contains(address, size) ? address : kNowhere;
}

// A mask of nodes of which the kernel uses all bits but the last, in whole longs. More than a page of them it refuses unseen.
std::uint64_t NodeMask(const Caller& caller, std::uint64_t address, std::uint64_t count) {
  const std::uint64_t bits = std::min(count - std::min<std::uint64_t>(count, 1), kPageSize * 8);
  return InsideOrNowhere(caller, address, (bits + 63) / 64 * 8);
}

SyscallResult HandleGetMempolicy(Caller& caller, const ArgumentValues& a) {
  return HostCall(caller, SYS_get_mempolicy, {a[0], NodeMask(caller, a[1], a[2]), a[2], InsideOrNowhere(caller, a[3], 1), a[4]});
}

SyscallResult HandleSetMempolicy(Caller& caller, const ArgumentValues& a) {
  return HostCall(caller, SYS_set_mempolicy, {a[0], NodeMask(caller, a[1], a[2]), a[2]});
}

SyscallResult HandleMigratePages(Caller& caller, const ArgumentValues& a) {
  const SyscallResult own = RequireSessionProcess(caller, "move the memory of", hostcalls::AsInt(a[0]));
  if (!own.ok()) return own;
  return HostCall(caller, SYS_migrate_pages, {a[0], a[1], NodeMask(caller, a[2], a[1]), NodeMask(caller, a[3], a[1])});
}

// Before the kernel notes something of [start, start + length), which it rounds up, that would not hold for other memory there.
// `outside` is the error for addresses that the program cannot have.
SyscallResult KeepOwnRange(Caller& caller, std::uint64_t start, std::uint64_t length, Errno outside) {
  const std::uint64_t size = PageUp(length);
  if (start + size < start) return Errno{EINVAL};
  if (size == 0) return kSuccess;
  if (!caller.memory.Contains(start, size)) return outside;
  GuestThread::From(caller).owner.space().KeepFromPool({GuestVirt{start}, GuestVirt{start + size}});
  return kSuccess;
}

SyscallResult HandleMbind(Caller& caller, const ArgumentValues& a) {
  const SyscallResult own = KeepOwnRange(caller, a[0], a[1], Errno{EFAULT});
  if (!own.ok()) return own;
  return HostCall(caller, SYS_mbind, {a[0], a[1], a[2], NodeMask(caller, a[3], a[4]), a[4], a[5]});
}

SyscallResult HandleSetHomeNode(Caller& caller, const ArgumentValues& a) {
  const SyscallResult own = KeepOwnRange(caller, a[0], a[1], Errno{ENOENT});
  if (!own.ok()) return own;
  return HostCall(caller, SYS_set_mempolicy_home_node, a);
}

// A part of move_pages' arrays. The kernel gets copies: each address of the program's is checked and then used.
struct PagesToMove {
  static constexpr std::size_t kMost = 256;
  std::array<std::uint64_t, kMost> pages;
  std::array<int, kMost> nodes;
  std::array<int, kMost> status;
};

// `count` pages from element `first` on. Positive: so many of them stay where they are.
SyscallResult MovePart(Caller& caller, const ArgumentValues& a, std::uint64_t first, std::size_t count) {
  PagesToMove part;
  const auto pages = std::span(part.pages).first(count);
  const auto nodes = std::span(part.nodes).first(count);
  const auto status = std::span(part.status).first(count);
  const hostcalls::GuestMemory& memory = caller.memory;
  const bool moves = a[3] != 0;
  const std::uint64_t status_at = a[4] + first * sizeof(int);
  if (!memory.Read(a[2] + first * sizeof(std::uint64_t), std::as_writable_bytes(pages)) ||
      (moves && !memory.Read(a[3] + first * sizeof(int), std::as_writable_bytes(nodes))) ||
      !memory.Read(status_at, std::as_writable_bytes(status))) {
    return Errno{EFAULT};
  }
  for (std::uint64_t& page : pages) page = InsideOrNowhere(caller, page, 1);
  const SyscallResult result = RuntimeCall(
      caller, SYS_move_pages, Arguments(0, count, pages.data(), moves ? nodes.data() : nullptr, status.data(), a[5]));
  // The kernel says of single pages how it went, whatever came of the call.
  return memory.Write(status_at, std::as_bytes(status)) ? result : Errno{EFAULT};
}

SyscallResult HandleMovePages(Caller& caller, const ArgumentValues& a) {
  const int process = hostcalls::AsInt(a[0]);
  // Of another process the addresses of its runtime could be named.
  if (process != 0 && !hostcalls::IsOwnTask(process)) return Errno{EPERM};
  const std::uint64_t count = a[1];
  if (count == 0) return RuntimeCall(caller, SYS_move_pages, Arguments(0, 0, nullptr, nullptr, nullptr, a[5]));
  for (std::uint64_t done = 0; done < count;) {
    const auto next = static_cast<std::size_t>(std::min<std::uint64_t>(count - done, PagesToMove::kMost));
    const SyscallResult result = MovePart(caller, a, done, next);
    done += next;
    if (!result.ok()) return result;
    // As the kernel, which counts those that it has not looked at any more.
    if (result.value() != 0) return SyscallResult(result.value() + static_cast<std::int64_t>(count - done));
  }
  return kSuccess;
}

}  // namespace

void RegisterMemoryNodeHandlers(hostcalls::HandlerTable& handlers) {
  handlers.Bind("get_mempolicy", HandleGetMempolicy);
  handlers.Bind("set_mempolicy", HandleSetMempolicy);
  handlers.Bind("mbind", HandleMbind);
  handlers.Bind("set_mempolicy_home_node", HandleSetHomeNode);
  handlers.Bind("migrate_pages", HandleMigratePages);
  handlers.Bind("move_pages", HandleMovePages);
}

}  // namespace dunebox::process
