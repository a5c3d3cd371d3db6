# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# lib.sh - what the namespace tests share; source it
#
# The hosts are bench/testbed.sh's. STACK says who serves the server's
# addresses: "tas-xdp" (the default) or "kernel" (Linux alone, which shows that
# a test asks for nothing that Linux does not do). Programs of the server link
# libsock either way.
#
#   stack_up [QUEUES]        hosts, base ruleset, and the stack STACK
#   stack_start [OPTION...]  the stack alone; OPTIONs go to tas-xdp
#   stack_stop               and away again
#   bg_peer LOG CMD..., bg_server LOG CMD...
#                            start CMD there, output to $TB_DIR/LOG; BG_PID is
#                            its pid; ended with the testbed
#   check NAME CMD...        "ok" if CMD succeeds, else "not ok" with what it said
#   check_wait NAME PID LOG  the same for a program started by bg_*
#   check_eq NAME GOT WANT, check_le NAME GOT MAX, check_ge NAME GOT MIN
#   wait_for SECONDS CMD...  until CMD succeeds; its last status
#   value NAME FILE          VALUE of the word NAME=VALUE, last one in FILE; 0
#   figure TEXT...           a measured number, for people
#
# Every wait is bounded; no time decides but by generous bounds.

LIB_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${BUILD:=$LIB_DIR/../../.build}"
export BUILD
# What is tested is the service: tas-run offers each connection at once.
export XTS_AFTER=1
# shellcheck source=bench/testbed.sh
. "$LIB_DIR/../../bench/testbed.sh"
: "${STACK:=tas-xdp}"
BIN=$BUILD/tests/net
FAILED=0
BG_PID=
ulimit -n 20000 2>/dev/null || ulimit -n "$(ulimit -Hn)"

# ---- TAP ---------------------------------------------------------------------

ok() { echo "ok - $*"; }
not_ok() {
	echo "not ok - $*"
	FAILED=$((FAILED + 1))
}
skip() { echo "ok - $1 # SKIP $2"; }
figure() { echo "# figure: $*"; }
note() { sed 's/^/#   /'; }

check() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		ok "$name"
	else
		not_ok "$name"
		printf '%s\n' "$out" | tail -n 30 | note
	fi
}

# check_wait NAME PID LOG: PID, a program of ours, ends well. (check would look
# for it below a shell of its own.)
check_wait() {
	local status
	reap "$2"
	status=$?
	if [ $status = 0 ]; then
		ok "$1"
	else
		not_ok "$1: status $status"
		tail -n 20 "$TB_DIR/$3" "$TB_DIR/$3.err" | note
	fi
}

check_eq() {
	if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1: $2 instead of $3"; fi
}
check_le() {
	if [ "${2:-0}" -le "$3" ]; then ok "$1"; else not_ok "$1: $2 > $3"; fi
}
check_ge() {
	if [ "${2:-0}" -ge "$3" ]; then ok "$1"; else not_ok "$1: $2 < $3"; fi
}

# Say what the daemon had to say, if anything failed.
finish() {
	if [ "$FAILED" != 0 ] && [ -s "$TB_DIR/daemon.log" ]; then
		echo "# the daemon's log ends:"
		tail -n 25 "$TB_DIR/daemon.log" | note
	fi
	exit $((FAILED != 0))
}

wait_for() {
	local end=$(($(date +%s) + $1)) status=1
	shift
	while :; do
		"$@" >/dev/null 2>&1 && return 0
		status=$?
		[ "$(date +%s)" -lt $end ] || return $status
		sleep 0.05
	done
}

# ---- processes ---------------------------------------------------------------

# Not through in_peer and in_server: $! would be a shell that runs a function.
bg_in() {
	local ns=$1 log=$2
	shift 2
	# here, not by the child: what an earlier run said must be gone
	: >"$TB_DIR/$log"
	nsenter --net="/run/netns/$ns" "$@" >"$TB_DIR/$log" \
		2>"$TB_DIR/$log.err" </dev/null &
	BG_PID=$!
	testbed_own $BG_PID
}
bg_peer() { bg_in "$TB_PEER" "$@"; }
bg_server() { bg_in "$TB_SERVER" "$@"; }

