#include "runtime/jit/guest_access.h"

namespace dunebox::runtime {
namespace {

namespace x86 = dune::x86;

constexpr std::uint64_t kLowestNonCanonical = std::uint64_t{1} << 47;

bool IsCanonical(std::uint64_t address) {
  return address < kLowestNonCanonical || address >= ~(kLowestNonCanonical - 1);
}

}  // namespace

Fault FaultWithoutCode(x86::Vector vector) {
  return {.vector = vector, .error_code = 0, .address = 0, .memory_error = false};
}

std::optional<Fault> GuestAccess::Load(std::uint64_t address, std::span<std::byte> to) const {
  if (auto fault = CheckCanonical(address, to.size())) return fault;
  if (memory_.ReadAtOnce(address, to)) return std::nullopt;
  return PageFault(address, to.size(), /*is_store=*/false);
}

std::optional<Fault> GuestAccess::Store(std::uint64_t address,
                                        std::span<const std::byte> from) const {
  if (auto fault = CheckCanonical(address, from.size())) return fault;
  if (memory_.WriteAtOnce(address, from)) return std::nullopt;
  return PageFault(address, from.size(), /*is_store=*/true);
}

std::optional<Fault> GuestAccess::CheckStore(std::uint64_t address, std::size_t size) const {
  if (auto fault = CheckCanonical(address, size)) return fault;
  const bool is_allowed = CanAccess(address, true) && CanAccess(address + size - 1, true);
  if (is_allowed) return std::nullopt;
  return PageFault(address, size, /*is_store=*/true);
}

std::optional<Fault> GuestAccess::CheckCanonical(std::uint64_t address, std::size_t size) const {
  if (IsCanonical(address) && IsCanonical(address + size - 1)) return std::nullopt;
  return FaultWithoutCode(is_stack_ ? x86::Vector::kStackFault : x86::Vector::kGeneralProtection);
}

bool GuestAccess::CanAccess(std::uint64_t address, bool is_store) const {
  if (!is_store) return memory_.Probe(address);
  // Zero in place of zero: changes nothing, but needs a page that may be written.
  using Exchange = hostcalls::GuestMemory::Exchange;
  return memory_.CompareExchange(address & ~std::uint64_t{3}, 0, 0) != Exchange::kFault;
}

// In the second page, if the first is not to blame.
Fault GuestAccess::PageFault(std::uint64_t address, std::size_t size, bool is_store) const {
  const std::uint64_t second_page = PageDown(address + size - 1);
  const bool is_in_second = second_page > address && CanAccess(address, is_store);
  return {.vector = x86::Vector::kPageFault,
          .error_code = x86::page_fault::kUser | (is_store ? x86::page_fault::kWrite : 0),
          .address = is_in_second ? second_page : address,
          .memory_error = false};
}

}  // namespace dunebox::runtime
