#!/bin/sh
# What the script prints, and that the process is sound at its end.
# usage: test.sh PYTHON LIBDUNEBOX.so
set -eu
cd "$(dirname "$0")"
got=$(DUNEBOX_LIBRARY=$2 PYTHONDONTWRITEBYTECODE=1 "$1" main.py)
expected='isolation jit/seg
compressed 23000 to LENGTH
sorted [-3, 0, 5, 7, 900]
callback raised integer division or modulo by zero
crashed trap SIGSEGV
still trap
after a reset 3
exit True
abort True
refused: no library has no_such_function
match True False
pattern timeout'
got=$(echo "$got" | sed 's/ to [0-9]*$/ to LENGTH/')
if [ "$got" != "$expected" ]; then
  echo "python-host: printed:" >&2
  echo "$got" >&2
  exit 1
fi
