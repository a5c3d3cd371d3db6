#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# Debian's programs under tas-run, as servers and as clients: with a service,
# and without.
#
#   peer                                server
#   10.9.0.1                            10.9.0.2 on s0 (no service), then on tas0
#   p0 ================ veth ========== s0
#   clients, servers of Linux's         tas-run PROGRAM
#
# memcached waits in an epoll for each thread, nginx in one for each process,
# python3's http.server in poll(), curl and iperf3 in poll() and select().
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh && . ./run.sh

http_answers() { in_peer curl -sf -o /dev/null "http://$1/"; }

# ---- memcached -------------------------------------------------------------------

# 8 clients at a time: what was set is what is got
MEMCACHED_CLIENTS='
import socket, threading, sys
bad = []
def client(n):
    s = socket.create_connection((sys.argv[1], 11211), 20)
    f = s.makefile("rb")
    for i in range(400):
        value = (b"%d:%d " % (n, i)) * (1 + (i * 37) % 2000)
        s.sendall(b"set k%d.%d 0 0 %d\r\n%s\r\n" % (n, i % 50, len(value), value))
        if f.readline() != b"STORED\r\n":
            bad.append("stored")
        s.sendall(b"get k%d.%d\r\n" % (n, i % 50))
        head = f.readline().split()
        if len(head) < 4 or f.read(int(head[3])) != value:
            bad.append("value"); return
        f.readline(), f.readline()
threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
sys.exit(len(bad) != 0)
'
memcached_keeps() {
	in_peer timeout 60 "$PYTHON" -c "$MEMCACHED_CLIENTS" $SERVER4
}
memcached_keeps_ours() {
	in_run memcachedc timeout 60 "$PYTHON" -c "$MEMCACHED_CLIENTS" $PEER4
}

memcached_runs() {
	run_server memcached memcached -u root -l $SERVER4 -p 11211 -t 4
	local pid=$BG_PID
	wait_for 10 in_peer bash -c ">/dev/tcp/$SERVER4/11211"
	check "memcached keeps what it is given [$STACK]" memcached_keeps
	end $pid
	check_offloaded "memcached [$STACK]" memcached 8
	bg_peer memcached memcached -u root -l $PEER4 -p 11211 -t 2
	pid=$BG_PID
	wait_for 10 in_peer bash -c ">/dev/tcp/$PEER4/11211"
	check "8 threads of a client [$STACK]" memcached_keeps_ours
	check_offloaded "memcached's clients [$STACK]" memcachedc 8
	end $pid
}

# ---- nginx -----------------------------------------------------------------------

nginx_config() {
	mkdir -p "$TB_DIR/ngx"
	cat >"$TB_DIR/nginx.conf" <<-END
	worker_processes 4;
	daemon off;
	user root;
	pid $TB_DIR/ngx/pid;
	error_log $TB_DIR/ngx/error.log;
	events { worker_connections 512; accept_mutex off; }
	http {
		access_log off;
		sendfile $1;
		client_body_temp_path $TB_DIR/ngx/body;
		proxy_temp_path $TB_DIR/ngx/proxy;
		fastcgi_temp_path $TB_DIR/ngx/fastcgi;
		uwsgi_temp_path $TB_DIR/ngx/uwsgi;
		scgi_temp_path $TB_DIR/ngx/scgi;
		server {
			listen $SERVER4:80;
			root $TB_DIR/www;
			location /far/ { proxy_pass http://$PEER4:8080/; }
		}
	}
	END
}

# serves PORT: 8 clients, each with several requests: by one connection, if the
# server keeps it
serves() {
	local i pids=() status=0
	for i in 1 2 3 4 5 6 7 8; do
		in_peer curl -sf --max-time 60 -o "$TB_DIR/got-$i-#1" \
			"http://$SERVER4:$1/{small,large,index.html}" &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || status=1; done
	for i in 1 2 3 4 5 6 7 8; do
		cmp "$TB_DIR/got-$i-small" "$TB_DIR/www/small" &&
			cmp "$TB_DIR/got-$i-large" "$TB_DIR/www/large" ||
			status=1
	done
	rm -f "$TB_DIR"/got-*
	return $status
}
# Short connections, one after another
nginx_serves_many() {
	in_peer timeout 60 "$PYTHON" - <<-'END'
	import socket, sys
	for i in range(300):
	    s = socket.create_connection(('10.9.0.2', 80), 20)
	    s.sendall(b'GET /small HTTP/1.0\r\n\r\n')
	    got = b''
	    while part := s.recv(65536):
	        got += part
	    if len(got.split(b'\r\n\r\n', 1)[1]) != 1024:
	        sys.exit('short answer')
	END
}
nginx_proxies() {
	in_peer curl -sf --max-time 30 -o "$TB_DIR/got" "http://$SERVER4/far/large" &&
		cmp "$TB_DIR/got" "$TB_DIR/www/large"
}
workers() { pgrep -P "$1" | sort; }
reloaded() { [ "$(workers "$1")" != "$2" ] && [ "$(workers "$1" | wc -l)" = 4 ]; }

nginx_runs() {
	local old
	nginx_config "$1"
	run_server nginx nginx -c "$TB_DIR/nginx.conf"
	local pid=$BG_PID
	check "nginx answers [$STACK]" wait_for 10 http_answers $SERVER4:80
	check "nginx, 4 workers, sendfile $1: files arrive unaltered [$STACK]" \
		serves 80
	check "300 short connections [$STACK]" nginx_serves_many
	bg_peer far "$PYTHON" -m http.server -d "$TB_DIR/www" 8080
	local far=$BG_PID
	wait_for 10 in_peer curl -sf -o /dev/null http://$PEER4:8080/
	check "what it gets from elsewhere, too [$STACK]" nginx_proxies
	end $far
	old=$(workers $pid)
	kill -HUP $pid
	check "a reload brings 4 new workers [$STACK]" wait_for 15 \
		reloaded $pid "$old"
	check "which serve [$STACK]" serves 80
	end $pid QUIT
	# the short ones may be over before the service has decided
	check_offloaded "nginx [$STACK]" nginx 319 300
}

# ---- python3 ---------------------------------------------------------------------

# As python3 -m http.server, but for SIGTERM, which makes it exit: its counts
# are written then.
ENDS_WELL='
import runpy, signal, sys
signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))
runpy.run_module("http.server", run_name="__main__")
'

