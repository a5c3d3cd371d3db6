# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# measure.sh - put a stack on the testbed and measure it; source after testbed.sh
#
# One stack at a time answers on the server's address, all over the same veth:
#
#   kernel, kernel-spin   the address on s0, rpc-server on kernel sockets
#   tas-xdp               the daemon, which holds the address, and rpc-server on
#                         libsock
#   reflector             no address at all: reflector turns UDP frames round
#
# The server and, for tas-xdp, the daemon share one CPU, the peer has another.
# PEER=tas-xdp gives the peer a daemon of its own, for the whole run.
#
#   cpus_choose               sets CPU_SERVER and CPU_PEER
#   peer_up                   the peer as PEER says
#   stack_up STACK [PORT]     1 if it does not come up, with the reason said
#   stack_down                and checks that it carried what it was given
#   measure_rpc STACK CONNS BUSY       appends one JSON line to $RAW
#   measure_setup STACK BUSY           likewise, latency and rate
#   measure_fastpath                   likewise, without a wire
#
# Results are JSON objects, one a line, as bench/report reads them.

PEER=${PEER:-kernel}
RAW=
STACK=
PORT=7777
WARMUP_MS=100 DURATION_MS=500
SETUP_COUNT=2000 RATE_COUNT=10000 RATE_CONNS=32
SERVER_PID=
SERVER_VERBOSE=
DAEMON_READY=
PEER_STACK=kernel
PROBLEMS=()

problem() {
	echo "$*" >&2
	PROBLEMS+=("$*")
}

# The first two CPUs that this process may use.
cpus_choose() {
	local list part cpus=()
	list=$(taskset -pc $$) || list=": 0"
	for part in $(tr ',' ' ' <<<"${list##*: }"); do
		mapfile -t -O ${#cpus[@]} cpus < <(seq "${part%-*}" "${part#*-}")
	done
	CPU_SERVER=${cpus[0]} CPU_PEER=${cpus[1]:-}
	if [ -z "$CPU_PEER" ]; then
		CPU_PEER=$CPU_SERVER
		echo "only one CPU: server and peer share it, which flatters nobody"
	fi
	# shellcheck disable=SC2034 # testbed.sh reads it
	DAEMON_CPUS=$CPU_SERVER
}

# program_start NAME NAMESPACE CPU COMMAND...: sets PROGRAM_PID when the program
# has said "ready"
program_start() {
	local name=$1 ns=$2 cpu=$3 i
	shift 3
	: >"$TB_DIR/$name.out"
	nsenter --net="/run/netns/$ns" taskset -c "$cpu" "$@" \
		>"$TB_DIR/$name.out" 2>"$TB_DIR/$name.err" &
	PROGRAM_PID=$!
	testbed_own $PROGRAM_PID
	for ((i = 0; i < 400; i++)); do
		grep -q '^ready$' "$TB_DIR/$name.out" && return 0
		kill -0 "$PROGRAM_PID" 2>/dev/null || break
		sleep 0.05
	done
	problem "$name did not start: $(tail -n 3 "$TB_DIR/$name.err")"
	program_stop "$PROGRAM_PID"
	return 1
}

program_stop() {
	kill -TERM "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	testbed_disown "$1"
}

# PEER=tas-xdp: tx off on the server's end too, as AF_XDP would receive Linux's
# frames with half-made checksums.
peer_up() {
	in_peer sysctl -qw net.ipv4.ip_local_port_range="1024 65535"
	in_peer sysctl -qw net.ipv4.tcp_tw_reuse=1
	# One stack's round trips must not seed the next one's.
	in_peer sysctl -qw net.ipv4.tcp_no_metrics_save=1
	in_server sysctl -qw net.ipv4.tcp_no_metrics_save=1
	[ "$PEER" = tas-xdp ] || return 0
	in_peer ip addr flush dev p0 scope global
	in_server ethtool -K s0 tx off >/dev/null
	# shellcheck disable=SC2153 # PEER4 and PEER6 are testbed.sh's
	program_start peer-daemon "$TB_PEER" "$CPU_PEER" "$BUILD/tas-xdp" \
		--nic p0 --addr "$PEER4"/24 --addr "$PEER6"/64 \
		--congestion cubic --ready-fd 1 ||
		return 1
	PEER_STACK=xts
}

server_start() {
	local options=(--address "$SERVER4" --port "$PORT")
	[ -z "$SERVER_VERBOSE" ] || options+=(--verbose)
	program_start rpc-server "$TB_SERVER" "$CPU_SERVER" \
		"$BUILD/bench/rpc-server" --stack "$1" "${options[@]}" ||
		return 1
	SERVER_PID=$PROGRAM_PID
}

reflector_start() {
	local mac
	mac=$(in_server ip -br link show dev s0 | awk '{ print $3 }')
	program_start reflector "$TB_SERVER" "$CPU_SERVER" \
		"$BUILD/bench/reflector" --nic s0 --address "$SERVER4" || return 1
	SERVER_PID=$PROGRAM_PID
	in_peer ip neigh replace "$SERVER4" lladdr "$mac" dev p0 nud permanent
}

stack_up() {
	STACK=$1 PORT=${2:-7777} SERVER_PID=
	case $STACK in
	kernel | kernel-spin)
		server_address_kernel
		server_start "$STACK"
		;;
	tas-xdp)
		if ! daemon_start 2>"$TB_DIR/start.err"; then
			problem "tas-xdp: $(tr '\n' ' ' <"$TB_DIR/start.err")"
			return 1
		fi
		DAEMON_READY=1
		server_start xts
		;;
	reflector) reflector_start ;;
	esac
}

