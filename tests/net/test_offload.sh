#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2016,SC2034,SC2086
#
# Single connections, step by step: what a program sees of its offloaded socket
# is what it sees of the kernel's, which go through the same steps first.
#
#   far                  peer                      server
#   10.9.2.2, fd10::2 == f0 (MTU 1300)
#                        10.9.0.1, fd09::1         10.9.0.2, fd09::2
#                        p0 ======== veth ======== s0 (Linux alone), then tas0
#   kernel sockets       kernel sockets; forwards  libsock
#
# The link to far is narrower than both ends know: the peer says so by ICMP.
# waits
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh
FAR=tas-$$-far

in_far() { nsenter --net="/run/netns/$FAR" "$@"; }

# talk ADDRESS "SERVER STEPS" "PEER STEPS": both ends begin; IO, AT and RCVBUF
# change how. talk_ends NAME: they end as they should, and were carried.
talk() {
	rm -f "$TB_DIR"/go*
	# shellcheck disable=SC2086
	bg_server srv "$BIN/offload" ${IO---xts} listen "$1" 5000 $2
	SRV=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/srv"
	# shellcheck disable=SC2086
	bg_in "${AT:-$TB_PEER}" cli "$BIN/offload" ${RCVBUF-} connect "$1" \
		5000 $3
	CLI=$BG_PID
}
talk_ends() {
	check_wait "$1 [$STACK]" "$SRV" srv
	check_wait "$1: the peer's end [$STACK]" "$CLI" cli
	is_tas || return 0
	check_eq "$1: it was carried" "$(value reason "$TB_DIR/srv")" 0
}
dialogue() {
	talk "$2" "$3" "$4"
	talk_ends "$1"
}
said() { wait_for 15 grep -q "$1" "$TB_DIR/${2:-srv}"; }
# until:$(at N) is over when go N is called
at() { echo "$TB_DIR/go$1"; }
go() { : >"$TB_DIR/go$1"; }

# ---- how a connection ends -----------------------------------------------------

resets() {
	local reset
	talk "$1" \
		"recv:1 engage say:ready until:$(at 2) inq:5000 recv:5000 error:ECONNRESET broken:EPIPE close" \
		"send:1 until:$(at 1) send:5000 pause:100 reset"
	said ready
	go 1
	wait_for 10 gone "$CLI"
	sleep 0.3
	go 2
	talk_ends "what came before a reset is read, then ECONNRESET ($1)"
	talk "$1" "recv:1 engage recv:3 shut until:$(at 1) recv:4000 eof close" \
		"send:1 pause:100 send:4003 shut eof pause:200 close"
	sleep 1
	go 1
	talk_ends "data before a FIN are read, then the end ($1)"
	# ss -K; the kernel's sockets say ECONNABORTED
	talk "$1" \
		"recv:1 engage say:ready until:$(at 2) recv:300 error:ECONNABORTED close" \
		"send:301 error:ECONNRESET close"
	said ready
	in_server ss -K state established sport = :5000 >/dev/null 2>&1
	wait_for 10 gone "$CLI"
	go 2
	talk_ends "ss -K ends it, both ends are told ($1)"
}

# More connections than there are buffers, each reset: all come back.
many_resets() {
	is_tas || return 0
	stack_stop
	stack_start --flows 200
	listener srv --count 1000 $SERVER4 5001
	local srv=$BG_PID
	quiet in_peer "$BIN/traffic" connect --count 1000 --bytes 3000 \
		--close client-rst --timeout 30 $SERVER4 5001
	check_wait "1000 connections are reset" "$srv" srv
	check_carried "1000 resets, buffers for 200" srv 1000
	check "and Linux has none left" wait_for 5 server_has_no_sockets
}

half_closes() {
	dialogue "the server shuts its direction, the other goes on ($1)" "$1" \
		"recv:1 engage send:70000 shut recv:300000 eof close" \
		"send:1 recv:70000 eof send:300000 close"
	talk "$1" "recv:1 engage recv:70000 eof send:300000 close" \
		"send:1 until:$(at 1) send:70000 shut recv:300000 eof close"
	said reason
	go 1
	talk_ends "the peer shuts its direction, the other goes on ($1)"
	talk "$1" \
		"recv:1 engage until:$(at 1) send:5000 shut recv:5000 eof close" \
		"send:1 until:$(at 1) send:5000 shut recv:5000 eof close"
	said reason
	go 1
	talk_ends "both shut at once ($1)"
}

# ---- keepalive and SIOCOUTQ ----------------------------------------------------

