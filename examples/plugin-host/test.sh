#!/bin/sh
# The example decodes a picture, refuses a damaged one, and outlives a library that is after it.
# usage: test.sh PLUGIN-HOST MALICIOUS.so
set -eu
host=$1 malicious=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 - <<'PYTHON'
import struct, zlib
width, height = 61, 37
pixels = [[(x * 4 % 256, y * 6 % 256, (x * y) % 256) for x in range(width)] for y in range(height)]
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
rows = b"".join(b"\0" + bytes(v for pixel in row for v in pixel) for row in pixels)
png = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
       + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
open("picture.png", "wb").write(png)
open("damaged.png", "wb").write(png[:60] + bytes(len(png) - 60))
open("expected.ppm", "wb").write(b"P6\n%d %d\n255\n" % (width, height)
                                 + bytes(v for row in pixels for pixel in row for v in pixel))
PYTHON

fail() {
  echo "plugin-host: $1" >&2
  exit 1
}

"$host" picture.png picture.ppm || fail "a good picture was not decoded"
cmp picture.ppm expected.ppm || fail "the pixels are not those of the picture"
if "$host" damaged.png damaged.ppm 2>error; then fail "a damaged picture was decoded"; fi

# Each attack is an error that the host reports, in its own words.
attack() {
  printf '%s' "$1" >"$1.png"
  status=0
  "$host" "$1.png" "$1.ppm" "$malicious" 2>"$1.error" || status=$?
  [ "$status" = 1 ] || fail "attack $1 ended the host with $status: $(cat "$1.error")"
  grep -q "$2" "$1.error" || fail "attack $1 was reported as: $(cat "$1.error")"
}
attack w SIGSEGV
attack c SIGSEGV
attack k SIGKILL
attack e "exited with status 0"
attack l deadline
attack f SIGABRT
attack s "impossible size"
attack n SIGSEGV
[ ! -e /tmp/owned ] || fail "the library has run a shell"
