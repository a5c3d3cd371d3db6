#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# test_bench.sh - the benchmarks run, say what they promise, and leave nothing
#
#   peer (rpc-client, setup-client) === veth === server (rpc-server, tas-xdp)
#   peer (redis-benchmark, wrk, memcaslap) === veth === server (redis-server,
#                                              nginx, memcached, tas-xdp)
#   peer (bulk) === veth === mid (impair) === veth === server (bulk, tas-xdp)
#
# The hosts are bench/run's own. Speed is not judged here.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=.build}"
DIR=$(mktemp -d)
trap 'rm -rf "$DIR"' EXIT
trap 'exit 130' INT TERM HUP

# check NAME COMMAND...: with what it said, if it failed
check() {
	local name=$1
	shift
	if "$@" >"$DIR/said" 2>&1; then
		echo "ok - $name"
	else
		echo "not ok - $name"
		tail -n 40 "$DIR/said" | sed 's/^/# /'
	fi
}

# Result lines: every field that a reader of --json relies on, of the right
# type and in a sane relation, and every stack.
json_sane() {
	python3 - "$@" <<-'END'
		import json, sys
		file, bench, stacks = sys.argv[1], sys.argv[2], set(sys.argv[3:])
		rows = [json.loads(line) for line in open(file)]
		rows = [row for row in rows if row["bench"] == bench]
		assert {row["stack"] for row in rows} == stacks, rows
		for row in rows:
		    assert row["peer"] in ("kernel", "tas-xdp"), row
		    assert isinstance(row["conns"], int), row
		    assert isinstance(row["busy"], bool), row
		    assert row["n"] > 0 and row["rps"] > 0, row
		    assert 0 < row["p50_us"] <= row["p99_us"], row
		    assert row["p99_us"] <= row["p9999_us"], row
		    assert row["avg_us"] <= row["p9999_us"], row
	END
}

# The same of what is measured over a bad wire; POINTS lines of each stack.
json_sane_far() {
	python3 - "$@" <<-'END'
		import json, sys
		file, bench, points = sys.argv[1], sys.argv[2], int(sys.argv[3])
		rows = [json.loads(line) for line in open(file)]
		stacks = [row["stack"] for row in rows if row["bench"] == bench]
		assert len(stacks) == len(rows), rows
		for stack in ("kernel", "tas-xdp"):
		    assert stacks.count(stack) == points, stacks
		assert len(stacks) == 2 * points, stacks
		key = ("role", "cc", "path", "loss", "delay_ms", "rate_mbps")
		keys = [tuple(row[k] for k in key) for row in rows]
		assert len(set(keys)) == points, keys
		for row in rows:
		    flows = row["flow_mbps"]
		    assert row["role"] in ("sender", "receiver"), row
		    assert row["cc"] and row["path"], row
		    assert len(flows) == row["conns"] > 0, row
		    assert 0 <= min(flows) and max(flows) > 0, row
		    assert abs(sum(flows) - row["mbps"]) < 0.1, row
		    # more than a full queue's worth above the rate can't be
		    assert 0 < row["mbps"] < 2 * row["rate_mbps"], row
		    assert 0 < row["jain"] <= 1, row
		    assert row["stall_ms"] >= 0 and row["rounds"] == 1, row
		    if bench == "loss" and row["stack"] == "tas-xdp":
		        for name in ("tx_segments", "tx_retransmits", "tx_rto",
		                     "tx_acks", "rx_out_of_order",
		                     "rx_too_many_gaps"):
		            assert row[name] >= 0, row
		        # what the server did, it did in the fast path
		        sent = row["tx_segments"] > row["tx_acks"]
		        assert sent == (row["role"] == "sender"), row
	END
}

