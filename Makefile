# SPDX-License-Identifier: BSD-2-Clause
#
# tas-xdp: TCP acceleration over AF_XDP that leaves Linux in charge
#
#   make               build everything into .build/
#   make demo          the main job between two network namespaces (root)
#   make check         all tests (root); also SANITIZE=address,undefined or thread
#   make memcheck      the unit tests under valgrind (root)
#   make soak          the long tests (root)
#   make bench         the benchmarks on a good wire (root)
#   make install       PREFIX, DESTDIR
#   make lint          clang-tidy and cppcheck
#   make format-check  clang-format has nothing to change
#   make fuzz          each fuzz target for FUZZ_SECONDS
#
# demo, check, memcheck, soak, bench, lint and fuzz install the Debian packages
# they need.

# Every Debian package that building, testing and measuring need.
PACKAGES = gcc make pkg-config libc6-dev linux-libc-dev clang-14 bpftool \
	libbpf-dev libxdp-dev libmnl-dev liburing-dev libcmocka-dev uthash-dev \
	iproute2 iputils-ping nftables netbase conntrack ethtool tcpdump procps \
	util-linux groff-base valgrind python3
# What Debian's programs are tested with, unmodified
PACKAGES_APPS = redis-server redis-tools memcached nginx-light curl iperf3 \
	haproxy mosquitto mosquitto-clients nodejs openssl postgresql wget \
	wrk libmemcached-tools openssh-client openssh-server
PACKAGES_LINT = clang-tidy-14 clang-format-14 cppcheck
PACKAGES_FUZZ = clang-14 libclang-rt-14-dev llvm-14

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man

VERSION = 0.1.0
SONAME = libsock.so.0

B = .build$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))
comma = ,

CC ?= gcc
CLANG ?= clang-14
OBJCOPY ?= objcopy
BPFTOOL ?= $(or $(wildcard /usr/sbin/bpftool),bpftool)
WERROR ?= -Werror
OPT ?= -O2
CFLAGS ?= -g
# An IP header behind an Ethernet one lies on 2 bytes: fine on every CPU served.
NO_ALIGNMENT = -fno-sanitize=alignment
# ThreadSanitizer knows no fences; it takes the rings' acquire and release.
SANFLAGS = $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer \
	-fno-sanitize-recover=all \
	$(if $(findstring undefined,$(SANITIZE)),$(NO_ALIGNMENT)) \
	$(if $(findstring thread,$(SANITIZE)),-Wno-tsan))
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE $(OPT) $(CFLAGS) -Wall -Wextra \
	-Wmissing-prototypes -Wstrict-prototypes -Wno-unused-parameter \
	-Wshadow -Wvla $(WERROR) -pthread -fPIC -I. -I$B $(SANFLAGS) \
	-DTAS_VERSION='"$(VERSION)"'
PKGS = libxdp libbpf libmnl liburing
LIBS = $(shell pkg-config --libs $(PKGS)) -pthread
LINK = $(CC) $(OPT) $(CFLAGS) $(LDFLAGS) -pthread $(SANFLAGS)

