# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# testbed.sh - two hosts on one wire, made of network namespaces; source it
#
#   peer                              server
#   10.9.0.1/24, fd09::1/64           10.9.0.2/24, fd09::2/64
#   p0 ================= veth ================= s0 (no address: the service
#   plain kernel TCP, tx off                    holds them on tas0)
#
# With a bad wire in between (testbed_up_impaired), where bench/impair.c carries
# the frames:
#
#   p0 == veth == i0  mid  i1 == veth == s0
#
# All four ends are without offloads then: only whole frames with checksums pass.
#
# Everything is named after this shell's pid and removed when it exits, also
# after a failure or a signal. Processes are ended by the pids that were
# recorded with testbed_own.
#
#   testbed_up [QUEUES]      make the hosts
#   testbed_up_impaired [QUEUES]   with mid in between; no frame passes before
#   impair_start [TO_SERVER [TO_PEER]]
#                            SPECs as in bench/impair.c; IMPAIR_SEED is the seed
#   impair_set to-server|to-peer SPEC   changes what SPEC names
#   impair_value NAME        a counter, as to_server_lost
#   impair_unplanned         frames lost on the way that no SPEC asked for
#   impair_stop              its exit status: 1 if a frame was lost unasked;
#                            the counters stay in $TB_DIR/impair.stats
#   in_peer CMD, in_server CMD   run CMD there (this shell waits for it)
#   server_address_kernel    the addresses on s0: Linux alone
#   server_address_none      s0 without addresses again
#   daemon_start [OPTION...] tas-xdp in server, returns when it is ready
#   daemon_stop              SIGTERM, waits; returns its exit status
#   testbed_own PID          end PID when the testbed goes
#   testbed_disown PID       it has ended: leave that pid alone
#   testbed_on_exit COMMAND  run COMMAND when the testbed goes

TB_PEER=tas-$$-peer
TB_SERVER=tas-$$-server
TB_MID=tas-$$-mid
# shellcheck disable=SC2034 # for those who source this file
PEER4=10.9.0.1 SERVER4=10.9.0.2 PEER6=fd09::1 SERVER6=fd09::2
: "${BUILD:=.build}"
TB_DIR=
TB_PIDS=()
TB_HOOKS=()
DAEMON_PID=
DAEMON_CPUS=
IMPAIR_PID=
IMPAIR_CPUS=

in_peer() { nsenter --net="/run/netns/$TB_PEER" "$@"; }
in_server() { nsenter --net="/run/netns/$TB_SERVER" "$@"; }
in_mid() { nsenter --net="/run/netns/$TB_MID" "$@"; }
testbed_own() { TB_PIDS+=("$1"); }
testbed_disown() {
	local pid left=()
	for pid in "${TB_PIDS[@]}"; do
		[ "$pid" = "$1" ] || left+=("$pid")
	done
	TB_PIDS=("${left[@]}")
}
testbed_on_exit() { TB_HOOKS+=("$1"); }

