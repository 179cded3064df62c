// A program that is linked with the distribution's static library of zlib. Types are written out: a C library that is
// not the distribution's own has none of its headers.
#include <string.h>

int compress(unsigned char* to, unsigned long* size, const unsigned char* from, unsigned long bytes);
int uncompress(unsigned char* to, unsigned long* size, const unsigned char* from, unsigned long bytes);
unsigned long crc32(unsigned long sum, const unsigned char* bytes, unsigned int size);
const char* zlibVersion(void);

// Whoever calls the library's functions calls them by name; these are only to be linked.
void* const used[] = {(void*)compress, (void*)uncompress, (void*)crc32, (void*)zlibVersion};

int main(void) { return used[0] == 0; }
