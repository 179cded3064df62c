#!/bin/bash
# What a program under a policy reaches of the network and of other processes, and how much it may
# say: each denial with its errno, and that nothing arrives where it may not.
#
#   tests/conformance/reach_test.sh DUNEBOX ENGINE
. "$(dirname "$0")/frame.sh"
export PATH=/usr/bin:/bin  # other directories may be none of the session's

outside=()
clean() {
  [[ ${#outside[@]} -eq 0 ]] || kill -KILL "${outside[@]}" 2>/dev/null
  rm -rf "$work"
}
trap clean EXIT

run() { timeout -k 5 100 "$dunebox" run "--engine=$engine" "$@" >output 2>errors </dev/null; }
python() { run "$@" -- /usr/bin/python3 -S -c "$(<program)"; }
# expect WHAT STATUS OUTPUT: of the last run, whose exit status is in $status.
expect() {
  [[ $status -eq $2 ]] || fail "$1: exit status $status, not $2"
  [[ $(<output) == "$3" ]] || fail "$1: another output than '$3'"
}

# ---- network ------------------------------------------------------------------------------------

# Two servers outside, of which one may be reached. Each arrival is a line.
cat >server <<'E2'
import select, socket, sys
sockets = {}
for name in ("open", "closed"):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(socket.AF_INET, kind)
        # The same port for both kinds.
        s.bind(("127.0.0.1", 0 if kind == socket.SOCK_STREAM else port))
        port = s.getsockname()[1]
        if kind == socket.SOCK_STREAM: s.listen(100)
        sockets[s] = name
    print(port, flush=True)
arrivals = open("arrivals", "w")
while True:
    for s in select.select(list(sockets), [], [])[0]:
        if s.type == socket.SOCK_STREAM: s.accept()[0].close()
        else: s.recv(10)
        print(sockets[s], file=arrivals, flush=True)
E2
: >ports
/usr/bin/python3 server >ports 2>/dev/null &
outside+=($!)
for _ in {1..200}; do
  [[ $(wc -l <ports) -eq 2 && -e arrivals ]] && break
  sleep 0.1
done
{ read -r open_port; read -r closed_port; } <ports

cat >program <<'E2'
import errno, os, socket
open_port, closed_port = int(os.environ["OPEN"]), int(os.environ["CLOSED"])
def attempt(what, action):
    try:
        action()
        print(what, "done")
    except OSError as error:
        print(what, errno.errorcode[error.errno])
def connect(port, host="127.0.0.1", family=socket.AF_INET, kind=socket.SOCK_STREAM):
    return lambda: socket.socket(family, kind).connect((host, port))
def send(port):
    return lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", port))
def message(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return lambda: s.sendmsg([b"x"], [], 0, ("127.0.0.1", port))
def fast_open():
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", closed_port))
def option(level, name, value=1):
    return lambda: socket.socket().setsockopt(level, name, value)
attempt("connect", connect(open_port))
attempt("connect elsewhere", connect(closed_port))
attempt("connect mapped", connect(open_port, "::ffff:127.0.0.1", socket.AF_INET6))
attempt("connect mapped elsewhere", connect(closed_port, "::ffff:127.0.0.1", socket.AF_INET6))
attempt("connect to this machine", connect(closed_port, "0.0.0.0"))
attempt("connect datagram elsewhere", connect(closed_port, kind=socket.SOCK_DGRAM))
attempt("send", send(open_port))
attempt("send elsewhere", send(closed_port))
attempt("message elsewhere", message(closed_port))
attempt("fast open elsewhere", fast_open)
attempt("bind", lambda: socket.socket().bind(("127.0.0.1", 0)))
attempt("listen unbound", lambda: socket.socket().listen())
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("vsock", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect("\0dunebox-reach"))
def own_unix():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("/tmp/own")
    listener.listen()
    socket.socket(socket.AF_UNIX).connect("/tmp/own")
attempt("unix", own_unix)
attempt("unix absent", lambda: socket.socket(socket.AF_UNIX).connect("/tmp/absent"))
attempt("pair", socket.socketpair)
attempt("reuse", option(socket.SOL_SOCKET, socket.SO_REUSEADDR))
attempt("mark", option(socket.SOL_SOCKET, socket.SO_MARK))
attempt("device", option(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0"))
attempt("route", option(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x83\x07\x04\x7f\0\0\1\0"))
E2
python "--net=tcp:127.0.0.1:$open_port" --env "OPEN=$open_port" --env "CLOSED=$closed_port"
status=$?
expect 'listed addresses' 0 'connect done
connect elsewhere EACCES
connect mapped done
connect mapped elsewhere EACCES
connect to this machine EACCES
connect datagram elsewhere EACCES
send done
send elsewhere EACCES
message elsewhere EACCES
fast open elsewhere EACCES
bind EACCES
listen unbound EACCES
raw EPERM
packet EPERM
vsock EAFNOSUPPORT
abstract EACCES
unix EACCES
unix absent ENOENT
pair done
reuse done
mark EPERM
device EPERM
route EPERM'
# A port that the kernel chooses has no number that an option could name.
[[ -z $(grep -E 'to allow it: --net=(tcp:.*|listen):0$' errors) ]] || fail 'an option for port 0 is proposed'
grep -qxF '  to allow it: --net=listen:*' errors || fail 'no option for any port is proposed'

cat >program <<'E2'
import errno, socket
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
    try:
        socket.socket(family, socket.SOCK_DGRAM)
        print("done")
    except OSError as error:
        print(errno.errorcode[error.errno])
E2
python --net=none
status=$?
expect 'no network' 0 $'EACCES\nEACCES\nEACCES'

# A thread changes the port while others connect and send with it.
cat >program <<'E2'
import ctypes, os, socket, struct, threading, time
libc = ctypes.CDLL(None, use_errno=True)
ports = [struct.pack(">H", int(os.environ[name])) for name in ("OPEN", "CLOSED")]
address = ctypes.create_string_buffer(
    struct.pack("=H", socket.AF_INET) + ports[0] + socket.inet_aton("127.0.0.1") + bytes(8), 16)
stop = False
def flip():
    while not stop:
        ctypes.memmove(ctypes.addressof(address) + 2, ports[1], 2)
        ctypes.memmove(ctypes.addressof(address) + 2, ports[0], 2)
thread = threading.Thread(target=flip)
thread.start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
counts = [0, 0]
end = time.monotonic() + 5
while time.monotonic() < end:
    tcp = socket.socket()
    counts[libc.connect(tcp.fileno(), address, 16) < 0] += 1
    counts[libc.sendto(udp.fileno(), b"x", 1, 0, address, 16) < 0] += 1
    tcp.close()
stop = True
thread.join()
print("went" if counts[0] else "never went")
E2
python "--net=tcp:127.0.0.1:$open_port" --env "OPEN=$open_port" --env "CLOSED=$closed_port"
status=$?
expect 'a port that changes' 0 'went'
sleep 0.5
grep -q open arrivals || fail 'nothing arrived where it may'
! grep -q closed arrivals || fail 'something arrived where it may not'

# ---- processes ----------------------------------------------------------------------------------

# In the same process group as the session, as a pipeline's other members are.
sleep 1000 &
bystander=$!
outside+=("$bystander")
cat >program <<'E2'
import errno, os, resource, signal
bystander = int(os.environ["BYSTANDER"])
def attempt(what, action):
    try:
        action()
        print(what, "done")
    except OSError as error:
        # In a pid namespace of its own the session does not see it at all.
        name = errno.errorcode[error.errno]
        print(what, "refused" if name in ("EPERM", "ESRCH", "EINVAL") else name)
signal.signal(signal.SIGTERM, lambda *_: print("terminated", flush=True))
attempt("probe", lambda: os.kill(bystander, 0))
attempt("kill", lambda: os.kill(bystander, signal.SIGKILL))
# 0, where the parent is outside of the pid namespace, would mean its own group.
attempt("kill parent", lambda: os.kill(os.getppid() or bystander, signal.SIGKILL))
attempt("kill init", lambda: os.kill(1, signal.SIGCONT))
attempt("pidfd", lambda: os.pidfd_open(bystander))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, bystander, 5))
attempt("priority of a group", lambda: os.setpriority(os.PRIO_PGRP, 0, 5))
attempt("affinity", lambda: os.sched_setaffinity(bystander, {0}))
attempt("scheduler", lambda: os.sched_setscheduler(bystander, os.SCHED_IDLE, os.sched_param(0)))
attempt("limit", lambda: resource.prlimit(bystander, resource.RLIMIT_CPU, (1, 1)))
attempt("own limit", lambda: resource.prlimit(0, resource.RLIMIT_CPU, (1000, 1000)))
attempt("own priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, 5))
# Its own process, by its group.
os.kill(0, signal.SIGTERM)
# Its own child, by its number and with all others.
for target in ("child", "group", "all"):
    child = os.fork()
    if child == 0:
        if target == "group": os.setpgid(0, 0)
        while True: signal.pause()
    if target == "group": os.setpgid(child, child)
    os.kill({"child": child, "group": -child, "all": -1}[target], signal.SIGKILL)
    print(target, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
child = os.fork()
if child == 0:
    while True: signal.pause()
handle = os.pidfd_open(child)
signal.pidfd_send_signal(handle, signal.SIGKILL)
print("held", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
E2
python --env "BYSTANDER=$bystander"  --net=none
status=$?
expect 'other processes' 0 'probe refused
kill refused
kill parent refused
kill init refused
pidfd refused
priority refused
priority of a group refused
affinity refused
scheduler refused
limit refused
own limit done
own priority done
terminated
child -9
group -9
all -9
held -9'
kill -0 "$bystander" 2>/dev/null || fail 'the bystander is gone'

run --net=none -- sh -c 'kill -KILL -1; sleep 60 & kill $!; wait $!; echo $?; kill -KILL 0'
status=$?
expect 'the end of a session by itself' 137 143
kill -0 "$bystander" 2>/dev/null || fail 'the bystander is gone with the group'

# ---- output -------------------------------------------------------------------------------------

run --output 64K --net=none -- sh -c 'while :; do echo 0123456789abcde; done'
status=$?
[[ $status -eq 124 ]] || fail "an endless output: exit status $status"
[[ $(wc -c <output) -eq 65536 ]] || fail "an endless output: $(wc -c <output) bytes"
[[ $(<errors) == 'dunebox: killed: output limit 64K reached [E0703]' ]] || fail 'an endless output: the message'

# All processes together, whatever the descriptor is called, and no other files.
run --output 10000 --net=none -- sh -c 'head -c 5000 /dev/zero; head -c 4000 /dev/zero >&2
  head -c 100000 /dev/zero >/dev/null; exec 7>&1; (head -c 900 /dev/zero >&7); echo'
status=$?
[[ $status -eq 0 ]] || fail "output within the limit: exit status $status"
run --output 10000 --net=none -- sh -c 'head -c 5000 /dev/zero; head -c 4000 /dev/zero >&2
  exec 7>&1; (head -c 2000 /dev/zero >&7); echo no'
status=$?
[[ $status -eq 124 && $(wc -c <output) -eq 6000 &&
   $(tr -d '\0' <errors) == 'dunebox: killed: output limit 10000 reached [E0703]' ]] ||
  fail "output beyond the limit: exit status $status"

finish
