# Traps: EXIT, ERR, DEBUG, RETURN, signals, ignored signals, inheritance, death by signal.
# sandbox: whole
trap 'echo got USR1' USR1
trap 'echo got USR2; kill -USR1 $$' USR2
kill -USR1 $$; kill -USR2 $$
(trap 'echo subshell exit' EXIT; exit 4); echo "status $?"
trap '' TERM; kill -TERM $$; echo 'TERM ignored'
bash -c 'kill -TERM $$; echo "ignored in the child too"'
trap - TERM
bash -c 'kill -TERM $$; echo never'; echo "died $?"
bash -c 'kill -SEGV $$'; echo "died $?"
bash -c 'trap "echo chld" CHLD; /bin/true; /bin/false; wait' | sort
bash -c 'trap "echo interrupted; exit 9" INT; kill -INT $$; sleep 5'; echo "status $?"
bash -c 'trap "echo alarm" ALRM; (sleep 0.1; kill -ALRM $$) & wait $!; echo "wait gave $?"; wait'
(set -E; trap 'echo "ERR $?"' ERR; f() { false; }; f; (exit 6); true)
g() { trap 'echo RETURN' RETURN; }; g
bash -c 'trap "echo usr1" USR1; sleep 0.5 & child=$!; (sleep 0.1; kill -USR1 $$) & wait $child; echo "first $?"; wait $child; echo "second $?"'
bash -c 'for s in HUP INT QUIT PIPE ALRM TERM USR1 USR2 RTMIN RTMAX; do trap "echo $s" $s; done; for s in HUP INT QUIT PIPE ALRM TERM USR1 USR2 RTMIN RTMAX; do kill -$s $$; done'
bash -c 'sleep 30 & p=$!; kill -STOP $p; kill -KILL $p; wait $p; echo "stopped and killed $?"' 2>/dev/null
timeout 0.2 sleep 10; echo "timeout $?"
timeout -s KILL 0.2 sleep 10; echo "timeout $?"
timeout --preserve-status -s USR1 0.2 sleep 10; echo "timeout $?"
trap 'echo "exit trap $?"' EXIT
exit 0
