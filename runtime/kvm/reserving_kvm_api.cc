#include "runtime/kvm/reserving_kvm_api.h"

#include <cerrno>

#include "runtime/kvm/kvm_structs.h"

namespace dunebox::kvm {

// Moves a fresh descriptor; -errno stays -errno.
int ReservingKvmApi::Reserve(int fd) {
  if (fd < 0) return fd;
  absl::StatusOr<hostcalls::ReservedFd> reserved = limits_.DuplicateToReserved(fd);
  host_.Close(fd);
  return reserved.ok() ? reserved->release() : -EMFILE;
}

int ReservingKvmApi::OpenDevice() { return Reserve(host_.OpenDevice()); }

int ReservingKvmApi::Ioctl(int fd, unsigned long request, void* argument) {
  const int result = host_.Ioctl(fd, request, argument);
  const bool makes_descriptor = request == KVM_CREATE_VM || request == KVM_CREATE_VCPU;
  return makes_descriptor ? Reserve(result) : result;
}

}  // namespace dunebox::kvm
