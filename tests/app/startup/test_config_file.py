"""The configuration file: below flags and environment, above defaults."""

from pathlib import Path

import pytest

from app.core.errors import ConfigFileError
from app.startup.settings import Settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(
        'port = 1\nmax-images = 2\nmax_uploads = 3\nstore = "sets"\nadapters = "~/a"\nlog_level = "debug"\n'
    )
    return path


def test_flags_win_over_the_environment_and_that_over_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLORA_CONFIG", str(config))
    monkeypatch.setenv("MTLORA_MAX_IMAGES", "20")
    monkeypatch.setenv("MTLORA_MAX_UPLOADS", "30")
    found = Settings(max_uploads=300)
    assert (found.port, found.max_images, found.max_uploads) == (1, 20, 300)
    assert (found.log_level, found.keep_alive_s) == ("debug", 75)


def test_a_flag_names_the_file_too(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLORA_CONFIG", str(tmp_path / "none.toml"))
    assert Settings(config=config).port == 1


def test_paths_are_relative_to_the_file(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    found = Settings(config=config)
    assert (found.store, found.adapters) == (tmp_path / "sets", Path.home() / "a")
    monkeypatch.chdir(tmp_path)
    assert Settings(config=Path("server.toml")).store == tmp_path / "sets"


def test_hashes_of_keys_may_stand_there(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text(f'host = "0.0.0.0"\napi_keys = "camera:{"0" * 64}:predict"\n')
    assert Settings(config=path).host == "0.0.0.0"


def test_all_faults_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text("prot = 1\nmax_imagse = 2\nport = [1]\n")
    with pytest.raises(ConfigFileError) as refused:
        Settings(config=path)
    assert len(refused.value.problems) == 3


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"port = 1\nport = 2", b"x = " + b"[" * 100_000, b"#" * 2**20 + b"\n"]
)
def test_what_is_no_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "server.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigFileError, match=str(path)):
        Settings(config=path)
