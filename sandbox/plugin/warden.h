// Who decides, of one instance, what its own rules leave open: which of the system calls that a
// plugin may make are made at all, and what becomes of an access to memory that is not there. A
// compartment's grants are one (sandbox/compartment).
//
// Called by whatever host thread runs the guest's code, several at once, with no lock of the
// instance's held.
#ifndef DUNEBOX_SANDBOX_PLUGIN_WARDEN_H_
#define DUNEBOX_SANDBOX_PLUGIN_WARDEN_H_

#include <cstdint>
#include <optional>
#include <string>

#include "hostcalls/table/table.h"

namespace dunebox::plugin {

struct MemoryFault {
  enum class Access : std::uint8_t { kRead, kWrite, kExecute };
  std::uint64_t address = 0;  // guest address
  Access access = Access::kRead;
  std::uint64_t instruction = 0;
};

class Warden {
 public:
  // Nothing: now the memory is there, and the instruction is to be executed again. Otherwise what
  // the guest has not got; may be empty.
  virtual std::optional<std::string> Mend(const MemoryFault& fault) = 0;
  // The same, of an address that a system call was given and could not use. True: the call is to be
  // made again.
  virtual bool MendArgument(const MemoryFault& fault) = 0;
  // Whether a call of calls.inc is made. False: it fails with EPERM.
  virtual bool Permits(const hostcalls::Row& call, std::uint64_t instruction) = 0;

 protected:
  ~Warden() = default;
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_WARDEN_H_