# What an XTS server says at its end: all connections must have been offloaded,
# or the numbers are the kernel's under our name.
server_check() {
	local conns offloaded reason
	conns=$(awk '$1 == "connections" { print $2 }' "$TB_DIR/rpc-server.out")
	offloaded=$(awk '$1 == "offloaded" { print $2 }' "$TB_DIR/rpc-server.out")
	[ "$conns" != "$offloaded" ] || return 0
	reason=$(sed -n 's/^reason //p' "$TB_DIR/rpc-server.out")
	problem "tas-xdp carried only ${offloaded:-0} of ${conns:-?} connections" \
		"(${reason:-$(tail -n 1 "$TB_DIR/rpc-server.err")})"
}

stack_down() {
	if [ -n "$SERVER_PID" ]; then
		program_stop "$SERVER_PID"
		[ "$STACK" != tas-xdp ] || server_check
	fi
	case $STACK in
	kernel | kernel-spin) server_address_none ;;
	tas-xdp)
		[ -z "$DAEMON_READY" ] || daemon_stop ||
			problem "tas-xdp ended with status $?"
		DAEMON_READY=''
		;;
	reflector) in_peer ip neigh flush dev p0 nud permanent ;;
	esac
	SERVER_PID=
}

# The daemon's counters as "NAME VALUE" lines, sorted, into FILE: it prints them
# on SIGUSR1. An empty file without a daemon.
daemon_counters() {
	local file=$1 size i
	: >"$file"
	[ -n "$DAEMON_PID" ] || return 0
	size=$(stat -c %s "$TB_DIR/daemon.log")
	kill -USR1 "$DAEMON_PID"
	for ((i = 0; i < 20; i++)); do
		sleep 0.02
		tail -c +$((size + 1)) "$TB_DIR/daemon.log" |
			grep -q '^counter now_programs ' && break
	done
	tail -c +$((size + 1)) "$TB_DIR/daemon.log" |
		sed -n 's/^counter //p' | sort >"$file"
}

# What tas-xdp did between two sets of counters, as JSON members.
counters_json() {
	join "$1" "$2" | awk '
		BEGIN {
			name["queue_kicks"] = "kicks"
			name["tx_acks"] = "pure_acks"
			name["tx_retransmits"] = "retransmits"
			name["app_wakeups"] = "wakeups"
			name["sleeps"] = "sleeps"
		}
		$1 in name { printf ", \"%s\": %d", name[$1], $3 - $2 }'
}

# json_line BENCH CONNS BUSY EXTRA: a client's "NAME VALUE" lines from stdin
json_line() {
	local busy=false
	[ "$3" = 0 ] || busy=true
	awk -v bench="$1" -v stack="$STACK" -v peer="$PEER" -v conns="$2" \
		-v busy="$busy" -v extra="$4" '
		{ body = body sprintf(", \"%s\": %s", $1, $2) }
		END {
			printf "{\"bench\": \"%s\", \"stack\": \"%s\", ", bench, stack
			printf "\"peer\": \"%s\", \"conns\": %d, ", peer, conns
			printf "\"busy\": %s%s%s}\n", busy, body, extra
		}' >>"$RAW"
}

