// Small writes that ring 0 has taken (hostcalls/abi/posted_writes.h): to which descriptors it may, and carrying them out.
//
// The program has been told that each was written in full, so ring 0 gets only descriptors where that is as good as
// certain: /dev/null, pipes with room and somebody who reads, files of ordinary file systems. Each has taken a write
// before in which all was as expected, and the right lasts until a call that could change what a number means.
// What was posted is written in its order before anything else is done for the exit, so calls, signals, fork and the
// process's end find it written. If the kernel refuses it after all, the next write, fsync or close of that descriptor
// gets the error, once, and what was posted behind it is lost; if none comes, a line on standard error says so.
//
//   posted.Lend(*box, is_allowed);
//   engine.Run(registers);
//   if (!posted.CarryOut(*box)) ...          // ring 0 has left nonsense
//   if (auto late = posted.TakeError(request)) ...
#ifndef DUNEBOX_RUNTIME_PROCESS_POSTED_WRITES_H_
#define DUNEBOX_RUNTIME_PROCESS_POSTED_WRITES_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "hostcalls/abi/posted_writes.h"
#include "hostcalls/dispatch/caller.h"
#include "hostcalls/result.h"
#include "runtime/memory/address_space.h"

namespace dunebox::process {

class PostedWrites {
 public:
  // Before the guest runs. Not allowed: while others could see in what order things happen, or want to see every call.
  void Lend(abi::PostedWrites& box, bool is_allowed);
  // After it has run, and before anything else is done. False when what is there is not ring 0's work; then nothing
  // more is written.
  [[nodiscard]] bool CarryOut(abi::PostedWrites& box);

  // The result of a call that is not made, because a posted write to its descriptor has failed; of close, which is
  // made, too, what it returns instead of success.
  std::optional<hostcalls::SyscallResult> TakeError(const hostcalls::Request& request);
  // A call has been made.
  void AfterCall(const hostcalls::Request& request, const hostcalls::SyscallResult& result,
                 const memory::AddressSpace& space);
  // Lines about errors that no call will get: before the end, or when the numbers get another meaning.
  std::string TakeUnheard();
  // Does the call end what numbers mean, so that TakeUnheard has to be asked before it?
  static bool EndsDescriptors(const hostcalls::Request& request);

 private:
  void Learn(unsigned descriptor, const memory::AddressSpace& space);
  void LookForRoom();
  // All of it, in the end; or the error.
  static int Write(int descriptor, std::span<iovec> parts);
  bool WriteRecords(std::span<const std::byte> records);

  std::uint64_t known_ = 0;  // descriptors that may be posted to, if there is room
  std::uint64_t pipes_ = 0;  // those of them that are pipes
  std::uint64_t room_ = 0;   // pipes that have some
  bool looks_for_room_ = false;
  std::uint64_t lent_ = 0;
  std::map<unsigned, int> errors_;
};

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_POSTED_WRITES_H_
