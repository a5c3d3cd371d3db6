#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2046,SC2086,SC2119 # $PEER4 and its like are words
#
# What a program sees does not depend on who carries its connections: the same
# generated sequence of socket calls on Linux and under tas-run, without a
# service and with one, gives the same results, errno and readiness.
#
# Not compared is what tas-run(1) says is different, so sequences have
#   - no pointers to pages that are not mapped, but in calls that Linux serves
#   - no edge-triggered entries in epolls where a connection may be handed over,
#     or has not been used; none of epolls
#   - no handing over of a connection that is over; children leave it alone
#   - neither IPV6_V6ONLY nor bind() where connections are handed over
# and what is a matter of time: how much fits in a buffer, when ACKs are sent.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on s0, then on tas0
#   p0 ================ veth ========== s0
#   calls peer                          calls run, as it is and under tas-run
#
#   CALLS_SEEDS   which sequences, "1 40": from 1 to 40
#   CALLS_JOBS    how many at a time; they mostly wait
#   CALLS_STEPS   how long they are
#   CALLS_RUNNER  what runs the program, instead of tas-run
#   CALLS_WORDS   for the program
#   CALLS_KEEP    a directory that all output is copied to
set -u
cd "$(dirname "$0")" && . ./lib.sh

: "${CALLS_SEEDS:=1 340}" "${CALLS_STEPS:=300}" "${CALLS_WORDS:=}"
: "${CALLS_JOBS:=12}" "${CALLS_PROGRAM:=$BIN/calls/calls}"
PEER_PORT=6000
PORT=7000

# addresses SEED: of the server and of the peer
addresses() {
	if [ $(($1 % 4)) = 3 ]; then
		echo "$SERVER6 $PEER6"
	else
		echo "$SERVER4 $PEER4"
	fi
}

# Every third sequence has steps that send a connection home to Linux; in every
# second one the service has decided on a connection before the steps use it.
words() {
	[ $(($1 % 3)) != 0 ] || echo leave
	[ $(($1 % 2)) != 0 ] || echo settle
	echo $CALLS_WORDS
}

# What comes is acknowledged at once: each step waits for that.
quick_acks() {
	in_peer ip route change 10.9.0.0/24 dev p0 proto kernel scope link \
		src $PEER4 quickack 1
	in_peer ip -6 route replace fd09::/64 dev p0 proto kernel metric 256 \
		quickack 1
	in_server ip route change 10.9.0.0/24 dev s0 proto kernel scope link \
		src $SERVER4 quickack 1
	in_server ip -6 route replace fd09::/64 dev s0 proto kernel metric 256 \
		quickack 1
}

# calls LOG SEED JOB RUNNER...: one sequence, to the end
calls() {
	local log=$1 seed=$2 job=$3 addr
	shift 3
	read -ra addr < <(addresses $seed)
	in_server timeout 120 "$@" "$CALLS_PROGRAM" run \
		"$TB_DIR/control.$job" $seed $CALLS_STEPS ${addr[0]} \
		${ALONE_PORT:-$((PORT + seed))} ${addr[1]} $((PEER_PORT + 2 * job)) \
		$(words $seed) >"$TB_DIR/$log.$seed" 2>"$TB_DIR/$log.$seed.err"
	echo "status $?" >>"$TB_DIR/$log.$seed"
	[ -z "${CALLS_KEEP:-}" ] || cp "$TB_DIR/$log.$seed"* "$CALLS_KEEP"
}

# run_all LOG STEP RUNNER...: every STEP-th sequence, several at a time
run_all() {
	local log=$1 step=$2 job seed pids=()
	shift 2
	for ((job = 0; job < CALLS_JOBS; job++)); do
		for ((seed = FIRST + job * step; seed <= LAST; \
			seed += CALLS_JOBS * step)); do
			calls $log $seed $job "$@" 2>>"$TB_DIR/$log.$seed.err"
		done &
		pids+=($!)
	done
	wait "${pids[@]}"
	# Each run has ports of its own.
	PORT=$((PORT + LAST))
}

