#!/bin/bash
# --stats, --jit-perf-map and --jit-dump as a user sees them.
#
#   tests/conformance/diagnostics_test.sh DUNEBOX ENGINE
. "$(dirname "$0")/frame.sh"

run() { "$dunebox" run "--engine=$engine" --allow=all "$@" >output 2>errors </dev/null; }
# How often a line of stderr matches.
count() { grep -Ec -e "$1" errors; }
value() { sed -n "s/^dunebox: \[[0-9]*\] stats: $1 //p" errors | head -n 1; }

# ---- statistics ---------------------------------------------------------------------------------

run -- true || fail "true: exit status $?"
[[ ! -s errors ]] || fail 'nothing was asked for, but something is printed'

run --stats -- sh -c 'echo one; exit 7'
[[ $? -eq 7 && $(<output) == one ]] || fail 'a program under --stats does something else'
[[ $(count "stats: engine $engine") -eq 1 ]] || fail 'the engine is not named once'
[[ $(count '^dunebox: \[[0-9]+\] stats: ') -eq $(wc -l <errors) ]] || fail 'lines of another form'
[[ $(value entries) -gt 10 ]] || fail 'too few entries'
parts=0
for part in $(sed -n 's/.* stats: \(entries\|exits\)\.[a-z_]* //p' errors); do parts=$((parts + part)); done
[[ $parts -eq $(value entries) ]] || fail 'the entries are not the sum of their reasons'
if [[ $engine == jit ]]; then
  [[ $(value blocks) -gt 100 && $(value bytes.host) -gt $(value bytes.guest) ]] || fail 'too few blocks'
  [[ $(value translate_microseconds) -gt 0 ]] || fail 'no time for translating'
fi

# A cache that is too small for the program is emptied again and again, with threads in it.
if [[ $engine == jit ]]; then
  run --stats --jit-cache=1 -- /usr/bin/python3 -c '
import json, re, threading
def work(n):
    for i in range(20):
        json.loads(json.dumps({"a": [1, 2, {"b": n}]}))
        re.compile("a" * (i % 7 + 1) + "[b-d]*").match("aab")
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print("done")' || fail "a small cache: exit status $?"
  [[ $(<output) == 'done' && $(value flushes) -gt 2 ]] || fail 'a small cache is not emptied'
fi

# Each program of each process has its lines, an execve included; threads are their process's.
run --stats -- sh -c '(exit 0); /bin/true; exec /bin/echo done' || fail "exit status $?"
[[ $(count 'stats: program .*true$') -eq 1 ]] || fail 'no statistics of a child that was executed'
[[ $(count 'stats: program .*echo$') -eq 1 ]] || fail 'no statistics after execve'
[[ $(count 'stats: engine') -ge 4 ]] || fail 'no statistics of a forked child, or before execve'
run --stats -- sh -c '(:); :' || fail "exit status $?"
if [[ $engine == jit ]]; then
  read -r child parent <<<"$(sed -n 's/.* stats: blocks //p' errors | tr '\n' ' ')"
  [[ $child -lt $parent ]] || fail "a forked child's numbers are its parent's too: $child, $parent"
fi
run --stats -- /usr/bin/python3 -c 'import threading
threads = [threading.Thread(target=sum, args=([1],)) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]' || fail "exit status $?"
[[ $(count 'stats: program') -eq 1 ]] || fail 'threads report for themselves'

# The program has no part in it: its standard error is closed, or is something else.
run --stats -- sh -c 'exec 2>&-; exec /bin/true' || fail "exit status $?"
[[ $(count 'stats: program .*true$') -eq 1 ]] || fail 'lost where the program closes its standard error'
# A fault that ends the program is an end, too.
run --stats -- /usr/bin/python3 -c 'import ctypes; ctypes.string_at(0)'
[[ $? -eq 139 && $(count 'stats: program') -eq 1 ]] || fail 'no statistics of a program that crashed'

# ---- names for perf, and dumps ------------------------------------------------------------------

if [[ $engine == jit ]]; then
  # Only what the shell does by itself: every program that it started would have a file, too.
  # shellcheck disable=SC2016  # the inner shell's
  run --jit-perf-map -- sh -c 'echo $$ >pids; while read -r line; do echo "$line"; done </tmp/perf-$$.map' ||
    fail "exit status $?"
  [[ ! -s errors ]] || fail '--jit-perf-map prints something'
  grep -Evq '^[0-9a-f]+ [0-9a-f]+ guest:[^ ]+( [^ ]+)?$' output && fail 'a line perf cannot read'
  grep -q ' guest:libc.so.6+0x[0-9a-f]* [a-z_]' output || fail 'no name from a symbol table'
  mv output map
  # shellcheck disable=SC2016
  run --jit-perf-map -- sh -c '(read -r pid rest </proc/self/stat; echo $$ $pid >>pids
    while read -r line; do echo "$line"; done </tmp/perf-$pid.map)' ||
    fail "a forked child has no map: exit status $?"
  [[ $(wc -l <output) -gt 500 ]] || fail 'a forked child does not know the code it has inherited'
  for pid in $(<pids); do rm -f "/tmp/perf-$pid.map"; done
  mv map output

  place=$(sed -n 's/.* guest:\(libc.so.6+0x[0-9a-f]*\) .*/\1/p' output | head -n 1)
  run "--jit-dump=$place" -- sh -c : || fail "exit status $?"
  [[ $(count "dump: block at guest:${place/+/\\+}, ") -ge 1 ]] || fail "no block at $place"
  [[ $(count 'dump: guest +[0-9a-f]+ [a-z*]+ +([0-9a-f]{2} )+ *\| host +[0-9a-f]+ ') -ge 1 ]] ||
    fail 'no guest code beside host code'
  grep -q 'refuse' errors && fail 'host code that our own decoder does not know'
  run --jit-dump=0x12 -- true || fail "exit status $?"
  [[ $(count 'dump: no block has 0x12 in it$') -eq 1 ]] || fail 'silent where there is nothing'
fi

finish
