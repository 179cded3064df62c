# Job control without a terminal: process groups, stop, continue, fg, bg, disown, wait -n.
# sandbox: whole
exec 2>&1
group() { read -r _ _ _ _ pgrp _ < <(sed 's/(.*)/x/' "/proc/$1/stat"); echo "$pgrp"; }
state() { sed -n 's/^State:\t//p' "/proc/$1/status"; }
until_state() { for _ in {1..100}; do [[ $(state "$1") == "$2"* ]] && break; sleep 0.02; done; state "$1"; }
sleep 20 & plain=$!
[[ $(group $plain) == "$(group $$)" ]] && echo 'same group without job control'
kill $plain; wait $plain; echo "killed $?"
set -m
sleep 20 & job=$!
read -r _ _ _ _ pgrp _ < <(sed 's/(.*)/x/' /proc/$job/stat)
[[ $pgrp == "$job" ]] && echo 'its own group'
kill -STOP %1; until_state $job T; jobs
kill -CONT %1; until_state $job S; jobs -r | sed 's/ &$//'
kill -STOP %1; until_state $job T; bg %1; until_state $job S
sleep 20 | sleep 20 & pair=$!
jobs | wc -l
kill -TERM -- "-$(group $pair)"; wait $pair; echo "pair $?"
kill %1; wait $job; echo "job $?"
jobs
(exit 7) & (sleep 0.3; exit 8) & wait -n; echo "first $?"; wait -n; echo "second $?"
sleep 0.2 & fg %+ ; echo "fg $?"
sleep 20 & disown $!; jobs; kill -KILL $!
# Under job control 'wait' may still report the stop, so without.
set +m
bash -c 'kill -STOP $$; echo continued' & stopped=$!
until_state $stopped T; kill -CONT $stopped; wait $stopped; echo "status $?"
setsid bash -c '[[ $(ps -o sid= -p $$ | tr -d " ") == $$ ]] && echo "a session leader"'