# same SEED LOG: as on plain Linux; else the first difference and what was before
same() {
	cmp -s "$TB_DIR/linux.$1" "$TB_DIR/$2.$1" && return
	diff -U 3 "$TB_DIR/linux.$1" "$TB_DIR/$2.$1" | tail -n +4 |
		cut -c -300 | head -n 12
	cat "$TB_DIR/$2.$1.err"
	return 1
}

# Nothing went wrong that the program itself can tell.
sound() {
	! grep -nE 'WRONG|HANGS|EARLY|NOWHERE|too late|NOBODY|^status [^0]|: but' \
		"$TB_DIR/linux.$1"
}

# settled NAME SEED LOG PORT RUNNER...: else twice more, by itself. What differs
# once is a matter of time, of which rarely something is left; it is shown.
settled() {
	local name=$1 seed=$2 log=$3 port=$4 i
	shift 4
	same $seed $log >"$TB_DIR/differs" && return
	for i in 0 1; do
		ALONE_PORT=$((port + seed % 1000 * 2 + i))
		calls $log $seed 0 "$@"
		same $seed $log || return
	done
	{ echo "seed $seed, $name, once:" && cat "$TB_DIR/differs"; } \
		>>"$TB_DIR/once"
}

# planned SEED: on Linux, if need be when it is run again: where a CPU is held up
# Linux's own time-outs, which it counts in ticks, may end too early.
planned() {
	local i
	for i in 0 1; do
		sound $1 >"$TB_DIR/unplanned" && return
		{ echo "seed $1, Linux, once:" && cat "$TB_DIR/unplanned"; } \
			>>"$TB_DIR/once"
		ALONE_PORT=$((20000 + $1 % 1000 * 2 + i))
		calls linux $1 0
	done
	sound $1
}

# compare NAME LOG STEP PORT RUNNER...
compare() {
	local name=$1 log=$2 step=$3 port=$4 seed
	shift 4
	run_all $log $step "$@"
	for ((seed = FIRST; seed <= LAST; seed += step)); do
		check "seed $seed, $name" settled "$name" $seed $log $port "$@"
	done
}

# reported WORD: sum over all reports
reported() {
	grep -oE "(^| )$1=[0-9]+" "$TB_DIR/report" 2>/dev/null |
		awk -F= '{ n += $2 } END { print n + 0 }'
}

read -r FIRST LAST <<<"$CALLS_SEEDS"
testbed_up 1
: "${CALLS_RUNNER=$BUILD/tas-run --report $TB_DIR/report}"
server_address_kernel
quick_acks
for ((job = 0; job < CALLS_JOBS; job++)); do
	bg_peer peer.$job "$CALLS_PROGRAM" peer "$TB_DIR/control.$job" \
		$((PEER_PORT + 2 * job))
	wait_for 10 grep -q listening "$TB_DIR/peer.$job"
done
run_all linux 1
: >"$TB_DIR/once"
for ((seed = FIRST; seed <= LAST; seed++)); do
	check "seed $seed goes on Linux as planned" planned $seed
done
compare "Linux again" again 8 22000
compare "no service" alone 4 24000 $CALLS_RUNNER
is_tas || finish
server_address_none
base_ruleset || exit 1
stack_start
rm -f "$TB_DIR/report"
compare "service" xts 1 26000 $CALLS_RUNNER
check_no_invalid
check_le "hardly any differed once" \
	"$(grep -c ', once:$' "$TB_DIR/once")" $((LAST / 50))
[ ! -s "$TB_DIR/once" ] || note <"$TB_DIR/once"
if [ -s "$TB_DIR/report" ]; then
	all=$(($(reported offloaded) + $(reported 'reason_[A-Z_]*')))
	figure "$(reported offloaded) of $all connections carried by the service"
	grep -ohE 'reason_[A-Z_]*' "$TB_DIR/report" | sort -u |
		while read -r r; do echo "$r=$(reported $r)"; done | note
	check_ge "a good share of $all" "$(reported offloaded)" $((all / 4))
fi
finish
