// An owned file descriptor of the backend's own.
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_DESCRIPTOR_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace dune::software {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_DESCRIPTOR_H_
