# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# apps.sh - Debian's programs, unmodified: Linux against tas-run; source it
# after testbed.sh and measure.sh
#
#   peer                              server
#   redis-benchmark, wrk, memcaslap   redis-server, nginx, memcached
#   p0 =============== veth ========= s0, or tas0 with tas-run in front
#
# Both stacks in turns on the same wire, one at a time: kernel without a service
# and with all of the veth's offloads on, tas-xdp without checksum offload on
# the peer's end, for AF_XDP would receive half-made checksums. Server and
# service on one CPU, the load generator on the other.
#
# A third one, for --stacks, is bridged: the service, but no tas-run, so that
# Linux serves the connections through the TAP. This is what a connection gets
# that is left with Linux, or handed over, while the service has its address.
#
# What is counted, for each request:
#
#   cpu_us   utime + stime of the server's processes and of the service's, to
#            the nanosecond (schedstat). A veth's receive work is done by who
#            sends: what Linux on the server does to receive is on the peer's
#            CPU, and so is the XDP program; what the peer's Linux does to
#            receive is in the system call that sent, and so in cpu_us.
#   core_us  the time in which the server's CPU was not idle, whoever used it:
#            with softirqs and interrupts
#   peer_us  the same of the peer's CPU; near 1 / rps: the peer is the limit
#
#   apps_stack_up STACK, apps_stack_down
#   app_start APP            APP is redis, nginx, nginx-close or memcached
#   app_stop
#   app_points APP           its "CASE CONNS PIPELINE" lines
#   bulk_measure ROLE        likewise: one connection, as fast as it goes
#   app_measure APP CASE CONNS PIPELINE   appends one JSON line to $RAW
#
# p50 and p99 are the load generator's: of a pipeline redis-benchmark times all
# of its requests as one; wrk does not count the connecting; memcaslap counts in
# powers of two, between which they are interpolated.

APP_STACK=
APP_PORT=7600
APP_PID=
APP_MS=1000
PAGE=1024

# ---- the stack -------------------------------------------------------------------

# These programs don't ask for a congestion control, and a namespace may not
# choose any but its host's: the routes do. So all that is compared has cubic.
route_cubic() {
	"$1" ip route replace 10.9.0.0/24 dev "$2" proto kernel scope link \
		src "$3" congctl cubic
}

apps_stack_up() {
	APP_STACK=$1
	if [ "$1" = kernel ]; then
		# with a service there, the whole wire is without (peer_up)
		[ "$PEER" != kernel ] || in_peer ethtool -K p0 tx on >/dev/null
		server_address_kernel
		route_cubic in_server s0 "$SERVER4"
		in_peer ip neigh flush dev p0
		return
	fi
	in_peer ethtool -K p0 tx off >/dev/null
	daemon_start --congestion cubic 2>"$TB_DIR/start.err" && return
	problem "tas-xdp: $(tr '\n' ' ' <"$TB_DIR/start.err")"
	return 1
}

apps_stack_down() {
	if [ "$APP_STACK" = kernel ]; then
		server_address_none
	else
		daemon_stop || problem "tas-xdp ended with status $?"
	fi
}

# ---- the programs ----------------------------------------------------------------

nginx_config() {
	mkdir -p "$TB_DIR/nginx"
	head -c $PAGE /dev/zero | tr '\0' x >"$TB_DIR/nginx/page"
	cat >"$TB_DIR/nginx.conf" <<-END
	worker_processes 1;
	daemon off;
	user root;
	pid $TB_DIR/nginx/pid;
	error_log $TB_DIR/nginx/error.log;
	events { worker_connections 4096; accept_mutex off; multi_accept on; }
	http {
		access_log off;
		sendfile on;
		tcp_nopush on;
		keepalive_requests 100000000;
		open_file_cache max=16 inactive=1h;
		client_body_temp_path $TB_DIR/nginx/body;
		proxy_temp_path $TB_DIR/nginx/proxy;
		fastcgi_temp_path $TB_DIR/nginx/fastcgi;
		uwsgi_temp_path $TB_DIR/nginx/uwsgi;
		scgi_temp_path $TB_DIR/nginx/scgi;
		server {
			listen $SERVER4:$APP_PORT backlog=4096;
			root $TB_DIR/nginx;
		}
	}
	END
}

# The command of an APP in the array APP_CMD
app_command() {
	case $1 in
	redis)
		APP_CMD=(redis-server --port "$APP_PORT" --bind "$SERVER4"
			--dir "$TB_DIR" --protected-mode no --save ''
			--appendonly no --tcp-backlog 4096)
		;;
	nginx*)
		nginx_config
		APP_CMD=(nginx -c "$TB_DIR/nginx.conf")
		;;
	bulk)
		APP_CMD=("$BUILD/bench/bulk" --listen --stack kernel
			--congestion cubic --address "$SERVER4"
			--port "$APP_PORT")
		;;
	memcached)
		APP_CMD=(memcached -u root -l "$SERVER4" -p "$APP_PORT" -t 1
			-b 4096)
		;;
	esac
}

