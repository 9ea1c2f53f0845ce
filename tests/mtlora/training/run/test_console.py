import io
from functools import partial

import pytest
from rich.console import Console

from mtlora.training.run.console import ConsoleReport

LOSSES = {"loss": 8.25, "semseg": 1.5, "human_parts": 0.5, "saliency": 0.25, "normals": 0.125, "gradient_norm": 3.0}
VALUES = LOSSES | {"lr": 5e-4, "images_per_s": 12.5}
LOOK = {"delta_m": 1.25, "semseg/miou": 0.5}


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> io.StringIO:
    file = io.StringIO()
    console = partial(Console, file=file, force_terminal=request.param, width=80)
    monkeypatch.setattr("mtlora.training.run.console.Console", lambda **_: console())
    return file


@pytest.mark.parametrize("screen", [True], indirect=True)
def test_a_terminal_shows_every_number_and_keeps_looks(screen: io.StringIO) -> None:
    report = ConsoleReport("train")
    report(10, 40, VALUES)
    report(20, 40, LOOK)
    report(20, 20, LOOK)
    shown = " ".join(screen.getvalue().split())
    for number in ("semseg 1.500", "human_parts 0.500", "normals 0.125", "lr 5.00e-04", "12.5 img/s", "10/40"):
        assert number in shown
    assert "train 20 delta_m 1.250 semseg/miou 0.500" in shown
    assert screen.getvalue().rindex("\x1b[?25h") > screen.getvalue().rindex("\x1b[?25l")  # the cursor is back


@pytest.mark.parametrize("screen", [False], indirect=True)
def test_a_log_has_a_line_now_and_then_and_every_look(screen: io.StringIO) -> None:
    report = ConsoleReport("train")
    for step in (10, 20, 30):
        report(step, 40, VALUES)
    report(30, 40, LOOK)
    report(40, 40, VALUES)
    lines = screen.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["10/40", "20/40", "30/40", "40/40"]
    assert lines[0].endswith("lr 5.00e-04 12.5 img/s") and " left 0:00:0" in lines[1]
    assert "delta_m 1.250 semseg/miou 0.500" in lines[2]


@pytest.mark.parametrize("screen", [False], indirect=True)
def test_the_time_left_is_known_from_the_second_report(screen: io.StringIO) -> None:
    """2 s a step, so 97 steps take 194 s; rich's own column needs half a minute of reports for an estimate."""
    now = 100.0
    report = ConsoleReport("train", clock=lambda: now)
    report(1, 100, VALUES)
    assert "left" not in screen.getvalue()
    now = 104.0
    report(3, 100, VALUES)
    assert screen.getvalue().endswith("left 0:03:14\n")
