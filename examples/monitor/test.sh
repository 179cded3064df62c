#!/bin/bash
# The monitor runs an unmodified static program: in the lab (tests/lab/cases) in ring 0's ring 3, elsewhere by the
# translator.
#
#   test.sh MONITOR MONITORED
set -uo pipefail
expected='2 arguments, the last is it; m; 2.000
open: -1, Operation not permitted
fork: -1
monitor: denied system call 57, 1 times
monitor: denied system call 257, 1 times'
output=$("$1" "$2" it 2>&1)
status=$?
# fork is clone or fork, as libc likes.
output=${output//system call 56,/system call 57,}
if [[ $output != "$expected" || $status != 7 ]]; then
  printf 'status %d\n' "$status"
  diff <(echo "$expected") <(echo "$output")
  exit 1
fi
output=$("$1" "$2" it faults 2>&1)
status=$?
if [[ $status != 139 || $output != *'exception 14 at'*'address 0x10'* ]]; then
  printf 'status %d\n%s\n' "$status" "$output"
  exit 1
fi
output=$("$1" /bin/ls 2>&1)
status=$?
if [[ $status != 125 || $output != *'needs a dynamic linker'* ]]; then
  printf 'status %d\n%s\n' "$status" "$output"
  exit 1
fi
echo 'the monitor works'
