"""The unit is one that systemd understands, gives the process little, and waits for the drain."""

import re
from pathlib import Path

from app.startup.settings import Settings
from tests.deploy.tools import DEPLOY, needs, run

UNIT = DEPLOY / "systemd" / "mtlora.service"
EXPOSURE = 20  # tenths; systemd calls up to 2.0 "OK", and an unhardened service has 9.6


def installed(folder: Path) -> Path:
    """The unit with a program that exists on every machine."""
    unit = folder / UNIT.name
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE))
    return unit


@needs("systemd-analyze")
def test_systemd_understands_it(tmp_path: Path) -> None:
    run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", installed(tmp_path))


@needs("systemd-analyze")
def test_it_is_hardened(tmp_path: Path) -> None:
    run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", installed(tmp_path))


def test_a_stop_waits_for_the_drain() -> None:
    stop = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert stop is not None
    assert float(stop[1]) > Settings().drain_delay_s + Settings().grace_s


def test_settings_exist() -> None:
    named = set(re.findall(r"\bMTLORA_[A-Z_]+(?==)", UNIT.read_text())) - {"MTLORA_NAME"}
    assert named <= {f"MTLORA_{name.upper()}" for name in Settings.model_fields}
