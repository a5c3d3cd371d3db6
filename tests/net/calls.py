#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""calls.py peer|SCENARIO - what programs do to descriptors of connections

A scenario runs on the server, under tas-run, and listens at 10.9.0.2:7100 for
the peer, which sends lines and expects them back in upper case until the
connection ends; a connection that begins with "count N" must come to its end
after N answers. Both exit with status 0 if all was as it should be. WHERE in
the environment is "kernel" or "tas-xdp": what can't be done to an offloaded
connection is expected to fail there, by the error that is documented.
"""
import array, errno, fcntl, os, select, signal, socket, subprocess, sys, time

ADDRESS = ('10.9.0.2', 7100)
OFFLOADED = os.environ.get('WHERE') == 'tas-xdp'


# ---- the peer's end -------------------------------------------------------

def peer(count):
    """One connection, count lines; then the server's end of it is awaited."""
    s = socket.create_connection(ADDRESS, 20)
    f = s.makefile('rb')
    for i in range(count):
        line = b'line %d %s\n' % (i, b'x' * (i * 977 % 5000))
        s.sendall(line)
        got = f.readline()
        if got != line.upper():
            sys.exit('answer %d: %d bytes %r' % (i, len(got), got[:40]))
    if rest := f.read():
        sys.exit('more than was asked for: %r' % rest[:40])


def peer_any(count):
    """One connection, count short lines at once, answered in any order"""
    import threading
    s = socket.create_connection(ADDRESS, 20)
    lines = [b'line %d %s\n' % (i, b'x' * (i * 977 % 150)) for i in range(count)]

    f = s.makefile('rb')

    def send():
        s.sendall(b''.join(lines[1:]))
    s.sendall(lines[0])
    got = [f.readline()]
    sender = threading.Thread(target=send)
    sender.start()
    got += [f.readline() for _ in lines[1:]]
    sender.join()
    s.shutdown(socket.SHUT_WR)
    got += f.readlines()
    if sorted(got) != sorted(line.upper() for line in lines):
        sys.exit('%d answers to %d lines, or others' % (len(got), count))


# ---- the server's ---------------------------------------------------------

def listen():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(ADDRESS)
    s.listen(16)
    print('listening', flush=True)
    return s


def accept(listener=None):
    """The descriptor of a connection; nothing was read from it."""
    listener = listener or listen()
    return listener.accept()[0].detach()


def answer(fd, count=1):
    """The next lines of the peer's, by this descriptor."""
    for _ in range(count):
        line = b''
        while not line.endswith(b'\n'):
            part = os.read(fd, 65536)
            check(part, 'the peer ended')
            line += part
        line = line.upper()
        while line:
            line = line[os.write(fd, line):]


def check(ok, what):
    if not ok:
        sys.exit('calls.py: ' + what)


def fails(number, call, *args):
    try:
        call(*args)
    except OSError as e:
        check(e.errno == number, 'error %s instead of %s' %
              (errno.errorcode[e.errno], errno.errorcode[number]))
        return
    check(False, 'no error, %s expected' % errno.errorcode[number])


def in_child(function, *args):
    """fork(); its exit status, 0 if function returned"""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        function(*args)
    except SystemExit as e:
        print(e, file=sys.stderr, flush=True)
        os._exit(1)
    except BaseException as e:
        print('child:', repr(e), file=sys.stderr, flush=True)
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


# Copies of a descriptor; each may be closed at any time. 4 lines
def dup():
    fd = accept()
    answer(fd)
    copy = os.dup(fd)
    os.close(fd)
    answer(copy)
    other = os.dup2(copy, 50)
    os.close(copy)
    answer(other)
    third = fcntl.fcntl(other, fcntl.F_DUPFD_CLOEXEC, 100)
    check(third >= 100, 'F_DUPFD')
    os.close(other)
    answer(third)
    os.close(third)


# Another file takes its place: the connection ends. 1 line
def dup2_over():
    fd = accept()
    answer(fd)
    null = os.open('/dev/null', os.O_RDWR)
    os.dup2(null, fd)
    check(os.read(fd, 10) == b'', 'it is /dev/null now')
    time.sleep(0.2)


