// A library that calls itself libpng and is after its host: what it does is chosen by the picture's first byte.
// The host decodes a picture with it in the same way, and sees an error.
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct image {
  void* opaque;
  uint32_t version, width, height;
};

static void attack(char how) {
  switch (how) {
    case 'w':  // all over memory, by addresses that the host may have
      for (uint64_t at = 0x550000000000; at < 0x7fffffffffff; at += 0x40000001000) {
        *(volatile char*)at = 1;
      }
      break;
    case 'c':
      ((void (*)(void))0x7ffff7000000)();
      break;
    case 'k':
      kill(getppid(), SIGKILL);
      kill(getpid(), SIGKILL);
      break;
    case 'e':
      exit(0);
    case 'l':
      for (;;) {
      }
    case 'f':  // its own file is readable, others are not; none of the host's descriptors, no shell
      if (open("/etc/shadow", O_RDONLY) >= 0 || open("/etc/passwd", O_RDONLY) >= 0) return;
      for (int fd = 3; fd < 1024; ++fd) {
        if (write(fd, "owned", 5) > 0) return;
      }
      if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || fork() >= 0) return;
      execl("/bin/sh", "sh", "-c", "touch /tmp/owned", (char*)0);
      abort();
    default:
      break;
  }
}

int png_image_begin_read_from_memory(struct image* image, const char* memory, size_t size) {
  (void)size;
  attack(memory[0]);
  // 's': a size whose product is small in 32 bits.
  image->width = memory[0] == 's' ? 0x10001 : 4;
  image->height = memory[0] == 's' ? 0xffff0001 : 4;
  return 1;
}

int png_image_finish_read(struct image* image, const void* background, void* buffer, int stride,
                          void* colormap) {
  (void)background, (void)stride, (void)colormap;
  memset(buffer, 0x41, (size_t)image->width * image->height * 3);
  // Far behind the buffer's end: nothing of the host's is there.
  memset((char*)buffer + (64 << 20), 0x41, 1 << 20);
  return 1;
}
