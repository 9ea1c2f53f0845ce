"""A pickle interpreter that can run nothing: strangers' checkpoints are data here, never programs.

Python's own unpickler calls whatever a stream names. This one walks the opcodes itself, builds plain dicts, lists and
scalars, and gives each name a harmless meaning of our own (`globals_allowed`, `opaque`); none of them is ever imported.
What no checkpoint needs is an `UnsafeCheckpointError`. Tensors stay references until they are wanted.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

from mtlora.vocabulary.errors import ConversionError, UnsafeCheckpointError
from mtlora.weights.checkpoint.globals_allowed import (
    CONFIG_NODE,
    StorageRef,
    called,
    has_opaque_objects,
    may_be_named,
    refused,
    storage_of,
)
from mtlora.weights.checkpoint.opaque import Global, Opaque

MAX_PICKLE_BYTES = 8 * 2**20  # a Swin-L with its optimizer state needs about 3 MiB
MAX_INTEGER_BITS = 128

_MARK = object()
_SCALARS = (str, int, float, bool, bytes, type(None))
_BY_IDENTITY = (Global, Opaque)
_FAULTS = (IndexError, KeyError, TypeError, ValueError, EOFError, OverflowError, RecursionError)


def read_pickle(stream: BinaryIO, storages: dict[str, StorageRef] | None = None) -> Any:
    """The one pickle at the stream's position, as inert data; the stream stands behind it afterwards.

    Dicts, OrderedDicts and config nodes become dicts, sets become frozensets of scalars, tensors `TensorRef`s, and
    other objects `Opaque`.

    storages: gets every storage that the pickle names, by its key
    """
    machine = _Machine({} if storages is None else storages)
    try:
        for opcode, argument, position in pickletools.genops(stream):
            if position is not None and position - machine.start(position) > MAX_PICKLE_BYTES:
                raise ConversionError(f"the checkpoint's pickle is larger than {MAX_PICKLE_BYTES} bytes")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except _FAULTS as error:
        raise ConversionError(f"the checkpoint's pickle is corrupt: {type(error).__name__}: {error}") from error
    raise ConversionError("the checkpoint's pickle ends before its STOP")


class _Machine:
    """Stack and memo of one pickle, and what each opcode does to them."""

    def __init__(self, storages: dict[str, StorageRef]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._start: int | None = None

    def start(self, position: int) -> int:
        """Where the pickle began in its stream."""
        if self._start is None:
            self._start = position
        return self._start

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark stands where a value should be")
        return value

    def top(self) -> Any:
        value = self.stack[-1]
        if value is _MARK:
            raise ValueError("a mark stands where a value should be")
        return value

    def pop_to_mark(self) -> list[Any]:
        """Everything above the last mark, which goes too."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise ValueError("no mark on the stack")

    def step(self, name: str, argument: Any) -> None:
        """Carry out one opcode; those not listed (EXT, INST, OBJ, PERSID, …) are refused."""
        if name in _LITERALS:
            self.stack.append(_literal(argument))
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise UnsafeCheckpointError(f"the checkpoint's pickle uses opcode {name}, which no checkpoint needs")


def _literal(value: Any) -> Any:
    if type(value) is int and value.bit_length() > MAX_INTEGER_BITS:
        raise ValueError(f"an integer of {value.bit_length()} bits")
    return value


def _key(value: Any) -> Any:
    """Only what is hashed at once may be a key: hashing a deep tuple would overflow the C stack."""
    flat = value if isinstance(value, tuple) and not isinstance(value, Global) else (value,)
    for part in flat:
        if not isinstance(part, _SCALARS + _BY_IDENTITY):
            raise ValueError(f"a {type(part).__name__} as a key")
    return value


def _global(machine: _Machine, module: Any, name: Any) -> None:
    found = Global(str(module), str(name))
    if not may_be_named(found):
        raise UnsafeCheckpointError(refused("asks for", found))
    machine.stack.append(found)


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError("a global whose name is not text")
    _global(machine, module, name)


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.stack.append(called(function, arguments))


