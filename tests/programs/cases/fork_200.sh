# 200 forks, one after the other, leave the number of descriptors, as seen from inside and from
# outside, and the resident memory as they were.
# sandbox: prefixed
# needs: /usr/bin/python3
cat >"$HOME/f.py" <<'END'
import os, sys
def forks(n):
    for _ in range(n):
        if (p := os.fork()) == 0: os._exit(0)
        os.waitpid(p, 0)
forks(10); inside = len(os.listdir("/proc/self/fd")); print("warm", flush=True); sys.stdin.readline()
forks(200); print(len(os.listdir("/proc/self/fd")) - inside, "more descriptors inside"); print("done", flush=True); sys.stdin.readline()
END
mkfifo "$HOME/in" "$HOME/out"; $RUN /usr/bin/python3 "$HOME/f.py" <"$HOME/in" >"$HOME/out" & pid=$!
exec 5>"$HOME/in" 6<"$HOME/out"
descriptors() { find /proc/$pid/fd -mindepth 1 2>/dev/null | wc -l; }
resident() { awk '/^VmRSS/ { print $2 }' /proc/$pid/status; }
threads() { find /proc/$pid/task -mindepth 1 -maxdepth 1 | wc -l; }
children() { cat /proc/$pid/task/*/children | wc -w; }
read -r line <&6; echo "$line"; d=$(descriptors) r=$(resident) t=$(threads) c=$(children); echo >&5
read -r line <&6; echo "$line"; read -r line <&6; echo "$line"
echo "$(($(descriptors) - d)) more descriptors outside, $(($(threads) - t)) more threads, $(($(children) - c)) more children"
(($(resident) < r + 8192)) && echo 'memory is bounded' || echo "memory grew from $r to $(resident) KiB"
echo >&5; exec 5>&-; wait $pid; echo "status $?"
