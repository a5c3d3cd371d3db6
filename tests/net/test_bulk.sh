#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# Much data on one connection, both ways at once; and 1,000 connections at once.
# Every byte is checked.
#
#   peer                                server
#   10.9.0.1, fd09::1                   10.9.0.2, fd09::2 on tas0
#   p0 ================ veth ========== s0
#   kernel sockets                      libsock, under nftables with
#                                       ct state invalid drop
set -u
cd "$(dirname "$0")" && . ./lib.sh
GIB=$((1 << 30))

# run NAME COUNT LISTENER_OPTIONS CONNECT_OPTION...
run() {
	local name=$1 n=$2 listen=$3
	shift 3
	listener srv --timeout 110 --count "$n" $listen 5000
	local srv=$BG_PID
	check "$name: no byte lost or altered at the peer" \
		logged cli in_peer "$BIN/traffic" connect --timeout 100 \
		--count "$n" --concurrency "$n" "$@" 5000
	check_wait "$name: nor at the server" "$srv" srv
	figure "$name: $(value ms "$TB_DIR/cli") ms"
	check_carried_burst "$name" srv "$n"
}

stack_up
run "1 GiB each way on one connection" 1 $SERVER4 --bytes $GIB \
	--pause-ms 300 --message 65536 $SERVER4
run "64 MiB each way over IPv6" 1 $SERVER6 --bytes $((GIB / 16)) \
	--pause-ms 300 --message 65536 $SERVER6
run "64 MiB each way in small writes" 1 $SERVER4 --bytes $((GIB / 16)) \
	--pause-ms 300 --message 700 $SERVER4
run "1,000 connections at once, messages in turn" 1000 $SERVER4 --rpc --vary \
	--bytes 100000 --message 8000 $SERVER4
run "1,000 connections at once, both ways, two threads" 1000 \
	"--threads 2 $SERVER6" --vary --bytes 100000 --message 8000 $SERVER6
check_no_invalid
finish
