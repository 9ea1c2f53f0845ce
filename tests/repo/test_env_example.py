"""deploy/env.example lists every setting at its default, and nothing of the machine that it was made on."""

import re
from pathlib import Path

import pytest

from app.startup.settings import Settings
from scripts.env_example import TARGET, env_example

TEXT = TARGET.read_text()


def test_it_is_what_the_script_makes() -> None:
    assert env_example() == TEXT, "run: make generated"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_listed_once(name: str) -> None:
    assert len(re.findall(rf"^#MTLORA_{name.upper()}=", TEXT, re.MULTILINE)) == 1


def test_its_values_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in re.findall(r"^#(MTLORA_\w+)=(.+)$", TEXT, re.MULTILINE):
        monkeypatch.setenv(name, value)
    given = Settings()
    monkeypatch.undo()
    assert given == Settings()


def test_nothing_is_set_and_no_home_is_named() -> None:
    assert [line for line in TEXT.splitlines() if line and not line.startswith("#")] == []
    assert str(Path.home()) not in TEXT
