"""The names that a checkpoint may call, and what happens instead. Nothing here imports them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from mtlora.vocabulary.errors import ConversionError, UnsafeCheckpointError
from mtlora.weights.checkpoint.opaque import Global, Opaque, is_opaque_class, is_opaque_function, is_python

Arguments = tuple[Any, ...]


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


_SAFETENSORS = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8"},
}


def plain_tensor(dtype: str, key: str, shape: list[int]) -> TensorRef:
    """A tensor that fills a storage of its own, as in `.safetensors`; `ValueError` if it cannot be."""
    if dtype not in _SAFETENSORS:
        raise ValueError(f"numbers of type {str(dtype)[:20]!r}, readable are {', '.join(_SAFETENSORS)}")
    if len(shape) > _MAX_DIMENSIONS or not all(type(side) is int and 0 <= side < 2**62 for side in shape):
        raise ValueError(f"a shape of {len(shape)} sides, or of other than whole numbers from 0")
    stride = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
    storage = StorageRef(_SAFETENSORS[dtype], key, prod(shape))
    return _tensor((storage, 0, tuple(shape), stride))


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


def _subclass(arguments: Arguments) -> Any:
    """`_rebuild_from_type_v2(function, type, arguments, state)`: a tensor of a subclass, or with attributes."""
    match arguments:
        case (Global() as function, Global(), tuple(inner), *_) if function in _TENSORS:
            return _TENSORS[function](inner)
    raise ConversionError("the checkpoint describes a tensor of an unknown kind")


def _reconstructed(arguments: Arguments) -> Opaque:
    """`copyreg._reconstructor(class, base, state)`: how protocols 0 and 1 make objects."""
    match arguments:
        case (Global() as cls, Global("builtins" | "__builtin__", _), _) if has_opaque_objects(cls):
            return Opaque(cls)
    raise UnsafeCheckpointError(refused("makes an object of", *arguments[:1]))


def _attribute(arguments: Arguments) -> Global:
    """`getattr(class, name)`: what some versions of Python write for members of enumerations. A name, no value."""
    match arguments:
        case (Global() as cls, str(name)) if has_opaque_objects(cls):
            return Global(cls.module, f"{cls.name}.{name}")
    raise UnsafeCheckpointError(refused("takes an attribute of", *arguments[:1]))


CONFIG_NODE = Global("yacs.config", "CfgNode")
"""Configuration node of the published code, a dict with attributes: here a plain dict."""

_TENSORS: dict[Global, Callable[[Arguments], Any]] = {
    Global("torch._utils", "_rebuild_tensor"): _tensor,
    Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Global("torch._utils", "_rebuild_parameter"): _first,
    Global("torch._utils", "_rebuild_parameter_with_state"): _first,
}

CALLS: dict[Global, Callable[[Arguments], Any]] = {
    **_TENSORS,
    Global("torch._tensor", "_rebuild_from_type_v2"): _subclass,
    Global("torch", "Size"): _sequence,
    Global("collections", "OrderedDict"): _mapping,
    Global("collections", "defaultdict"): _mapping,
    Global("collections", "Counter"): _mapping,
    CONFIG_NODE: _mapping,
}
"""What REDUCE may call, and what happens then."""

for _module in ("builtins", "__builtin__"):
    CALLS[Global(_module, "set")] = CALLS[Global(_module, "frozenset")] = _set
    CALLS[Global(_module, "dict")] = _mapping
    CALLS[Global(_module, "list")] = CALLS[Global(_module, "tuple")] = _sequence
    CALLS[Global(_module, "getattr")] = _attribute
for _module in ("copyreg", "copy_reg"):
    CALLS[Global(_module, "_reconstructor")] = _reconstructed


def may_be_named(name: Global) -> bool:
    """Whether a name may occur at all: it is known to be harmless, or nobody's but the checkpoint's author's.

    Python's own names are refused at once unless listed. Others, such as an activation function among the arguments,
    are labels; only what is called counts.
    """
    return name in CALLS or is_opaque_function(name) or is_opaque_class(name) or not is_python(name)


def has_opaque_objects(name: Global) -> bool:
    """Whether a name is that of a class whose objects are harmless, and needed by nobody."""
    return name not in CALLS and is_opaque_class(name)


def called(name: Any, arguments: Any) -> Any:
    """What REDUCE leaves behind: data, or something opaque; `UnsafeCheckpointError` if it is not allowed."""
    if not isinstance(name, Global) or not isinstance(arguments, tuple):
        raise UnsafeCheckpointError(refused("calls", name))
    if name in CALLS:
        return CALLS[name](arguments)
    if has_opaque_objects(name) or (is_opaque_function(name) and arguments):
        return Opaque(name)
    raise UnsafeCheckpointError(refused("calls", name))


def refused(does: str, what: Any = None) -> str:
    """The message for what is not allowed, with the way out."""
    shown = str(what) if isinstance(what, Global) else f"a {type(what).__name__}"
    return (
        f"the checkpoint {does} {shown}, which is not allowed; nothing was run. Where you trust it, save the weights "
        "alone: torch.save({'model': checkpoint['model']}, 'weights.pth'), and give the settings with --config"
    )
