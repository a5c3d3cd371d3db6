#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# A program dies, the service stops, the service dies.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2
#   p0 ================ veth ========== s0 (Linux alone), then tas0
#   kernel sockets, which tell EOF      libsock programs, killed; another that
#   from reset                          must feel nothing of it
#
# What the peer sees of a program's death is compared with Linux alone.
# waits
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh

# ---- a program dies ----------------------------------------------------------------

# ends CLI: how the peer's held connections ended
ends() {
	local cli=$1
	wait_for 10 gone "$cli" || kill "$cli"
	reap "$cli"
	echo "eof=$(value eof "$TB_DIR/cli") reset=$(value reset "$TB_DIR/cli")"
}

# die NAME LISTEN_OPTIONS CONNECT_OPTION...: 20 held connections, then kill -9
die() {
	local name=$1 listen=$2 cli
	shift 2
	listener srv $listen 5000
	local srv=$BG_PID
	bg_peer cli "$BIN/traffic" connect --hold --count 20 --timeout 30 "$@" \
		"$ADDR" 5000
	cli=$BG_PID
	wait_for 10 grep -q held "$TB_DIR/cli"
	sleep 0.2
	end "$srv" KILL
	# what waits in the peer's socket is read now, then the end
	sleep 0.2
	kill -USR1 "$cli" 2>/dev/null
	echo "$name|$(ends "$cli")"
	echo "$name: the listener|$(in_peer "$BIN/probe" "$ADDR" 5000)"
}

# Connections of the program itself.
die_connected() {
	local cli
	bg_peer peer "$BIN/traffic" listen $PEER4 5001
	local peer=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/peer"
	bg_server cli "$BIN/traffic" connect --xts --hold --count 20 \
		--bytes 100 $PEER4 5001
	cli=$BG_PID
	wait_for 10 grep -q held "$TB_DIR/cli"
	end "$cli" KILL
	sleep 0.5
	end "$peer"
	echo "connected|eof=$(value eof "$TB_DIR/peer") reset=$(value reset "$TB_DIR/peer")"
}

# Established, but never accepted.
die_backlog() {
	listener srv "$ADDR" 5002
	local srv=$BG_PID cli
	kill -STOP "$srv"
	# the signal alone: on a busy machine it may accept yet
	wait_for 10 has_stopped "$srv"
	bg_peer cli "$BIN/traffic" connect --hold --count 5 --bytes 10 \
		--bytes-back 0 "$ADDR" 5002
	cli=$BG_PID
	wait_for 10 grep -q held "$TB_DIR/cli"
	end "$srv" KILL
	echo "in the backlog|$(ends "$cli")"
}

has_stopped() { grep -q '^State:.T' "/proc/$1/status"; }

deaths() {
	ADDR=$SERVER4
	die "idle" "$SERVER4" --bytes 5000
	die "unread data" "--no-read $SERVER4" --bytes 5000 --bytes-back 0
	die "data under way" "$SERVER4" --no-read --bytes 10 --bytes-back 100000
	die_backlog
	die_connected
	ADDR=$SERVER6
	die "idle, IPv6" "$SERVER6" --bytes 5000
	die "unread data, IPv6" "--no-read $SERVER6" --bytes 5000 --bytes-back 0
}

compare_deaths() {
	local name result
	while IFS='|' read -r name result; do
		check_eq "a program is killed, $name: the peer sees what Linux does ($result)" \
			"$(grep "^$name|" "$TB_DIR/deaths.tas" | cut -d'|' -f2)" \
			"$result"
	done <"$TB_DIR/deaths.kernel"
}

one_after_another() {
	local i bad=0 cli
	for ((i = 0; i < 200; i++)); do
		listener app $SERVER4 5005 || bad=$((bad + 1))
		local app=$BG_PID
		bg_peer cli "$BIN/traffic" connect --hold --bytes 1000 \
			--timeout 5 $SERVER4 5005
		cli=$BG_PID
		wait_for 5 grep -q held "$TB_DIR/cli" || bad=$((bad + 1))
		end "$app" KILL
		reap "$cli"
		[ "$(value eof "$TB_DIR/cli")" = 1 ] || bad=$((bad + 1))
	done
	check_eq "200 programs start, serve and are killed, one after another" \
		$bad 0
}

programs_die() {
	STACK=kernel
	stack_start
	deaths >"$TB_DIR/deaths.kernel"
	stack_stop
	STACK=tas-xdp
	stack_start
	local child fds rss other
	child=$(daemon_child)
	# The other program's connection lives through it all.
	listener other $SERVER4 5009
	other=$BG_PID
	bg_peer others "$BIN/traffic" connect --rpc --bytes 2000000000 \
		--message 2000 --timeout 110 $SERVER4 5009
	local others=$BG_PID
	sleep 0.5
	fds=$(fd_count "$child")
	deaths >"$TB_DIR/deaths.tas"
	compare_deaths
	rss=$(rss_kib "$child")
	one_after_another
	fds_are_back() { [ "$(fd_count "$child")" -le "$fds" ]; }
	check "the daemon holds no descriptor of the dead" \
		wait_for 10 fds_are_back
	check_le "nor memory" $(($(rss_kib "$child") - rss)) 8192
	check "another program's connection felt nothing" kill -0 "$others"
	end "$others"
	end "$other"
	check "and no byte of it was altered" unaltered other others
	check_no_invalid "of programs that died"
}

# ---- the service stops ----------------------------------------------------------------

# A directory of our own for the pins, where /sys/fs/bpf is mounted already.
BPFFS=
! mountpoint -q /sys/fs/bpf || BPFFS=/sys/fs/bpf/tas-test-$$