keepalives() {
	local before
	before=$(nstat_server TcpExtTCPKeepAlive)
	talk "$1" \
		"recv:1 engage keepalive:1/3 say:ready until:$(at 1) send:10 recv:10 say:quiet error:ETIMEDOUT close" \
		"send:1 recv:10 send:10 until:$(at 2) close"
	said ready
	sleep 4.5
	check_ge "an idle connection is probed by Linux ($1) [$STACK]" \
		$(($(nstat_server TcpExtTCPKeepAlive) - before)) 2
	go 1
	check "and lives on ($1) [$STACK]" said quiet
	in_peer nft -f - <<-'END'
	table inet cut {
		chain input {
			type filter hook input priority 0;
			tcp sport 5000 drop
		}
	}
	END
	check_wait "a peer that is gone: ETIMEDOUT ($1) [$STACK]" "$SRV" srv
	in_peer nft delete table inet cut
	go 2
	end "$CLI"
}

outq() {
	dialogue "SIOCOUTQ counts down to 0 ($1)" "$1" \
		"recv:1 engage send:100 outq:0 send:60000 outq:0 recv:1 close" \
		"send:1 recv:60100 send:1 eof close"
}

# Linux's keepalive is silent while data are unacknowledged: an outage that its
# probes would not survive is one of retransmissions.
outage() {
	talk "$1" \
		"recv:1 engage keepalive:1/2 say:ready until:$(at 1) send:1000 recv:10 say:alive close" \
		"send:1 recv:1000 send:10 eof close"
	said ready
	in_peer nft -f - <<-'END'
	table inet cut {
		chain input {
			type filter hook input priority 0;
			tcp sport 5000 drop
		}
	}
	END
	go 1
	sleep 5
	in_peer nft delete table inet cut
	talk_ends "data in an outage outlive keepalive ($1)"
}

# TCP_INFO counts all of a connection, before the offload and after it.
informed() {
	talk "$1" \
		"recv:1 send:100 engage send:200000 outq:0 recv:30000 info until:$(at 1) close" \
		"send:1 recv:200100 send:30000 eof close"
	said acked=
	check_eq "TCP_INFO: bytes acknowledged ($1) [$STACK]" \
		"$(value acked "$TB_DIR/srv")" 200100
	check_eq "TCP_INFO: bytes received ($1) [$STACK]" \
		"$(value received "$TB_DIR/srv")" 30001
	check_ge "TCP_INFO: a round trip ($1) [$STACK]" \
		"$(value rtt "$TB_DIR/srv")" 1
	check_le "TCP_INFO: of this wire ($1) [$STACK]" \
		"$(value rtt "$TB_DIR/srv")" 100000
	go 1
	talk_ends "asked for TCP_INFO ($1)"
}

# ---- how it is carried over -----------------------------------------------------

carried_over() {
	# In the kernel's queues: sent and not acknowledged, and unsent.
	IO='' RCVBUF=rcvbuf:4096 talk "$1" \
		"recv:1 fill:40000 import engage send:150000 recv:20 eof close" \
		"send:1 until:$(at 1) recv:190000 send:20 close"
	said reason
	sleep 0.3
	go 1
	check_eq "Linux had 40000 bytes to send ($1) [$STACK]" \
		"$(value filled "$TB_DIR/srv")" 40000
	talk_ends "what Linux had not sent and not acknowledged goes on ($1)"
	IO='' talk "$1" \
		"recv:1 until:$(at 1) import engage recv:40000 send:10 eof close" \
		"send:40001 recv:10 close"
	sleep 0.5
	go 1
	talk_ends "what Linux had received is not lost ($1)"
}

# The service that saw the handshake is gone: a new one asks Linux for headers.
probed() {
	is_tas || return 0
	IO='' talk "$1" \
		"recv:1 say:ready recv:1 until:$(at 2) import engage recv:1000 send:50000 close" \
		"send:1 until:$(at 1) send:1 until:$(at 3) send:1000 recv:50000 eof close"
	said ready
	stack_stop
	stack_start
	go 1
	sleep 0.5
	go 2
	said reason
	go 3
	talk_ends "a connection older than the service, by a probe ($1)"
	check_eq "one probe ($1)" "$(daemon_counter slow_probed)" 1
}

# ---- path MTU --------------------------------------------------------------------

