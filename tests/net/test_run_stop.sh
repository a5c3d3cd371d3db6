#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 is a word
#
# The service stops, and another one is started, under unmodified programs that
# are busy: nobody notices.
#
#   peer                                server
#   10.9.0.1                            10.9.0.2 on tas0
#   p0 ================ veth ========== s0
#   redis-benchmark, redis-cli, curl,   tas-run redis-server, python3 (threads;
#   an http server                      calls.py), curl
set -u
cd "$(dirname "$0")" && . ./lib.sh && . ./run.sh
CALLS=$LIB_DIR/calls.py
is_tas || { skip "stop" "only where there is a service"; exit 0; }

cli() { in_peer timeout 30 redis-cli -h $SERVER4 "$@"; }
port_open() { in_peer bash -c ">/dev/tcp/$SERVER4/$1"; }
peer_port_open() { in_server bash -c ">/dev/tcp/$PEER4/$1"; }

# One that ends by itself when it is told to, and so reports
WEB_SERVER='
import runpy, signal, sys
signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))
runpy.run_module("http.server", run_name="__main__")
'

begin() {
	run_server redis redis-server --bind $SERVER4 --dir "$TB_DIR" \
		--protected-mode no --save ''
	REDIS=$BG_PID
	run_server web "$PYTHON" -c "$WEB_SERVER" -b $SERVER4 \
		-d "$TB_DIR/www" 8000
	WEB=$BG_PID
	: >"$TB_DIR/peer-runs"
	rm -f "$TB_DIR/go"
	run_server fork env PEER_RUNS="$TB_DIR/peer-runs" GO="$TB_DIR/go" \
		timeout 60 "$PYTHON" "$CALLS" fork_stop
	FORK=$BG_PID
	bg_peer far "$PYTHON" -m http.server -b $PEER4 -d "$TB_DIR/www" 8001
	FAR=$BG_PID
	wait_for 10 cli ping
	wait_for 10 port_open 8000
	wait_for 10 peer_port_open 8001
	wait_for 10 grep -q listening "$TB_DIR/fork"

	bg_peer sub redis-cli -h $SERVER4 subscribe news
	SUB=$BG_PID
	bg_peer load redis-benchmark -h $SERVER4 -t set,get -n 150000 -c 20 -q
	LOAD=$BG_PID
	bg_peer down curl -sf --max-time 60 --limit-rate 15M \
		-o "$TB_DIR/got" http://$SERVER4:8000/large
	DOWN=$BG_PID
	bg_peer lines timeout 50 "$PYTHON" "$CALLS" peer 4
	LINES_PID=$BG_PID
	run_server get curl -sf --max-time 60 --limit-rate 15M \
		-o "$TB_DIR/got2" http://$PEER4:8001/large
	GET=$BG_PID
	wait_for 10 busy
}
# redis' 21, two transfers, the one with children
busy() {
	grep -q subscribe "$TB_DIR/sub" && [ -s "$TB_DIR/got" ] &&
		[ -s "$TB_DIR/got2" ] && [ "$(in_server ss -Htn \
		state established '( sport = :6379 )' | wc -l)" -ge 21 ]
}

all_end() {
	cli publish news 'what was sent' >/dev/null
	check "$1: who waits hears what is published" wait_for 10 \
		grep -q 'what was sent' "$TB_DIR/sub"
	end $SUB
	check_wait "$1: redis-benchmark" $LOAD load
	check "$1: redis-benchmark saw no error" benchmark_is_well
	check_wait "$1: a server's file" $DOWN down
	check "$1: it is unaltered" cmp "$TB_DIR/got" "$TB_DIR/www/large"
	check_wait "$1: a client's file" $GET get
	check "$1: it is unaltered, too" cmp "$TB_DIR/got2" "$TB_DIR/www/large"
	: >"$TB_DIR/go"
	check_wait "$1: a child's connection" $LINES_PID lines
	rm -f "$TB_DIR/peer-runs"
	check_wait "$1: the child and its parent" $FORK fork
	check "$1: redis is offloaded again" cli ping
	end $REDIS
	end $WEB
	end $FAR
	figure "$1: redis $(handed redis) handed over, $(carried redis) offloaded"
	check_ge "$1: redis' were handed over" "$(handed redis)" 21
	check_ge "$1: new ones are offloaded" "$(carried redis)" 1
	check_ge "$1: the server's was handed over" "$(handed web)" 1
	check_eq "$1: the client's was handed over" "$(handed get)" 1
	note <"$TB_DIR/fork.report"
	# unless it was not taken, on a busy link
	check_eq "$1: so was the one with a child, in both" \
		"$(sum_report fork '^(offloaded|reason_HANDED_OVER)$')" \
		$((2 - $(sum_report fork '^reason_') + $(handed fork)))
}
benchmark_is_well() {
	! grep -iE 'error|reset|closed' "$TB_DIR/load" "$TB_DIR/load.err"
}

stack_up
mkdir -p "$TB_DIR/www"
head -c 60000000 /dev/urandom >"$TB_DIR/www/large"
begin
stack_stop
check_eq "the service stops" $? 0
stack_start
all_end "started again"
check_no_invalid
check "no socket is left" wait_for 20 server_has_no_sockets
daemon_stop
check_eq "the service stops, without connections" $? 0
finish
