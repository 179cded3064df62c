#!/bin/bash
# The file rules of a session, with real programs: what is denied stays as it was, what is allowed
# works, and the user is told why and what would allow it.
#
#   tests/conformance/file_rules_test.sh DUNEBOX ENGINE
parent=/var/tmp  # not /tmp, which the default policy gives to the program
. "$(dirname "$0")/frame.sh"
readonly cases=$here/file_rules_cases.py base=$work

mkdir -p work/dir lib hidden
for name in work/file lib/file hidden/file; do echo "$name" >"$name"; done
for directory in lib hidden; do cp /bin/true "$directory/program"; done
mkfifo hidden/fifo

run() { timeout -k 5 200 "$dunebox" run "--engine=$engine" "$@" >output 2>errors </dev/null; }
has_line() { grep -qxF -- "$2" "$1" || fail "no line '$2' in the $1"; }
is_unchanged() { [[ $(<"$1") == "$1" ]] || fail "$1 has been changed"; }

# ---- Ways around the rules ----------------------------------------------------------------------

run --rw "$base/work" --ro "$base/lib" -- /usr/bin/python3 -S -c "$(<"$cases")" "$base"
status=$?
[[ $status -eq 0 ]] || fail "the cases ended with $status"
while IFS= read -r line; do has_line output "$line"; done <<'EXPECTED'
read own: done
read library: done
write library: denied
truncate library: denied
truncate for reading: denied
read hidden: denied
dots: denied
create in library: denied
create own: done
fifo: denied
through a link: denied
root by procfs: denied
other process: denied
hard link: denied
rename in: denied
rename out: denied
exchange: denied
chmod: denied
enter: denied
passed descriptor: denied
reopened descriptor: denied
execute library: done
execute hidden: denied
map library: done
protect library: done
map data: denied
protect data: denied
races: over
EXPECTED
is_unchanged lib/file
is_unchanged hidden/file
[[ $(stat -c %a lib/file) == 644 ]] || fail 'the mode of lib/file has been changed'
[[ $(ls hidden) == $'fifo\nfile\nprogram' ]] || fail 'something was made in hidden'
[[ $(ls lib) == $'file\nprogram' ]] || fail 'something was made in lib'

# ---- What the user is told ----------------------------------------------------------------------

run --ro "$base/lib" -- /bin/sh -c 'echo text > "$1"' sh "$base/lib/file"
status=$?
[[ $status -eq 2 ]] || fail "a shell that may not write ended with $status"
is_unchanged lib/file
grep -qE "^dunebox: denied: [a-z]+ \\(pid [0-9]+\\) open(at)?\\(.*\"$base/lib/file\", O_WRONLY" errors ||
  fail 'the call is not in the report'
has_line errors "  write $base/lib/file; rule: forbidden by --ro $base/lib"
has_line errors "  to allow it: --rw $base/lib/file"
grep -qE '^  at 0x[0-9a-f]+ [^ ]+\+0x[0-9a-f]+ \(.+\+0x[0-9a-f]+\)$' errors || fail 'the place is not in the report'

# What it was given as its output it may open again by name, also where no rule shows it, and no wider.
: >"$base/given"
run --ro "$base/lib" -- /bin/sh -c 'exec 2>&7; (echo one) >>/dev/stderr; echo two | tee -a /proc/self/fd/2
  (echo three) >>/dev/fd/7; cat </dev/stderr && echo four' 7>>"$base/given"
has_line errors "  read $base/given; rule: none allows it"
[[ $(<output) == two && $(grep -v '^/bin/sh:' "$base/given") == $'one\ntwo\nthree' ]] ||
  fail 'descriptors by their names'

run --audit --ro "$base/lib" -- /bin/sh -c 'echo lib/file > "$1"' sh "$base/lib/file"
status=$?
[[ $status -eq 0 ]] || fail "an audited shell ended with $status"
grep -q '^dunebox: audit: would deny: ' errors || fail 'the audit has told nothing'

run --trace --trace-file="$base/trace" --ro "$base/lib" -- /bin/cat "$base/hidden/file"
grep -q "hidden/file.*EACCES.*<policy: none allows it>" trace ||
  grep -q "hidden/file.*ENOENT" trace || fail 'the trace does not say who denied the call'

# What is not there anyway is no denial to report; the trace has it.
run --trace --trace-file="$base/trace" --ro "$base/lib" -- /bin/cat "$base/hidden/absent"
! grep -q '^dunebox: denied' errors || fail 'a file that is not there was reported'
grep -q "hidden/absent.*EACCES.*<policy: what is in $base/hidden may not be known>" trace ||
  grep -q "hidden/absent.*ENOENT" trace || fail 'the trace does not say why it is not there'

# A script is the program; its interpreter is none that the rules know.
mkdir scripts
printf '#!%s\n' "$base/hidden/program" >scripts/script
chmod +x scripts/script
run --ro "$base/lib" -- "$base/scripts/script"
status=$?
[[ $status -eq 126 || $status -eq 127 ]] || fail "an interpreter without rights ended with $status"

finish
