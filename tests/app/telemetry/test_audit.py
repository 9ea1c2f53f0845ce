"""The audit file: appended to, made anew for its owner alone, never waited for."""

import errno
import json
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.telemetry import audit


@pytest.fixture(autouse=True)
def _handlers_stay_as_they_were() -> Iterator[None]:
    log = logging.getLogger("mtlora.audit")
    before = log.handlers[:]
    yield
    for handler in set(log.handlers) - set(before):
        log.removeHandler(handler)
        handler.close()


def test_lines_are_appended_and_a_file_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "audit"
    audit.add_audit_file(path)
    audit.record("upload", "done", adapter="cätze")
    path.rename(tmp_path / "old")
    audit.record("delete", "done")
    for file, action in ((tmp_path / "old", "upload"), (path, "delete")):
        (line,) = file.read_text().splitlines()
        assert json.loads(line)["action"] == action
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError) as refused:
        audit.add_audit_file(tmp_path / "pipe")
    assert refused.value.errno == errno.ENXIO


def test_a_pipe_that_somebody_reads_will_do(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        audit.add_audit_file(tmp_path / "pipe")
        audit.record("pin", "done")
        assert json.loads(os.read(reader, 4096))["action"] == "pin"
    finally:
        os.close(reader)
