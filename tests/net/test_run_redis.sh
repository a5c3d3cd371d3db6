#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# redis-server and its clients as Debian has them, under tas-run: with a
# service, and without.
#
#   peer                                server
#   10.9.0.1                            10.9.0.2 on s0 (no service), then on tas0
#   p0 ================ veth ========== s0
#   redis-cli, redis-benchmark          tas-run redis-server
#   redis-server                        tas-run redis-cli, redis-benchmark
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh && . ./run.sh
PORT=6379

cli() { in_peer timeout 30 redis-cli -h $SERVER4 -p $PORT "$@"; }
bench() {
	in_peer timeout 60 redis-benchmark -h $SERVER4 -p $PORT --csv "$@" |
		tr -d '"' | awk -F, '$2 + 0 > 0 { print $1, int($2), $5 }' |
		sed "s/^/# figure: [$STACK] /"
}

# 10000 keys in a pipeline, each of another size: no byte may change
mass() {
	python3 - <<-'END'
	import sys
	out = sys.stdout.buffer
	for i in range(10000):
	    key, value = b'k%d' % i, (b'%d.' % i * 300)[:i % 997 + 1]
	    out.write(b'*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n' %
	              (len(key), key, len(value), value))
	END
}
mass_loads() { mass | cli --pipe | grep -q 'errors: 0, replies: 10000'; }

# A value of 5 MiB goes there and comes back.
large() {
	head -c 5242880 /dev/urandom | base64 -w0 >"$TB_DIR/large"
	cli -x set large <"$TB_DIR/large" >/dev/null &&
		cli get large | head -c -1 | cmp - "$TB_DIR/large"
}
loaded() { cli dbsize | grep -qx '[0-9][0-9]*'; }
saves() {
	local last
	last=$(cli lastsave)
	sleep 1
	cli bgsave | grep -q started || return 1
	wait_for 20 saved "$last"
}
saved() { [ "$(cli lastsave)" -gt "$1" ] && cli info persistence |
	grep -q 'rdb_last_bgsave_status:ok'; }
pubsub() {
	bg_peer sub redis-cli -h $SERVER4 -p $PORT subscribe news
	wait_for 10 grep -q subscribe "$TB_DIR/sub"
	cli publish news 'what was sent' | grep -qx 1 &&
		wait_for 10 grep -q 'what was sent' "$TB_DIR/sub"
	local status=$?
	end $BG_PID
	return $status
}

run_all() {
	mkdir -p "$TB_DIR/data-$STACK"
	run_server redis redis-server --port $PORT --bind $SERVER4 \
		--dir "$TB_DIR/data-$STACK" --protected-mode no --save '' \
		--appendonly yes --enable-debug-command yes
	local redis=$BG_PID before
	check "redis answers [$STACK]" wait_for 10 cli ping
	check "10000 keys in a pipeline [$STACK]" mass_loads
	check_eq "all are there [$STACK]" "$(cli dbsize)" 10000
	cli debug digest >"$TB_DIR/mass-$STACK"
	cli debug digest >"$TB_DIR/digest-$STACK"
	check "5 MiB go there and back [$STACK]" large
	check "a subscriber hears what is published [$STACK]" pubsub
	bench -t set,get -n 20000 -c 1
	bench -t set,get,lpush,lrange_100 -n 20000 -c 50
	bench -t set,get -n 100000 -c 50 -P 16
	# the child that saves shares all descriptors
	bg_peer load redis-benchmark -h $SERVER4 -p $PORT -t set,get -n 200000 \
		-c 20 -P 4 -q
	local load=$BG_PID
	check "a background save during that [$STACK]" saves
	check_wait "and the load ends well [$STACK]" $load load
	before=$(cli dbsize)
	check_eq "redis stops [$STACK]" "$(cli shutdown nosave)" ""
	reap $redis
	check_offloaded "redis [$STACK]" redis 120
	# what was appended to the file is what clients had sent
	run_server redis redis-server --port $PORT --bind $SERVER4 \
		--dir "$TB_DIR/data-$STACK" --protected-mode no --save '' \
		--appendonly yes
	redis=$BG_PID
	check "it starts again [$STACK]" wait_for 20 loaded
	check_eq "with all keys [$STACK]" "$(cli dbsize)" "$before"
	end $redis
}

# The clients under tas-run, the server on the peer as it is.
clients_run() {
	bg_peer far redis-server --port $PORT --bind $PEER4 \
		--protected-mode no --save '' --enable-debug-command yes
	local far=$BG_PID
	wait_for 10 in_peer redis-cli -h $PEER4 -p $PORT ping
	check "redis-cli's pipeline as client [$STACK]" client_loads
	check_offloaded "redis-cli [$STACK]" redis_cli 1
	check_eq "the data are the same [$STACK]" "$(in_peer redis-cli \
		-h $PEER4 -p $PORT debug digest)" "$(cat "$TB_DIR/mass-$STACK")"
	check "redis-benchmark as client [$STACK]" client_bench \
		-t set,get -n 20000 -c 50
	check_offloaded "redis-benchmark [$STACK]" redis_bench 100
	check "redis-benchmark's pipelines as client [$STACK]" client_bench \
		-t set,get,lpush -n 50000 -c 20 -P 16 --threads 2
	check_offloaded "redis-benchmark, 2 threads [$STACK]" redis_bench 60
	end $far
}
client_loads() {
	mass | in_run redis_cli timeout 30 redis-cli -h $PEER4 -p $PORT --pipe |
		grep -q 'errors: 0, replies: 10000'
}
# It says an error and goes on.
client_bench() {
	in_run redis_bench timeout 60 redis-benchmark -h $PEER4 -p $PORT \
		--csv "$@" >"$TB_DIR/bench" 2>&1 &&
		! grep -i error "$TB_DIR/bench"
}

testbed_up 1
STACK=kernel
server_address_kernel
base_ruleset || exit 1
run_all
clients_run
server_address_none
STACK=tas-xdp
stack_start
run_all
clients_run
check_no_invalid
check_eq "the same data as without a service" \
	"$(cat "$TB_DIR/digest-tas-xdp")" "$(cat "$TB_DIR/digest-kernel")"
wait_for 20 server_has_no_sockets
check_eq "no socket is left" "$(server_sockets)" 0
daemon_stop
check_eq "the service stops" $? 0
finish
