#include <dune/dune.h>
#include <dune/page_table.h>
#include <dunebox/compartment.h>
#include <dunebox/sandbox.h>

extern absl::StatusOr<std::unique_ptr<dunebox::Sandbox>> sandbox;
extern absl::StatusOr<dunebox::Function<unsigned long(unsigned long, const unsigned char*, unsigned)>> crc32;
extern const dunebox::Policy policy;
extern const dune::Range heap;
extern const int connection;
void Mutate(dune::Range memory);
void Scan(dune::Range written);

void Guide() {
@EXAMPLE@
}
