#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""calls.py peer|SCENARIO - what programs do to descriptors of connections

A scenario runs on the server, under tas-run, and listens at 10.9.0.2:7100 for
the peer, which sends lines and expects them back in upper case until the
connection ends; a connection that begins with "count N" must come to its end
after N answers. Both exit with status 0 if all was as it should be. PEER_RUNS
in the environment names a file that is there until the peer has ended.
"""
import array, errno, fcntl, os, select, signal, socket, subprocess, sys, time

ADDRESS = ('10.9.0.2', 7100)
PEER_RUNS = os.environ.get('PEER_RUNS', '')


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


def read_line(fd):
    """The peer's next line; the one after that comes when it is answered."""
    line = b''
    while not line.endswith(b'\n'):
        part = os.read(fd, 65536)
        check(part, 'the peer ended')
        line += part
    return line


def answer_line(fd, line):
    line = line.upper()
    while line:
        line = line[os.write(fd, line):]


def answer(fd, count=1):
    """The next lines of the peer's, by this descriptor."""
    for _ in range(count):
        answer_line(fd, read_line(fd))


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


def wait_for_peer():
    """until the peer has seen the end of the connection, and ended"""
    for _ in range(100):
        if not os.path.exists(PEER_RUNS):
            return
        time.sleep(0.05)
    check(False, 'the peer waits for the end')


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


# The same, the parent has closed it before. 5 lines
def fork_passes():
    fd = accept()
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        os.read(r, 1)
        answer(fd, 5)
        os._exit(0)
    os.close(fd)
    os.write(w, b'x')
    check(os.waitpid(pid, 0)[1] == 0, 'the child')


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


# The child of a parent that has used it, which sleeps meanwhile, and the parent
# again. 3 lines
def fork_uses():
    fd = accept()
    answer(fd)
    check(in_child(answer, fd) == 0, 'the child')
    answer(fd)


# The same by a copy, when the descriptor that is in an epoll has been closed.
# 3 lines
def fork_uses_copy():
    fd = accept()
    e = select.epoll()
    e.register(fd, select.EPOLLIN)
    answer(fd)
    copy = os.dup(fd)
    os.close(fd)
    check(in_child(answer, copy) == 0, 'the child')
    answer(copy)


# A child looks at its parent's epoll, which has nothing although a line is there;
# then it has. 2 lines
def fork_polls():
    fd = accept()
    e = select.epoll()
    e.register(fd, select.EPOLLRDHUP)

    def readable():
        p = select.poll()
        p.register(e.fileno(), select.POLLIN)
        return bool(p.poll(0)) and bool(select.select([e], [], [], 0)[0])
    check(not readable(), 'before the first')
    answer(fd)
    select.select([fd], [], [])
    check(in_child(lambda: check(not readable(), 'not its event')) == 0, 'the child')
    check(not readable(), 'nor in the parent')
    e.modify(fd, select.EPOLLIN)
    check(in_child(lambda: check(readable(), 'its event')) == 0, 'another child')
    check(e.poll(0) == [(fd, select.EPOLLIN)], 'the event is the parent\'s')
    answer(fd)


# As a server that forks for each request does it: the parent reads it, the child
# answers, both close. 1 line
def fork_answers():
    fd = accept()
    line = os.read(fd, 1000)
    pid = os.fork()
    if not pid:
        os.write(fd, line.upper())
        os._exit(0)
    os.close(fd)
    os.waitpid(pid, 0)
    time.sleep(0.2)


# The same; the child answers when the parent has closed it, closes it and goes
# on: that ends the connection. 1 line
def fork_closes_first():
    fd = accept()
    line = os.read(fd, 1000)
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        os.read(r, 1)
        os.write(fd, line.upper())
        os.close(fd)
        time.sleep(20)
        os._exit(0)
    os.close(fd)
    os.write(w, b'x')
    wait_for_peer()
    os.kill(pid, signal.SIGKILL)


# It is open until the last of them has closed it: the parent, then a child that
# never used it. 1 line
def fork_holds():
    fd = accept()
    answer(fd)
    pid = os.fork()
    if not pid:
        time.sleep(0.5)
        os.close(fd)
        time.sleep(20)
        os._exit(0)
    start = time.monotonic()
    os.close(fd)
    wait_for_peer()
    check(time.monotonic() - start > 0.4, 'it ended too early')
    os.kill(pid, signal.SIGKILL)


