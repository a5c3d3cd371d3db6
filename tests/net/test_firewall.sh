#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# Linux's firewall on the server decides which connections exist: connect() on
# the peer sees exactly what it sees against plain Linux. Every case runs against
# both, IPv4 and IPv6.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2
#   p0 ================ veth ========== s0 (Linux alone), then tas0
#   connect()                           nftables; listeners on 5000 and up
#
#   port  rule on the server             port  rule on the server
#   5000  none                           5005  reject with icmp port-unreachable
#   5001  none, no listener              5006  output drop
#   5002  input drop                     5007  10 new connections/s, burst 5
#   5003  reject with tcp reset          5008  output reject with tcp reset
#   5004  reject, admin-prohibited
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh

firewall() {
	in_server nft -f - <<-'END'
	table inet cases {
		chain input {
			type filter hook input priority 10; policy accept;
			tcp dport 5002 drop
			tcp dport 5003 reject with tcp reset
			tcp dport 5004 reject with icmpx admin-prohibited
			tcp dport 5005 reject with icmpx port-unreachable
			tcp dport 5007 ct state new limit rate over 10/second burst 5 packets drop
		}
		chain output {
			type filter hook output priority 10; policy accept;
			tcp sport 5006 drop
			tcp sport 5008 reject with tcp reset
		}
	}
	END
}

NAMES=([5000]="no rule" [5001]="no listener" [5002]="input drop"
	[5003]="input reject with tcp reset"
	[5004]="input reject with admin-prohibited"
	[5005]="input reject with port-unreachable" [5006]="output drop"
	[5008]="output reject with tcp reset")

# What connect() on the peer says for each port: lines "ADDRESS PORT RESULT".
# Two attempts each: Linux limits how many ICMP errors it sends.
probe_all() {
	local addr port pids=()
	for addr in $SERVER4 $SERVER6; do
		for port in "${!NAMES[@]}"; do
			in_peer "$BIN/probe" --count 2 --timeout-ms 1500 \
				"$addr" "$port" >"$TB_DIR/probe.$addr.$port" &
			pids+=($!)
		done
	done
	wait "${pids[@]}"
	for addr in $SERVER4 $SERVER6; do
		for port in "${!NAMES[@]}"; do
			echo "$addr $port $(paste -sd' ' \
				"$TB_DIR/probe.$addr.$port")"
		done
	done
}

# Connections that a limit of 10/s with burst 5 lets through in a second. The
# bucket fills in between.
probe_rate() {
	sleep 1
	in_peer "$BIN/probe" --count 50 --gap-ms 20 --timeout-ms 400 "$1" 5007 \
		>"$TB_DIR/rate"
	value ok "$TB_DIR/rate"
}

# Connections that go on while others are refused.
listeners() {
	local addr port
	PIDS=()
	for addr in $SERVER4 $SERVER6; do
		for port in 5000 5002 5003 5004 5005 5006 5007 5008; do
			bg_server "srv.$port" "$BIN/traffic" listen --xts \
				"$addr" $port
			PIDS+=("$BG_PID")
			wait_for 10 grep -q listening "$TB_DIR/srv.$port"
		done
	done
}

run_stack() {
	STACK=$1
	stack_start
	listeners
	probe_all >"$TB_DIR/seen.$1"
	RATE4[$2]=$(probe_rate $SERVER4)
	RATE6[$2]=$(probe_rate $SERVER6)
	for pid in "${PIDS[@]}"; do end "$pid"; done
}

# A rule that appears decides about the next connection, and one that goes too.
changes() {
	listener srv $SERVER4 5000
	in_server nft insert rule inet cases input tcp dport 5000 reject with \
		tcp reset
	check_eq "a rule added refuses the next connection" \
		"$(in_peer "$BIN/probe" $SERVER4 5000)" ECONNREFUSED=1
	in_server nft flush chain inet cases input
	check_eq "a rule taken away lets it in again" \
		"$(in_peer "$BIN/probe" $SERVER4 5000)" ok=1
	end "$BG_PID"
}

testbed_up
base_ruleset || exit 1
firewall || exit 1
# shellcheck disable=SC2034 # read by name
RATE4=() RATE6=()
run_stack kernel 0
stack_stop
run_stack tas-xdp 1
while read -r addr port result; do
	check_eq "connect() to $addr, ${NAMES[port]}, as with Linux ($result)" \
		"$(grep "^$addr $port " "$TB_DIR/seen.tas-xdp")" \
		"$addr $port $result"
done <"$TB_DIR/seen.kernel"
check_eq "plain Linux accepts without a rule" "$(grep -c ' 5000 ok=2' \
	"$TB_DIR/seen.kernel")" 2
for i in 4 6; do
	declare -n rate=RATE$i
	check_ge "a rate limit lets through what it does with Linux (IPv$i: ${rate[1]}, Linux ${rate[0]})" \
		"${rate[1]}" $((rate[0] - 4))
	check_le "and no more" "${rate[1]}" $((rate[0] + 4))
done
changes
check_no_invalid
stack_stop
finish
