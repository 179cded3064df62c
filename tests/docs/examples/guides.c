#include <dunebox.h>
#include <stdio.h>

void guide(void) {
@EXAMPLE@
}
