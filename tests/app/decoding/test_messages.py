"""Messages are read as they were written; what a decoder writes is not trusted."""

import json

import pytest

from app.decoding.messages import Ready, Report, Task, Verdict, Wanted


def test_there_and_back() -> None:
    task = Task(12, Wanted(224, True, (0.1, 0.2, 0.3), (-1.0, 0.0, 1.0)), 1 << 30)
    assert Task.read(task.line()) == task
    report = Report(Verdict.LARGE, "é\n", 3, 4, 5, 6)
    assert Report.read(report.line()) == report
    assert report.line().count(b"\n") == 1
    assert Ready.read(Ready(["files"]).line()) == Ready(["files"])


GOOD = json.loads(Report(Verdict.DONE, "", 1, 1).line())


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": "fine"},
        {"width": -1},
        {"width": 1.5},
        {"width": True},
        {"height": 2**60},
        {"need": None},
        {"extra": 1},
    ],
)
def test_what_is_no_report_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"report|Verdict"):
        Report.read(json.dumps(GOOD | fields).encode())


@pytest.mark.parametrize("line", [b"", b"[]", b"null", b"{}", b"\xff", b"[" * 10_000])
def test_what_is_no_message_is_refused(line: bytes) -> None:
    for kind in (Report, Ready):
        with pytest.raises((ValueError, RecursionError)):
            kind.read(line)
