#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sandbox/compartment/state.h"
#include "sandbox/plugin/in_process.h"

namespace dunebox {
namespace {

using compartment::Rights;

absl::Status CheckWithin(const Grants& grants, const Grants& wider) {
  const std::vector<std::string> more = grants.Exceeding(wider);
  if (more.empty()) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("the compartment was not granted: ", absl::StrJoin(more, "; ")));
}

// Groups whose calls nothing there carries out.
absl::Status CheckForRing0(const Grants& grants) {
  for (const CallGroup group : {CallGroup::kThreads, CallGroup::kSignals}) {
    if (!grants.Has(group)) continue;
    return absl::UnimplementedError(
        absl::StrCat("a compartment by ring 0 has no calls ", ToString(group), " (CompartmentEngine::kTranslator has)"));
  }
  return absl::OkStatus();
}

}  // namespace

void Compartment::State::Keep(std::unique_ptr<Sandbox> made) {
  sandbox = std::move(made);
  guest = instance = internal::InProcess::InstanceOf(*sandbox);
  translated = std::make_unique<compartment::TranslatedHolder>(*sandbox, *instance);
  holder = translated.get();
}

absl::Status Compartment::State::KeepByRing0(const compartment::Ring0Origin& of) {
  absl::StatusOr<std::unique_ptr<compartment::Ring0Guest>> made = compartment::Ring0Guest::Create(of);
  if (!made.ok()) return made.status();
  guest = ring0 = made->get();
  holder = ring0;
  sandbox = internal::InProcess::Around(*std::move(made));
  return absl::OkStatus();
}

absl::Status Compartment::State::SetRights(Grants grants) {
  rights =
      std::make_unique<Rights>(*holder, std::move(grants),
                               mode == Mode::kLearn ? Rights::Learns::kYes : Rights::Learns::kNo);
  ring0 != nullptr ? ring0->SetWarden(rights.get()) : instance->SetWarden(rights.get());
  return rights->Install();
}

absl::Status Compartment::State::SetGates(Compartment& self,
                                          const std::vector<std::string>& names) {
  const Grants grants = rights->granted();
  for (const Gate& gate : grants.gates()) {
    if (std::ranges::find(names, gate.name()) == names.end()) {
      return absl::InvalidArgumentError(absl::StrCat("the code has no gate ", gate.name()));
    }
  }
  // In order: their numbers are in the variables already.
  for (const std::string& name : names) {
    internal::Callback callback;
    if (const Gate* const gate = grants.FindGate(name)) callback = gate->CallbackFor(self);
    callback.run = [rights = rights.get(), name,
                    run = std::move(callback.run)](internal::CallbackFrame& frame) {
      if (rights->MayPass(name)) run(frame);
    };
    const absl::StatusOr<std::uint64_t> added =
        guest->AddCallback(std::make_shared<const internal::Callback>(std::move(callback)));
    if (!added.ok()) return added.status();
  }
  return absl::OkStatus();
}

Compartment::Compartment(std::unique_ptr<State> state) : state_(std::move(state)) {}
Compartment::~Compartment() = default;

Sandbox& Compartment::sandbox() const { return *state_->sandbox; }

absl::StatusOr<std::shared_ptr<Compartment>> Compartment::Create(
    std::shared_ptr<CompartmentCode> code, Grants grants, Mode mode) {
  auto state = std::make_unique<State>();
  state->mode = mode;
  if (code->state_->ring0 != nullptr) {
    if (absl::Status able = CheckForRing0(grants); !able.ok()) return able;
    if (absl::Status kept = state->KeepByRing0(*code->state_->ring0); !kept.ok()) return kept;
  } else {
    absl::StatusOr<std::unique_ptr<Sandbox>> clone = code->state_->original->sandbox().Clone();
    if (!clone.ok()) return clone.status();
    state->Keep(*std::move(clone));
  }
  if (absl::Status status = state->SetRights(std::move(grants)); !status.ok()) return status;
  std::shared_ptr<Compartment> made(new Compartment(std::move(state)));
  if (absl::Status status = made->state_->SetGates(*made, code->state_->gates); !status.ok()) {
    return status;
  }
  made->state_->code = std::move(code);
  return made;
}

absl::StatusOr<std::shared_ptr<Compartment>> Compartment::CreateChild(Grants grants) const {
  if (state_->mode == Mode::kLearn) {
    return absl::FailedPreconditionError("a compartment that learns has no children");
  }
  const std::lock_guard lock(state_->changing);
  if (absl::Status status = CheckWithin(grants, state_->rights->granted()); !status.ok()) {
    return status;
  }
  absl::StatusOr<std::shared_ptr<Compartment>> child = Create(state_->code, std::move(grants));
  if (child.ok()) (*child)->state_->origin = State::Origin::kCompartment;
  return child;
}

absl::Status Compartment::Narrow(const Grants& grants) {
  if (state_->mode == Mode::kLearn) {
    return absl::FailedPreconditionError("a compartment that learns is not narrowed");
  }
  if (absl::Status may = state_->holder->CheckThread(); !may.ok()) return may;
  const std::lock_guard lock(state_->changing);
  if (absl::Status status = CheckWithin(grants, state_->rights->granted()); !status.ok()) {
    return status;
  }
  state_->rights->Narrow(grants);
  return absl::OkStatus();
}

absl::Status Compartment::Recycle() {
  const std::lock_guard lock(state_->changing);
  if (absl::Status status = state_->holder->Recycle(); !status.ok()) return status;
  return state_->rights->Renew(state_->rights->granted());
}

absl::Status Compartment::RecycleFor(std::vector<Descriptor> descriptors) {
  const std::lock_guard lock(state_->changing);
  const Grants had = state_->rights->granted();
  Grants grants = had.WithDescriptors(std::move(descriptors));
  if (state_->origin == State::Origin::kCompartment) {
    if (absl::Status status = CheckWithin(grants, had); !status.ok()) return status;
  }
  if (absl::Status status = state_->holder->Recycle(); !status.ok()) return status;
  return state_->rights->Renew(std::move(grants));
}

Grants Compartment::grants() const { return state_->rights->granted(); }
Grants Compartment::Learned() const { return state_->rights->learned(); }
std::vector<AccessFault> Compartment::faults() const { return state_->rights->faults(); }

absl::StatusOr<std::uint64_t> Compartment::AddressOf(const std::string& name) const {
  if (state_->code != nullptr) return state_->code->AddressOf(name);
  return state_->instance->FindSymbol(name);
}

}  // namespace dunebox
