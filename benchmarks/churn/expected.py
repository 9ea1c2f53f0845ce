"""What every adapter file must answer for every photo: computed by the library, asked of the server once, then held to.

The first answer of the server must agree with the library's own maps up to rounding; from then on the same bytes are
expected. An answer of other bytes is compared pixel by pixel: rounding may differ with the company in a micro-batch,
another set's answer may not pass. How far sets are apart is measured too, or the comparison would say nothing.
"""

import base64
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.maps.map_png import encode_map
from mtlora.prediction.adapted import build_adapted
from mtlora.prediction.predict import predict
from mtlora.vocabulary.options import FormKind
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import Backbone

CLASSES_OFF = 0.005  # share of pixels whose class may differ by rounding
GREY_OFF = 0.5  # mean difference of 8-bit values that rounding may make
Png = tuple[bool, NDArray[np.uint8]]  # whether it is a class map, and its values
Maps = dict[str, Png]


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that is asked about again and again."""

    name: str
    content: bytes


@dataclass(slots=True)
class Content:
    """One adapter file and its answers."""

    file: bytes
    digest: str
    maps: dict[str, Maps]  # by photo, then task
    pngs: dict[str, dict[str, str]] = field(default_factory=dict)  # digests of the PNGs that the server gave first

    def judge(self, photo: str, tasks: Mapping[str, Any]) -> str:
        """`same` bytes, `rounded`, or what is wrong. tasks: the part of that name in a JSON answer, with PNGs."""
        known = self.pngs.setdefault(photo, {})
        verdict = "same"
        for task, document in tasks.items():
            png = base64.b64decode(document["png"])
            digest = hashlib.sha256(png).hexdigest()
            if known.get(task) == digest:
                continue
            off = distance(pixels(png), self.maps[photo][task])
            if off > 1:
                return f"{task} of {photo} is {off:.1f} times the rounding away from what {self.digest[:8]} answers"
            if task in known:
                verdict = "rounded"
            known.setdefault(task, digest)
        return verdict


def content_of(path: Path, backbone: Backbone, photos: list[Photo]) -> Content:
    """An adapter file with the maps of the library's plain model, whatever form the server runs."""
    adapter = load_adapter(path)
    model, spec = build_adapted(backbone, adapter, FormKind.PLAIN), adapter.manifest.spec
    maps = {
        photo.name: {
            task.value: pixels(encode_map(values, spec.task(task)).png)
            for task, values in predict(model, photo.content).items()
        }
        for photo in photos
    }
    return Content(path.read_bytes(), adapter.digest, maps)


def distance(found: Png, expected: Png) -> float:
    """How far two PNGs of one task are apart, in units of what rounding may make."""
    (_, a), (classes, b) = found, expected
    if a.shape != b.shape:
        return float("inf")
    if classes:
        return float((a != b).mean()) / CLASSES_OFF
    return float(np.abs(a.astype(np.int16) - b).mean()) / GREY_OFF


def nearest_others(contents: list[Content]) -> float:
    """The smallest distance between the answers of two sets, of the task that tells them apart best."""
    pairs = [(a, b) for i, a in enumerate(contents) for b in contents[:i]]
    return min(
        max(distance(a.maps[photo][task], b.maps[photo][task]) for task in a.maps[photo].keys() & b.maps[photo].keys())
        for a, b in pairs
        for photo in a.maps
        if a.maps[photo].keys() & b.maps[photo].keys()
    )


def pixels(png: bytes) -> Png:
    """A PNG decoded."""
    with Image.open(io.BytesIO(png)) as image:
        return image.mode == "P", np.asarray(image)
