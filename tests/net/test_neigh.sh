#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# Linux's neighbour table, routes and SYN cookies decide at set-up.
#
#   far                       peer                            server
#   10.8.0.1, fd08::1         10.8.0.254   10.9.0.1           10.9.0.2
#   f0 ======== veth ======== g0 (router)  p0 ==== veth ====  s0 / tas0
#
# The peer's MAC address changes during the test; SYNs come from 10.9.0.200 and
# fd09::200, which no host has.
set -u
cd "$(dirname "$0")" && . ./lib.sh

in_far() { nsenter --net="/run/netns/$TB_FAR" "$@"; }

far_up() {
	TB_FAR=tas-$$-far
	ip netns add "$TB_FAR"
	testbed_on_exit "ip netns del $TB_FAR"
	in_peer ip link add g0 type veth peer name f0 netns "$TB_FAR"
	in_peer sh -c 'ethtool -K g0 tx off >/dev/null
		ip addr add 10.8.0.254/24 dev g0
		ip addr add fd08::254/64 dev g0 nodad
		ip link set g0 up
		sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1'
	in_far sh -c 'ethtool -K f0 tx off >/dev/null
		ip link set lo up
		ip addr add 10.8.0.1/24 dev f0
		ip addr add fd08::1/64 dev f0 nodad
		ip link set f0 up
		ip route add default via 10.8.0.254
		ip -6 route add default via fd08::254'
	in_server ip route add 10.8.0.0/24 via $PEER4 dev "$(stack_dev)"
	in_server ip -6 route add fd08::/64 via $PEER6 dev "$(stack_dev)"
}

# echo_works NAME FROM ADDRESS: 5 connections, all carried
echo_works() {
	listener srv --count 5 "$3" 5000
	local srv=$BG_PID
	quiet "$2" "$BIN/traffic" connect --count 5 --rpc --bytes 20000 \
		--timeout 15 "$3" 5000
	end "$srv"
	check_eq "$1: connections work" "$(value "done" "$TB_DIR/srv")" 5
	! is_tas || check_eq "$1: and are carried" \
		"$(value offloaded "$TB_DIR/srv")" 5
}

neighbour() { in_server ip neigh replace "$@" dev "$(stack_dev)"; }

static_neighbours() {
	local mac=02:00:00:00:09:09 old=$1 peer=$2 server=$3
	neighbour "$peer" lladdr $mac nud permanent
	listener srv "$server" 5001
	check_eq "a static neighbour entry that leads nowhere is honoured ($peer)" \
		"$(in_peer "$BIN/probe" --timeout-ms 1500 "$server" 5001)" \
		timeout=1
	end "$BG_PID"
	neighbour "$peer" lladdr "$old" nud permanent
	echo_works "a static entry that is right ($peer)" in_peer "$server"
	in_peer ip link set p0 address $mac
	neighbour "$peer" lladdr $mac nud permanent
	echo_works "a changed static entry ($peer)" in_peer "$server"
	# and back; Linux has to find out by itself
	in_peer ip link set p0 address "$old"
	in_server ip neigh del "$peer" dev "$(stack_dev)"
	echo_works "a neighbour that Linux resolves anew ($peer)" in_peer \
		"$server"
}

syn_cookies() {
	local from=$1 server=$2 sent recv srv flood
	sent=$(nstat_server TcpExtSyncookiesSent)
	recv=$(nstat_server TcpExtSyncookiesRecv)
	listener srv --backlog 8 "$server" 5002
	srv=$BG_PID
	bg_peer flood "$BIN/packets" syn p0 \
		"$(mac_of in_server s0)" "$from" \
		"$server" 5002 4
	flood=$BG_PID
	sleep 1
	check "connections made during a SYN burst work ($server)" \
		logged cli in_peer "$BIN/traffic" connect --count 40 \
		--concurrency 2 --rpc --bytes 5000 --timeout 30 "$server" 5002
	reap "$flood"
	end "$srv"
	! is_tas || check_ge "and are carried" \
		"$(value offloaded "$TB_DIR/srv")" 40
	check_ge "SYN cookies were sent" \
		"$(nstat_server TcpExtSyncookiesSent)" $((sent + 100))
	check_ge "and came back" "$(nstat_server TcpExtSyncookiesRecv)" \
		$((recv + 1))
}

stack_up
far_up
echo_works "a peer behind a gateway (IPv4)" in_far $SERVER4
echo_works "a peer behind a gateway (IPv6)" in_far $SERVER6
MAC=$(mac_of in_peer p0)
static_neighbours "$MAC" $PEER4 $SERVER4
static_neighbours "$MAC" $PEER6 $SERVER6
syn_cookies 10.9.0.200 $SERVER4
syn_cookies fd09::200 $SERVER6
check_no_invalid
finish
