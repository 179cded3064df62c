#!/bin/bash
# The monitor runs unmodified static programs: in the lab (tests/lab/cases) in ring 0's ring 3, elsewhere by the translator.
# The distribution's busybox does what is asked of it with the files of a directory, and with those only; a victim does
# what it may not.
#
#   test.sh MONITOR MONITORED BUSYBOX
set -uo pipefail
monitor=$1 monitored=$2 busybox=$3
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
seq 500 >"$directory/numbers"
ln -s /numbers "$directory/link"
ln -s ../../../../../../etc/passwd "$directory/escape"

# expect NAME STATUS OUTPUT: of the last `run`, standard output and error of which are one.
run() { output=$("$@" 2>&1); status=$?; }
expect() {
  if [[ $status == "$2" && $output == $3 ]]; then return; fi
  printf '%s: status %d\n%s\n' "$1" "$status" "$output"
  exit 1
}

native=$("$busybox" sha256sum <"$directory/numbers")
output=$("$monitor" "$directory" "$busybox" sha256sum 2>"$directory/errors" <"$directory/numbers")
status=$?
expect 'a sum of standard input' 0 "$native"
native=$("$busybox" sort -r "$directory/numbers")
output=$("$monitor" "$directory" "$busybox" sort -r /link 2>"$directory/errors")
status=$?
expect 'a file sorted' 0 "$native"
run "$monitor" "$directory" "$busybox" cat /escape /../../etc/passwd
expect 'ways out of the directory' 1 "*can't open '/escape': No such file*can't open '/../../etc/passwd': No such file*"
run "$monitor" "$directory" "$busybox" mkdir /new
expect 'a directory made' 1 '*not permitted*denied system call 83, 1 times*'
[[ ! -e $directory/new ]] || { echo 'there is a directory'; exit 1; }

run "$monitor" "$directory" "$monitored" it
# fork is clone or fork, as libc likes.
output=${output//system call 56,/system call 57,}
expect 'the victim' 7 '2 arguments, the last is it; m; 2.000
open: -1, No such file or directory
fork: -1
monitor: denied system call 57, 1 times'
run "$monitor" "$directory" "$monitored" it faults
expect 'a fault' 139 '*exception 14, address 0x10*'
run "$monitor" "$directory" /bin/ls
expect 'a dynamic program' 125 '*needs a dynamic linker*'
run "$monitor" /nowhere /bin/ls
expect 'no directory' 125 '*usage: *'
echo 'the monitor works'
