// A compartment for whom clients talk to, and one for the key. The handler is another one for each
// client, as far as it can tell: its memory is what it was before the first.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dunebox/compartment.h"
#include "server.h"
#include "trusted.h"

namespace {

using dunebox::CallGroup;
using dunebox::CodeOptions;
using dunebox::Compartment;
using dunebox::CompartmentCode;
using dunebox::Descriptor;
using dunebox::DescriptorAccess;
using dunebox::Gate;
using dunebox::Grants;
using dunebox::Region;
using dunebox::RegionAccess;

constexpr int kConnection = 3;  // as the handler knows it

absl::StatusOr<std::shared_ptr<Region>> RegionOf(const char* name, const std::string& text) {
  absl::StatusOr<std::shared_ptr<Region>> region = Region::Create(name, text.size());
  if (region.ok()) std::memcpy((*region)->span().data(), text.data(), text.size());
  return region;
}

absl::StatusOr<std::shared_ptr<CompartmentCode>> LoadHandler(const std::string& certificate) {
  const absl::StatusOr<std::shared_ptr<Region>> region = RegionOf("certificate", certificate);
  if (!region.ok()) return region.status();
  CodeOptions options{.libraries = {PRIVSEP_HANDLER}, .gates = {"sign_gate"}};
  options.policy.deadline = absl::Seconds(20);
  options.grants.Add(*region, RegionAccess::kRead);
  options.initialize = [&](Compartment& original) {
    auto prepare = original.Function<int(const char*, long)>("prepare");
    if (!prepare.ok()) return prepare.status();
    const auto done =
        (*prepare)((*region)->guest<const char>(), static_cast<long>(certificate.size()));
    if (!done.ok()) return done.status();
    if (done->UnverifiedValue() == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("the handler does not take the certificate: ", done->UnverifiedValue()));
  };
  return CompartmentCode::Load(std::move(options));
}

// What the key's compartment is told by its gate, key included. Nobody else has the region.
absl::StatusOr<std::shared_ptr<Region>> MakeTrusted(const std::string& key,
                                                    const Region& handover) {
  absl::StatusOr<std::shared_ptr<Region>> region = Region::Create("private key", sizeof(Trusted));
  if (!region.ok()) return region;
  auto* const trusted = reinterpret_cast<Trusted*>((*region)->span().data());
  if (key.size() > sizeof(trusted->pem)) return absl::InvalidArgumentError("the key is too large");
  trusted->handover = handover.guest<Handover>().as_field();
  trusted->pem_size = static_cast<long>(key.size());
  std::memcpy(trusted->pem, key.data(), key.size());
  return region;
}

class Separated final : public Server {
 public:
  Separated(std::shared_ptr<Region> handover, std::shared_ptr<Region> trusted,
            std::shared_ptr<Compartment> keeper, std::shared_ptr<Compartment> handler)
      : handover_(std::move(handover)),
        trusted_(std::move(trusted)),
        keeper_(std::move(keeper)),
        handler_(std::move(handler)) {}

  absl::Status Serve(int connection) override {
    absl::StatusOr<Descriptor> granted =
        Descriptor::Of(connection, kConnection, DescriptorAccess::kReadWrite);
    if (!granted.ok()) return granted.status();
    if (absl::Status fresh = handler_->RecycleFor({*std::move(granted)}); !fresh.ok()) return fresh;
    auto serve = handler_->Function<int(int, Handover*)>("serve");
    if (!serve.ok()) return serve.status();
    const auto served = (*serve)(kConnection, handover_->guest<Handover>());
    for (const dunebox::AccessFault& fault : handler_->faults()) {
      std::fprintf(stderr, "privsep: the handler was refused: %s\n", fault.ToText().c_str());
    }
    if (keeper_->failure()) {
      if (absl::Status fresh = keeper_->Recycle(); !fresh.ok()) return fresh;
    }
    return served.status();
  }
  std::uint64_t key_address() const override { return trusted_->address(); }
  std::vector<std::string> Learned() const override { return handler_->Learned().Lines(); }

 private:
  const std::shared_ptr<Region> handover_, trusted_;
  const std::shared_ptr<Compartment> keeper_, handler_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> MakeSeparated(const Files& files, Mode mode) {
  const absl::StatusOr<std::string> certificate = ReadFile(files.certificate);
  if (!certificate.ok()) return certificate.status();
  const absl::StatusOr<std::string> key = ReadFile(files.key);
  if (!key.ok()) return key.status();

  const absl::StatusOr<std::shared_ptr<Region>> handover =
      Region::Create("handover", sizeof(Handover));
  if (!handover.ok()) return handover.status();
  const absl::StatusOr<std::shared_ptr<Region>> trusted = MakeTrusted(*key, **handover);
  if (!trusted.ok()) return trusted.status();

  absl::StatusOr<std::shared_ptr<CompartmentCode>> keeper_code =
      CompartmentCode::Load({.libraries = {PRIVSEP_KEEPER}});
  if (!keeper_code.ok()) return keeper_code.status();
  absl::StatusOr<std::shared_ptr<Compartment>> keeper =
      Compartment::Create(*std::move(keeper_code), Grants()
                                                       .Add(*trusted, RegionAccess::kRead)
                                                       .Add(*handover, RegionAccess::kReadWrite)
                                                       .Add(CallGroup::kRandom));
  if (!keeper.ok()) return keeper.status();
  absl::StatusOr<Gate> gate =
      Gate::Into("sign_gate", *keeper, "sign_digest", (*trusted)->address(), /*on_failure=*/0);
  if (!gate.ok()) return gate.status();

  absl::StatusOr<std::shared_ptr<CompartmentCode>> handler_code = LoadHandler(*certificate);
  if (!handler_code.ok()) return handler_code.status();
  Grants grants;
  grants.Add(*handover, RegionAccess::kReadWrite)
      .Add(*gate)
      .Add(CallGroup::kRandom)
      .Add(CallGroup::kTime);
  if (mode == Mode::kLearn) {
    for (const CallGroup group : dunebox::kAllCallGroups) {
      // Ring 0's compartments have none of these two.
      if (group != CallGroup::kThreads && group != CallGroup::kSignals) grants.Add(group);
    }
  }
  absl::StatusOr<std::shared_ptr<Compartment>> handler = Compartment::Create(
      *std::move(handler_code), grants,
      mode == Mode::kLearn ? Compartment::Mode::kLearn : Compartment::Mode::kEnforce);
  if (!handler.ok()) return handler.status();
  return std::make_unique<Separated>(*handover, *trusted, *std::move(keeper), *std::move(handler));
}