# reap PID: wait for a program of ours; its status
reap() {
	local status
	wait "$1" 2>/dev/null
	status=$?
	testbed_disown "$1"
	return $status
}
# end PID [SIGNAL]: end it first
end() {
	kill "-${2:-TERM}" "$1" 2>/dev/null
	reap "$1"
}

# gone PID: true when it runs no more
gone() { ! kill -0 "$1" 2>/dev/null; }

value() {
	grep -oE "(^| )$1=[^ ]+" "$2" 2>/dev/null | tail -n 1 | cut -d= -f2 |
		grep . || echo 0
}

# listener LOG OPTION... ADDRESS PORT: a traffic listener on the server that
# is ready on return
listener() {
	local log=$1
	shift
	bg_server "$log" "$BIN/traffic" listen --xts "$@"
	wait_for 10 grep -q listening "$TB_DIR/$log"
}
peer_listener() {
	local log=$1
	shift
	bg_peer "$log" "$BIN/traffic" listen "$@"
	wait_for 10 grep -q listening "$TB_DIR/$log"
}

# logged LOG CMD...: output to $TB_DIR/LOG, shown if CMD fails
logged() {
	local log=$1 status
	shift
	"$@" >"$TB_DIR/$log" 2>"$TB_DIR/$log.err" && return
	status=$?
	cat "$TB_DIR/$log" "$TB_DIR/$log.err"
	return $status
}
quiet() { "$@" >/dev/null; }

# unaltered LOG...: no traffic program of these saw a wrong byte (ended in the
# middle, it fails all the same)
unaltered() {
	local log
	for log in "$@"; do
		! grep -E 'altered|more bytes|corrupt' "$TB_DIR/$log.err" || return 1
	done
}

# check_carried NAME LOG N: offloaded connections, where there is a service
check_carried() {
	is_tas || return 0
	check_eq "$1: carried by the service" \
		"$(value offloaded "$TB_DIR/$2")" "$3"
	grep -oE 'reason_[A-Z_]*=[0-9]*' "$TB_DIR/$2" | note
}

# check_carried_burst NAME LOG N: the same of connections that begin at once. A
# burst may be more than a queue takes; a connection whose first frames were
# lost stays with Linux while that holds data behind a gap. Others have ended,
# or Linux holds too much of them, when the service is asked.
check_carried_burst() {
	local reason stay=0
	is_tas || return 0
	for reason in OUT_OF_ORDER NOT_ESTABLISHED KERNEL_QUEUE; do
		stay=$((stay + $(value reason_$reason "$TB_DIR/$2")))
	done
	check_eq "$1: carried by the service, but for $stay that were too late" \
		$(($(value offloaded "$TB_DIR/$2") + stay)) "$3"
	figure "$1: $stay of $3 stay with Linux"
	# how many is a matter of who runs when; never nearly all
	check_le "and that is not nearly all" "$stay" $(($3 * 9 / 10))
	grep -oE 'reason_[A-Z_]*=[0-9]*' "$TB_DIR/$2" | note
}

# mac_of in_peer|in_server DEVICE
mac_of() { "$1" ip link show dev "$2" | awk '/link\/ether/ { print $2 }'; }

rss_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status" 2>/dev/null; }
fd_count() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }
# CPU time of a process in clock ticks
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat" 2>/dev/null; }

# ---- the stack ---------------------------------------------------------------

is_tas() { [ "$STACK" != kernel ]; }

# The device that holds the server's addresses.
stack_dev() { if is_tas; then echo tas0; else echo s0; fi; }

