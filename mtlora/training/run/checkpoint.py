"""Checkpoints and logs of a run: a kill loses nothing but the steps since the last checkpoint."""

import csv
from pathlib import Path
from typing import Any

import torch

from mtlora.vocabulary.errors import TrainingError
from mtlora.weights.atomic import write_atomically

CHECKPOINT_FILE = "checkpoint.pt"
BEST_FILE = "best.pt"
METRICS_FILE = "metrics.csv"
VALIDATION_FILE = "validation.csv"


def save_checkpoint(folder: Path, state: dict[str, Any], name: str = CHECKPOINT_FILE) -> None:
    """Write the state under another name, flush it to disk, rename: there is always one whole checkpoint."""
    write_atomically(folder / name, lambda file: torch.save(state, file))


def load_checkpoint(folder: Path, name: str = CHECKPOINT_FILE) -> dict[str, Any]:
    """State of the last checkpoint of a run, on the CPU; only tensors and plain values are read, never code."""
    path = folder / name
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"no checkpoint to start from: {path} does not exist") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise TrainingError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(state, dict) or "step" not in state:
        raise TrainingError(f"{path} is not a checkpoint of a run: it has no step")
    return state


class MetricsLog:
    """A CSV with one row per log interval. A resumed run forgets the rows after its checkpoint and goes on."""

    def __init__(self, folder: Path, columns: list[str], start_step: int, name: str = METRICS_FILE) -> None:
        self._path = folder / name
        self._columns = columns
        kept = self._rows_until(start_step) if self._path.is_file() else []
        partial = self._path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(kept)
        partial.replace(self._path)

    def write(self, row: dict[str, float | int | str]) -> None:
        """Append one row and flush it; missing columns stay empty."""
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _rows_until(self, step: int) -> list[dict[str, str]]:
        with self._path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values() and None not in row]
        return [{c: row.get(c, "") for c in self._columns} for row in rows if int(row["step"]) <= step]
