// The functions of the plugin that tests load, as host and plugin know them.
#ifndef DUNEBOX_TESTS_PLUGIN_CASES_H_
#define DUNEBOX_TESTS_PLUGIN_CASES_H_

struct Large {
  long values[5];
};

#endif  // DUNEBOX_TESTS_PLUGIN_CASES_H_