# What an administrator who is strict about state would load: the tests' traffic
# must never be invalid for conntrack. A packet of a connection that conntrack
# never saw is invalid too (tcp_loose=0). What is invalid is shown when it is
# asked about.
base_ruleset() {
	local bg=${BG_PID:-}
	bg_server invalid tcpdump -i nflog:7 -nn -v -l
	BG_PID=$bg
	in_server sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
	in_server nft -f - <<-'END'
	table inet base {
		counter invalid_in {
		}
		counter invalid_out {
		}
		chain input {
			type filter hook input priority 0; policy drop;
			# a router's, of what conntrack does not know: ND
			icmpv6 type nd-redirect accept
			ct state invalid counter name invalid_in log group 7 drop
			iifname "lo" accept
			ct state established,related accept
			meta l4proto { icmp, ipv6-icmp, udp } accept
			tcp flags & (fin|syn|rst|ack) == syn ct state new accept
		}
		chain output {
			type filter hook output priority 0; policy accept;
			ct state invalid counter name invalid_out log group 7 drop
		}
	}
	END
}

nft_counter() {
	in_server nft list counter inet base "$1" 2>/dev/null |
		awk '/packets/ { print $2 }'
}

check_no_invalid() {
	local seen
	seen="$(nft_counter invalid_in) $(nft_counter invalid_out)"
	check_eq "conntrack saw no invalid packet${1:+ ($1)}" "$seen" "0 0"
	[ "$seen" = "0 0" ] || { sleep 1.5; sed 's/^/# /' "$TB_DIR/invalid"; }
}

# shellcheck disable=SC2120 # options come from the tests
stack_start() {
	if is_tas; then
		daemon_start "$@" || {
			not_ok "tas-xdp starts"
			finish
		}
	else
		server_address_kernel
		in_peer ip neigh flush dev p0
	fi
}

stack_stop() {
	if is_tas; then daemon_stop; else server_address_none; fi
}

stack_up() {
	testbed_up "${1:-1}"
	base_ruleset || exit 1
	stack_start
}

# The daemon below its guardian.
daemon_child() { pgrep -P "$DAEMON_PID" | head -n 1; }

# daemon_counters FILE: ask for all counters and put "NAME VALUE" lines there
daemon_counters() {
	local before
	before=$(wc -l <"$TB_DIR/daemon.log")
	kill -USR1 "$(daemon_child)" || return 1
	wait_for 5 log_has_counters "$before" || return 1
	sleep 0.2
	tail -n "+$((before + 1))" "$TB_DIR/daemon.log" |
		sed -n 's/.*counter \([^ ]*\) \([0-9]*\).*/\1 \2/p' >"$1"
}
log_has_counters() {
	tail -n "+$(($1 + 1))" "$TB_DIR/daemon.log" | grep -q 'counter '
}
# daemon_counter NAME: its value now, summed over cores
daemon_counter() {
	daemon_counters "$TB_DIR/counters" || return 1
	awk -v n="$1" '$1 == n { s += $2 } END { print s + 0 }' \
		"$TB_DIR/counters"
}

# ---- what Linux on the server says ---------------------------------------------

# TCP sockets of the server that are neither listening nor in TIME_WAIT
server_sockets() {
	in_server ss -Htan state connected exclude time-wait | wc -l
}
server_has_no_sockets() { [ "$(server_sockets)" = 0 ]; }

# conntrack entries of TCP beyond TIME_WAIT and CLOSE
server_conntracks() {
	{ in_server conntrack -L -p tcp -f ipv4
	  in_server conntrack -L -p tcp -f ipv6; } 2>/dev/null |
		grep -vcE ' (TIME_WAIT|CLOSE) '
}
server_has_no_conntracks() { [ "$(server_conntracks)" = 0 ]; }

nstat_peer() { nstat_in peer "$1"; }
nstat_server() { nstat_in server "$1"; }
nstat_in() {
	"in_$1" nstat -asz "$2" 2>/dev/null | awk -v n="$2" '$1 == n { print $2 }'
}
