// Owners: a KVM file descriptor and a vCPU's kvm_run mapping, closed through the KvmApi.
#ifndef DUNEBOX_RUNTIME_KVM_DESCRIPTOR_H_
#define DUNEBOX_RUNTIME_KVM_DESCRIPTOR_H_

#include <utility>

#include "runtime/kvm/kvm_api.h"

namespace dunebox::kvm {

class KvmFd {
 public:
  KvmFd() = default;
  KvmFd(KvmApi* api, int fd) : api_(api), fd_(fd) {}
  KvmFd(KvmFd&& other) noexcept : api_(other.api_), fd_(std::exchange(other.fd_, -1)) {}
  KvmFd& operator=(KvmFd&& other) noexcept {
    std::swap(api_, other.api_);
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~KvmFd() {
    if (fd_ >= 0) api_->Close(fd_);
  }
  int get() const { return fd_; }

 private:
  KvmApi* api_ = nullptr;
  int fd_ = -1;
};

class RunArea {
 public:
  RunArea() = default;
  RunArea(KvmApi* api, void* area, std::size_t size) : api_(api), area_(area), size_(size) {}
  RunArea(RunArea&& other) noexcept
      : api_(other.api_), area_(std::exchange(other.area_, nullptr)), size_(other.size_) {}
  RunArea& operator=(RunArea&& other) noexcept {
    std::swap(api_, other.api_);
    std::swap(area_, other.area_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~RunArea() {
    if (area_ != nullptr) api_->UnmapRunArea(area_, size_);
  }
  void* get() const { return area_; }

 private:
  KvmApi* api_ = nullptr;
  void* area_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_DESCRIPTOR_H_
