#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# Servers that are replaced while clients use them, under tas-run: as they are,
# under tas-run without a service and with one, no more is lost than on plain
# Linux: nothing.
#
#   peer                                server
#   10.9.0.1                            10.9.0.2 on s0 (no service), then on tas0
#   p0 ================ veth ========== s0
#   requests, writers.py                nginx, redis-server
#
# nginx reloads its configuration and is replaced by another binary; what counts
# as lost says requests.c. redis-server is ended and started again on its port;
# lost would be a write that it had acknowledged.
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh && . ./run.sh

# started LOG CMD...: under tas-run, but on plain Linux
started() {
	if [ $STACK = linux ]; then bg_server "$@"; else run_server "$@"; fi
}
# share NAME LOG MIN
share() { [ $STACK = linux ] || check_offloaded "$@"; }

# ---- nginx -----------------------------------------------------------------------

# For the new binary nginx makes an environment anew, of what it is told to keep.
nginx_config() {
	mkdir -p "$TB_DIR/ngx"
	cat >"$TB_DIR/nginx.conf" <<-END
	worker_processes 4;
	user root;
	pid $TB_DIR/ngx/pid;
	error_log $TB_DIR/ngx/error.log;
	env LD_PRELOAD;
	env XTS_REPORT;
	events { worker_connections 512; accept_mutex off; }
	http {
		access_log off;
		sendfile on;
		client_body_temp_path $TB_DIR/ngx/body;
		proxy_temp_path $TB_DIR/ngx/proxy;
		fastcgi_temp_path $TB_DIR/ngx/fastcgi;
		uwsgi_temp_path $TB_DIR/ngx/uwsgi;
		scgi_temp_path $TB_DIR/ngx/scgi;
		server {
			listen $SERVER4:80;
			root $TB_DIR/www;
			keepalive_requests 100;
		}
	}
	END
}

# The processes below one; a second master is, too, while it is new.
below() { pgrep -P "$1" | sort; }
# A daemon: maybe nobody waits for it. Its children have another parent then,
# without which a second master takes no orders.
ended() { ! grep -qs '^State:[[:space:]]*[^[:space:]ZX]' "/proc/$1/status"; }
all_new() {
	local now
	now=$(below $1)
	[ "$(wc -l <<<"$now")" = 4 ] &&
		[ -z "$(comm -12 <(echo "$2") <(echo "$now"))" ]
}
# It is over when the last of the old workers has served its last request.
reload() {
	local old
	old=$(below $NGINX)
	kill -HUP $NGINX && wait_for 20 all_new $NGINX "$old"
}
serves() { [ "$(below "$(cat "$1")" | wc -l)" = 4 ]; }

# As nginx's manual has it: a second master, the first one's workers end, the
# first ends.
upgrade() {
	local first=$NGINX
	kill -USR2 $first
	wait_for 20 test -e "$TB_DIR/ngx/pid.oldbin" || return 1
	wait_for 20 serves "$TB_DIR/ngx/pid" || return 1
	NGINX=$(cat "$TB_DIR/ngx/pid")
	testbed_own $NGINX
	kill -WINCH $first
	wait_for 20 only_master $first || return 1
	kill -QUIT $first && wait_for 20 ended $first
}
only_master() { [ "$(below $1)" = $NGINX ]; }

nginx_starts() {
	rm -f "$TB_DIR/ngx/pid"
	started nginx "$(command -v nginx)" -c "$TB_DIR/nginx.conf"
	reap $BG_PID && wait_for 20 serves "$TB_DIR/ngx/pid" || return 1
	NGINX=$(cat "$TB_DIR/ngx/pid")
	testbed_own $NGINX
}

nginx_load() {
	bg_peer load "$BIN/requests" $SERVER4 80 6 3 \
		/small="$TB_DIR/www/small" /large="$TB_DIR/www/large"
	LOAD=$BG_PID
	sleep 0.3
}
# nothing_lost NAME: to the end of the load
nothing_lost() {
	sleep 0.3
	kill $LOAD
	check_wait "$1: no request is lost [$STACK]" $LOAD load
	check_ge "$1: they were many [$STACK]" "$(value asked "$TB_DIR/load")" 300
	figure "[$STACK] $1: $(cat "$TB_DIR/load")"
}

