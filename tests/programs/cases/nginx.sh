# Master and two workers on a loopback port, curl, wrk, reload, quit.
# sandbox: prefixed
# needs: nginx curl wrk
port=$((20000 + $$ % 10000)); umask 022; mkdir html tmp; chmod 711 . ..; seq 20000 >html/big.txt; echo '<h1>hello</h1>' >html/index.html
cat >"$HOME/nginx.conf" <<END
user $(id -un); worker_processes 2; daemon off; pid $HOME/nginx.pid; error_log $HOME/error.log;
events { worker_connections 64; }
http { access_log off; sendfile on; client_body_temp_path $PWD/tmp/a; proxy_temp_path $PWD/tmp/b; fastcgi_temp_path $PWD/tmp/c; uwsgi_temp_path $PWD/tmp/d; scgi_temp_path $PWD/tmp/e;
  server { listen 127.0.0.1:$port; root $PWD/html; location /gz { gzip on; gzip_types *; alias $PWD/html/; } location /back { proxy_pass http://127.0.0.1:$port/; } } }
END
$RUN /usr/sbin/nginx -p "$PWD" -c "$HOME/nginx.conf" & server=$!
for _ in {1..200}; do curl -s -o /dev/null "127.0.0.1:$port/" && break; sleep 0.05; done
url=http://127.0.0.1:$port
curl -s $url/; $RUN /usr/bin/curl -s $url/big.txt | sha256sum; curl -s -o /dev/null -w '%{http_code}\n' $url/missing; curl -s --compressed $url/gz/big.txt | md5sum
curl -s -r 10-19 $url/big.txt | od -c | head -n 2; curl -s -I $url/big.txt | grep -i content-length; curl -s $url/back
$RUN /usr/bin/wrk -t 2 -c 8 -d 1 $url/ >"$HOME/wrk"; echo "wrk $?"; grep -c 'requests in' "$HOME/wrk"; grep -E 'Non-2xx|Socket errors' "$HOME/wrk"
kill -HUP $server; sleep 0.5; curl -s $url/
kill -QUIT $server; wait $server; echo "server $?"; grep -E 'alert|emerg|crit' "$HOME/error.log"; rm -rf tmp
