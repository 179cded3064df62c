# 64 threads, created and joined several times, leave the number of descriptors, as seen from inside
# and from outside, and the resident memory as they were after the first time.
# sandbox: prefixed
# needs: /usr/bin/python3
cat >"$HOME/f.py" <<'END'
import os, sys, threading
def threads(rounds):
    for _ in range(rounds):
        barrier = threading.Barrier(64); all = [threading.Thread(target=barrier.wait) for _ in range(64)]
        [t.start() for t in all]; [t.join() for t in all]
threads(2); inside = len(os.listdir("/proc/self/fd")); print("warm", flush=True); sys.stdin.readline()
threads(8); print(len(os.listdir("/proc/self/fd")) - inside, "more descriptors inside"); print("done", flush=True); sys.stdin.readline()
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
(($(resident) < r + 16384)) && echo 'memory is bounded' || echo "memory grew from $r to $(resident) KiB"
echo >&5; exec 5>&-; wait $pid; echo "status $?"
