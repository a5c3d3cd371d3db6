#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
#
# More of Debian's programs under tas-run, with a service and without.
#
#   peer                                server
#   10.9.0.1                            10.9.0.2 on s0 (no service), then on tas0
#   p0 ================ veth ========== s0
#   clients, servers of Linux's         tas-run PROGRAM
#
# haproxy, mosquitto, node, openssl, PostgreSQL, asyncio, as servers and as
# clients; wget.
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh && . ./run.sh

port_open() { in_peer bash -c ">/dev/tcp/$SERVER4/$1"; }
peer_port_open() { in_peer bash -c ">/dev/tcp/$PEER4/$1"; }

# fetch URL NAME: a file of the web's arrives unaltered
fetch() {
	in_peer curl -skf --max-time 30 -o "$TB_DIR/got" "$1/$2" &&
		cmp "$TB_DIR/got" "$TB_DIR/www/$2"
}
# fetch_many URL N: N at a time, each several times
fetch_many() {
	local i pids=() status=0
	for ((i = 0; i < $2; i++)); do
		in_peer curl -skf --max-time 60 -o "$TB_DIR/got-$i-#1" \
			"$1/{small,large,small}" &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || status=1; done
	for ((i = 0; i < $2; i++)); do
		cmp "$TB_DIR/got-$i-small" "$TB_DIR/www/small" &&
			cmp "$TB_DIR/got-$i-large" "$TB_DIR/www/large" ||
			status=1
	done
	rm -f "$TB_DIR"/got-*
	return $status
}

# ---- haproxy: a proxy before a server of the peer's ---------------------------------

haproxy_runs() {
	cat >"$TB_DIR/haproxy.cfg" <<-END
	global
		nbthread 4
		maxconn 500
	defaults
		mode $1
		timeout connect 10s
		timeout client 30s
		timeout server 30s
	frontend web
		bind $SERVER4:8100
		default_backend far
	backend far
		server far $PEER4:8080
	END
	bg_peer far "$PYTHON" -m http.server -d "$TB_DIR/www" 8080
	local far=$BG_PID
	wait_for 10 peer_port_open 8080
	run_server haproxy haproxy -db -f "$TB_DIR/haproxy.cfg"
	local pid=$BG_PID
	wait_for 10 port_open 8100
	check "haproxy, mode $1: files arrive unaltered [$STACK]" \
		fetch_many http://$SERVER4:8100 6
	# it ends when its connections have
	end $pid USR1
	check_offloaded "haproxy, mode $1 [$STACK]" haproxy 12
	end $far
}
haproxy_http() { haproxy_runs http; }
haproxy_tcp() { haproxy_runs tcp; }

# ---- mosquitto ------------------------------------------------------------------------

# 200 messages of quality 2, and a retained one
mosquitto_carries() {
	bg_peer sub timeout 30 mosquitto_sub -h $SERVER4 -p 1884 -q 2 -t 'a/#' -C 200
	local sub=$BG_PID
	sleep 0.5
	seq 200 | in_peer mosquitto_pub -h $SERVER4 -p 1884 -q 2 -t a/b -l ||
		return 1
	reap $sub || return 1
	seq 200 | cmp - "$TB_DIR/sub" || return 1
	in_peer mosquitto_pub -h $SERVER4 -p 1884 -r -t kept -f "$TB_DIR/www/small"
	in_peer timeout 10 mosquitto_sub -h $SERVER4 -p 1884 -t kept -C 1 -N |
		cmp - "$TB_DIR/www/small"
}
mosquitto_runs() {
	printf 'listener 1884 %s\nallow_anonymous true\nuser root\n' $SERVER4 \
		>"$TB_DIR/mosquitto.conf"
	run_server mosquitto mosquitto -c "$TB_DIR/mosquitto.conf"
	local pid=$BG_PID
	wait_for 10 port_open 1884
	check "mosquitto carries messages [$STACK]" mosquitto_carries
	end $pid
	check_offloaded "mosquitto [$STACK]" mosquitto 3
	sed -i "s/$SERVER4/$PEER4/" "$TB_DIR/mosquitto.conf"
	bg_peer mosquitto mosquitto -c "$TB_DIR/mosquitto.conf"
	pid=$BG_PID
	wait_for 10 peer_port_open 1884
	check "mosquitto's clients [$STACK]" mosquitto_clients
	end $pid
}
# The one that subscribes ends by its counter, so both report.
mosquitto_clients() {
	run_server msub timeout 20 mosquitto_sub -h $PEER4 -p 1884 -q 1 -t a/b -C 50
	local sub=$BG_PID
	sleep 0.5
	seq 50 | in_run mpub mosquitto_pub -h $PEER4 -p 1884 -q 1 -t a/b -l &&
		reap $sub && seq 50 | cmp - "$TB_DIR/msub" || return 1
	! is_tas || [ "$(carried msub) $(carried mpub)" = "1 1" ]
}

