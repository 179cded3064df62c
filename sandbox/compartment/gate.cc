#include <utility>

#include "dunebox/compartment.h"
#include "dunebox/grants.h"

namespace dunebox {

absl::StatusOr<Gate> Gate::Into(std::string name, std::shared_ptr<Compartment> callee,
                                const std::string& function, std::uint64_t trusted,
                                std::uint64_t on_failure) {
  const absl::StatusOr<std::uint64_t> address = callee->AddressOf(function);
  if (!address.ok()) return address.status();
  const auto enter = [callee = std::move(callee), address = *address, trusted,
                      on_failure](internal::CallbackFrame& frame) {
    internal::CallFrame call;
    call.AddInteger(trusted);
    for (std::size_t i = 0; i + 1 < internal::kIntegerRegisters; ++i) {
      call.AddInteger(frame.integers[i]);
    }
    const absl::StatusOr<internal::CallResult> result =
        internal::Target(callee->sandbox(), address).Call(call);
    frame.result.integer = result.ok() ? result->integer : on_failure;
  };
  return Gate(std::move(name), [enter](Compartment&) { return internal::Callback{.run = enter}; });
}

}  // namespace dunebox
