"""Settings: documented, refused where they are unsafe, flags and environment alike."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.startup.settings import GROUPS, Settings, is_loopback

PAGE = Path("docs/settings.md").read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_its_flag_and_default(name: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `MTLORA_{name.upper()}`"))
    if name != "api_keys":
        assert f"`--{name.replace('_', '-')}`" in row
    default = Settings.model_fields[name].default
    if isinstance(default, int | float) and not isinstance(default, bool):
        assert f"`{default:g}`" in row or f"`{default}`" in row


def test_the_groups_of_the_help_are_those_of_the_page() -> None:
    found: dict[str, list[str]] = {}
    heading = ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif match := re.match(r"\| `MTLORA_(\w+)`", line):
            found.setdefault(heading, []).append(match[1].lower())
    expected: dict[str, list[str]] = {}
    for name in Settings.model_fields:
        heading = GROUPS.get(name, heading)
        expected.setdefault(heading, []).append(name)
    assert {group: set(names) for group, names in found.items()} == {g: set(names) for g, names in expected.items()}
    assert list(found) == list(expected)


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


@pytest.mark.parametrize("options", [{"form": "plain"}, {"device": "cuda"}])
def test_int8_is_refused_where_it_cannot_be(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="int8 needs a CPU and a form other than plain"):
        Settings(precision="int8", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["grace_s", "body_timeout_s", "drain_delay_s"])
@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
def test_times_are_finite(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Settings.model_validate({name: value})


def test_numbers_are_digits_of_one_alphabet() -> None:
    for fields in ({"port": "٨٠٨٠"}, {"grace_s": "٣"}, {"device": "cuda:٣"}):
        with pytest.raises(ValidationError):
            Settings.model_validate(fields)
    assert Settings.model_validate({"device": "cuda:3"}).device == "cuda:3"