far_up() {
	ip netns add "$FAR" || exit 1
	in_peer ip link add f0 mtu 1300 type veth peer name f1 netns "$FAR"
	in_far sysctl -qw net.ipv6.conf.all.accept_dad=0
	in_far sh -c "ip link set lo up
		ethtool -K f1 tx off >/dev/null
		ip addr add 10.9.2.2/24 dev f1
		ip addr add fd10::2/64 dev f1 nodad
		ip link set f1 up
		ip route add 10.9.0.0/24 via 10.9.2.1
		ip route add fd09::/64 via fd10::1" || exit 1
	in_peer sh -c "sysctl -qw net.ipv4.ip_forward=1
		sysctl -qw net.ipv6.conf.all.forwarding=1
		ip addr add 10.9.2.1/24 dev f0
		ip addr add fd10::1/64 dev f0 nodad
		ip link set f0 up" || exit 1
	testbed_on_exit 'ip netns del "$FAR" 2>/dev/null'
}
far_route() {
	in_server ip route replace 10.9.2.0/24 via $PEER4 dev "$1" onlink
	in_server ip -6 route replace fd10::/64 via $PEER6 dev "$1" onlink
}

narrow() {
	local mss
	in_server ip route flush cache
	AT=$FAR talk "$1" \
		"recv:1 engage send:3000000 say:sent until:$(at 1) recv:5 eof close" \
		"send:1 recv:3000000 send:5 close"
	said sent
	wait_for 10 gone "$CLI"
	mss=$(in_server ss -Htin sport = :5000 | grep -o ' mss:[0-9]*' |
		cut -d: -f2)
	check_le "Linux learned the path's MTU ($1) [$STACK]" "$mss" 1260
	go 1
	talk_ends "a narrow link on the way ($1)"
	is_tas || return 0
	check_le "segments were too long only at first ($1)" \
		"$(daemon_counter tx_retransmits)" 400
}

# The administrator lowers the MTU of a route, and raises it again: up to what
# the link to far lets pass.
routed() {
	local six= net=10.9.2.0/24 hdr=52 route table=main
	if [ "$1" = $SERVER6 ]; then six=-6 net=fd10::/64 hdr=72; fi
	# shellcheck disable=SC2086
	is_tas && table=$(in_server ip $six rule |
		sed -n "s/.*from $1 lookup \([^ ]*\).*/\1/p" | head -n 1)
	# shellcheck disable=SC2086
	route=$(in_server ip $six route show $net table "$table" | head -n 1)
	in_server ip route flush cache
	AT=$FAR talk "$1" \
		"recv:1 engage send:10 say:wide until:$(at 1) send:50000 outq:0 info say:small until:$(at 2) send:50000 outq:0 info say:again recv:1 eof close" \
		"send:1 recv:100010 send:1 close"
	said wide
	# shellcheck disable=SC2086
	in_server ip $six route change $route table "$table" mtu 1280
	sleep 0.5
	go 1
	said small
	check_eq "a route's lower MTU counts ($1) [$STACK]" \
		"$(value mss "$TB_DIR/srv")" $((1280 - hdr))
	# shellcheck disable=SC2086
	in_server ip $six route change $route table "$table"
	sleep 0.5
	go 2
	said again
	check_eq "and its higher one ($1) [$STACK]" \
		"$(value mss "$TB_DIR/srv")" $((1300 - hdr))
	talk_ends "a route's MTU changes ($1)"
}

# The gateway swallows what is longer than 1200 and says nothing: time-outs make
# segments small, then the sender finds out what passes.
swallowed() {
	local hdr=52 mss
	[ "$1" = $SERVER6 ] && hdr=72
	in_server sysctl -qw net.ipv4.tcp_mtu_probing=1
	# of longer ones the gateway would see the length before they are cut
	in_server ethtool -K s0 tso off gso off >/dev/null
	in_peer nft -f - <<-END
		table inet hole {
			chain pre {
				type filter hook prerouting priority 0
				iifname p0 ip daddr 10.9.2.0/24 meta length > 1200 drop
				iifname p0 ip6 daddr fd10::/64 meta length > 1200 drop
			}
		}
	END
	sleep 1.1 # the service may have looked at the sysctl just now
	AT=$FAR talk "$1" \
		"recv:1 engage send:5000000 outq:0 info recv:1 eof close" \
		"send:1 recv:5000000 send:1 close"
	talk_ends "a path that swallows long segments ($1)"
	mss=$(value mss "$TB_DIR/srv")
	check_le "they got shorter ($1) [$STACK]" "$mss" $((1200 - hdr))
	check_ge "but not much ($1) [$STACK]" "$mss" $((1200 - hdr - 8))
	in_peer nft delete table inet hole
	in_server ethtool -K s0 tso on gso on >/dev/null
	in_server sysctl -qw net.ipv4.tcp_mtu_probing=0
}

