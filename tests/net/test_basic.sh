#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# Connections of either direction and family are carried, and everything else
# about the owned addresses keeps working and telling the truth.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on tas0
#   p0 ================ veth ========== s0 10.9.1.2 (not owned)
#   kernel sockets                      libsock, under nftables with
#                                       ct state invalid drop
set -u
cd "$(dirname "$0")" && . ./lib.sh

# Offloaded connections, where there is a service.
all_carried() {
	is_tas || return 0
	[ "$(value offloaded "$TB_DIR/$1")" = "$2" ] && return 0
	cat "$TB_DIR/$1" "$TB_DIR/$1.err"
	return 1
}

accepted() {
	local addr=$1 n=$2
	shift 2
	listener srv --count "$n" "$@" "$addr" 5000
	local srv=$BG_PID
	quiet in_peer "$BIN/traffic" connect --count "$n" --rpc --message 3000 \
		--bytes 30000 --timeout 20 "$addr" 5000
	check_wait "accepted connections${*:+ ($*)} from the peer to $addr: no byte lost" \
		"$srv" srv
	check "and carried by the service" all_carried srv "$n"
}

connected() {
	local addr=$1 n=$2
	shift 2
	peer_listener srv --count "$n" "$addr" 5001
	local srv=$BG_PID
	check "connections${*:+ ($*)} from the server to $addr: no byte lost" \
		logged cli in_server "$BIN/traffic" connect --xts --count "$n" \
		--rpc --message 3000 --bytes 30000 --close server-fin \
		--timeout 20 "$@" "$addr" 5001
	reap "$srv"
	check "and carried by the service" all_carried cli "$n"
}

# The calls one by one; each line is a case.
api() {
	local expect=
	is_tas && expect=1
	bg_peer echo "$BIN/api" echo "$1" 6000
	local echo=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/echo"
	in_server timeout 60 env ${expect:+EXPECT_OFFLOAD=1} \
		"$BIN/api" connect "$1" 6000 >"$TB_DIR/api"
	sed "s/^\(not \)*ok - .*/& [connected, $1]/" "$TB_DIR/api"
	FAILED=$((FAILED + $(grep -c '^not ok' "$TB_DIR/api")))
	check_ge "the calls on a connected socket end in time" \
		"$(grep -c 'a closed socket reports' "$TB_DIR/api")" 1
	end "$echo"
	bg_server api timeout 60 env ${expect:+EXPECT_OFFLOAD=1} \
		"$BIN/api" accept "$2" 6001
	local api=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/api"
	in_peer timeout 60 "$BIN/api" dial 1 "$2" 6001
	reap "$api"
	sed "s/^\(not \)*ok - .*/& [accepted, $2]/" "$TB_DIR/api"
	FAILED=$((FAILED + $(grep -c '^not ok' "$TB_DIR/api")))
	check_ge "the calls on an accepted socket end in time" \
		"$(grep -c 'a closed socket reports' "$TB_DIR/api")" 1
}

# ---- Linux's own business with the same addresses --------------------------------

py_echo() {
	cat <<-'END'
	import socket, sys
	fam = socket.AF_INET6 if ':' in sys.argv[2] else socket.AF_INET
	kind = socket.SOCK_DGRAM if sys.argv[1] == 'udp' else socket.SOCK_STREAM
	s = socket.socket(fam, kind)
	s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
	if len(sys.argv) > 4:
	    s.settimeout(5)
	    s.connect((sys.argv[2], int(sys.argv[3])))
	    s.send(b'x' * 1000)
	    sys.exit(s.recv(2000) != b'x' * 1000)
	s.bind((sys.argv[2], int(sys.argv[3])))
	if kind == socket.SOCK_STREAM:
	    s.listen()
	    print('ready', flush=True)
	    c, a = s.accept()
	    c.send(c.recv(2000))
	else:
	    print('ready', flush=True)
	    d, a = s.recvfrom(2000)
	    s.sendto(d, a)
	END
}

