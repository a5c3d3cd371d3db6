#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091
#
# Half an hour of 500 connections over a wire that changes every few seconds,
# and is cut now and then, by programs that behave in every way.
#
#   peer                     mid                   server
#   traffic, many of them    bench/impair          traffic listen --xts on tas0,
#                                                  under the base ruleset
#   p0 ====== veth ======= i0    i1 ===== veth ===== s0
#
# Every byte is checked. At the end nothing is left: no flow, no socket, no
# conntrack entry, no memory. SOAK_SECONDS is how long, SEED which half hour.
set -u
cd "$(dirname "$0")" && . ./lib.sh
: "${SOAK_SECONDS:=1800}" "${SEED:=1}"
RANDOM=$SEED
SLOTS=20 CONNS=25
declare -A SLOT_PID=() SLOT_KIND=() SLOT_LOG=() SLOT_END=()
RUNS=0 KILLED=0 BAD=0 WORST=0
LISTENERS=()

pick() { local list=("$@"); echo "${list[RANDOM % $#]}"; }

# A cut is rare: whoever's retransmissions, whose distance doubles, fall into one
# after the other stands still for minutes, on any stack.
impair_randomly() {
	local spec
	case $((RANDOM % 30)) in
	0) spec=loss=100 ;; # a cut
	[1-3]) spec=loss=0.$((RANDOM % 10)) ;;
	[4-6]) spec=loss=$((RANDOM % 5)) ;;
	[7-9]) spec=burst=0.5/33 ;;
	1[0-2]) spec=reorder=$((RANDOM % 5))/$((1 + RANDOM % 5))ms ;;
	1[3-5]) spec=duplicate=$((RANDOM % 5)) ;;
	1[6-8]) spec=corrupt=1 ;;
	19 | 2[0-1]) spec=jitter=2ms,order=free,delay=10ms ;;
	2[2-4]) spec=rate=200mbit,queue=200k ;;
	*) spec=loss=0 ;;
	esac
	[[ $spec == *delay* ]] || spec=$spec,delay=$(pick 0 0 2 10 50)ms
	impair_set to-server "clear,$spec"
	[ $((RANDOM % 3)) = 0 ] || impair_set to-peer "clear,$spec"
}

# slot_start SLOT: a program with CONNS connections of some kind. Resets and
# kills tell their other end by one segment, which a bad wire may swallow:
# these go to listeners of their own, which forgive.
slot_start() {
	local slot=$1 port=5000 kind addr options
	addr=$(pick $SERVER4 $SERVER6)
	kind=$(pick bulk bulk rpc half short slow reset kill kill-server)
	options=(--bytes $((1 + RANDOM * 10)) --vary --timeout 300
		--congestion "$(pick reno cubic bbr)")
	case $kind in
	bulk) options+=(--close "$(pick client-fin server-fin both)") ;;
	rpc) options+=(--rpc --message 3000 --bytes 30000) ;;
	half) options+=(--close "$(pick client-half server-half)") ;;
	short) options+=(--bytes 300 --gap-us 2000) ;;
	slow) port=5001 options+=(--hold --no-read) ;;
	reset) port=5001 options+=(--close "$(pick client-rst server-rst)") ;;
	kill | kill-server) port=5001 ;;
	esac
	RUNS=$((RUNS + 1))
	SLOT_KIND[$slot]=$kind SLOT_LOG[$slot]=run-$slot
	SLOT_END[$slot]=$((SECONDS + 2 + RANDOM % 10))
	bg_peer "run-$slot" "$BIN/traffic" connect --count $CONNS \
		--concurrency $CONNS "${options[@]}" "$addr" $port
	SLOT_PID[$slot]=$BG_PID
}

# slot_judge SLOT: its program has ended
slot_judge() {
	local slot=$1 status stall
	reap "${SLOT_PID[$slot]}"
	status=$?
	unset "SLOT_PID[$slot]"
	case ${SLOT_KIND[$slot]} in
	slow | reset | kill*)
		unaltered "${SLOT_LOG[$slot]}" >"$TB_DIR/said" && return ;;
	*)
		stall=$(value stall_ms "$TB_DIR/${SLOT_LOG[$slot]}")
		[ "$stall" -le $WORST ] || WORST=$stall
		[ $status != 0 ] || return 0
		tail -n 3 "$TB_DIR/${SLOT_LOG[$slot]}.err" >"$TB_DIR/said" ;;
	esac
	BAD=$((BAD + 1))
	[ $BAD -gt 20 ] || {
		not_ok "a program of kind ${SLOT_KIND[$slot]} ends well"
		note <"$TB_DIR/said"
	}
}

