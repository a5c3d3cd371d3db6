#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086 # $SERVER4 and its like are words
#
# The wire that the impairment tests lean on does what it is asked, and nothing
# else. Linux alone on both hosts, whatever STACK says.
#
#   peer                      mid                        server
#   10.9.0.1, fd09::1      bench/impair             10.9.0.2, fd09::2
#   p0 ====== veth ====== i0          i1 ====== veth ====== s0
#   kernel sockets                                   kernel sockets
set -u
export STACK=kernel
cd "$(dirname "$0")" && . ./lib.sh

# transfer NAME BYTES [TO_SERVER...]: one connection, every byte checked
transfer() {
	bg_server srv "$BIN/traffic" listen --timeout 30 --count 1 $SERVER4 5000
	local srv=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/srv"
	check "$1: no byte lost or altered at the peer" logged cli in_peer \
		"$BIN/traffic" connect --timeout 30 --bytes "$2" \
		--bytes-back 1000 --message 65536 --close server-fin \
		$SERVER4 5000
	check_wait "$1: nor at the server" "$srv" srv
}

# fresh [TO_SERVER [TO_PEER]]: nothing of the last test is left
fresh() {
	if ! impair_set to-server "clear${1:+,$1}" ||
	   ! impair_set to-peer "clear${2:+,$2}"; then
		not_ok "impairments are taken: $*"
	fi
	in_peer ip tcp_metrics flush 2>/dev/null
	in_server ip tcp_metrics flush 2>/dev/null
}
# since NAME: how much the counter NAME grew since the last call for it
declare -A BEFORE
since() {
	local now
	now=$(impair_value "$1")
	SINCE=$((now - ${BEFORE[$1]:-0}))
	BEFORE[$1]=$now
}

# flood COUNT: which pings came back, in $TB_DIR/pings
flood() {
	in_peer ping -n -c "$1" -i 0.002 -W 1 $SERVER4 >"$TB_DIR/ping"
	sed -n 's/.*icmp_seq=\([0-9]*\).*/\1/p' "$TB_DIR/ping" \
		>"$TB_DIR/pings"
}
received() {
	sed -n 's/.* \([0-9]*\) received.*/\1/p' "$TB_DIR/ping"
}

# The least round trip of five, in us
rtt_us() {
	in_peer ping -q -c 5 -i 0.05 "$1" |
		awk -F'[ /]' '/^rtt/ { printf "%d", $7 * 1000 }'
}

delays() {
	fresh
	figure "ping round trip $(rtt_us $SERVER4) us"
	fresh delay=20ms delay=10ms
	check_ge "a ping takes what both directions' delays are" \
		"$(rtt_us $SERVER4)" 30000
	check_ge "also in IPv6" "$(rtt_us $SERVER6)" 30000
}

losses() {
	fresh loss=10 burst=2/50
	since to_server_lost
	since to_peer_lost
	flood 400
	since to_server_lost
	local lost=$SINCE
	since to_peer_lost
	check_eq "what is lost is counted" "$(received)" \
		$((400 - lost - SINCE))
	check_ge "and is lost in either direction" \
		$((lost > 0 && SINCE > 0)) 1
	fresh drop=3,5-6,60
	since to_server_lost_given
	since to_server_lost
	transfer "four given frames lost" 300000
	since to_server_lost_given
	check_eq "they were lost" "$SINCE" 4
	since to_server_lost
	check_eq "and no other frame" "$SINCE" 4
}

# seeded SEED FILE: which of 300 pings come back
seeded() {
	IMPAIR_SEED=$1 impair_start loss=20 loss=20 || exit 1
	flood 300
	cp "$TB_DIR/pings" "$TB_DIR/$2"
	impair_stop
	check_eq "no frame was lost that nobody asked for" $? 0
}

repeats() {
	seeded 5 first
	seeded 5 second
	seeded 6 third
	check "the same seed loses the same frames" \
		cmp "$TB_DIR/first" "$TB_DIR/second"
	check "another seed loses others" \
		differ "$TB_DIR/first" "$TB_DIR/third"
}
differ() { ! cmp -s "$1" "$2"; }

