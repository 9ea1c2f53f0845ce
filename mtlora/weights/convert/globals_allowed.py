"""The names a published checkpoint may use, and a harmless stand-in for each. Nothing here imports them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from mtlora.vocabulary.errors import ConversionError

Arguments = tuple[Any, ...]


class Global(NamedTuple):
    """A name in a pickle: text only."""

    module: str
    name: str

    def __str__(self) -> str:
        shown = f"{self.module}.{self.name}"
        return shown[:120].encode("unicode_escape").decode("ascii")


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A block of numbers in the checkpoint, not read yet."""

    dtype: str  # "float32", …
    key: str
    count: int  # numbers in it


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor in the checkpoint, not read yet; size and strides are checked against its storage."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def span(self) -> int:
        """Bytes from the tensor's first value in its storage to its last: what must be read for it."""
        if not prod(self.shape):
            return 0
        last = sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        return (last + 1) * ITEM_BYTES[self.storage.dtype]


class Opaque:
    """Something harmless that nobody needs, such as a NumPy scalar among the training statistics."""

    __slots__ = ()


_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}

ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}

_MAX_DIMENSIONS = 16


def storage_of(persistent_id: Any) -> StorageRef:
    """The storage that torch's persistent id names: ("storage", type, key, device, count)."""
    match persistent_id:
        case ("storage", Global("torch", name), str(key), str(), int(count), *rest) if (
            name in _STORAGES and count >= 0 and rest in ([], [None])
        ):
            return StorageRef(_STORAGES[name], key, count)
    raise ConversionError("the checkpoint refers to something that is not a tensor storage")


def _tensor(arguments: Arguments) -> TensorRef:
    """`torch._utils._rebuild_tensor_v2(storage, offset, size, stride, …)`, every number checked."""
    match arguments:
        case (StorageRef() as storage, int(offset), tuple(shape), tuple(stride), *_):
            pass
        case _:
            raise ConversionError("the checkpoint describes a tensor in an unknown way")
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or len(shape) > _MAX_DIMENSIONS:
        raise ConversionError(f"a tensor of {len(shape)} dimensions has {len(stride)} strides")
    if not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
        raise ConversionError("a tensor's shape, strides and offset must be whole numbers from 0")
    tensor = TensorRef(storage, offset, shape, stride)
    end = offset + tensor.span // ITEM_BYTES[storage.dtype]
    if prod(shape) > storage.count or end > storage.count:
        raise ConversionError(f"a tensor of shape {list(shape)} does not fit its storage of {storage.count} numbers")
    return tensor


def _first(arguments: Arguments) -> Any:
    """`_rebuild_parameter(tensor, …)`: the tensor."""
    if not arguments or not isinstance(arguments[0], TensorRef):
        raise ConversionError("a parameter that is not a tensor")
    return arguments[0]


def _mapping(arguments: Arguments) -> dict[Any, Any]:
    """`OrderedDict()`, `OrderedDict(pairs)`, `defaultdict(factory)`, `dict(pairs)`: a plain dict."""
    pairs = arguments[-1] if arguments else []
    if isinstance(pairs, Global):
        return {}
    if isinstance(pairs, dict):
        return dict(pairs)
    if not isinstance(pairs, list) or not all(
        isinstance(p, list | tuple) and len(p) == 2 and isinstance(p[0], str | int | float) for p in pairs
    ):
        raise ConversionError("a dictionary that is not made of pairs")
    return {key: value for key, value in pairs}  # noqa: C416 (pairs may be lists)


def _set(arguments: Arguments) -> frozenset[Any]:
    items = arguments[0] if arguments else []
    if not isinstance(items, list | tuple | frozenset) or not all(isinstance(i, str | int | float) for i in items):
        raise ConversionError("a set of something else than scalars")
    return frozenset(items)


def _sequence(arguments: Arguments) -> tuple[Any, ...]:
    items = arguments[0] if arguments else ()
    if not isinstance(items, list | tuple):
        raise ConversionError(f"a sequence made of a {type(items).__name__}")
    return tuple(items)


def _opaque(_: Arguments) -> Opaque:
    return Opaque()


CONFIG_NODE = Global("yacs.config", "CfgNode")
"""Configuration node of the published code, a dict with attributes: here a plain dict."""

CALLS: dict[Global, Callable[[Arguments], Any]] = {
    Global("torch._utils", "_rebuild_tensor"): _tensor,
    Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Global("torch._utils", "_rebuild_parameter"): _first,
    Global("torch", "Size"): _sequence,
    Global("torch", "device"): _opaque,
    Global("collections", "OrderedDict"): _mapping,
    Global("collections", "defaultdict"): _mapping,
    Global("collections", "Counter"): _mapping,
    Global("_codecs", "encode"): _opaque,
    Global("numpy", "dtype"): _opaque,
    CONFIG_NODE: _mapping,
}
"""What REDUCE may call, and what happens then."""

for _module in ("builtins", "__builtin__"):
    CALLS[Global(_module, "set")] = CALLS[Global(_module, "frozenset")] = _set
    CALLS[Global(_module, "dict")] = _mapping
    CALLS[Global(_module, "list")] = CALLS[Global(_module, "tuple")] = _sequence
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    CALLS[Global(_module, "scalar")] = _opaque

_TYPES = [*_STORAGES, "float16", "bfloat16", "float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]

NAMES: frozenset[Global] = frozenset([*CALLS, *(Global("torch", name) for name in _TYPES)])
"""Every name that may occur at all; those outside `CALLS` are labels only."""
