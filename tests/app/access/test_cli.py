"""`mtlora keys` as people type it."""

import json
import stat
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.access.cli import keys, parse_expiry
from app.access.gatekeeper import Gatekeeper, KeyRing
from app.access.keys import Scope


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def run(path: Path, *words: str) -> Result:
    return CliRunner().invoke(keys, list(words), env={"MTLORA_KEYS_FILE": str(path), "COLUMNS": "200"})


def test_a_key_is_printed_once_works_and_is_revoked(path: Path) -> None:
    made = run(path, "new", "camera", "--scopes", "predict,adapters:read", "--namespace", "acme", "--max-sets", "3")
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert key.startswith("mtlora_") and len(key) == 50
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    caller = Gatekeeper(KeyRing((), path)).admit(key, Scope.ADAPTERS_READ)
    assert (caller.label, caller.namespace, caller.quota.max_sets) == ("camera", "acme", 3)
    assert run(path, "revoke", "camera").exit_code == 0
    assert json.loads(path.read_text())["keys"] == []


def test_the_list_shows_neither_keys_nor_whole_hashes(path: Path) -> None:
    key = run(path, "new", "a", "--scopes", "predict", "--expires", "30d", "--requests-per-minute", "60").stdout.strip()
    run(path, "new", "b", "--scopes", "metrics")
    (digest, _) = (entry["sha256"] for entry in json.loads(path.read_text())["keys"])
    plain, as_json = run(path, "list").stdout, run(path, "list", "--json").stdout
    for shown in (plain, as_json):
        assert key not in shown
        assert digest not in shown
        assert digest[:8] in shown
    assert "label=a  scopes=predict  requests_per_minute=60  created=" in plain
    assert [row["label"] for row in json.loads(as_json)] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("new", "a", "--scopes", "all"), "unknown scope in 'all'; known: predict"),
        (("new", "a b", "--scopes", "predict"), "label: "),
        (("new", "a", "--scopes", "predict", "--namespace", "../x"), "namespace: "),
        (("new", "a", "--scopes", "metrics", "--namespace", "x"), "cannot have that scope"),
        (("new", "a", "--scopes", "predict", "--max-sets", "-1"), "max_sets: "),
        (("new", "a", "--scopes", "predict", "--expires", "soon"), "expires is a date"),
        (("new", "a", "--scopes", "predict", "--expires", "2020-01-01"), "expires must lie ahead"),
        (("new", "taken", "--scopes", "predict"), "a label of its own"),
        (("revoke", "nobody"), "there is no key 'nobody'"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(path: Path, words: tuple[str, ...], message: str) -> None:
    run(path, "new", "taken", "--scopes", "predict")
    before = path.read_bytes()
    result = run(path, *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert path.read_bytes() == before


def test_no_file_yet(path: Path) -> None:
    for words in (("list",), ("revoke", "a")):
        assert run(path, *words).exit_code == 1


def test_expiry() -> None:
    now = datetime.now(UTC)
    assert abs(parse_expiry("2h") - now - timedelta(hours=2)) < timedelta(seconds=5)
    assert parse_expiry("2999-01-31") == datetime(2999, 1, 31, tzinfo=UTC)
    assert parse_expiry("2999-01-31T12:00+02:00") == datetime(2999, 1, 31, 10, tzinfo=UTC)


def test_it_is_a_command_of_mtlora_and_needs_no_torch() -> None:
    commands = tomllib.loads(Path("pyproject.toml").read_text())["project"]["entry-points"]["mtlora.commands"]
    assert commands["keys"] == "app.access.cli:keys"
    script = "import sys, app.access.cli; sys.exit('torch' in sys.modules or 'fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("flag", ["--file", "--keys-file"])
def test_the_file_is_called_as_by_the_server_too(path: Path, flag: str) -> None:
    made = CliRunner().invoke(keys, ["new", "a", "--scopes", "predict", flag, str(path)], env={})
    assert made.exit_code == 0, made.output
    assert "label=a" in CliRunner().invoke(keys, ["list", flag, str(path)], env={}).stdout


def test_a_key_may_have_a_compute_of_its_own(path: Path) -> None:
    made = run(path, "new", "batch", "--scopes", "predict", "--compute", "0.50")
    assert made.exit_code == 0, made.output
    assert Gatekeeper(KeyRing((), path)).admit(made.stdout.strip(), Scope.PREDICT).compute == "0.5"
    assert "compute=0.5" in run(path, "list").stdout
    refused = run(path, "new", "other", "--scopes", "predict", "--compute", "half")
    assert refused.exit_code == 1
    assert "compute: Input must be a share such as 0.6, a range such as 0.5-1" in refused.stderr
