"""The version, in this one place, and the commit that the code was built or checked out from."""

import re
from pathlib import Path

__version__ = "0.2.0.dev0"

SHOWN_DIGITS = 12
_PACKAGE = Path(__file__).resolve().parent
_BAKED = "commit.txt"  # written beside this file by setup.py when a wheel is built
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


def commit(package: Path = _PACKAGE) -> str:
    """The commit of this code, shortened: baked in when it was built, or the checkout's; empty if neither tells."""
    try:
        found = (package / _BAKED).read_text().strip()
    except (OSError, ValueError):
        found = _checked_out(package.parent / ".git")
    return found[:SHOWN_DIGITS] if _COMMIT.fullmatch(found) else ""


def full_version() -> str:
    """The version, with the commit where that can be told."""
    return f"{__version__} ({found})" if (found := commit()) else __version__


def _checked_out(git: Path) -> str:
    """The commit that git's own files name; git itself need not be there."""
    try:
        if git.is_file():  # a worktree: its own folder is elsewhere
            git = git.parent / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
        return _reference(common, head.removeprefix("ref:").strip())
    except (OSError, ValueError):
        return ""


def _reference(git: Path, name: str) -> str:
    loose = git / name
    if loose.exists():
        return loose.read_text().strip()
    for line in (git / "packed-refs").read_text().splitlines():
        found, _, packed = line.partition(" ")
        if packed == name:
            return found
    return ""
