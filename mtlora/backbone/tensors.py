"""A backbone as a value: its shape and its tensors, checked against each other, with a fingerprint."""

import hashlib
import math
import re
import threading
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from mtlora.encoder_shapes import encoder_shapes, table_names
from mtlora.errors import BackboneError, SpecError
from mtlora.recent import Recent
from mtlora.spec import AdapterSpec, BackboneSpec
from mtlora.trainable import is_trainable

_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.")
_SHAPES_KEPT = 64
_TABLE = "attn.relative_position_bias_table"


class Backbone:
    """Encoder weights, shared by every adapter set.

    spec:    shape of the encoder
    tensors: float32 tensors under timm's names (`patch_embed.proj.weight`, …), without norm and head of a classifier
    """

    def __init__(self, spec: BackboneSpec, tensors: Mapping[str, Tensor]) -> None:
        problems = check_tensors(spec, tensors)
        if problems:
            raise BackboneError(f"these are not the weights of backbone {spec.name!r}", problems)
        self.spec = spec
        self.tensors = MappingProxyType({name: tensors[name].detach().float().contiguous() for name in sorted(tensors)})
        self._digests: dict[str, bytes] = {}
        self._fingerprints: Recent[AdapterSpec, str] = Recent(_SHAPES_KEPT)
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Size of the tensors in memory."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def device(self) -> torch.device:
        """Where the tensors are; models built on this backbone are there too."""
        return next(iter(self.tensors.values())).device

    def to(self, device: torch.device | str) -> "Backbone":
        """The same backbone on another device (this one, if it is there already)."""
        if torch.device(device) == self.device:
            return self
        return Backbone(self.spec, {name: tensor.to(device) for name, tensor in self.tensors.items()})

    def frozen_names(self, spec: AdapterSpec) -> list[str]:
        """Names of the tensors that stay frozen under `spec`, sorted."""
        return [name for name in self.tensors if not is_trainable(f"backbone.{name}", spec)]

    def fingerprint(self, spec: AdapterSpec) -> str:
        """sha256 (hex) of what an adapter set with `spec` takes from this backbone.

        Only the tensors frozen under `spec` count, so sets converted from different checkpoints over one pretrained
        Swin share a backbone although each brings norms, position biases and patch merging of its own.
        Hashed, by sorted name: name, shape, and the sha256 of the values as little-endian float32.
        """
        found = self._fingerprints.get(spec)
        if found is None:
            found = self.fingerprint_of(self.frozen_names(spec))
            self._fingerprints.put(spec, found, 1)
        return found

    def fingerprint_of(self, names: Iterable[str]) -> str:
        """sha256 (hex) over the named tensors; see `fingerprint`."""
        total = hashlib.sha256()
        for name in sorted(names):
            shape = "x".join(map(str, self.tensors[name].shape))
            total.update(f"{name} {shape} {self._digest(name).hex()}\n".encode())
        return total.hexdigest()

    def _digest(self, name: str) -> bytes:
        with self._lock:
            if name not in self._digests:
                values = self.tensors[name].cpu().numpy().astype("<f4", copy=False)
                self._digests[name] = hashlib.sha256(values.tobytes()).digest()
            return self._digests[name]


def check_tensors(spec: BackboneSpec, tensors: Mapping[str, Tensor]) -> list[str]:
    """Everything that is wrong with `tensors` as an encoder of shape `spec`; empty when nothing is."""
    shapes = encoder_shapes(spec)
    tables = set(table_names(spec))
    problems = [f"missing tensor {name}" for name in sorted((shapes.keys() | tables) - tensors.keys())]
    problems += [f"unexpected tensor {name}" for name in sorted(tensors.keys() - shapes.keys() - tables)]
    for name, tensor in tensors.items():
        if name in shapes and tuple(tensor.shape) != shapes[name]:
            problems.append(f"{name} has shape {tuple(tensor.shape)}, expected {shapes[name]}")
        if name in tables and not _is_table(tensor, spec, stage=int(name.split(".")[1])):
            problems.append(f"{name} has shape {tuple(tensor.shape)}, expected [(2w-1)^2, heads] with w <= window size")
        if not bool(torch.isfinite(tensor).all()):
            problems.append(f"{name} holds values that are not finite")
    return problems


def _is_table(tensor: Tensor, spec: BackboneSpec, stage: int) -> bool:
    if tensor.ndim != 2 or tensor.shape[1] != spec.num_heads[stage]:
        return False
    side = math.isqrt(tensor.shape[0])
    return side * side == tensor.shape[0] and side % 2 == 1 and (side + 1) // 2 <= spec.window_size


def infer_spec(tensors: Mapping[str, Tensor], name: str) -> BackboneSpec:
    """Shape of the encoder that `tensors` (timm's names) belong to; `BackboneError` if they are no Swin's."""
    try:
        embed_dim = tensors["patch_embed.proj.weight"].shape[0]
        blocks = [{int(m[2]) for key in tensors if (m := _BLOCK.match(key)) and int(m[1]) == i} for i in range(4)]
        tables = [tensors[f"layers.{i}.blocks.0.{_TABLE}"].shape for i in range(4)]
        hidden = tensors["layers.0.blocks.0.mlp.fc1.weight"].shape[0]
        return BackboneSpec(
            name=name,
            embed_dim=embed_dim,
            depths=tuple(len(b) for b in blocks),
            num_heads=tuple(shape[1] for shape in tables),
            window_size=max((math.isqrt(shape[0]) + 1) // 2 for shape in tables),
            mlp_ratio=hidden / embed_dim,
        )
    except (KeyError, IndexError, SpecError) as error:
        raise BackboneError(f"{name!r} does not hold a Swin encoder", [f"could not read its shape: {error}"]) from error
