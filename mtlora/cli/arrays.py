"""NumPy archives that commands read and write."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error as zlib_error

from mtlora.vocabulary.errors import MTLoRAError

INPUT = "input"


def read_archive(path: Path, prefixes: tuple[str, ...] = ()) -> dict[str, Any]:
    """`input` of a .npz, and the arrays whose names begin so; pickled arrays are refused."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            wanted = [name for name in arrays.files if prefixes and name.startswith(prefixes)]
            return {name: arrays[name] for name in (INPUT, *wanted)}
    except (OSError, KeyError, ValueError, TypeError, AttributeError, EOFError, BadZipFile, zlib_error) as error:
        raise MTLoRAError(f"{path} is not a .npz file with an array `{INPUT}`: {error}") from error


def input_array(path: Path, side: int) -> Any:
    """`input` of a .npz as float32 [N, 3, side, side]; pickled arrays are refused."""
    return checked_input(read_archive(path)[INPUT], side)


def checked_input(x: Any, side: int) -> Any:
    """An array as float32 [N, 3, side, side], contiguous; refused if a number in it is not finite."""
    import numpy as np

    if x.ndim != 4 or x.shape[0] < 1 or x.shape[1:] != (3, side, side) or x.dtype.kind != "f":
        raise MTLoRAError(f"`{INPUT}` must be float [N, 3, {side}, {side}], got {x.dtype} {list(x.shape)}")
    with np.errstate(over="ignore"):  # told below
        x = np.ascontiguousarray(x, dtype=np.float32)
    wrong = np.argwhere(~np.isfinite(x))
    if len(wrong):
        first = wrong[0].tolist()
        raise MTLoRAError(
            f"`{INPUT}` must be finite as float32; {len(wrong)} of its {x.size} numbers are NaN or infinite, the first "
            f"at {first}"
        )
    return x


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a .npz under exactly this name."""
    import numpy as np

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:  # given a path, NumPy would change its suffix
            save: Callable[..., None] = np.savez
            save(file, **arrays)
    except OSError as error:
        raise MTLoRAError(f"cannot write {path}: {error.strerror or error}") from error
