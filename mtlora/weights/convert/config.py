"""The published configuration, read out of nested dicts: values checked, everything unsupported listed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mtlora.vocabulary.errors import ConversionError

T = TypeVar("T")
_MISSING = object()

_MUST_BE: tuple[tuple[str, Any], ...] = (
    ("MODEL.TYPE", "swin"),
    ("MODEL.SWIN.PATCH_SIZE", 4),
    ("MODEL.SWIN.IN_CHANS", 3),
    ("MODEL.SWIN.APE", False),
    ("MODEL.SWIN.PATCH_NORM", True),
    ("MODEL.SWIN.QKV_BIAS", True),
    ("MODEL.SWIN.QK_SCALE", None),
    ("MODEL.DECODER_DOWNSAMPLER", True),
    ("MODEL.PER_TASK_DOWNSAMPLER", True),
    ("MODEL.MTLORA.ENABLED", True),
    ("MODEL.MTLORA.SPLIT_QKV", False),
)
"""Settings with one supported value; where a configuration is silent, that value is the published default."""


@dataclass(slots=True)
class Config:
    """A configuration node tree with typed look-ups that note their problems instead of stopping at the first."""

    root: Mapping[str, Any]
    problems: list[str] = field(default_factory=list)

    def look(self, path: str) -> Any:
        """The value at a dotted path, or `_MISSING`."""
        node: Any = self.root
        for part in path.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return _MISSING
            node = node[part]
        return node

    def has(self, path: str) -> bool:
        """Whether there is a value at a dotted path."""
        return self.look(path) is not _MISSING

    def get(self, path: str, kind: type[T], default: T) -> T:
        """A scalar; `default` where the configuration is silent or wrong (which is noted)."""
        value = self.look(path)
        if value is _MISSING:
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is kind:
            return value
        self.problems.append(f"config {path}: expected {kind.__name__}, got {shown(value)}")
        return default

    def per_stage(self, path: str, kind: type[T]) -> tuple[T, T, T, T] | None:
        """Four numbers, or one number for all four stages; None where silent or wrong (which is noted)."""
        value = self.look(path)
        if value is _MISSING:
            return None
        items = list(value) if isinstance(value, list | tuple) else [value]
        if kind is float:
            items = [float(item) if type(item) is int else item for item in items]
        if len(items) not in {1, 4} or any(type(item) is not kind for item in items):
            self.problems.append(f"config {path}: expected one or four of {kind.__name__}, got {shown(value)}")
            return None
        a, b, c, d = items * (4 // len(items))
        return a, b, c, d

    def names(self, path: str) -> tuple[str, ...]:
        """A list of texts; empty where silent or wrong (which is noted)."""
        value = self.look(path)
        if value is _MISSING:
            return ()
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            self.problems.append(f"config {path}: expected a list of names, got {shown(value)}")
            return ()
        return tuple(value)

    def note_unsupported(self, must_be: Sequence[tuple[str, Any]] = _MUST_BE) -> None:
        """Note every setting whose value this product cannot reproduce: (dotted path, the one supported value)."""
        for path, supported in must_be:
            value = self.look(path)
            if value is not _MISSING and value != supported:
                self.problems.append(f"config {path}: {shown(value)} is not supported, only {supported}")


def load_config(path: str | Path) -> dict[str, Any]:
    """A configuration from a YAML file."""
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConversionError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConversionError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConversionError(f"{path.name} holds a {type(document).__name__}, not a configuration")
    return document


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two configurations as one; `above` wins, nodes are merged key by key."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def shown(value: Any) -> str:
    """A value in an error message: short, and never walking into something deep."""
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, int | float | None):
        return str(value)
    if isinstance(value, list | tuple) and len(value) <= 8 and all(isinstance(i, int | float) for i in value):
        return str(list(value))
    return f"a {type(value).__name__}"
