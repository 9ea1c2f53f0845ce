"""Which torch `make setup` takes. No network here: what can be reached is given."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import install_torch
from scripts.install_torch import CHOICES, CPU_INDEX, Machine, choose, main, mirror_of, reachable

LAPTOP = Machine(linux=True, driver=False, mirror="", installed=False, reachable=lambda: True)


def never() -> bool:
    raise AssertionError("the index was asked")


@pytest.fixture
def pip_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What pip was asked for; it fails at everything."""
    calls: list[tuple[str, ...]] = []

    def failing(*arguments: str) -> "subprocess.CompletedProcess[str]":
        calls.append(arguments)
        return subprocess.CompletedProcess(arguments, 1, "")

    monkeypatch.setattr(install_torch, "pip", failing)
    return calls


def run_main(monkeypatch: pytest.MonkeyPatch, machine: Machine, *arguments: str) -> int:
    monkeypatch.setattr(install_torch, "this_machine", lambda: machine)
    monkeypatch.setattr(sys, "argv", ["install_torch.py", "--constraint", "constraints.txt", *arguments])
    return main()


@pytest.mark.parametrize(
    ("wanted", "machine", "index", "words"),
    [
        ("", LAPTOP, CPU_INDEX, "no NVIDIA driver is here: the CPU build of torch, about 2 GB"),
        ("cpu", LAPTOP, CPU_INDEX, "as TORCH=cpu says"),
        ("cpu", LAPTOP._replace(driver=True), CPU_INDEX, "as TORCH=cpu says"),
        ("cpu", LAPTOP._replace(mirror="PIP_INDEX_URL"), CPU_INDEX, "as TORCH=cpu says"),
        (
            "cpu",
            LAPTOP._replace(reachable=lambda: False),
            "",
            "cannot be reached: torch from the usual index, about 6 GB",
        ),
        ("", LAPTOP._replace(reachable=lambda: False), "", "cannot be reached: torch from the usual index, about 6 GB"),
        ("", LAPTOP._replace(driver=True, reachable=never), "", "an NVIDIA driver is here"),
        ("", LAPTOP._replace(mirror="PIP_INDEX_URL", reachable=never), "", "index of yours (PIP_INDEX_URL)"),
        ("", LAPTOP._replace(linux=False, reachable=never), "", "no CUDA in it for this system"),
        ("cuda", LAPTOP._replace(reachable=never), "", "as TORCH=cuda says"),
        ("default", LAPTOP._replace(reachable=never), "", "as TORCH=default says"),
        ("", LAPTOP._replace(installed=True, reachable=never), "", "torch is installed already"),
        ("cpu", LAPTOP._replace(installed=True, reachable=never), "", "torch is installed already"),
    ],
)
def test_choice(wanted: str, machine: Machine, index: str, words: str) -> None:
    found = choose(wanted, machine)
    assert found.index == index
    assert words in found.why


@pytest.mark.parametrize(
    ("environment", "configuration", "name"),
    [
        ({}, "", ""),
        ({"PIP_INDEX_URL": "https://mirror/simple"}, "", "PIP_INDEX_URL"),
        ({"PIP_INDEX_URL": ""}, "", ""),
        ({"PIP_NO_INDEX": "1"}, "", "PIP_NO_INDEX"),
        ({"PIP_FIND_LINKS": "/wheels", "PIP_EXTRA_INDEX_URL": "https://more/simple"}, "", ""),
        ({}, "global.cert='/a.pem'\nglobal.index-url='https://mirror/simple'\n", "global.index-url"),
        ({}, "global.extra-index-url='https://more/simple'\n", ""),
    ],
)
def test_mirror(environment: dict[str, str], configuration: str, name: str) -> None:
    assert mirror_of(environment, configuration) == name


@pytest.mark.parametrize("wanted", [(), ("cpu",)])
def test_a_failure_of_pip_is_said_and_is_none_of_the_setup(
    wanted: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    pip_calls: list[tuple[str, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_main(monkeypatch, LAPTOP, *wanted) == 0
    assert len(pip_calls) == 1
    assert pip_calls[0][0] == "install"
    assert pip_calls[0][-2:] == ("torch", "torchvision")
    assert CPU_INDEX in pip_calls[0]
    assert "that did not work: torch from the usual index" in capsys.readouterr().out


def test_what_is_left_to_pip_installs_nothing_here(
    monkeypatch: pytest.MonkeyPatch, pip_calls: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, LAPTOP._replace(driver=True)) == 0
    assert pip_calls == []
    said = capsys.readouterr().out
    assert all(f"TORCH={choice}" in said for choice in CHOICES), "how to choose is said"


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_main(monkeypatch, LAPTOP, "rocm")
    assert "TORCH is cpu, cuda or default, got 'rocm'" in capsys.readouterr().err


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/torch/" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_reachable(index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reachable(f"{index}/torch/", 60)
    assert not reachable(f"{index}/nothing/", 60)
    assert not reachable("http://127.0.0.1:1/", 60)
    monkeypatch.setenv("PIP_CERT", str(tmp_path / "nowhere.pem"))
    assert not reachable(f"{index}/torch/", 60), "certificates that cannot be read are no error either"
