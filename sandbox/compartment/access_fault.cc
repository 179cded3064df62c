#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "dunebox/compartment.h"

namespace dunebox {

std::string AccessFault::ToText() const {
  constexpr const char* kAccessNames[] = {"read", "write", "execution"};
  switch (kind) {
    case Kind::kMemory: {
      const char* const what = kAccessNames[static_cast<std::size_t>(access)];
      if (name.empty()) return absl::StrFormat("%s of address 0x%x", what, address);
      return absl::StrFormat("%s of region '%s' at offset 0x%x", what, name, offset);
    }
    case Kind::kCall:
      if (!group) return absl::StrCat("system call ", name);
      return absl::StrCat("system call ", name, " (calls ", ToString(*group), ")");
    case Kind::kGate:
      return absl::StrCat("gate '", name, "'");
  }
  return "";
}

}  // namespace dunebox
