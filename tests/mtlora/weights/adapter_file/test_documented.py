"""docs/adapter-format.md is enough to write a file without our code, and forgets nothing."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtlora.vocabulary.model_shapes import adapter_shapes
from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec, ClassSpec, SharedMode, TaskSpec
from mtlora.weights.adapter_file import AdapterManifest, load_adapter
from testing.paths import DOCS
from testing.small_models import SPEC, random_backbone

FIELDS = sorted({f for spec in (AdapterManifest, AdapterSpec, TaskSpec, ClassSpec) for f in spec.model_fields})
BACKBONE_FIELDS = sorted(BackboneSpec.model_fields)


@pytest.mark.parametrize("field", [*FIELDS, *BACKBONE_FIELDS, *SharedMode])
def test_every_field_is_documented(field: str) -> None:
    assert (
        f"`{field}`" in (DOCS / "adapter-format.md").read_text()
        or f'"{field}"' in (DOCS / "adapter-format.md").read_text()
    )


@pytest.mark.parametrize("part", ["weight", "lora_a", "lora_b", "scaling", "running_mean", "running_var"])
def test_every_kind_of_tensor_is_documented(part: str) -> None:
    assert part in (DOCS / "adapter-format.md").read_text()


def manifest_by_hand(fingerprint: str) -> dict[str, Any]:
    """The smallest manifest: defaults left out."""
    backbone = {"name": "b", "embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 4], "window_size": 2}
    task = {"task": "saliency", "outputs": 1, "ranks": [0, 1, 2, 2], "scaling": [4, 4, 4, 4]}
    spec = {"backbone": backbone, "image_size": 64, "tasks": [task], "ranks": [1, 2, 0, 2], "decoder_channels": [1] * 4}
    return {"spec": spec, "backbone_name": "b", "backbone_fingerprint": fingerprint}


def test_a_stranger_can_write_one(tmp_path: Path) -> None:
    """Header, manifest and data from struct, json and NumPy alone, in an order of tensors that is not ours."""
    manifest = manifest_by_hand("ab" * 32)
    spec = AdapterSpec(**manifest["spec"])
    values = {name: np.random.default_rng(0).normal(size=shape) for name, shape in adapter_shapes(spec).items()}
    header: dict[str, Any] = {"__metadata__": {"mtlora_adapter": json.dumps(manifest), "format": "pt"}}
    data = b""
    for name in sorted(values, reverse=True):
        dtype, kind = ("<f2", "F16") if "lora" in name else ("<f4", "F32")
        chunk = values[name].astype(dtype).tobytes()
        shape = list(values[name].shape)
        header[name] = {"shape": shape, "data_offsets": [len(data), len(data) + len(chunk)], "dtype": kind}
        data += chunk
    text = json.dumps(header, indent=1).encode()
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    loaded = load_adapter(path)
    assert loaded.manifest.spec == spec
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    for name, value in values.items():
        stored = torch.float16 if "lora" in name else torch.float32
        assert torch.equal(loaded.tensors[name], torch.from_numpy(value).to(stored))


def test_fingerprint_as_documented() -> None:
    backbone = random_backbone(SPEC)
    replaced = {name.removeprefix("backbone.") for name in adapter_shapes(SPEC)}
    lines = b""
    for name in sorted(backbone.tensors.keys() - replaced):
        values = backbone.tensors[name].numpy().astype("<f4")
        shape = "x".join(str(side) for side in values.shape)
        lines += f"{name} {shape} {hashlib.sha256(values.tobytes()).hexdigest()}\n".encode()
    assert hashlib.sha256(lines).hexdigest() == backbone.fingerprint(SPEC)
