#!/bin/bash
# What cannot be run: exit status 125, 126 or 127 and exactly one line that says why, as a shell would have it, with an id.
#
#   tests/conformance/bad_input_test.sh /path/to/dunebox [ENGINE]      # default: auto
set -uo pipefail
export LC_ALL=C
dunebox=$(realpath "$1") under=${2:-auto}
if [[ $under == kvm && ! (-r /dev/kvm && -w /dev/kvm) ]]; then
  echo 'skip: /dev/kvm cannot be used here'
  exit 77
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/dunebox-bad-input.XXXXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0 checks=0

# judge NAME STATUS WANTED: what the run that left `output` and `errors` should have ended with. WANTED may be several.
judge() {
  local name=$1 status=$2 wanted=$3
  checks=$((checks + 1))
  if [[ " $wanted " == *" $status "* && ! -s output && $(wc -l <errors) == 1 && $(<errors) =~ ^'dunebox: '.+' [E'[0-9]{4}']'$ ]]; then return; fi
  failures=$((failures + 1))
  ((failures <= 20)) || return
  echo "FAILED: $name: exit status $status, not $wanted, or not exactly one line:"
  head -n 5 errors | cut -c 1-200 | sed 's/^/    /'
}

# refuses WANTED NAME COMMAND...
refuses() {
  local wanted=$1 name=$2 status=0
  shift 2
  timeout --foreground 20 "$@" >output 2>errors </dev/null || status=$?
  judge "$name" "$status" "$wanted"
}

run() { "$dunebox" run "--engine=$under" --allow=all -- "$@"; }
sandbox=("$dunebox" run "--engine=$under" --allow=all --)

skip() { echo "skip: $*"; }

# ---- ELF files: one good one, from which all bad ones are made ------------------------------------------------------------------
make_files() {
  /usr/bin/python3 - <<'PYTHON'
import os, struct

CODE = bytes.fromhex("b8e70000 00 31ff 0f05".replace(" ", ""))  # mov $231, %eax; xor %edi, %edi; syscall
BASE = 0x400000
EXECUTABLE, INTERPRETER = 5, b"/no/such/interpreter\0"

def header(machine=62, kind=2, elf_class=2, data=1, entry=BASE + 0x1000, count=2, size=56, offset=64, version=1):
    ident = b"\x7fELF" + bytes([elf_class, data, 1, 0]) + bytes(8)
    return ident + struct.pack("<HHIQQQIHHHHHH", kind, machine, version, entry, offset, 0, 0, 64, size, count, 0, 0, 0)

def segment(vaddr, kind=1, flags=4, offset=0, file_size=0x1000, memory_size=None, align=0x1000):
    return struct.pack("<IIQQQQQQ", kind, flags, offset, vaddr, vaddr, file_size, file_size if memory_size is None else memory_size, align)

def program(segments=None, **fields):
    segments = segments or [segment(BASE), segment(BASE + 0x1000, flags=EXECUTABLE, offset=0x1000, file_size=len(CODE))]
    fields.setdefault("count", len(segments))
    image = bytearray(0x1000)
    head = header(**fields) + b"".join(segments)
    image[:len(head)] = head
    image[0x800:0x800 + len(INTERPRETER)] = INTERPRETER
    return bytes(image) + CODE

def put(name, content, mode=0o755):
    with open(name, "wb") as file:
        file.write(content)
    os.chmod(name, mode)

text = segment(BASE + 0x1000, flags=EXECUTABLE, offset=0x1000, file_size=len(CODE))
good = program()
put("good", good)
os.mkdir("truncated")
for length in range(64 + 2 * 56):
    put(f"truncated/{length:04}", good[:length])
os.mkdir("bad")
bad = {
    "text": b"hello\n",
    "shell text without #!": b"exit 0\n",
    "empty": b"",
    "zeros": bytes(8192),
    "32-bit": program(elf_class=1),
    "big-endian": program(data=2),
    "for ARM": program(machine=183),
    "for i386": program(machine=3),
    "relocatable": program(kind=1),
    "core": program(kind=4),
    "of an unknown kind": program(kind=0xffff),
    "no program headers": program(count=0),
    "program headers of another size": program(size=32),
    "65535 program headers": program(count=65535),
    "program headers past the end": program(offset=0x100000),
    "program headers at 2^64-8": program(offset=2**64 - 8),
    "nothing to load": program([segment(BASE, kind=4)]),
    "PT_LOAD in the runtime's half": program([segment(0x400000000000), text]),
    "PT_LOAD across the window's end": program([text, segment(0x3ffffffff000, memory_size=0x2000)]),
    "PT_LOAD at a kernel address": program([text, segment(0xffffffff80000000)]),
    "PT_LOAD at a non-canonical address": program([text, segment(0x800000000000)]),
    "PT_LOAD at page 0": program([segment(0), text]),
    "PT_LOAD that wraps": program([text, segment(2**64 - 0x1000, memory_size=0x3000)]),
    "a memory size of 2^64-1": program([segment(BASE, memory_size=2**64 - 1), text]),
    "overlapping segments": program([segment(BASE, memory_size=0x3000), text]),
    "segments out of order": program([text, segment(BASE)]),
    "more file than memory": program([segment(BASE, memory_size=0x10), text]),
    "a segment past the end of the file": program([segment(BASE), text, segment(BASE + 0x10000, offset=0x100000)]),
    "offset and address that disagree": program([segment(BASE + 0x123), text]),
    "an alignment of 3": program([segment(BASE, align=3), text]),
    "an entry outside": program(entry=0x500000),
    "an entry in the runtime's half": program(entry=0x400000000000),
    "an interpreter's name without an end": program([segment(BASE), text, segment(0, kind=3, offset=0x800, file_size=5)]),
    "an interpreter's name past the end": program([segment(BASE), text, segment(0, kind=3, offset=0x7ffffff0, file_size=21)]),
    "an interpreter's name of 1 GiB": program([segment(BASE), text, segment(0, kind=3, offset=0x800, file_size=2**30)]),
    "script without an interpreter": b"#!\n",
    "script with blanks for an interpreter": b"#!   \n",
    "a_script_that_is_its_own_interpreter": b"#!" + os.getcwd().encode() + b"/bad/a_script_that_is_its_own_interpreter\n",
    "interpreter is a directory": b"#!/usr\n",
}
for name, content in bad.items():
    put("bad/" + name, content)
os.mkdir("missing")
put("missing/interpreter of an ELF file", program([segment(BASE), text, segment(0, kind=3, offset=0x800, file_size=len(INTERPRETER))]))
put("missing/interpreter of a script", b"#!/no/such/interpreter\n")
put("not executable", good, 0o644)
put("elf interpreter is text", program([segment(BASE), text, segment(0, kind=3, offset=0x800, file_size=len(INTERPRETER))]).replace(
    INTERPRETER, b"/etc/passwd\0".ljust(len(INTERPRETER), b"\0")))
PYTHON
}
make_files || exit 1

