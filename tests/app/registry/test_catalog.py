"""The folder of bundled sets: what cannot be read is left out, and nothing waits or fails for it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.errors import StartupError
from app.registry import catalog as module
from app.registry.catalog import Catalog, find_bundled
from app.store.adapter_store import AdapterStore
from mtlora.weights.adapter_file import AdapterManifest
from testing.serving import Weights


def whatever(manifest: AdapterManifest) -> None:
    """No set is refused."""


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def looping(path: Path) -> None:
    path.symlink_to(path)


@pytest.fixture
def bundled(weights: Weights, tmp_path: Path) -> Path:
    folder = tmp_path / "bundled"
    folder.mkdir()
    (folder / "default.safetensors").write_bytes(weights.upload("cats"))
    return folder


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, dangling, looping])
def test_what_is_no_file_is_left_out_and_told(
    bundled: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    make(bundled / "odd.safetensors")
    assert list(find_bundled(bundled, whatever)) == ["default"]
    assert [vars(record)["file"] for record in caplog.records] == ["odd.safetensors"]


def test_a_file_that_cannot_be_read_is_left_out(
    bundled: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As for a user without the right; whoever runs the tests may have every right."""
    (bundled / "secret.safetensors").write_bytes(weights.upload("dogs"))
    plain = Path.open

    def refuse(path: Path, *args: object, **kwargs: object) -> object:
        if path.name == "secret.safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    assert list(find_bundled(bundled, whatever)) == ["default"]
    assert [vars(record)["reason"] for record in caplog.records] == ["secret.safetensors: Permission denied"]


def test_links_to_files_are_the_operator_s_choice(bundled: Path, weights: Weights) -> None:
    (bundled / "dogs.safetensors").symlink_to(weights.uploads / "dogs.safetensors")
    found = find_bundled(bundled, whatever)
    assert sorted(found) == ["default", "dogs"]
    assert found["dogs"].revision.bytes == len(weights.upload("dogs"))


def test_names_that_cannot_be_decoded(bundled: Path, weights: Weights, caplog: pytest.LogCaptureFixture) -> None:
    (bundled / os.fsdecode(b"\xff.safetensors")).write_bytes(weights.upload("dogs"))
    assert list(find_bundled(bundled, whatever)) == ["default"]
    assert [vars(record)["file"] for record in caplog.records] == [r"\udcff.safetensors"]


def test_the_default_set_must_be_there(bundled: Path, tmp_path: Path) -> None:
    (bundled / "default.safetensors").unlink()
    (bundled / "default.safetensors").mkdir()
    found = find_bundled(bundled, whatever)
    with pytest.raises(StartupError, match="there is no default adapter set 'default'"):
        Catalog(AdapterStore.open(tmp_path / "store"), found, "default").check()


def test_what_is_known_is_found_without_the_store(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = AdapterStore.open(tmp_path / "store")
    staged = store.stage(100)
    staged.write(b"content")
    staged.finish()
    store.add("mine", staged, activate=True)
    staged.close()
    catalog = Catalog(store, find_bundled(bundled, whatever), "default")
    manifest = catalog.manifest(catalog.resolve(None, ""))

    def hang(*args: object) -> None:
        raise AssertionError("asked the store")

    monkeypatch.setattr(store, "fetch", hang)
    monkeypatch.setattr(module, "read_manifest", hang)
    for reference in (None, "default@1", "mine", "mine@1"):
        assert catalog.known(reference, "") == catalog.resolve(reference, "")
    for reference in ("mine@2", "nobody"):
        assert catalog.known(reference, "") is None
    assert [entry.state.name for entry in catalog.entries()] == ["default", "mine"]
    assert catalog.bytes_on_disk()[0] == 2
    ref = catalog.resolve(None, "")
    assert catalog.known_manifest(ref) is catalog.manifest(ref) is manifest
