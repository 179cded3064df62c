#include <dune/user.h>

std::uint64_t Answer(const dune::UserContext& context);

void Example(dune::UserImage* image, dune::PageTable& table) {
@EXAMPLE@
}