srcs = $(filter-out %.bpf.c,$(wildcard $1/*.c))
objs = $(patsubst %.c,$B/%.o,$1)

SERVICE_SRCS = $(call srcs,bpf) $(call srcs,tap) $(call srcs,fastpath) \
	$(filter-out slowpath/main.c,$(call srcs,slowpath))
LIBSOCK_SRCS = $(call srcs,libsock)
PRELOAD_SRCS = $(filter-out libsock/preload/tas-run.c,$(call \
	srcs,libsock/preload))
EXAMPLE_SRCS = $(call srcs,libsock/examples)
BENCH_HELP_SRCS = bench/measure.c
IMPAIR_SRCS = bench/impairment.c bench/impairment_spec.c bench/delayline.c \
	bench/port.c
BENCH_SRCS = $(filter-out $(BENCH_HELP_SRCS) $(IMPAIR_SRCS),$(call srcs,bench))
UNIT_SRCS = $(wildcard tests/unit/*/test_*.c)
UNIT_HELP_SRCS = $(filter-out $(UNIT_SRCS),$(wildcard tests/unit/*/*.c tests/unit/*.c))
NET_SRCS = $(call srcs,tests/net)
CALLS_SRCS = $(call srcs,tests/net/calls)
FUZZ_SRCS = $(wildcard tests/fuzz/fuzz_*.c)
C_FILES = $(shell git ls-files '*.c' '*.h' 2>/dev/null)

SKEL = $B/bpf/steer.skel.h
# A sanitizer's runtime must be in the program itself.
PRELOAD = $(if $(SANITIZE),,$B/libtas-run.so $B/tas-run)
PROGRAMS = $B/tas-xdp $(patsubst libsock/examples/%.c,$B/%,$(EXAMPLE_SRCS)) \
	$(patsubst %.c,$B/%,$(BENCH_SRCS))
UNIT_TESTS = $(patsubst %.c,$B/%,$(UNIT_SRCS))
NET_PROGRAMS = $(patsubst %.c,$B/%,$(NET_SRCS)) $B/tests/net/calls/calls
FUZZERS = $(patsubst %.c,.build-fuzz/%,$(FUZZ_SRCS))

.PHONY: all tests check memcheck demo soak bench lint format-check format \
	install clean deps deps-apps deps-lint deps-fuzz fuzz fuzzers
.DELETE_ON_ERROR:
.SECONDARY:

all: $(PROGRAMS) $(PRELOAD) $B/libsock.a $B/$(SONAME)

# ---- compile ---------------------------------------------------------------

$B/%.o: %.c | $(SKEL)
	@mkdir -p $(@D)
	@echo '  CC   $@'
	@$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# As any program outside of this tree finds the library's header.
$B/libsock/examples/%.o: ALL_CFLAGS += -Ilibsock

# The turn's stages are in several files and inlined across them; objects for a
# debugger or a sanitizer stay as they are.
ifeq ($(SANITIZE),)
$B/fastpath/%.o: ALL_CFLAGS += -flto=auto -ffat-lto-objects
endif

$B/bpf/%.bpf.o: bpf/%.bpf.c bpf/steer.h
	@mkdir -p $(@D)
	@echo '  BPF  $@'
	@$(CLANG) -O2 -g -Wall -Wextra -Werror -target bpf -D__TARGET_ARCH_x86 \
		-I/usr/include/$(shell $(CC) -print-multiarch) -I. -c -o $@ $<

$B/bpf/%.skel.h: $B/bpf/%.bpf.o
	@# It says of libxdp's section, which only libxdp reads, that it skips it.
	@echo '  GEN  $@'
	@$(BPFTOOL) gen skeleton $< name $* > $@ 2> $@.said || \
		{ cat $@.said >&2; exit 1; }
	@grep -v 'skipping unrecognized data section.* .xdp_run_config' \
		$@.said >&2 || :

# ---- link ------------------------------------------------------------------

$B/libservice.a: $(call objs,$(SERVICE_SRCS))
	@rm -f $@
	@echo '  AR   $@'
	@$(AR) rcs $@ $^

$B/libsock.a: $(call objs,$(LIBSOCK_SRCS))
	@rm -f $@
	@echo '  AR   $@'
	@$(AR) rcs $@ $^

$B/$(SONAME): $(call objs,$(LIBSOCK_SRCS)) libsock/libsock.map
	@echo '  LD   $@'
	@$(LINK) -shared -Wl,-soname,$(SONAME) \
		-Wl,--version-script,libsock/libsock.map -o $@ $(filter %.o,$^)

# The library's own calls of libc don't go through the interposer.
$B/libsock/preload/real/%.o: $B/libsock/%.o libsock/preload/real.syms
	@mkdir -p $(@D)
	@$(OBJCOPY) --redefine-syms=libsock/preload/real.syms $< $@

# Headers declare what is defined here with arguments that can't be NULL.
$B/libsock/preload/%.o: ALL_CFLAGS += -Wno-nonnull-compare \
	-Wno-maybe-uninitialized -U_FORTIFY_SOURCE

$B/libtas-run.so: $(call objs,$(PRELOAD_SRCS)) \
		$(patsubst libsock/%.c,$B/libsock/preload/real/%.o,$(LIBSOCK_SRCS)) \
		libsock/preload/preload.map
	@echo '  LD   $@'
	@$(LINK) -shared -Wl,-soname,libtas-run.so -Wl,-z,defs,-z,now \
		-Wl,--version-script,libsock/preload/preload.map -o $@ \
		$(filter %.o,$^) -ldl

$B/libsock/preload/tas-run.o: ALL_CFLAGS += -DTAS_LIBDIR='"$(LIBDIR)"'
$B/tas-run: $B/libsock/preload/tas-run.o $B/libsock/preload/rules.o
	@echo '  LD   $@'
	@$(LINK) -o $@ $^

$B/tas-xdp: $B/slowpath/main.o $B/libservice.a
	@echo '  LD   $@'
	@$(LINK) -o $@ $^ $(LIBS)

$B/%: $B/libsock/examples/%.o $B/libsock.a
	@echo '  LD   $@'
	@$(LINK) -o $@ $^

$B/bench/impair: $(call objs,$(IMPAIR_SRCS))

$B/bench/%: $B/bench/%.o $(call objs,$(BENCH_HELP_SRCS)) \
		$B/libservice.a $B/libsock.a
	@echo '  LD   $@'
	@$(LINK) -o $@ $^ $(LIBS) -lm

# Most of a build would be the whole service inlined anew for each of them.
$B/tests/unit/%: $B/tests/unit/%.o $(call objs,$(UNIT_HELP_SRCS)) \
		$B/libservice.a $B/libsock.a
	@echo '  LD   $@'
	@$(LINK) -fno-lto -o $@ $^ $(LIBS) -lcmocka -lm

$B/tests/net/%: $B/tests/net/%.o $B/libsock.a
	@echo '  LD   $@'
	@$(LINK) -o $@ $^ -pthread

# Knows nothing of libsock.
$B/tests/net/calls/calls: $(call objs,$(CALLS_SRCS))
	@echo '  LD   $@'
	@$(LINK) -o $@ $^

# A piece of the interposer that knows nothing of it
$B/tests/unit/libsock/test_rules: $B/libsock/preload/rules.o

tests: all $(UNIT_TESTS) $(NET_PROGRAMS)

# ---- fuzz (libFuzzer, its own build) ---------------------------------------

FUZZ_CC = $(CLANG) -std=gnu11 -D_GNU_SOURCE -O1 -g -pthread -I. -I$B \
	-DTAS_VERSION='"$(VERSION)"' \
	-DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
FUZZ_SANITIZE = address,undefined $(NO_ALIGNMENT) -fno-sanitize-recover=all

.build-fuzz/%.o: %.c | $(SKEL)
	@mkdir -p $(@D)
	@echo '  CC   $@'
	@# clang's own assembler does not know operands like 8+(%rax).
	@$(FUZZ_CC) -fno-integrated-as -MMD -MP \
		-fsanitize=fuzzer-no-link,$(FUZZ_SANITIZE) -c -o $@ $<

.build-fuzz/libservice.a: $(patsubst %.c,.build-fuzz/%.o,$(SERVICE_SRCS))
	@rm -f $@
	@echo '  AR   $@'
	@$(AR) rcs $@ $^

.build-fuzz/tests/fuzz/%: .build-fuzz/tests/fuzz/%.o .build-fuzz/libservice.a
	@echo '  LD   $@'
	@$(FUZZ_CC) -fsanitize=fuzzer,$(FUZZ_SANITIZE) -o $@ $^ $(LIBS)

fuzzers: $(FUZZERS)

# ---- what people run --------------------------------------------------------

deps:
	@tests/install-packages $(PACKAGES)
deps-apps: deps
	@tests/install-packages $(PACKAGES_APPS)
deps-lint: deps
	@tests/install-packages $(PACKAGES_LINT)
deps-fuzz: deps
	@tests/install-packages $(PACKAGES_FUZZ)

demo: deps
	@$(MAKE) --no-print-directory all
	@bench/demo --build $B

check: deps deps-fuzz deps-apps
	@$(MAKE) --no-print-directory tests fuzzers
	@tests/run --build $B

memcheck: deps
	@$(MAKE) --no-print-directory tests
	@tests/run --build $B --valgrind

soak: deps
	@$(MAKE) --no-print-directory tests
	@tests/run --build $B --soak

bench: deps deps-apps
	@$(MAKE) --no-print-directory all
	@bench/run --build $B all

FUZZ_SECONDS ?= 600
fuzz: deps-fuzz
	@$(MAKE) --no-print-directory fuzzers
	@tests/fuzz/run $(FUZZ_SECONDS)

# Library macros that look like no C without their headers.
CPPCHECK_MACROS = \
	'-Dmnl_attr_for_each(a,n,o)=for(a=f(n,o);a;a=mnl_attr_next(a))' \
	'-Dmnl_attr_for_each_nested(a,n)=for(a=f(n);a;a=mnl_attr_next(a))' \
	'-Dmnl_attr_for_each_payload(p,n)=for(attr=p;attr;attr=f(attr,n))' \
	'-DDECLARE_LIBXDP_OPTS(t,n,...)=struct t n={__VA_ARGS__}' \
	'-DDECLARE_LIBBPF_OPTS(t,n,...)=struct t n={__VA_ARGS__}'

lint: deps-lint
	@$(MAKE) --no-print-directory $(SKEL)
	cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr \
		--suppressions-list=.cppcheck -D_GNU_SOURCE -I. \
		$(CPPCHECK_MACROS) \
		bpf/xdp.c tap fastpath slowpath libsock bench tests
	@# One file a run: over several, version 14 finds va_lists uninitialized.
	printf '%s\n' $(filter-out bpf/%.bpf.c tests/fuzz/%,$(filter \
		%.c,$(C_FILES))) | xargs -P $$(nproc) -I FILE \
		clang-tidy-14 --quiet FILE -- -std=gnu11 -D_GNU_SOURCE -I. \
		-Ilibsock \
		-I$B -DTAS_VERSION='""'

format-check: deps-lint
	clang-format-14 --dry-run --Werror $(C_FILES)
format: deps-lint
	clang-format-14 -i $(C_FILES)

install: all
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig \
		$(DESTDIR)$(LIBDIR)/tas-run $(DESTDIR)$(BINDIR) \
		$(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(MANDIR)/man1 \
		$(DESTDIR)$(MANDIR)/man3 $(DESTDIR)$(MANDIR)/man8
	install -m 755 $B/tas-xdp $(DESTDIR)$(SBINDIR)/tas-xdp
	install -m 644 libsock/xts.h libsock/xts_proto.h $(DESTDIR)$(INCLUDEDIR)/
	install -m 644 $B/libsock.a $(DESTDIR)$(LIBDIR)/libsock.a
	install -m 755 $B/$(SONAME) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libsock.so
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
		-e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' libsock/libsock.pc.in \
		> $(DESTDIR)$(LIBDIR)/pkgconfig/libsock.pc
	install -m 755 $B/tas-run $(DESTDIR)$(BINDIR)/tas-run
	install -m 755 $B/libtas-run.so \
		$(DESTDIR)$(LIBDIR)/tas-run/libtas-run.so
	install -m 644 libsock/tas-run.1 $(DESTDIR)$(MANDIR)/man1/tas-run.1
	install -m 644 libsock/xts.3 $(DESTDIR)$(MANDIR)/man3/xts.3
	install -m 644 slowpath/tas-xdp.8 $(DESTDIR)$(MANDIR)/man8/tas-xdp.8

clean:
	rm -rf .build .build-*

-include $(shell find $B .build-fuzz -name '*.d' 2>/dev/null)
