"""A pickle interpreter that can run nothing: strangers' checkpoints are data here, never programs.

Python's own unpickler calls whatever a stream names. This one walks the opcodes itself, builds plain dicts, lists and
scalars, and knows a short list of names (`globals_allowed`), each with a harmless meaning of our own; none of them is
ever imported. A name outside the list is an `UnsafeCheckpointError`. Tensors stay references until they are wanted.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

from mtlora.vocabulary.errors import ConversionError, UnsafeCheckpointError
from mtlora.weights.convert.globals_allowed import CALLS, CONFIG_NODE, NAMES, Global, Opaque, StorageRef, storage_of

MAX_PICKLE_BYTES = 8 * 2**20  # a Swin-L with its optimizer state needs about 3 MiB
MAX_INTEGER_BITS = 128

_MARK = object()
_SCALARS = (str, int, float, bool, bytes, type(None))
_FAULTS = (IndexError, KeyError, TypeError, ValueError, EOFError, OverflowError, RecursionError)


def read_pickle(stream: BinaryIO) -> Any:
    """The one pickle at the stream's position, as inert data; the stream stands behind it afterwards.

    Dicts, OrderedDicts and config nodes become dicts, sets become frozensets of scalars, tensors `TensorRef`s.
    """
    machine = _Machine()
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

    def __init__(self) -> None:
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
        """Carry out one opcode; those not listed (EXT, INST, OBJ, NEWOBJ_EX, PERSID, …) are refused."""
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
    """Only scalars may be keys: hashing a deep tuple would overflow the C stack."""
    if not isinstance(value, _SCALARS):
        raise ValueError(f"a {type(value).__name__} as a key")
    return value


def _global(machine: _Machine, module: Any, name: Any) -> None:
    found = Global(str(module), str(name))
    if found not in NAMES:
        raise UnsafeCheckpointError(f"the checkpoint asks for {found}, which is not allowed; nothing was run")
    machine.stack.append(found)


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError("a global whose name is not text")
    _global(machine, module, name)


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, called = machine.pop(), machine.pop()
    if not isinstance(called, Global) or called not in CALLS or not isinstance(arguments, tuple):
        raise UnsafeCheckpointError(f"the checkpoint calls {_shown(called)}, which is not allowed; nothing was run")
    machine.stack.append(CALLS[called](arguments))


def _new_object(machine: _Machine, _: Any) -> None:
    arguments, cls = machine.pop(), machine.pop()
    if cls != CONFIG_NODE or arguments != ():
        raise UnsafeCheckpointError(f"the checkpoint makes an object of {_shown(cls)}, which is not allowed")
    machine.stack.append({})


def _build(machine: _Machine, _: Any) -> None:
    """Attributes of a config node, a state dict or an opaque value: not needed, so dropped unseen."""
    machine.pop()
    if not isinstance(machine.top(), dict | Opaque):
        raise UnsafeCheckpointError(f"the checkpoint sets attributes of {_shown(machine.top())}, which is not allowed")


def _persistent(machine: _Machine, _: Any) -> None:
    storage: StorageRef = storage_of(machine.pop())
    machine.stack.append(storage)


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Global) else f"a {type(value).__name__}"


def _append(machine: _Machine, items: list[Any]) -> None:
    target = machine.top()
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
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
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
    "BUILD": _build,
    "BINPERSID": _persistent,
}
