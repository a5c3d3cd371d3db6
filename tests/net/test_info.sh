#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2046,SC2086
#
# TCP_INFO of an offloaded connection is true: against what was on the wire,
# what the wire was told to do, and what the daemon counts. Linux's own first,
# by the same rules.
#
#   peer               mid                       server
#   10.9.0.1, fd09::1  bench/impair              10.9.0.2, fd09::2: s0 (Linux
#                                                alone), then tas0
#   p0 ==== veth ==== i0          i1 ==== veth ==== s0
#   offload, kernel's  tcpdump: what the         offload, with libsock
#                      server sent
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh

DELAY_MS=10 # each way
RATE=6250000 # bytes a second
WIRE=rate=50mbit,queue=250k,delay=${DELAY_MS}ms
SENT=3000000 RECEIVED=2000000 PACED=300000 PACE=1000000

# capture_start, capture_stop ADDRESS: the server's frames, as they reach the
# wire; it ends when as many bytes were seen as the last info says were sent
capture_start() {
	bg_in "$TB_MID" capture tcpdump -i i1 -Q in -Z root -s 128 -B 32768 \
		--immediate-mode -U -w "$TB_DIR/pcap" "tcp and src port 5000"
	CAPTURE=$BG_PID
	wait_for 10 grep -q 'listening on' "$TB_DIR/capture.err"
}
capture_stop() {
	wait_for 10 captured
	end "$CAPTURE" INT
	count_wire >"$TB_DIR/wire"
	check "tcpdump saw every frame ($1) [$STACK]" \
		grep -q '^0 packets dropped by kernel' "$TB_DIR/capture.err"
}

captured() {
	count_wire >"$TB_DIR/wire"
	[ "$(value sent "$TB_DIR/wire")" -ge "$(says sent)" ]
}

# What the capture holds, as words: bytes with data, of these such as were seen
# before, and how many segments these came in. Frames of two CPUs may change
# places.
count_wire() {
	python3 - "$TB_DIR/pcap" <<-'END'
		import struct, sys
		data = open(sys.argv[1], "rb").read()
		at, first = 24, None
		seen = bytearray(1 << 23)
		sent = resent = retrans = 0
		while at + 16 <= len(data):
		    n = struct.unpack_from("<I", data, at + 8)[0]
		    f = data[at + 16:at + 16 + n]
		    at += 16 + n
		    if len(f) < n:
		        break # it is being written
		    if f[12:14] == b"\x08\x00":
		        end = 14 + struct.unpack_from(">H", f, 16)[0]
		        tcp = 14 + (f[14] & 15) * 4
		    else:
		        tcp = 54
		        end = 54 + struct.unpack_from(">H", f, 18)[0]
		    length = end - tcp - (f[tcp + 12] >> 4) * 4
		    seq = struct.unpack_from(">I", f, tcp + 4)[0]
		    if first is None: # the SYN, ACK
		        first = seq
		    seq = (seq - first) & 0xffffffff
		    if not length or seq + length > len(seen):
		        continue
		    sent += length
		    again = seen.count(1, seq, seq + length)
		    seen[seq:seq + length] = b"\1" * length
		    resent += again
		    retrans += again > 0
		print(f"sent={sent} resent={resent} retrans={retrans}")
	END
}

at() { echo "$TB_DIR/go$1"; }
go() { : >"$TB_DIR/go$1"; }
said() { wait_for 40 grep -q "$1" "$TB_DIR/${2:-srv}"; }

# says NAME: that field of the last info
says() { value "$1" "$TB_DIR/srv"; }
# between NAME GOT MIN MAX
between() {
	check_ge "$1 [$STACK]" "$2" "$3"
	check_le "$1, at most [$STACK]" "$2" "$4"
}

