// Which group of calls a system call is in (call_groups.inc).
//
//   CallNeed need = NeedOf(row.number);   // {kGroup, CallGroup::kTime}
#ifndef DUNEBOX_SANDBOX_COMPARTMENT_CALL_GROUPS_H_
#define DUNEBOX_SANDBOX_COMPARTMENT_CALL_GROUPS_H_

#include <cstdint>

#include "dunebox/grants.h"

namespace dunebox::compartment {

struct CallNeed {
  enum class Kind : std::uint8_t {
    kNever,  // nobody has it
    kGroup,  // who has the group
    kAlways,
  };
  Kind kind = Kind::kNever;
  CallGroup group = CallGroup::kFiles;  // kGroup
};

CallNeed NeedOf(std::uint64_t number);

}  // namespace dunebox::compartment

#endif  // DUNEBOX_SANDBOX_COMPARTMENT_CALL_GROUPS_H_