# The parent ends first, then its child, then a grandchild serves it. 3 lines
def fork_outlives():
    fd = accept()
    answer(fd)
    pid = os.fork()
    if pid:
        os._exit(0)
    if os.fork():
        os._exit(0)
    time.sleep(0.3)
    answer(fd, 2)
    os._exit(0)


# The same, asked for while parent and grandparent live, by each in turn. 6 lines
def fork_deep():
    fd = accept()
    answer(fd)

    def child():
        check(in_child(answer, fd, 2) == 0, 'the grandchild')
        answer(fd)
    check(in_child(child) == 0, 'the child')
    answer(fd)
    check(in_child(answer, fd) == 0, 'another child')


# Several children and the parent write by turns, as to a common standard output;
# the child has two descriptors of it, and an epoll. 40 lines
def fork_turns():
    fd = accept()
    answer(fd)
    copy, turn, done = os.dup(fd), os.pipe(), os.pipe()
    pids = []
    for i in range(3):
        pid = os.fork()
        if not pid:
            e = select.epoll()
            e.register(copy, select.EPOLLIN)
            while os.read(turn[0], 1) == b'x':
                check(e.poll(5) == [(copy, select.EPOLLIN)], 'epoll')
                answer((fd, copy)[i % 2])
                os.write(done[1], b'x')
            os._exit(0)
        pids.append(pid)
    for i in range(39):
        if i % 2:
            answer(copy)
        else:
            os.write(turn[1], b'x')
            os.read(done[0], 1)
    os.write(turn[1], b'eee')
    for pid in pids:
        check(os.waitpid(pid, 0)[1] == 0, 'a child')


# A child uses it first and ends, its parent has it still, and a child of its own.
# 3 lines
def fork_first():
    fd = accept()
    check(in_child(answer, fd) == 0, 'the child')
    answer(fd)
    check(in_child(answer, fd) == 0, 'the second')


# The parent uses it first, while a child that has it waits for something. 3 lines
def fork_late():
    fd = accept()
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        os.read(r, 1)
        answer(fd, 2)
        os._exit(0)
    answer(fd)
    os.write(w, b'x')
    check(os.waitpid(pid, 0)[1] == 0, 'the child')


# After it was used: the same number, another image, which offers it again.
# 4 lines
def exec_used():
    fd = accept()
    answer(fd)
    os.set_inheritable(fd, True)
    os.execv(sys.executable, [sys.executable, __file__, 'serve', str(fd), '3'])


# As a shell does it: a child puts it under 0 and 1. 3 lines
def inetd_used():
    fd = accept()
    answer(fd)
    pid = os.fork()
    if not pid:
        os.dup2(fd, 0)
        os.dup2(fd, 1)
        os.closerange(3, 100)
        os.execv(sys.executable, [sys.executable, '-c', ECHO])
    os.close(fd)
    check(os.waitpid(pid, 0)[1] == 0, 'the child')


# posix_spawn(), by a list of what to do, and by inheritance. 5 lines
def spawn_used():
    fd = accept()
    answer(fd)
    copy = os.dup(fd)
    pid = os.posix_spawn(sys.executable, [sys.executable, '-c', ECHO],
                         os.environ, file_actions=[
                             (os.POSIX_SPAWN_DUP2, fd, 0),
                             (os.POSIX_SPAWN_DUP2, copy, 1)])
    check(os.waitpid(pid, 0)[1] == 0, 'the first')
    os.set_inheritable(copy, True)
    pid = os.posix_spawn(sys.executable, [sys.executable, __file__, 'serve',
                                          str(copy), '2'], os.environ)
    check(os.waitpid(pid, 0)[1] == 0, 'the second')


# The service stops; then a child uses it, and the parent again. 4 lines
def fork_stop():
    fd = accept()
    answer(fd)
    pid = os.fork()
    if not pid:
        while not os.path.exists(os.environ['GO']):
            time.sleep(0.05)
        answer(fd, 2)
        os._exit(0)
    p = select.poll()
    p.register(fd, select.POLLPRI)
    while not os.waitpid(pid, os.WNOHANG)[0]:
        p.poll(50)
    answer(fd)


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


