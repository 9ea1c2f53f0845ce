"""Everything that is wrong with the settings as values, in our words, with the place where each was set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.startup.help import plain_kind
from app.startup.setting_faults import Examined, examine, expected
from app.startup.settings import PREFIX, Settings

FIELDS = Settings.model_fields
BAD = ("", "x", "-1", "1e400", "9" * 26, "nan", "inf", "-inf", "é", "a\x1bb", "x" * 300, "1.5.2")


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What is said of these flags and variables, each with its origin."""

    def run(environment: dict[str, str] | None = None, **given: object) -> list[str]:
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value)
        found = examine(given, environment or {})
        return [f"{found.origins.get(fault.setting, '')}: {fault.detail}" for fault in found.faults]

    return run


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", [name for name in FIELDS if plain_kind(FIELDS[name]) in (int, float, bool)])
def test_every_number_and_choice_is_told_with_what_would_be_right(
    said: Callable[..., list[str]], name: str, value: str
) -> None:
    (line,) = said({f"{PREFIX}{name.upper()}": value})
    assert line.startswith(f"{PREFIX}{name.upper()}: must be {expected(name, FIELDS[name])}, got ")
    assert len(line) < 200
    assert line.isprintable()


@pytest.mark.parametrize("name", [name for name in FIELDS if plain_kind(FIELDS[name]) in (int, float)])
def test_every_number_has_bounds_and_may_be_as_large_as_they_are(name: str) -> None:
    info = FIELDS[name]
    assert any(getattr(rule, "le", None) is not None for rule in info.metadata)
    assert any(getattr(rule, bound, None) is not None for rule in info.metadata for bound in ("ge", "gt"))


@pytest.mark.parametrize("name", [name for name in FIELDS if plain_kind(FIELDS[name]) is Path])
@pytest.mark.parametrize("value", ["", "a\0b"])
def test_an_empty_path_is_not_the_working_folder(name: str, value: str) -> None:
    found = examine({name: value}, {})
    assert [(fault.setting, fault.detail) for fault in found.faults] == [(name, f"must be a path, got {value!r}")]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"port": "x"}, "--port: must be a whole number from 0 to 65535, got 'x'"),
        ({"grace_s": "inf"}, "--grace-s: must be a number from 0 to 31536000, got 'inf'"),
        ({"body_timeout_s": "0"}, "--body-timeout-s: must be a number above 0 and at most 31536000, got '0'"),
        ({"form": "x"}, "--form: must be one of auto, merged, lowrank, plain, got 'x'"),
        ({"log_level": "loud"}, "--log-level: must be one of debug, info, warning, error, got 'loud'"),
        ({"device": "cuda:١"}, "--device: must be auto, cpu, cuda or cuda:N, got 'cuda:١'"),
        ({"default_adapter": "A B"}, "--default-adapter: adapter names match [a-z0-9][a-z0-9._-]{0,63}, got 'A B'"),
    ],
)
def test_words(said: Callable[..., list[str]], given: dict[str, Any], line: str) -> None:
    assert said(**given) == [line]


def test_keys_are_not_shown(said: Callable[..., list[str]]) -> None:
    (line,) = said({"MTLORA_API_KEYS": f"a:{'0' * 63}:predict"})
    assert line.startswith("MTLORA_API_KEYS: an API key is written")
    assert "0" * 30 not in line


def test_values_do_not_hide_what_does_not_go_together(said: Callable[..., list[str]]) -> None:
    lines = said({"MTLORA_MAX_QUEUE_IMAGES": "4", "MTLORA_HOST": "0.0.0.0"}, port="x", precision="int8", form="plain")
    assert [line.partition(": ")[0] for line in lines] == [
        "--port",
        "MTLORA_MAX_QUEUE_IMAGES",
        "--precision",
        "MTLORA_HOST",
    ]


def test_what_is_wrong_already_is_not_told_again_of_its_default(said: Callable[..., list[str]]) -> None:
    (line,) = said(host="0.0.0.0", keys_file="/none/keys")
    assert "there is no key file" in line
    (line,) = said(max_images="x", max_queue_images="1")
    assert line.startswith("--max-images")


def test_a_file_s_faults_hide_no_others(tmp_path: Path, said: Callable[..., list[str]]) -> None:
    config = tmp_path / "server.toml"
    config.write_text("prot = 1\nmax_images = 0\n[limits]\nmax_uploads = true\n")
    lines = said({"MTLORA_DECODERS": "none"}, config=str(config), host="0.0.0.0")
    assert lines == [
        f": {config}: 'prot': there is no such setting; did you mean port?",
        f": {config}: [limits]: settings stand at the top level of the file, without tables; write max_uploads there",
        f": {config}: 'limits.max_uploads': cannot be true",
        f"{config}: max_images: must be a whole number from 1 to 1000, got 0",
        "MTLORA_DECODERS: must be a whole number from 1 to 64, got 'none'",
        lines[5],
    ]
    assert lines[5].startswith("--host: refusing to listen")


def test_what_a_slip_may_mean_is_not_judged(tmp_path: Path, said: Callable[..., list[str]]) -> None:
    config = tmp_path / "server.toml"
    config.write_text("keys-fiel = 'keys.json'\n")
    (line,) = said(config=str(config), host="0.0.0.0")  # it is to have keys
    assert "did you mean keys_file?" in line


def test_a_file_that_cannot_be_read_hides_no_values(tmp_path: Path, said: Callable[..., list[str]]) -> None:
    config = tmp_path / "server.toml"
    config.write_text("port =")
    lines = said({"MTLORA_CONFIG": str(config), "MTLORA_HOST": "0.0.0.0"}, max_uploads="0")
    assert len(lines) == 2
    assert "is not TOML" in lines[0]
    assert lines[1] == "--max-uploads: must be a whole number from 1 to 1000, got '0'"


def test_what_is_right_is_as_it_was_meant(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text("max_images = 3\nport = 1\n")
    found: Examined = examine({"config": str(config), "port": "7", "insecure": False}, {})
    assert found.settings is not None and not found.faults and not found.doubtful
    assert (found.settings.port, found.settings.max_images, found.settings.insecure) == (7, 3, False)
    assert found.settings.config == config
