#include "runtime/kvm/reserving_kvm_api.h"

namespace dunebox::kvm {
int ReservingKvmApi::Reserve(int fd) { return fd; }
int ReservingKvmApi::OpenDevice() { return host_.OpenDevice(); }
int ReservingKvmApi::Ioctl(int fd, unsigned long request, void* argument) { return host_.Ioctl(fd, request, argument); }
}  // namespace dunebox::kvm
