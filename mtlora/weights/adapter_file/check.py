"""The check whether an adapter set belongs to a backbone."""

from typing import Protocol

from mtlora.vocabulary.errors import AdapterMismatchError
from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec
from mtlora.weights.adapter_file.manifest import AdapterManifest


class FingerprintedBackbone(Protocol):
    """What is asked of a backbone here (`mtlora.weights.backbone.Backbone` is one)."""

    @property
    def spec(self) -> BackboneSpec:
        """Its shape."""

    def fingerprint(self, spec: AdapterSpec) -> str:
        """sha256, 64 hexadecimal digits, over the tensors that stay frozen under `spec`."""


def check_backbone(manifest: AdapterManifest, backbone: FingerprintedBackbone) -> None:
    """Raise `AdapterMismatchError` unless the set was trained on exactly these frozen weights.

    A backbone's name is a label and may differ; its shape and its frozen weights may not.
    """
    check_shape(manifest, backbone.spec)
    fingerprint = backbone.fingerprint(manifest.spec)
    if fingerprint != manifest.backbone_fingerprint:
        needed = manifest.backbone_fingerprint
        raise _mismatch(
            manifest, backbone.spec, [f"frozen weights: the set needs {needed}, the backbone has {fingerprint}"]
        )


def check_shape(manifest: AdapterManifest, spec: BackboneSpec) -> None:
    """Raise `AdapterMismatchError` unless a backbone of this shape may be the one that the set was trained on."""
    wanted, found = manifest.spec.backbone.model_dump(), spec.model_dump()
    problems = [
        f"{field}: the set needs {wanted[field]}, the backbone has {found[field]}"
        for field in wanted
        if field != "name" and wanted[field] != found[field]
    ]
    if problems:
        raise _mismatch(manifest, spec, problems)


def _mismatch(manifest: AdapterManifest, spec: BackboneSpec, problems: list[str]) -> AdapterMismatchError:
    return AdapterMismatchError(
        f"the adapter set was trained on backbone {manifest.backbone_name!r}, this is {spec.name!r}", problems
    )
