# An interactive bash on a terminal: line editing, ^C, ^Z, fg, window size, no echo. tmux is
# outside; the screens are compared. Each prompt has a number to wait for, and what is to be
# interrupted says "ready" first, so that no key comes too early.
# sandbox: prefixed
# needs: tmux
t() { tmux -S "$HOME/t" -f /dev/null "$@"; }
export SHELL=/bin/sh PS1='\#$ ' HISTFILE=
trap 't kill-server 2>/dev/null' EXIT
screen() { t capture-pane -p -S - | sed '/^$/d'; }
# await TEXT: until the last line that is not empty is TEXT.
await() { for _ in {1..200}; do [[ $(screen | tail -n 1) == "$1" ]] && return; sleep 0.05; done; echo "no '$1'"; }
say() { t send-keys -l "$1"; t send-keys Enter; }
t new-session -d -x 80 -y 50 "$RUN /bin/bash --norc --noprofile -i; echo \"ended \$?\"; sleep 30"
await '1$'
say 'echo typed | tr a-z A-Z'; await '2$'
t send-keys -l 'echo wrogn'; t send-keys BSpace BSpace; t send-keys -l 'ng'; t send-keys C-a; t send-keys -l ': ; '; t send-keys Enter; await '3$'
say 'sh -c "echo ready; exec sleep 50"'; await ready; t send-keys C-c; await '4$'; say 'echo status $?'; await '5$'
say 'sh -c "echo ready; exec sleep 51"'; await ready; t send-keys C-z; await '6$'; say jobs; await '7$'
say fg; await 'sh -c "echo ready; exec sleep 51"'; t send-keys C-c; await '8$'
say 'echo ready; cat'; await ready; say 'line'; await line; t send-keys C-d; await '9$'
say 'stty size; tty | cut -c 1-8; test -t 0 && echo terminal'; await '10$'
say 'stty -echo; echo ready; read -r x; stty echo; echo "read $x"'; await ready; say 'hidden'; await '11$'
say 'sh -c "echo ready; exec sleep 52" | cat'; await ready; t send-keys 'C-\'; await '12$'
say 'trap "echo resized" WINCH'; await '13$'; t resize-window -x 60 -y 50; await '13$ resized'; say 'stty size'; await '14$'
say 'busy() { while :; do :; done; }; echo ready; busy'; await ready; t send-keys C-c; await '15$'
t send-keys Up; await '15$ busy() { while :; do :; done; }; echo ready; busy'; t send-keys C-u; await '15$'
say 'kill %1; exit 3'; await 'ended 3'
screen
