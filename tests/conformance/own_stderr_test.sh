#!/bin/bash
# What the runtime says goes to the standard error that the session began with: never into a file that the program has opened as
# its descriptor 2, and without one nowhere.
#
#   tests/conformance/own_stderr_test.sh DUNEBOX ENGINE
. "$(dirname "$0")/frame.sh"

# The core file is told about when descriptor 2 is a database.
ulimit -S -c unlimited 2>/dev/null
printf 'a header that matters' >data.db
"$dunebox" run --engine="$engine" --allow=all --core-file=core -- /usr/bin/python3 -c '
import os
os.close(2)
assert os.open("data.db", os.O_RDWR) == 2
os.abort()' 2>errors
status=$?
((status == 134)) || fail "core: status $status"
[[ $(cat data.db) == 'a header that matters' ]] || fail "core: the program's file says '$(cat data.db)'"
grep -q "core file written" errors || fail "core: the user is not told: '$(cat errors)'"
# Also behind an execve.
"$dunebox" run --engine="$engine" --allow=all --core-file=core -- /bin/sh -c \
  'exec 2<>data.db; exec /usr/bin/python3 -c "import os; os.abort()"' 2>errors
[[ $(cat data.db) == 'a header that matters' ]] || fail "execve: the program's file says '$(cat data.db)'"
grep -q "core file written" errors || fail "execve: the user is not told: '$(cat errors)'"

# Without standard error.
for options in --allow=all --ro=/ --stats --trace; do
  output=$("$dunebox" run --engine="$engine" $options -- /bin/sh -c 'echo out; [ ! -e /proc/self/fd/2 ]' 2>&-)
  status=$?
  [[ $status == 0 && $output == out ]] || fail "$options without standard error: status $status, '$output'"
done

finish
