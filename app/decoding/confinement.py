"""The limits of a decoder process before it sees a stranger's bytes: no files, no network, no other processes.

Two fences, because not every system has both. Everywhere: no descriptor beyond those that are open, so nothing can be
opened or connected. On Linux also a filter in the kernel (seccomp) that refuses the calls themselves, whoever makes
them. Resources are bounded for each photo by the worker.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 1, 38, 22, 2
_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of the classic BPF machine
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # in struct seccomp_data; lower half of an argument
_X32 = 0x40000000  # calls of another convention, which the numbers below do not cover
_CLONE_THREAD = 0x00010000


class _Machine(NamedTuple):
    """A processor's numbers of system calls."""

    architecture: int  # AUDIT_ARCH_…
    refused: Sequence[int]
    clone: int
    clone3: int
    prlimit: int


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


# open creat openat openat2 open_by_handle_at · socket socketpair connect accept accept4 bind listen · execve execveat
# fork vfork · ptrace process_vm_readv process_vm_writev kill tkill tgkill pidfd_open pidfd_getfd pidfd_send_signal ·
# rename renameat renameat2 mkdir mkdirat rmdir unlink unlinkat link linkat symlink symlinkat chmod fchmodat chown
# lchown fchownat truncate · mount umount2 pivot_root chroot setns unshare bpf io_uring_setup perf_event_open add_key
# request_key keyctl userfaultfd shmget shmat msgget mq_open
_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        _numbers(
            "2 85 257 437 304 41 53 42 43 288 49 50 59 322 57 58 101 310 311 62 200 234 434 438 424 82 264 "
            "316 83 258 84 87 263 86 265 88 266 90 268 92 94 260 76 165 166 155 161 308 272 321 425 298 248 "
            "249 250 323 29 30 68 240"
        ),
        clone=56,
        clone3=435,
        prlimit=302,
    ),
    "aarch64": _Machine(
        0xC00000B7,
        _numbers(
            "56 437 265 198 199 203 202 242 200 201 221 281 117 270 271 129 130 131 434 438 424 38 276 34 35 "
            "37 36 53 54 45 40 39 41 51 268 97 280 425 241 217 218 219 282 194 196 186 180"
        ),
        clone=220,
        clone3=435,
        prlimit=261,
    ),
}


def confine(keep: Iterable[int]) -> list[str]:
    """Give up everything but the descriptors in `keep`; what it took: `files`, `calls`. There is no way back."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _close_others(set(keep))
    taken = ["files"]
    if _refuse_calls():
        taken.append("calls")
    return taken


def end_with_parent() -> bool:
    """Whether the kernel will end this process with the one that started it, whatever it is at then (Linux).

    With the thread that started it, to be exact.
    """
    return sys.platform == "linux" and _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) == 0


def _close_others(keep: set[int]) -> None:
    """Close what is open beside them, and leave no number free: one that is could be opened."""
    nothing = os.open(os.devnull, os.O_RDWR)
    least = max(*keep, nothing) + 1
    for number in set(range(least)) - keep - {nothing}:
        os.dup2(nothing, number, inheritable=False)
    os.closerange(least, 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, least))


def _refuse_calls() -> bool:
    """Whether the kernel now refuses the calls listed above; it may be too old, or not let us."""
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None or struct.calcsize("P") != 8:
        return False
    program = _program(machine)
    code = ctypes.create_string_buffer(program, len(program))
    form = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        return False
    return _prctl(_PR_SET_SECCOMP, _FILTER, form) == 0


def _prctl(option: int, first: int, second: bytes | None = None) -> int:
    """0: it is so now."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_void_p] * 4)
    return int(prctl(option, first, second, None, None))


def _program(machine: _Machine) -> bytes:
    """The filter: jumps are counted from the next instruction, to `yes` or to `no`."""
    lines = [
        _line(_LOAD, _ARCHITECTURE_AT),
        _line(_EQUAL, machine.architecture, yes=1),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER_AT),
        *_unless_at_least(_X32, _ERRNO | _EPERM),
        *_when(machine.clone3, [_line(_RETURN, _ERRNO | _ENOSYS)]),  # its caller then tries `clone`
        *_when(
            machine.clone,  # threads, but no processes
            _only_if(_line(_ANY_BIT, _CLONE_THREAD, no=1)),
        ),
        *_when(
            machine.prlimit,  # of this process only
            _only_if(_line(_EQUAL, 0, no=1)),
        ),
    ]
    for number in machine.refused:
        lines += _when(number, [_line(_RETURN, _ERRNO | _EPERM)])
    return b"".join([*lines, _line(_RETURN, _ALLOW)])


def _only_if(holds: bytes) -> list[bytes]:
    """Allow a call whose first argument is so."""
    return [_line(_LOAD, _FIRST_ARGUMENT_AT), holds, _line(_RETURN, _ALLOW), _line(_RETURN, _ERRNO | _EPERM)]


def _when(number: int, lines: list[bytes]) -> list[bytes]:
    return [_line(_EQUAL, number, no=len(lines)), *lines]


def _unless_at_least(bound: int, verdict: int) -> list[bytes]:
    return [_line(_AT_LEAST, bound, no=1), _line(_RETURN, verdict)]


def _line(operation: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", operation, yes, no, value)