# A copy is put over the original, and onto itself. 3 lines
def dup2_same():
    fd = accept()
    answer(fd)
    copy = os.dup(fd)
    os.dup2(copy, fd)
    answer(copy)
    os.dup2(fd, fd)
    os.close(copy)
    answer(fd)


# A child serves what its parent accepted. 5 lines
def fork_serves():
    fd = accept()
    check(in_child(answer, fd, 5) == 0, 'the child')


# The parent's connection survives a child that closes its copy. 4 lines
def fork_closes():
    fd = accept()
    answer(fd)
    check(in_child(os.close, fd) == 0, 'the child')
    answer(fd)
    check(in_child(lambda: None) == 0, 'the child')
    answer(fd)
    subprocess.run(['true'], check=True)
    answer(fd)


# The child of a parent that has used it can't, until it is handed over. 2 lines
def fork_uses():
    fd = accept()
    answer(fd)
    if OFFLOADED:
        check(in_child(fails, errno.EBADF, os.read, fd, 1) == 0, 'the child')
        answer(fd)
    else:
        check(in_child(answer, fd) == 0, 'the child')


# As sshd does it: a filter of system calls that knows nothing of tas-run, which
# kills the process for one that only the library might make.
def sandbox():
    import ctypes, platform, resource, struct
    killed = {'x86_64': {
        'connect': 42, 'socket': 41, 'socketpair': 53, 'sendmsg': 46,
        'recvmsg': 47, 'epoll_create1': 291, 'epoll_ctl': 233, 'epoll_pwait': 281,
        'eventfd2': 290, 'openat': 257, 'dup2': 33, 'dup3': 292, 'clone': 56,
    }, 'aarch64': {
        'connect': 203, 'socket': 198, 'socketpair': 199, 'sendmsg': 211,
        'recvmsg': 212, 'epoll_create1': 20, 'epoll_ctl': 21, 'epoll_pwait': 22,
        'eventfd2': 19, 'openat': 56, 'dup3': 24, 'clone': 220,
    }}[platform.machine()].values()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    # struct sock_filter: load the number; equal: on, else over the next; kill;
    # allow
    code = struct.pack('HBBI', 0x20, 0, 0, 0)
    for number in killed:
        code += struct.pack('HBBI', 0x15, 0, 1, number)
        code += struct.pack('HBBI', 0x06, 0, 0, 0x80000000)
    code += struct.pack('HBBI', 0x06, 0, 0, 0x7fff0000)
    text = ctypes.create_string_buffer(code, len(code))
    program = struct.pack('HxxxxxxP', len(code) // 8, ctypes.addressof(text))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, 1))
    check(libc.prctl(38, 1, 0, 0, 0) == 0, 'PR_SET_NO_NEW_PRIVS')
    here = ctypes.create_string_buffer(program, len(program))
    check(libc.prctl(22, 2, ctypes.addressof(here), 0, 0) == 0, 'PR_SET_SECCOMP')


# In there a child serves what its parent accepted. 3 lines
def sandbox_new():
    fd = accept()

    def serve():
        sandbox()
        answer(fd, 3)
    check(in_child(serve) == 0, 'the child')


# A program of another image serves it: exec(). 3 lines
def exec_serves():
    fd = accept()
    os.set_inheritable(fd, True)
    os.execv(sys.executable, [sys.executable, __file__, 'serve', str(fd), '3'])


# So does one that is made by fork() and exec(). 3 lines
def spawn_serves():
    fd = accept()
    subprocess.run([sys.executable, __file__, 'serve', str(fd), '3'],
                   pass_fds=[fd], check=True)


# As inetd does it: descriptors 0 and 1. 2 lines
def inetd():
    fd = accept()
    os.set_inheritable(fd, True)
    subprocess.run([sys.executable, '-c', '''
import os
for i in range(2):
    line = b""
    while not line.endswith(b"\\n"):
        line += os.read(0, 65536)
    line = line.upper()
    while line:
        line = line[os.write(1, line):]
'''], stdin=fd, stdout=fd, check=True)


def serve(fd, count):
    answer(int(fd), int(count))


# Passed to another process over an AF_UNIX socket. 3 lines
def pass_new():
    fd = accept()
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b'x'], [fd])
    os.close(fd)

    def take():
        ours.close()
        answer(socket.recv_fds(theirs, 10, 1)[1][0], 3)
    check(in_child(take) == 0, 'the child')


