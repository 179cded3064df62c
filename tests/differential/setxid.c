// setuid() and setgid() with several threads: the C library signals every thread to follow, by a number of its own.
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <unistd.h>

#include "expect.h"

static sem_t changed, looked;

static void *follow(void *unused) {
  (void)unused;
  sem_wait(&changed);
  gid_t real, effective, saved;
  getresgid(&real, &effective, &saved);
  printf("thread: %d %d %d\n", real == getgid(), effective == getegid(), saved == getegid());
  sem_post(&looked);
  return NULL;
}

int main(void) {
  sem_init(&changed, 0, 0);
  sem_init(&looked, 0, 0);
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) EXPECT(pthread_create(&threads[i], NULL, follow, NULL) == 0);
  for (int i = 0; i < 100; i++) {
    EXPECT(setresgid(-1, getgid(), -1) == 0);
    EXPECT(setresuid(-1, getuid(), -1) == 0);
  }
  for (int i = 0; i < 3; i++) sem_post(&changed);
  for (int i = 0; i < 3; i++) {
    sem_wait(&looked);
    pthread_join(threads[i], NULL);
  }
  puts("done");
  return 0;
}
