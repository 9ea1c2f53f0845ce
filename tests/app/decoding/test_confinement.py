"""A confined process keeps what it has and gets nothing more: tried from inside, in a process of its own."""

import os
import platform
import signal
import subprocess
import sys
import textwrap

import pytest

LINUX = sys.platform == "linux" and platform.machine() in {"x86_64", "aarch64"}
PROGRAM = """
import ctypes, os, resource, signal, socket, sys, threading
from app.decoding.confinement import confine
ours, theirs = socket.socketpair()
taken = confine({ours.fileno()})
def refused(work):
    try:
        work()
    except (OSError, RuntimeError) as error:
        return type(error).__name__
    return "LET THROUGH"
attempts = {
    "open": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "write": lambda: os.open("/tmp/mtlora-confined", os.O_WRONLY | os.O_CREAT),
    "socket": lambda: socket.socket(),
    "dup": lambda: os.dup(ours.fileno()),
    "pipe": lambda: os.pipe(),
    "descriptors": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)) if os.getuid() else os.open("/", 0),
}
if "calls" in taken:
    def close_and(work):
        def run():
            os.close(0)
            try:
                work()
            finally:
                os.dup2(ours.fileno(), 0)
        return run
    attempts |= {
        "open in a free place": close_and(lambda: os.open("/etc/hostname", os.O_RDONLY)),
        "socket in a free place": close_and(lambda: socket.socket()),
        "fork": lambda: os.fork(),
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "kill": lambda: os.kill(os.getppid(), 0),
        "unlink": lambda: os.unlink("/tmp/mtlora-none"),
        "limits of the parent": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE),
    }
results = {name: refused(work) for name, work in attempts.items()}
resource.setrlimit(resource.RLIMIT_AS, resource.getrlimit(resource.RLIMIT_AS))
thread = threading.Thread(target=lambda: results.update(thread="works"))
thread.start()
thread.join()
signal.setitimer(signal.ITIMER_PROF, 0)
ours.sendall(repr((taken, results)).encode())
os._exit(0)
"""


def test_what_a_confined_process_can_do() -> None:
    """The answer comes through the one descriptor that it kept."""
    harness = textwrap.dedent(
        """
        import socket, sys
        pair = socket.socketpair()
        socket.socketpair = lambda: pair
        program = sys.argv[1]
        import os
        if os.fork() == 0:
            exec(program)
        pair[0].close
        pair[1].settimeout(60)
        print(pair[1].recv(65536).decode())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", harness, PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    taken, results = eval(done.stdout)  # our own program's tuple
    assert results.pop("thread") == "works"
    assert set(results.values()) <= {"OSError", "PermissionError"}, results
    if LINUX:
        assert taken == ["files", "calls"]
        assert results["fork"] == results["kill"] == results["open in a free place"] == "PermissionError"


@pytest.mark.skipif(not LINUX, reason="the filter is Linux's, of two processors")
def test_the_filter_kills_no_innocent() -> None:
    """What decoders and Python need is not among what is refused: memory, clocks, the channel."""
    program = """
import mmap, os, socket, time
from app.decoding.confinement import confine
ours, theirs = socket.socketpair()
confine({ours.fileno(), theirs.fileno()})
big = mmap.mmap(-1, 1 << 24)
big[:5] = b"hello"
data = bytearray(1 << 26)
del data
time.sleep(0.01)
theirs.sendall(b"x" * 1000)
assert ours.recv(1000) == b"x" * 1000
os._exit(7)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 7


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the worker looks itself")
def test_a_busy_process_ends_with_the_one_that_started_it() -> None:
    """However it ends, and although the filter lies between them."""
    busy = """
import os, sys
from app.decoding.confinement import confine, end_with_parent
if not end_with_parent():
    sys.exit("refused")
confine({1})
print(os.getpid(), flush=True)
while True:
    pass
"""
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        try:
            assert process.communicate(timeout=30)[0] == b""  # the end of the pipe: nobody holds it any more
        except subprocess.TimeoutExpired:
            os.kill(pid, signal.SIGKILL)
            raise
