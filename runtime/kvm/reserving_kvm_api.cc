#include "runtime/kvm/reserving_kvm_api.h"

#include <cerrno>

#include "runtime/kvm/kvm_structs.h"
#include "runtime/kvm/vm.h"

namespace dunebox::kvm {

// Moves a fresh descriptor; -errno stays -errno.
int ReservingKvmApi::Reserve(int fd) {
  if (fd < 0) return fd;
  absl::StatusOr<hostcalls::ReservedFd> reserved = limits_.DuplicateToReserved(fd);
  host_.Close(fd);
  return reserved.ok() ? reserved->release() : -EMFILE;
}

absl::StatusOr<int> ReservingKvmApi::OpenSessionDevice() {
  return TakeSessionDevice(host_.OpenDevice());
}

absl::StatusOr<int> ReservingKvmApi::TakeSessionDevice(int fd) {
  const int device = Reserve(fd);
  if (device < 0) return KvmError("cannot open /dev/kvm", device);
  session_device_ = device;
  return device;
}

int ReservingKvmApi::OpenDevice() {
  if (session_device_ < 0) return Reserve(host_.OpenDevice());
  auto copy = limits_.Reserve(session_device_);
  return copy.ok() ? copy->release() : -copy.error().value;
}

int ReservingKvmApi::Ioctl(int fd, unsigned long request, void* argument) {
  if (request != KVM_CREATE_VM && request != KVM_CREATE_VCPU) {
    return host_.Ioctl(fd, request, argument);
  }
  const hostcalls::LowDescriptors::Secret secret(limits_.low_descriptors);
  return Reserve(limits_.WithRoom([&] { return host_.Ioctl(fd, request, argument); }));
}

}  // namespace dunebox::kvm