# The same of Debian's programs: every point, of both stacks.
json_sane_apps() {
	python3 - "$@" <<-'END'
		import json, sys
		rows = [json.loads(line) for line in open(sys.argv[1])]
		key = ("app", "case", "conns", "pipeline")
		points = {stack: {tuple(row[k] for k in key) for row in rows
		                  if row["stack"] == stack}
		          for stack in ("kernel", "tas-xdp")}
		assert points["kernel"] == points["tas-xdp"], points
		want = {("redis", case, conns, pipeline)
		        for case in ("GET", "SET") for conns in (1, 50)
		        for pipeline in (1, 16)}
		want |= {("nginx", case, conns, 1)
		         for case in ("keepalive", "close") for conns in (1, 50)}
		want |= {("memcached", "get+set", conns, 1) for conns in (1, 50)}
		assert points["kernel"] == want, points
		assert len(rows) == 2 * len(want), rows
		for row in rows:
		    assert row["bench"] == "apps" and row["rounds"] == 1, row
		    assert row["n"] >= 100 and row["rps"] > 0, row
		    assert 0 < row["p50_us"] <= row["p99_us"], row
		    # a request takes CPU time, and no more than there was
		    assert 0 < row["cpu_us"] < 2e6 / row["rps"] + 1000, row
		    assert 0 <= row["core_us"] and 0 <= row["peer_busy"] <= 1.1, row
	END
}

# No namespace named after PID is left.
nothing_left() {
	! ip netns | grep "^tas-$1-"
}

# A run that is told to stop in its middle: status 130 or 143, nothing left.
interrupted() {
	local signal=$1 status pid
	shift
	# With job control, so that SIGINT is not ignored in the background.
	set -m
	"$@" &
	pid=$!
	set +m
	sleep 2
	ip netns | grep -q "^tas-$pid-" || return 1
	kill "-$signal" "$pid"
	wait "$pid"
	status=$?
	[ $status -ge 128 ] && nothing_left "$pid"
}

check "bench/run rpc measures every stack" \
	bench/run --build "$BUILD" --quick --json "$DIR/rpc" rpc
check "its results are complete: rpc" json_sane "$DIR/rpc" rpc \
	kernel kernel-spin tas-xdp reflector
check "bench/run setup measures every stack" \
	bench/run --build "$BUILD" --quick --json "$DIR/setup" setup
check "its results are complete: latency" json_sane "$DIR/setup" setup \
	kernel kernel-spin tas-xdp
check "its results are complete: rate" json_sane "$DIR/setup" setup-rate \
	kernel kernel-spin tas-xdp
check "bench/run rpc works with tas-xdp on both sides" \
	bench/run --build "$BUILD" --quick --peer tas-xdp --json "$DIR/both" rpc
check "results with tas-xdp on both sides are complete" \
	json_sane "$DIR/both" rpc kernel kernel-spin tas-xdp
check "bench/run apps measures Debian's programs, without and with tas-run" \
	bench/run --build "$BUILD" --quick --json "$DIR/apps" apps
check "its results are complete: apps" json_sane_apps "$DIR/apps"
check "results read back give the same tables" \
	bench/report "$DIR/rpc" "$DIR/setup" "$DIR/apps"
check "bench/run loss measures both stacks" \
	bench/run --build "$BUILD" --quick --json "$DIR/loss" loss
check "its results are complete: loss" json_sane_far "$DIR/loss" loss 4
check "bench/run fairness measures both stacks" \
	bench/run --build "$BUILD" --quick --json "$DIR/fairness" fairness
check "its results are complete: fairness" \
	json_sane_far "$DIR/fairness" fairness 1
check "results over a bad wire read back" \
	bench/report "$DIR/loss" "$DIR/fairness"
check "a benchmark stopped by Ctrl-C leaves nothing" \
	interrupted INT bench/run --build "$BUILD" rpc
check "a benchmark ended by SIGTERM leaves nothing" \
	interrupted TERM bench/run --build "$BUILD" rpc
check "one of Debian's programs stopped by Ctrl-C leaves nothing" \
	interrupted INT bench/run --build "$BUILD" apps
check "one over a bad wire stopped by Ctrl-C leaves nothing" \
	interrupted INT bench/run --build "$BUILD" loss
check "a demo stopped by Ctrl-C leaves nothing" \
	interrupted INT bench/demo --build "$BUILD"
