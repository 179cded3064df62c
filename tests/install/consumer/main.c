#include <stdio.h>

#include "dunebox.h"

int main(void) {
  dunebox_error error;
  dunebox_sandbox* sandbox;
  dunebox_function* labs;
  dunebox_value argument = {.i = -42}, result = {.i = 0};
  if (dunebox_create(NULL, &sandbox, &error) != DUNEBOX_OK ||
      dunebox_find(sandbox, "labs", "i64(i64)", &labs, &error) != DUNEBOX_OK ||
      dunebox_call(labs, &argument, 1, &result, &error) != DUNEBOX_OK) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  dunebox_function_destroy(labs);
  dunebox_destroy(sandbox);
  return result.i == 42 ? 0 : 1;
}
