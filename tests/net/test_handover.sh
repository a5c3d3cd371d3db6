#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# Connections go back from the service to Linux in the middle of things: every
# byte is right, the peer notices nothing, conntrack finds nothing invalid, and
# the connection ends as any other of the kernel's.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on tas0
#   p0 ================ veth ========== s0
#   kernel sockets                      libsock: xts_handover()
# waits
set -u
cd "$(dirname "$0")" && . ./lib.sh

# talk ADDRESS "SERVER STEPS" "PEER STEPS"; PEERBUF is the peer's SO_RCVBUF
talk() {
	rm -f "$TB_DIR"/go*
	bg_server srv "$BIN/offload" --xts listen "$1" 5000 $2
	SRV=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/srv"
	bg_peer cli "$BIN/offload" ${PEERBUF-} connect "$1" 5000 $3
	CLI=$BG_PID
}
talk_ends() {
	check_wait "$1" "$SRV" srv
	check_wait "$1: the peer's end" "$CLI" cli
	check_eq "$1: it was carried before" "$(value reason "$TB_DIR/srv")" 0
}
dialogue() {
	talk "$2" "$3" "$4"
	talk_ends "$1"
}
said() { wait_for 15 grep -q "$1" "$TB_DIR/${2:-srv}"; }
# until:$(at N) is over when go N is called
at() { echo "$TB_DIR/go$1"; }
go() { : >"$TB_DIR/go$1"; }

# What the peer's Linux counts of trouble
peer_resets() {
	echo $(($(nstat_peer TcpEstabResets) + $(nstat_peer TcpOutRsts) +
		$(nstat_peer TcpExtTCPAbortOnData)))
}

# ---- single steps ----------------------------------------------------------------

single() {
	dialogue "in the middle of both directions ($1)" "$1" \
		"recv:1 engage send:5000 recv:3000 handover send:100000 recv:50000 eof close" \
		"send:3001 recv:105000 send:50000 close"
	talk "$1" "recv:1 engage until:$(at 1) inq:50000 handover inq:50000 recv:30000 send:1000 recv:20000 recv:5 eof close" \
		"send:1 send:50000 recv:1000 send:5 close"
	sleep 0.5
	go 1
	talk_ends "with unread data ($1)"
	# what fits of 30 MB, the window of a peer that does not read included
	talk "$1" "recv:1 engage fill:30000000 handover say:over upto:30000000 recv:10 eof close" \
		"send:1 until:$(at 1) recv:30000000 send:10 close"
	said over
	go 1
	talk_ends "with a full send buffer ($1)"
	PEERBUF=rcvbuf:5000 talk "$1" \
		"recv:1 engage send:50000 pause:700 handover say:over pause:100 recv:10 outq:0 close" \
		"send:1 until:$(at 1) recv:50000 send:10 eof close"
	said over
	sleep 1.5
	go 1
	talk_ends "with the peer's window closed ($1)"
	dialogue "options are as before ($1)" "$1" \
		"recv:1 engage keepalive:1/3 handover send:10 recv:10 pause:2500 send:10 close" \
		"send:1 recv:10 send:10 recv:10 eof close"
	dialogue "twice is once ($1)" "$1" \
		"recv:1 engage handover handover send:10 recv:10 close" \
		"send:1 recv:10 send:10 eof close"
}

# ---- half-closed -----------------------------------------------------------------