def _new_object(machine: _Machine, _: Any) -> None:
    arguments, cls = machine.pop(), machine.pop()
    if cls == CONFIG_NODE and arguments == ():
        machine.stack.append({})
    else:
        _opaque_object(machine, cls, arguments)


def _new_object_with_keywords(machine: _Machine, _: Any) -> None:
    _keywords, arguments, cls = machine.pop(), machine.pop(), machine.pop()
    _opaque_object(machine, cls, arguments)


def _opaque_object(machine: _Machine, cls: Any, arguments: Any) -> None:
    if not isinstance(cls, Global) or not isinstance(arguments, tuple) or not has_opaque_objects(cls):
        raise UnsafeCheckpointError(refused("makes an object of", cls))
    machine.stack.append(Opaque(cls))


def _build(machine: _Machine, _: Any) -> None:
    """Attributes of a config node or a state dict are dropped unseen; an opaque object keeps its own, unread."""
    state, target = machine.pop(), machine.top()
    if not isinstance(target, dict):
        raise UnsafeCheckpointError(refused("sets attributes of", target))
    if isinstance(target, Opaque) and isinstance(state, dict):
        target.attributes = state


def _persistent(machine: _Machine, _: Any) -> None:
    storage: StorageRef = storage_of(machine.pop())
    machine.storages[storage.key] = storage
    machine.stack.append(storage)


def _append(machine: _Machine, items: list[Any]) -> None:
    target = machine.top()
    if isinstance(target, Opaque):
        return  # a kind of list
    if type(target) is not list:
        raise ValueError(f"appending to a {type(target).__name__}")
    target.extend(items)


def _set_items(machine: _Machine, items: list[Any]) -> None:
    target = machine.top()
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError(f"setting {len(items)} items of a {type(target).__name__}")
    target.update(zip(map(_key, items[::2]), items[1::2], strict=True))


def _append_one(machine: _Machine, _: Any) -> None:
    value = machine.pop()
    _append(machine, [value])


def _set_one(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _appends(machine: _Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    _append(machine, items)


def _sets(machine: _Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    _set_items(machine, items)


def _dict(machine: _Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    machine.stack.append({})
    _set_items(machine, items)


def _add_items(machine: _Machine, _: Any) -> None:
    items = frozenset(map(_key, machine.pop_to_mark()))
    before = machine.pop()
    if isinstance(before, Opaque):
        machine.stack.append(before)  # a kind of set
        return
    if not isinstance(before, frozenset):
        raise ValueError(f"adding items to a {type(before).__name__}")
    machine.stack.append(before | items)


def _tuple_of(size: int) -> Callable[[_Machine, Any], None]:
    def make(machine: _Machine, _: Any) -> None:
        items = [machine.pop() for _ in range(size)]
        machine.stack.append(tuple(reversed(items)))

    return make


def _get(machine: _Machine, index: Any) -> None:
    machine.stack.append(machine.memo[int(index)])


def _put(machine: _Machine, index: Any) -> None:
    machine.memo[int(index)] = machine.top()


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _discard(machine: _Machine, _: Any) -> None:
    machine.stack.pop()


def _discard_to_mark(machine: _Machine, _: Any) -> None:
    machine.pop_to_mark()


_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)

_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda _machine, _: None,
    "FRAME": lambda _machine, _: None,
    "MARK": lambda machine, _: machine.stack.append(_MARK),
    "POP": _discard,
    "POP_MARK": _discard_to_mark,
    "DUP": lambda machine, _: machine.stack.append(machine.top()),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "EMPTY_SET": lambda machine, _: machine.stack.append(frozenset()),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "FROZENSET": lambda machine, _: machine.stack.append(frozenset(map(_key, machine.pop_to_mark()))),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "DICT": _dict,
    "APPEND": _append_one,
    "APPENDS": _appends,
    "SETITEM": _set_one,
    "SETITEMS": _sets,
    "ADDITEMS": _add_items,
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": _memoize,
    "GLOBAL": lambda machine, text: _global(machine, *text.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new_object,
    "NEWOBJ_EX": _new_object_with_keywords,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
