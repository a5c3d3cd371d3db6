# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# wire.sh - goodput over a bad wire; source after testbed.sh and measure.sh
#
# Linux and tas-xdp serve side by side, each on an address of its own, so that
# one measurement follows the other within a second and both can share a
# bottleneck:
#
#   peer                  mid                server
#   bulk --send,          bench/impair       bulk --listen on 10.9.0.3, s0
#   bulk --receive                           bulk --listen on 10.9.0.2, tas0
#   p0 ===== veth ===== i0    i1 ===== veth ===== s0
#
# Both directions are impaired alike, half of the delay each way, with a rate
# and in front of it a queue of one bandwidth-delay product (32 kB at least).
# impair starts anew for each measurement: with the round's seed, so that both
# stacks meet the same wire.
#
#   wire_up CC...           the peer, the daemon, two listeners for each CC
#   wire_spec MBIT DELAY_MS [IMPAIRMENT...]   SPEC for either direction
#   wire_measure STACK ROLE CC SPEC CONNS WARMUP_MS DURATION_MS JSON_MEMBERS
#                           appends one JSON line to $RAW; ROLE is what the
#                           server does: sender or receiver
#   wire_share CC SPEC CONNS WARMUP_MS DURATION_MS JSON_MEMBERS
#                           both stacks at once, the server sends: two lines
#   wire_down

# shellcheck disable=SC2034 # TB_ and IMPAIR_ are testbed.sh's
SERVER4_KERNEL=10.9.0.3
QUEUE_MIN=32000
BUFFER_MAX=67108864
declare -A WIRE_PORT=() WIRE_LISTENER=()
ROUND=1

wire_address() {
	if [ "$1" = tas-xdp ]; then echo "$SERVER4"; else echo "$SERVER4_KERNEL"; fi
}

# Both sides may have windows for 1 Gbit/s at 100 ms.
wire_buffers() {
	local ns
	for ns in in_peer in_server; do
		$ns sysctl -qw net.ipv4.tcp_rmem="4096 131072 $BUFFER_MAX" \
			net.ipv4.tcp_wmem="4096 16384 $BUFFER_MAX"
	done
}

wire_up() {
	local cc port=7900 stack flavour
	peer_up
	wire_buffers
	IMPAIR_SEED=1 impair_start || return 1
	in_server ip addr add $SERVER4_KERNEL/24 dev s0
	if ! daemon_start 2>"$TB_DIR/start.err"; then
		problem "tas-xdp: $(tr '\n' ' ' <"$TB_DIR/start.err")"
		return 1
	fi
	for cc in "$@"; do
		for stack in kernel tas-xdp; do
			flavour=kernel
			[ $stack = kernel ] || flavour=xts
			port=$((port + 1))
			program_start "bulk-$stack-$cc" "$TB_SERVER" \
				"$CPU_SERVER" "$BUILD/bench/bulk" --listen \
				--stack $flavour --congestion "$cc" --port $port \
				--address "$(wire_address $stack)" || return 1
			WIRE_PORT[$stack-$cc]=$port
			WIRE_LISTENER[$stack-$cc]=$PROGRAM_PID
		done
	done
	# Once through: neighbours are known before anything is measured.
	in_peer ping -q -c 2 -i 0.1 $SERVER4 >/dev/null
	in_peer ping -q -c 2 -i 0.1 $SERVER4_KERNEL >/dev/null
	impair_stop
}

wire_down() {
	local name conns offloaded
	for name in "${!WIRE_LISTENER[@]}"; do
		program_stop "${WIRE_LISTENER[$name]}"
		[[ $name = tas-xdp-* ]] || continue
		conns=$(awk '$1 == "connections" { print $2 }' \
			"$TB_DIR/bulk-$name.out")
		offloaded=$(awk '$1 == "offloaded" { print $2 }' \
			"$TB_DIR/bulk-$name.out")
		# A few that lose their first frames may stay with Linux.
		[ $((${offloaded:-0} * 20)) -ge $((${conns:-0} * 19)) ] ||
			problem "tas-xdp carried only $offloaded of $conns" \
				"connections with ${name#tas-xdp-}" \
				"($(sed -n 's/^reason //p' \
					"$TB_DIR/bulk-$name.out"))"
	done
	WIRE_LISTENER=()
	daemon_stop || problem "tas-xdp ended with status $?"
}

wire_spec() {
	local mbit=$1 delay_ms=$2 queue
	shift 2
	queue=$((mbit * 125 * delay_ms))
	[ $queue -ge $QUEUE_MIN ] || queue=$QUEUE_MIN
	echo "rate=${mbit}mbit,queue=${queue}b,delay=$((delay_ms * 500))us${*:+,$*}" |
		tr ' ' ,
}

# wire_client STACK ROLE CC CONNS WARMUP DURATION
wire_client() {
	local way=--receive
	[ "$2" = sender ] || way=--send
	# shellcheck disable=SC2153 # CPU_PEER is measure.sh's
	in_peer taskset -c "$CPU_PEER" "$BUILD/bench/bulk" $way \
		--congestion "$3" --address "$(wire_address "$1")" \
		--port "${WIRE_PORT[$1-$3]}" --conns "$4" --warmup "$5" \
		--duration "$6" 2>"$TB_DIR/client-$1.err" && return 0
	echo "$1 as $2, $3: $(tail -n 1 "$TB_DIR/client-$1.err")" \
		>>"$TB_DIR/failed"
	return 1
}