# A connection that the parent has used, and one that has a child. 3 lines
def sandbox_used():
    fd = accept()
    answer(fd)

    def serve():
        sandbox()
        answer(fd)
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        os.read(r, 1)
        os._exit(0)
    check(in_child(serve) == 0, 'the child')
    sandbox()
    answer(fd)
    os.write(w, b'x')
    os.waitpid(pid, 0)


# There a child takes over from its parent, who goes on with it later. 4 lines
def sandbox_takes():
    fd = accept()
    answer(fd)

    def serve():
        sandbox()
        answer(fd, 2)
    check(in_child(serve) == 0, 'the child')
    answer(fd)


# There a child polls its parent's epoll, which is readable. 3 lines
def sandbox_polls():
    fd = accept()
    e, p, (r, w) = select.epoll(), select.poll(), os.pipe()
    e.register(fd, select.EPOLLRDHUP)
    e.register(r, select.EPOLLIN)
    p.register(e.fileno(), select.POLLIN)
    os.write(w, b'x')
    answer(fd)

    def serve():
        sandbox()
        check(p.poll(0), 'the pipe')
        answer(fd)
    check(in_child(serve) == 0, 'the child')
    answer(fd)


# A process enters it with a connection of its own. 3 lines
def sandbox_own():
    fd = accept()
    answer(fd)
    sandbox()
    answer(fd, 2)


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
    subprocess.run([sys.executable, '-c', ECHO], stdin=fd, stdout=fd,
                   check=True)


# Two lines
ECHO = '''
import os
for i in range(2):
    line = b""
    while not line.endswith(b"\\n"):
        line += os.read(0, 65536)
    line = line.upper()
    while line:
        line = line[os.write(1, line):]
'''


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


# Passed after it was used, and the sender's closed: to a program that is
# interposed, and to one that is not. 5 lines
def pass_used():
    fd = accept()
    answer(fd)
    for env in {}, {'LD_PRELOAD': ''}:
        ours, theirs = socket.socketpair()
        p = subprocess.Popen([sys.executable, __file__, 'take',
                              str(theirs.fileno())], env=os.environ | env,
                             pass_fds=[theirs.fileno()])
        socket.send_fds(ours, [b'x'], [fd])
        os.close(fd)
        # it comes back, and is used here
        fd = socket.recv_fds(ours, 10, 1)[1][0]
        check(p.wait() == 0, 'the other program')
        answer(fd)


# Kept by who sent it, a grandchild, which uses it when it is offloaded here: the
# service is asked for it. 3 lines
def pass_kept():
    ours, theirs = socket.socketpair()

    def send():
        fd = accept()
        e = select.epoll()
        e.register(fd, select.EPOLLIN)
        socket.send_fds(theirs, [b'x'], [fd])
        theirs.recv(1)
        answer(fd)
        check(e.poll(5) == [(fd, select.EPOLLIN)], 'epoll')
        e.modify(fd, select.EPOLLOUT)
        check(e.poll(5) == [(fd, select.EPOLLOUT)], 'epoll, changed')
    pid = os.fork()
    if not pid:
        ours.close()
        os._exit(in_child(send))
    fd = socket.recv_fds(ours, 10, 1)[1][0]
    answer(fd)
    ours.send(b'x')
    # in a call of the library's: that is when it can be asked for it
    p = select.poll()
    p.register(fd, select.POLLPRI)
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        p.poll(50)
    check(ended[1] == 0, 'who sent it')
    answer(fd)


def take(number):
    s = socket.socket(fileno=int(number))
    fd = socket.recv_fds(s, 10, 1)[1][0]
    answer(fd)
    socket.send_fds(s, [b'x'], [fd])


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