# sender ADDRESS: what is lost is counted, each retransmission once
sender() {
	local wire=$TB_DIR/wire f
	for f in sent resent retrans; do
		check_eq "$f is what was on the wire ($1) [$STACK]" \
			"$(says $f)" "$(value $f "$wire")"
	done
	check_ge "what was lost was sent again ($1) [$STACK]" \
		"$(says retrans)" "$LOST"
	check_ge "and something was ($1) [$STACK]" "$LOST" 1
	figure "$STACK: $LOST frames lost, $(says retrans) sent again"
	! is_tas || check_eq "the daemon counts the same ($1)" \
		"$RESENT" "$(says retrans)"
	check_eq "bytes acknowledged ($1) [$STACK]" "$(says acked)" $SENT
	check_eq "bytes sent, but for those sent again ($1) [$STACK]" \
		$(($(says sent) - $(says resent))) $SENT
	check_eq "nothing is under way ($1) [$STACK]" "$(says waiting)" 0
	check_ge "cwnd ($1) [$STACK]" "$(says cwnd)" 1
	# At most a queue of 40 ms more, and what a busy machine adds; at least
	# one way's delay: the wire goes by a clock that may be set.
	between "rtt ($1)" "$(says rtt)" $((1000 * DELAY_MS)) 1000000
	between "min_rtt ($1)" "$(says min_rtt)" $((1000 * DELAY_MS)) 500000
	check_le "min_rtt is the least ($1) [$STACK]" \
		"$(says min_rtt)" "$(says rtt)"
	# Of the last flight alone: a pause of the machine's may be in it.
	between "delivery_rate ($1)" "$(says rate)" \
		1 $((RATE * 2))
	check_eq "received before that ($1) [$STACK]" "$(says received)" 1
}

receiver() {
	check_eq "bytes received, each once ($1) [$STACK]" \
		"$(says received)" $((1 + RECEIVED))
	check_eq "bytes acknowledged as before ($1) [$STACK]" \
		"$(says acked)" $SENT
	# as large as the peer's segments: the same MTU both ways
	check_eq "rcv_mss ($1) [$STACK]" "$(says rcv_mss)" "$(says mss)"
	between "rcv_rtt ($1)" "$(says rcv_rtt)" \
		$((1000 * DELAY_MS)) 1000000
}

paced() {
	check_le "pacing_rate heeds SO_MAX_PACING_RATE ($1) [$STACK]" \
		"$(says pacing)" $PACE
	check_ge "and is one ($1) [$STACK]" "$(says pacing)" 1
}

# informed ADDRESS: loss begins when the connection is there
informed() {
	local before
	rm -f "$TB_DIR"/go*
	capture_start
	bg_server srv "$BIN/offload" --xts listen "$1" 5000 recv:1 engage \
		say:ready until:$(at 1) send:$SENT outq:0 info say:sent \
		until:$(at 2) recv:$RECEIVED info say:received \
		until:$(at 3) pace:$PACE send:$PACED outq:0 info say:paced \
		eof close
	SRV=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/srv"
	bg_peer cli "$BIN/offload" connect "$1" 5000 send:1 recv:$SENT \
		until:$(at 2) send:$RECEIVED recv:$PACED close
	CLI=$BG_PID
	said ready
	! is_tas || before=$(daemon_counter tx_retransmits)
	LOST=$(impair_value to_peer_lost)
	impair_set to-peer loss=1
	impair_set to-server loss=1
	go 1
	said ^sent
	LOST=$(($(impair_value to_peer_lost) - LOST))
	! is_tas || RESENT=$(($(daemon_counter tx_retransmits) - before))
	capture_stop "$1"
	sender "$1"
	go 2
	said ^received
	receiver "$1"
	impair_set to-peer loss=0
	impair_set to-server loss=0
	go 3
	said paced
	paced "$1"
	check_wait "its bytes are right ($1) [$STACK]" "$SRV" srv
	check_wait "at the peer too ($1) [$STACK]" "$CLI" cli
	! is_tas || check_eq "it was carried ($1)" "$(says reason)" 0
}

testbed_up_impaired
base_ruleset || exit 1
# A connection knows nothing of the one before it.
in_server sysctl -qw net.ipv4.tcp_no_metrics_save=1
in_peer sysctl -qw net.ipv4.tcp_no_metrics_save=1
IMPAIR_SEED=7 impair_start $WIRE $WIRE || exit 1
for STACK in kernel tas-xdp; do
	stack_start
	informed $SERVER4
	informed $SERVER6
	stack_stop
done
check_no_invalid
check_eq "no frame was lost that nobody asked for" "$(impair_unplanned)" 0
impair_stop
finish
