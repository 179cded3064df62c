// No walls: what the walls are compared with, in what they cost and in what they prevent.
#include <dlfcn.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server.h"
#include "trusted.h"

namespace {

using SignDigest = long(const Trusted*, long);
using Prepare = int(const char*, long);
using Serve = int(int, Handover*);

Handover handover;
Trusted trusted;
SignDigest* sign_digest = nullptr;

long Sign(long size) { return sign_digest(&trusted, size); }

template <typename T>
absl::Status Find(void* library, const char* name, T*& pointer) {
  pointer = reinterpret_cast<T*>(dlsym(library, name));
  return pointer != nullptr ? absl::OkStatus() : absl::NotFoundError(name);
}

class Together final : public Server {
 public:
  explicit Together(::Serve* serve) : serve_(serve) {}
  absl::Status Serve(int connection) override {
    (void)serve_(connection, &handover);
    return absl::OkStatus();
  }
  std::uint64_t key_address() const override { return reinterpret_cast<std::uint64_t>(&trusted); }

 private:
  ::Serve* const serve_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> MakeTogether(const Files& files) {
  const absl::StatusOr<std::string> certificate = ReadFile(files.certificate);
  if (!certificate.ok()) return certificate.status();
  const absl::StatusOr<std::string> key = ReadFile(files.key);
  if (!key.ok()) return key.status();
  if (key->size() > sizeof(trusted.pem)) return absl::InvalidArgumentError("the key is too large");
  trusted.handover = &handover;
  trusted.pem_size = static_cast<long>(key->size());
  std::memcpy(trusted.pem, key->data(), key->size());

  void* const keeper = dlopen(PRIVSEP_KEEPER, RTLD_NOW | RTLD_LOCAL);
  void* const handler = dlopen(PRIVSEP_HANDLER, RTLD_NOW | RTLD_LOCAL);
  if (keeper == nullptr || handler == nullptr) return absl::NotFoundError(dlerror());
  long (**gate)(long) = nullptr;
  Prepare* prepare = nullptr;
  Serve* serve = nullptr;
  for (const absl::Status& found :
       {Find(keeper, "sign_digest", sign_digest), Find(handler, "sign_gate", gate),
        Find(handler, "prepare", prepare), Find(handler, "serve", serve)}) {
    if (!found.ok()) return found;
  }
  *gate = Sign;
  if (const int error = prepare(certificate->data(), static_cast<long>(certificate->size()))) {
    return absl::InvalidArgumentError(
        absl::StrCat("the handler does not take the certificate: ", error));
  }
  return std::make_unique<Together>(serve);
}
