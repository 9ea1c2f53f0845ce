"""The configuration file: below flags and environment, above defaults; read from pipes too, and never for ever."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from app.core.errors import ConfigFileError
from app.startup import config_file
from app.startup.config_file import MAX_BYTES, examine_config, read_config
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


def test_what_stands_in_a_table_is_examined_as_if_it_stood_where_it_belongs(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text("[server]\nport = 7\nprot = 8\n[[more]]\nmax-images = 2\n[[more]]\nport = 9\n")
    found = examine_config(path, Settings.model_fields)
    assert found.values == {"port": 7, "max_images": 2}
    assert [problem.detail.removeprefix(f"{path}: ") for problem in found.problems] == [
        "[server]: settings stand at the top level of the file, without tables; write port there",
        "'server.prot': there is no such setting; did you mean port?",
        "[more]: settings stand at the top level of the file, without tables; write max-images, port there",
        "'more.port': is there twice",
    ]
    assert [problem.about for problem in found.problems] == ["", "port", "", "port"]


def test_tables_in_tables_without_end_are_a_fault_like_others(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text(f"{'a.' * 5000}b = 1\n")
    with pytest.raises(ConfigFileError):
        read_config(path, Settings.model_fields)


@pytest.fixture
def pipe(tmp_path: Path) -> Callable[[bytes], Path]:
    """A pipe that somebody writes that to, and closes it."""

    def written(content: bytes) -> Path:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        threading.Thread(target=write, args=(path, content), daemon=True).start()
        return path

    def write(path: Path, content: bytes) -> None:
        with suppress(BrokenPipeError):
            path.write_bytes(content)

    return written


@pytest.mark.parametrize("content", [b"port = 7\n", b"port = 7\n" + b"#" * 500_000])
def test_a_pipe_is_read_to_its_end(pipe: Callable[[bytes], Path], content: bytes) -> None:
    assert read_config(pipe(content), Settings.model_fields) == {"port": 7}


def test_what_a_process_left_in_a_pipe_is_read(tmp_path: Path) -> None:
    """As a shell's `<(command)`, when the command is over first."""
    reader, writer = os.pipe()
    os.write(writer, b"port = 7\n")
    os.close(writer)
    try:
        assert read_config(Path(f"/dev/fd/{reader}"), Settings.model_fields) == {"port": 7}
    finally:
        os.close(reader)


def test_a_pipe_that_nobody_writes_to_or_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_file, "PIPE_S", 0.2)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ConfigFileError, match=r"nothing came through this pipe for 0\.2 seconds"):
        read_config(path, Settings.model_fields)
    holder = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(ConfigFileError, match="nothing came"):
            read_config(path, Settings.model_fields)
        os.write(holder, b"port")
        with pytest.raises(ConfigFileError, match="no end came"):
            read_config(path, Settings.model_fields)
    finally:
        os.close(holder)


def test_a_pipe_without_end_is_read_so_far(pipe: Callable[[bytes], Path]) -> None:
    with pytest.raises(ConfigFileError, match=f"more than {MAX_BYTES} bytes"):
        read_config(pipe(b"#" * (4 * MAX_BYTES)), Settings.model_fields)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "/none"])
def test_what_is_neither_file_nor_pipe(path: str) -> None:
    with pytest.raises(ConfigFileError, match=f"the configuration file {path} cannot be read: "):
        read_config(Path(path), Settings.model_fields)
