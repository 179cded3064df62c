#include <dune/page_table.h>

void Scan(dune::Range written);

void Example(dune::Range heap) {
@EXAMPLE@
}