halves() {
	talk "$1" "recv:1 engage send:5000 shut pause:300 handover say:over recv:30000 eof close" \
		"send:1 recv:5000 eof until:$(at 1) send:30000 close"
	said over
	go 1
	talk_ends "our direction has ended ($1)"
	PEERBUF=rcvbuf:5000 talk "$1" \
		"recv:1 engage send:70000 shut handover say:over recv:30000 eof close" \
		"send:1 until:$(at 1) recv:70000 eof send:30000 close"
	said over
	go 1
	talk_ends "our direction is to end, data are before that ($1)"
	talk "$1" "recv:1 engage say:ready until:$(at 1) inq:5000 handover recv:5000 eof send:3000 close" \
		"send:1 until:$(at 2) send:5000 shut recv:3000 eof close"
	said ready
	go 2
	sleep 0.5
	go 1
	talk_ends "the peer's direction has ended, unread data are before that ($1)"
	talk "$1" "recv:1 engage say:ready until:$(at 1) recv:5000 eof handover send:70000 close" \
		"send:1 until:$(at 1) send:5000 shut recv:70000 eof close"
	said ready
	go 1
	talk_ends "the peer's direction has ended and that was read ($1)"
	dialogue "both directions have ended: ENOTCONN ($1)" "$1" \
		"recv:1 engage send:10 shut recv:4999 pause:300 stays:ENOTCONN recv:1 eof close" \
		"send:1 recv:10 eof send:5000 shut pause:600 close"
	dialogue "after a reset: ENOTCONN ($1)" "$1" \
		"recv:1 engage send:10 pause:300 stays:ENOTCONN error:ECONNRESET close" \
		"send:1 recv:10 reset"
	dialogue "urgent data wait: EBUSY, until they are read ($1)" "$1" \
		"recv:1 engage inline recv:10 pause:200 stays:EBUSY recv:31 handover send:10 close" \
		"send:11 pause:100 send:30 oob recv:10 eof close"
}

# ---- many ------------------------------------------------------------------------

# many NAME ADDRESS OPTION... of traffic
many() {
	local name=$1 addr=$2 srv handed
	shift 2
	listener srv --count 300 --handover "$addr" 5001
	srv=$BG_PID
	check "$name ($addr)" logged cli in_peer "$BIN/traffic" connect \
		--count 300 --concurrency 20 --timeout 60 "$@" "$addr" 5001
	check_wait "$name: no byte lost ($addr)" "$srv" srv
	handed=$(value handed "$TB_DIR/srv")
	check_ge "$name: some were handed over ($addr)" "$handed" 5
	figure "$name ($addr): $handed handed over, $(value hand_us "$TB_DIR/srv") us at most; $(value stall_ms "$TB_DIR/cli") ms longest stall"
}

# One at a time nothing is lost on the wire: then nothing is sent twice.
undisturbed() {
	local before srv timeouts
	before=$(nstat_peer TcpRetransSegs)
	timeouts=$(nstat_peer TcpExtTCPTimeouts)
	listener srv --count 100 --handover "$1" 5001
	srv=$BG_PID
	check "one at a time ($1)" logged cli in_peer "$BIN/traffic" connect \
		--count 100 --concurrency 1 --rpc --message 1400 --bytes 3000 \
		--timeout 60 "$1" 5001
	check_wait "one at a time: no byte lost ($1)" "$srv" srv
	check_ge "one at a time: most were handed over ($1)" \
		"$(value handed "$TB_DIR/srv")" 50
	figure "one at a time ($1): the peer sent $(($(nstat_peer TcpRetransSegs) - before)) segments again, $(($(nstat_peer TcpExtTCPTimeouts) - timeouts)) time-outs; stall $(value stall_ms "$TB_DIR/cli") ms"
}

threads() {
	bg_server srv "$BIN/handover" threads "$1" 5002 30 3000000
	local srv=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/srv"
	check "threads in blocking calls ($1)" logged cli in_peer \
		"$BIN/handover" peer "$1" 5002 30 3000000
	check_wait "threads in blocking calls: the server ($1)" "$srv" srv
	figure "xts_handover() takes $(value slowest_us "$TB_DIR/srv") us at most ($1)"
}

forks() {
	bg_server srv "$BIN/handover" fork "$1" 5003
	local srv=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/srv"
	check "a forked child hands over its parent's connection ($1)" \
		logged cli in_peer "$BIN/handover" forkpeer "$1" 5003
	check_wait "a forked child: the server ($1)" "$srv" srv
	check_eq "a forked child: it was carried before ($1)" \
		"$(value reason "$TB_DIR/srv")" 0
}