# wire_line BENCH STACK MEMBERS: a client's lines from stdin
wire_line() {
	awk -v bench="$1" -v stack="$2" -v members="$3" '
		{ body = body sprintf(", \"%s\": %s", $1, $2) }
		END { printf "{\"bench\": \"%s\", \"stack\": \"%s\", %s%s}\n",
			bench, stack, members, body }' >>"$RAW"
}

# wire_impair SPEC
wire_impair() {
	IMPAIR_SEED=$ROUND impair_start "$1" "$1" && return
	problem "impair did not start with $1"
	return 1
}
# What impair itself lost would be on nobody's account.
wire_clean() {
	impair_stop 2>/dev/null && return
	problem "$1: not counted, the wire lost frames unasked"
	return 1
}

wire_measure() {
	local stack=$1 role=$2 cc=$3 out members=$8
	wire_impair "$4" || return 1
	daemon_counters "$TB_DIR/before"
	out=$(wire_client "$stack" "$role" "$cc" "$5" "$6" "$7")
	client_problems
	daemon_counters "$TB_DIR/after"
	wire_clean "$stack, $4" && [ -n "$out" ] || return 1
	members="\"role\": \"$role\", \"cc\": \"$cc\", \"conns\": $5, $members"
	[ "$stack" != tas-xdp ] || members="$members$(wire_counters)"
	wire_line loss "$stack" "$members" <<<"$out"
}

# What tas-xdp did to repair, as JSON members
wire_counters() {
	join "$TB_DIR/before" "$TB_DIR/after" | awk '
		$1 ~ /^(tx_segments|tx_retransmits|tx_rto|tx_acks)$/ ||
		$1 ~ /^(rx_out_of_order|rx_too_many_gaps)$/ {
			printf ", \"%s\": %d", $1, $3 - $2 }'
}

wire_share() {
	local cc=$1 stack pids=() pid members=$6
	wire_impair "$2" || return 1
	for stack in kernel tas-xdp; do
		wire_client $stack sender "$cc" "$3" "$4" "$5" \
			>"$TB_DIR/share-$stack" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid"; done
	client_problems
	wire_clean "shares, $2" || return 1
	members="\"role\": \"sender\", \"cc\": \"$cc\", \"conns\": $3, $members"
	for stack in kernel tas-xdp; do
		[ ! -s "$TB_DIR/share-$stack" ] ||
			wire_line fairness $stack "$members" \
				<"$TB_DIR/share-$stack"
	done
}

# ---- what is measured ----------------------------------------------------------

# "NAME LOSS DELAY_MS MBIT CONNS DURATION_MS [IMPAIRMENT]" lines
wire_paths() {
	local loss delay
	for delay in 0 10 100; do
		for loss in 0.01 0.1 1 5; do
			echo "loss $loss $delay 100 4 $((3000 + delay * 70))" \
				"loss=$loss"
		done
	done
	echo "burst 1.5 10 100 4 3000 burst=0.5/33"
	echo "reorder 0 10 100 4 3000 reorder=3/3ms"
	echo "duplicate 0 10 100 4 3000 duplicate=3"
	echo "long 0 100 1000 1 10000"
}

# "ROLE CC PATH..." lines: cubic everywhere, the others where they differ most
wire_points() {
	local role path
	for role in sender receiver; do
		wire_paths | sed "s/^/$role cubic /"
	done
	for path in "loss 0.1 10 " "loss 1 10 " "loss 5 10 " "loss 0.1 100 " \
		"loss 1 100 " "burst " "reorder "; do
		wire_paths | grep "^$path" | sed 's/^/sender reno /'
		wire_paths | grep "^$path" | sed 's/^/sender bbr /'
	done
}

wire_points_quick() {
	echo "sender cubic loss 1 10 100 4 500 loss=1"
	echo "receiver cubic loss 1 10 100 4 500 loss=1"
	echo "sender reno reorder 0 10 100 4 500 reorder=3/3ms"
	echo "sender bbr burst 1.5 0 100 4 500 burst=0.5/33"
}

run_loss() {
	local stack order list point=0 total
	local role cc name loss delay mbit conns ms impairment spec
	mapfile -t list < <(if [ -n "$quick" ]; then wire_points_quick
		else wire_points; fi | grep -E "$points")
	total=$((${#list[@]} * rounds))
	for ((ROUND = 1; ROUND <= rounds; ROUND++)); do
		for line in "${list[@]}"; do
			read -r role cc name loss delay mbit conns ms \
				impairment <<<"$line"
			spec=$(wire_spec "$mbit" "$delay" $impairment)
			point=$((point + 1))
			# Each point's order is the reverse of the last one's.
			mapfile -t order < <(in_turns $point kernel tas-xdp)
			for stack in "${order[@]}"; do
				[ ! -t 2 ] || printf '\r%d of %d: %-50s' \
					$point $total \
					"$name $loss% $delay ms $role $cc" >&2
				wire_measure "$stack" "$role" "$cc" "$spec" \
					"$conns" 0 "${duration:-$ms}" \
					"\"path\": \"$name\", \"loss\": $loss, \"delay_ms\": $delay, \"rate_mbps\": $mbit"
			done
		done
	done
	[ ! -t 2 ] || printf '\r%70s\r' '' >&2
}

run_fairness() {
	local ms=${duration:-30000} warmup=5000
	[ -z "$quick" ] || warmup=200 ms=${duration:-1000}
	for ((ROUND = 1; ROUND <= rounds; ROUND++)); do
		wire_share cubic "$(wire_spec 100 20)" 8 $warmup "$ms" \
			"\"path\": \"share\", \"loss\": 0, \"delay_ms\": 20, \"rate_mbps\": 100"
	done
}
