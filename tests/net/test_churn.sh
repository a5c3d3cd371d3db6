#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# 10,000 connections opened, used and closed by each side in turn: with FIN, with
# RST, by both at once, with half-close and data after it. Every byte is checked,
# and afterwards nothing is left beyond Linux's TIME_WAIT.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on tas0
#   p0 ================ veth ========== s0
#   kernel sockets                      libsock, under nftables with
#                                       ct state invalid drop
set -u
cd "$(dirname "$0")" && . ./lib.sh
EACH=${CHURN:-2500}

# All but those whose end had arrived before the service was asked for them.
carried() {
	local early
	is_tas || return 0
	early=$(value reason_NOT_ESTABLISHED "$TB_DIR/$1")
	check_eq "all are carried by the service but $early that had ended" \
		$(($(value offloaded "$TB_DIR/$1") + early)) "$2"
	check_le "and those are few" "$early" $(($2 / 5))
}

opened_by_peer() {
	local addr=$1 n=$2
	listener srv --count "$n" --threads 2 "$addr" 5000
	local srv=$BG_PID
	check "$n connections from the peer to $addr: all end as agreed" \
		logged cli in_peer "$BIN/traffic" connect --count "$n" --vary \
		--bytes 20000 --close mix --timeout 100 "$addr" 5000
	check_wait "on the server too" "$srv" srv
	carried srv "$n"
}

opened_by_server() {
	local addr=$1 n=$2
	peer_listener srv --count "$n" "$addr" 5001
	local srv=$BG_PID
	check "$n connections from the server to $addr: all end as agreed" \
		logged cli in_server "$BIN/traffic" connect --xts --count "$n" \
		--threads 2 --vary --bytes 20000 --close mix --timeout 100 \
		"$addr" 5001
	check_wait "on the peer too" "$srv" srv
	carried cli "$n"
}

# Both FINs on their way before either arrives: the wire takes none for a while.
crossing_fins() {
	local addr=$1
	listener srv --count 1 "$addr" 5002
	local srv=$BG_PID
	in_peer nft -f - <<-'END'
	table netdev wire {
		chain to_peer {
			type filter hook ingress device "p0" priority 0;
			tcp flags & fin == fin counter drop
		}
		chain to_server {
			type filter hook egress device "p0" priority 0;
			tcp flags & fin == fin counter drop
		}
	}
	END
	bg_peer cli "$BIN/traffic" connect --close both --bytes 3000 "$addr" 5002
	check_wait "both sides close while no FIN passes ($addr)" "$BG_PID" cli
	wait_for 5 fin_wait_on_both
	check "both sides are in FIN-WAIT-1" fin_wait_on_both
	in_peer nft delete table netdev wire
	check_wait "the server's program is done" "$srv" srv
	check "the connection is gone from the server" \
		wait_for 10 server_has_no_sockets
	check "the connection is gone from the peer" \
		wait_for 10 peer_has_no_sockets
}
fin_wait_on_both() {
	in_peer ss -Htan state fin-wait-1 | grep -q 5002 &&
		in_server ss -Htan state fin-wait-1 | grep -q 5002
}
peer_has_no_sockets() {
	[ -z "$(in_peer ss -Htan state connected exclude time-wait)" ]
}

stack_up
if is_tas; then CHILD=$(daemon_child); FDS=$(fd_count "$CHILD"); fi
opened_by_peer $SERVER4 $((EACH / 5))
is_tas && RSS=$(rss_kib "$CHILD")
opened_by_peer $SERVER4 $((EACH * 4 / 5))
opened_by_peer $SERVER6 "$EACH"
opened_by_server $PEER4 "$EACH"
opened_by_server $PEER6 "$EACH"
crossing_fins $SERVER4
crossing_fins $SERVER6
check "no socket is left on the server" wait_for 10 server_has_no_sockets
check "no socket is left on the peer" wait_for 10 peer_has_no_sockets
check "no conntrack entry beyond TIME_WAIT is left" \
	wait_for 10 server_has_no_conntracks
check_no_invalid
if is_tas; then
	fds_are_back() { [ "$(fd_count "$CHILD")" -le "$FDS" ]; }
	check "the daemon holds no descriptor of them ($FDS at start)" \
		wait_for 10 fds_are_back
	GROWTH=$(($(rss_kib "$CHILD") - RSS))
	figure "memory of the daemon after $((4 * EACH)) connections:" \
		"$(rss_kib "$CHILD") KiB, $GROWTH KiB more than after the" \
		"first $((EACH / 5))"
	# What remains for TIME_WAIT is bounded by a KiB a connection.
	check_le "the daemon's memory does not grow" "$GROWTH" $((4 * EACH + 4096))
	check_eq "no flow is left in the fast path" \
		"$(daemon_counter now_flows)" 0
	stack_stop
	check_eq "the daemon stops cleanly: its exit status" $? 0
fi
finish
