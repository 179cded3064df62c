# Pipelines of many processes, process substitution, coprocesses, named pipes.
# sandbox: whole
seq 1 20000 | grep 7 | sort -rn | head -n 5
true | false | (exit 3) | cat; echo "statuses ${PIPESTATUS[*]}"
yes | head -n 2; echo "statuses ${PIPESTATUS[*]}"
set -o pipefail
(exit 5) | cat; echo "pipefail $?"
set +o pipefail
diff <(seq 5) <(seq 2 6)
seq 100 | tee >(wc -l >lines) | awk '{ sum += $1 } END { print sum }'
until [[ -s lines ]]; do sleep 0.01; done
mkfifo fifo
seq 1000 | sha256sum >fifo & cat <fifo; wait
coproc ADD { while read -r a b; do echo $((a + b)); done; }
echo 20 22 >&"${ADD[1]}"; read -r answer <&"${ADD[0]}"; echo "coprocess $answer"
exec {fd}>&"${ADD[1]}"; eval "exec ${ADD[1]}>&- $fd>&-"; wait
echo "$(echo "$(echo "$(echo nested)")")"
for i in {1..30}; do echo "$i" | cat | cat; done | md5sum
head -c 3000000 /dev/zero | tr '\0' x | cat | cat | wc -c
{ echo out; echo err >&2; } 2>&1 >separate | sed 's/^/piped /'
printf '%s\n' {a..e} | while read -r letter; do printf '<%s>' "$letter"; done; echo
lastpipe=0; printf '1\n2\n' | { while read -r n; do lastpipe=$n; done; echo "in $lastpipe"; }; echo "after $lastpipe"
find . -type f | sort | xargs -n 1 -P 2 wc -c | sort