# client_run PROGRAM OPTION...: its lines on stdout
client_run() {
	local program=$1
	shift
	in_peer taskset -c "$CPU_PEER" "$BUILD/bench/$program" \
		--address "$SERVER4" --port "$PORT" "$@" \
		2>"$TB_DIR/client.err" && return 0
	echo "$STACK: $program $*: $(tail -n 1 "$TB_DIR/client.err")" \
		>>"$TB_DIR/failed"
	return 1
}

# Failures of client_run, which runs in pipes and can't set PROBLEMS.
client_problems() {
	[ -e "$TB_DIR/failed" ] || return 0
	problem "$(cat "$TB_DIR/failed")"
	rm -f "$TB_DIR/failed"
}

measure_rpc() {
	local conns=$2 busy=$3 out options
	options=(--conns "$conns" --warmup "$WARMUP_MS" --duration "$DURATION_MS"
		--interface p0)
	[ "$busy" = 0 ] || options+=(--busy)
	[ "$1" != reflector ] || options+=(--udp)
	options+=(--stack "$PEER_STACK")
	daemon_counters "$TB_DIR/before"
	out=$(client_run rpc-client "${options[@]}")
	client_problems
	[ -n "$out" ] || return 1
	daemon_counters "$TB_DIR/after"
	json_line rpc "$conns" "$busy" \
		"$(counters_json "$TB_DIR/before" "$TB_DIR/after")" <<<"$out"
}

measure_setup() {
	local busy=$2 out options=(--stack "$PEER_STACK")
	[ "$busy" = 0 ] || options+=(--busy)
	if out=$(client_run setup-client --count "$SETUP_COUNT" \
		"${options[@]}"); then
		json_line setup 1 "$busy" "" <<<"$out"
	fi
	if out=$(client_run setup-client --count "$RATE_COUNT" \
		--conns "$RATE_CONNS" "${options[@]}"); then
		json_line setup-rate "$RATE_CONNS" "$busy" "" <<<"$out"
	fi
	client_problems
}

# Instructions under callgrind, with the functions that take them, and the way
# through the rings to an application on another CPU and back.
# instructions_per_rpc CONNS: left in $TB_DIR/callgrind too
instructions_per_rpc() {
	local rpcs=9600 grind=$TB_DIR/callgrind
	valgrind --tool=callgrind --toggle-collect=fp_core_turn \
		--callgrind-out-file="$grind" "$BUILD/bench/fastpath" $rpcs "$1" \
		>"$TB_DIR/grind.out" 2>"$TB_DIR/grind.err" || return 1
	awk -v n=$rpcs '/^(summary|totals):/ { ir = $2 }
		END { printf "%.1f", ir / n }' "$grind"
}

measure_fastpath() {
	local ring one few many
	STACK=tas-xdp PEER=memory
	if ! many=$(instructions_per_rpc 32) || ! few=$(instructions_per_rpc 4) ||
		! one=$(instructions_per_rpc 1); then
		problem "fastpath: $(tail -n 1 "$TB_DIR/grind.err")"
		return 1
	fi
	ring=$(taskset -c "$CPU_SERVER,$CPU_PEER" "$BUILD/bench/fastpath" \
		--ring 200000 2>"$TB_DIR/grind.err") ||
		problem "fastpath --ring: $(tail -n 1 "$TB_DIR/grind.err")"
	{
		echo "instructions_per_rpc $one"
		echo "instructions_per_rpc_4 $few"
		echo "instructions_per_rpc_32 $many"
		echo "n 9600"
		awk '/_ns / { print }' <<<"$ring"
	} | json_line fastpath 1 1 ""
	echo "Fast path: instructions an RPC of one connection, by function"
	callgrind_annotate "$TB_DIR/callgrind" 2>/dev/null | sed 's/,//g' |
		awk -v n=9600 '
		$1 ~ /^[0-9]+$/ && /:/ && shown < 12 {
			where = $0
			sub(/^ *[0-9]+ \([^)]*\) */, "", where)
			sub(/ \[.*/, "", where)
			printf "  %7.1f  %s\n", $1 / n, where
			shown++
		}'
}
