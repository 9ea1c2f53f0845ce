"""What is pushed, and the link to it."""

from pathlib import Path

import pytest

from mtlora.cli.pushing import file_to_push, name_for, playground_link
from mtlora.vocabulary.errors import RemoteError


def test_a_run_gives_its_result_and_its_folders_name(tmp_path: Path) -> None:
    run = tmp_path / "My Run"
    run.mkdir()
    (run / "adapter.safetensors").write_bytes(b"")
    (run / "other.safetensors").write_bytes(b"")
    file = file_to_push(str(run))
    assert file.name == "adapter.safetensors"
    assert name_for(str(run), file) == "my-run"


def test_a_folder_without_a_set_or_with_several_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="holds no adapter"):
        file_to_push(str(tmp_path))
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(RemoteError, match="several files"):
        file_to_push(str(tmp_path))


def test_the_link_names_the_revision() -> None:
    assert playground_link("http://h:1/", "mine@2") == "http://h:1/?adapter=mine@2"
