#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dune/dune.h"
#include "sandbox/compartment/outside_ring0.h"
#include "sandbox/compartment/state.h"
#include "sandbox/plugin/host_signals.h"
#include "sandbox/plugin/in_process.h"

namespace dunebox {
namespace {

absl::Status CheckPolicy(const Policy& policy) {
  if (policy.engine == Engine::kKvm) {
    return absl::UnimplementedError("compartments are to be had under engine jit only");
  }
  if (policy.least_isolation != LeastIsolation::kTranslation) {
    return absl::UnimplementedError("compartments are kept by what their engine has, and no least_isolation");
  }
  if (policy.demand == Demand::kTwoWalls || policy.file_access == FileAccess::kBroker) {
    return absl::UnimplementedError("compartments are within one process: one wall, and no broker");
  }
  return absl::OkStatus();
}

bool IsByRing0(const CodeOptions& options) {
  if (options.engine != CompartmentEngine::kBest) return options.engine == CompartmentEngine::kRing0;
  return compartment::Ring0Origin::Check(options.policy).ok();
}

absl::Status ReserveRegions(plugin::Instance& instance) {
  const GuestRange area = compartment::kRegionArea;
  const bool is_free = instance.space().WithMap([&](const memory::VmaMap& map) {
    const memory::Vma* const first = map.FindFrom(area.start);
    return first == nullptr || first->range.start >= area.end;
  });
  if (!is_free) return absl::InternalError("something lies where regions would");
  instance.space().AddSealed(area, {}, "[regions]");
  return absl::OkStatus();
}

absl::Status PointToGates(plugin::Instance& instance, const std::vector<std::string>& gates) {
  for (std::size_t number = 0; number < gates.size(); ++number) {
    const absl::StatusOr<std::uint64_t> variable = instance.FindSymbol(gates[number]);
    if (!variable.ok()) {
      return absl::NotFoundError(
          absl::StrCat("no library has a variable for gate ", gates[number]));
    }
    const std::uint64_t address = instance.CallbackAddress(number);
    if (!instance.Write(*variable, std::as_bytes(std::span(&address, 1)))) {
      return absl::InvalidArgumentError(
          absl::StrCat(gates[number], " is no variable, so it cannot be a gate"));
    }
  }
  return absl::OkStatus();
}

Grants WithAllCalls(Grants grants) {
  for (const CallGroup group : kAllCallGroups) grants.Add(group);
  return grants;
}

}  // namespace

CompartmentCode::CompartmentCode(std::unique_ptr<State> state) : state_(std::move(state)) {}
CompartmentCode::~CompartmentCode() = default;

absl::StatusOr<std::shared_ptr<CompartmentCode>> CompartmentCode::Load(CodeOptions options) {
  if (absl::Status status = CheckPolicy(options.policy); !status.ok()) return status;
  const bool by_ring0 = IsByRing0(options);
  if (by_ring0) {
    if (absl::Status able = compartment::Ring0Origin::Check(options.policy); !able.ok()) return able;
    // By a thread that is in: dispositions are libdune's business.
    if (absl::Status taken = plugin::TakeOverSignals(); !taken.ok()) return taken;
  } else if (dune::CurrentBackend() == dune::Backend::kRing0) {
    return absl::FailedPreconditionError("the translator runs in no thread that is in ring 0: dune::Leave first");
  }
  if (!options.grants.gates().empty()) {
    return absl::InvalidArgumentError("code is initialised without gates");
  }
  if (options.gates.size() > DUNEBOX_MOST_CALLBACKS) {
    return absl::InvalidArgumentError("more gates than a compartment can have");
  }
  compartment::OutsideRing0 outside;
  if (!outside.status().ok()) return outside.status();
  absl::StatusOr<std::unique_ptr<Sandbox>> sandbox = Sandbox::Create(options.policy);
  if (!sandbox.ok()) return sandbox.status();
  plugin::Instance& instance = *internal::InProcess::InstanceOf(**sandbox);
  if (absl::Status status = ReserveRegions(instance); !status.ok()) return status;
  for (const std::string& library : options.libraries) {
    if (absl::Status status = (*sandbox)->Load(library); !status.ok()) return status;
  }
  if (absl::Status status = PointToGates(instance, options.gates); !status.ok()) return status;

  auto parts = std::make_unique<Compartment::State>();
  parts->Keep(*std::move(sandbox));
  if (absl::Status status = parts->SetRights(WithAllCalls(std::move(options.grants)));
      !status.ok()) {
    return status;
  }
  std::unique_ptr<Compartment> original(new Compartment(std::move(parts)));
  if (options.initialize) {
    if (absl::Status status = options.initialize(*original); !status.ok()) return status;
  }
  // Nothing of what it was granted may become a part of the image.
  original->state_->rights->Narrow(WithAllCalls({}));
  if (absl::Status status = original->sandbox().Snapshot(); !status.ok()) return status;

  if (absl::Status back = outside.Return(); !back.ok()) return back;
  auto state = std::make_unique<State>();
  if (by_ring0) {
    absl::StatusOr<std::unique_ptr<const compartment::Ring0Origin>> origin = compartment::Ring0Origin::Of(
        instance, internal::InProcess::SnapshotOf(original->sandbox()), std::move(options.policy));
    if (!origin.ok()) return origin.status();
    state->ring0 = *std::move(origin);
  }
  state->gates = std::move(options.gates);
  state->original = std::move(original);
  return std::shared_ptr<CompartmentCode>(new CompartmentCode(std::move(state)));
}

absl::StatusOr<std::uint64_t> CompartmentCode::AddressOf(const std::string& name) const {
  const std::lock_guard lock(state_->mutex);
  if (const auto found = state_->addresses.find(name); found != state_->addresses.end()) {
    return found->second;
  }
  compartment::OutsideRing0 outside;
  if (!outside.status().ok()) return outside.status();
  absl::StatusOr<std::uint64_t> address =
      state_->original->state_->instance->FindSymbol(name);
  if (absl::Status back = outside.Return(); !back.ok()) return back;
  if (address.ok()) state_->addresses.emplace(name, *address);
  return address;
}

}  // namespace dunebox
