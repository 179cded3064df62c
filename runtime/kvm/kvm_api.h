// The seam between Dunebox and the kernel's KVM: a handful of calls which a fake
// implements in tests (fail the Nth call, script exits).
//
// Owns nothing; descriptors returned here belong to the caller. Results follow the
// kernel: -errno on failure. <linux/kvm.h> of Debian 12 is wrong in C++, so the
// structs with flexible arrays are declared in kvm_structs.h.
#ifndef DUNEBOX_RUNTIME_KVM_KVM_API_H_
#define DUNEBOX_RUNTIME_KVM_KVM_API_H_

#include <cstddef>
#include <cstdint>

namespace dunebox::kvm {

class KvmApi {
 public:
  virtual ~KvmApi() = default;
  // open("/dev/kvm", O_RDWR|O_CLOEXEC): descriptor or -errno.
  virtual int OpenDevice() = 0;
  // ioctl with a pointer or integer argument: result or -errno.
  virtual int Ioctl(int fd, unsigned long request, void* argument) = 0;
  // The same for requests that take a number.
  int Ioctl(int fd, unsigned long request, std::uintptr_t argument) {
    return Ioctl(fd, request, reinterpret_cast<void*>(argument));
  }
  // KVM_RUN: 0 or -errno. Apart from Ioctl so that a fake can script exits.
  virtual int Run(int vcpu_fd) = 0;
  // Maps a vCPU's kvm_run area: pointer, or nullptr with *error = errno.
  virtual void* MapRunArea(int vcpu_fd, std::size_t size, int* error) = 0;
  virtual void UnmapRunArea(void* area, std::size_t size) = 0;
  virtual void Close(int fd) = 0;
};

// The real one. Stateless; safe from every thread.
KvmApi& HostKvmApi();

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_KVM_API_H_
