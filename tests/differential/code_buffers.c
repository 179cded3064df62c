// System calls that wait with their buffers on pages of writable code, while another thread executes what is there.
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "expect.h"

enum { kPage = 4096, kSize = 6, kCalls = 1000 };
static const unsigned char kReturns1[kSize] = {0xb8, 1, 0, 0, 0, 0xc3}, kReturns2[kSize] = {0xb8, 2, 0, 0, 0, 0xc3};

static unsigned char* page;  // code at its start, a buffer at its end
static int ends[2];
static atomic_int waiter;

static unsigned char* buffer(void) { return page + kPage - kSize; }
static int call(const void* at) { return ((int (*)(void))(uintptr_t)at)(); }

static long do_read(void) { return read(ends[0], buffer(), kSize); }
static long do_recv(void) { return recv(ends[0], buffer(), kSize, 0); }
static long do_readv(void) {
  char first[1];
  const struct iovec parts[] = {{first, 1}, {buffer() + 1, kSize - 1}};
  const long size = readv(ends[0], parts, 2);
  buffer()[0] = first[0];
  return size;
}
static long do_recvmsg(void) {
  struct iovec part = {buffer(), kSize};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  return recvmsg(ends[0], &message, 0);
}
// The code that is read is not what has been waited for.
static long do_poll(void) {
  struct pollfd* const one = (struct pollfd*)(page + kPage - 64);
  *one = (struct pollfd){.fd = ends[0], .events = POLLIN};
  EXPECT(poll(one, 1, -1) == 1 && one->revents == POLLIN);
  return do_read();
}
static long do_epoll(void) {
  struct epoll_event* const one = (struct epoll_event*)(page + kPage - 64);
  struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = 77};
  const int set = epoll_create1(0);
  EXPECT(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &wanted) == 0);
  EXPECT(epoll_wait(set, one, 1, -1) == 1 && one->data.u64 == 77);
  close(set);
  return do_read();
}

static const struct {
  const char* name;
  long (*wait)(void);
} kWays[] = {{"read", do_read},       {"recv", do_recv}, {"readv", do_readv},
             {"recvmsg", do_recvmsg}, {"poll", do_poll}, {"epoll_wait", do_epoll}};

static void* wait_for_it(void* way) {
  atomic_store(&waiter, (int)syscall(SYS_gettid));
  const long size = ((long (*)(void))(uintptr_t)way)();
  return (void*)(size == kSize ? 0 : errno == 0 ? -1 : (long)errno);
}

// Until it sleeps in the kernel.
static void until_it_waits(void) {
  char path[64], state = 0;
  while (atomic_load(&waiter) == 0) usleep(1000);
  snprintf(path, sizeof(path), "/proc/self/task/%d/stat", atomic_load(&waiter));
  for (int i = 0; i < 5000 && state != 'S'; ++i) {
    char text[512] = "";
    const int file = open(path, O_RDONLY);
    EXPECT(file >= 0 && read(file, text, sizeof(text) - 1) > 0);
    close(file);
    state = strrchr(text, ')')[2];
    usleep(1000);
  }
  EXPECT(state == 'S');
}

int main(void) {
  for (size_t i = 0; i < sizeof(kWays) / sizeof(kWays[0]); ++i) {
    page = mmap(NULL, kPage, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(page != MAP_FAILED && socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    for (int round = 0; round < 20; ++round) {
      memcpy(page, kReturns1, kSize);
      memset(buffer(), 0, kSize);
      atomic_store(&waiter, 0);
      pthread_t thread;
      EXPECT(pthread_create(&thread, NULL, wait_for_it, (void*)(uintptr_t)kWays[i].wait) == 0);
      until_it_waits();
      int sum = 0;
      for (int j = 0; j < kCalls; ++j) sum += call(page);
      EXPECT(sum == kCalls);
      EXPECT(write(ends[1], kReturns2, kSize) == kSize);
      void* error = NULL;
      EXPECT(pthread_join(thread, &error) == 0);
      if (error != NULL) {
        printf("%s, round %d: %s\n", kWays[i].name, round, strerror((int)(long)error));
        return 1;
      }
      EXPECT(call(page) == 1 && call(buffer()) == 2);
    }
    printf("%s: ok\n", kWays[i].name);
    EXPECT(munmap(page, kPage) == 0);
    close(ends[0]);
    close(ends[1]);
  }
  return 0;
}