plain() {
	bg_server py python3 "$TB_DIR/echo.py" "$1" "$2" 7000
	wait_for 10 grep -q ready "$TB_DIR/py"
	check "$1 on a plain kernel socket of $2" \
		in_peer python3 "$TB_DIR/echo.py" "$1" "$2" 7000 client
	end "$BG_PID"
}

arp_answers() {
	in_peer ip neigh flush dev p0
	in_peer ping -c 1 -W 2 $SERVER4 &&
		in_peer ip neigh show dev p0 to $SERVER4 |
		grep -F "$(mac_of in_server s0)"
}
ndp_answers() {
	in_peer ping -c 1 -W 2 $SERVER6 &&
		in_peer ip neigh show dev p0 to $SERVER6 |
		grep -F "$(mac_of in_server s0)"
}

not_owned() {
	in_server ip addr add 10.9.1.2/24 dev s0
	in_peer ip addr add 10.9.1.1/24 dev p0
	check "an address that is not owned: ping" \
		in_peer ping -c 1 -W 2 10.9.1.2
	plain tcp 10.9.1.2
	listener srv --count 1 10.9.1.2 5002
	local srv=$BG_PID
	quiet in_peer "$BIN/traffic" connect --timeout 10 10.9.1.2 5002
	check_wait "libsock on an address that is not owned works" "$srv" srv
	is_tas && check_eq "and says why it is not carried" \
		"$(value reason_NOT_OURS "$TB_DIR/srv")" 1
}

# ---- the truth -------------------------------------------------------------------

truth() {
	local dev
	dev=$(stack_dev)
	bg_server dump tcpdump -Z root --immediate-mode -nU -i "$dev" -w "$TB_DIR/dump.pcap" port 5003
	local dump=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/dump.err"
	listener srv --count 1 $SERVER4 5003
	local srv=$BG_PID
	bg_peer cli "$BIN/traffic" connect --hold --bytes 5000 $SERVER4 5003
	local cli=$BG_PID
	wait_for 10 grep -q held "$TB_DIR/cli"
	check "ss -tn on the server shows the connection" \
		says "ESTAB.*$SERVER4:5003" in_server ss -tn
	check "conntrack -L shows it established" \
		says 'ESTABLISHED.*dport=5003.*ASSURED' in_server conntrack -L
	end "$cli" KILL
	reap "$srv"
	check "ss -tn forgets it" wait_for 5 server_has_no_sockets
	check "conntrack -L shows it closed" wait_for 5 says \
		'(TIME_WAIT|CLOSE|LAST_ACK).*dport=5003' in_server conntrack -L
	sleep 0.3
	end "$dump"
	tcpdump -nr "$TB_DIR/dump.pcap" >"$TB_DIR/dump.txt" 2>/dev/null
	check "tcpdump -i $dev shows its handshake" \
		grep -q 'Flags \[S.\]' "$TB_DIR/dump.txt"
	check "and both its FINs" [ "$(grep -c 'Flags \[F' \
		"$TB_DIR/dump.txt")" -ge 2 ]
}

says() {
	local pattern=$1
	shift
	"$@" 2>/dev/null | tee "$TB_DIR/said" | grep -qE "$pattern" && return
	cat "$TB_DIR/said"
	return 1
}

stack_up
py_echo >"$TB_DIR/echo.py"
check "ARP and ping reach $SERVER4" arp_answers
check "neighbour discovery and ping reach $SERVER6" ndp_answers
accepted $SERVER4 20
accepted $SERVER6 20
accepted $SERVER4 20 --wait
accepted $SERVER4 40 --threads 4
connected $PEER4 20
connected $PEER6 20
connected $PEER4 20 --wait
connected $PEER4 40 --threads 4
api $PEER4 $SERVER4
api $PEER6 $SERVER6
plain tcp $SERVER4
plain tcp $SERVER6
plain udp $SERVER4
plain udp $SERVER6
not_owned
truth
check_no_invalid
finish
