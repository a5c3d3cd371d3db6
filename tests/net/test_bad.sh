#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# Bad input: the offender alone fails, with a sentence or a counter.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on tas0
#   p0 ================ veth ========== s0
#   a good connection all the time,     libsock programs; one that breaks the
#   and frames that are not             contract; tas-xdp started wrongly
set -u
cd "$(dirname "$0")" && . ./lib.sh
TAS=$BUILD/tas-xdp

host_state() {
	in_server sh -c 'ip -o addr show; ip rule; ip -6 rule
		ip -o link show | sed "s/ qdisc.*//"; ip route show table all' |
		sed 's/ *\(valid_lft\|expires\).*//' | sort
}

# refused NAME STATUS PATTERN CMD...: ends at once, says one sentence that
# matches PATTERN, and leaves everything as it was
refused() {
	local name=$1 want=$2 pattern=$3 status before
	shift 3
	before=$(host_state)
	in_server timeout 10 "$@" >"$TB_DIR/bad" 2>&1 </dev/null
	status=$?
	if [[ ! $status =~ ^$want$ ]] || ! grep -qiE "$pattern" "$TB_DIR/bad" ||
		[ "$(wc -l <"$TB_DIR/bad")" -gt 5 ]; then
		not_ok "$name: status $status instead of $want, or an unclear message"
		note <"$TB_DIR/bad"
		return
	fi
	[ "$before" = "$(host_state)" ]
	check_eq "$name: $(head -n 1 "$TB_DIR/bad")" $? 0
}

wrong_command_line() {
	local addr="--addr $SERVER4/24"
	refused "no --nic" 2 nic "$TAS" --addr $SERVER4/24
	refused "no address" 2 'addr|takeover' "$TAS" --nic s0
	refused "an unknown option" 2 'nonsense' "$TAS" --nic s0 --nonsense
	refused "a word too many" 2 'word' "$TAS" --nic s0 $addr word
	refused "a bad address" 2 'addr' "$TAS" --nic s0 --addr 10.9.0.300/24
	refused "a bad prefix length" 2 'addr' "$TAS" --nic s0 --addr 10.9.0.2/33
	refused "no prefix length" 2 'addr' "$TAS" --nic s0 --addr fd09::2
	refused "no number" 2 'queues' "$TAS" --nic s0 $addr --queues many
	refused "a number too large" 2 'queues' "$TAS" --nic s0 $addr --queues 999
	refused "a number below zero" 2 'flows' "$TAS" --nic s0 $addr --flows -1
	refused "a bad CPU list" 2 'cpu' "$TAS" --nic s0 $addr --cpu 0-x
	refused "a bad mode" 2 'mode' "$TAS" --nic s0 $addr --mode fast
	refused "both ways to own addresses" 2 'addr|takeover' \
		"$TAS" --nic s0 $addr --takeover
}

cannot_start() {
	local addr="--addr $SERVER4/24" want='root|CAP_|capabilit|permi'
	refused "not root" 1 "$want" setpriv --reuid 65534 --regid 65534 \
		--clear-groups "$TAS" --nic s0 $addr
	refused "without CAP_NET_ADMIN" 1 "$want" \
		setpriv --bounding-set -net_admin "$TAS" --nic s0 $addr
	refused "without CAP_BPF and CAP_SYS_ADMIN" 1 "$want" \
		setpriv --bounding-set -bpf,-sys_admin "$TAS" --nic s0 $addr
	refused "without CAP_NET_RAW" 1 "$want" \
		setpriv --bounding-set -net_raw "$TAS" --nic s0 $addr
	refused "an unknown NIC" 1 'eth77' "$TAS" --nic eth77 $addr
	refused "a NIC whose driver does not do XDP" 1 'lo|XDP' \
		"$TAS" --nic lo --mode driver $addr
	refused "an address that is another interface's" 1 '10.9.3.2' \
		"$TAS" --nic s0 --addr 10.9.3.2/24
	refused "an address twice" '[12]' "$SERVER4" \
		"$TAS" --nic s0 $addr $addr
	refused "more queues than the NIC has" 1 'queue' \
		"$TAS" --nic s0 $addr --queues 8
	bg_server occupied "$BIN/occupy" xdp s0
	wait_for 5 grep -q occupied "$TB_DIR/occupied"
	refused "another XDP program on the NIC" 1 'XDP' "$TAS" --nic s0 $addr
	end "$BG_PID"
	bg_server occupied "$BIN/occupy" queue s0 0
	wait_for 5 grep -q occupied "$TB_DIR/occupied"
	refused "the queue is taken" 1 'queue' "$TAS" --nic s0 $addr
	end "$BG_PID"
	in_server ip tuntap add dev tas0 mode tap
	refused "the name of the TAP is taken" 1 'tas0' "$TAS" --nic s0 $addr
	in_server ip link del tas0
}

second_daemon() {
	refused "a second daemon" 1 'another|already' "$TAS" --nic s0 \
		--addr 10.9.0.3/24
	refused "a second daemon on the NIC with names of its own" 1 . \
		"$TAS" --nic s0 --addr 10.9.0.3/24 --control @second --tap tas1
}

# ---- a good connection meanwhile ---------------------------------------------------

