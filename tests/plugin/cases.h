// The functions of the plugin that tests load, as host and plugin know them.
#ifndef DUNEBOX_TESTS_PLUGIN_CASES_H_
#define DUNEBOX_TESTS_PLUGIN_CASES_H_

struct Large {
  long values[5];
};
// Small ones, by the registers that they travel in.
struct Point {  // two vector registers
  double x, y;
};
struct Color {  // one vector register, and half of another
  float parts[3];
};
struct Item {  // an integer and a vector register: the float lies beside an integer
  int id;
  float weight;
  double price;
};
struct Range {  // two integer registers
  const char* start;
  unsigned length;
};

#endif  // DUNEBOX_TESTS_PLUGIN_CASES_H_
