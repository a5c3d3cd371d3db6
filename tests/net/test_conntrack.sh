#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091 # lib.sh lies beside it
#
# conntrack remembers connections that are in use, half-closed ones too, for
# longer than it remembers those of which it sees nothing; and forgets the idle.
# What the service owes to connections that are closing it does before it stops.
#
#   peer                     mid                     server
#   kernel sockets           bench/impair: 1 Mbit/s  libsock on tas0, under
#   p0 ====== veth ======= i0    i1 ===== veth ===== s0   the base ruleset
# waits
set -u
cd "$(dirname "$0")" && . ./lib.sh
FORGETS_S=16
BYTES=2700000 # 22 s with all of the wire, 43 s with half of it

# start NAME PORT CONNECT_OPTION...: a connection in the background
declare -A PID=()
start() {
	local name=$1 port=$2
	shift 2
	bg_peer "$name" "$BIN/traffic" connect --timeout 100 --pause-ms 200 \
		"$@" "$SERVER4" "$port"
	PID[$name]=$BG_PID
}

# entries PORT STATE: conntrack's entries of a listener's connections
entries() {
	in_server conntrack -L -p tcp --dport "$1" 2>/dev/null |
		grep -cE " ($2) "
}
idle_is_known() { [ "$(entries 5001 ESTABLISHED)" = 1 ]; }

# waiting in_server|in_peer: connections that wait for the last ACK or a FIN
waiting() {
	"$1" ss -Htn state last-ack state fin-wait-1 state fin-wait-2 \
		state closing | wc -l
}
peer_is_done() { [ "$(waiting in_peer)" = 0 ]; }

testbed_up_impaired
base_ruleset || exit 1
impair_start || exit 1

# The programs are done while the last ACKs are still on their way.
stack_start
impair_set to-server clear,delay=250ms
impair_set to-peer clear,delay=250ms
listener last --count 3 --timeout 30 "$SERVER4" 5002
srv=$BG_PID
for name in client-fin client-half server-half; do
	start last-$name 5002 --close $name
done
check_wait "connections are closed" "$srv" last
check_ge "and are not over" "$(waiting in_server)" 1
stack_stop
check_eq "the service stops when they are" "$(waiting in_server)" 0
check "and the peer's, too" wait_for 2 peer_is_done
check_no_invalid "at its end"

for state in established close_wait fin_wait last_ack time_wait; do
	in_server sysctl -qw \
		net.netfilter.nf_conntrack_tcp_timeout_$state=$FORGETS_S
done
stack_start
impair_set to-server clear,rate=1mbit,queue=60k
impair_set to-peer clear,rate=1mbit,queue=60k
listener idle-srv --count 1 --timeout 110 "$SERVER4" 5001
start idle 5001 --hold --bytes 1000
check "an idle connection is known" wait_for 5 idle_is_known
listener srv --count 3 --timeout 110 "$SERVER4" 5000
srv=$BG_PID
start both 5000 --bytes $BYTES
start client-half 5000 --bytes 1000 --bytes-back $BYTES --close client-half
start server-half 5000 --bytes $BYTES --bytes-back 1000 --close server-half
sleep $((FORGETS_S + 4))
check_eq "the established one is known" "$(entries 5000 ESTABLISHED)" 1
# A FIN that is sent twice brings conntrack to a later state at once.
check_eq "and so are the half-closed ones" \
	"$(entries 5000 "FIN_WAIT|CLOSE_WAIT|LAST_ACK|TIME_WAIT")" 2
check_eq "the idle one is forgotten" "$(entries 5001 ESTABLISHED)" 0
for name in both client-half server-half; do
	check_wait "$name ends well" "${PID[$name]}" "$name"
done
check_wait "all ends of the server's too" "$srv" srv
! is_tas || check_eq "all were carried" "$(value offloaded "$TB_DIR/srv")" 3
check_no_invalid
end "${PID[idle]}"

finish