app_answers() {
	in_peer timeout 2 bash -c ">/dev/tcp/$SERVER4/$APP_PORT" 2>/dev/null
}

app_start() {
	local i run=()
	# A port of its own: no connection meets another's TIME_WAIT.
	APP_PORT=$((APP_PORT + 1))
	app_command "$1"
	: >"$TB_DIR/app.report"
	[ "$APP_STACK" != tas-xdp ] ||
		run=("$BUILD/tas-run" --report "$TB_DIR/app.report")
	# shellcheck disable=SC2153 # CPU_SERVER is measure.sh's
	nsenter --net="/run/netns/$TB_SERVER" taskset -c "$CPU_SERVER" \
		"${run[@]}" "${APP_CMD[@]}" >"$TB_DIR/app.out" \
		2>"$TB_DIR/app.err" </dev/null &
	APP_PID=$!
	testbed_own $APP_PID
	for ((i = 0; i < 200; i++)); do
		app_answers && return 0
		kill -0 $APP_PID 2>/dev/null || break
		sleep 0.05
	done
	problem "$1 did not start: $(tail -n 2 "$TB_DIR/app.out" \
		"$TB_DIR/app.err" | tr '\n' ' ')"
	app_stop
	return 1
}

app_stop() {
	local signal=TERM
	# nginx: no worker is left behind, and each writes its report
	[[ ${APP_CMD[0]} != nginx ]] || signal=QUIT
	kill -$signal "$APP_PID" 2>/dev/null
	wait "$APP_PID" 2>/dev/null
	testbed_disown "$APP_PID"
	APP_PID=
}

# app_carried [REASON]: how many of its connections were carried, not counting
# those that REASON kept with Linux: "OFFLOADED ALL REASONS"
app_carried() {
	tr ' ' '\n' <"$TB_DIR/app.report" | awk -F= -v but="reason_${1:-}" '
		$1 == "offloaded" { n += $2; all += $2 }
		# nobody read from or wrote to these
		$1 ~ /^reason_/ && $1 != "reason_PENDING" && $1 != but {
			all += $2
			left[$1] += $2
		}
		END {
			printf "%d %d", n, all
			for (r in left) printf " %s=%d", r, left[r]
		}'
}

# All connections must have been carried, or the figures are the kernel's under
# our name; but for those that only looked whether somebody answers, and those
# of one request, which tas-run leaves with Linux (--after).
app_check() {
	local carried all reasons
	[ "$APP_STACK" = tas-xdp ] && [ "$1" != nginx-close ] || return 0
	read -r carried all reasons < <(app_carried NOT_ESTABLISHED)
	[ "$carried" -eq 0 ] || [ $((carried * 100)) -lt $((all * 98)) ] ||
		return 0
	problem "$1: tas-xdp carried only $carried of $all" \
		"connections ($reasons)"
}

# ---- CPU time --------------------------------------------------------------------

app_pids() {
	echo "$APP_PID"
	pgrep -P "$APP_PID"
	[ "$APP_STACK" != kernel ] || return 0
	echo "$DAEMON_PID"
	pgrep -P "$DAEMON_PID"
}

