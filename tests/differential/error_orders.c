// Calls that are wrong in two ways: which error is told.
#include <fcntl.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "expect.h"

#define TELL(call)                                                                          \
  do {                                                                                      \
    errno = 0;                                                                              \
    const long result = (call);                                                             \
    printf("%s: %s\n", #call, result >= 0 ? "works" : strerrorname_np(errno));              \
  } while (0)

int main(void) {
  enum { kClosed = 99, kUnknown = 12345 };
  void* const outside = (void*)(UINT64_MAX << 47);
  TELL(fcntl(kClosed, kUnknown));
  TELL(fcntl(0, kUnknown));
  TELL(fcntl(-1, F_GETFD));
  TELL(syscall(SYS_futex, (char*)outside + 1, FUTEX_WAKE, 1, NULL, NULL, 0));
  TELL(syscall(SYS_futex, outside, FUTEX_WAKE, 1, NULL, NULL, 0));
  TELL(syscall(SYS_futex, (char*)outside + 2, FUTEX_WAIT, 1, NULL, NULL, 0));
  TELL(syscall(SYS_futex, (char*)outside + 1, 99, 1, NULL, NULL, 0));
  return 0;
}