# Segments are small at first, though nothing says that the path is narrow.
searches() {
	local peer=$PEER4 mss=1448
	[ "$1" = $SERVER6 ] && peer=$PEER6 mss=1428
	in_server sysctl -qw net.ipv4.tcp_mtu_probing=2
	sleep 1.1
	bg_peer lst "$BIN/offload" listen "$peer" 5000 recv:1 send:1 \
		recv:5000000 eof close
	CLI=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/lst"
	bg_server srv "$BIN/offload" --xts connect "$peer" 5000 send:1 recv:1 \
		engage info send:5000000 outq:0 info close
	SRV=$BG_PID
	check_wait "a search for the path's MTU ($1) [$STACK]" "$SRV" srv
	check_wait "no byte is lost by it ($1) [$STACK]" "$CLI" lst
	check_eq "segments are small at first ($1) [$STACK]" \
		"$(grep -o 'mss=[0-9]*' "$TB_DIR/srv" | head -n 1)" mss=1024
	check_ge "and as large as the link allows later ($1) [$STACK]" \
		"$(value mss "$TB_DIR/srv")" $((mss - 8))
	in_server sysctl -qw net.ipv4.tcp_mtu_probing=0
	is_tas || return 0
	check_eq "a search for the path's MTU ($1): it was carried" \
		"$(value reason "$TB_DIR/srv")" 0
}

# ---- --takeover ------------------------------------------------------------------

takeover() {
	local srv addr
	STACK=kernel
	stack_start
	far_route s0
	STACK=tas-xdp
	tas_start --takeover || {
		not_ok "tas-xdp --takeover starts"
		return
	}
	for addr in $SERVER4 $SERVER6; do
		listener srv --count 40 "$addr" 5002
		srv=$BG_PID
		check "--takeover: traffic ($addr)" quiet in_peer \
			"$BIN/traffic" connect --count 40 --rpc --message 3000 \
			--bytes 30000 --timeout 20 "$addr" 5002
		check_wait "--takeover: no byte lost ($addr)" "$srv" srv
		check_carried "--takeover ($addr)" srv 40
		AT=$FAR dialogue "--takeover: through a gateway ($addr)" \
			"$addr" "recv:1 engage send:100000 eof close" \
			"send:1 recv:100000 close"
	done
	# A connection that stays with the kernel feels nothing of the end.
	IO='' talk $SERVER4 "recv:1 say:ready until:$(at 1) send:1000 close" \
		"send:1 recv:1000 eof close"
	said ready
	daemon_stop
	check "--takeover: addresses are back" \
		grep -q $SERVER4 <(in_server ip addr show dev s0)
	in_peer ip neigh flush dev p0
	go 1
	check_wait "--takeover: a kernel connection lives on after the end" \
		"$SRV" srv
	check_wait "--takeover: its peer's end" "$CLI" cli
	AT=$FAR IO='' talk $SERVER4 "recv:1 send:100000 eof close" \
		"send:1 recv:100000 close"
	check_wait "--takeover: routes are back" "$SRV" srv
	end "$CLI"
}
tas_start() {
	local word=
	mkfifo "$TB_DIR/ready.to"
	nsenter --net="/run/netns/$TB_SERVER" "$BUILD/tas-xdp" --nic s0 "$@" \
		--ready-fd 3 3>"$TB_DIR/ready.to" 2>"$TB_DIR/daemon.log" \
		</dev/null &
	DAEMON_PID=$!
	testbed_own $DAEMON_PID
	read -r -t 20 word <"$TB_DIR/ready.to"
	rm -f "$TB_DIR/ready.to"
	in_peer ip neigh flush dev p0
	[ "$word" = ready ]
}

# ---- a program of its own kind ----------------------------------------------------

# The context goes while a connection uses it: when that is over.
context_ends() {
	is_tas || return 0
	bg_server bad timeout 30 "$BIN/badapp" destroy $SERVER4 5003
	local bad=$BG_PID
	wait_for 5 grep -q listening "$TB_DIR/bad"
	quiet in_peer timeout 20 "$BIN/offload" connect $SERVER4 5003 send:10 \
		eof close
	reap "$bad"
	check_eq "CTX_DESTROY with a connection ends no session" \
		"$(value session "$TB_DIR/bad")" open
	check_eq "the connection ends as always" \
		"$(value closed "$TB_DIR/bad")" 1
	check_eq "and its number is free again" \
		"$(value ctx "$TB_DIR/bad")" 0
}

everything() {
	local addr
	for addr in $SERVER4 $SERVER6; do
		resets $addr
		half_closes $addr
		outq $addr
		keepalives $addr
		carried_over $addr
		narrow $addr
		routed $addr
		swallowed $addr
		searches $addr
		informed $addr
		outage $addr
		probed $addr
	done
	many_resets
	context_ends
}

testbed_up
base_ruleset || exit 1
far_up
for STACK in kernel tas-xdp; do
	# before: tas-xdp takes the routes that there are
	is_tas && far_route s0
	stack_start
	is_tas || far_route s0
	everything
	stack_stop
done
check_no_invalid
takeover
finish
