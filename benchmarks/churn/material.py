"""What the churn works with: a small server, files to upload, files to be refused, photos."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.churn.expected import Photo
from benchmarks.servers import room_for
from benchmarks.sets import SAMPLES, Weights, make_weights, variation
from mtlora.weights.adapter_file import load_adapter, save_adapter
from mtlora.weights.bundled import find_adapter

UPLOADS = 6
ROOM = 4.5  # sets that fit on the device, so that evictions never stop


@dataclass(frozen=True, slots=True)
class Material:
    """One kind of churn."""

    weights: Weights
    uploads: list[Path]  # valid files, all different
    bad_files: dict[str, bytes]  # by what is wrong with them
    photos: list[Photo]
    flags: dict[str, Any] = field(default_factory=dict)  # of the server


def bundled_material(root: Path) -> Material:
    """The bundled backbone and variations of its default set."""
    weights = make_weights(root, 2)
    source = find_adapter("default")
    uploads = []
    for seed in range(UPLOADS):
        uploads.append(root / f"upload-{seed}.safetensors")
        uploads[-1].write_bytes(variation(source, 100 + seed, root))
    photos = [Photo(name, small_photo(name, (320, 240))) for name in ("astronaut", "coffee")]
    return Material(weights, uploads, bad_files(uploads[0], root), photos, room_for(ROOM, weights, root))


def random_material(root: Path) -> Material:
    """A backbone of 8 channels with random weights: a forward takes milliseconds, so more happens."""
    from mtlora.weights.backbone import save_backbone
    from testing.factories import PASCAL_TASKS, adapter_spec, make_backbone
    from testing.serving import write_set

    backbone, spec = make_backbone(), adapter_spec(tasks=PASCAL_TASKS)
    folder = root / "sets"
    folder.mkdir(parents=True)
    save_backbone(backbone, root / "backbone.safetensors")
    write_set(folder / "default.safetensors", backbone, spec, 1)
    uploads = []
    for seed in range(2, 2 + UPLOADS):
        uploads.append(root / f"upload-{seed}.safetensors")
        write_set(uploads[-1], backbone, spec, seed)
    photos = [Photo(name, small_photo(name, (160, 120))) for name in ("astronaut", "coffee")]
    weights = Weights(root / "backbone.safetensors", folder, ("default",))
    flags = {"engine_threads": 1, "codec_threads": 1}
    flags |= room_for(ROOM, weights, root, **flags)
    return Material(weights, uploads, bad_files(uploads[0], root), photos, flags)


def bad_files(good: Path, root: Path) -> dict[str, bytes]:
    """Files that must be refused."""
    content, adapter = good.read_bytes(), load_adapter(good)
    manifest = adapter.manifest

    def written(tensors: dict[str, torch.Tensor], fingerprint: str) -> bytes:
        path = root / "bad.safetensors"
        save_adapter(
            path, manifest.spec, tensors, backbone_name=manifest.backbone_name, backbone_fingerprint=fingerprint
        )
        return path.read_bytes()

    broken = bytearray(content)
    broken[-2:] = b"\xff\x7f" if adapter.tensors else b""  # the last half-precision value becomes NaN
    return {
        "truncated": content[: len(content) // 2],
        "no adapter set": b"\x00" * 1000,
        "not finite": bytes(broken),
        "for another backbone": written(adapter.tensors, "0" * 64),
        "followed by more bytes": content + b"more",
    }


def small_photo(sample: str, size: tuple[int, int]) -> bytes:
    """One of the sample photos at a small size."""
    buffer = io.BytesIO()
    with Image.open(SAMPLES / f"{sample}.jpg") as image:
        image.convert("RGB").resize(size).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
