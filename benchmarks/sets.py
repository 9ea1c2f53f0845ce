"""Adapter sets, backbones and photos to measure with: made from the bundled ones, or random of a given shape."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mtlora.model.mtlora import build_model
from mtlora.vocabulary.spec import AdapterSpec, TaskSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterManifest, AdapterSet, load_adapter, save_adapter
from mtlora.weights.backbone import Backbone, import_backbone, save_backbone
from mtlora.weights.bundled import bundled_backbone, find_adapter

PHOTO_SIZE = (1280, 960)
SAMPLES = Path(__file__).parents[1] / "docs" / "samples"
TINY448 = "tiny448"
TINY_RANK = 64
VARIATION = 0.3
FOUR_TASKS = (Task.SEMSEG, Task.NORMALS, Task.SALIENCY, Task.HUMAN_PARTS)


@dataclass(frozen=True, slots=True)
class Weights:
    """A backbone file and a folder of adapter files, the first of them called `default`."""

    backbone: Path
    folder: Path
    names: tuple[str, ...]


def make_weights(root: Path, count: int, backbone: str = "bundled") -> Weights:
    """`default` and variations of it, `count` sets in all; backbone: `bundled` (6 M, 224 px) or `tiny448` (random)."""
    folder = root / "sets"
    folder.mkdir(parents=True)
    if backbone == TINY448:
        backbone_file, first = root / "backbone.safetensors", folder / "default.safetensors"
        write_tiny448(backbone_file, first)
    elif backbone == "bundled":
        backbone_file, first = bundled_backbone(), find_adapter("default")
        (folder / "default.safetensors").write_bytes(first.read_bytes())
    else:
        raise ValueError(f"backbone must be bundled or {TINY448}, got {backbone!r}")
    names = ["default"]
    for seed in range(1, count):
        names.append(f"set-{seed:03}")
        (folder / f"{names[-1]}.safetensors").write_bytes(variation(first, seed, root))
    return Weights(backbone_file, folder, tuple(names))


def variation(source: Path, seed: int, scratch: Path, name: str = "") -> bytes:
    """A valid adapter file of the same shape whose every value differs by up to `VARIATION` of itself."""
    adapter = load_adapter(source)
    chance = torch.Generator().manual_seed(seed)
    tensors = {
        key: t.float() * (1 + VARIATION * (2 * torch.rand(t.shape, generator=chance) - 1))
        for key, t in adapter.tensors.items()
    }
    path = scratch / "variation.safetensors"
    manifest = adapter.manifest
    save_adapter(
        path,
        manifest.spec,
        tensors,
        backbone_name=manifest.backbone_name,
        backbone_fingerprint=manifest.backbone_fingerprint,
        name=name,
    )
    content = path.read_bytes()
    path.unlink()
    return content


def write_tiny448(backbone_file: Path, adapter_file: Path) -> None:
    """Swin-T with random weights, and a set of four tasks at 448 px, rank 64: as the paper's, untrained."""
    torch.manual_seed(0)
    backbone = import_backbone("swin_tiny_patch4_window7_224", pretrained=False)
    save_backbone(backbone, backbone_file)
    ranks = (TINY_RANK,) * 4
    tasks = tuple(TaskSpec.make(task, ranks=ranks) for task in FOUR_TASKS)
    spec = AdapterSpec(backbone=backbone.spec, image_size=448, tasks=tasks, ranks=ranks)
    tensors = build_model(backbone, spec).adapter_tensors()
    save_adapter(
        adapter_file,
        spec,
        {key: t + 0.02 * torch.randn_like(t) if "lora_b" in key else t for key, t in tensors.items()},
        backbone_name=backbone.spec.name,
        backbone_fingerprint=backbone.fingerprint(spec),
    )


def paper_spec(backbone: Backbone, size: int, rank: int, task_rank: int, tasks: int = 4) -> AdapterSpec:
    """The published recipe's shape: mode matrix, hrnet decoders; one rank for shared pairs, one for the tasks'."""
    named = tuple(TaskSpec.make(task, ranks=(task_rank,) * 4) for task in FOUR_TASKS[:tasks])
    return AdapterSpec(backbone=backbone.spec, image_size=size, tasks=named, ranks=(rank,) * 4)


def random_set(backbone: Backbone, spec: AdapterSpec, seed: int) -> AdapterSet:
    """An untrained set in memory, pairs away from zero by about what training moves them.

    Larger values would make attention so sharp that denormal numbers slow everything down.
    """
    torch.manual_seed(seed)
    tensors = build_model(backbone, spec).adapter_tensors()
    moved = {key: t + 0.02 * torch.randn_like(t) if "lora_b" in key else t for key, t in tensors.items()}
    manifest = AdapterManifest(
        spec=spec, backbone_name=backbone.spec.name, backbone_fingerprint=backbone.fingerprint(spec)
    )
    return AdapterSet(manifest, moved, f"{seed:064x}", sum(t.nbytes for t in moved.values()))


def write_photo(path: Path, size: tuple[int, int] = PHOTO_SIZE, sample: str = "astronaut") -> Path:
    """A photo of the samples brought to `size` as JPEG of quality 90, with a little noise as cameras have."""
    with Image.open(SAMPLES / f"{sample}.jpg") as image:
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    noisy = (pixels + np.random.default_rng(0).normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
    path.write_bytes(buffer.getvalue())
    return path