# What the service may have changed, in words.
host_state() {
	in_server sh -c 'ip -o addr show; ip rule; ip -6 rule
		ip -o link show | sed "s/ qdisc.*//"
		ip route show table all; ip -6 route show table all' |
		sed 's/ *\(valid_lft\|expires\|proto kernel_lo\).*//; s/prog\/xdp.*//' |
		sort
	[ -z "$BPFFS" ] || ls "$BPFFS" 2>&1
}
state_is_back() {
	host_state >"$TB_DIR/state.now"
	diff "$TB_DIR/state.before" "$TB_DIR/state.now"
}
no_xdp() { ! in_server ip link show dev s0 | grep xdp; }

check_restored() {
	check "$1: addresses, rules, routes and links are as found" \
		wait_for 5 state_is_back
	state_is_back | note
	check "$1: XDP is detached" no_xdp
}

takeover_start() {
	mkfifo "$TB_DIR/ready.to"
	nsenter --net="/run/netns/$TB_SERVER" "$BUILD/tas-xdp" --nic s0 \
		--takeover ${BPFFS:+--bpffs $BPFFS} --ready-fd 3 \
		3>"$TB_DIR/ready.to" \
		2>"$TB_DIR/daemon.log" </dev/null &
	DAEMON_PID=$!
	testbed_own $DAEMON_PID
	local word=
	read -r -t 20 word <"$TB_DIR/ready.to"
	rm -f "$TB_DIR/ready.to"
	in_peer ip neigh flush dev p0
	[ "$word" = ready ]
}

# held_start: a program with 10 held connections of the peer
held_start() {
	listener srv 0.0.0.0 5006
	SRV=$BG_PID
	bg_peer cli "$BIN/traffic" connect --hold --count 10 --bytes 1000 \
		--timeout 20 $SERVER4 5006
	CLI=$BG_PID
	wait_for 10 grep -q held "$TB_DIR/cli"
}

# stop NAME SIGNAL PID_TO_KILL WANTED_STATUS
stop() {
	local name=$1 status
	held_start
	kill "-$2" "$3"
	wait_for 10 gone "$DAEMON_PID"
	check "$name: it ends in time" gone "$DAEMON_PID"
	reap "$DAEMON_PID"
	status=$?
	DAEMON_PID=
	[ -z "$4" ] || check_eq "$name: its exit status" "$status" "$4"
	check_restored "$name"
	check "$name: the program lives on" kill -0 "$SRV"
}

# Connections live on in Linux, but with addresses of its own these go with the
# service. How they go on when it comes back: test_handover.sh.
stopped() {
	stack_start ${BPFFS:+--bpffs $BPFFS}
	stop "SIGTERM" TERM "$DAEMON_PID" 0
	check_eq "SIGTERM: open connections are Linux's" \
		"$(in_server ss -Htn state established sport = :5006 | wc -l)" 10
	end "$CLI"
	end "$SRV"
	stack_start ${BPFFS:+--bpffs $BPFFS}
	stop "SIGINT" INT "$DAEMON_PID" 0
	end "$CLI"
	end "$SRV"
}

died() {
	local sig want
	for sig in SEGV:139 ABRT:134 KILL:137; do
		# a sanitizer would take SIGSEGV for a finding
		ASAN_OPTIONS=${ASAN_OPTIONS:-}:handle_segv=0 \
		TSAN_OPTIONS=${TSAN_OPTIONS:-}:handle_segv=0 \
			stack_start ${BPFFS:+--bpffs $BPFFS}
		want=${sig#*:}
		stop "the daemon dies of ${sig%:*}" "${sig%:*}" \
			"$(daemon_child)" "$want"
		check "the guardian says so (${sig%:*})" \
			grep -qiE 'signal|SIG' "$TB_DIR/daemon.log"
		end "$CLI"
		end "$SRV"
	done
	stack_start ${BPFFS:+--bpffs $BPFFS}
	CHILD=$(daemon_child)
	stop "the guardian is killed" KILL "$DAEMON_PID" 137
	wait_for 10 gone "$CHILD"
	check "the daemon goes too" gone "$CHILD"
	end "$CLI"
	end "$SRV"
	stack_start ${BPFFS:+--bpffs $BPFFS}
	stop "SIGTERM after all that" TERM "$DAEMON_PID" 0
	end "$CLI"
	end "$SRV"
}

# The NIC's addresses move to the TAP and come back; the program goes on with
# new connections on kernel sockets.
takeover() {
	local sig=$1 target want=$2
	takeover_start
	check_eq "takeover starts" $? 0
	check "takeover: the address has moved" \
		grep -q 'tas0.*10.9.0.2' <(in_server ip -o addr)
	check "takeover: a route by way of the peer works" \
		in_server ping -c 1 -W 2 10.7.0.1
	target=$DAEMON_PID
	[ "$sig" = TERM ] || target=$(daemon_child)
	stop "takeover, $sig" "$sig" "$target" "$want"
	end "$CLI"
	in_peer ip neigh flush dev p0
	check "takeover, $sig: the same program serves new connections" \
		logged cli in_peer "$BIN/traffic" connect --count 5 \
		--timeout 10 $SERVER4 5006
	end "$SRV"
	check_ge "takeover, $sig: in the kernel" \
		"$(($(value reason_NO_SERVICE "$TB_DIR/srv") +
		$(value reason_LOST_SERVICE "$TB_DIR/srv")))" 5
}

testbed_up
base_ruleset || exit 1
programs_die
stack_stop
host_state >"$TB_DIR/state.before"
stopped
died
server_address_kernel
in_peer ip addr add 10.7.0.1/32 dev p0
in_server ip route add 10.7.0.0/24 via $PEER4 dev s0 metric 50
host_state >"$TB_DIR/state.before"
takeover TERM 0
takeover KILL 137
finish
