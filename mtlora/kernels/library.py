"""The library of compiled kernels: found, loaded, described. Torch is imported only where it is asked about."""

import ctypes
import functools
import logging
import os
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mtlora.vocabulary.errors import MTLoRAError

log = logging.getLogger(__name__)

VARIABLE = "MTLORA_NATIVE"
INSTRUCTION_SETS = ("baseline", "avx2", "avx512", "avx512vnni")
"""Every later one needs more of the CPU; `baseline` is what any CPU of its architecture has (SSE2, NEON)."""

_FOLDER = Path(__file__).parent
_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float
_SIGNATURES: dict[str, tuple[type, ...]] = {
    "window_attention": (*[_POINTER] * 4, *[_LONG] * 5, _FLOAT, _INT),
    "gelu": (*[_POINTER] * 2, *[_LONG] * 2, _INT),
    "lowrank_add": (*[_POINTER] * 5, *[_LONG] * 4, _INT),
    "task_mlp": (*[_POINTER] * 5, *[_LONG] * 5, _INT, _INT),
    "layer_norm_tasks": (*[_POINTER] * 3, _FLOAT, *[_POINTER] * 2, *[_LONG] * 4, _INT, _INT),
    "packed_floats": (_LONG, _LONG),
    "pack": (_POINTER, _POINTER, _LONG, _LONG),
    "packed_bytes": (_LONG, _LONG),
    "pack_integers": (_POINTER, _POINTER, _LONG, _LONG),
    "fold": (_POINTER, _LONG, *[_POINTER] * 3),
    "merged_projection": (*[_POINTER] * 4, _FLOAT, *[_POINTER] * 2, *[_LONG] * 5, _INT),
    "mix_head_floats": (_POINTER,),
    "mix_head": (*[_POINTER] * 3, _INT),
    "block": (*[_POINTER] * 3, _LONG, _POINTER, _LONG, _POINTER, _LONG, _LONG, _INT),
    "upsample_argmax": (*[_POINTER] * 2, *[_LONG] * 5, _INT),
    "quantise_normals": (*[_POINTER] * 2, *[_LONG] * 6, _INT),
    "saliency_to_gray": (*[_POINTER] * 2, *[_LONG] * 6, _INT),
    "unit_normals": (*[_POINTER] * 2, *[_LONG] * 4, _INT),
    "enlarge_sigmoid": (*[_POINTER] * 2, *[_LONG] * 4, _INT),
    "enlarge_classes": (*[_POINTER] * 3, *[_LONG] * 4),
    "resize_cubic": (*[_POINTER] * 3, *[_LONG] * 7),
    "antialias_rows": (*[_POINTER] * 2, *[_LONG] * 6),
    "antialias_finish": (*[_POINTER] * 3, *[_LONG] * 2),
    "pack_rows": (*[_POINTER] * 3, *[_LONG] * 4, _INT),
    "pack_normals": (*[_POINTER] * 3, *[_LONG] * 7),
}
_RESULTS: dict[str, type] = dict.fromkeys(
    ("packed_floats", "packed_bytes", "mix_head_floats", "pack_rows", "pack_normals"), _LONG
) | dict.fromkeys(
    (
        "fold",
        "block",
        "merged_projection",
        "mix_head",
        "upsample_argmax",
        "quantise_normals",
        "saliency_to_gray",
        "unit_normals",
        "enlarge_sigmoid",
        "resize_cubic",
        "antialias_rows",
        "antialias_finish",
    ),
    _INT,
)
"""Other kernels return nothing. An int: 0, or 1 where there was no memory; of `pack_…` bytes, or -1."""


@dataclass(frozen=True, slots=True)
class Status:
    """Whether native code runs, and why.

    instruction_set: one of `INSTRUCTION_SETS`, or empty where plain torch runs
    threads:         whose OpenMP threads are shared: path of the library, or empty where kernels use one thread
    reason:          why it is so, in words
    """

    instruction_set: str
    threads: str
    reason: str


