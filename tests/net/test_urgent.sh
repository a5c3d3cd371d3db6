#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $PEER4 and its like are words
#
# Urgent data are what they are on Linux: the same steps, generated from a
# seed, on a connection that Linux alone has and on one that the service
# carries, as reader and as writer, show the same after each.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on tas0
#   p0 ================ veth ========== s0
#   kernel socket                       libsock or a kernel socket
#
# One process has both ends. SIGURG, SIOCATMARK, FIONREAD and events count.
# waits
set -u
cd "$(dirname "$0")" && . ./lib.sh

STEPS=150
PORT=5400

# steps LOG ROLE HOW SEED ADDRESS
steps() {
	PORT=$((PORT + 1))
	logged "$1" in_server timeout 60 "$BIN/urgent" "/run/netns/$TB_PEER" \
		"$2" "$3" "$4" $STEPS "$5" $PORT
}

same() {
	diff -u "$TB_DIR/$1" "$TB_DIR/$2" | head -n 20 >"$TB_DIR/diff"
	cat "$TB_DIR/diff"
	[ ! -s "$TB_DIR/diff" ] && [ -s "$TB_DIR/$1" ]
}

compare() {
	local role=$1 seed=$2 addr=$3
	check "$role, seed $seed, $addr: Linux" \
		steps linux "$role" kernel "$seed" "$addr"
	check "no step took too long" [ "$(grep -c 'too late' "$TB_DIR/linux")" = 0 ]
	check "$role, seed $seed, $addr: libsock" \
		steps xts "$role" xts "$seed" "$addr"
	check "and shows the same" same linux xts
}

is_tas || { skip "urgent data" "only where there is a service"; exit 0; }
stack_up
for seed in 1 2 3 4 5; do
	compare read $seed $PEER4
	compare write $seed $PEER4
done
compare read 6 $PEER6
compare write 7 $PEER6
in_server sysctl -qw net.ipv4.tcp_stdurg=1
in_peer sysctl -qw net.ipv4.tcp_stdurg=1
sleep 1.1 # the service looks once a second
compare read 8 $PEER4
check_no_invalid
finish
