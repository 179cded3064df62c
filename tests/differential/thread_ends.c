// Threads that end one by one, by exit(2): the process ends with the last of them, whichever that is,
// and with its status.
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void* end_later(void* delay) {
  usleep((useconds_t)(long)delay);
  syscall(SYS_exit, 9);
  return NULL;
}

static void alone(void) { syscall(SYS_exit, 3); }

static void first_ends_first(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, end_later, (void*)50000);
  syscall(SYS_exit, 4);
}

static void first_ends_last(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, end_later, (void*)0);
  usleep(50000);
  syscall(SYS_exit, 5);
}

static void at_once(void) {
  for (int i = 0; i < 8; ++i) {
    pthread_t thread;
    pthread_create(&thread, NULL, end_later, (void*)0);
  }
  syscall(SYS_exit, 9);
}

static void in_a_fork(void) {
  if (fork() == 0) alone();
  int status = 0;
  wait(&status);
  _exit(WEXITSTATUS(status) + 10);
}

int main(void) {
  void (*const ends[])(void) = {alone, first_ends_first, first_ends_last, at_once, in_a_fork};
  for (int i = 0; i < 5; ++i) {
    const pid_t child = fork();
    if (child == 0) ends[i]();
    int status = -1;
    waitpid(child, &status, 0);
    printf("%d: %x\n", i, (unsigned)status);
    fflush(stdout);
  }
  syscall(SYS_exit, 0);
}
