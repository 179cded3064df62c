# A C project of several files built by make -j2, with a generated header, an archive and a
# shared library, then run.
# sandbox: whole
# needs: make gcc ar
mkdir src
for i in 1 2 3 4; do
  printf '#include "config.h"\nlong part%d(long n) { long s = 0; for (long i = 0; i < n; i++) s += i %% %d + LEVEL; return s; }\n' $i $((i + 2)) >src/part$i.c
done
cat >src/main.c <<'END'
#include <stdio.h>
#include <math.h>
#include <pthread.h>
long part1(long), part2(long), part3(long), part4(long);
static void *work(void *p) { long (*f)(long) = p; return (void *)f(100000); }
int main(void) {
  long (*parts[])(long) = {part1, part2, part3, part4};
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, work, parts[i]);
  for (int i = 0; i < 4; i++) { void *r; pthread_join(t[i], &r); printf("%d %ld\n", i, (long)r); }
  printf("%.6f\n", sqrt(2.0));
  return 7;
}
END
cat >Makefile <<'END'
CFLAGS = -O2 -Wall -fPIC
OBJECTS = part1.o part2.o part3.o part4.o
all: program dynamic
program: main.o libparts.a
	$(CC) -o $@ main.o -L. -l:libparts.a -lm -lpthread
dynamic: main.o libparts.so
	$(CC) -o $@ main.o -L. -l:libparts.so -lm -lpthread -Wl,-rpath,'$$ORIGIN'
libparts.a: $(OBJECTS)
	ar rcsD $@ $^
libparts.so: $(OBJECTS)
	$(CC) -shared -o $@ $^
%.o: src/%.c config.h
	$(CC) $(CFLAGS) -I. -c -o $@ $<
config.h:
	@sleep 0.1; echo '#define LEVEL 3' >$@
clean:
	rm -f *.o
fail:
	false
.PHONY: all clean fail
END
make -j2 -s all && ./program; echo "status $?"
./dynamic; echo "status $?"
make -q all && echo 'up to date'
touch -d 2030-01-01 src/part2.c; make -n all 2>/dev/null | grep -c -- '-c -o'
make -s fail 2>/dev/null; echo "make fail $?"
echo 'int main(void) { return missing(); }' >bad.c; gcc bad.c -o bad 2>/dev/null; echo "gcc $?"
make -s clean; ls
