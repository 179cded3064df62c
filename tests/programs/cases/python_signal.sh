# sandbox: whole
# needs: /usr/bin/python3
/usr/bin/python3 - <<'END'
import faulthandler, os, select, signal as s, socket, sys, threading, time
log = []
for n in (s.SIGUSR1, s.SIGUSR2, s.SIGALRM, s.SIGHUP, s.SIGRTMIN): s.signal(n, lambda n, f: log.append(s.Signals(n).name))
os.kill(os.getpid(), s.SIGUSR1); s.raise_signal(s.SIGUSR2); s.pthread_kill(threading.get_ident(), s.SIGHUP); print(log); log.clear()
s.setitimer(s.ITIMER_REAL, 0.02, 0.02)
end = time.monotonic() + 5
while len(log) < 5 and time.monotonic() < end: pass
s.setitimer(s.ITIMER_REAL, 0); print(log[:5]); log.clear()
s.alarm(1); s.pause(); print(log); log.clear()
s.pthread_sigmask(s.SIG_BLOCK, [s.SIGUSR1, s.SIGRTMIN]); os.kill(os.getpid(), s.SIGUSR1); os.kill(os.getpid(), s.SIGRTMIN)
print(sorted(s.sigpending()), log); print(s.sigwait([s.SIGRTMIN]), s.sigtimedwait([s.SIGUSR1], 1).si_signo, s.sigtimedwait([s.SIGUSR1], 0.01))
s.pthread_sigmask(s.SIG_UNBLOCK, [s.SIGUSR1, s.SIGRTMIN]); print(log)
a, b = socket.socketpair(); b.setblocking(False); s.set_wakeup_fd(b.fileno()); os.kill(os.getpid(), s.SIGUSR2); print(a.recv(9), log); s.set_wakeup_fd(-1); log.clear()
r, w = os.pipe(); threading.Timer(0.1, lambda: os.kill(os.getpid(), s.SIGUSR1)).start(); threading.Timer(0.3, lambda: os.write(w, b"x")).start(); print(os.read(r, 1), log); log.clear()
class Stop(Exception): pass
def stop(n, f): raise Stop
s.signal(s.SIGALRM, stop); s.setitimer(s.ITIMER_REAL, 0.1)
try: select.select([r], [], [])
except Stop: print("select interrupted")
def busy():
    n = 0
    while n >= 0: n += 1
s.signal(s.SIGVTALRM, stop)
try: s.setitimer(s.ITIMER_VIRTUAL, 0.05); busy()
except Stop: print("a busy loop interrupted")
s.signal(s.SIGPROF, stop)
try: s.setitimer(s.ITIMER_PROF, 0.05); busy()
except Stop: print("profiling timer")
gone = []; s.signal(s.SIGCHLD, lambda *_: gone.append(1))
for i in range(50):
    if os.fork() == 0: os._exit(i)
codes = sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(50)); print(codes == list(range(50)), len(gone) > 0)
for n in (s.SIGSEGV, s.SIGABRT, s.SIGKILL, s.SIGBUS, s.SIGFPE, s.SIGILL, s.SIGTRAP, s.SIGSYS, s.SIGRTMAX):
    sys.stdout.flush()
    if (pid := os.fork()) == 0: os.kill(os.getpid(), n); os._exit(0)
    print(n.name, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
if (pid := os.fork()) == 0: faulthandler._sigsegv()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
if (pid := os.fork()) == 0:
    while True: pass
os.kill(pid, s.SIGSTOP); print(os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])); os.kill(pid, s.SIGCONT); print(os.WIFCONTINUED(os.waitpid(pid, os.WCONTINUED)[1]))
os.kill(pid, s.SIGTERM); print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print("done", s.getsignal(s.SIGINT).__name__)
END
status=$?; echo "status $status"
exit $status
