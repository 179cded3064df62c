// A library that is built twice with different numbers: the same layout, other code.
static long counter = NUMBER;
static long table[4] = {NUMBER, NUMBER * 2, NUMBER * 3, NUMBER * 5};
static long (*volatile last)(long);

__attribute__((constructor)) static void construct(void) { counter += 1000; }

__attribute__((noinline)) static long step(long value) {
  last = step;
  return value * NUMBER + table[value & 3];
}

long plugin(long value);
long plugin(long value) {
  ++counter;
  for (int i = 0; i < 20; ++i) value = step(value) ^ counter;
  return last(value);
}