python_runs() {
	run_server http "$PYTHON" -c "$ENDS_WELL" -d "$TB_DIR/www" -b $SERVER4 8000
	local pid=$BG_PID
	check "python3's http.server answers [$STACK]" wait_for 10 \
		http_answers $SERVER4:8000
	check "its threads serve 8 at a time [$STACK]" serves 8000
	end $pid
	check_offloaded "http.server [$STACK]" http 25
}

# ---- curl ------------------------------------------------------------------------

curl_gets() {
	in_run curl curl -sf --max-time 30 -o "$TB_DIR/got-#1" \
		"http://$PEER4:8080/{small,large}" &&
		cmp "$TB_DIR/got-small" "$TB_DIR/www/small" &&
		cmp "$TB_DIR/got-large" "$TB_DIR/www/large"
}
curl_runs() {
	bg_peer far "$PYTHON" -m http.server -d "$TB_DIR/www" 8080
	local far=$BG_PID
	wait_for 10 in_peer curl -sf -o /dev/null http://$PEER4:8080/
	check "curl gets what is there [$STACK]" curl_gets
	check_offloaded "curl [$STACK]" curl 1
	end $far
}

# ---- iperf3 ----------------------------------------------------------------------

iperf() {
	in_peer timeout 60 iperf3 -c $SERVER4 -p 5201 -J "$@" >"$TB_DIR/iperf.json" &&
		python3 - "$TB_DIR/iperf.json" "$STACK" "$*" <<-'END'
	import json, sys
	end = json.load(open(sys.argv[1]))['end']
	print('# figure: [%s] iperf3 %s: %.2f Gbit/s' % (sys.argv[2], sys.argv[3],
	      end['sum_received']['bits_per_second'] / 1e9), file=sys.stderr)
	sys.exit(end['sum_received']['bytes'] == 0)
	END
}
iperf_client() {
	in_run iperfc timeout 60 iperf3 -c $PEER4 -p 5202 -t 1 "$@"
}
listening() { grep -q listening "$TB_DIR/$1"; }
iperf_runs() {
	run_server iperf iperf3 -s -B $SERVER4 -p 5201 --forceflush
	local pid=$BG_PID
	wait_for 10 listening iperf
	check "iperf3 to it [$STACK]" iperf -t 1
	check "iperf3 from it [$STACK]" iperf -t 1 -R
	check "iperf3, 4 streams both ways [$STACK]" iperf -t 1 -P 4 --bidir
	end $pid
	check_offloaded "iperf3 [$STACK]" iperf 12
	bg_peer iperfs iperf3 -s -B $PEER4 -p 5202 --forceflush
	pid=$BG_PID
	wait_for 10 listening iperfs
	check "iperf3 as client [$STACK]" iperf_client
	check "and the other way [$STACK]" iperf_client -R
	check_offloaded "iperf3 as client [$STACK]" iperfc 2
	end $pid
}

run_all() {
	local one
	for one in $WHICH; do $one; done
}
nginx_sendfile() { nginx_runs on; }
nginx_copies() { nginx_runs off; }
# or the names of some of these
WHICH=${*:-memcached_runs nginx_sendfile nginx_copies python_runs curl_runs
	iperf_runs}

testbed_up 1
mkdir -p "$TB_DIR/www"
head -c 1024 /dev/urandom >"$TB_DIR/www/small"
head -c 8000000 /dev/urandom >"$TB_DIR/www/large"
echo hello >"$TB_DIR/www/index.html"
server_address_kernel
base_ruleset || exit 1
STACK=kernel
run_all
check_no_invalid "kernel"
server_address_none
STACK=tas-xdp
stack_start
run_all
check_no_invalid
wait_for 20 server_has_no_sockets
check_eq "no socket is left" "$(server_sockets)" 0
daemon_stop
check_eq "the service stops" $? 0
finish
