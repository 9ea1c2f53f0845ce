"""Where the bundled sets are: named, within a wheel's package, or beside a checkout's."""

from pathlib import Path

import pytest

from mtlora.weights import bundled
from mtlora.weights.bundled import ADAPTERS_VARIABLE, bundled_folder
from testing.paths import ROOT


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(ADAPTERS_VARIABLE, raising=False)
    package = tmp_path / "mtlora"
    package.mkdir()
    monkeypatch.setattr(bundled, "_PACKAGE", package)
    return package


def test_a_checkout_has_them_beside_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ADAPTERS_VARIABLE, raising=False)
    assert bundled_folder() == ROOT / "adapters"
    assert not (ROOT / "mtlora" / "adapters").exists(), "a build wrote into the checkout"


def test_a_wheel_has_them_in_the_package(package: Path) -> None:
    (package / "adapters").mkdir()
    (package.parent / "adapters").mkdir()  # somebody else's, in site-packages
    assert bundled_folder() == package / "adapters"


def test_neither(package: Path) -> None:
    assert bundled_folder() == package.parent / "adapters"


def test_the_variable_wins(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "adapters").mkdir()
    monkeypatch.setenv(ADAPTERS_VARIABLE, str(tmp_path / "mine"))
    assert bundled_folder() == tmp_path / "mine"