rate() {
	fresh rate=40mbit,queue=60k
	since to_server_queue_drops
	transfer "through 40 Mbit/s" 4000000
	check_ge "it took its time in ms" "$(value ms "$TB_DIR/cli")" 800
	figure "4 MB at 40 Mbit/s: $(value ms "$TB_DIR/cli") ms"
	check_le "the queue kept to its limit" \
		"$(impair_value to_server_queue_max_bytes)" 60000
	since to_server_queue_drops
	check_ge "and was full" "$SINCE" 1
}

marks() {
	in_peer sysctl -qw net.ipv4.tcp_ecn=1
	in_server sysctl -qw net.ipv4.tcp_ecn=1
	fresh rate=40mbit,ecn=15k
	local before
	before=$(nstat_server IpExtInCEPkts)
	transfer "marked instead of dropped" 1000000
	since to_server_marked
	check_ge "frames were marked" "$SINCE" 1
	check_eq "the server saw these marks, all checksums right" \
		$(($(nstat_server IpExtInCEPkts) - before)) "$SINCE"
	in_peer sysctl -qw net.ipv4.tcp_ecn=0
}

contents() {
	local before
	fresh corrupt=2,duplicate=2,reorder=2/3p corrupt=1,reorder=2/1ms
	before=$(nstat_server TcpInCsumErrors)
	transfer "corruption, duplicates, reordering" 1000000
	since to_server_corrupted
	check_ge "frames were corrupted" "$SINCE" 1
	check_ge "checksums told" \
		$(($(nstat_server TcpInCsumErrors) - before)) 1
	check_ge "frames came twice" "$(impair_value to_server_duplicated)" 1
	check_ge "and out of order" "$(nstat_server TcpExtTCPOFOQueue)" 1
}

cut_wire() {
	fresh rate=80mbit,queue=100k
	bg_server srv "$BIN/traffic" listen --timeout 30 --count 1 $SERVER4 5000
	local srv=$BG_PID cli
	wait_for 10 grep -q listening "$TB_DIR/srv"
	bg_peer cli "$BIN/traffic" connect --timeout 30 --bytes 8000000 \
		--bytes-back 1000 --message 65536 --close server-fin \
		$SERVER4 5000
	cli=$BG_PID
	sleep 0.3
	impair_set to-server loss=100
	impair_set to-peer loss=100
	sleep 0.1
	since to_peer_sent
	sleep 0.4
	check "the wire was cut in the middle" kill -0 "$cli"
	since to_peer_sent
	check_le "and nothing but ARP passes" "$SINCE" 4
	impair_set to-server loss=0
	impair_set to-peer loss=0
	check_wait "a transfer survives that: peer" "$cli" cli
	check_wait "server" "$srv" srv
	check_ge "at the rate that stayed, in ms" \
		"$(value ms "$TB_DIR/cli")" 1200
}

refusals() {
	check_eq "a bad line is refused and says why" \
		"$(impair_set to-server loss=1,delay=5 2>&1)" \
		"impair: to-server: delay wants a time with its unit (ns, us, ms, s), up to 10s"
	check_eq "so is a bad option" \
		"$("$BUILD/bench/impair" --to-peer queue=5p a b 2>&1)" \
		"impair: --to-peer: queue and ecn need a rate: without it none builds up"
}

idles() {
	local before
	fresh
	before=$(cpu_ticks $IMPAIR_PID)
	sleep 1
	check_le "it sleeps when nothing is due, ticks" \
		$(($(cpu_ticks $IMPAIR_PID) - before)) 1
}

testbed_up_impaired
server_address_kernel
repeats
impair_start || exit 1
delays
losses
rate
marks
contents
cut_wire
refusals
idles
kill -USR1 $IMPAIR_PID
check "SIGUSR1 writes the counters" wait_for 5 grep -q to_peer_frames \
	"$TB_DIR/impair.stats"
check_eq "no frame was lost that nobody asked for" "$(impair_unplanned)" 0
impair_stop
check_eq "and it ends well" $? 0
finish