# Passed after it was used: refused, and it goes on. 2 lines
def pass_used():
    fd = accept()
    answer(fd)
    ours, theirs = socket.socketpair()
    if OFFLOADED:
        fails(errno.EOPNOTSUPP, socket.send_fds, ours, [b'x'], [fd])
    else:
        socket.send_fds(ours, [b'x'], [fd])
        os.close(fd)
        fd = socket.recv_fds(theirs, 10, 1)[1][0]
    answer(fd)


# All that was not opened by the program is closed; what it opens next works.
# 2 lines
def close_all():
    fd = accept()
    answer(fd)
    os.closerange(3, 5000)
    answer(accept())


# Everything below is closed, one by one, as daemons do: 0 is free again. 1 line
def close_low():
    listener = listen()
    fd = accept(listener)
    os.close(0)
    new = os.open('/dev/null', os.O_RDONLY)
    check(new == 0, 'open() got %d' % new)
    answer(fd)
    check(os.open('/dev/null', os.O_RDONLY) < 20, 'low numbers are free')


# poll() and select() over all kinds of descriptors. 4 lines
def poll_mixed():
    fd = accept()
    r, w = os.pipe()
    answer(fd)
    p = select.poll()
    p.register(fd, select.POLLIN)
    p.register(r, select.POLLIN)
    check(p.poll(5000) == [(fd, select.POLLIN)], 'poll: the connection')
    os.write(w, b'x')
    check(sorted(p.poll(0)) == sorted([(fd, 1), (r, 1)]), 'poll: both')
    answer(fd)
    check((r, 1) in p.poll(5000), 'poll: the pipe')
    got = select.select([fd, r, w], [fd], [], 5)
    check(r in got[0] and got[1] == [fd], 'select')
    os.read(r, 1)
    check(select.select([fd, r], [], [], 5)[0] == [fd], 'select: one')
    answer(fd)
    check(select.select([fd, r], [], [], 5)[0] == [fd], 'select: again')
    answer(fd)


# A time-out passes, also where it is short. 1 line
def poll_times_out():
    fd = accept()
    answer(fd)
    p = select.poll()
    p.register(fd, select.POLLPRI)
    start = time.monotonic()
    check(p.poll(120) == [], 'poll: nothing')
    check(time.monotonic() - start >= 0.119, 'poll: too early')
    check(select.select([], [], [fd], 0.05)[2] == [], 'select: nothing')
    e = select.epoll()
    e.register(fd, select.EPOLLPRI)
    check(e.poll(0.12) == [], 'epoll: nothing')
    check(time.monotonic() - start >= 0.28, 'epoll: too early')


# epoll: registered before and after it is offloaded, level, edge, one shot.
# 5 lines
def epoll_kinds():
    fd = accept()
    e = select.epoll()
    e.register(fd, select.EPOLLIN)
    check(e.poll(5) == [(fd, select.EPOLLIN)], 'level')
    check(e.poll(5) == [(fd, select.EPOLLIN)], 'level, again')
    answer(fd)
    check(e.poll(5) == [(fd, select.EPOLLIN)], 'level, offloaded')
    e.modify(fd, select.EPOLLIN | select.EPOLLET)
    check(e.poll(5) == [(fd, select.EPOLLIN)], 'edge')
    check(e.poll(0.05) == [], 'edge, once')
    answer(fd)
    check(e.poll(5) == [(fd, select.EPOLLIN)], 'edge, next')
    answer(fd)
    e.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
    check(e.poll(5) == [(fd, select.EPOLLIN)], 'one shot')
    answer(fd)
    check(e.poll(0.05) == [], 'one shot is over')
    e.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
    check(e.poll(5) == [(fd, select.EPOLLIN)], 'one shot, renewed')
    e.unregister(fd)
    fails(errno.ENOENT, e.modify, fd, select.EPOLLIN)
    answer(fd)
    check(e.poll(0.05) == [], 'not registered')


