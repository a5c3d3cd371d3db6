#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# tas-run --rules, --after: which connections of a program the service carries.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on tas0
#   p0 ================ veth ========== s0
#   python3                             tas-run python3
set -u
cd "$(dirname "$0")" && . ./lib.sh && . ./run.sh
is_tas || { skip "tas-run --rules" "only where there is a service"; exit 0; }

# answers N: accepts N connections on the ports 7001 and 7002, byte by byte
ANSWERS='
import select, socket, sys
ports = [socket.create_server(("::", p), family=socket.AF_INET6,
                              dualstack_ipv6=True) for p in (7001, 7002)]
print("listening", flush=True)
for i in range(int(sys.argv[1])):
    s = select.select(ports, [], [])[0][0].accept()[0]
    while c := s.recv(1):
        s.sendall(c)
    s.close()
'
# asks ADDRESS PORT...: $TURNS bytes there and back, one after the other
ASKS='
import os, socket, sys
for port in sys.argv[2:]:
    s = socket.create_connection((sys.argv[1], int(port)), 10)
    for i in range(int(os.environ.get("TURNS", 1))):
        s.sendall(b"%d" % (i % 10))
        assert s.recv(1) == b"%d" % (i % 10)
    s.close()
'
asks() { in_peer timeout 20 "$PYTHON" -c "$ASKS" "$@"; }
listens() { wait_for 10 grep -q listening "$TB_DIR/$1"; }
# counts LOG: connections carried, and left with Linux by policy
counts() { echo "$(carried "$1") $(sum_report "$1" '^reason_POLICY$')"; }

accepting() {
	cat >"$TB_DIR/rules" <<-END
	# of the server's two ports one
	deny accept port 7002
	deny peer fd09::/16
	allow accept port 7000-7001 peer 10.9.0.0/24
	deny
	END
	XTS_RULES=$TB_DIR/rules run_server srv \
		"$PYTHON" -c "$ANSWERS" 5
	local srv=$BG_PID
	listens srv
	check "both ports answer over IPv4" asks $SERVER4 7001 7002 7001
	check "and over IPv6" asks $SERVER6 7001 7002
	check_wait "the server ends" $srv srv
	check_eq "carried are the two that the rules allow" "$(counts srv)" \
		"2 3"
}

# connecting RULES WANT
connecting() {
	printf '%s\n' "$1" >"$TB_DIR/rules"
	report_begin cli
	TURNS=50 check "a client with \"$1\"" in_server timeout 20 "$BUILD/tas-run" \
		--rules "$TB_DIR/rules" --report "$TB_DIR/cli.report" \
		"$PYTHON" -c "$ASKS" $PEER4 7001 7002
	check_eq "its connections that are carried, and not" "$(counts cli)" \
		"$2"
}
clients() {
	bg_peer far "$PYTHON" -c "$ANSWERS" 8
	local far=$BG_PID
	listens far
	connecting "deny connect" "0 2"
	connecting "deny accept" "2 0"
	connecting "deny connect local $SERVER4 peer $PEER4 port 7002" "1 1"
	connecting "deny program nothing" "2 0"
	check_wait "their server ends" $far far
}

# after NAME WANT: how many are carried of three connections: with one request,
# two, many
after() {
	local srv=$BG_PID
	listens srv
	check "$1: one request" asks $SERVER4 7001
	TURNS=2 check "$1: two" asks $SERVER4 7001
	TURNS=50 check "$1: many" asks $SERVER4 7001
	check_wait "$1: the server ends" $srv srv
	check_eq "$1: connections carried" "$(carried srv)" "$2"
}
patience() {
	local tests_after=$XTS_AFTER
	unset XTS_AFTER
	run_server srv "$PYTHON" -c "$ANSWERS" 3
	after "as it is" 2
	XTS_AFTER=1 run_server srv "$PYTHON" -c "$ANSWERS" 3
	after "--after 1" 3
	XTS_AFTER=1000 run_server srv "$PYTHON" -c "$ANSWERS" 3
	after "--after 1000" 0
	export XTS_AFTER=$tests_after
}

# A mistake in the options: PROGRAM is not run.
refused() {
	in_server "$BUILD/tas-run" "$@" touch "$TB_DIR/ran" 2>"$TB_DIR/said"
	[ $? = 125 ] && [ ! -e "$TB_DIR/ran" ]
}
mistakes() {
	printf 'deny\nallow prot 80\n' >"$TB_DIR/rules"
	check "a mistake in the rules: the program is not run" \
		refused --rules "$TB_DIR/rules"
	check "it is said where" grep -q "^tas-run: $TB_DIR/rules:2: " \
		"$TB_DIR/said"
	check "no rules there: the program is not run" \
		refused --rules "$TB_DIR/none"
	check "no number of calls: the program is not run" refused --after 0
	check "no list of ports: the program is not run" refused --ports 80-
	# one that came after that look
	report_begin cli
	check "XTS_RULES with a mistake: the program runs" \
		logged cli in_peer env XTS_RULES="$TB_DIR/rules" \
		"$BUILD/tas-run" true
	check "and says so" grep -q "rules:2: " "$TB_DIR/cli.err"
}

stack_up
accepting
clients
patience
mistakes
daemon_stop
check_eq "the service stops" $? 0
finish
