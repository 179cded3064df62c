// What CompartmentCode and Compartment are made of.
#ifndef DUNEBOX_SANDBOX_COMPARTMENT_STATE_H_
#define DUNEBOX_SANDBOX_COMPARTMENT_STATE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dunebox/compartment.h"
#include "sandbox/compartment/rights.h"
#include "sandbox/compartment/ring0_guest.h"
#include "sandbox/compartment/translated_holder.h"

namespace dunebox {

struct CompartmentCode::State {
  std::vector<std::string> gates;
  // Which all begin as copies of.
  std::unique_ptr<Compartment> original;
  // Null: compartments are the translator's, too.
  std::unique_ptr<const compartment::Ring0Origin> ring0;
  std::mutex mutex;  // guards what follows
  std::map<std::string, std::uint64_t> addresses;
};

struct Compartment::State {
  std::shared_ptr<CompartmentCode> code;  // null: it is the original
  enum class Origin : bool { kHost, kCompartment } origin = Origin::kHost;
  Mode mode = Mode::kEnforce;
  std::mutex changing;  // one Narrow, Recycle or CreateChild at a time
  std::unique_ptr<compartment::Rights> rights;
  // Asks the rights until it is gone.
  std::unique_ptr<Sandbox> sandbox;
  plugin::Guest* guest = nullptr;  // the sandbox's
  // What keeps it: of its own, or the guest itself.
  std::unique_ptr<compartment::Holder> translated;
  compartment::Holder* holder = nullptr;
  plugin::Instance* instance = nullptr;      // where the translator keeps it
  compartment::Ring0Guest* ring0 = nullptr;  // where ring 0 does

  void Keep(std::unique_ptr<Sandbox> made);
  absl::Status KeepByRing0(const compartment::Ring0Origin& of);
  // In force from here on.
  absl::Status SetRights(Grants grants);
  // Callbacks for all gates of the code: those that are not granted end the compartment.
  absl::Status SetGates(Compartment& self, const std::vector<std::string>& names);
};

}  // namespace dunebox

#endif  // DUNEBOX_SANDBOX_COMPARTMENT_STATE_H_