# An epoll in an epoll, and polled. 4 lines
def epoll_nested():
    fd = accept()
    inner, outer = select.epoll(), select.epoll()
    inner.register(fd, select.EPOLLIN)
    outer.register(inner.fileno(), select.EPOLLIN)
    p = select.poll()
    p.register(inner.fileno(), select.POLLIN)

    def wait(readable):
        """inner may be found readable in vain, but not for ever"""
        for _ in range(3):
            check(readable(), 'not readable')
            if got := inner.poll(0):
                check(got == [(fd, select.EPOLLIN)], 'inner')
                return
        check(False, 'readable without an event')
    for _ in range(2):
        wait(lambda: outer.poll(5) == [(inner.fileno(), select.EPOLLIN)])
        answer(fd)
    for _ in range(2):
        wait(lambda: p.poll(5000) == [(inner.fileno(), 1)])
        answer(fd)
    inner.poll(0)
    check(outer.poll(0.05) == [] and p.poll(50) == [], 'at rest')


# In two epolls: while it is new it stays with Linux. 2 lines
def epoll_two():
    fd = accept()
    a, b = select.epoll(), select.epoll()
    a.register(fd, select.EPOLLIN)
    b.register(fd, select.EPOLLIN)
    for _ in range(2):
        check(a.poll(5) == [(fd, select.EPOLLIN)], 'first')
        check(b.poll(5) == [(fd, select.EPOLLIN)], 'second')
        answer(fd)


# In a second one when it is offloaded: EBUSY, as documented. 2 lines
def epoll_two_late():
    fd = accept()
    a, b = select.epoll(), select.epoll()
    a.register(fd, select.EPOLLIN)
    answer(fd)
    if OFFLOADED:
        fails(errno.EBUSY, b.register, fd, select.EPOLLIN)
    else:
        b.register(fd, select.EPOLLIN)
    check(a.poll(5) == [(fd, select.EPOLLIN)], 'first')
    answer(fd)


# The epoll is closed with the connection in it; another takes over. 3 lines
def epoll_closed():
    fd = accept()
    for _ in range(3):
        e = select.epoll()
        e.register(fd, select.EPOLLIN)
        check(e.poll(5) == [(fd, select.EPOLLIN)], 'event')
        answer(fd)
        e.close()


# Many copies of an epoll's descriptor. 2 lines
def epoll_copied():
    fd = accept()
    e = select.epoll()
    e.register(fd, select.EPOLLIN)
    answer(fd)
    copy = select.epoll.fromfd(os.dup(e.fileno()))
    e.close()
    check(copy.poll(5) == [(fd, select.EPOLLIN)], 'by the copy')
    answer(fd)


class Woken(Exception):
    pass


# A signal ends a wait. 2 lines
def signals():
    fd = accept()
    answer(fd)

    def woken(*args):
        raise Woken
    signal.signal(signal.SIGALRM, woken)
    e, p = select.epoll(), select.poll()
    e.register(fd, select.EPOLLPRI)
    p.register(fd, select.EPOLLPRI)
    for wait in (lambda: e.poll(10), lambda: p.poll(10000),
                 lambda: select.select([], [], [fd], 10),
                 lambda: [time.sleep(0.3), os.read(fd, 1)]):
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            wait()
        except Woken:
            continue
        check(False, 'not interrupted')
    # SA_RESTART: the call goes on
    ran = []
    signal.signal(signal.SIGALRM, lambda *args: ran.append(1))
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    answer(fd)
    time.sleep(0.1)
    check(ran, 'the handler ran')


