# kill -9 of one process in the sandbox, from inside and from outside, acts as natively.
# sandbox: prefixed
# needs: /usr/bin/python3
cat >"$HOME/k.py" <<'END'
import os, signal, socket, subprocess, sys, threading, time
def status(p): return os.waitstatus_to_exitcode(os.waitpid(p, 0)[1])
def child(f):
    sys.stdout.flush()
    if (p := os.fork()): return p
    f(); os._exit(0)
def loop():
    while True: pass
for f in (loop, lambda: time.sleep(100), signal.pause): p = child(f); time.sleep(0.1); os.kill(p, 9); print(status(p))
def threads(): [threading.Thread(target=t).start() for t in (loop, lambda: time.sleep(100), loop)]; time.sleep(100)
p = child(threads); time.sleep(0.3); os.kill(p, 9); print("threads", status(p))
p = child(signal.pause); os.kill(p, signal.SIGSTOP); os.waitpid(p, os.WUNTRACED); os.kill(p, 9); print("stopped", status(p))
a, b = socket.socketpair(); p = child(lambda: (a.close(), time.sleep(100))); b.close(); time.sleep(0.1); os.kill(p, 9); print("its socket closed", a.recv(1)); status(p)
r, w = os.pipe()
def outer():
    middle = os.getpid()
    child(lambda: (time.sleep(0.7), os.write(w, str(os.getppid() != middle).encode()))); time.sleep(100)
p = child(outer); time.sleep(0.3); os.kill(p, 9); print("killed", status(p)); print("the grandchild lives, adopted", os.read(r, 9))
p = subprocess.Popen(["sleep", "100"]); p.kill(); print(p.wait())
p = subprocess.Popen(["sleep", "100"]); print(p.pid, file=open("pid", "w"), flush=True); os.rename("pid", "inner"); print("from outside", p.wait(), flush=True)
os.kill(os.getpid(), 9)
END
$RUN /usr/bin/python3 "$HOME/k.py" & pid=$!
for _ in {1..200}; do [[ -s inner ]] && break; sleep 0.05; done
kill -KILL "$(<inner)"; wait $pid 2>/dev/null; echo "status $?"; rm -f inner
