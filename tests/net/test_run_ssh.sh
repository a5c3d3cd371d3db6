#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091,SC2086,SC2119 # $SERVER4 and its like are words
# shellcheck disable=SC2016 # the command that runs in a world of its own
#
# OpenSSH's sshd and its clients under tas-run: with a service, and without.
#
#   peer                                server
#   10.9.0.1                            10.9.0.2 on s0 (no service), then on tas0
#   p0 ================ veth ========== s0
#   ssh, scp; sshd                      tas-run sshd; tas-run scp
#
# sshd accepts, forks, and becomes sshd -R by exec(). That process exchanges
# versions with the client, and there the connection is offloaded. Then it forks
# a child that speaks with the client until that has proved who it is: as another
# user, in another root, behind a filter of system calls. The child needs the
# connection, and can't ask the service from there: it is handed over to Linux
# before the filter, and stays with Linux, who serves it to whoever has it. That
# is sshd -R itself if root logs in, else one more child, as that user. So what
# sshd transfers is Linux's: asserted here, and that it works. The client is one
# process, ssh, and offloaded to its end.
set -u
STACK=both
cd "$(dirname "$0")" && . ./lib.sh && . ./run.sh
USER_NAME=tas-tester
MIB=1048576

# sshd wants a directory in /run, and to know its users: both for it alone.
WORLD='mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd &&
	mount --bind "$0/passwd" /etc/passwd && exec "$@"'

# sshd_config ADDRESS: what it is told there
sshd_config() {
	cat >"$TB_DIR/ssh/sshd_config.$1" <<-END
	ListenAddress $1:2222
	HostKey $TB_DIR/ssh/host
	AuthorizedKeysFile $TB_DIR/ssh/key.pub
	PidFile none
	PasswordAuthentication no
	PermitRootLogin yes
	StrictModes no
	UsePAM no
	UseDNS no
	Subsystem sftp internal-sftp
	LogLevel VERBOSE
	END
	echo "[$1]:2222 $(cut -d' ' -f1,2 "$TB_DIR/ssh/host.pub")" \
		>>"$TB_DIR/ssh/known"
}
prepare() {
	mkdir -p "$TB_DIR/ssh"
	install -d -o 7777 "$TB_DIR/home"
	{ cat /etc/passwd
	  echo "$USER_NAME:*:7777:65534::$TB_DIR/home:/bin/sh"; } \
		>"$TB_DIR/passwd"
	ssh-keygen -q -t ed25519 -N '' -f "$TB_DIR/ssh/host"
	ssh-keygen -q -t ed25519 -N '' -f "$TB_DIR/ssh/key"
	sshd_config $SERVER4
	sshd_config $PEER4
	OPTIONS=(-F none -q -i "$TB_DIR/ssh/key" -o BatchMode=yes
		-o UserKnownHostsFile="$TB_DIR/ssh/known" -o UpdateHostKeys=no
		-o IdentitiesOnly=yes -o ConnectTimeout=20 -o Port=2222
		-c aes128-gcm@openssh.com)
	head -c $((100 * MIB)) /dev/urandom >"$TB_DIR/large"
	head -c $((10 * MIB)) "$TB_DIR/large" >"$TB_DIR/small"
	chmod 644 "$TB_DIR/large" "$TB_DIR/small"
	SUM=$(sha256sum <"$TB_DIR/large")
}

sshd_starts() {
	report_begin sshd
	bg_server sshd unshare -m sh -c "$WORLD" "$TB_DIR" \
		"$RUN" --report "$TB_DIR/sshd.report" \
		/usr/sbin/sshd -D -e -f "$TB_DIR/ssh/sshd_config.$SERVER4"
	SSHD=$BG_PID
	wait_for 20 listens sshd
}
listens() { grep -q 'Server listening' "$TB_DIR/$1.err"; }

# Each process of it has said what became of its connection.
sessions_ended() { ! pgrep -P "$SSHD" >/dev/null; }

scp_to() {
	in_peer timeout 100 scp "${OPTIONS[@]}" "$TB_DIR/$2" \
		$1@$SERVER4:"$TB_DIR/home/there"
}
scp_from() {
	in_peer timeout 100 scp "${OPTIONS[@]}" $1@$SERVER4:"$TB_DIR/$2" \
		"$TB_DIR/here" && cmp "$TB_DIR/here" "$TB_DIR/$2"
}
sum_there() {
	[ "$(in_peer timeout 100 ssh "${OPTIONS[@]}" $1@$SERVER4 \
		"sha256sum <'$TB_DIR/home/there'")" = "$2" ]
}

server_runs() {
	sshd_starts
	check "scp of 100 MiB to sshd, as root [$STACK]" scp_to root large
	check "ssh runs a program, its sum is right [$STACK]" \
		sum_there root "$SUM"
	check "scp of 100 MiB from it [$STACK]" scp_from root large
	rm -f "$TB_DIR/home/there"
	check "scp of 10 MiB to it, as another user [$STACK]" \
		scp_to $USER_NAME small
	check "they arrive unaltered [$STACK]" \
		cmp "$TB_DIR/home/there" "$TB_DIR/small"
	check "and the other way [$STACK]" scp_from $USER_NAME small
	rm -f "$TB_DIR/home/there"
	wait_for 20 sessions_ended
	end $SSHD
	check_eq "sshd: none is offloaded to its end [$STACK]" \
		"$(carried sshd)" 0
	if is_tas; then
		check_ge "each was handed over [$STACK]" "$(handed sshd)" 5
		check_eq "and Linux had none before [$STACK]" \
			"$(left sshd)" "$(handed sshd)"
	fi
	note <"$TB_DIR/sshd.report"
}

client_to() {
	in_run scp timeout 100 scp "${OPTIONS[@]}" "$TB_DIR/large" \
		root@$PEER4:"$TB_DIR/there" && cmp "$TB_DIR/there" "$TB_DIR/large"
}
client_from() {
	in_run scp timeout 100 scp "${OPTIONS[@]}" root@$PEER4:"$TB_DIR/large" \
		"$TB_DIR/here" && cmp "$TB_DIR/here" "$TB_DIR/large"
}
client_runs() {
	bg_peer far unshare -m sh -c "$WORLD" "$TB_DIR" \
		/usr/sbin/sshd -D -e -f "$TB_DIR/ssh/sshd_config.$PEER4"
	local far=$BG_PID
	wait_for 20 listens far
	check "scp as client, 100 MiB there [$STACK]" client_to
	check_offloaded "scp [$STACK]" scp 1
	check "and 100 MiB back [$STACK]" client_from
	check_offloaded "scp, back [$STACK]" scp 1
	rm -f "$TB_DIR/there" "$TB_DIR/here"
	end $far
}

run_all() {
	local one
	for one in $WHICH; do $one; done
}
# or the names of some of these
WHICH=${*:-server_runs client_runs}

testbed_up 1
# not every user may read where the build is
chmod 755 "$TB_DIR"
cp "$BUILD/libtas-run.so" "$TB_DIR/libtas-run.so"
export XTS_PRELOAD=$TB_DIR/libtas-run.so
prepare
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
