"""The backbone as a value: its shape and tensors, checked against each other, with a fingerprint."""

import hashlib
import threading
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import torch
from cachetools import LRUCache
from torch import Tensor

from mtlora.vocabulary.encoder_shapes import shape_problems, spec_of_shapes
from mtlora.vocabulary.errors import BackboneError
from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec
from mtlora.vocabulary.trainable import is_trainable

_SHAPES_KEPT = 64


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
        self._fingerprints: LRUCache[AdapterSpec, str] = LRUCache(_SHAPES_KEPT)
        self._lock = threading.Lock()  # of the digests, held while hashing
        self._fingerprints_lock = threading.Lock()

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
        with self._fingerprints_lock:
            found = self._fingerprints.get(spec)
        if found is None:
            found = self.fingerprint_of(self.frozen_names(spec))
            with self._fingerprints_lock:
                self._fingerprints[spec] = found
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
    problems = shape_problems(spec, _shapes(tensors))
    return problems + [
        f"{name} holds values that are not finite"
        for name, tensor in tensors.items()
        if not bool(torch.isfinite(tensor).all())
    ]


def infer_spec(tensors: Mapping[str, Tensor], name: str) -> BackboneSpec:
    """Shape of the encoder that `tensors` (timm's names) belong to; `BackboneError` if they are no Swin's."""
    return spec_of_shapes(_shapes(tensors), name)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