nginx_runs() {
	nginx_config
	if ! nginx_starts; then
		not_ok "nginx starts [$STACK]"
		note <"$TB_DIR/ngx/error.log"
		return
	fi
	nginx_load
	local i last before=$FAILED
	for i in 1 2 3; do check "reload $i [$STACK]" reload; done
	nothing_lost "nginx reloads"
	nginx_load
	for i in 1 2; do
		# check would keep the new one's pid to itself
		if upgrade; then
			ok "new binary $i [$STACK]"
		else
			not_ok "new binary $i [$STACK]"
		fi
	done
	nothing_lost "nginx is replaced"
	[ $before = "$FAILED" ] || note <"$TB_DIR/ngx/error.log"
	last=$(below $NGINX)
	kill -QUIT $NGINX
	check "it ends [$STACK]" wait_for 20 ended $NGINX
	share "nginx [$STACK]" nginx 300
	[ $STACK != tas-xdp ] || check_ge "also by the last binary [$STACK]" \
		"$(offloaded_by $last)" 20
}
# offloaded_by PID...: connections of nginx's workers
offloaded_by() {
	local pid
	for pid in "$@"; do grep "^pid=$pid " "$TB_DIR/nginx.report"; done |
		grep -oE 'offloaded=[0-9]+' | cut -d= -f2 |
		awk '{ n += $1 } END { print n + 0 }'
}

# ---- redis -----------------------------------------------------------------------

# Clients that write one key after another, one at a time or 8 in a row, and
# connect again when the server is gone. When told to end they say which writes
# were acknowledged.
WRITERS='
import select, signal, socket, sys, threading, time
over = threading.Event()
signal.signal(signal.SIGTERM, lambda *args: over.set())
lock, acked, ends, failed = threading.Lock(), [], [0], []
def key(n, i):
    return b"w%d.%d" % (n, i)
def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(
        b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
def connect():
    end = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection((sys.argv[1], 6379), 20)
        except ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
def client(n):
    row, i = (1 if n < 4 else 8), 0
    while not over.is_set():
        with connect() as s:
            f = s.makefile("rb")
            try:
                while not over.is_set():
                    s.sendall(b"".join(command(b"SET", key(n, j), b"v%d" % j)
                                       for j in range(i, i + row)))
                    for j in range(i, i + row):
                        line = f.readline()
                        if line.startswith(b"-LOADING") or not line:
                            raise ConnectionError
                        if line != b"+OK\r\n":
                            raise ValueError(line)
                        with lock:
                            acked.append((n, j))
                    i += row
            except ConnectionError:
                ends[0] += 1
                i += row
def run(n):
    try:
        client(n)
    except Exception as e:
        failed.append(repr(e))
threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
for t in threads: t.start()
while not over.is_set():
    over.wait(0.1)
for t in threads: t.join()
with connect() as s:
    f = s.makefile("rb")
    lost = 0
    for at in range(0, len(acked), 500):
        some = acked[at:at + 500]
        s.sendall(command(b"MGET", *[key(n, j) for n, j in some]))
        if f.readline() != b"*%d\r\n" % len(some):
            sys.exit("no answer")
        for n, j in some:
            if f.readline() == b"$-1\r\n" or f.readline() != b"v%d\r\n" % j:
                lost += 1
print("acknowledged=%d ends=%d lost=%d" % (len(acked), ends[0], lost))
if failed: print(failed, file=sys.stderr)
sys.exit(lost != 0 or len(failed) != 0)
'

redis_starts() {
	started redis redis-server --port 6379 --bind $SERVER4 \
		--dir "$TB_DIR/data-$STACK" --protected-mode no --save '' \
		--appendonly yes --appendfsync always
	REDIS=$BG_PID
}
redis_answers() { in_peer redis-cli -h $SERVER4 ping | grep -q PONG; }

redis_runs() {
	local i load
	mkdir -p "$TB_DIR/data-$STACK"
	redis_starts
	wait_for 20 redis_answers
	bg_peer writers "$PYTHON" -c "$WRITERS" $SERVER4
	load=$BG_PID
	for i in 1 2 3; do
		sleep 0.4
		end $REDIS
		check_eq "redis ends, $i [$STACK]" $? 0
		share "redis $i [$STACK]" redis 8
		redis_starts
		check "and answers again [$STACK]" wait_for 20 redis_answers
	done
	sleep 0.4
	kill $load
	check_wait "no acknowledged write is lost [$STACK]" $load writers
	check_ge "they were many [$STACK]" \
		"$(value acknowledged "$TB_DIR/writers")" 300
	check_ge "each client saw its connections end [$STACK]" \
		"$(value ends "$TB_DIR/writers")" 24
	figure "[$STACK] redis is restarted: $(cat "$TB_DIR/writers")"
	end $REDIS
}

run_all() {
	local one
	for one in $WHICH; do $one; done
}
# or the names of some of these
WHICH=${*:-nginx_runs redis_runs}

testbed_up 1
mkdir -p "$TB_DIR/www"
head -c 1000 /dev/urandom >"$TB_DIR/www/small"
head -c 200000 /dev/urandom >"$TB_DIR/www/large"
server_address_kernel
base_ruleset || exit 1
for STACK in linux kernel; do run_all; done
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