testbed_down() {
	local status=$? i pid
	trap '' EXIT INT TERM HUP
	for ((i = ${#TB_PIDS[@]} - 1; i >= 0; i--)); do
		kill "${TB_PIDS[i]}" 2>/dev/null
	done
	for pid in "${TB_PIDS[@]}"; do
		for ((i = 0; i < 50; i++)); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
		kill -9 "$pid" 2>/dev/null
	done
	for i in "${TB_HOOKS[@]}"; do eval "$i"; done
	ip netns del "$TB_PEER" 2>/dev/null
	ip netns del "$TB_SERVER" 2>/dev/null
	ip netns del "$TB_MID" 2>/dev/null
	[ -z "$TB_DIR" ] || rm -rf "$TB_DIR"
	exit "$status"
}

testbed_begin() {
	if [ "$(id -u)" != 0 ]; then
		echo "network namespaces need root: run this as root" >&2
		exit 1
	fi
	TB_DIR=$(mktemp -d)
	trap testbed_down EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	ip netns add "$TB_PEER" && ip netns add "$TB_SERVER" || exit 1
}

# testbed_wire NS DEVICE NS DEVICE QUEUES
testbed_wire() {
	ip -n "$1" link add "$2" numtxqueues "$5" numrxqueues "$5" \
		type veth peer name "$4" numtxqueues "$5" numrxqueues "$5" \
		netns "$3" || exit 1
}

# Both hosts, once their wire is there
testbed_hosts() {
	local ns
	for ns in "$TB_PEER" "$TB_SERVER"; do
		nsenter --net="/run/netns/$ns" sh -c '
			ip link set lo up
			# Where the host does not allow it in a namespace, the
			# programs of bench/ ask for cubic by TCP_CONGESTION.
			sysctl -qw net.ipv4.tcp_congestion_control=cubic \
				2>/dev/null
			sysctl -qw net.ipv6.conf.all.accept_dad=0
			sysctl -qw net.ipv6.conf.default.accept_dad=0' || exit 1
	done
	in_peer sh -c "ethtool -K p0 tx off >/dev/null
		ip addr add $PEER4/24 dev p0
		ip addr add $PEER6/64 dev p0 nodad
		ip link set p0 up" || exit 1
	in_server sh -c "sysctl -qw net.ipv6.conf.s0.addr_gen_mode=1
		ip link set s0 up" || exit 1
}

testbed_up() {
	testbed_begin
	testbed_wire "$TB_SERVER" s0 "$TB_PEER" p0 "${1:-1}"
	testbed_hosts
}

testbed_up_impaired() {
	local dev offloads="tx off gso off gro off tso off"
	testbed_begin
	ip netns add "$TB_MID" || exit 1
	testbed_wire "$TB_PEER" p0 "$TB_MID" i0 "${1:-1}"
	testbed_wire "$TB_SERVER" s0 "$TB_MID" i1 "${1:-1}"
	# mid speaks nothing itself
	in_mid sysctl -qw net.ipv6.conf.all.disable_ipv6=1 \
		net.ipv6.conf.default.disable_ipv6=1
	for dev in i0 i1; do
		# shellcheck disable=SC2086
		in_mid sh -c "ethtool -K $dev $offloads >/dev/null
			ip link set $dev arp off up" || exit 1
	done
	# shellcheck disable=SC2086
	in_peer ethtool -K p0 $offloads >/dev/null
	# shellcheck disable=SC2086
	in_server ethtool -K s0 $offloads >/dev/null
	testbed_hosts
}

# await_ready NAME FIFO LOG: until the program writes "ready" into the fifo.
await_ready() {
	local word
	read -r -t 20 word <"$2" || word=
	rm -f "$2"
	[ "$word" = ready ] && return 0
	echo "$1 did not start:" >&2
	cat "$3" >&2
	return 1
}

impair_start() {
	mkfifo "$TB_DIR/impair.ready"
	# Not in_mid: a function's pid would be that of a shell around it.
	# shellcheck disable=SC2086
	nsenter --net="/run/netns/$TB_MID" \
		${IMPAIR_CPUS:+taskset -c $IMPAIR_CPUS} "$BUILD/bench/impair" \
		--seed "${IMPAIR_SEED:-1}" --stats "$TB_DIR/impair.stats" \
		--control "$TB_DIR/impair.control" --to-server "${1:-}" \
		--to-peer "${2:-}" i0 i1 >"$TB_DIR/impair.ready" \
		2>"$TB_DIR/impair.log" &
	IMPAIR_PID=$!
	testbed_own $IMPAIR_PID
	await_ready impair "$TB_DIR/impair.ready" "$TB_DIR/impair.log"
}

impair_tell() { "$BUILD/bench/impair" --tell "$TB_DIR/impair.control" "$@"; }
impair_set() { impair_tell "$@" >/dev/null; }
impair_value() {
	impair_tell stats | tr ' ' '\n' | sed -n "s/^$1=//p"
}

# What a veth dropped because its other end was full counts at the sender.
impair_unplanned() {
	# shellcheck disable=SC2016
	{ impair_tell stats | grep -oE '_unplanned=[0-9]+' | cut -d= -f2
	  in_peer awk '$1 == "p0:" { print $13 }' /proc/net/dev
	  in_server awk '$1 == "s0:" { print $13 }' /proc/net/dev; } |
		awk '{ n += $1 } END { print n + 0 }'
}

impair_stop() {
	[ -n "$IMPAIR_PID" ] || return 0
	kill -TERM "$IMPAIR_PID" 2>/dev/null
	wait "$IMPAIR_PID"
	local status=$?
	testbed_disown "$IMPAIR_PID"
	IMPAIR_PID=
	[ $status = 0 ] || cat "$TB_DIR/impair.log" >&2
	return $status
}

server_address_kernel() {
	in_server ip addr add $SERVER4/24 dev s0
	in_server ip addr add $SERVER6/64 dev s0 nodad
}

server_address_none() {
	in_server ip addr flush dev s0 scope global
	in_peer ip neigh flush dev p0
}

daemon_start() {
	mkfifo "$TB_DIR/ready.$$"
	# Not in_server: a function's pid would be that of a shell around it.
	# shellcheck disable=SC2086
	nsenter --net="/run/netns/$TB_SERVER" \
		${DAEMON_CPUS:+taskset -c $DAEMON_CPUS} "$BUILD/tas-xdp" \
		--nic s0 --addr $SERVER4/24 --addr $SERVER6/64 \
		--ready-fd 3 "$@" 3>"$TB_DIR/ready.$$" \
		2>"$TB_DIR/daemon.log" &
	DAEMON_PID=$!
	testbed_own $DAEMON_PID
	await_ready tas-xdp "$TB_DIR/ready.$$" "$TB_DIR/daemon.log" || return 1
	in_peer ip neigh flush dev p0
}

daemon_stop() {
	[ -n "$DAEMON_PID" ] || return 0
	kill -TERM "$DAEMON_PID" 2>/dev/null
	wait "$DAEMON_PID"
	local status=$?
	testbed_disown "$DAEMON_PID"
	DAEMON_PID=
	return $status
}
