"""The library of compiled kernels: found, loaded, described. Torch is imported only where it is asked about."""

import ctypes
import functools
import logging
import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from mtlora.kernels.declarations import signature
from mtlora.kernels.header import ABI
from mtlora.kernels.interface import STRUCTURES, Functions
from mtlora.vocabulary.errors import MTLoRAError

log = logging.getLogger(__name__)

VARIABLE = "MTLORA_NATIVE"
INSTRUCTION_SETS = ("baseline", "avx2", "avx512", "avx512vnni")
"""Every later one needs more of the CPU; `baseline` is what any CPU of its architecture has (SSE2, NEON)."""

_FOLDER = Path(__file__).parent
_ANOTHER_BUILD = "it was built from another source; install mtlora again"


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


class Kernels(Functions):
    """The kernels of one instruction set."""

    def __init__(self, path: Path, *, share_threads: bool = True) -> None:
        """OSError where the library was built from another table than `interface`, or is none of ours.

        share_threads: False where torch is not wanted: every kernel then runs in the thread that calls it
        """
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._bind("abi", "structure_bytes")
        self._check()
        self._bind(*Functions.__annotations__)
        self.threads, address = shared_pool() if share_threads else (None, None)
        self.use_pool(address)

    def _bind(self, *names: str) -> None:
        for name in names:
            try:
                function = self._library[f"mtlora_{name}"]
            except AttributeError as error:
                raise OSError(f"{self.path.name} has no mtlora_{name}: {_ANOTHER_BUILD}") from error
            function.argtypes, function.restype = signature(Functions.__annotations__[name].__metadata__[0], STRUCTURES)
            setattr(self, name, function)

    def _check(self) -> None:
        """Nothing else may be called before: what is passed would be read, and written, in other places."""
        built = self.abi()
        if built != ABI:
            raise OSError(f"{self.path.name} has interface {built:#018x}, not {ABI:#018x}: {_ANOTHER_BUILD}")
        for number, (name, structure) in enumerate(STRUCTURES.items()):
            size, own = self.structure_bytes(number), ctypes.sizeof(structure)
            if size != own:
                raise OSError(f"{self.path.name} has {name} in {size} bytes, not {own}: {_ANOTHER_BUILD}")


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
        except OSError as error:
            log.debug("native kernels %s: %s", name, error)
            faults.append(str(error))
            continue
        threads = str(loaded.threads or "")
        shared = "torch's OpenMP threads" if threads else "one thread: no OpenMP library of torch was found"
        return loaded, Status(name, threads, "; ".join((f"{name} kernels on {shared}", *faults)))
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
        return path, ctypes.cast(function, ctypes.c_void_p).value
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
