#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091
#
# What the service does to a host that is in use, and that it all goes back.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on s0 at first,
#   192.0.2.7, 2001:db8::7 "far away"   default routes via the peer
#   p0 ================ veth ========== s0, tas0
#
# Strict reverse path filtering is on. Everything below is what ip(8) shows of
# addresses, rules and routes of all tables.
set -u
cd "$(dirname "$0")" && . ./lib.sh

everything() {
	in_server sh -c 'ip -o addr; ip rule; ip -6 rule
		ip -4 route show table all; ip -6 route show table all
		ip -o link show s0 | grep -o "xdp[a-z]*"'
}

# reaches A4 A6: the peer reaches these, from its own and from far addresses
reaches() {
	in_peer ping -c 1 -W 2 "$1" &&
		in_peer ping -c 1 -W 2 -I 192.0.2.7 "$1" &&
		in_peer ping -c 1 -W 2 "$2" &&
		in_peer ping -c 1 -W 2 -I 2001:db8::7 "$2"
}

# start OPTION...: as daemon_start, addresses from OPTIONs
start() {
	local word
	mkfifo "$TB_DIR/ready"
	nsenter --net="/run/netns/$TB_SERVER" "$BUILD/tas-xdp" --nic s0 "$@" \
		--ready-fd 3 3>"$TB_DIR/ready" 2>"$TB_DIR/daemon.log" &
	DAEMON_PID=$!
	testbed_own $DAEMON_PID
	read -r -t 20 word <"$TB_DIR/ready" || word=
	rm -f "$TB_DIR/ready"
	in_peer ip neigh flush dev p0
	[ "$word" = ready ] || { note <"$TB_DIR/daemon.log"; return 1; }
}

is_as_before() { everything | diff "$TB_DIR/before" -; }

testbed_up
server_address_kernel
in_server ip route add default via $PEER4
in_server ip -6 route add default via $PEER6
in_server sysctl -qw net.ipv4.conf.all.rp_filter=1
in_peer ip addr add 192.0.2.7/32 dev lo
in_peer ip addr add 2001:db8::7/128 dev lo nodad
check "Linux alone is reached" reaches $SERVER4 $SERVER6
everything >"$TB_DIR/before"

if start --addr 10.9.0.5/24 --addr fd09::5/64; then
	check "addresses of the service's own are reached" \
		reaches 10.9.0.5 fd09::5
	check "the NIC's addresses are reached as before" \
		reaches $SERVER4 $SERVER6
	check "fragments of IPv4 arrive" \
		in_peer ping -c 2 -i 0.2 -W 2 -s 5000 10.9.0.5
	check "fragments of IPv6 arrive" \
		in_peer ping -c 2 -i 0.2 -W 2 -s 5000 fd09::5
	check "the server reaches the peer from its own addresses" \
		in_server ping -c 1 -W 2 $PEER4
	check "the server reaches the peer from the service's addresses" \
		in_server ping -c 1 -W 2 -I 10.9.0.5 192.0.2.7
	daemon_stop
	check_eq "SIGTERM ends it well" $? 0
	check "after --addr everything is as before" is_as_before
else
	not_ok "the service starts with --addr"
fi

if start --takeover; then
	check "addresses that were taken over are reached" \
		reaches $SERVER4 $SERVER6
	check_eq "the NIC has no address meanwhile" \
		"$(in_server ip -o addr show dev s0)" ""
	check "the server reaches the peer" in_server ping -c 1 -W 2 192.0.2.7
	daemon_stop
	check_eq "SIGTERM ends it well" $? 0
	check "after --takeover everything is as before" is_as_before
else
	not_ok "the service starts with --takeover"
fi

# A sanitizer would take SIGSEGV for a finding.
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:handle_segv=0
export TSAN_OPTIONS=${TSAN_OPTIONS:-}:handle_segv=0
for signal in KILL SEGV; do
	if start --takeover; then
		kill -$signal "$(daemon_child)"
		wait "$DAEMON_PID"
		check_ge "the guardian tells of a daemon ended by $signal" $? 128
		testbed_disown "$DAEMON_PID"
		DAEMON_PID=
		check "after a daemon ended by $signal everything is as before" \
			is_as_before
		check "and Linux alone is reached" reaches $SERVER4 $SERVER6
	else
		not_ok "the service starts with --takeover"
	fi
done
finish