class Kernels:
    """The kernels of one instruction set: one function each, named as in src/ without `mtlora_`."""

    window_attention: Callable[..., None]
    gelu: Callable[..., None]
    lowrank_add: Callable[..., None]
    task_mlp: Callable[..., None]
    layer_norm_tasks: Callable[..., None]
    packed_floats: Callable[..., int]
    pack: Callable[..., None]
    packed_bytes: Callable[..., int]
    pack_integers: Callable[..., None]
    fold: Callable[..., int]
    block: Callable[..., int]
    merged_projection: Callable[..., int]
    mix_head_floats: Callable[..., int]
    mix_head: Callable[..., int]
    upsample_argmax: Callable[..., int]
    quantise_normals: Callable[..., int]
    saliency_to_gray: Callable[..., int]
    unit_normals: Callable[..., int]
    enlarge_sigmoid: Callable[..., int]
    enlarge_classes: Callable[..., None]
    resize_cubic: Callable[..., int]
    antialias_rows: Callable[..., int]
    antialias_finish: Callable[..., int]
    pack_rows: Callable[..., int]
    pack_normals: Callable[..., int]

    def __init__(self, path: Path, *, share_threads: bool = True) -> None:
        """share_threads: False where torch is not wanted: every kernel then runs in the thread that calls it"""
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self.threads, address = shared_pool() if share_threads else (None, None)
        use_pool = self._library.mtlora_use_pool
        use_pool.argtypes, use_pool.restype = (_POINTER,), None
        use_pool(address)
        for name, arguments in _SIGNATURES.items():
            function = self._library[f"mtlora_{name}"]
            function.argtypes, function.restype = arguments, _RESULTS.get(name)
            setattr(self, name, function)


def kernels() -> Kernels | None:
    """The kernels to use, or None where plain torch is to run; loaded once."""
    return _load(os.environ.get(VARIABLE, ""))[0]


def status() -> Status:
    """What `kernels` gives, in words."""
    return _load(os.environ.get(VARIABLE, ""))[1]


def library_path(instruction_set: str) -> Path:
    """Where installation puts the kernels of an instruction set."""
    return _FOLDER / f"kernels_{instruction_set}{sysconfig.get_config_var('EXT_SUFFIX')}"


def best_instruction_set() -> str:
    """The last of `INSTRUCTION_SETS` that this CPU has, as torch sees it."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX512" and torch.cpu._is_vnni_supported():
        return "avx512vnni"
    return {"AVX512": "avx512", "AVX2": "avx2"}.get(capability, "baseline")


@functools.cache
def _load(wanted: str) -> tuple[Kernels | None, Status]:
    if wanted == "0":
        return None, Status("", "", f"turned off by {VARIABLE}=0")
    if wanted not in ("", "1", *INSTRUCTION_SETS):
        raise MTLoRAError(f"{VARIABLE} must be 0, 1, or one of {', '.join(INSTRUCTION_SETS)}, got {wanted!r}")
    best = best_instruction_set()
    usable = INSTRUCTION_SETS[: INSTRUCTION_SETS.index(best) + 1]
    if wanted in INSTRUCTION_SETS:
        if wanted not in usable:
            return None, Status("", "", f"{VARIABLE}={wanted}, but this CPU has only {best}")
        usable = (wanted,)
    return _first_that_loads(usable)


def _first_that_loads(usable: tuple[str, ...]) -> tuple[Kernels | None, Status]:
    faults = []
    for name in reversed(usable):
        path = library_path(name)
        try:
            if not path.exists():
                raise OSError(f"{path.name} was not built: there was no C++ compiler at installation, or it failed")
            loaded = Kernels(path)
        except (OSError, AttributeError) as error:
            log.debug("native kernels %s: %s", name, error)
            faults.append(str(error))
            continue
        threads = str(loaded.threads or "")
        shared = "torch's OpenMP threads" if threads else "one thread: no OpenMP library of torch was found"
        return loaded, Status(name, threads, f"{name} kernels on {shared}")
    return None, Status("", "", "; ".join(faults))


def shared_pool() -> tuple[Path | None, int | None]:
    """The OpenMP library that torch has loaded, and the address of its GOMP_parallel; Nones where there is none.

    GNU's library has the function, LLVM's and Intel's too (for code compiled by GCC).
    """
    for path in _loaded_libraries():
        if not path.name.startswith(("libgomp", "libiomp", "libomp")):
            continue
        try:
            function = ctypes.CDLL(str(path)).GOMP_parallel
        except (OSError, AttributeError) as error:
            log.debug("OpenMP library %s cannot be shared: %s", path, error)
            continue
        return path, ctypes.cast(function, _POINTER).value
    return None, None


def _loaded_libraries() -> list[Path]:
    """Shared libraries of this process, those in torch's own folders first; empty where the system does not tell."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    import torch

    paths = {Path(line.split(maxsplit=5)[5]) for line in lines if "/" in line}
    torch_folder = Path(torch.__file__).parent.parent
    return sorted(paths, key=lambda path: (not path.is_relative_to(torch_folder), str(path)))
