#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091
#
# The sources alone build without a word of warning, and what 'make install'
# puts away works without them.
#
#   peer                                server
#   10.9.0.1                            10.9.0.2 on s0, then on tas0
#   p0 ================ veth ========== s0
#   a kernel client                     the example server, linked with the
#                                       installed libsock; the installed tas-xdp
#
# The sources are copied without their history into a directory of the test's
# own, built there with the default options, installed with DESTDIR, and removed
# before anything is run.
set -u
cd "$(dirname "$0")" && . ./lib.sh
TOP=$(cd ../.. && pwd)

# make as a user calls it: nothing of the make that runs this test
fresh_make() {
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u SANITIZE -u BUILD \
		make --no-print-directory -C "$SRC" "$@"
}

sources_copy() {
	mkdir "$SRC" && tar -C "$TOP" -cf - Makefile bench bpf fastpath libsock \
		slowpath tap tests | tar -C "$SRC" -xf -
}
listing() { (cd "$SRC" && find . | sort); }

builds_quietly() {
	fresh_make -j"$(nproc)" >"$TB_DIR/make.out" 2>"$TB_DIR/make.err" &&
		[ ! -s "$TB_DIR/make.err" ] && return
	tail -n 20 "$TB_DIR/make.out" "$TB_DIR/make.err"
	return 1
}
builds_nothing_twice() {
	fresh_make -q all
}
installs() { fresh_make install DESTDIR="$DEST" PREFIX=/usr; }
cleans() {
	fresh_make clean && diff <(echo "$SOURCES") <(listing)
}

all_there() {
	local file
	for file in sbin/tas-xdp bin/tas-run lib/tas-run/libtas-run.so \
		share/man/man1/tas-run.1 lib/libsock.a lib/libsock.so \
		lib/libsock.so.0 lib/pkgconfig/libsock.pc include/xts.h \
		include/xts_proto.h share/man/man3/xts.3 \
		share/man/man8/tas-xdp.8; do
		[ -e "$DEST/usr/$file" ] || { echo "$file" && return 1; }
	done
}
formats() {
	local said
	said=$(groff -man -Tutf8 -ww -z "$1" 2>&1)
	[ -z "$said" ] && return
	echo "$said"
	return 1
}

# The usual way to use what lies below a DESTDIR.
pkg() {
	PKG_CONFIG_LIBDIR=$DEST/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$DEST \
		PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 \
		PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 pkg-config "$@" libsock
}
compiles() {
	# shellcheck disable=SC2046
	(cd "$TB_DIR" && gcc -O2 -Wall -Wextra -Wno-unused-parameter -Werror \
		-D_GNU_SOURCE -o echo-server echo-server.c -pthread \
		$(pkg --cflags --libs))
}
header_alone() {
	echo '#include <xts.h>' | gcc "-std=$1" -Wall -Wextra -Werror -pedantic \
		-I"$DEST/usr/include" -fsyntax-only -x c -
}
links_installed() {
	ldd "$TB_DIR/echo-server" | grep -F "libsock.so.0 => $DEST/usr/lib/"
}
# Only the library's calls are visible, no name that a program may want.
exports_only_calls() {
	! nm -D --defined-only "$DEST/usr/lib/libsock.so.0" |
		awk '{ print $NF }' | grep -vE '^(xts_|XTS_|LIBSOCK|_)'
}

serves() {
	local out
	bg_server echo env LD_LIBRARY_PATH="$DEST/usr/lib" \
		"$TB_DIR/echo-server" --addr $SERVER4 --port "$1" --verbose
	wait_for 10 in_peer python3 - "$1" <<-'END'
	import socket, sys
	s = socket.create_connection(('10.9.0.2', int(sys.argv[1])), 5)
	data = bytes(range(256)) * 40
	s.sendall(data)
	got = b''
	while len(got) < len(data) and (chunk := s.recv(65536)):
	    got += chunk
	s.shutdown(socket.SHUT_WR)
	sys.exit(got != data or s.recv(1) != b'')
	END
	local status=$?
	end "$BG_PID"
	cat "$TB_DIR/echo" "$TB_DIR/echo.err"
	return $status
}

testbed_up 1
SRC=$TB_DIR/src DEST=$TB_DIR/dest
check "the sources without their history" sources_copy
SOURCES=$(listing)
check "make -j builds them and prints no warning" builds_quietly
check "and has nothing left to do" builds_nothing_twice
check "make install DESTDIR PREFIX" installs
check "make clean leaves the sources" cleans
cp "$SRC/libsock/examples/xts-echo-server.c" "$TB_DIR/echo-server.c"
rm -rf "$SRC"
check "everything is installed" all_there
check "man page xts.3 formats without a warning" \
	formats "$DEST/usr/share/man/man3/xts.3"
check "man page tas-run.1 formats without a warning" \
	formats "$DEST/usr/share/man/man1/tas-run.1"
check "tas-run finds its library" "$DEST/usr/bin/tas-run" true
check "man page tas-xdp.8 formats without a warning" \
	formats "$DEST/usr/share/man/man8/tas-xdp.8"
check "xts.h needs no other header (C99)" header_alone c99
check "xts.h needs no other header (C17)" header_alone c17
check "the library exports its calls only" exports_only_calls
check_eq "pkg-config knows the version" "$(pkg --modversion)" \
	"$("$DEST/usr/sbin/tas-xdp" --version | grep -oE '[0-9]+\.[0-9.]+')"
check "a program needs only what pkg-config says" compiles
export LD_LIBRARY_PATH=$DEST/usr/lib
check "and links the installed library dynamically" links_installed
unset LD_LIBRARY_PATH
server_address_kernel
check "it serves a kernel client without a service" serves 7000
server_address_none
BUILD=$DEST/usr/sbin
stack_start
check "the program serves a kernel client through it" serves 7001
check_eq "and is carried" "$(grep -cE 'socket [0-9]+: offloaded' \
	"$TB_DIR/echo")" 1
daemon_stop
check_eq "the installed service stops" $? 0
finish
