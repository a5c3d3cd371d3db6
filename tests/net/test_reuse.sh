#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2034,SC2086
#
# A port is used again at once when its connection has ended, however that was,
# and by whichever side: Linux alone goes first, then tas-xdp, which must do it
# without waiting for a SYN that is sent again. That a new connection is refused
# goes as fast.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on s0 (Linux alone),
#   p0 ================ veth ========== s0   then on tas0
#   kernel sockets                      libsock, under nftables with
#                                       ct state invalid drop
#
# A side that closes first is in TIME_WAIT and may not use the port again before
# that is over, save by tcp_tw_reuse: here after 1 ms.
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh
ROUNDS=${REUSE_ROUNDS:-40}
PORT=40000
declare -A LINUX_SYNS

# SYNs and SYN-ACKs that were sent again, by either side
syns_again() {
	echo $(($(nstat_peer TcpExtTCPSynRetrans) +
		$(nstat_server TcpExtTCPSynRetrans)))
}

# rounds NAME ADDRESS: what is left of a round of connections
rounds_end() {
	local name="$1 ($2) [$STACK]" syns
	check_wait "$name: each is opened at once, and ends" "$CLI" cli
	check_wait "$name: on the other side too" "$SRV" srv
	syns=$(($(syns_again) - SYNS))
	check_eq "$name: the last one is refused" "$(value refused \
		"$TB_DIR/cli")" 1
	figure "$name: connect $(value connect_us "$TB_DIR/cli") us," \
		"the longest $(value longest_us "$TB_DIR/cli") us;" \
		"$syns SYNs sent again"
	if ! is_tas; then
		LINUX_SYNS[$1$2]=$syns
		return
	fi
	# A few are luck, with Linux alone too: a segment of the old connection
	# that crosses the SYN is invalid for conntrack, and dropped.
	check_le "$name: SYNs are not sent again for it" "$syns" \
		$((LINUX_SYNS[$1$2] + ROUNDS / 4))
	check_eq "$name: all were carried" \
		"$(($(value carried "$TB_DIR/cli") +
			$(value carried "$TB_DIR/srv")))" "$ROUNDS"
	grep -h '^reason_' "$TB_DIR/cli" "$TB_DIR/srv" | grep -v '^reason_0=' |
		note
}

# from_peer ADDRESS END [KEEPER], from_server ...: who connects
from_peer() {
	local addr=$1
	shift
	PORT=$((PORT + 1)) SYNS=$(syns_again)
	bg_server srv "$BIN/reuse" --xts listen $addr 5000 $ROUNDS
	SRV=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/srv"
	bg_peer cli "$BIN/reuse" connect $addr 5000 $ROUNDS $PORT "$@"
	CLI=$BG_PID
	rounds_end "from the peer: $1${2:+, $2 keeps it}" $addr
}
from_server() {
	local addr=$1
	shift
	PORT=$((PORT + 1)) SYNS=$(syns_again)
	bg_peer srv "$BIN/reuse" listen $addr 5001 $ROUNDS
	SRV=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/srv"
	bg_server cli "$BIN/reuse" --xts connect $addr 5001 $ROUNDS $PORT "$@"
	CLI=$BG_PID
	rounds_end "from the server: $1${2:+, $2 keeps it}" $addr
}

everything() {
	local end
	for end in connector-rst listener-rst connector-fin listener-fin; do
		from_peer $1 $end
	done
	for end in connector-fin listener-fin; do
		from_peer $1 $end listener
	done
	# Not all of them: see README.md, limits, "opens itself".
	from_server $2 listener-rst
	from_server $2 listener-fin
}

testbed_up
base_ruleset || exit 1
for ns in in_peer in_server; do
	$ns sysctl -qw net.ipv4.tcp_tw_reuse=1 net.ipv4.tcp_tw_reuse_delay=1
done
for STACK in kernel tas-xdp; do
	stack_start
	everything $SERVER4 $PEER4
	everything $SERVER6 $PEER6
	if is_tas; then
		figure "SYNs that waited for the connection before:" \
			"$(daemon_counter slow_renewed)"
		check_eq "no flow is left in the fast path" \
			"$(daemon_counter now_flows)" 0
	fi
	check "no socket is left on the server" wait_for 10 server_has_no_sockets
	figure "[$STACK] packets that conntrack found invalid so far:" \
		"$(nft_counter invalid_in) in, $(nft_counter invalid_out) out"
	stack_stop
done
finish
