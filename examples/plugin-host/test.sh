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

# A gray JPEG of flat 8x8 blocks: of each block the mean only, so that what comes out is known exactly. Codes: twelve
# of four bits for the size of a difference, and one bit for "nothing more in this block".
columns, lines = 9, 5
levels = [(x * 13 + y * 29) % 256 for y in range(lines) for x in range(columns)]
bits, before = "", 0
for level in levels:
    difference, before = (level - 128) * 8 - before, (level - 128) * 8
    size = abs(difference).bit_length()
    value = difference if difference >= 0 else difference + (1 << size) - 1
    bits += format(size, "04b") + (format(value, "0%db" % size) if size else "") + "0"
bits += "1" * (-len(bits) % 8)
data = bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
def segment(kind, content):
    return b"\xff" + bytes([kind]) + struct.pack(">H", len(content) + 2) + content
jpeg = (b"\xff\xd8" + segment(0xdb, b"\0" + b"\1" * 64)
        + segment(0xc0, struct.pack(">BHHBBBB", 8, lines * 8, columns * 8, 1, 1, 0x11, 0))
        + segment(0xc4, b"\0" + bytes([0, 0, 0, 12] + [0] * 12) + bytes(range(12)))
        + segment(0xc4, b"\x10" + bytes([1] + [0] * 15) + b"\0")
        + segment(0xda, b"\1\1\0\0\x3f\0") + data + b"\xff\xd9")
open("picture.jpg", "wb").write(jpeg)
open("damaged.jpg", "wb").write(jpeg[:100])
open("jpeg.ppm", "wb").write(b"P6\n%d %d\n255\n" % (columns * 8, lines * 8) + bytes(
    levels[y // 8 * columns + x // 8] for y in range(lines * 8) for x in range(columns * 8) for _ in range(3)))
PYTHON

fail() {
  echo "plugin-host: $1" >&2
  exit 1
}

"$host" picture.png picture.ppm || fail "a good picture was not decoded"
cmp picture.ppm expected.ppm || fail "the pixels are not those of the picture"
if "$host" damaged.png damaged.ppm 2>error; then fail "a damaged picture was decoded"; fi
"$host" picture.jpg picture2.ppm || fail "a good JPEG picture was not decoded"
cmp picture2.ppm jpeg.ppm || fail "the pixels are not those of the JPEG picture"
# libjpeg ends its process then, which is the sandbox.
if "$host" damaged.jpg damaged.ppm 2>error; then fail "a damaged JPEG picture was decoded"; fi
grep -q "exited with status 1" error || fail "a damaged JPEG picture was reported as: $(cat error)"

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