# Of those that are to end in a hurry
slot_end() {
	local pid=${SLOT_PID[$1]}
	case ${SLOT_KIND[$1]} in
	kill) kill -KILL "$pid" ;;
	slow | reset) kill -TERM "$pid" ;;
	kill-server)
		forgiving_kill
		kill -TERM "$pid" ;;
	*) return ;;
	esac
	KILLED=$((KILLED + 1))
}

forgiving_start() {
	local addr
	for addr in $SERVER4 $SERVER6; do
		listener "forgive-$addr" --count 0 --timeout 36000 $addr 5001
		FORGIVING+=("$BG_PID")
	done
}
forgiving_kill() {
	local pid addr
	for pid in "${FORGIVING[@]}"; do end "$pid" KILL; done
	FORGIVING=()
	for addr in $SERVER4 $SERVER6; do
		check_quietly unaltered "forgive-$addr"
	done
	forgiving_start
}
check_quietly() { "$@" >"$TB_DIR/said" || check "no byte was altered" "$@"; }

turn() {
	local slot
	for ((slot = 0; slot < SLOTS; slot++)); do
		if [ -z "${SLOT_PID[$slot]:-}" ]; then
			[ -n "$ENDING" ] || slot_start $slot
		elif gone "${SLOT_PID[$slot]}"; then
			slot_judge $slot
		elif [ -n "$ENDING" ] || [ $SECONDS -ge "${SLOT_END[$slot]}" ]; then
			slot_end $slot
		fi
	done
}

drained() {
	turn
	[ ${#SLOT_PID[@]} = 0 ]
}

counter_is_0() { [ "$(daemon_counter "$1")" = 0 ]; }

testbed_up_impaired
base_ruleset || exit 1
in_server sysctl -qw \
	net.netfilter.nf_conntrack_tcp_timeout_fin_wait=60 \
	net.netfilter.nf_conntrack_tcp_timeout_unacknowledged=60
IMPAIR_SEED=$SEED impair_start || exit 1
stack_start
listener good4 --count 0 --timeout 36000 $SERVER4 5000
LISTENERS+=("good4 $BG_PID")
listener good6 --count 0 --timeout 36000 $SERVER6 5000
LISTENERS+=("good6 $BG_PID")
FORGIVING=()
forgiving_start
ENDING='' start=$SECONDS next=0 rss=0
while [ $((SECONDS - start)) -lt "$SOAK_SECONDS" ]; do
	if [ $SECONDS -ge $next ]; then
		impair_randomly
		next=$((SECONDS + 2 + RANDOM % 4))
	fi
	turn
	# what it has come to need once all kinds of programs have run
	if [ "$rss" = 0 ] && is_tas && [ $RUNS -gt 60 ]; then
		rss=$(rss_kib "$(daemon_child)")
	fi
	sleep 0.2
done
figure "$RUNS programs with $CONNS connections each, $KILLED ended in a hurry"
impair_set to-server clear
impair_set to-peer clear
ENDING=1
# Not by check: a shell waits for its own children alone.
if wait_for 240 drained; then
	ok "all transfers end when the wire is good again"
else
	not_ok "all transfers end when the wire is good again: left are" \
		"${SLOT_KIND[*]}"
fi
check_eq "all others ended well" $BAD 0
check_le "the longest stall, ms" $WORST 60000
figure "longest stall of a connection: $WORST ms"
for entry in "${LISTENERS[@]}"; do
	end "${entry##* }"
	check_eq "${entry% *}: all of its connections ended well" \
		"$(value failed "$TB_DIR/${entry% *}")" 0
	note <"$TB_DIR/${entry% *}.err" | head -n 10
	! is_tas || check_ge "${entry% *}: most are carried, but for the shortest" \
		$(($(value offloaded "$TB_DIR/${entry% *}") * 4)) \
		$(($(value begun "$TB_DIR/${entry% *}") * 3))
	grep -oE 'reason_[A-Z_]*=[0-9]*' "$TB_DIR/${entry% *}" | note
done
for pid in "${FORGIVING[@]}"; do end "$pid"; done
check "no socket is left" wait_for 90 server_has_no_sockets
check "nor a conntrack entry" wait_for 180 server_has_no_conntracks
if is_tas; then
	check "nor a flow" wait_for 90 counter_is_0 now_flows
	check "nor a connection of the slow path" wait_for 90 \
		counter_is_0 now_conns
	now=$(rss_kib "$(daemon_child)")
	figure "the daemon's memory: $rss KiB early, $now KiB at the end"
	[ "$rss" = 0 ] || check_le "nor memory, KiB" "$now" $((rss * 3 / 2 + 8192))
fi
stack_stop
check_eq "the service ends well" $? 0
finish