# ---- node -----------------------------------------------------------------------------

node_runs() {
	cat >"$TB_DIR/web.js" <<-END
	const http = require('http'), fs = require('fs');
	http.createServer((req, res) => {
		fs.createReadStream('$TB_DIR/www' + req.url).pipe(res);
	}).listen(8200, '$SERVER4');
	process.on('SIGTERM', () => process.exit(0));
	END
	run_server node node "$TB_DIR/web.js"
	local pid=$BG_PID
	wait_for 20 port_open 8200
	check "node's http server: files arrive unaltered [$STACK]" \
		fetch_many http://$SERVER4:8200 6
	end $pid
	check_offloaded "node [$STACK]" node 6
	bg_peer far "$PYTHON" -m http.server -d "$TB_DIR/www" 8080
	pid=$BG_PID
	wait_for 10 peer_port_open 8080
	check "node as client, 6 at a time [$STACK]" in_run nodec timeout 30 \
		node -e "$NODE_CLIENT" $PEER4 8080 "$TB_DIR/www/large"
	check_offloaded "node as client [$STACK]" nodec 6
	end $pid
}
NODE_CLIENT='
const http = require("http"), fs = require("fs");
const [host, port, file] = process.argv.slice(1), want = fs.readFileSync(file);
const get = () => new Promise((good, bad) => {
	http.get({host, port, path: "/large", agent: false}, res => {
		const parts = [];
		res.on("data", part => parts.push(part));
		res.on("end", () => Buffer.concat(parts).equals(want) ? good() :
			bad("altered"));
	}).on("error", bad);
});
Promise.all([...Array(6)].map(get)).then(() => process.exit(0),
	e => { console.error(e); process.exit(1); });
'

# ---- openssl --------------------------------------------------------------------------

openssl_runs() {
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test \
		-keyout "$TB_DIR/key" -out "$TB_DIR/cert" 2>/dev/null
	# it ends after 4, the first is port_open's
	run_server ssl env -C "$TB_DIR/www" openssl s_server -quiet -WWW \
		-naccept 4 -accept $SERVER4:8443 -key "$TB_DIR/key" \
		-cert "$TB_DIR/cert"
	local pid=$BG_PID i
	wait_for 10 port_open 8443
	for i in 1 2 3; do
		check "openssl s_server: a file arrives unaltered, $i [$STACK]" \
			fetch https://$SERVER4:8443 large
	done
	wait_for 5 gone $pid
	reap $pid
	check_offloaded "openssl s_server [$STACK]" ssl 3
	bg_peer ssl2 openssl s_server -quiet -rev -accept $PEER4:8444 \
		-key "$TB_DIR/key" -cert "$TB_DIR/cert"
	pid=$BG_PID
	wait_for 10 peer_port_open 8444
	check "openssl s_client gets its answer [$STACK]" ssl_client
	check_offloaded "openssl s_client [$STACK]" sslc 1
	end $pid
}
ssl_client() {
	(echo 'what was said'; sleep 0.5; echo Q) |
		in_run sslc timeout 20 openssl s_client -quiet -no_ign_eof -connect $PEER4:8444 \
			2>/dev/null | grep -q 'dias saw tahw'
}

# ---- PostgreSQL -----------------------------------------------------------------------

as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }

postgres_runs() {
	local bin data=$TB_DIR/pgdata
	bin=$(echo /usr/lib/postgresql/*/bin | awk '{ print $NF }')
	if [ ! -d "$data" ]; then
		install -d -o postgres "$data"
		as_postgres "$bin/initdb" -D "$data" -A trust >/dev/null 2>&1
		echo "host all all 10.9.0.0/24 trust" >>"$data/pg_hba.conf"
	fi
	# its backends are children, each with the connection that its parent
	# accepted
	run_server pg setpriv --reuid=postgres --regid=postgres --init-groups \
		"$bin/postgres" -D "$data" -k "$data" -h $SERVER4 -p 5440
	local pid=$BG_PID
	wait_for 20 pg -c 'select 1' postgres
	check "PostgreSQL keeps what it is given [$STACK]" pg_keeps
	check "pgbench fills a database [$STACK]" in_peer pgbench -q -i -s 1 \
		-h $SERVER4 -p 5440 -U postgres postgres
	check "and works on it, 4 clients [$STACK]" in_peer pgbench -c 4 -j 2 \
		-T 2 -h $SERVER4 -p 5440 -U postgres postgres
	end $pid INT
	check_offloaded "PostgreSQL [$STACK]" pg 6
	# the same data, the server on the peer
	bg_peer pg setpriv --reuid=postgres --regid=postgres --init-groups \
		"$bin/postgres" -D "$data" -k "$data" -h $PEER4 -p 5441
	pid=$BG_PID
	wait_for 20 in_peer psql -qh $PEER4 -p 5441 -U postgres -c 'select 1'
	check "psql as client [$STACK]" psql_gets
	check_offloaded "psql [$STACK]" psql 1
	check "pgbench as client [$STACK]" in_run pgbench timeout 30 \
		"$bin/pgbench" -n -c 8 -j 2 -T 1 -h $PEER4 -p 5441 -U postgres postgres
	check_offloaded "pgbench [$STACK]" pgbench 8
	end $pid INT
}
psql_gets() {
	[ "$(in_run psql timeout 20 "$(echo /usr/lib/postgresql/*/bin/psql)" \
		-h $PEER4 -p 5441 -U postgres -Atc 'select s from t' \
		postgres | wc -c)" = 1498505 ]
}
pg() { in_peer timeout 20 psql -q -h $SERVER4 -p 5440 -U postgres "$@"; }
pg_keeps() {
	pg -c 'drop table if exists t' -c 'create table t (n int, s text)' \
		-c "insert into t select i, repeat(i::text, i) from generate_series(1, 1000) i" \
		postgres &&
		[ "$(pg -Atc 'select sum(n), sum(length(s)) from t' postgres)" = \
		"500500|1497505" ] &&
		[ "$(pg -Atc 'select s from t' postgres | wc -c)" = 1498505 ]
}