good_start() {
	listener good "$1" 5000
	GOOD_SRV=$BG_PID
	bg_peer goods "$BIN/traffic" connect --rpc --bytes 4000000000 \
		--message 3000 --timeout 110 "$1" 5000
	GOOD=$BG_PID
	wait_for 5 good_ports
	GOOD_PORT=$(in_peer ss -Htn state established "dport = :5000" |
		awk '{ sub(".*:", "", $3); print $3; exit }')
}
good_ports() { in_peer ss -Htn state established | grep -q ':5000'; }

# good_end WHAT: it ran all the time and lost nothing
good_end() {
	check "a good connection goes on during $1" kill -0 "$GOOD"
	check "and still moves data" wait_for 10 good_moves "$(good_bytes)"
	end "$GOOD"
	end "$GOOD_SRV"
	check "no byte of it altered" unaltered good goods
	! is_tas || check_eq "nor did it leave the fast path" \
		"$(value reason_LOST_SERVICE "$TB_DIR/good")" 0
}
good_moves() {
	local now
	now=$(good_bytes)
	[ -n "$now" ] && [ "$now" != "$1" ]
}
good_bytes() {
	in_peer ss -Htnie state established "dport = :5000" |
		grep -o 'bytes_received:[0-9]*'
}
daemon_lives() { kill -0 "$CHILD" && kill -0 "$DAEMON_PID"; }

# ---- programs ------------------------------------------------------------------------

control_garbage() {
	local fds
	fds=$(fd_count "$CHILD")
	good_start $SERVER4
	check "garbage on the control socket" \
		logged control in_server timeout 60 "$BIN/badapp" control
	check "300 silent control connections at once" \
		in_server "$BIN/badapp" connects 300
	# another user's program
	check "a program of another user works or is told no" \
		in_server setpriv --reuid 65534 --regid 65534 --clear-groups \
		"$BIN/probe" --xts $PEER4 9
	check "the daemon lives" daemon_lives
	fds_are_back() { [ "$(fd_count "$CHILD")" -le $((fds + 6)) ]; }
	check "and keeps none of their descriptors" wait_for 5 fds_are_back
	good_end "garbage on the control socket"
}

# A lie in a command ring: the liar's connection ends, no one else's.
lies() {
	local kind bad peer
	good_start $SERVER4
	for kind in range credits type producer consumer flow; do
		bg_server bad timeout 30 "$BIN/badapp" command $kind \
			$SERVER4 5007
		bad=$BG_PID
		wait_for 5 grep -q listening "$TB_DIR/bad"
		bg_peer victim timeout 30 "$BIN/api" dial 1 $SERVER4 5007
		peer=$BG_PID
		reap "$bad"
		# a handle that names no flow may be a stale one: ignored
		[ $kind = flow ] || check_eq "a lie about $kind ends the liar's session" \
			"$(value session "$TB_DIR/bad")" closed
		wait_for 5 gone "$peer"
		check "and its connection ($kind)" gone "$peer"
		end "$peer"
	done
	check "the daemon lives" daemon_lives
	good_end "lies in a command ring"
	check_ge "offences are counted" "$(daemon_counter app_offences)" 1
}

scribble() {
	local bad peer
	good_start $SERVER4
	bg_server bad timeout 30 "$BIN/badapp" scribble $SERVER4 5008 3
	bad=$BG_PID
	wait_for 5 grep -q listening "$TB_DIR/bad"
	# unread data and data on their way while it scribbles
	bg_peer victim "$BIN/traffic" connect --bytes 20000000 --timeout 30 \
		$SERVER4 5008
	peer=$BG_PID
	reap "$bad"
	check_eq "a program scribbles over all of its memory: its session ends" \
		"$(value session "$TB_DIR/bad")" closed
	wait_for 10 gone "$peer"
	check "its peer is told" gone "$peer"
	end "$peer"
	check "the daemon lives" daemon_lives
	good_end "a program that scribbles"
}

# ---- frames --------------------------------------------------------------------------

bad_frames() {
	local server=$1 peer=$2 before
	is_tas && before=$(daemon_counter rx_bad_checksum)
	good_start "$server"
	check "malformed frames of every kind arrive ($server)" logged bad \
		in_peer "$BIN/packets" bad p0 "$(mac_of in_server s0)" "$peer" \
		"$server" "$GOOD_PORT,5000" 6
	figure "malformed frames: $(value sent "$TB_DIR/bad") in 6 s"
	good_end "malformed frames ($server)"
	check "new connections work after them" logged cli \
		server_serves "$server"
	is_tas || return
	check "the daemon lives" daemon_lives
	check_ge "wrong checksums are counted" \
		"$(daemon_counter rx_bad_checksum)" $((before + 1000))
}

server_serves() {
	listener srv --count 5 "$1" 5001
	local srv=$BG_PID
	in_peer "$BIN/traffic" connect --count 5 --timeout 10 "$1" 5001 &&
		reap "$srv"
}

testbed_up
in_server ip link add x0 type veth peer name x1
in_server ip addr add 10.9.3.2/24 dev x0
if is_tas; then
	wrong_command_line
	cannot_start
fi
stack_start
is_tas && CHILD=$(daemon_child)
if is_tas; then
	second_daemon
	control_garbage
	lies
	scribble
fi
bad_frames $SERVER4 $PEER4
bad_frames $SERVER6 $PEER6
if is_tas; then
	stack_stop
	check_eq "the daemon stops cleanly after all that: its exit status" $? 0
fi
finish
