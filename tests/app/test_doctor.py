"""`mtlora doctor`: facts and faults, and nothing that is secret."""

import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from app.doctor import doctor, store_line, without_credentials
from app.startup.settings import PREFIX
from mtlora.version import __version__

SECRET = "c0ffee" * 10


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Typer:
    monkeypatch.setenv(f"{PREFIX}STORE", str(tmp_path / "store"))
    program = Typer()
    program.command()(doctor)
    return program


def run(cli: Typer, *arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_facts_of_a_sound_installation(cli: Typer, tmp_path: Path) -> None:
    result = run(cli, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["problems"] == []
    assert report["versions"]["mtlora"].startswith(__version__)
    assert report["versions"]["torch"][0].isdigit()
    assert report["torch"]["kernels"]
    assert report["settings"] == {"store": f"{tmp_path / 'store'}, by {PREFIX}STORE"}
    assert "default" in report["files"]["bundled sets"]


def test_text_has_the_same_sections(cli: Typer) -> None:
    lines = run(cli).output.splitlines()
    sections = [line for line in lines if not line.startswith(" ")]
    assert sections == ["versions", "machine", "torch", "limits", "settings", "files", "no problems found"]


def test_faults_are_listed_and_tell_by_the_exit_status(cli: Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}PORT", "99999")
    monkeypatch.setenv(f"{PREFIX}DEFAULT_ADAPTER", "defualt")
    result = run(cli, "--json")
    assert result.exit_code == 1
    port, adapter = json.loads(result.output)["problems"]
    assert port.startswith(f"{PREFIX}PORT: must be a whole number from 0 to 65535")
    assert "did you mean default?" in adapter


@pytest.mark.parametrize("value", [SECRET, f"camera:{SECRET}x:predict"])
def test_secrets_are_not_shown(cli: Typer, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Right or wrong: what stands in a secret setting stays there."""
    monkeypatch.setenv(f"{PREFIX}API_KEYS", value)
    output = run(cli).output
    assert SECRET[:12] not in output
    assert "API_KEYS" in output


def test_a_configuration_file_is_read_as_the_server_reads_it(cli: Typer, tmp_path: Path) -> None:
    path = tmp_path / "mtlora.toml"
    path.write_text("max_images = 0\n")
    result = run(cli, "--config", str(path))
    assert result.exit_code == 1
    assert f"{path}: max_images: must be" in result.output


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://user:word@bucket/prefix", "s3://…@bucket/prefix"),
        ("https://site/path?token=abc", "https://site/path?…"),
        ("/plain/path?x", "/plain/path?x"),
    ],
)
def test_addresses_lose_their_credentials(address: str, shown: str) -> None:
    assert without_credentials(address) == shown


def test_stores_in_words(tmp_path: Path) -> None:
    (tmp_path / "sets" / "leaf").mkdir(parents=True)
    assert "1 names" in store_line(str(tmp_path))
    assert "not there yet" in store_line(str(tmp_path / "new"))
    assert store_line("gs://bucket/sets") == "gs://bucket/sets"
