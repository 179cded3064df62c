#!/bin/bash
# --trace=json, --trace=chrome and --stats=json of a job with forks, execs, threads and signals.
#
#   tests/conformance/observe_test.sh DUNEBOX ENGINE
. "$(dirname "$0")/frame.sh"
readonly check=$here/check_observations.py

readonly python=/usr/bin/python3  # the system's: a version manager's would be a script
if [[ ! -x $python ]]; then
  echo "skip: no $python"
  exit 77
fi

cat >threads.py <<'PY'
import ctypes, os, signal, subprocess, threading
libc = ctypes.CDLL(None)
def work(number):
    libc.prctl(15, b"worker%d" % number, 0, 0, 0)  # PR_SET_NAME
    os.getppid()
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
signal.signal(signal.SIGUSR1, lambda *_: None)
os.kill(os.getpid(), signal.SIGUSR1)
try:
    os.stat(b"/no/\xff\xfe\n\"such\"\xc3")
except OSError:
    pass
subprocess.run(["/bin/true"])  # vfork and execve
PY
# The trace goes where the program cannot: its directory, stdout and stderr are other ones.
# shellcheck disable=SC2016  # the inner shell's
readonly job='cd / && exec 2>/dev/null; (exit 3); printf "a\nb\nc\n" | /usr/bin/sort -r | head -n 1
  '$python' '"$work"'/threads.py; exec /bin/echo done'

run() { "$dunebox" run "--engine=$engine" --allow=all "$@" >output 2>errors </dev/null; }
run_job() { run "$@" -- bash -c "$job"; }
expect_output() {
  [[ $1 -eq 0 && $(<output) == $'c\ndone' ]] || fail "$2: the job does something else, status $1"
}

run_job --trace=json --trace-file trace.json --stats=json --stats-file stats.json
expect_output $? 'json'
[[ ! -s errors ]] || fail 'something is on stderr beside the files'
"$python" "$check" trace trace.json "$engine" || fail 'the JSON trace'
"$python" "$check" stats stats.json "$engine" trace.json || fail 'the JSON statistics'

run_job --trace=chrome --trace-file=trace.chrome
expect_output $? 'chrome'
"$python" "$check" chrome trace.chrome || fail 'the Chrome trace'

# On standard error, through a pipe that all processes share.
"$dunebox" run "--engine=$engine" --allow=all --trace=json -- bash -c "$job" 2>&1 >/dev/null </dev/null |
  cat >piped.json
"$python" "$check" trace piped.json "$engine" || fail 'the JSON trace in a pipe'
"$dunebox" run "--engine=$engine" --allow=all --stats=json -- bash -c "$job" 2>&1 >/dev/null </dev/null |
  cat >piped.json
"$python" "$check" stats piped.json "$engine" || fail 'the JSON statistics in a pipe'

# What a killed program leaves can be read: the array is not closed, that is all.
# shellcheck disable=SC2016
run --trace=chrome --trace-file=killed -- bash -c 'kill -9 $$'
[[ $? -eq 137 ]] || fail 'kill -9 is something else under --trace=chrome'
"$python" "$check" unclosed killed || fail 'the Chrome trace of a killed program'

# The text formats go to files, too; a file that is there is replaced.
echo old >text
run --trace --trace-file=text --stats --stats-file=numbers -- true || fail "text: status $?"
[[ ! -s errors ]] || fail 'text: something is on stderr'
grep -q '^dunebox: \[[0-9]*\] exit_group(0) = ?$' text || fail 'no text trace in its file'
grep -qE '^dunebox: \[[0-9]+\] stats: engine ' numbers || fail 'no text statistics in their file'
grep -q old text && fail 'the old trace is there still'
# The program cannot write to the trace, which is no descriptor of its own.
# shellcheck disable=SC2016
run --trace=json --trace-file=own -- bash -c 'for fd in /proc/self/fd/*; do echo "${fd##*/}"; done'
[[ $(sort -n output | tail -n 1) -lt 256 ]] || fail 'the program sees the descriptor of the trace'
# A limit on its files is no limit on the trace's reader, and costs the program no signal.
run --trace=json --trace-file=limited -- bash -c 'ulimit -f 1; for i in {1..99}; do (:); done; echo alive'
[[ $? -eq 0 && $(<output) == alive ]] || fail 'the size of the trace ends the program'
# A pipe that nobody reads does not end it either.
"$dunebox" run "--engine=$engine" --allow=all --trace=json -- bash -c '/bin/true; echo alive >output' 2> >(exit 0)
[[ $(<output) == alive ]] || fail 'a trace that nobody reads ends the program'

run --trace=json --trace-file=/no/such/file -- echo ran
[[ $? -eq 125 && ! -s output ]] || fail 'the program runs without its trace'
grep -q '^dunebox: --trace-file: cannot open /no/such/file' errors || fail 'no word on why'

finish
