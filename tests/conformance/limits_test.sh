#!/bin/bash
# The limits of a session, its surroundings and its status lines, as a user sees them: programs that
# take all they can get are stopped by the limit, with its exit status and its line, and leave
# nothing behind.
#
#   tests/conformance/limits_test.sh DUNEBOX ENGINE
. "$(dirname "$0")/frame.sh"

# A limit that does not bite must not hang the test.
run() { timeout -k 5 100 "$dunebox" run "--engine=$engine" --allow=all "$@" >output 2>errors </dev/null; }
python() { run "$@" -- /usr/bin/python3 -S -c "$(<program)"; }

# expect WHAT STATUS OUTPUT [ERRORS]: of the last run, whose exit status is in $status.
expect() {
  [[ $status -eq $2 ]] || fail "$1: exit status $status, not $2"
  [[ $(<output) == "$3" ]] || fail "$1: another output than '$3'"
  if [[ $# -gt 3 && $(<errors) != "$4" ]]; then fail "$1: another message than '$4'"; fi
}
# The processes of a session have this test's directory, however they call themselves.
readonly refused='dunebox: the program was refused more than its limits:'
is_anybody_there() {
  local process
  for process in /proc/[0-9]*; do
    [[ ${process#/proc/} -ne $$ && $process/cwd -ef $work ]] && return 0
  done
  return 1
}
expect_nobody() { ! is_anybody_there || fail "$1: a process is left behind"; }

# ---- time ---------------------------------------------------------------------------------------

run --time 300ms -- sleep 60
status=$?
expect 'a sleeper' 124 '' 'dunebox: killed: wall time limit 300ms reached [E0701]'

run --time 1s -- sh -c '(trap "" TERM HUP INT; sleep 60) & (setsid sleep 60) & while :; do :; done'
status=$?
expect 'a busy loop with children' 124 '' 'dunebox: killed: wall time limit 1s reached [E0701]'
expect_nobody 'a busy loop with children'

run --time 100s --cpu-time 100s -- sh -c 'echo in time; exit 3'
status=$?
expect 'a quick program' 3 'in time' ''

# Neither process alone comes to the limit soon; the shell waits.
run --time 90s --cpu-time 600ms -- sh -c 'for i in 1 2 3; do (while :; do :; done) & done; wait'
status=$?
expect 'busy children' 124 '' 'dunebox: killed: CPU time limit 600ms reached [E0702]'
expect_nobody 'busy children'

# Many short ones, each over before it is looked at.
run --time 90s --cpu-time 600ms -- sh -c 'while :; do (:); done'
status=$?
expect 'short children' 124 '' 'dunebox: killed: CPU time limit 600ms reached [E0702]'

# Sleeping costs no CPU time.
run --cpu-time 5s -- sh -c 'sleep 0.3; echo slept'
status=$?
expect 'a sleeper with a limit of CPU time' 0 'slept' ''

# ---- processes and threads ----------------------------------------------------------------------

run --time 2s --pids 64 -- sh -c 'bomb() { bomb & bomb; }; bomb 2>/dev/null'
status=$?
[[ $status -eq 124 || $status -eq 2 ]] || fail "a fork bomb: exit status $status"
expect_nobody 'a fork bomb'

cat >program <<'E2'
import os, signal, threading, time
def fork():
    try:
        pid = os.fork()
    except BlockingIOError:
        return 0
    if pid == 0:
        time.sleep(60)
    return pid
children = [pid for pid in (fork() for _ in range(20)) if pid]
print(len(children), fork())
# Zombies count; what was waited for does not, however it ended.
for pid in children: os.kill(pid, signal.SIGKILL)
print(fork())
for pid in children: os.waitpid(pid, 0)
children = [pid for pid in (fork() for _ in range(20)) if pid]
print(len(children))
for pid in children: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
# Threads are counted with the processes.
hold = threading.Event()
threads = []
try:
    for _ in range(20):
        thread = threading.Thread(target=hold.wait)
        thread.start()
        threads.append(thread)
except RuntimeError:
    pass
print(len(threads), fork())
hold.set()
for thread in threads: thread.join()
# So are those that posix_spawn makes, which share the parent's memory for a moment.
spawned = 0
try:
    for _ in range(20):
        children.append(os.posix_spawn("/bin/sleep", ["sleep", "60"], {}))
        spawned += 1
except BlockingIOError:
    pass
print(spawned)
E2
python --time 60s --pids 8
status=$?
expect 'counting tasks' 0 $'7 0\n0\n7\n7 0\n7' "$refused processes and threads 8 [E0706]"
# The count goes along an execve, and one process after the other is no more than two.
run --time 60s --pids 4 -- sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true || exit 1; done
  exec sh -c "for i in 1 2 3 4; do sleep 0.2 & done; wait; echo no"'
status=$?
[[ $status -eq 2 && ! -s output ]] || fail "a fifth process after execve: exit status $status"
grep -q 'fork' errors || fail 'the shell says nothing of a fork that failed'
run --pids 1 -- sh -c 'echo alone'
status=$?
expect 'one process' 0 'alone' ''

# ---- memory -------------------------------------------------------------------------------------

cat >program <<'E2'
import mmap, os
taken = []
def take(size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE):
    try:
        taken.append(mmap.mmap(-1, size, flags=flags, prot=prot))
        return True
    except (MemoryError, OSError) as error:
        return getattr(error, "errno", 12)
MIB = 1 << 20
print(take(32 * MIB), take(65 * MIB))
print(take(300 * MIB, prot=mmap.PROT_READ))          # nothing can be written there
print(take(40 * MIB, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS))
print(sum(take(MIB) is True for _ in range(64)) < 32)  # a hog in small pieces
del taken[0]
print(take(20 * MIB))
if os.fork() == 0:  # a child has the same limit
    print(take(32 * MIB), flush=True)
    os._exit(0)
os.wait()
E2
python --mem 64M
status=$?
expect 'a memory hog' 0 $'True 12\nTrue\n12\nTrue\nTrue\n12' "$refused memory 64M [E0706]"
run --mem 64M -- /usr/bin/env /usr/bin/python3 -S -c 'bytearray(70 << 20); print("no")'
status=$?
expect 'a memory hog behind execve' 1 ''
cat >program <<'E2'
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
MIB = 1 << 20
def errno_of(result): return ctypes.get_errno() if result in (-1, ctypes.c_void_p(-1).value) else 0
place = libc.mmap(None, ctypes.c_size_t(100 * MIB), 0, 0x22, -1, 0)   # PROT_NONE: only reserved
print(errno_of(libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(20 * MIB), 3)))
print(errno_of(libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(100 * MIB), 3)))
small = libc.mmap(None, ctypes.c_size_t(MIB), 3, 0x22, -1, 0)
print(errno_of(libc.mremap(ctypes.c_void_p(small), ctypes.c_size_t(MIB), ctypes.c_size_t(80 * MIB), 1)))
before = libc.sbrk(0)
print(errno_of(libc.sbrk(80 * MIB)))
E2
python --mem 64M
status=$?
expect 'memory by mprotect, mremap, brk' 0 $'0\n12\n12\n12' "$refused memory 64M [E0706]"

# A program that has all the addresses there are, and then asks for a call that takes some: mmap until nothing is left, execve.
cat >program <<'EOF'
my $text = "x" x 100000;
my $path = "/bin/true";
my $arguments = pack("p p8 Q", $path, ($text) x 8, 0);
my $size = 1 << 46;
while ($size >= 4096) { $size >>= 1 if syscall(9, 0, $size, 1, 0x22, -1, 0) == -1; }
syscall(59, $path, $arguments, 0);
print "still here: $!\n";
EOF
(ulimit -v 100000000 && run -- /usr/bin/perl program)
status=$?
expect 'all addresses' 125 '' 'dunebox: the process has no memory left for the runtime [E0603]'

# A program's own limit does not count the runtime, in its children and what they execute neither.
run -- sh -c 'ulimit -d 20000; (echo child); exec echo program'
status=$?
expect 'ulimit -d' 0 $'child\nprogram' ''

# ---- files --------------------------------------------------------------------------------------

cat >program <<'E2'
import os, resource
files = []
try:
    while True: files.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print(error.errno, files[-1], resource.getrlimit(resource.RLIMIT_NOFILE))
for limit in ((33, 33), (32, 4096)):
    try: resource.setrlimit(resource.RLIMIT_NOFILE, limit); print("raised")
    except (ValueError, OSError): print("refused")
E2
python --nofile 32
status=$?
expect 'a descriptor hog' 0 $'24 31 (32, 32)\nrefused\nrefused' "$refused open files 32 [E0706]"

# More than a program has without asking, in the first program as in one that is executed.
if (($(ulimit -Hn) >= 10000)); then
  python --nofile 5900
  status=$?
  expect 'many open files' 0 $'24 5899 (5900, 5900)\nraised\nrefused' "$refused open files 5900 [E0706]"
  run --nofile 5900 -- sh -c '/usr/bin/python3 -S program; echo "$?"; exec /usr/bin/python3 -S program'
  status=$?
  expect 'many open files of executed programs' 0 \
    $'24 5899 (5900, 5900)\nraised\nrefused\n0\n24 5899 (5900, 5900)\nraised\nrefused' "$refused open files 5900 [E0706]"
fi
# All that there are, where that is a number which the option takes.
if (($(ulimit -Hn) >= 16 && $(ulimit -Hn) <= 1048576)); then
  run --nofile "$(ulimit -Hn)" -- true
  [[ $? == 125 && $(<errors) == *'--nofile: no more than '*'E0707]' ]] || fail 'more open files than the hard limit leaves'
fi

run --fsize 1M -- sh -c 'exec head -c 3000000 /dev/zero >flood'
status=$?
expect 'an output flood' 153 '' 'dunebox: killed: file size limit 1M reached [E0705]'
[[ $(stat -c %s flood) -eq 1048576 ]] || fail 'a file beyond --fsize'
cat >program <<'E2'
import os, resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in ((1 << 21, 1 << 21), (resource.RLIM_INFINITY,) * 2):
    try: resource.setrlimit(resource.RLIMIT_FSIZE, limit); print("raised")
    except (ValueError, OSError): print("refused")
def write():
    with open("flood", "wb", buffering=0) as file:
        file.truncate(1 << 20)
        file.seek(1 << 20)
        try: file.write(b"x"); print("written", flush=True)
        except OSError as error: print(error.errno, flush=True)
write()
if os.fork() == 0:
    write()
    os._exit(0)
os.wait()
E2
python --fsize 1M
status=$?
expect 'the limit of a file, kept' 0 $'refused\nrefused\n27\n27' "$refused file size 1M [E0706]"

# ---- surroundings -------------------------------------------------------------------------------

FROM_CALLER=here run --chdir /usr/lib --clearenv --env A=1 --env FROM_CALLER --env NOT_THERE --env A=2=3 -- \
  /usr/bin/env
status=$?
expect 'the environment' 0 $'FROM_CALLER=here\nA=2=3' ''
# shellcheck disable=SC2016  # here and below: the inner shell's
FROM_CALLER=here run --env OTHER=x --chdir=/usr/lib -- sh -c 'echo "$FROM_CALLER $OTHER $PWD"'
status=$?
expect 'an addition to the environment' 0 'here x /usr/lib' ''
run --chdir "$work/nowhere" -- true
status=$?
expect 'no such directory' 125 '' "dunebox: --chdir: cannot enter $work/nowhere: No such file or directory [E0307]"

# ---- status lines -------------------------------------------------------------------------------

isolation='"[a-z-]+"'
[[ $engine == kvm ]] && isolation=null
# expect_status WHAT END
expect_status() {
  [[ $(head -n 1 status) =~ ^'{"event":"started","pid":'[0-9]+',"engine":"'$engine'","isolation":'$isolation'}'$ ]] ||
    fail "$1: first status line: $(head -n 1 status)"
  [[ $(tail -n +2 status) == '{"event":"ended",'"$2"',"refused":['"${3-}"']}' ]] || fail "$1: $(tail -n +2 status)"
}
run --json-status-fd 9 -- sh -c 'test ! -e /proc/self/fd/9 && exit 7' 9>status
status=$?
expect 'a status descriptor' 7 '' ''
expect_status 'an exit' '"exit_status":7,"signal":null,"reason":"exited","limit":null'
run --json-status-fd 9 -- sh -c 'kill -USR1 $$' 9>status
expect_status 'a signal' '"exit_status":138,"signal":10,"reason":"signaled","limit":null'
run --json-status-fd=9 --time 200ms -- sleep 60 9>status
expect_status 'wall time' '"exit_status":124,"signal":null,"reason":"limit","limit":"wall-time"'
# What a program allows itself is no limit of the session's.
run --json-status-fd 9 --nofile 64 --mem 64M -- /usr/bin/python3 -S -c 'import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 64))
try:
    while True: os.dup(0)
except OSError: pass
try: bytearray(65 << 20)
except MemoryError: pass' 9>status
expect_status 'a refusal' '"exit_status":0,"signal":null,"reason":"exited","limit":null' '"memory"'
run --json-status-fd 9 -- true 9>&-
status=$?
expect 'a closed status descriptor' 125 '' 'dunebox: --json-status-fd: descriptor 9 is not open [E0108]'

run --dry-run --pids 5 --time 90s --clearenv --env X=1 -- sh -c 'echo no'
status=$?
[[ $status -eq 0 && ! -s errors ]] || fail "a dry run: exit status $status"
for line in 'program: "/.*/sh"' 'argument: "echo no"' "engine: $engine" 'limit wall time: 90s' \
  'limit processes and threads: 5' 'environment: empty' 'environment set: "X=1"'; do
  grep -Eqx "$line" output || fail "a dry run without '$line'"
done

# ---- die with parent ----------------------------------------------------------------------------

# Without the flag the program goes on when the shell that started it is gone, as natively.
for flag in --die-with-parent --stats; do
  rm -f started ended
  (bash -c '"$@" >/dev/null 2>&1 & until [[ -e started ]]; do sleep 0.05; done; kill -9 $$' - \
    "$dunebox" run "--engine=$engine" --allow=all "$flag" -- sh -c ': >started; sleep 1; : >ended'
  true) 2>/dev/null
  for _ in {1..200}; do
    is_anybody_there || break
    sleep 0.05
  done
  expect_nobody "$flag"
  if [[ $flag == --die-with-parent ]]; then
    [[ ! -e ended ]] || fail 'the program has outlived the parent'
  else
    [[ -e ended ]] || fail 'the program died with the parent, unasked'
  fi
done

finish
