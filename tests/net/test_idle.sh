#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# What the service costs when nothing happens: at start, and with 1,000 idle
# connections.
#
#   peer                                server
#   10.9.0.1                            10.9.0.2 on tas0
#   p0 ================ veth ========== s0
#   1,000 connections, silent           one libsock program
set -u
cd "$(dirname "$0")" && . ./lib.sh
N=1000

# Resident KiB of all of our processes, the programs' memory (memfd pages that
# are in use) counted once.
our_memory() {
	local pid sum=0 shared
	for pid in "$DAEMON_PID" "$CHILD"; do
		sum=$((sum + $(awk '/^RssAnon|^RssFile/ { s += $2 }
			END { print s + 0 }' "/proc/$pid/status")))
	done
	shared=$(find "/proc/$CHILD/fd" -lname '/memfd:*' \
		-exec stat -L -c '%b' {} + | awk '{ s += $1 } END { print s / 2 }')
	echo $((sum + ${shared%.*}))
}

# cpu PID: thousandths of a core over five seconds
cpu() {
	local before after
	before=$(cpu_ticks "$1")
	sleep 5
	after=$(cpu_ticks "$1")
	echo $(((after - before) * 1000 / (5 * $(getconf CLK_TCK))))
}

stack_up
if ! is_tas; then
	skip "idle cost of the service" "STACK=kernel has none"
	finish
fi
CHILD=$(daemon_child)
RSS=$(($(rss_kib "$DAEMON_PID") + $(rss_kib "$CHILD")))
figure "memory at start: $((RSS / 1024)) MiB"
check_le "memory at start is under 256 MiB" $RSS $((256 * 1024 - 1))
IDLE=$(cpu "$CHILD")
figure "CPU of the daemon without connections: $IDLE/1000 of a core"
check_le "without connections the daemon sleeps" "$IDLE" 50

# The program is there, and every ring has been written once, before we measure.
listener srv $SERVER4 5000
SRV=$BG_PID
quiet in_peer "$BIN/traffic" connect --count 3000 --bytes 100 $SERVER4 5000
sleep 0.5
BEFORE=$(our_memory)
bg_peer cli "$BIN/traffic" connect --hold --count $N --concurrency $N --rpc \
	--gap-us 300 --bytes 64 $SERVER4 5000
CLI=$BG_PID
check "$N connections are held" wait_for 30 grep -q held "$TB_DIR/cli"
sleep 1
AFTER=$(our_memory)
figure "memory of an idle connection: $(((AFTER - BEFORE) * 1024 / N)) bytes"
check_le "an idle connection takes under 20 KiB" $(((AFTER - BEFORE) / N)) 19
IDLE=$(cpu "$CHILD")
figure "CPU of the daemon with $N idle connections: $IDLE/1000 of a core"
# The goal is 10; a test on a busy machine says no to what is clearly more.
check_le "with $N idle connections the daemon sleeps" "$IDLE" 50
end "$CLI"
end "$SRV"
check_carried_burst "idle connections" srv $((N + 3000))
wait_for 10 server_has_no_sockets
sleep 1
LEFT=$(our_memory)
figure "memory after they are closed: $((LEFT - BEFORE)) KiB more than before"
check_le "their memory is given back" $((LEFT - BEFORE)) 4096
finish