# ---- asyncio --------------------------------------------------------------------------

asyncio_runs() {
	cat >"$TB_DIR/echo.py" <<-'END'
	import asyncio, signal, sys
	async def serve(reader, writer):
	    while data := await reader.read(65536):
	        writer.write(data)
	        await writer.drain()
	    writer.close()
	async def main():
	    server = await asyncio.start_server(serve, '10.9.0.2', 8300)
	    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
	    try:
	        await server.serve_forever()
	    except asyncio.CancelledError:
	        pass
	asyncio.run(main())
	END
	run_server asyncio "$PYTHON" "$TB_DIR/echo.py"
	local pid=$BG_PID
	wait_for 10 port_open 8300
	check "asyncio: what is sent comes back [$STACK]" in_peer timeout 30 \
		"$PYTHON" -c "$ECHO_CLIENTS" $SERVER4 8300
	end $pid
	check_offloaded "asyncio [$STACK]" asyncio 20
}
# 20 at a time, 200 kB each
ECHO_CLIENTS='
import asyncio, os, sys
async def client():
    reader, writer = await asyncio.open_connection(sys.argv[1], int(sys.argv[2]))
    data = os.urandom(200000)
    writer.write(data)
    writer.write_eof()
    got = await reader.read()
    writer.close()
    return got == data
async def main():
    return all(await asyncio.gather(*[client() for _ in range(20)]))
sys.exit(not asyncio.run(main()))
'
# As a client it connects without waiting.
asyncio_connects() {
	sed 's/10.9.0.2/10.9.0.1/' "$TB_DIR/echo.py" >"$TB_DIR/echo-peer.py"
	bg_peer far "$PYTHON" "$TB_DIR/echo-peer.py"
	local far=$BG_PID
	wait_for 10 peer_port_open 8300
	check "asyncio as client [$STACK]" in_run asyncioc timeout 30 \
		"$PYTHON" -c "$ECHO_CLIENTS" $PEER4 8300
	check_offloaded "asyncio as client [$STACK]" asyncioc 20
	end $far
}

# ---- wget -----------------------------------------------------------------------------

wget_gets() {
	in_run wget wget -q -T 20 -O "$TB_DIR/got" "http://$PEER4:8080/large" &&
		cmp "$TB_DIR/got" "$TB_DIR/www/large"
}
wget_runs() {
	bg_peer far "$PYTHON" -m http.server -d "$TB_DIR/www" 8080
	local far=$BG_PID
	wait_for 10 peer_port_open 8080
	check "wget gets what is there [$STACK]" wget_gets
	check_offloaded "wget [$STACK]" wget 1
	end $far
}

run_all() {
	local one
	for one in $WHICH; do $one; done
}
# or the names of some of these
WHICH=${*:-haproxy_http haproxy_tcp mosquitto_runs node_runs openssl_runs
	postgres_runs asyncio_runs asyncio_connects wget_runs}

testbed_up 1
# not every user may read where the build is
chmod 755 "$TB_DIR"
cp "$BUILD/libtas-run.so" "$TB_DIR/libtas-run.so"
export XTS_PRELOAD=$TB_DIR/libtas-run.so
mkdir -p "$TB_DIR/www"
head -c 1024 /dev/urandom >"$TB_DIR/www/small"
head -c 8000000 /dev/urandom >"$TB_DIR/www/large"
server_address_kernel
base_ruleset || exit 1
STACK=kernel
run_all
check_no_invalid "kernel"
server_address_none
STACK=tas-xdp
stack_start
run_all
check_no_invalid
wait_for 20 server_has_no_sockets
check_eq "no socket is left" "$(server_sockets)" 0
daemon_stop
check_eq "the service stops" $? 0
finish