# An epoll that is put into another one, or changed there, was ready then or not:
# of an entry that asks for no EPOLLIN Linux tells nothing that comes later.
# 5 lines
def epoll_nested_late():
    fd = accept()
    inner, outer = select.epoll(), select.epoll()
    inner.register(fd, select.EPOLLIN)
    p = select.poll()
    p.register(inner.fileno(), select.POLLIN)
    answer(fd, 2)
    for change in outer.register, outer.modify:
        check(p.poll(5000) == [(inner.fileno(), 1)], 'a line')
        line = read_line(fd)
        change(inner.fileno(), select.EPOLLRDNORM)
        answer_line(fd, line)
        check(p.poll(5000) == [(inner.fileno(), 1)], 'the next line')
        check(outer.poll(0) == [], 'it was not ready')
    ready = [(inner.fileno(), select.EPOLLRDNORM)]
    outer.modify(inner.fileno(), select.EPOLLRDNORM)
    check(outer.poll(0) == ready and outer.poll(0) == ready, 'it was ready')
    answer(fd)


# What arrives while it waits, and nobody asked for, ends no wait. 3 lines
def epoll_nested_in_vain():
    import threading
    fd = accept()
    answer(fd)
    inner, outer = select.epoll(), select.epoll()
    inner.register(fd, select.EPOLLRDHUP)
    outer.register(inner.fileno(), select.EPOLLIN)
    late = threading.Timer(0.1, answer_line, (fd, read_line(fd)))
    late.start()
    check(outer.poll(0.5) == [], 'of no interest')
    late.join()
    answer(fd)


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


# In a second one when it is offloaded: it goes back to Linux, and both tell of
# it, by the data that they were given. 5 lines
def epoll_two_late():
    fd = accept()
    a, b = select.epoll(), select.epoll()
    a.register(fd, select.EPOLLIN)
    answer(fd)
    b.register(fd, select.EPOLLIN | select.EPOLLET)
    for _ in range(2):
        check(a.poll(5) == [(fd, select.EPOLLIN)], 'first')
        check(b.poll(5) == [(fd, select.EPOLLIN)], 'second')
        answer(fd)
    a.modify(fd, select.EPOLLOUT)
    check(a.poll(5) == [(fd, select.EPOLLOUT)], 'changed')
    a.unregister(fd)
    fails(errno.ENOENT, a.modify, fd, select.EPOLLIN)
    check(b.poll(5) == [(fd, select.EPOLLIN)], 'the second one only')
    answer(fd, 2)


# The first is a one-shot that has fired: it stays silent, is still registered,
# and can be renewed. 3 lines
def epoll_two_shot():
    fd = accept()
    a, b = select.epoll(), select.epoll()
    answer(fd)
    a.register(fd, select.EPOLLIN | select.EPOLLONESHOT)
    check(a.poll(5) == [(fd, select.EPOLLIN)], 'once')
    b.register(fd, select.EPOLLIN)
    check(b.poll(5) == [(fd, select.EPOLLIN)], 'second')
    check(a.poll(0.05) == [], 'silent')
    fails(errno.EEXIST, a.register, fd, select.EPOLLIN)
    a.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
    check(a.poll(5) == [(fd, select.EPOLLIN)], 'renewed')
    answer(fd)
    a.unregister(fd)
    fails(errno.ENOENT, a.modify, fd, select.EPOLLIN)
    answer(fd)


# A descriptor of it is registered, it has others, and one of them is closed when
# it goes back to Linux; flags are kept. 3 lines
def epoll_two_copies():
    fd = accept()
    answer(fd)
    copy, third = os.dup(fd), fcntl.fcntl(fd, fcntl.F_DUPFD, 50)
    os.set_blocking(third, False)
    a, b = select.epoll(), select.epoll()
    a.register(fd, select.EPOLLIN)
    b.register(copy, select.EPOLLIN)
    for one in fd, copy, third:
        check(not os.get_blocking(one), 'O_NONBLOCK')
    check([os.get_inheritable(i) for i in (fd, copy, third)] ==
          [False, False, True], 'FD_CLOEXEC')
    ino = {os.fstat(i).st_ino for i in (fd, copy, third)}
    check(len(ino) == 1, 'one file')
    os.set_blocking(fd, True)
    check(a.poll(5) == [(fd, select.EPOLLIN)], 'first')
    check(b.poll(5) == [(copy, select.EPOLLIN)], 'second')
    answer(third)
    os.close(third)
    answer(copy)


