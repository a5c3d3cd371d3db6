# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# run.sh - what the tests of tas-run share; source it behind lib.sh
#
#   run_server LOG CMD..., run_peer LOG CMD...
#                    as bg_server, bg_peer, under tas-run on the server: each of
#                    its processes appends what became of its connections to
#                    $TB_DIR/LOG.report when it ends
#   in_run LOG CMD...  the same, this shell waits for it
#   carried LOG      the connections that were offloaded, all its processes
#   handed LOG       those that were until they were handed over
#   late LOG         those that were not, as Linux was busy with them or held too
#                    much of them when the service was asked, and then they ended
#   short LOG        those that ended before the service had decided
#   left LOG         those that were not for another reason
#   check_offloaded NAME LOG MIN [SHORT]
#                    where there is a service, at least MIN were, but for a few
#                    that were late, or but for SHORT of them that may have ended
#                    before that, and none was left with Linux; without: none was

# shellcheck disable=SC2034 # for those who source this file
RUN=$BUILD/tas-run
# Itself, not what may stand in front of it
PYTHON=$(python3 -c "import sys; print(sys.executable)")

# The program may be another user's.
report_begin() {
	: >"$TB_DIR/$1.report"
	chmod 666 "$TB_DIR/$1.report"
}
run_server() {
	local log=$1
	shift
	report_begin "$log"
	bg_server "$log" "$RUN" --report "$TB_DIR/$log.report" "$@"
}
in_run() {
	local log=$1
	shift
	report_begin "$log"
	in_server "$RUN" --report "$TB_DIR/$log.report" "$@"
}

sum_report() {
	tr ' ' '\n' 2>/dev/null <"$TB_DIR/$1.report" |
		awk -F= -v n="$2" '$1 ~ n { s += $2 } END { print s + 0 }'
}
carried() { sum_report "$1" '^offloaded$'; }
handed() { sum_report "$1" '^reason_HANDED_OVER$'; }
# Whoever sends in bulk before the first call reads may have sent too much; the
# service is asked again, if the connection lives on.
late() { sum_report "$1" '^reason_(KERNEL_QUEUE|OUT_OF_ORDER|BUSY)$'; }
# Those that were over before the service had decided.
short() { sum_report "$1" '^reason_PENDING$'; }
# A connection that nobody read from or wrote to was never offered; one that its
# peer had ended before that is not taken; one may be over before the service has
# decided, where the program does not wait in its calls.
left() {
	echo $(($(sum_report "$1" '^reason_') - $(late "$1") -
		$(short "$1") - $(sum_report "$1" '^reason_NOT_ESTABLISHED$')))
}

check_offloaded() {
	local carried late
	carried=$(carried "$2")
	if is_tas; then
		late=$(late "$2")
		if [ -n "${4:-}" ]; then
			check_ge "$1: offloaded" "$carried" $(($3 - $4))
			check_ge "$1: or over before that" \
				$((carried + late + $(short "$2"))) "$3"
		else
			check_ge "$1: offloaded" $((carried + late)) "$3"
			# none of one, one of some, at most 5 %
			check_le "$1: few were too late" "$late" \
				$(((carried + late + 18) / 20))
		fi
		check_eq "$1: none is left with Linux" "$(left "$2")" 0
	else
		check_eq "$1: none offloaded without a service" "$carried" 0
	fi
	[ ! -s "$TB_DIR/$2.report" ] || note <"$TB_DIR/$2.report"
}

if [ ! -e "$BUILD/libtas-run.so" ]; then
	skip "tas-run" "a build with a sanitizer has no interposer"
	exit 0
fi
