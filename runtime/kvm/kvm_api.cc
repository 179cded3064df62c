#include "runtime/kvm/kvm_api.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/kvm/kvm_structs.h"

namespace dunebox::kvm {
namespace {

class HostKvm final : public KvmApi {
 public:
  int OpenDevice() override { return Result(open("/dev/kvm", O_RDWR | O_CLOEXEC)); }
  int Ioctl(int fd, unsigned long request, void* argument) override {
    return Result(ioctl(fd, request, argument));
  }
  int Run(int vcpu_fd) override { return Result(ioctl(vcpu_fd, KVM_RUN, 0)); }
  void* MapRunArea(int vcpu_fd, std::size_t size, int* error) override {
    void* area = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
    if (area != MAP_FAILED) return area;
    *error = errno;
    return nullptr;
  }
  void UnmapRunArea(void* area, std::size_t size) override { munmap(area, size); }
  void Close(int fd) override { close(fd); }

 private:
  static int Result(int value) { return value < 0 ? -errno : value; }
};

}  // namespace

KvmApi& HostKvmApi() {
  static HostKvm api;
  return api;
}

}  // namespace dunebox::kvm
