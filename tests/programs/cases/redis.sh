# A server on a unix socket; background save forks.
# sandbox: prefixed
# needs: redis-server redis-cli redis-benchmark
# not compared: ./dump.rdb
$RUN /usr/bin/redis-server --port 0 --unixsocket "$PWD/s" --save '' --dir "$PWD" --logfile "$HOME/log" --appendonly no & server=$!
for _ in {1..200}; do [[ -S s ]] && break; sleep 0.05; done
cli() { $RUN /usr/bin/redis-cli -s "$PWD/s" "$@"; }
cli ping; cli set key value; cli get key; cli incrby n 41; cli incr n; cli rpush list a b c; cli lrange list 0 -1
cli eval 'local s = 0; for i = 1, 1000 do s = s + i end; return s' 0
$RUN /usr/bin/redis-benchmark -s "$PWD/s" -n 2000 -c 10 -P 4 -t set,get,incr,lpush,mset --csv | cut -d, -f1
cli bgsave; for _ in {1..100}; do cli info persistence | grep -q rdb_bgsave_in_progress:0 && break; done
cli info persistence | tr -d '\r' | grep -E 'rdb_last_bgsave_status|rdb_bgsave_in'; cli dbsize; cli get counter:__rand_int__ | sed 's/..*/some/'
[[ -s dump.rdb ]] && echo saved
cli shutdown nosave; wait $server; echo "server $?"
