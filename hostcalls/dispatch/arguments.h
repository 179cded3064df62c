// From what the guest passed to what the host kernel may see, by the kinds in the row.
//
// Owns the copies (paths, iovec arrays) that the host call then uses, staged for the kernel, so
// that the guest cannot change what was checked. Plain buffers are passed as checked addresses: the
// kernel copies them itself, once, and any address in the window is the guest's own.
//
//   PreparedArguments prepared(caller);
//   if (auto error = prepared.Prepare(row, request.arguments); !error.ok()) return error;
//   return HostCall(caller, row.number, prepared.values());
#ifndef DUNEBOX_HOSTCALLS_DISPATCH_ARGUMENTS_H_
#define DUNEBOX_HOSTCALLS_DISPATCH_ARGUMENTS_H_

#include <sys/uio.h>

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "hostcalls/dispatch/caller.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

// Checks descriptors, pointers and lengths of `row`; copies nothing. Kernel errno on refusal.
// A null pointer always passes: nothing is ever mapped there, so the kernel's own answer to it
// is the right one.
SyscallResult CheckArguments(const Caller& caller, const Row& row, const ArgumentValues& values);

// Whether whoever carries out such a call may look at guest memory that matters; false only where the kinds of the
// arguments tell, without a look at that memory. Of handled calls they may not say everything.
bool MayTouch(const Row& row, const ArgumentValues& values,
              absl::FunctionRef<bool(const GuestRange&)> matters);

// Where the kernel may write while it carries out such a call, as far as the kinds of the arguments tell, and the arrays that they
// lead to now. Changes nothing of the memory, nor whom it is watched by; from any thread.
void ForEachWritten(const Row& row, const ArgumentValues& values, const GuestMemory& memory,
                    absl::FunctionRef<void(const GuestRange&)> visit);

// An iovec array copied from the guest, each element checked against the window.
CopyResult<std::vector<iovec>> CopyInIovec(const GuestMemory& memory, std::uint64_t address,
                                           std::uint64_t count);

// Whether the row has arguments that PreparedArguments copies; else CheckArguments is all that it does.
bool NeedsCopies(const Row& row);

class PreparedArguments {
 public:
  explicit PreparedArguments(Caller& caller) : caller_(caller), staged_(caller.staging) {}
  // CheckArguments, then copies what has to be copied.
  SyscallResult Prepare(const Row& row, const ArgumentValues& values);
  const ArgumentValues& values() const { return values_; }

 private:
  SyscallResult CopyNested(const Row& row, int index);

  const Caller& caller_;
  StagingScope staged_;
  ArgumentValues values_{};
  std::array<std::string, kMaxArguments> strings_;
  std::vector<iovec> iovecs_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_DISPATCH_ARGUMENTS_H_