everything() {
	local resets
	resets=$(peer_resets)
	undisturbed "$1"
	many "short ones" "$1" --bytes 10000
	many "long ones" "$1" --bytes 400000 --message 60000
	many "requests" "$1" --bytes 100000 --rpc --close server-fin
	many "half-closed at the end" "$1" --bytes 100000 --close client-half
	threads "$1"
	check_eq "no reset, seen by the peer ($1)" "$(peer_resets)" "$resets"
	many "ends of all kinds" "$1" --bytes 50000 --vary --close mix
}

# ---- the service stops -----------------------------------------------------------

# busy N ADDRESS: N connections that will be busy for some seconds
busy() {
	listener srv --count "$1" "$2" 5004
	SRV=$BG_PID
	bg_peer cli "$BIN/traffic" connect --count "$1" --concurrency "$1" \
		--rpc --message 20000 --bytes 20000000 --timeout 60 "$2" 5004
	CLI=$BG_PID
	wait_for 10 all_begun "$1"
	sleep 0.3
}
all_begun() { [ "$(in_server ss -Htn state established sport = :5004 | wc -l)" = "$1" ]; }

busy_ends() {
	check_wait "$1: every byte arrives" "$SRV" srv
	check_wait "$1: the peer's end" "$CLI" cli
	check_eq "$1: they had been handed over" \
		"$(value reason_HANDED_OVER "$TB_DIR/srv")" "$2"
	figure "$1: $(value stall_ms "$TB_DIR/cli") ms longest stall"
}

# Another one takes its place: the addresses are there again.
restarted() {
	busy 20 "$1"
	stack_stop
	stack_start
	busy_ends "the service is started again ($1)" 20
}

taken_over() {
	local word=
	mkfifo "$TB_DIR/ready.to"
	server_address_kernel
	nsenter --net="/run/netns/$TB_SERVER" "$BUILD/tas-xdp" --nic s0 \
		--takeover --ready-fd 3 3>"$TB_DIR/ready.to" \
		2>"$TB_DIR/daemon.log" </dev/null &
	DAEMON_PID=$!
	testbed_own $DAEMON_PID
	read -r -t 20 word <"$TB_DIR/ready.to"
	in_peer ip neigh flush dev p0
	busy 20 $SERVER4
	daemon_stop
	check_eq "--takeover: SIGTERM ends it well" $? 0
	busy_ends "--takeover: they live on without the service" 20
	check "--takeover: Linux has none left" wait_for 10 server_has_no_sockets
}

# A program that does not react is not waited for.
stopped_program() {
	busy 5 $SERVER4
	kill -STOP "$SRV"
	sleep 0.3
	stack_stop
	check_eq "a program that sleeps: the service ends all the same" $? 0
	kill -CONT "$SRV"
	reap "$CLI"
	reap "$SRV"
	check_eq "and its connections are reset" \
		"$(grep -c 'reset by peer' "$TB_DIR/cli.err")" 5
}

is_tas || { skip "hand-over" "only where there is a service"; exit 0; }
stack_up
for addr in $SERVER4 $SERVER6; do
	single $addr
	halves $addr
	forks $addr
	everything $addr
	check_no_invalid "$addr"
done
in_server sysctl -qw net.ipv4.tcp_timestamps=0
everything $SERVER4
single $SERVER6
halves $SERVER6
check_no_invalid "without timestamps"
in_server sysctl -qw net.ipv4.tcp_sack=0 net.ipv4.tcp_window_scaling=0
everything $SERVER6
single $SERVER4
halves $SERVER4
check_no_invalid "without SACK and window scaling"
check "Linux has none left" wait_for 10 server_has_no_sockets
check "nor has conntrack" wait_for 10 server_has_no_conntracks
check_eq "no hand-over failed" "$(daemon_counter slow_handover_failed)" 0
check_eq "no program was cut off" "$(daemon_counter slow_offenders)" 0
restarted $SERVER4
restarted $SERVER6
check_no_invalid "when the service is started again"
stopped_program
taken_over
check_no_invalid "when the service stops"
finish
