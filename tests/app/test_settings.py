"""Settings: documented, refused where they are unsafe, flags and environment alike."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer import Typer
from typer.testing import CliRunner

from app.cli import serve
from app.settings import Settings, is_loopback

PAGE = Path("docs/settings.md").read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_its_flag_and_default(name: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `MTLORA_{name.upper()}`"))
    if name != "api_keys":
        assert f"`--{name.replace('_', '-')}`" in row
    default = Settings.model_fields[name].default
    if isinstance(default, int | float) and not isinstance(default, bool):
        assert f"`{default:g}`" in row or f"`{default}`" in row


def test_no_setting_is_documented_that_is_not_there() -> None:
    documented = set(re.findall(r"^\| `MTLORA_(\w+)`", PAGE, re.MULTILINE))
    assert documented == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_beyond_loopback_needs_a_decision(host: str) -> None:
    with pytest.raises(ValidationError, match="refusing to listen"):
        Settings(host=host)
    assert Settings(host=host, insecure=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


def test_environment_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLORA_PORT", "9000")
    monkeypatch.setenv("MTLORA_MAX_IMAGES", "3")
    settings = Settings(port=9001)
    assert (settings.port, settings.max_images) == (9001, 3)


def test_wrong_flags_are_said_in_words_with_status_2() -> None:
    cli = Typer()
    cli.command()(serve)
    result = CliRunner().invoke(cli, ["--host", "0.0.0.0"])
    assert result.exit_code == 2
    assert "refusing to listen on '0.0.0.0'" in result.stderr
    result = CliRunner().invoke(cli, ["--port", "70000"])
    assert result.exit_code == 2
    assert "--port: " in result.stderr


def test_every_setting_is_a_flag() -> None:
    cli = Typer()
    cli.command()(serve)
    shown = CliRunner().invoke(cli, ["--help"], env={"COLUMNS": "200"}).stdout
    for name in Settings.model_fields.keys() - {"api_keys"}:
        assert f"--{name.replace('_', '-')}" in shown


@pytest.mark.parametrize("options", [{"form": "plain"}, {"device": "cuda"}])
def test_int8_is_refused_where_it_cannot_be(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="int8 needs a CPU and a form other than plain"):
        Settings(precision="int8", **options)  # type: ignore[arg-type]
