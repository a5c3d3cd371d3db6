#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# Two queues, two fast-path cores: connections live on the core of their queue.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on tas0
#   p0 ========= veth, 2 queues ======= s0, tas-xdp --queues 2
set -u
cd "$(dirname "$0")" && . ./lib.sh

# The peer's programs on either CPU, so that both queues of p0 are used.
from_cpu() {
	local cpu=$1 addr=$2
	quiet in_peer taskset -c "$cpu" "$BIN/traffic" connect --count 60 \
		--rpc --vary --bytes 50000 --message 4000 --timeout 20 \
		"$addr" 5000
}

testbed_up 2
base_ruleset || exit 1
stack_start --queues 2
CPUS=$(($(nproc) > 1 ? 1 : 0))
for addr in $SERVER4 $SERVER6; do
	listener srv --count 120 --threads 2 $addr 5000
	SRV=$BG_PID
	check "connections from one CPU of the peer ($addr)" from_cpu 0 $addr
	check "connections from another ($addr)" from_cpu $CPUS $addr
	check_wait "no byte lost or altered ($addr)" $SRV srv
	check_carried "two queues ($addr)" srv 120
done
peer_listener srv --count 60 $PEER4 5001
SRV=$BG_PID
check "connections of the server's" logged cli in_server "$BIN/traffic" \
	connect --xts --threads 2 --count 60 --rpc --bytes 20000 --timeout 20 \
	$PEER4 5001
check_wait "no byte lost or altered at the peer" $SRV srv
check_carried "two queues" cli 60
if is_tas; then
	daemon_counters "$TB_DIR/counters"
	figure "segments on the hot path, per core:" \
		"$(awk '$1 ~ /rx_hot/ { printf "%s ", $2 }' "$TB_DIR/counters")"
fi
check_no_invalid
finish
