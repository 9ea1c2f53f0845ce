"""The key file: strict to read, atomic to change, closed to others."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.access.key_file import change_keys, read_keys
from app.access.keys import ApiKey, Scope
from app.core.errors import KeyFileError


def key(label: str) -> ApiKey:
    return ApiKey(label=label, sha256=f"{abs(hash(label)):064x}"[-64:], scopes=frozenset({Scope.PREDICT}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "keys.json"
    change_keys(path, lambda before: (*before, key("one")))
    return path


def test_what_is_written_is_read_and_is_ours_alone(path: Path) -> None:
    change_keys(path, lambda before: (*before, key("two")))
    assert read_keys(path) == (key("one"), key("two"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(p.name for p in path.parent.iterdir()) == [".keys.json.lock", "keys.json"]


def test_a_change_that_fails_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ValueError, match="a label of its own"):
        change_keys(path, lambda keys: (*keys, key("one")))
    assert path.read_bytes() == before


def test_a_damaged_file_is_not_overwritten(path: Path) -> None:
    path.write_text("{")
    with pytest.raises(KeyFileError, match="is not a key file"):
        change_keys(path, lambda keys: (*keys, key("two")))
    assert path.read_text() == "{"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a key file: Invalid JSON"),
        ("[]", "is not a key file"),
        ("{}", "keys: Field required"),
        ('{"format": 2, "keys": []}', "format: Input should be 1"),
        ('{"keys": [{"label": "a"}]}', "keys.0.sha256: Field required"),
        ('{"keys": [], "more": 1}', "more: Extra inputs"),
        ('{"keys": [' + "[" * 100_000, "is not a key file"),
        (" " * (4 * 2**20 + 1), "has more than"),
    ],
)
def test_files_that_are_none(path: Path, text: str, words: str) -> None:
    path.write_text(text)
    with pytest.raises(KeyFileError, match=words):
        read_keys(path)


def test_two_keys_with_one_label(path: Path) -> None:
    document = json.loads(path.read_text())
    document["keys"] *= 2
    path.write_text(json.dumps(document))
    with pytest.raises(KeyFileError, match="a label of its own, got one more than once: one"):
        read_keys(path)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:o}"):
        read_keys(path)


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="mtlora keys new"):
        read_keys(tmp_path / "nothing")
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_keys(tmp_path)
    with pytest.raises(KeyFileError, match="not a plain file"):
        read_keys(Path("/dev/null"))


def test_commands_at_once_lose_nothing(path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.app.access.test_key_file import key; "
        "from app.access.key_file import change_keys; "
        "[change_keys(Path(sys.argv[1]), lambda b, i=i: (*b, key(f'{sys.argv[2]}-{i}'))) for i in range(8)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(path), str(n)]) for n in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(read_keys(path)) == 1 + 3 * 8
