"""Files of AdaMTL models: what is refused, and the page that describes them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mtlora.adamtl.file import METADATA_KEY, AdaManifest, has_ada_manifest, load_ada_file, save_ada_file
from mtlora.adamtl.quirks import Quirks
from mtlora.adamtl.spec import AdaSpec, AdaTask, Efficiency
from mtlora.vocabulary.errors import AdapterFileError, SpecError
from mtlora.vocabulary.tasks import Task
from testing.ada_models import SPEC, random_ada_tensors
from testing.paths import DOCS

PAGE = DOCS / "adamtl.md"


def manifest() -> AdaManifest:
    return AdaManifest(name="mine", spec=SPEC)


def test_half_precision_is_read_as_single(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_ada_file(path, manifest(), random_ada_tensors(SPEC), torch.float16)
    tensors = load_ada_file(path).tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    torch.testing.assert_close(tensors, random_ada_tensors(SPEC), rtol=1e-3, atol=1e-3)


def test_what_is_not_written(tmp_path: Path) -> None:
    path, tensors = tmp_path / "m.safetensors", random_ada_tensors(SPEC)
    with pytest.raises(AdapterFileError, match=r"not torch\.float64"):
        save_ada_file(path, manifest(), tensors, torch.float64)
    with pytest.raises(AdapterFileError, match=r"extra: unexpected"):
        save_ada_file(path, manifest(), tensors | {"extra": torch.zeros(1)})
    tensors["decoders.semseg.mix.bias"][0] = torch.nan
    with pytest.raises(AdapterFileError, match=r"mix.bias: 1 of 6 values are not finite"):
        save_ada_file(path, manifest(), tensors)
    assert not path.exists()


def test_what_is_not_read(tmp_path: Path) -> None:
    path, tensors = tmp_path / "m.safetensors", random_ada_tensors(SPEC)
    with pytest.raises(AdapterFileError, match="cannot open"):
        load_ada_file(path)
    save_file(tensors, path)
    assert not has_ada_manifest(path)
    with pytest.raises(AdapterFileError, match="is not the file of an AdaMTL model"):
        load_ada_file(path)
    text = manifest().to_json()
    for changed, message in (
        (text.replace('"kind":"adamtl"', '"kind":"other"'), "kind: Input should be 'adamtl'"),
        (text.replace('"format_version":1', '"format_version":2'), "format_version"),
        (text.replace('"block_hidden":3', '"block_hidden":0'), "block_hidden"),
        (text.replace('"hard":true', '"hard":true,"more":1'), "more: Extra inputs are not permitted"),
    ):
        assert changed != text
        save_file(tensors, path, metadata={METADATA_KEY: changed})
        with pytest.raises(AdapterFileError, match=message):
            load_ada_file(path)
    save_file({n: t for n, t in tensors.items() if "mix" not in n}, path, metadata={METADATA_KEY: text})
    with pytest.raises(AdapterFileError, match=r"decoders.semseg.mix.weight: missing, expected shape \[6, 24, 1, 1\]"):
        load_ada_file(path)
    path.write_bytes(b"12345678" * 10)
    with pytest.raises(AdapterFileError, match="no safetensors file"):
        load_ada_file(path)


def test_specs_that_cannot_be() -> None:
    for changes, message in (
        ({"image_size": 80}, "multiple of 32"),
        ({"tasks": (AdaTask(task=Task.DEPTH, outputs=1),) * 2}, "tasks must differ"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be positive"),
        ({"drop_path": 1.0}, "drop_path"),
    ):
        with pytest.raises(SpecError, match=message):
            SPEC.switched(**changes)
    with pytest.raises(SpecError, match="task normals has 3 outputs, got 4"):
        AdaTask(task=Task.NORMALS, outputs=4)


@pytest.mark.parametrize("kind", [AdaManifest, AdaSpec, Efficiency, Quirks])
def test_every_field_is_on_the_page(kind: type[AdaManifest]) -> None:
    text = PAGE.read_text()
    assert [name for name in kind.model_fields if f"`{name}`" not in text] == []
