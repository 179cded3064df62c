# An interactive bash on a terminal: line editing, ^C, ^Z, fg, window size, no echo. tmux is
# outside; the screens are compared.
# sandbox: prefixed
# needs: tmux
t() { tmux -S "$HOME/t" -f /dev/null "$@"; }
export SHELL=/bin/sh PS1='$ ' HISTFILE=
trap 't kill-server 2>/dev/null' EXIT
screen() { t capture-pane -p | sed '/^$/d'; }
# await TEXT: until the last line that is not empty is TEXT.
await() { for _ in {1..100}; do [[ $(screen | tail -n 1) == "$1" ]] && return; sleep 0.05; done; echo "no '$1'"; }
say() { t send-keys -l "$1"; t send-keys Enter; }
t new-session -d -x 80 -y 40 "$RUN /bin/bash --norc --noprofile -i; echo \"ended \$?\"; sleep 30"
await '$'
say 'echo typed | tr a-z A-Z'; sleep 0.3; await '$'
t send-keys -l 'echo wrogn'; t send-keys BSpace BSpace; t send-keys -l 'ng'; t send-keys C-a; t send-keys -l ': ; '; t send-keys Enter; sleep 0.3; await '$'
say 'sleep 50'; sleep 0.5; t send-keys C-c; await '$'; say 'echo status $?'; sleep 0.3; await '$'
say 'sleep 51'; sleep 0.5; t send-keys C-z; await '$'; say jobs; sleep 0.3; await '$'
say 'fg'; sleep 0.4; t send-keys C-c; await '$'
say 'cat'; sleep 0.3; say 'line'; sleep 0.3; t send-keys C-d; await '$'
say 'stty size; tty | cut -c 1-8; test -t 0 && echo terminal'; sleep 0.3; await '$'
say 'stty -echo; read -r x; stty echo; echo "read $x"'; sleep 0.3; say 'hidden'; sleep 0.3; await '$'
say 'sleep 52 | cat'; sleep 0.4; t send-keys 'C-\'; sleep 0.3; await '$'
say 'trap "echo resized" WINCH'; t resize-window -x 60 -y 40; sleep 0.3; say 'stty size'; sleep 0.3; await '$'
say 'busy() { while :; do :; done; }; busy'; sleep 0.3; t send-keys C-c; await '$'
t send-keys Up; sleep 0.2; t send-keys C-u; say 'kill %1; exit 3'; sleep 0.5; await 'ended 3'
screen
