#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # words
#
# What programs do to the descriptors of their connections (calls.py), under
# tas-run: with a service, and without.
#
#   peer                                server
#   10.9.0.1                            10.9.0.2 on s0 (no service), then on tas0
#   p0 ================ veth ========== s0
#   calls.py peer                       tas-run calls.py SCENARIO
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh && . ./run.sh
CALLS=$LIB_DIR/calls.py

# The peer's ends, one after another: the numbers of their lines
peers() {
	local lines status=0 pids=() p
	for lines in $1; do
		in_peer timeout 20 "$PYTHON" "$CALLS" peer "$lines" &
		pids+=($!)
		[ "$2" = at-once ] || { wait $! || status=1; }
	done
	[ "$2" != at-once ] || for p in "${pids[@]}"; do
		wait "$p" || status=1
	done
	return $status
}

# systemd, or what does its work, is not under tas-run itself.
started() {
	local activate=()
	report_begin calls
	[ "$1" != listen_fds ] || activate=("$PYTHON" "$CALLS" activate)
	bg_server calls env PEER_RUNS="$TB_DIR/peer-runs" timeout 30 \
		"${activate[@]}" "$RUN" --report "$TB_DIR/calls.report" \
		"$PYTHON" "$CALLS" "$1"
}

# scenario NAME OFFLOADED[+HANDED] "LINES..." [at-once]: so many connections are
# offloaded at the end, or handed over, if there is a service. Each process that
# has one counts it.
scenario() {
	local name=$1 want=$2
	[[ " ${WHICH:-$name} " = *" $name "* ]] || return
	: >"$TB_DIR/peer-runs"
	started "$name"
	local pid=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/calls"
	check "$name: the peer's end [$STACK]" peers "$3" "${4:-in-turn}"
	rm "$TB_DIR/peer-runs"
	check_wait "$name [$STACK]" $pid calls
	[[ $want = *+* ]] || want=$want+0
	is_tas || want=0+0
	check_eq "$name: offloaded [$STACK]" \
		"$(carried calls)+$(handed calls)" $want
}

run_all() {
	scenario dup 1 4
	scenario dup2_over 1 1
	scenario dup2_same 1 3
	scenario fork_serves 0 5
	scenario fork_passes 1 5
	scenario fork_closes 1 4
	scenario fork_uses 0+2 3
	scenario fork_uses_copy 0+2 3
	scenario fork_polls 1 2
	scenario fork_answers 1+1 1
	scenario fork_closes_first 1 1
	scenario fork_holds 1 1
	scenario fork_outlives 0+2 3
	scenario fork_deep 0+4 6
	scenario fork_turns 0+4 40
	scenario fork_first 0+2 3
	scenario fork_late 0 3
	scenario sandbox_new 0 3
	scenario sandbox_used 0+2 3
	scenario sandbox_takes 0+2 4
	scenario sandbox_polls 0+2 3
	scenario sandbox_own 0+1 3
	scenario exec_serves 1 3
	scenario exec_used 1 4
	scenario inetd_used 2 3
	scenario spawn_used 0+1 5
	scenario spawn_serves 0 3
	scenario inetd 0 2
	scenario pass_new 1 3
	scenario pass_used 1+3 5
	scenario pass_kept 0+2 3
	scenario close_all 2 "1 1"
	scenario close_low 1 1
	scenario poll_mixed 1 4
	scenario poll_times_out 1 1
	scenario epoll_kinds 1 5
	scenario epoll_nested 1 4
	scenario epoll_nested_late 1 5
	scenario epoll_nested_in_vain 1 3
	scenario epoll_two 0 2
	scenario epoll_two_late 0+1 5
	scenario epoll_two_shot 0+1 3
	scenario epoll_two_copies 0+1 3
	scenario splice 0+1 3
	scenario option_zerocopy 0+1 2
	scenario option_timestamping 0+1 2
	scenario option_unknown 0+1 2
	scenario option_ulp 0+1 2
	scenario raw_calls 0+1 4
	scenario epoll_closed 1 3
	scenario epoll_copied 1 2
	scenario signals 1 2
	scenario streams 1 "2 2"
	scenario sendfile 1 1
	scenario exits 1 2
	scenario prefork 8 "3 3 3 3 3 3 3 3" at-once
	scenario reuseport 8 "2 2 2 2 2 2 2 2" at-once
	scenario threads 1 200
	scenario threads_leave 0+1 200
	scenario threads_accept 6 "3 3 3 3 3 3" at-once
	scenario threads_many 1 any1000
	scenario listen_fds 2 "2 2"
}
WHICH=$*

testbed_up 1
server_address_kernel
base_ruleset || exit 1
STACK=kernel
run_all
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
