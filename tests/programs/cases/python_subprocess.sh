# sandbox: whole
# needs: /usr/bin/python3
/usr/bin/python3 - <<'END'
import os, signal, subprocess as s, sys, tempfile
print(s.run(["/bin/echo", "hi"], capture_output=True).stdout)
print(s.run("echo a; echo b >&2; exit 3", shell=True, capture_output=True))
print(s.check_output(["tr", "a-z", "A-Z"], input=b"x" * 200000)[:5])
try: s.run(["/no/such"])
except FileNotFoundError as e: print(e)
try: s.run(["true"], cwd="/no/such")
except FileNotFoundError as e: print(e)
try: s.run(["sleep", "9"], timeout=0.1)
except s.TimeoutExpired as e: print("timed out", e.cmd)
open("plain", "w").close()
try: s.run(["./plain"])
except PermissionError as e: print(e)
p = s.Popen(["sleep", "9"]); p.send_signal(signal.SIGINT); print(p.wait())
p = s.Popen(["sh", "-c", "kill -9 $$"]); print(p.wait())
p = s.Popen(["cat"], stdin=s.PIPE, stdout=s.PIPE, text=True); print(p.communicate("text")); print(p.poll())
print(s.run(["sh", "-c", "echo $X; pwd"], env={"X": "1"}, cwd="/usr", capture_output=True).stdout)
r, w = os.pipe(); p = s.Popen(["sh", "-c", f"echo passed >&{w}"], pass_fds=[w]); os.close(w); print(os.read(r, 99)); p.wait()
print(s.run(["sh", "-c", "ls /proc/self/fd | wc -l"], capture_output=True, close_fds=True).stdout)
p = s.Popen(["sh", "-c", "ps -o sid= -p $$ | tr -d ' '"], start_new_session=True, stdout=s.PIPE, text=True); print(int(p.communicate()[0]) == p.pid)
p = s.Popen(["sh", "-c", "exit 0"], preexec_fn=lambda: os.setpgid(0, 0), stdout=s.DEVNULL); print(p.wait())
p = s.Popen(["sh", "-c", "umask"], umask=0o77, stdout=s.PIPE); print(p.communicate()[0])
a = s.Popen(["seq", "1000"], stdout=s.PIPE); b = s.Popen(["wc", "-l"], stdin=a.stdout, stdout=s.PIPE); a.stdout.close(); print(b.communicate()[0], a.wait())
many = [s.Popen(["sh", "-c", f"exit {i}"]) for i in range(20)]; print([p.wait() for p in many])
print(os.waitstatus_to_exitcode(os.system("exit 5")), os.popen("echo popen").read())
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 6"], os.environ); print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
try: os.posix_spawn("/no/such", ["x"], {})
except FileNotFoundError as e: print(e)
with tempfile.TemporaryFile() as f: s.run(["echo", "file"], stdout=f); f.seek(0); print(f.read())
END
status=$?; echo "status $status"
exit $status
