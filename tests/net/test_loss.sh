#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# A lost frame is repaired, whichever it is; a receiver that does not read stops
# the sender and is asked again. Every byte is checked.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on tas0
#   p0 (nft netdev rules drop) == veth  s0
#   kernel sockets                      libsock
set -u
cd "$(dirname "$0")" && . ./lib.sh

# wire TO_PEER TO_SERVER: rules of either direction of the wire
wire() {
	wire_clear
	in_peer nft -f - <<-END
	table netdev wire {
		chain to_peer {
			type filter hook ingress device "p0" priority 0;
			$1
		}
		chain to_server {
			type filter hook egress device "p0" priority 0;
			$2
		}
	}
	END
}
wire_clear() { in_peer nft delete table netdev wire 2>/dev/null; }
# How many frames a direction's rules dropped
lost() {
	in_peer nft list chain netdev wire "$1" |
		sed -n 's/.*counter packets \([0-9]*\).*/\1/p'
}

# run NAME COUNT CARRIED ADDRESS CONNECT_OPTION...: at least CARRIED of COUNT
# connections are carried; one that loses its first frames is offered again until
# Linux holds no data behind a gap. The pause lets the offload come before them.
run() {
	local name=$1 n=$2 carried=$3 addr=$4
	shift 4
	listener srv --timeout 100 --count "$n" "$addr" 5000
	local srv=$BG_PID
	check "$name ($addr): no byte lost or altered at the peer" \
		logged cli in_peer "$BIN/traffic" connect --timeout 90 \
		--pause-ms 200 --count "$n" "$@" "$addr" 5000
	check_wait "$name ($addr): nor at the server" "$srv" srv
	figure "$name: $(value ms "$TB_DIR/cli") ms"
	! is_tas || check_ge "$name: carried by the service" \
		"$(value offloaded "$TB_DIR/srv")" "$carried"
}

# A single frame of data, first from the peer, then from the server.
one_frame() {
	local drop='meta length > 800 numgen inc mod 100000 10 counter drop'

	wire "" "$drop"
	run "one frame of the peer's lost" 1 1 "$1" --bytes 60000
	check_eq "it was lost" "$(lost to_server)" 1
	wire "$drop" ""
	run "one frame of the server's lost" 1 1 "$1" --bytes 60000
	check_eq "it was lost" "$(lost to_peer)" 1
}

any_frame() {
	local drop='ether type { ip, ip6 } meta l4proto tcp numgen random mod 1000 < 15 counter drop'
	wire "$drop" "$drop"
	run "1.5 % of all frames lost, both ways at once" 8 5 "$1" \
		--bytes 300000 --message 20000
	run "1.5 % of all frames lost, messages in turn" 40 30 "$1" --rpc \
		--bytes 20000 --message 2000
	figure "frames lost: $(lost to_peer) to the peer," \
		"$(lost to_server) to the server"
}

# All frames for a second and a half in the middle of a transfer.
blackout() {
	listener srv --timeout 240 --count 1 "$1" 5001
	local srv=$BG_PID cli
	bg_peer cli "$BIN/traffic" connect --timeout 240 \
		--bytes 400000000 --message 65536 "$1" 5001
	cli=$BG_PID
	sleep 0.3
	wire "meta l4proto tcp counter drop" "meta l4proto tcp counter drop"
	sleep 1.5
	check "the wire was cut in the middle" kill -0 "$cli"
	wire_clear
	check_wait "a transfer survives a cut wire ($1): peer" "$cli" cli
	check_wait "server" "$srv" srv
}

# $1 reads nothing for two seconds while the other end sends 8 MB.
zero_window() {
	local who=$1 addr=$2 drop=${3:-} read_srv=() read_cli=() srv cli back
	if [ "$who" = server ]; then
		read_srv=(--no-read) back="--bytes 8000000 --bytes-back 10"
	else
		read_cli=(--no-read) back="--bytes 10 --bytes-back 8000000"
	fi
	listener srv --timeout 60 "${read_srv[@]}" "$addr" 5002
	srv=$BG_PID
	bg_peer cli "$BIN/traffic" connect --timeout 60 --hold $back \
		--pause-ms 300 \
		--message 65536 "${read_cli[@]}" "$addr" 5002
	cli=$BG_PID
	sleep 2
	check "$who does not read: the sender waits ($addr)" waits_for "$cli"
	if [ -n "$drop" ]; then
		# the window update is lost: only a probe can find out
		wire "meta l4proto tcp counter drop" \
			"meta l4proto tcp counter drop"
	fi
	if [ "$who" = server ]; then kill -USR1 "$srv"
	else kill -USR1 "$cli"; fi
	if [ -n "$drop" ]; then
		sleep 0.5
		wire_clear
	fi
	check "$who reads again${drop:+, its window update is lost}: all arrive ($addr)" \
		wait_for 40 grep -q complete "$TB_DIR/cli"
	end "$cli"
	end "$srv"
	check_carried "it" srv 1
	check_eq "and none altered" \
		"$(value failed "$TB_DIR/srv") $(value failed "$TB_DIR/cli")" \
		"0 0"
}
waits_for() { ! grep -q complete "$TB_DIR/cli" && kill -0 "$1"; }

stack_up
# one frame a segment where the rules look
in_peer sh -c 'ethtool -K p0 gso off gro off; ip link set p0 gso_max_segs 1'
one_frame $SERVER4
one_frame $SERVER6
any_frame $SERVER4
any_frame $SERVER6
wire_clear
blackout $SERVER4
zero_window server $SERVER4
zero_window peer $SERVER4
zero_window server $SERVER6 lost
zero_window peer $SERVER6 lost
check_no_invalid
finish
