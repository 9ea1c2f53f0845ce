"""What a pickle may hold beside weights: objects of classes that nobody needs. They are named, never made.

A checkpoint keeps what its training had at hand: a command line, paths, dates, random states, a configuration of some
library, members of enumerations. Each becomes an `Opaque`. Python's own names are allowed one by one. Of everybody
else's the classes are allowed: their objects do nothing here, as none is ever made. A function is called for what it
does, so calls of functions stay refused, but for a few that make such values.
"""

import sys
from typing import Any, NamedTuple


class Global(NamedTuple):
    """A name in a pickle: text only."""

    module: str
    name: str

    def __str__(self) -> str:
        shown = f"{self.module}.{self.name}"
        return shown[:120].encode("unicode_escape").decode("ascii")


class Opaque(dict[Any, Any]):
    """An object that was not made: the name of its class, and the items it got if it is a kind of dict.

    kind:       name of its class
    attributes: what it was given as its state, unseen; None where that is no dict
    """

    __slots__ = ("attributes", "kind")

    def __init__(self, kind: Global) -> None:
        super().__init__()
        self.kind = kind
        self.attributes: dict[Any, Any] | None = None

    __hash__ = object.__hash__  # type: ignore[assignment]  # may be a key, as members of enumerations are

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


_PYTHON = sys.stdlib_module_names | {"__builtin__", "copy_reg", "commands", "exceptions", "cPickle", "UserDict"}
"""Python's own packages, those of Python 2 too: of these only what is listed may be named."""

_BUILTIN_MODULES = ("builtins", "__builtin__")
_PATH_MODULES = ("pathlib", "pathlib._local")
_CLASSES: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for modules, names in {
        _BUILTIN_MODULES: "bool bytearray bytes complex dict float frozenset int list long object range set slice str "
        "tuple type unicode xrange",
        _PATH_MODULES: "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        ("argparse",): "Namespace",
        ("collections",): "ChainMap Counter OrderedDict UserDict UserList defaultdict deque",
        ("datetime",): "date datetime time timedelta timezone",
        ("decimal",): "Decimal",
        ("fractions",): "Fraction",
        ("functools",): "partial",
        ("ipaddress",): "IPv4Address IPv6Address",
        ("numpy",): "dtype matrix ndarray recarray record",
        ("random",): "Random SystemRandom",
        ("torch",): "device",
        ("types",): "GenericAlias MappingProxyType SimpleNamespace UnionType",
        ("uuid",): "SafeUUID UUID",
        ("zoneinfo",): "ZoneInfo ZoneInfo._unpickle",
    }.items()
    for module in modules
}

_FUNCTIONS = frozenset(
    Global(module, name)
    for modules, names in {
        "_codecs": "encode",
        "numpy.core.multiarray numpy._core.multiarray": "_reconstruct scalar",
        "numpy.core.numeric numpy._core.numeric": "_frombuffer",
        "numpy.ma.core": "_mareconstruct",
        "numpy.random._pickle": "__bit_generator_ctor __generator_ctor __randomstate_ctor",
        "numpy.random.bit_generator": "__pyx_unpickle_SeedSequence",
        "operator _operator": "getitem",
        "pytz": "_UTC _p",
        "re": "_compile",
        "torch.serialization": "_get_layout",
    }.items()
    for module in modules.split()
    for name in names.split()
)
"""Functions that pickles of harmless values name: they make arrays, numbers, random states, time zones, patterns."""


def is_python(name: Global) -> bool:
    """Whether a name is Python's own."""
    return name.module.partition(".")[0] in _PYTHON


def is_opaque_class(name: Global) -> bool:
    """Whether objects of this class are harmless: a listed one, an exception, or any class outside Python itself."""
    if name.name in _CLASSES.get(name.module, ()) or name.module == "typing":
        return True
    is_exception = name.module in (*_BUILTIN_MODULES, "exceptions")
    return (is_exception or not is_python(name)) and _is_capital(name.name)


def is_opaque_function(name: Global) -> bool:
    """Whether this is one of the listed functions, which make harmless values."""
    return name in _FUNCTIONS


def _is_capital(name: str) -> bool:
    """Whether a name is written as classes are: `Mode`, `_Mode`, `Outer.Mode`."""
    return name.rpartition(".")[2].lstrip("_")[:1].isupper()
