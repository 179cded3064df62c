# kill -9 of the monitor ends everything that ran in it: children, grandchildren, those of other
# sessions, stopped ones, those that ignore every signal, those that loop.
# sandbox: prefixed
# needs: setsid /usr/bin/python3
cat >"$HOME/tree" <<'END'
trap '' HUP TERM INT
note() { echo "$BASHPID" >>pids; }
(note; (note; sleep 300 & echo $! >>pids; sleep 300) & sleep 300) &
setsid bash -c 'trap "" HUP TERM; echo $$ >>pids; (echo $BASHPID >>pids; while :; do :; done) & sleep 300' &
setsid -f bash -c 'echo $$ >>pids; kill -STOP $$' &
/usr/bin/python3 -c 'import os, threading, time; [threading.Thread(target=time.sleep, args=(300,)).start() for _ in range(4)]; open("pids", "a").write(f"{os.getpid()}\n")' &
note; sleep 300
END
if [[ -z $RUN ]]; then echo '8 processes or more'; echo 'nothing left'; exit 0; fi
descendants() { local c; for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do echo "$c"; descendants "$c"; done; }
$RUN /bin/bash "$HOME/tree" & monitor=$!
for _ in {1..150}; do [[ -f pids && $(wc -l <pids) -ge 8 ]] && break; sleep 0.1; done
all=$(descendants $monitor; cat pids); (($(sort -u <<<"$all" | wc -l) >= 8)) && echo '8 processes or more' || cat pids
kill -KILL $monitor; wait $monitor 2>/dev/null
for _ in {1..20}; do
  left=; for p in $(sort -u <<<"$all"); do [[ -d /proc/$p && $(sed -n 's/^State:\t//p' /proc/$p/status 2>/dev/null) != [ZX]* ]] && left+=" $p"; done
  [[ -z $left ]] && break; sleep 0.1
done
if [[ -z $left ]]; then echo 'nothing left'; else
  echo 'left after 2 s:'; for p in $left; do echo "$p $(tr '\0' ' ' <"/proc/$p/cmdline") $(grep State "/proc/$p/status")"; kill -KILL "$p"; done
fi
rm -f pids