# A stream over it, made before and after its first use. 4 lines
def streams():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fdopen.restype = ctypes.c_void_p
    for name in ('fgets', 'fputs', 'fflush', 'fclose', 'fileno'):
        getattr(libc, name).argtypes = [ctypes.c_void_p] * 3
    libc.fgets.restype = ctypes.c_void_p
    listener = listen()
    for used in range(2):
        fd = accept(listener)
        if used:
            answer(fd)
        f = libc.fdopen(fd, b'r+')
        check(f, 'fdopen')
        buf = ctypes.create_string_buffer(10000)
        for _ in range(2 - used):
            check(libc.fgets(buf, 10000, f), 'fgets')
            check(libc.fputs(buf.value.upper(), f, None) >= 0, 'fputs')
            check(libc.fflush(f, None, None) == 0, 'fflush')
        check(libc.fileno(f, None, None) == fd, 'fileno')
        check(libc.fclose(f, None, None) == 0, 'fclose')
        fails(errno.EBADF, os.fstat, fd)


# Part of a file by sendfile(), at an offset and at its position. 1 line
def sendfile():
    import tempfile
    fd = accept()
    line = b''
    while not line.endswith(b'\n'):
        line += os.read(fd, 65536)
    with tempfile.TemporaryFile() as f:
        f.write(b'abc' + line.upper())
        f.seek(1)
        check(os.sendfile(fd, f.fileno(), 3, 2) == 2, 'at an offset')
        check(os.lseek(f.fileno(), 0, os.SEEK_CUR) == 1, 'position')
        os.lseek(f.fileno(), 5, os.SEEK_SET)
        n = os.sendfile(fd, f.fileno(), None, 100000)
        check(n == len(line) - 2, 'at its position: %d' % n)
        check(os.lseek(f.fileno(), 0, os.SEEK_CUR) == 5 + n, 'moved')
        check(os.sendfile(fd, f.fileno(), None, 10) == 0, 'at its end')


# What a process sent is delivered when it ends without closing. 2 lines
def exits():
    listener = listen()
    fd = accept(listener)
    answer(fd, 2)
    os._exit(0)


# Several processes accept from one listener. 8 connections of 3 lines
def prefork():
    listener = listen()
    listener.settimeout(20)
    pids = []
    for _ in range(4):
        pid = os.fork()
        if not pid:
            for _ in range(2):
                s = listener.accept()[0]
                s.setblocking(True)
                answer(s.detach(), 3)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        check(os.waitpid(pid, 0)[1] == 0, 'a child')


# Threads that read and write one descriptor at a time. 200 lines
def threads():
    import queue, threading
    fd = accept()
    lines = queue.Queue()

    def write():
        while line := lines.get():
            while line:
                line = line[os.write(fd, line):]
    writer = threading.Thread(target=write)
    writer.start()
    rest, left = b'', 200
    while left:
        part = os.read(fd, 65536)
        check(part, 'the peer ended')
        rest += part
        *whole, rest = rest.split(b'\n')
        for line in whole:
            lines.put(line.upper() + b'\n')
            left -= 1
    lines.put(None)
    writer.join()


# Each process has a listener of its own at the same port: Linux deals the
# connections out. 8 connections of 2 lines
def reuseport():
    served, stop = os.pipe(), os.pipe()
    listeners, pids = [], []
    for _ in range(3):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind(ADDRESS)
        s.listen(16)
        listeners.append(s)

    def serve(own):
        for s in listeners:
            if s is not own:
                s.close()
        while stop[0] not in (ready := select.select([own, stop[0]], [], [], 20)[0]):
            check(ready, 'nobody comes')
            with own.accept()[0] as s:
                answer(s.fileno(), 2)
            os.write(served[1], b'x')
    for own in listeners:
        pid = os.fork()
        if not pid:
            serve(own)
            os._exit(0)
        pids.append(pid)
    for s in listeners:
        s.close()
    print('listening', flush=True)
    left = 8
    while left:
        left -= len(os.read(served[0], left))
    os.write(stop[1], b'x')
    for pid in pids:
        check(os.waitpid(pid, 0)[1] == 0, 'a child')


