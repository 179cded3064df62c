#include <cstdio>
#include <memory>
#include <string>

#include "dunebox/compartment.h"
#include "dunebox/sandbox.h"

static int CallWith(dunebox::Demand demand) {
  absl::StatusOr<std::unique_ptr<dunebox::Sandbox>> sandbox =
      dunebox::Sandbox::Create({.demand = demand, .deadline = absl::Minutes(1)});
  if (!sandbox.ok()) {
    std::fprintf(stderr, "%s\n", std::string(sandbox.status().message()).c_str());
    return 1;
  }
  auto labs = (*sandbox)->Function<long(long)>("labs");
  if (!labs.ok()) return 1;
  const auto result = (*labs)(-42);
  return result.ok() && result->UnverifiedValue() == 42 ? 0 : 1;
}

static int CallInCompartment() {
  auto code = dunebox::CompartmentCode::Load({});
  if (!code.ok()) return 1;
  auto compartment = dunebox::Compartment::Create(*std::move(code), dunebox::Grants());
  if (!compartment.ok()) return 1;
  auto labs = (*compartment)->Function<long(long)>("labs");
  if (!labs.ok()) return 1;
  const auto result = (*labs)(-42);
  return result.ok() && result->UnverifiedValue() == 42 ? 0 : 1;
}

int main() {
  return CallWith(dunebox::Demand::kOneWall) + CallWith(dunebox::Demand::kTwoWalls) +
         CallInCompartment();
}
