# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# matrix.sh - transfers under every kind of impairment; source it after lib.sh
#
#   peer                     mid                   server
#   traffic connect          bench/impair          traffic listen --xts on tas0
#                                                  traffic listen on s0
#   p0 ====== veth ======= i0    i1 ===== veth ===== s0
#
# Linux serves beside the service, on addresses of its own, at the same time and
# over the same wire: what it takes is the measure for how long a transfer may
# stand still. Every byte is checked.
#
#   matrix_up                hosts, both stacks, a listener for each of the
#                            service's congestion controls and each family
#   batch DELAY_MS OPTIONS IMPAIRMENT
#                            with DELAY_MS of round trip and IMPAIRMENT (a word
#                            for bench/impair) in both directions, connections
#                            that send one way, the other, and both, over IPv4
#                            and IPv6, with each congestion control at the
#                            server, and one at the peer that is another for
#                            each batch. OPTIONS are those of sack, timestamps,
#                            window_scaling that the peer has (or "none")
#   matrix_down              the listeners' view of it all

MATRIX_CC=(reno cubic bbr)
KERNEL4=10.9.0.3 KERNEL6=fd09::3
declare -A SAID=()
BATCH=0
# What a stall may take besides three times Linux's: losing the same segment
# some times in a row is chance.
STALL_MS=15000

# matrix_listen LOG OPTION... ADDRESS PORT
matrix_listen() {
	local log=$1
	shift
	bg_server "$log" "$BIN/traffic" listen --count 0 --timeout 36000 "$@"
	wait_for 10 grep -q listening "$TB_DIR/$log" || {
		not_ok "a listener starts"
		note <"$TB_DIR/$log.err"
		finish
	}
	LISTENERS+=("$log $BG_PID")
}

matrix_up() {
	local i flavour=(--xts)
	testbed_up_impaired
	IMPAIR_SEED=${IMPAIR_SEED:-1} impair_start || exit 1
	in_server ip addr add $KERNEL4/24 dev s0
	in_server ip addr add $KERNEL6/64 dev s0 nodad
	stack_start
	is_tas || flavour=()
	LISTENERS=()
	for i in "${!MATRIX_CC[@]}"; do
		matrix_listen "l4-$i" "${flavour[@]}" --congestion \
			"${MATRIX_CC[i]}" $SERVER4 $((5000 + i))
		matrix_listen "l6-$i" "${flavour[@]}" --congestion \
			"${MATRIX_CC[i]}" $SERVER6 $((5000 + i))
	done
	matrix_listen k4 --congestion cubic $KERNEL4 6000
	matrix_listen k6 --congestion cubic $KERNEL6 6000
}

# matrix_client WAY PEER_CC ADDRESS PORT: its log's name is the pid's key
matrix_client() {
	local way=$1 sizes log=c-$1-$3-$4
	case $way in
	in) sizes=(--bytes "$BYTES" --bytes-back 1000) ;;
	out) sizes=(--bytes 1000 --bytes-back "$BYTES") ;;
	both) sizes=(--bytes "$BYTES") ;;
	esac
	bg_peer "$log" "$BIN/traffic" connect --timeout 60 "${sizes[@]}" \
		--message 65536 --close server-fin --congestion "$2" "$3" "$4"
	CLIENTS+=("$log $BG_PID")
}

# The most of NAME in the logs of this pattern
most() {
	local name=$1 log max=0 v
	shift
	for log in "$@"; do
		v=$(value "$name" "$log")
		[ "$v" -le "$max" ] || max=$v
	done
	echo "$max"
}

# Does a listener of the service's complain that did not before?
listeners_complain() {
	local entry log size complaint=1
	for entry in "${LISTENERS[@]}"; do
		log=$TB_DIR/${entry% *}.err
		size=$(stat -c %s "$log")
		[ "$size" = "${SAID[$log]:-0}" ] || complaint=0
		tail -c +$((${SAID[$log]:-0} + 1)) "$log"
		SAID[$log]=$size
	done
	return $complaint
}

peer_options() {
	local name on
	for name in sack timestamps window_scaling; do
		on=0
		[[ $1 != *$name* ]] || on=1
		in_peer sysctl -qw net.ipv4.tcp_$name=$on
	done
	in_peer ip tcp_metrics flush 2>/dev/null
	in_server ip tcp_metrics flush 2>/dev/null
}

batch() {
	local delay=$1 options=$2 impairment=$3 name spec i way cc
	local log entry ours linux
	name="$impairment, $delay ms, $options"
	BATCH=$((BATCH + 1))
	spec=clear,delay=$((delay * 500))us
	[ "$impairment" = none ] || spec=$spec,$impairment
	impair_set to-server "$spec" && impair_set to-peer "$spec" ||
		not_ok "impairments are taken: $spec"
	peer_options "$options"
	case $delay in
	0) BYTES=400000 ;;
	10) BYTES=200000 ;;
	*) BYTES=100000 ;;
	esac
	CLIENTS=()
	rm -f "$TB_DIR"/c-*
	for way in in out both; do
		for i in "${!MATRIX_CC[@]}"; do
			cc=${MATRIX_CC[(BATCH + i) % 3]}
			matrix_client $way "$cc" $SERVER4 $((5000 + i))
			matrix_client $way "$cc" $SERVER6 $((5000 + i))
		done
		matrix_client $way cubic $KERNEL4 6000
		matrix_client $way cubic $KERNEL6 6000
	done
	# Not in a pipe: a shell waits for its own children alone.
	for entry in "${CLIENTS[@]}"; do
		log=${entry% *}
		reap "${entry##* }" && continue
		echo "$log:"
		tail -n 3 "$TB_DIR/$log.err"
	done >"$TB_DIR/batch"
	if [ -s "$TB_DIR/batch" ]; then
		not_ok "$name: all bytes arrive, once and in order"
		note <"$TB_DIR/batch"
	else
		ok "$name: all bytes arrive, once and in order"
	fi
	if listeners_complain >"$TB_DIR/batch"; then
		not_ok "$name: nor does a listener miss any"
		note <"$TB_DIR/batch"
	fi
	linux=$(most stall_ms "$TB_DIR"/c-*-{$KERNEL4,$KERNEL6}-6000)
	ours=$(most stall_ms "$TB_DIR"/c-*-{$SERVER4,$SERVER6}-500?)
	check_le "$name: no longer stall than Linux's, $ours ms and $linux ms" \
		"$ours" $((3 * linux > STALL_MS ? 3 * linux : STALL_MS))
	figure "$name: $(most ms "$TB_DIR"/c-*-{$SERVER4,$SERVER6}-500?) ms," \
		"Linux $(most ms "$TB_DIR"/c-*-{$KERNEL4,$KERNEL6}-6000) ms"
}

matrix_down() {
	local entry log begun=0 offloaded=0 done_=0
	for entry in "${LISTENERS[@]}"; do
		log=${entry% *}
		end "${entry##* }"
		[[ $log = l* ]] || continue
		begun=$((begun + $(value begun "$TB_DIR/$log")))
		done_=$((done_ + $(value done "$TB_DIR/$log")))
		offloaded=$((offloaded + $(value offloaded "$TB_DIR/$log")))
		grep -oE 'reason_[A-Z_]*=[0-9]*' "$TB_DIR/$log" | note
	done
	check_eq "the listeners' connections all ended well" "$done_" "$begun"
	# How many of a lossy burst end before their offload is luck.
	! is_tas || check_ge "most are carried by the service: $offloaded" \
		$((offloaded * 5)) $((begun * 3))
	figure "frames lost that nobody asked for: $(impair_unplanned)"
	impair_stop
	stack_stop
}
