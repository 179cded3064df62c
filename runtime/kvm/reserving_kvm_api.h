// The host's KVM with every descriptor moved into the runtime's reserved range, where the guest
// cannot reach it. [DESIGN D10]
#ifndef DUNEBOX_RUNTIME_KVM_RESERVING_KVM_API_H_
#define DUNEBOX_RUNTIME_KVM_RESERVING_KVM_API_H_

#include "hostcalls/services/limits.h"
#include "runtime/kvm/kvm_api.h"

namespace dunebox::kvm {

class ReservingKvmApi final : public KvmApi {
 public:
  // Both outlive this.
  ReservingKvmApi(KvmApi& host, hostcalls::VirtualLimits& limits) : host_(host), limits_(limits) {}

  using KvmApi::Ioctl;
  int OpenDevice() override;
  int Ioctl(int fd, unsigned long request, void* argument) override;
  int Run(int vcpu_fd) override { return host_.Run(vcpu_fd); }
  void* MapRunArea(int vcpu_fd, std::size_t size, int* error) override {
    return host_.MapRunArea(vcpu_fd, size, error);
  }
  void UnmapRunArea(void* area, std::size_t size) override { host_.UnmapRunArea(area, size); }
  void Close(int fd) override { host_.Close(fd); }

 private:
  int Reserve(int fd);

  KvmApi& host_;
  hostcalls::VirtualLimits& limits_;
};

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_RESERVING_KVM_API_H_
