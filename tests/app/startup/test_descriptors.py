"""Room for connections under limits of open files, in processes of their own that have such limits."""

import asyncio
import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from app.startup.descriptors import LEAST_CONNECTIONS, OWN, TELL_AGAIN_S, Shortages
from testing.clocks import Clock

PROGRAM = """
import json, logging, resource, sys
from app.startup.descriptors import make_room
from app.core.errors import StartupError
logging.basicConfig(stream=sys.stderr)
try:
    room = make_room(int(sys.argv[1]))
except StartupError as error:
    room = str(error)
print(json.dumps([room, resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


def room(connections: int, soft: int, hard: int) -> tuple[Any, tuple[int, int], str]:
    """What was said of that many connections, the limits then, and what was logged."""
    limits = f"ulimit -Sn {soft} && ulimit -Hn {hard}"
    command = ["sh", "-c", f'{limits} && exec "$@"', "sh", sys.executable, "-c", PROGRAM, str(connections)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    said, (now, most) = json.loads(ended.stdout)
    return said, (now, most), ended.stderr


def test_the_soft_limit_is_raised_to_what_connections_need() -> None:
    assert room(100, 128, 400) == (100, (OWN + 200, 400), "")


def test_and_never_lowered() -> None:
    assert room(10, 300, 400) == (10, (300, 400), "")


def test_where_that_is_not_allowed_there_are_fewer_and_one_line_says_so() -> None:
    said, limits, logged = room(300, 64, 128)
    assert (said, limits) == (128 - OWN, (128, 128))
    (line,) = logged.splitlines()
    assert f"to {OWN + 600}" in line
    assert f"lower it to {128 - OWN}" in line


def test_a_handful_is_too_few() -> None:
    said, _, _ = room(300, OWN + LEAST_CONNECTIONS - 1, OWN + LEAST_CONNECTIONS - 1)
    assert f"{OWN + LEAST_CONNECTIONS - 1} files may be open" in said
    assert f"to {OWN + 600}" in said
    assert room(300, OWN + LEAST_CONNECTIONS, OWN + LEAST_CONNECTIONS)[0] == LEAST_CONNECTIONS
    assert room(2, OWN + 2, OWN + 2)[0] == 2, "who asks for two may have two"


def test_shortages_are_told_now_and_then_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    shortages, loop = Shortages(lambda: 7, clock), asyncio.new_event_loop()
    try:
        for _ in range(5):
            shortages.handle(loop, {"message": "socket.accept() out of system resource", "exception": OSError(24, "x")})
        clock.now += TELL_AGAIN_S
        shortages.handle(loop, {"message": "socket.accept() out of system resource", "exception": OSError(24, "x")})
        assert [(vars(r)["times"], vars(r)["connections"]) for r in caplog.records] == [(1, 7), (5, 7)]
        shortages.handle(loop, {"message": "something else"})
        assert caplog.records[-1].getMessage() == "something else"
        assert caplog.records[-1].levelno == logging.ERROR
    finally:
        loop.close()