# Threads accept from one listener, and others serve what they accepted.
# 6 connections of 3 lines
def threads_accept():
    import queue, threading
    listener = listen()
    fds, done = queue.Queue(), []

    def take():
        for _ in range(2):
            fds.put(accept(listener))

    def serve():
        for _ in range(2):
            fd = fds.get()
            answer(fd, 3)
            os.close(fd)
        done.append(1)
    threads = [threading.Thread(target=t) for t in (take, serve) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(len(done) == 3, 'a thread')


# Many threads use one descriptor: one reads, four write, others copy it, ask
# about it and wait for it. Lines until the peer ends, in any order
def threads_many():
    import queue, threading
    fd = accept()
    # offered while no other thread is in the kernel with it
    answer(fd)
    # a write that waits for room may be divided by another
    socket.socket(fileno=os.dup(fd)).setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    lines, over, failed = queue.Queue(), threading.Event(), []

    def write():
        while line := lines.get():
            n = os.write(fd, line)
            check(n == len(line), '%d of %d bytes' % (n, len(line)))

    def copy():
        while not over.is_set():
            other = os.dup(fd)
            check(os.write(other, b'') == 0, 'the copy')
            os.close(other)

    def ask():
        s = socket.socket(fileno=os.dup(fd))
        while not over.is_set():
            check(s.getpeername()[0] == '10.9.0.1', 'getpeername')
            check(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0, 'SO_ERROR')
        s.close()

    def wait():
        p, e = select.poll(), select.epoll()
        p.register(fd, select.POLLIN | select.POLLOUT)
        e.register(fd, select.EPOLLOUT | select.EPOLLET)
        while not over.is_set():
            for found, events in p.poll(20) + e.poll(0):
                check(found == fd and not events & select.POLLERR, 'poll')

    def run(function):
        try:
            function()
        except BaseException as e:
            failed.append(e)
    threads = [threading.Thread(target=run, args=(f,))
               for f in (write, write, write, write, copy, ask, wait)]
    for t in threads:
        t.start()
    rest = b''
    while part := os.read(fd, 4096):
        *whole, rest = (rest + part).split(b'\n')
        for line in whole:
            lines.put(line.upper() + b'\n')
    for _ in range(4):
        lines.put(None)
    for t in threads[:4]:
        t.join()
    over.set()
    for t in threads:
        t.join()
    check(not failed, repr(failed))
    os.close(fd)


# As systemd starts a program: its listeners are the descriptors from 3 on.
def activate(*command):
    s, other = listen(), socket.socket(socket.AF_UNIX)
    other.bind('')
    other.listen(1)
    os.dup2(s.fileno(), 100)
    os.dup2(other.fileno(), 101)
    os.closerange(3, 100)
    os.dup2(100, 3)
    os.dup2(101, 4)
    os.closerange(5, 200)
    os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()))
    os.execv(command[0], command)


# That program. 2 connections of 2 lines
def listen_fds():
    check(os.environ['LISTEN_PID'] == str(os.getpid()), 'LISTEN_PID')
    check(os.environ['LISTEN_FDS'] == '2', 'LISTEN_FDS')
    listener, other = socket.socket(fileno=3), socket.socket(fileno=4)
    check(other.family == socket.AF_UNIX, 'descriptor 4')
    client = socket.socket(socket.AF_UNIX)
    client.connect(other.getsockname())
    p = select.poll()
    p.register(listener, select.POLLIN)
    p.register(other, select.POLLIN)
    for _ in range(3):
        found = p.poll(10000)[0][0]
        if found == 4:
            end = other.accept()[0]
            client.sendall(b'x')
            check(end.recv(10) == b'x', 'AF_UNIX')
        else:
            fd = accept(listener)
            answer(fd, 2)
            os.close(fd)


if __name__ == '__main__':
    name, args = sys.argv[1], sys.argv[2:]
    if name == 'peer' and args[0].startswith('any'):
        peer_any(int(args[0][3:]))
    elif name == 'peer':
        peer(int(args[0]))
    else:
        globals()[name](*args)
