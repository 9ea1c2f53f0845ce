"""`mtlora` for tests of many runs: one process imports it, and every run is a fork of that."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

TIMEOUT_S = 120

_SERVER = """
import json, os, sys
from mtlora.cli.main import main

for line in sys.stdin:
    given = json.loads(line)
    child = os.fork()
    if not child:
        for fd, path in enumerate(given["files"], start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(given["environment"])
        sys.argv = ["mtlora", *given["words"]]
        main()
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Ran(NamedTuple):
    """What a run left."""

    status: int
    stdout: str
    stderr: str


class ReadyCommand:
    """Runs `mtlora WORDS…` in a process that has imported it already, one run at a time."""

    def __init__(self, process: "subprocess.Popen[str]", scratch: Path) -> None:
        self._process, self._scratch = process, scratch

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> Ran:
        """environment: all of it; what `os.environ` has is not added."""
        assert self._process.stdin is not None and self._process.stdout is not None
        files = [self._scratch / "stdout", self._scratch / "stderr"]
        given = {"words": list(words), "environment": dict(environment), "files": [str(file) for file in files]}
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], TIMEOUT_S)
        assert ready, f"mtlora {' '.join(words)} runs for more than {TIMEOUT_S} s"
        return Ran(int(self._process.stdout.readline()), *(file.read_text() for file in files))


@contextmanager
def ready_command(path: Sequence[Path], scratch: Path) -> Iterator[ReadyCommand]:
    """path: where modules are looked for first. scratch: an empty folder."""
    environment = {**os.environ, "PYTHONPATH": ":".join(map(str, path))}
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        try:
            yield ReadyCommand(process, scratch)
        finally:
            process.kill()