# ---- The machine: can a good one run at all? ------------------------------------------------------------------------------------
if run ./good >output 2>errors; then
  engine=1
else
  engine=''
  skip "no engine here ($(head -n 1 errors)): only what needs none is tested"
fi

# What the runtime decides before it needs an engine.
for file in truncated/*; do refuses 126 "$file" "${sandbox[@]}" "./$file"; done
for file in bad/*; do
  refuses 126 "$file" "${sandbox[@]}" "./$file"
done
for file in missing/*; do refuses '126 127' "$file" "${sandbox[@]}" "./$file"; done
refuses 126 'a directory' "${sandbox[@]}" /usr
refuses 126 'a device' "${sandbox[@]}" /dev/null
refuses 126 'not executable' "${sandbox[@]}" './not executable'
refuses 126 'an ELF interpreter that is text' "${sandbox[@]}" './elf interpreter is text'
mkfifo fifo && chmod +x fifo
refuses 126 'a FIFO' "${sandbox[@]}" ./fifo
refuses 127 'not found' "${sandbox[@]}" ./nothing
refuses 127 'not found in PATH' "${sandbox[@]}" no-such-program-anywhere
refuses 127 'below a file' "${sandbox[@]}" ./good/below
refuses '126 127' 'an empty name' "${sandbox[@]}" ''
ln -s loop loop
refuses '126 127' 'a loop of links' "${sandbox[@]}" ./loop
refuses '126 127' 'a name of 300 bytes' "${sandbox[@]}" "./$(printf '%300s' | tr ' ' x)"

# ---- Arguments that do not fit ---------------------------------------------------------------------------------------------------
# Longer than the host lets anybody start dunebox with, so a program inside asks for it.
too_long_arguments() {
  local status=0
  "${sandbox[@]}" /bin/bash -c '/bin/true $(seq 400000)' >output 2>errors </dev/null || status=$?
  if [[ $status != 126 ]] || ! grep -q 'Argument list too long' errors; then
    echo "FAILED: arguments that are too long: exit status $status"
    failures=$((failures + 1))
  fi
}
if [[ $engine ]]; then too_long_arguments; fi

# ---- /dev/kvm --------------------------------------------------------------------------------------------------------------------
cp "$dunebox" dunebox && chmod 755 "$work" dunebox good
if unshare -m true 2>/dev/null; then
  without() {
    refuses 125 "$1" unshare -m bash -c "$2"' || exit 99; exec "$0" run --engine=kvm --allow=all -- ./good' "$work/dunebox"
  }
  if [[ -e /dev/kvm ]]; then
    without '/dev/kvm is another device' 'mount --bind /dev/null /dev/kvm'
    without '/dev/kvm is a file' 'mount --bind ./good /dev/kvm'
  fi
  without '/dev/kvm is missing' 'mount -t tmpfs none /dev && mknod /dev/null c 1 3'
else
  skip 'this user cannot make a mount namespace: a missing /dev/kvm is not tested'
fi
if [[ -e /dev/kvm ]] && setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$work/dunebox" 2>/dev/null &&
  ! setpriv --reuid=65534 --regid=65534 --clear-groups test -w /dev/kvm; then
  refuses 125 '/dev/kvm is forbidden' setpriv --reuid=65534 --regid=65534 --clear-groups \
    "$work/dunebox" run --engine=kvm --allow=all -- ./good
else
  skip '/dev/kvm cannot be forbidden here: that is not tested'
fi

echo "$checks checks, $failures failed"
((failures == 0))
