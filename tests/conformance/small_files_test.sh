#!/bin/bash
# The runtime writes, too: what it was asked to write down, texts of /proc, translated code's memory. Where files may not grow
# (ulimit -f, here 1 KiB) the program notices nothing of that, and the user is told once.
#
#   tests/conformance/small_files_test.sh DUNEBOX ENGINE
. "$(dirname "$0")/frame.sh"

mkdir "$work/dir"

# expect NAME STATUS OUTPUT OPTION... -- COMMAND...: so ends the session with that limit.
expect() {
  local name=$1 status=$2 output=$3 got
  shift 3
  (ulimit -S -f 1; exec "$dunebox" run --engine="$engine" --allow=all "$@" >output 2>errors)
  got=$?
  ((got == status)) || fail "$name: status $got and not $status: $(cat errors)"
  [[ $(cat output) == "$output" ]] || fail "$name: it says '$(head -c 200 output)'"
}

# told OPTION: once on standard error.
told() {
  (($(grep -c -- "$1: not all could be written: File too large.*E0803" errors) == 1)) || fail "$1: the user is told: '$(cat errors)'"
}

expect trace 0 hi --trace --trace-file=trace -- /bin/echo hi
told --trace
expect "trace as JSON" 0 hi --trace=json --trace-file=trace.json -- /bin/echo hi
told --trace
expect /proc/self/maps 1 "" -- /bin/cat /proc/self/maps  # an error, and no signal
if [[ $engine == jit ]]; then
  expect record 0 hi --jit-record=dir -- /bin/echo hi
  told --jit-record
  expect dump 0 hi --jit-perf-dump=dir -- /bin/echo hi
  told --jit-perf-dump
  # More code than there is room for: the memory is used again.
  expect "a full code cache" 0 '[1, 2]' --jit-cache=1 -- /usr/bin/python3 -c 'import json, decimal; print(json.loads("[1, 2]"))'
fi
# A limit that nobody can raise is the code cache's, too: that becomes smaller, or the session does not begin, and says why.
if [[ $engine == jit ]]; then
  for kibibytes in 200000 2000 1; do
    output=$( (ulimit -f $kibibytes; exec "$dunebox" run --engine=jit --allow=all -- /bin/echo hi) 2>errors)
    got=$?
    if ((kibibytes > 1000)); then
      [[ $got == 0 && $output == hi ]] || fail "a hard limit of $kibibytes KiB: status $got, '$(cat errors)'"
    else
      [[ $got == 125 ]] && grep -q 'dunebox: .*File too large.*\[E' errors || fail "a hard limit of $kibibytes KiB: status $got, '$(cat errors)'"
    fi
  done
fi
finish
