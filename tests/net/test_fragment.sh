#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086
#
# Segments of an offloaded connection that arrive in IP fragments: what Linux
# takes is taken, what Linux refuses is refused, and the connection goes on.
#
#   peer                                server
#   10.9.0.9, fd09::9 (pieces, which    10.9.0.2, fd09::2: s0 (Linux alone),
#   makes its frames itself)            then tas0
#   p0 ================ veth ========== s0
#   the kernel knows nothing of it      offload, with libsock
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh

TAKEN="in-order reversed last-first each-twice within-another tiny whole
	interleaved marked"
REFUSED="no-first no-middle no-last overlap-above overlap-below two-ends
	bad-sum marked-wrongly ect-mixed"

# ways FAMILY: all of them, as NAME=RESULT lines
ways() {
	local how
	for how in $TAKEN; do
		# without a header that says so IPv4 knows no whole fragment
		[ $how = whole ] && [ "$1" = 4 ] || echo $how=taken
	done
	for how in $REFUSED; do echo $how=refused; done
	# RFC 8200 4.5: the first piece has all headers
	if [ "$1" = 4 ]; then echo short-first=taken
	else echo short-first=refused; fi
}

# fragments FAMILY SERVER PEER: all ways; then once more, after pieces of more
# datagrams than are kept
fragments() {
	local way len n=64 srv="recv:64 engage send:1" cli="send:64 recv:1"
	ways "$1" >"$TB_DIR/want"
	echo again >>"$TB_DIR/want"
	while read -r way; do
		case $way in
		interleaved=*) len=2800 ;;
		again) cli="$cli flood:200" way=in-order=taken len=1400 ;;
		*) len=1400 ;;
		esac
		n=$((n + len))
		srv="$srv recv:$len send:1"
		cli="$cli cut:${way%=*} recv:1"
	done <"$TB_DIR/want"
	sed -i 's/^again$/in-order=taken/' "$TB_DIR/want"
	in_server ip neigh replace "$3" nud permanent dev "$(stack_dev)" \
		lladdr "$(mac_of in_peer p0)"
	bg_server srv "$BIN/offload" --xts listen "$2" 5000 \
		$srv recv:20000 info send:100 eof close
	SRV=$BG_PID
	wait_for 10 grep -q listening "$TB_DIR/srv"
	check "a connection of fragments goes on to its end ($2) [$STACK]" \
		logged cli in_peer "$BIN/pieces" p0 "$(mac_of in_server s0)" \
		"$3" "$2" 5000 $cli send:20000 recv:100 fin
	check_wait "and nothing was lost or altered ($2) [$STACK]" "$SRV" srv
	check "what is taken and what is refused ($2) [$STACK]" \
		diff "$TB_DIR/want" <(grep '=' "$TB_DIR/cli")
	check_eq "bytes received ($2) [$STACK]" \
		"$(value received "$TB_DIR/srv")" $((n + 20000))
	is_tas || return 0
	check_eq "it was carried ($2)" "$(value reason "$TB_DIR/srv")" 0
}

testbed_up
base_ruleset || exit 1
for STACK in kernel tas-xdp; do
	stack_start
	# a wrong checksum is invalid for conntrack, if Linux sees it
	in_server nft reset counters >/dev/null
	fragments 4 $SERVER4 10.9.0.9
	fragments 6 $SERVER6 fd09::9
	if is_tas; then
		check_no_invalid
		# in each family what is taken, and two questions' at least
		check_ge "the service put segments together" \
			"$(daemon_counter slow_reassembled)" 40
	fi
	stack_stop
done
finish