# What only Linux does with a socket. 3 lines
def splice():
    fd = accept()
    answer(fd)
    r, w = os.pipe()
    line = os.read(r, os.splice(fd, w, 10000))
    os.write(w, line.upper())
    while line:
        line = line[os.splice(r, fd, len(line)):]
    answer(fd)


def option(level, name, value):
    fd = accept()
    answer(fd)
    s = socket.socket(fileno=fd)
    s.setsockopt(level, name, value)
    check(s.getsockopt(level, name) == value, 'its value')
    answer(fd)
    s.detach()


# 2 lines each
def option_zerocopy():
    option(socket.SOL_SOCKET, 60, 1)


def option_timestamping():
    option(socket.SOL_SOCKET, 37, 16 | 8)


def option_unknown():
    option(socket.SOL_SOCKET, 44, 1)  # SO_LOCK_FILTER


# TLS in the kernel may not be there: then it fails as Linux does. 2 lines
def option_ulp():
    fd = accept()
    answer(fd)
    s = socket.socket(fileno=fd)
    try:
        s.setsockopt(socket.IPPROTO_TCP, 31, b'tls')
    except OSError as e:
        check(e.errno == errno.ENOENT, 'TCP_ULP: ' + e.strerror)
    s.detach()
    answer(fd)


# libc's syscall(): what moves data is served, a ring gets Linux's socket.
# 4 lines
def raw_calls():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    number = lambda *names: [NUMBERS[os.uname().machine][n] for n in names]
    read, write, ring, register = number('read', 'write', 'ring', 'register')
    fd = accept()
    answer(fd)
    buf = ctypes.create_string_buffer(10000)
    n = libc.syscall(read, fd, buf, 10000)
    check(n > 0, 'read')
    line = buf.raw[:n].upper()
    check(libc.syscall(write, fd, line, n) == n, 'write')
    answer(fd)
    params = ctypes.create_string_buffer(120)
    r = libc.syscall(ring, 4, params)
    if r >= 0:
        fds = (ctypes.c_int * 1)(fd)
        check(libc.syscall(register, r, 2, fds, 1) == 0, 'a ring')
    else:
        socket.socket(fileno=os.dup(fd)).setsockopt(socket.SOL_SOCKET, 60, 1)
    answer(fd)


NUMBERS = {'x86_64': {'read': 0, 'write': 1, 'ring': 425, 'register': 427},
           'aarch64': {'read': 63, 'write': 64, 'ring': 425, 'register': 427}}


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


# The same, on other copies of it all the time, and it goes back to Linux in the
# middle of that. 200 lines
def threads_leave():
    import queue, threading
    fd = accept()
    answer(fd)
    lines, epolls = queue.Queue(), [select.epoll(), select.epoll()]
    epolls[0].register(fd, select.EPOLLIN | select.EPOLLET)

    def copies(step):
        """a copy of a copy, now by one call, now by another"""
        one = os.dup(fd)
        if step % 2:
            two = fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 100 + step % 7)
        else:
            two = os.dup2(one, 90)
        os.close(one)
        return two

    def write():
        step = 0
        while line := lines.get():
            while line:
                copy = copies(step)
                line = line[os.write(copy, line):]
                os.close(copy)
                step += 2

    def busy():
        step = 1
        while not over:
            copy = copies(step)
            check(os.get_blocking(copy), 'O_NONBLOCK')
            os.close(copy)
            step += 2
    over = []
    threads = [threading.Thread(target=f) for f in (write, busy)]
    for t in threads:
        t.start()
    rest, left = b'', 199
    while left:
        copy = os.dup(fd)
        part = os.read(copy, 65536)
        os.close(copy)
        check(part, 'the peer ended')
        rest += part
        *whole, rest = rest.split(b'\n')
        for line in whole:
            lines.put(line.upper() + b'\n')
            left -= 1
            if left == 100:
                epolls[1].register(fd, select.EPOLLIN)
    lines.put(None)
    threads[0].join()
    over.append(True)
    threads[1].join()


if __name__ == '__main__':
    name, args = sys.argv[1], sys.argv[2:]
    if name == 'peer' and args[0].startswith('any'):
        peer_any(int(args[0][3:]))
    elif name == 'peer':
        peer(int(args[0]))
    else:
        globals()[name](*args)
