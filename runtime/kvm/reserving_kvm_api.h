// The host's KVM with every descriptor moved into the runtime's reserved range, where the guest
// cannot reach it, and one device for a whole session. [DESIGN D10]
//
//   ReservingKvmApi api(HostKvmApi(), limits);
//   absl::StatusOr<int> device = api.OpenSessionDevice();   // stays open; for later runtimes
#ifndef DUNEBOX_RUNTIME_KVM_RESERVING_KVM_API_H_
#define DUNEBOX_RUNTIME_KVM_RESERVING_KVM_API_H_

#include "hostcalls/services/limits.h"
#include "runtime/kvm/kvm_api.h"

namespace dunebox::kvm {

class ReservingKvmApi final : public KvmApi {
 public:
  // Both outlive this.
  ReservingKvmApi(KvmApi& host, hostcalls::VirtualLimits& limits) : host_(host), limits_(limits) {}

  // Opens /dev/kvm for as long as the session lives. From here on, in forked children too, every
  // OpenDevice is a copy of it: whether the path can be opened then does not matter.
  absl::StatusOr<int> OpenSessionDevice();
  // The same with one that is open, which it closes.
  absl::StatusOr<int> TakeSessionDevice(int fd);
  // The same with what an earlier runtime of the session has opened.
  void UseSessionDevice(int fd) { session_device_ = fd; }

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
  int session_device_ = -1;  // never closed
};

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_RESERVING_KVM_API_H_
