"""What is saved is what is loaded, for any spec; saving is atomic and refuses what could not be loaded again."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from safetensors import safe_open

from mtlora.vocabulary.errors import AdapterFileError, AdapterMismatchError, SpecError
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.weights.adapter_file import AdapterSet, check_backbone, load_adapter, read_manifest, save_adapter
from mtlora.weights.adapter_file.load import is_finite
from testing.examples import examples
from testing.small_models import FINGERPRINT, SPEC, random_backbone, random_tensors
from testing.strategies import adapter_specs


def save(path: Path, spec: AdapterSpec = SPEC, dtype: torch.dtype = torch.float16) -> str:
    return save_adapter(
        path,
        spec,
        random_tensors(spec),
        backbone_name="swin_test",
        backbone_fingerprint=FINGERPRINT,
        name="street-scenes",
        provenance={"steps": 100, "mean_loss": 0.25, "dataset": "photos", "augmented": True},
        dtype=dtype,
    )


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=adapter_specs())
def test_round_trip(tmp_path: Path, spec: AdapterSpec) -> None:
    """Any set comes back with the same spec and the same values."""
    path = tmp_path / "set.safetensors"
    digest = save(path, spec, torch.float32)
    loaded = load_adapter(path)
    assert loaded.manifest == read_manifest(path)
    assert loaded.manifest.spec == spec
    assert loaded.manifest.provenance == {"steps": 100, "mean_loss": 0.25, "dataset": "photos", "augmented": True}
    assert loaded.digest == digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.bytes == path.stat().st_size
    expected = random_tensors(spec)
    assert loaded.tensors.keys() == expected.keys()
    assert all(torch.equal(loaded.tensors[name], value) for name, value in expected.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtype_is_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    save(tmp_path / "a.safetensors", dtype=dtype)
    tensors = load_adapter(tmp_path / "a.safetensors").tensors
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    name, value = next(iter(random_tensors(SPEC).items()))
    assert torch.equal(tensors[name], value.to(dtype))


def test_same_set_gives_same_bytes(tmp_path: Path) -> None:
    """The digest names the content: nothing of time, place or dictionary order gets in."""
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert save(first) == save(second)
    assert first.read_bytes() == second.read_bytes()


def test_other_readers_can_read_it(tmp_path: Path) -> None:
    """The file is plain safetensors."""
    path = tmp_path / "a.safetensors"
    save(path)
    loaded: AdapterSet = load_adapter(path)
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == loaded.tensors.keys()
        assert all(torch.equal(file.get_tensor(name), value) for name, value in loaded.tensors.items())


def test_overflow_in_float16_is_refused(tmp_path: Path) -> None:
    tensors = random_tensors(SPEC)
    tensors["decoders.semseg.classify.bias"][3] = 1e6
    with pytest.raises(AdapterFileError, match=r"decoders\.semseg\.classify\.bias: 1 of 21 values are not finite"):
        save_adapter(tmp_path / "a.safetensors", SPEC, tensors, backbone_name="x", backbone_fingerprint=FINGERPRINT)
    assert list(tmp_path.iterdir()) == []


def test_wrong_tensors_are_all_listed(tmp_path: Path) -> None:
    tensors = random_tensors(SPEC)
    del tensors["projections.semseg.0.weight"]
    tensors["classify.bias"] = torch.zeros(21)
    tensors["decoders.semseg.classify.bias"] = torch.zeros(20)
    with pytest.raises(AdapterFileError) as caught:
        save_adapter(tmp_path / "a.safetensors", SPEC, tensors, backbone_name="x", backbone_fingerprint=FINGERPRINT)
    assert caught.value.problems == (
        "classify.bias: unexpected",
        "decoders.semseg.classify.bias: shape [20], expected [21]",
        "projections.semseg.0.weight: missing, expected shape [2, 16, 1, 1]",
    )


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    save(path)
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(AdapterFileError, match="No space left on device"):
        save(path, dtype=torch.float32)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_bad_name_or_fingerprint_is_refused(tmp_path: Path) -> None:
    tensors = random_tensors(SPEC)
    path = tmp_path / "a.safetensors"
    with pytest.raises(SpecError, match="name"):
        save_adapter(path, SPEC, tensors, backbone_name="x", backbone_fingerprint=FINGERPRINT, name="../up")
    with pytest.raises(SpecError, match="backbone_fingerprint"):
        save_adapter(path, SPEC, tensors, backbone_name="x", backbone_fingerprint="1234")


def test_integer_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterFileError, match=r"F32, F16, BF16, got torch\.int8"):
        save(tmp_path / "a.safetensors", dtype=torch.int8)


def test_only_the_backbone_it_was_trained_on_fits(tmp_path: Path) -> None:
    """Another seed is another backbone; a wider one is refused by its shape already."""
    backbone, path = random_backbone(SPEC), tmp_path / "a.safetensors"
    fingerprint = backbone.fingerprint(SPEC)
    save_adapter(path, SPEC, random_tensors(SPEC), backbone_name="swin_test", backbone_fingerprint=fingerprint)
    manifest = read_manifest(path)
    check_backbone(manifest, backbone)
    with pytest.raises(AdapterMismatchError, match="frozen weights"):
        check_backbone(manifest, random_backbone(SPEC, seed=2))
    wider = SPEC.model_copy(update={"backbone": SPEC.backbone.model_copy(update={"embed_dim": 16})})
    with pytest.raises(AdapterMismatchError, match="embed_dim: the set needs 8, the backbone has 16"):
        check_backbone(manifest, random_backbone(wider))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 7, 64, 1001])
def test_finite_check_sees_every_position(dtype: torch.dtype, size: int) -> None:
    """The fast check must not lose a NaN in a vector lane or in the tail."""
    assert is_finite(torch.randn(size).to(dtype))
    for value in (float("nan"), float("inf"), -float("inf")):
        for position in range(size):
            tensor = torch.randn(size).to(dtype)
            tensor[position] = value
            assert not is_finite(tensor), (value, position)
