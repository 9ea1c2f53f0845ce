"""The commit is told by what was built, or by git's files, without git."""

import subprocess
import sys
from pathlib import Path

import pytest

from mtlora.version import __version__, commit, full_version

HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "mtlora").mkdir()
    return tmp_path / "mtlora"


def checkout(package: Path, **files: str) -> None:
    for name, text in files.items():
        path = package.parent / ".git" / name.replace("__", "/").replace("packed", "packed-refs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_neither_baked_nor_checked_out(package: Path) -> None:
    assert commit(package) == ""


@pytest.mark.parametrize(
    "files",
    [
        {"HEAD": f"{HASH}\n"},
        {"HEAD": "ref: refs/heads/main\n", "refs__heads__main": f"{HASH}\n"},
        {
            "HEAD": "ref: refs/heads/main\n",
            "packed": f"# pack-refs\n{'f' * 40} refs/heads/other\n{HASH} refs/heads/main\n",
        },
    ],
)
def test_a_checkout(package: Path, files: dict[str, str]) -> None:
    checkout(package, **files)
    assert commit(package) == HASH[:12]


def test_a_worktree(package: Path, tmp_path: Path) -> None:
    home = tmp_path / "main" / ".git" / "worktrees" / "w"
    home.mkdir(parents=True)
    (home / "HEAD").write_text("ref: refs/heads/w\n")
    (home / "commondir").write_text("../..\n")
    reference = tmp_path / "main" / ".git" / "refs" / "heads" / "w"
    reference.parent.mkdir(parents=True)
    reference.write_text(f"{HASH}\n")
    (tmp_path / ".git").write_text(f"gitdir: {home}\n")
    assert commit(package) == HASH[:12]


def test_what_was_baked_in_wins(package: Path) -> None:
    checkout(package, HEAD=f"{'f' * 40}\n")
    (package / "commit.txt").write_text(f"{HASH}\n")
    assert commit(package) == HASH[:12]


@pytest.mark.parametrize("text", ["unknown\n", "", "ref: refs/heads/none\n", "\0", "x" * 40])
def test_what_is_no_commit_is_not_shown(package: Path, text: str) -> None:
    checkout(package, HEAD=text)
    assert commit(package) == ""
    (package / "commit.txt").write_text(text)
    assert commit(package) == ""


def test_the_command_shows_it() -> None:
    command = [sys.executable, "-c", "from mtlora.cli.main import main; main()", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert shown == f"mtlora {full_version()}\n"
    assert shown.startswith(f"mtlora {__version__}")
