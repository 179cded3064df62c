#include <dunebox.h>
#include <stdio.h>

void Example(void) {
@EXAMPLE@
}