# cpu_now PID...: "NS OF PIDS, NS of the wall, BUSY of two CPUs in ticks so far,
# negative": what they were not idle for is the wall's less that
cpu_now() {
	local pid files=()
	for pid in "$@"; do files+=(/proc/"$pid"/task/*/schedstat); done
	awk '{ ns += $1 } END { printf "%.0f ", ns }' "${files[@]}" 2>/dev/null
	printf '%s ' "${EPOCHREALTIME/[.,]/}000"
	# idle, iowait and steal
	awk -v s="cpu$CPU_SERVER" -v p="cpu$CPU_PEER" '
		$1 == s { server = $5 + $6 + $9 }
		$1 == p { peer = $5 + $6 + $9 }
		END { print server, peer }' /proc/stat
}

# cpu_json BEFORE AFTER REQUESTS
cpu_json() {
	echo "$1 $2 $3 $(getconf CLK_TCK)" | awk '{
		n = $9; wall = ($6 - $2) / 1e3; tick = 1e6 / $10
		core = wall - ($7 - $3) * tick
		peer = wall - ($8 - $4) * tick
		printf ", \"cpu_us\": %.4f, \"core_us\": %.4f", ($5 - $1) / 1e3 / n,
			(core > 0 ? core : 0) / n
		printf ", \"peer_us\": %.4f, \"peer_busy\": %.3f",
			(peer > 0 ? peer : 0) / n, (peer > 0 ? peer : 0) / wall
	}'
}

# ---- load generators: "NAME VALUE" lines on stdout ---------------------------------

in_peer_pinned() {
	local run=()
	[ "$PEER" = kernel ] || run=("$BUILD/tas-run")
	in_peer timeout 60 taskset -c "$CPU_PEER" "${run[@]}" "$@" \
		2>"$TB_DIR/client.err"
}

# load_redis TEST CONNS PIPELINE REQUESTS
load_redis() {
	in_peer_pinned redis-benchmark -h "$SERVER4" -p "$APP_PORT" -t "$1" \
		-c "$2" -P "$3" -n "$4" --csv | tr -d '"' |
		awk -F, -v n="$4" '$2 + 0 > 0 {
			print "rps", $2
			print "p50_us", $5 * 1000
			print "p99_us", $7 * 1000
			print "n", n
		}'
}

wrk_script() {
	cat >"$TB_DIR/wrk.lua" <<-'END'
	done = function(summary, latency, requests)
	    local e = summary.errors
	    local bad = e.connect + e.read + e.write + e.status + e.timeout
	    print("said rps", summary.requests / (summary.duration / 1e6))
	    print("said p50_us", latency:percentile(50))
	    print("said p99_us", latency:percentile(99))
	    print("said n", summary.requests)
	    print("said errors", bad)
	end
	END
}

# load_nginx CONNS MS [HEADER]
load_nginx() {
	local header=()
	[ -z "${3:-}" ] || header=(-H "$3")
	in_peer_pinned wrk -t 1 -c "$1" -d "$((($2 + 999) / 1000))s" \
		-s "$TB_DIR/wrk.lua" "${header[@]}" \
		"http://$SERVER4:$APP_PORT/page" | tr '\t' ' ' |
		sed -n 's/^said //p'
}

# load_memcached CONNS REQUESTS
load_memcached() {
	in_peer_pinned memcaslap -s "$SERVER4:$APP_PORT" -T 1 -c "$1" \
		-x "$2" -X 100 -w 1k -S 1h | awk '
		/^Total Statistics \(/ { total = 1; n = substr($3, 2) }
		# "I: A B C D": so many took 2^(I-1) to 2^I us, and so on
		total && /^ +[0-9]+:/ {
			k = $1 + 0
			for (i = 2; i <= NF; i++) count[k++] = $i
		}
		function percentile(p,    want, sum, i) {
			want = p * n
			for (i = 0; i < 64; i++) {
				if (count[i] && sum + count[i] >= want) {
					want = (want - sum) / count[i]
					return 2 ^ (i - 1) * (1 + want)
				}
				sum += count[i]
			}
		}
		/TPS:/ { for (i = 1; i < NF; i++) if ($i == "TPS:") rps = $(i + 1) }
		END {
			if (!n || !rps) exit 1
			print "rps", rps
			print "p50_us", percentile(0.5)
			print "p99_us", percentile(0.99)
			print "n", n
		}'
}

# ---- what is measured ------------------------------------------------------------

app_points() {
	local conns
	case $1 in
	redis)
		for conns in 1 50; do
			printf '%s\n' "SET $conns 1" "SET $conns 16" \
				"GET $conns 1" "GET $conns 16"
		done
		;;
	nginx) printf '%s\n' "keepalive 1 1" "keepalive 50 1" ;;
	nginx-close) printf '%s\n' "close 1 1" "close 50 1" ;;
	memcached) printf '%s\n' "get+set 1 1" "get+set 50 1" ;;
	esac
}

# So many requests take Linux about APP_MS.
app_requests() {
	local a_second
	case "$1 $2 $3" in
	"redis 1 1") a_second=20000 ;;
	"redis 1 16") a_second=200000 ;;
	"redis 50 1") a_second=100000 ;;
	"redis 50 16") a_second=600000 ;;
	"memcached 1 1") a_second=20000 ;;
	*) a_second=100000 ;;
	esac
	echo $((a_second * APP_MS / 1000))
}

app_load() {
	local requests
	requests=$(app_requests "$1" "$3" "$4")
	case $1 in
	redis) load_redis "${2,,}" "$3" "$4" "$requests" ;;
	nginx) load_nginx "$3" "$APP_MS" ;;
	nginx-close) load_nginx "$3" "$APP_MS" "Connection: close" ;;
	memcached) load_memcached "$3" "$requests" ;;
	esac
}

# What a first run alone pays for: memory, the key that GET asks for
app_warm() {
	local APP_MS=50
	# a second is the least that wrk runs
	[[ $1 = nginx* ]] || app_load "$1" SET 1 1 >/dev/null
}

app_measure() {
	local pids before after out n errors
	mapfile -t pids < <(app_pids)
	before=$(cpu_now "${pids[@]}")
	out=$(app_load "$@")
	after=$(cpu_now "${pids[@]}")
	n=$(awk '$1 == "n" { print $2 }' <<<"$out")
	errors=$(awk '$1 == "errors" { print $2 }' <<<"$out")
	if [ -z "$n" ] || [ "$n" = 0 ] || [ "${errors:-0}" != 0 ]; then
		problem "$APP_STACK: $1 $2 of $3: ${errors:-no} ${errors:+errors}" \
			"$(tail -n 1 "$TB_DIR/client.err")"
		return 1
	fi
	grep -v '^errors ' <<<"$out" | awk -v app="${1%-close}" -v what="$2" \
		-v stack="$APP_STACK" -v peer="$PEER" -v conns="$3" -v pipeline="$4" \
		-v extra="$(cpu_json "$before" "$after" "$n")" '
		{ body = body sprintf(", \"%s\": %s", $1, $2) }
		END {
			printf "{\"bench\": \"apps\", \"app\": \"%s\", ", app
			printf "\"case\": \"%s\", \"stack\": \"%s\", ", what, stack
			printf "\"peer\": \"%s\", ", peer
			printf "\"conns\": %d, \"pipeline\": %d%s%s}\n", conns,
				pipeline, body, extra
		}' >>"$RAW"
}

# app_round APP: all its points once, in the stack that is up
app_round() {
	local what conns pipeline points_left
	# shellcheck disable=SC2154 # points is bench/run's
	mapfile -t points_left < <(app_points "$1" | sed "s/^/$1 /" |
		grep -E "$points" | cut -d' ' -f2-)
	[ ${#points_left[@]} -gt 0 ] && app_start "$1" || return 0
	app_warm "$1"
	for what in "${points_left[@]}"; do
		read -r what conns pipeline <<<"$what"
		app_measure "$1" "$what" "$conns" "$pipeline"
	done
	app_stop
	app_check "$1"
}

# bulk_measure ROLE: what the server does, sender or receiver
bulk_measure() {
	local pids before after out way=--receive
	[ "$1" = sender ] || way=--send
	app_start bulk || return
	mapfile -t pids < <(app_pids)
	before=$(cpu_now "${pids[@]}")
	out=$(in_peer_pinned "$BUILD/bench/bulk" $way --congestion cubic \
		--address "$SERVER4" --port "$APP_PORT" --conns 1 \
		--duration "$APP_MS")
	after=$(cpu_now "${pids[@]}")
	app_stop
	app_check bulk
	if [ -z "$out" ]; then
		problem "$APP_STACK: bulk, $1: $(tail -n 1 "$TB_DIR/client.err")"
		return 1
	fi
	awk -v role="$1" -v stack="$APP_STACK" -v peer="$PEER" '$1 == "mbps" {
		printf "{\"bench\": \"bulk\", \"stack\": \"%s\", ", stack
		printf "\"peer\": \"%s\", ", peer
		printf "\"conns\": 1, \"role\": \"%s\", \"mbps\": %s", role, $2
	}' <<<"$out" >>"$RAW"
	# of a megabyte
	printf '%s}\n' "$(cpu_json "$before" "$after" "$(awk -v ms="$APP_MS" '
		$1 == "mbps" { print $2 * ms / 8000 }' <<<"$out")")" >>"$RAW"
}

apps_stack() {
	local app
	for app in redis nginx nginx-close memcached; do app_round $app; done
}
bulk_stack() {
	bulk_measure receiver
	bulk_measure sender
}

run_bulk() { run_programs bulk kernel tas-xdp bridged; }
run_apps() {
	local app
	for app in redis-server redis-benchmark nginx wrk memcached memcaslap; do
		command -v $app >/dev/null && continue
		problem "apps: no $app here; make deps-apps installs it"
		return 1
	done
	wrk_script
	run_programs apps kernel tas-xdp
}

# run_programs JOB STACK...
run_programs() {
	local job=$1 round stack order list
	shift
	list=("$@")
	# shellcheck disable=SC2154 # stacks and rounds are bench/run's
	[ -z "$stacks" ] || read -r -a list <<<"$stacks"
	APP_MS=${duration:-$APP_MS}
	# shellcheck disable=SC2153 # PEER4 is testbed.sh's
	[ "$PEER" != kernel ] || route_cubic in_peer p0 "$PEER4"
	# shellcheck disable=SC2154
	for ((round = 1; round <= rounds; round++)); do
		mapfile -t order < <(in_turns $round "${list[@]}")
		for stack in "${order[@]}"; do
			[ ! -t 2 ] || printf '\r%s, round %d of %d: %-12s' \
				"$job" $round "$rounds" "$stack" >&2
			! apps_stack_up "$stack" || "${job}_stack"
			apps_stack_down
		done
	done
	[ ! -t 2 ] || printf '\r%60s\r' '' >&2
}
